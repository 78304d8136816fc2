"""Wheels without a package index: of a small checkout, and of the installed packages."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from packaging.requirements import Requirement
from packaging.tags import sys_tags

HANDLER = "from shared import used\n\n\ndef handler():\n    from shared.later import value\n\n    return used, value\n"
SOURCES = {
    "aws_lambda/__init__.py": "",
    "aws_lambda/collector.py": "from shared import used\n",
    "aws_lambda/handler.py": HANDLER,
    "aws_lambda/forgotten.py": "",
    "shared/__init__.py": "",
    "shared/used.py": "import json\n",
    "shared/later.py": "from shared.inner import deep\n\nvalue = deep.value\n",
    "shared/inner/__init__.py": "",
    "shared/inner/deep.py": "value = 1\n",
    "shared/inner/forgotten.py": "",
    "shared/forgotten.py": "",
    "LICENSE": "as you like\n",
}


@dataclass
class Checkout:
    """A checkout whose AWS function has the given requirements."""

    root: Path
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def wheels(self) -> Path:
        return self.root / "wheels"

    def write(self, name: str, text: str) -> None:
        """Write one file below the root."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def wheel(
        self,
        name: str,
        files: Mapping[str, str] | None = None,
        requires: Sequence[str] = (),
        tag: str = "py3-none-any",
        version: str = "1.0",
    ) -> None:
        """Create a wheel of a distribution, by default with one module of its name."""
        self.wheels.mkdir(exist_ok=True)
        path = self.wheels / f"{name}-{version}-{tag}.whl"
        info = f"{name}-{version}.dist-info"
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {one}" for one in requires]
        contents = {
            **({f"{name}.py": f"name = {name!r}\n"} if files is None else files),
            f"{info}/METADATA": "\n".join(lines) + "\n",
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
            f"{info}/licenses/LICENSE": "as you like\n",
        }
        contents[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in (*contents, f"{info}/RECORD"))
        with ZipFile(path, "w") as archive:
            for file, text in contents.items():
                archive.writestr(ZipInfo(file), text)  # a wheel made later has the same hash
        self.hashes[f"{name}=={version}"] = hashlib.sha256(path.read_bytes()).hexdigest()

    def lock(self, pinned: Sequence[str], hashes: Mapping[str, str] | None = None) -> None:
        """Write the function's lock: the pins, each with an optional marker, and their hashes."""
        known = {**self.hashes, **(hashes or {})}
        blocks = [f"{one} \\\n    --hash=sha256:{known[one.split()[0]]}\n    # via another package\n" for one in pinned]
        self.write("requirements/aws_lambda.txt", "# locked\n" + "".join(blocks))


def checkout(root: Path) -> Checkout:
    """Return a checkout with one requirement, `alpha`, that has a wheel for every platform."""
    made = Checkout(root)
    for name, text in SOURCES.items():
        made.write(name, text)
    made.wheel("alpha")
    made.lock(["alpha==1.0"])
    return made


def repacked(folder: Path, requirements: Iterable[str]) -> None:
    """Write a wheel of each installed distribution that the requirements need on this machine, and of no other.

    An installer with only this folder needs no network, and fails if a package declares too few requirements.
    """
    folder.mkdir(exist_ok=True)
    done: set[tuple[str, str]] = set()
    waiting = [Requirement(one) for one in requirements]
    while waiting:
        requirement = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = distribution(requirement.name)
        for extra in {"", *requirement.extras} - {extra for name, extra in done if name == found.name}:
            done.add((found.name, extra))
            for line in found.requires or ():
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    needed.marker = None
                    waiting.append(needed)
    for name in {name for name, _ in done}:
        _repack(distribution(name), folder)


def _repack(found: Distribution, folder: Path) -> None:
    """Write one wheel, with scripts where a wheel has them; the installer creates those of entry points."""
    name = re.sub(r"[-_.]+", "_", found.name)
    tags = re.findall(r"^Tag: (.+)$", found.read_text("WHEEL") or "", re.MULTILINE)
    tag = next(one for one in map(str, sys_tags()) if one in tags)
    generated = {one.name for one in found.entry_points}
    files = found.files or ()
    info = next(file.parts[0] for file in files if file.parts[0].endswith(".dist-info"))
    written_by_installers = {f"{info}/{one}" for one in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")}
    rows = []
    with ZipFile(folder / f"{name}-{found.version}-{tag}.whl", "w") as archive:
        for file in files:
            inside = file.as_posix()
            if file.suffix == ".pyc" or inside in written_by_installers:
                continue
            if inside.startswith("../"):
                if file.parent.name != "bin" or file.name in generated:
                    continue
                inside = f"{name}-{found.version}.data/scripts/{file.name}"
            archive.write(Path(str(file.locate())), inside)
            rows.append(f"{inside},,\n")
        archive.writestr(f"{info}/RECORD", "".join([*rows, f"{info}/RECORD,,\n"]))
