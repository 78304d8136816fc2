"""`tailpipe-exports page`: the status page as one HTML file that works from disk."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from cli.clouds import Cloud
from cli.deployment.model import OperatorError, Problem
from cli.deployment.output import show_problems
from cli.deployment.session import FAILED, OK, guarded
from cli.monitor.months import matrix
from cli.monitor.stored import Stored, read
from cli.monitor.tenants import page_data as tenants_data
from cli.settings_source import Choice
from cli.terminal.console import err, out, say
from cli.terminal.private_file import write_private
from shared.monitor.months import Row
from shared.monitor.overview import page_data
from shared.monitor.page import render
from tailpipe_exports import NAME

REPORTS = 30  # whose changes the page shows


def page(
    clouds: Sequence[Cloud],
    choice: Choice,
    file: Path,
    *,
    show: bool,
    published: bool = False,
    tenants: bool = False,
    label: str = "",
) -> int:
    """Write the page of all these clouds to `file`, readable by its owner only, and open it if asked to.

    With `published`, it shows only the data of the page that the last run wrote; with `tenants`, all tenants of the
    deployments, grouped by `label` if that is given. Returns 0, or 1 if a cloud could not be read: the page then shows
    the others.
    """

    def command() -> int:
        shown = []
        for cloud in clouds:
            try:
                if tenants:
                    shown.append(tenants_data(cloud, choice, label))
                    continue
                stored = read(cloud, choice)
                if published:
                    shown += stored.published()
                    continue
                found = stored.overview(REPORTS)
                names, months = _months(stored)
            except OperatorError as error:
                show_problems(err(), f"{NAME}: {cloud.title} is not on the page", error.problems)
                continue
            data = page_data(found, stored.document, stored.title, cloud.scopes, names, months)
            shown.append(data | ({"now": stored.now().isoformat()} if stored.demo else {}))
        if not shown:
            return FAILED
        _write(file, render(shown))
        say(out(), str(file))
        if show and not webbrowser.open(file.resolve().as_uri()):
            raise OperatorError(Problem("no browser could be started", f"Open {file} yourself."))
        return OK if len(shown) >= len(clouds) else FAILED

    return guarded(f"{NAME}: no page", command)


def _months(stored: Stored) -> tuple[list[str], list[Row]]:
    """Return the heat map's months and rows; none, with the reason on stderr, if the ledger cannot be read."""
    try:
        return matrix(stored)
    except OperatorError as error:
        show_problems(err(), f"{NAME}: {stored.title} has no months on the page", error.problems)
        return [], []


def _write(file: Path, text: str) -> None:
    try:
        write_private(file, text)
    except OSError as error:
        raise OperatorError(Problem(f"--out {file}: {error.strerror}", "Name a file in an existing folder.")) from error
