"""Get the schemas: of providers that cannot be run here from pinned npm packages, of the one that can from its plugin.

The packages are fetched packed (about 60 MB, ten times that unpacked), checked against the hashes in the lock file,
read where they lie and dropped.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.infra import distil, schema, terraform
from tools.infra.fault import NotRun

_SECONDS = 1800  # against hanging; the slowest takes less than a tenth of it on a quiet machine


def pinned(folder: Path) -> dict[str, tuple[str, str, str]]:
    """The lock file's packages: provider → (package, version, its SHA-512 in the form of `integrity`)."""
    locked = json.loads((folder / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    found: dict[str, tuple[str, str, str]] = {}
    for place, entry in locked.items():
        package = place.removeprefix("node_modules/")
        if "/provider-" in package:
            found[package.partition("/provider-")[2]] = (package, entry["version"], entry["integrity"])
    return found


def fetch(folder: Path, target: Path) -> int:
    """Write each pinned package's schemas to `target`; returns 0, or 1 after saying what failed."""
    npm = shutil.which("npm")
    if npm is None:
        print("the published schemas need npm, which was not found", file=sys.stderr)
        return 1
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for provider, (package, version, integrity) in pinned(folder).items():
            done = subprocess.run(
                [npm, "pack", "--silent", "--ignore-scripts", f"--pack-destination={scratch}", f"{package}@{version}"],
                cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False,
            )  # fmt: skip
            name = done.stdout.strip().rpartition("\n")[2]
            if done.returncode or not name:
                print(
                    f"npm pack {package}@{version} ended with {done.returncode}: {done.stderr.strip()}", file=sys.stderr
                )
                return 1
            archive = Path(scratch) / name
            if not matches(archive, integrity):
                print(f"{package}@{version} is not the package that package-lock.json names", file=sys.stderr)
                return 1
            distil.distil(archive, target / f"{provider}.zip")
            archive.unlink()
    return 0


def matches(archive: Path, integrity: str) -> bool:
    """Tell whether a file has the hash of an `integrity` entry, `sha512-<base64>`."""
    digest = hashlib.sha512(archive.read_bytes()).digest()
    return integrity == f"sha512-{base64.b64encode(digest).decode()}"


def add_local(target: Path, provider: str) -> None:
    """Write the schema of a provider whose plugin is on this machine, unless it is there already."""
    target.mkdir(parents=True, exist_ok=True)
    known = schema.Schemas(target)
    try:
        if not known.has(provider) or known.version(provider) != terraform.plugin_version(provider):
            terraform.write_schema(provider, target / f"{provider}.zip")
    except NotRun:
        # The check itself says that it has no schema.
        return
    finally:
        known.close()
