"""uv, which installs a lock file's wheels for another Python and platform."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten

from uv import find_uv_bin

from cli.packaging.faults import PackagingError
from cli.packaging.pins import Pins
from cli.packaging.target import Target

NO_WHEEL = re.compile(
    r"Because (\S+?==[^\s,]+) has no (?:usable )?wheels|(?:there is|there's) no version of (\S+?==\S+?),? "
)
UNREACHABLE = re.compile(r"Failed to fetch|[Cc]onnect(?:ion)? (?:error|refused)|dns error|tunnel error|timed out")
_CREDENTIALS = re.compile(r"(?<=//)[^/@\s]+@")
# What would make uv install somewhere else, or prefer another configuration than the operator's own for all projects.
_MISLEADING = ("UV_TARGET", "UV_PREFIX", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_CONSTRAINT", "UV_OVERRIDE", "VIRTUAL_ENV")


def look_up(pins: Pins, target: Target) -> None:
    """Check that every entry that applies to the target has a wheel for it; nothing is installed.

    Raises PackagingError as `install` does.
    """
    _uv(pins, target, "--dry-run")


def install(pins: Pins, target: Target, into: Path) -> None:
    """Install the wheels of the entries that apply to the target into an empty folder.

    The operator's own configuration of uv, or PIP_INDEX_URL, says where wheels come from. Raises PackagingError with
    every entry that has no wheel for the target, and where uv fails otherwise.
    """
    _uv(pins, target, "--target", str(into))


def _uv(pins: Pins, target: Target, *how: str) -> None:
    """Run uv; where wheels are missing, go on without them until all are named."""
    missing: list[str] = []
    left = pins
    while True:
        with tempfile.TemporaryDirectory(prefix="tailpipe-package-") as folder:
            requirements = Path(folder, "requirements.txt")
            requirements.write_text(left.text, encoding="utf-8")
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
        pin, fault = _fault(done.stderr, pins, target)
        missing.append(fault)
        left = left.without(pin)
        if not pin or not left.blocks:
            raise PackagingError(missing)


def _fault(output: str, pins: Pins, target: Target) -> tuple[str, str]:
    """Return which entry uv has no wheel for ("" where it is not about one) and what to say of it."""
    if UNREACHABLE.search(output):
        # It would say the same of every entry, each time after all its attempts.
        return "", "uv reaches no package index. Check the network and UV_DEFAULT_INDEX."
    text = " ".join(output.split())
    if found := NO_WHEEL.search(text):
        pin = found[1] or found[2]
        return pin, f"there is no wheel of {pin} for {target}. Check UV_DEFAULT_INDEX, or lock a version that has one."
    reason = shorten(_CREDENTIALS.sub("…@", text[max(0, text.find("error:")) :] or "no output"), 500, placeholder=" …")
    return "", f"uv failed for {pins.path.name}: {reason}"


def _environment() -> Mapping[str, str]:
    """Return the operator's environment without what would make uv install something else or somewhere else."""
    kept = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
    if index := kept.get("PIP_INDEX_URL"):
        kept.setdefault("UV_DEFAULT_INDEX", index)
    return kept
