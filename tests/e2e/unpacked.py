"""Unpack a package where nothing else of ours and no other library can be imported."""

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

# Installed in the development environment; a package must not depend on them.
NOT_THERE = ("cli", "localcloud", "moto", "pip", "pytest", "tests", "tools")
# Prints the path of each module that imports load; modules without a file are built in.
_PRINT_ORIGINS = """
import importlib, importlib.util, json, sys
for name in sys.argv[1].split():
    importlib.import_module(name)
places = {name: getattr(one, "__file__", None) for name, one in sys.modules.items() if name != "__main__"}
there = [name for name in sys.argv[2:] if importlib.util.find_spec(name)]
print(json.dumps({"places": {name: place for name, place in places.items() if place}, "there": there}))
"""


@dataclass(frozen=True)
class Unpacked:
    """An unpacked package. `python` is an interpreter without packages; `path` its import path, the package first."""

    root: Path
    python: Path
    path: tuple[Path, ...]

    @property
    def pythonpath(self) -> str:
        return ":".join(map(str, self.path))

    def imported(self, *modules: str) -> dict[str, Path]:
        """Return the path of each module that these imports load.

        The test fails if a module of `NOT_THERE` is importable.
        """
        done = subprocess.run(
            [self.python, "-c", _PRINT_ORIGINS, " ".join(modules), *NOT_THERE],
            cwd=self.root,
            env={"PYTHONPATH": self.pythonpath, "PYTHONDONTWRITEBYTECODE": "1"},
            check=True,
            capture_output=True,
            text=True,
        )
        origins = json.loads(done.stdout)
        assert origins["there"] == []
        return {name: Path(place) for name, place in origins["places"].items()}


def unpack(archive: Path, into: Path, folders: Sequence[str] = ("",), platform: Sequence[str] = ()) -> Unpacked:
    """Unpack an archive; put its `folders` and copies of the `platform`'s distributions on the import path."""
    root, image = into / "code", into / "image"
    with ZipFile(archive) as zipped:
        zipped.extractall(root)
    venv.create(into / "bare", symlinks=True)
    copy_distributions(platform, image)
    return Unpacked(root, into / "bare" / "bin" / "python", (*(root / folder for folder in folders), image))


def copy_distributions(names: Iterable[str], into: Path) -> None:
    """Copy installed distributions into a folder, without their dependencies."""
    into.mkdir()
    for name in names:
        for file in files(name) or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = into / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target)


def imported_from_elsewhere(unpacked: Unpacked, *modules: str) -> list[str]:
    """Return the modules that these imports load from outside the archive and the standard library."""
    library = Path(sysconfig.get_path("stdlib"))
    # Third-party libraries are installed in subfolders of the standard library.
    others = [one.resolve() for one in (library / "site-packages", library / "dist-packages")]

    def standard(place: Path) -> bool:
        # Linux distributions may link library files, such as sitecustomize.py, to a settings folder.
        inside = place.is_relative_to(library) or place.resolve().is_relative_to(library.resolve())
        return inside and not any(place.resolve().is_relative_to(one) for one in others)

    return sorted(
        name
        for name, place in unpacked.imported(*modules).items()
        if not any(place.is_relative_to(folder) for folder in unpacked.path) and not standard(place)
    )


def pure(archive: Path) -> dict[str, bytes]:
    """Return the contents of an archive's files, except native modules."""
    with ZipFile(archive) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist() if not name.endswith(".so")}


def native(archive: Path, below: str = "") -> dict[str, bytes]:
    """Return an archive's native modules by name, relative to `below` and without Python and platform tags."""
    with ZipFile(archive) as zipped:
        modules = [name for name in zipped.namelist() if name.endswith(".so")]
        return {name.removeprefix(below).partition(".")[0]: zipped.read(name) for name in modules}


def machine(module: bytes) -> str:
    """Return the machine of a native Linux module.

    Raises ValueError if it is not an ELF file, and KeyError for an unknown machine.
    """
    # Source: the ELF header of the System V ABI; e_machine is its 19th and 20th byte.
    if module[:4] != b"\x7fELF":
        raise ValueError("not an ELF file")
    return {62: "x86_64", 183: "aarch64"}[int.from_bytes(module[18:20], "little")]
