"""The distribution itself: its version, the commit it was built from, and the files that it carries beside the code.

In a checkout these files lie at its root. `setup.py` copies them into this package when it builds a wheel, so that
neither the command nor a local cloud needs a checkout.
"""

from __future__ import annotations

import os
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

NAME = "tailpipe-exports"
PACKAGES = ("shared", "aws_lambda", "azure_function", "gcp_function", "localcloud", "cli", "tailpipe_exports")
UNKNOWN = "unknown"
# Where a build writes the commit, and the files beside the code. A checkout has neither.
BAKED = "commit.txt"
CARRIED = "carried"

_HERE = Path(__file__).resolve().parent
_DIGITS = 12
_GIT_S = 10

CODE = _HERE.parent
"""The folder that holds our packages: a checkout's root, or `site-packages`."""

FILES = _HERE / CARRIED if (_HERE / CARRIED).is_dir() else CODE
"""The folder that holds `docs/runbook.md`, `infra`, `requirements` and LICENSE."""


def version() -> str:
    """Return the version: what a checkout's pyproject.toml says, else that of the installed distribution."""
    try:
        project = tomllib.loads((CODE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        if project["name"] == NAME:
            return str(project["version"])
    except (OSError, ValueError, KeyError):
        pass
    try:
        return installed(NAME)
    except PackageNotFoundError:
        return UNKNOWN


def commit() -> str:
    """Return the first twelve digits of the commit that this code is from, or "unknown".

    A wheel and an sdist carry the commit that they were built from. In a checkout git names it, and ", modified"
    follows where tracked files differ from it. A repository that merely surrounds the code is not asked, nor is one
    that GIT_DIR names.
    """
    try:
        return (_HERE / BAKED).read_text(encoding="utf-8").strip() or UNKNOWN
    except OSError:
        return _commit_of(CODE)


def _commit_of(root: Path) -> str:
    top = _git(root, "rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != root:
        return UNKNOWN
    # A repository at this very place may be another project's, in whose folder an archive of ours was unpacked.
    if not _git(root, "ls-files", "--", "tailpipe_exports/__init__.py"):
        return UNKNOWN
    found = _git(root, "rev-parse", "--verify", f"--short={_DIGITS}", "HEAD")
    if not found:
        return UNKNOWN
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return f"{found}, modified" if changed else found


def _git(root: Path, *arguments: str) -> str:
    """Return what git prints, or "" where it fails or is not installed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(  # noqa: S603 - the arguments are this module's own, and no shell reads them
            ["git", "-C", str(root), *arguments],  # noqa: S607 - whichever git the operator uses is the right one
            env={**environment, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_GIT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
