"""pip, asked for another Python's wheels: what they say of themselves, and their files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name, parse_wheel_filename

from cli.packaging.faults import PackagingError
from cli.packaging.pins import Distribution, Pins
from cli.packaging.target import Target
from shared.errors import cut

NO_MATCH = re.compile(r"No matching distribution found for (\S+?)==(\S+)")
UNREACHABLE = re.compile(r"Retrying \(|Connection(?:Error| error)|NameResolution|ConnectTimeout|ProxyError|SSLError")
_BEARER = re.compile(r"(?<=//)[^/@\s]+@")


def look_up(pins: Pins, target: Target) -> dict[NormalizedName, Distribution]:
    """Return what each pinned distribution's wheel for the target says of itself; nothing is installed.

    The operator's own pip configuration says where wheels come from. Raises PackagingError with every pin that has no
    wheel for the target, and where pip fails otherwise.
    """
    report = _pip(pins, target, ["--dry-run", "--ignore-installed"])
    found: dict[NormalizedName, Distribution] = {}
    faults: list[str] = []
    for one in report["install"]:
        metadata = one["metadata"]
        wheel = unquote(urlsplit(one["download_info"]["url"]).path.rpartition("/")[2])
        if not wheel.endswith(".whl") or not parse_wheel_filename(wheel)[3] & target.tags:
            faults.append(f"{wheel} does not run with {target}")
        requires = tuple(Requirement(line) for line in metadata.get("requires_dist", ()))
        found[canonicalize_name(metadata["name"])] = Distribution(metadata["version"], requires)
    if faults:
        raise PackagingError(faults)
    return found


def install(pins: Pins, target: Target, into: Path) -> None:
    """Install the pins' wheels for the target into an empty folder. Raises PackagingError as `look_up` does."""
    _pip(pins, target, ["--target", str(into)])


def _pip(pins: Pins, target: Target, how: list[str]) -> dict[str, Any]:
    """Run pip and return its installation report; where wheels are missing, go on without them until all are named."""
    missing: list[str] = []
    left = pins
    while True:
        with tempfile.TemporaryDirectory(prefix="tailpipe-package-") as folder:
            requirements, report = Path(folder, "requirements.txt"), Path(folder, "report.json")
            requirements.write_text(left.text, encoding="utf-8")
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "pip", "install", "-q", "--no-input", "--no-user", "--no-deps"),
                    *("--no-compile", "--only-binary", ":all:", "--require-hashes", "--report", str(report)),
                    *("--implementation", "cp", "--python-version", target.python, "--abi", target.abi),
                    *(option for platform in target.platforms for option in ("--platform", platform)),
                    *(*how, "-r", str(requirements)),
                ],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
            if done.returncode == 0 and not missing:
                document: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
                return document
        if done.returncode == 0:
            raise PackagingError(missing)
        name, fault = _fault(done.stderr, pins, target)
        missing.append(fault)
        if name not in left.blocks or len(left.blocks) == 1:
            raise PackagingError(missing)
        left = left.only(left.blocks.keys() - {name})


def _fault(told: str, pins: Pins, target: Target) -> tuple[NormalizedName, str]:
    """Return which pin pip stumbled over ("" where it is not about one) and what to say of it."""
    match, of_no_pin = NO_MATCH.search(told), canonicalize_name("")
    missing = f"pip finds no wheel of {match[1]}=={match[2]} for {target}" if match else ""
    if UNREACHABLE.search(told):
        # It would say the same of every pin, each time after all its attempts.
        return of_no_pin, f"{missing or 'pip fails'}, and reaches no package index: check network and `pip config list`"
    if match:
        return canonicalize_name(match[1]), f"{missing}: see `pip config list`, or pin a version that has one"
    # Its warnings come first, and what belongs to an error stands below it.
    reason = cut(_BEARER.sub("…@", told[max(0, told.find("ERROR:")) :].strip() or "without a word"))
    return of_no_pin, f"pip failed for {pins.path.name}: {reason}"


def _environment() -> Mapping[str, str]:
    """Return the operator's environment without what would make pip install somewhere else."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
