"""`tailpipe-exports onboarding`: what Tailpipe needs to connect.

The whole document is written to a file that only the operator can read; the printed one is short and without secrets.
"""

from __future__ import annotations

import copy
import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.deployment.model import OperatorError, Problem, Showing
from cli.deployment.operator import Cloud
from cli.deployment.session import Session, guarded, open_deployed
from cli.terminal.console import document_text, print_document, say
from cli.terminal.private_file import state_folder, write_private

# Longer lists are shortened to their length and first items: a tenant may have thousands of subscriptions.
LONGEST_LIST = 10
EXAMPLES = 3
HIDDEN = "hidden; --show-secret shows it"
ELSEWHERE = "Name another place with --onboarding-file FILE, or add --show-secret --all."


def onboarding(cloud: Cloud, showing: Showing, function: str = "") -> int:
    """Show what Tailpipe needs to connect. Returns 0, or 1 if nothing is deployed or it cannot be shown."""

    def command() -> int:
        show_onboarding(open_deployed(cloud, function), showing)
        return 0

    return guarded(f"tailpipe-exports: not all that Tailpipe needs on {cloud.title} could be shown", command)


def show_onboarding(session: Session, showing: Showing) -> None:
    """Read the document from the live cloud, print it, and write the whole one to a file if that contains more.

    Raises OperatorError if the file cannot be written, after printing the document.
    """
    whole = session.operator.onboarding()
    printed: dict[str, Any] = copy.deepcopy(whole)
    hidden = not showing.secrets and _hide(printed, session.operator.secrets)
    if not showing.everything:
        printed = _shortened(printed)
    print_document(printed)
    if showing.file is None and printed == whole:
        return
    path = showing.file or default_file(session.cloud.name, session.place.id, os.environ)
    said = _written(path, whole, session.place.id)
    holds = ", with the secret," if hidden else ""
    say(session.screen, f"the whole onboarding document{holds} {said} {path}, which only you can read")


def default_file(cloud: str, place: str, environment: Mapping[str, str]) -> Path:
    """Return the document's default file: outside every checkout, in the operator's own state folder."""
    return state_folder(environment) / f"onboarding-{cloud}-{place}.json"


def _hide(document: dict[str, Any], secrets: Sequence[tuple[str, ...]]) -> bool:
    """Replace the secrets in a document, and return whether it had any."""
    found = False
    for *path, last in secrets:
        inner: Any = document
        for key in path:
            inner = inner.get(key) or {}
        if inner.get(last):
            inner[last] = HIDDEN
            found = True
    return found


def _shortened(value: Any) -> Any:
    """Return the document with long lists replaced by their length and first items."""
    if isinstance(value, dict):
        return {key: _shortened(one) for key, one in value.items()}
    if isinstance(value, list) and len(value) > LONGEST_LIST:
        return {"count": len(value), "first": value[:EXAMPLES]}
    return value


def _written(path: Path, document: Mapping[str, Any], place: str) -> str:
    """Write the document to a file of mode 0600 and return how. Only an older document of the same place is replaced.
    Raises OperatorError for a file with other content, or one that cannot be written.
    """
    text = document_text(document) + "\n"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = _read(path)
        if before is not None and not _is_older(before, document, place):
            raise OperatorError(Problem(f"{path} exists and holds other content", ELSEWHERE))
        if before == text and stat.S_IMODE(path.stat().st_mode) == stat.S_IRUSR | stat.S_IWUSR:
            return "is unchanged in"
        write_private(path, text)
    except OSError as error:
        raise OperatorError(Problem(f"{path} could not be written: {error.strerror}", ELSEWHERE)) from error
    return "is in" if before is None else "is new in"


def _read(path: Path) -> str | None:
    """Return a file's text, None if it does not exist, "" for anything but a regular text file."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return ""
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return ""


def _is_older(text: str, document: Mapping[str, Any], place: str) -> bool:
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and found.keys() == document.keys() and place in text
