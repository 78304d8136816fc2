"""Runs uv, which installs a lock file's wheels for another Python and platform."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten

from uv import find_uv_bin

from cli.packaging.errors import PackagingError
from cli.packaging.target import Target

NO_WHEEL = re.compile(
    r"Because (\S+?==[^\s,]+) has no (?:usable )?wheels|(?:there is|there's) no version of (\S+?==\S+?),? "
)
UNREACHABLE = re.compile(r"Failed to fetch|[Cc]onnect(?:ion)? (?:error|refused)|dns error|tunnel error|timed out")
_CREDENTIALS = re.compile(r"(?<=//)[^/@\s]+@")
# These would make uv install elsewhere, or install other versions than those in the lock file.
_MISLEADING = ("UV_TARGET", "UV_PREFIX", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_CONSTRAINT", "UV_OVERRIDE", "VIRTUAL_ENV")


def read_lock(path: Path) -> str:
    """Return a lock file without its comments.

    Raises PackagingError if it cannot be read, or has an entry without version or hash.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PackagingError([f"{path} cannot be read ({error.strerror}): reinstall tailpipe-exports"]) from error
    text = re.sub(r"^\s*(?:#.*)?\n", "", text, flags=re.MULTILINE)
    entries = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
    loose = [entry.split()[0] for entry in entries if not re.match(r"\S+==\S+ .*--hash=sha256:", entry, re.DOTALL)]
    if loose:
        raise PackagingError([f"{path}: {name} is not pinned by version and hash. Run make lock." for name in loose])
    return text


def look_up(lock: str, name: str, target: Target) -> None:
    """Check that every entry that applies to the target has a wheel for it; nothing is installed.

    `name` is the lock file's name, for messages. Raises PackagingError as `install` does.
    """
    _uv(lock, name, target, "--dry-run")


def install(lock: str, name: str, target: Target, into: Path) -> None:
    """Install the wheels of the entries that apply to the target into an empty folder.

    The operator's own configuration of uv, or PIP_INDEX_URL, sets where wheels come from. Raises PackagingError with
    every entry that has no wheel for the target, or if uv fails otherwise.
    """
    _uv(lock, name, target, "--target", str(into))


def _uv(lock: str, name: str, target: Target, *how: str) -> None:
    """Run uv; it names one missing wheel at a time, so continue without that entry until all are named."""
    missing: list[str] = []
    while True:
        with tempfile.TemporaryDirectory(prefix="tailpipe-package-") as folder:
            requirements = Path(folder, "requirements.txt")
            requirements.write_text(lock, encoding="utf-8")
            done = subprocess.run(
                [
                    *(find_uv_bin(), "pip", "install", "--no-progress", "--color", "never", "--no-deps"),
                    *("--only-binary", ":all:", "--require-hashes", "--no-python-downloads", "--link-mode", "copy"),
                    *(*target.options, *how, "--requirement", str(requirements)),
                ],
                cwd=folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
        if done.returncode == 0:
            if missing:
                raise PackagingError(missing)
            return
        pin, problem = _problem(done.stderr, name, target)
        missing.append(problem)
        lock = re.sub(rf"^{re.escape(pin)} .*\n(?:\s.*\n)*", "", lock, flags=re.MULTILINE) if pin else ""
        if not lock:
            raise PackagingError(missing)


def _problem(output: str, name: str, target: Target) -> tuple[str, str]:
    """Return the entry for which uv has no wheel ("" for any other problem) and the message."""
    if UNREACHABLE.search(output):
        # uv would report the same for every entry, each time after all its attempts.
        return "", "uv reaches no package index. Check the network and UV_DEFAULT_INDEX."
    text = " ".join(output.split())
    if found := NO_WHEEL.search(text):
        pin = found[1] or found[2]
        return pin, f"there is no wheel of {pin} for {target}. Check UV_DEFAULT_INDEX, or lock a version that has one."
    reason = shorten(_CREDENTIALS.sub("…@", text[max(0, text.find("error:")) :] or "no output"), 500, placeholder=" …")
    return "", f"uv failed for {name}: {reason}"


def _environment() -> Mapping[str, str]:
    """Return the operator's environment without the variables that would mislead uv."""
    kept = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
    if index := kept.get("PIP_INDEX_URL"):
        kept.setdefault("UV_DEFAULT_INDEX", index)
    return kept
