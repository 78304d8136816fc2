"""Write everything that a release consists of to `dist/`, and its notes.

Run as `python -m tools.release [--tag vX.Y.Z]`. It writes wheel, sdist, the archive of each cloud's function, a
CycloneDX document for each archive that lists what is in it, and SHA256SUMS. Wheel and archives of one commit are
always the same bytes. `build/release-notes.md` is the release's section of the changelog.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

from uv import find_uv_bin

from cli.packaging import TARGETS, PackagingError, build

# `make dist` installs it there, into an environment of its own.
BILL_OF_MATERIALS = ".venv/release/bin/cyclonedx-py"
NOTES, OUT, SUMS = "build/release-notes.md", "dist", "SHA256SUMS"
REQUIREMENTS = "requirements.txt"
_INSTALLED = re.compile(r"(?:^|/)(?P<name>[^/]+)-(?P<version>[^/-]+)\.dist-info/METADATA$")


def version(root: Path) -> str:
    """Return the version in pyproject.toml, the one place that has it."""
    document = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return str(document["project"]["version"])


def notes(root: Path, released: str) -> str:
    """Return a version's section of the changelog without its heading; "" where it has none."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = rf"^## \[{re.escape(released)}\] - \d{{4}}-\d{{2}}-\d{{2}}$"
    found = re.search(rf"{heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1].strip() + "\n" if found else ""


def faults(root: Path, tag: str | None) -> list[str]:
    """Return why this checkout cannot be released as `tag` (None: as whatever it is)."""
    released, found = version(root), []
    if tag is not None and tag != f"v{released}":
        found.append(f"the tag is {tag}, and pyproject.toml has version {released}; tag the commit v{released}")
    if not notes(root, released):
        found.append(f"CHANGELOG.md has no section `## [{released}] - YYYY-MM-DD`; move what is Unreleased below it")
    return found


def components(archive: Path) -> str:
    """Return the distributions in an archive as pip's requirements: its own file of pins, or else what is installed."""
    with ZipFile(archive) as opened:
        names = opened.namelist()
        if REQUIREMENTS in names:
            return opened.read(REQUIREMENTS).decode()
    found = (_INSTALLED.search(name) for name in names)
    return "".join(sorted(f"{one['name']}=={one['version']}\n" for one in found if one))


def sums(folder: Path) -> str:
    """Return the SHA-256 of every file in a folder, in the form that `sha256sum --check` reads."""
    files = sorted(path for path in folder.iterdir() if path.name != SUMS)
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)


def write(root: Path) -> None:
    """Write the release of a checkout. Raises PackagingError, and CalledProcessError for a tool that fails."""
    out = root / OUT
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    committed = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    environment = os.environ | {"SOURCE_DATE_EPOCH": committed.strip()}
    # With the locked build backend that is installed beside uv: nothing is resolved for a release either.
    uv = (find_uv_bin(), "build", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(out), str(root))
    subprocess.run([*uv, "--quiet"], env=environment, check=True)
    for cloud in TARGETS:
        archive = build(cloud, out, code=root, files=root).path
        command = [
            *(str(root / BILL_OF_MATERIALS), "requirements", "-", "--output-reproducible"),
            *("--pyproject", str(root / "pyproject.toml"), "--output-file", str(archive.with_suffix(".cdx.json"))),
        ]
        # It warns that a list of requirements has no dependency graph, which is intended.
        quiet = environment | {"PYTHONWARNINGS": "ignore"}
        subprocess.run(command, env=quiet, input=components(archive), text=True, check=True)
    (root / NOTES).parent.mkdir(exist_ok=True)
    (root / NOTES).write_text(notes(root, version(root)), encoding="utf-8")
    (out / SUMS).write_text(sums(out), encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Write the release of this checkout; returns the exit code."""
    parser = argparse.ArgumentParser(prog="release", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tag", help="the tag that is released; it must be that of the version")
    root, tag = Path(__file__).resolve().parent.parent, parser.parse_args(arguments).tag
    found = faults(root, tag)
    if not found:
        try:
            write(root)
        except PackagingError as error:
            found = list(error.problems)
        except subprocess.CalledProcessError as error:
            found = [f"{Path(error.cmd[0]).name} failed with exit code {error.returncode}; its message is above"]
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        print((root / OUT / SUMS).read_text(encoding="utf-8"), end="")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
