"""An archive, unpacked into a place where nothing else of ours and no other library can be imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
import venv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path
from zipfile import ZipFile

# What the working environment has and an archive must not lean on.
NOT_THERE = ("cli", "localcloud", "moto", "pip", "pytest", "tests", "tools")
# Tells where each module lies that imports bring along; modules without a file are the interpreter's own.
_WHENCE = """
import importlib, importlib.util, json, sys
for name in sys.argv[1].split():
    importlib.import_module(name)
places = {name: getattr(one, "__file__", None) for name, one in sys.modules.items() if name != "__main__"}
there = [name for name in sys.argv[2:] if importlib.util.find_spec(name)]
print(json.dumps({"places": {name: place for name, place in places.items() if place}, "there": there}))
"""


@dataclass(frozen=True)
class Unpacked:
    """`python` is an interpreter without any package; `path` is where it then looks, first the archive's folders."""

    root: Path
    python: Path
    path: tuple[Path, ...]

    @property
    def pythonpath(self) -> str:
        return ":".join(map(str, self.path))

    def imported(self, *modules: str) -> dict[str, Path]:
        """Return where each module lies that importing these loads.

        The test fails if anything of `NOT_THERE` could be imported too.
        """
        done = subprocess.run(
            [self.python, "-c", _WHENCE, " ".join(modules), *NOT_THERE],
            cwd=self.root,
            env={"PYTHONPATH": self.pythonpath, "PYTHONDONTWRITEBYTECODE": "1"},
            check=True,
            capture_output=True,
            text=True,
        )
        told = json.loads(done.stdout)
        assert told["there"] == []
        return {name: Path(place) for name, place in told["places"].items()}


def unpack(archive: Path, into: Path, folders: Sequence[str] = ("",), platform: Sequence[str] = ()) -> Unpacked:
    """Unpack an archive; `folders` of it are on the path, after them copies of the `platform`'s own distributions."""
    root, image = into / "code", into / "image"
    with ZipFile(archive) as zipped:
        zipped.extractall(root)
    venv.create(into / "bare", symlinks=True)
    copy_distributions(platform, image)
    return Unpacked(root, into / "bare" / "bin" / "python", (*(root / folder for folder in folders), image))


def copy_distributions(names: Iterable[str], into: Path) -> None:
    """Copy installed distributions, and nothing that they need, into a folder."""
    into.mkdir()
    for name in names:
        for file in files(name) or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = into / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target)


def from_elsewhere(unpacked: Unpacked, *modules: str) -> list[str]:
    """Return the modules that importing these loads from outside the archive's folders and the standard library."""
    library = Path(sysconfig.get_path("stdlib"))
    # Where other libraries are installed is a folder of the standard library's own.
    others = [one.resolve() for one in (library / "site-packages", library / "dist-packages")]

    def standard(place: Path) -> bool:
        # A distribution may link files of its library, such as sitecustomize.py, to where its settings are.
        inside = place.is_relative_to(library) or place.resolve().is_relative_to(library.resolve())
        return inside and not any(place.resolve().is_relative_to(one) for one in others)

    return sorted(
        name
        for name, place in unpacked.imported(*modules).items()
        if not any(place.is_relative_to(folder) for folder in unpacked.path) and not standard(place)
    )


def pure(archive: Path) -> dict[str, bytes]:
    """Return an archive's files but native modules, with their contents."""
    with ZipFile(archive) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist() if not name.endswith(".so")}


def native(archive: Path, below: str = "") -> dict[str, bytes]:
    """Return an archive's native modules, by their names below a folder, without the tags of Python and platform."""
    with ZipFile(archive) as zipped:
        modules = [name for name in zipped.namelist() if name.endswith(".so")]
        return {name.removeprefix(below).partition(".")[0]: zipped.read(name) for name in modules}


def machine(module: bytes) -> str:
    """Return which machine a native module of Linux is for. Raises KeyError for another one, ValueError for no ELF."""
    # Source: the ELF header of the System V ABI; e_machine is its 19th and 20th byte.
    if module[:4] != b"\x7fELF":
        raise ValueError("no ELF file")
    return {62: "x86_64", 183: "aarch64"}[int.from_bytes(module[18:20], "little")]
