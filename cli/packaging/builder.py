"""Build an archive from our modules, the locked wheels for a target, and the cloud's own files."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cli.packaging import archive, installer, prune, sources
from cli.packaging.errors import PackagingError
from cli.packaging.layouts import LAYOUTS, Layout
from cli.packaging.target import Target
from tailpipe_exports import CODE, FILES

LICENSE = "LICENSE"


@dataclass(frozen=True)
class Package:
    """An archive that was written: its path, its SHA-256 in hexadecimal digits, and the sorted names in it."""

    path: Path
    sha256: str
    files: tuple[str, ...]


def build(
    cloud_name: str, out: Path, target: Target | None = None, *, code: Path = CODE, files: Path = FILES
) -> Package:
    """Write `out`/tailpipe-exports-<cloud>.zip with the wheels for `target`, by default the cloud's own.

    `code` is the folder of our packages, `files` that of the license and the locked requirements. The same sources and
    pins produce the same bytes, from a checkout or from an installed wheel. Wheels come from the package index in the
    operator's configuration of uv. Raises KeyError for an unknown cloud, PackagingError with every problem if no
    archive can be made; an older archive is then left unchanged.
    """
    layout = LAYOUTS[cloud_name]
    target = target or layout.target
    entries: dict[str, bytes] = {}
    problems: list[str] = []
    parts = (partial(_ours, layout, code, files), partial(_theirs, layout, target, files))
    for part in parts:
        try:
            entries |= part()
        except PackagingError as error:
            problems += error.problems
    if problems:
        raise PackagingError(problems)
    path = out / f"tailpipe-exports-{cloud_name}.zip"
    return Package(path, archive.write(path, entries), tuple(sorted(entries)))


def _ours(layout: Layout, code: Path, files: Path) -> dict[str, bytes]:
    entries = sources.modules(code, layout.folder, layout.entries)
    copied = {name: code / origin for name, origin in layout.copied.items()}
    for name, origin in {**copied, LICENSE: files / LICENSE}.items():
        try:
            entries[name] = origin.read_bytes()
        except OSError as error:
            raise PackagingError([f"{origin} cannot be read ({error.strerror})"]) from error
    return entries | {name: text.encode() for name, text in layout.written.items()}


def _theirs(layout: Layout, target: Target, files: Path) -> dict[str, bytes]:
    """Return the wheels' files, and the lock file if the layout has one.

    If the platform installs the wheels, they are only looked up here, so that a missing one is reported before the
    deployment.
    """
    path = files / "requirements" / f"{layout.folder}.txt"
    lock = installer.read_lock(path)
    entries = {"requirements.txt": lock.encode()} if layout.requirements else {}
    if layout.dependencies is None:
        installer.look_up(lock, path.name, target)
        return entries
    with tempfile.TemporaryDirectory(prefix="tailpipe-package-") as folder:
        installer.install(lock, path.name, target, Path(folder))
        shipped = prune.shipped(Path(folder), layout.unused)
        return entries | {layout.dependencies + name: content for name, content in shipped.items()}
