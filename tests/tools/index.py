"""A package index on loopback with a newer release of each locked package."""

from __future__ import annotations

import hashlib
import itertools
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from packaging.utils import canonicalize_name
from packaging.version import Version

PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^\s;]+)(?P<marker>[^\\]*)\\$", re.MULTILINE)


def wheel(
    folder: Path,
    name: str,
    version: str,
    requirements: Sequence[str] = (),
    *,
    files: Mapping[str, bytes] | None = None,
    tag: str = "py3-none-any",
    build: str = "",
) -> Path:
    """Write a wheel and return its path; without `files` it has one module."""
    name = re.sub(r"[-_.]+", "_", name)
    path = folder / f"{name}-{version}{build}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {one}" for one in requirements]
    contents = dict(files or {f"{name}_module.py": b""})
    contents[f"{info}/METADATA"] = "\n".join(metadata).encode() + b"\n"
    contents[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: {tag}\n{build}".encode()
    contents[f"{info}/RECORD"] = b"".join(f"{one},,\n".encode() for one in (*contents, f"{info}/RECORD"))
    with ZipFile(path, "w", ZIP_STORED) as archive:
        for file, content in contents.items():
            entry = ZipInfo(file)
            entry.external_attr = (0o100755 if ".data/scripts/" in file else 0o100644) << 16
            archive.writestr(entry, content)
    return path


def declared(name: str) -> list[str]:
    """Return the requirements of the real distribution, if it is installed here."""
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []


class Index:
    """An index of the packages in lock files.

    Each package has the locked file (every second one yanked), another build of the same version, and a newer release
    whose requirements do not exist. `locked` maps names to the versions in the lock files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pages: dict[str, list[tuple[Path, bool]]] = {}
        self._hashes: dict[tuple[str, str], str] = {}
        folder.mkdir()

    def add(self, name: str, version: str, *, files: Mapping[str, bytes] | None = None, tag: str = "") -> None:
        """Add a package unless this version exists already."""
        if (name, version) in self._hashes:
            return
        requirements = declared(name)
        locked = wheel(self._folder, name, version, requirements, files=files, tag=tag or "py3-none-any")
        self._hashes[name, version] = hashlib.sha256(locked.read_bytes()).hexdigest()
        rebuilt = wheel(self._folder, name, version, requirements, tag="py3-none-any", build="-1" if not tag else "-9")
        newer = f"{Version(version).base_version}.post999"
        later = wheel(self._folder, name, newer, [*requirements, "a-package-that-does-not-exist"])
        page = self._pages.setdefault(canonicalize_name(name), [])
        page += [(locked, len(self._pages) % 2 == 0), (rebuilt, False), (later, False)]

    def relock(self, lock: Path) -> None:
        """Rewrite a lock file: the same packages, versions and markers, with the hashes of this index's files."""
        text = lock.read_text(encoding="utf-8")
        entries: list[str] = []
        for match in PIN.finditer(text):
            self.add(match["name"], match["version"])
            digest = self._hashes[match["name"], match["version"]]
            entries.append(f"{match[0]}\n    --hash=sha256:{digest}\n")
        lock.write_text("".join(entries), encoding="utf-8")

    @contextmanager
    def served(self, without: Sequence[str] = (), breaks_after: int | None = None) -> Iterator[str]:
        """Serve the index on loopback without some packages, and return its address.

        After `breaks_after` files, every further download ends half way, as with a failing proxy.
        """
        index, files = self, itertools.count(1)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                *_, kind, name = self.path.rstrip("/").split("/")
                body = index._page(name) if kind == "simple" and name not in without else index._file(kind, name)
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", "text/html" if kind == "simple" else "application/octet-stream")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                broken = kind == "files" and breaks_after is not None and next(files) > breaks_after
                self.wfile.write(body[: len(body) // 2] if broken else body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Print nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/simple/"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _page(self, name: str) -> bytes:
        links = [
            f'<a href="/files/{path.name}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"'
            f"{' data-yanked=gone' if yanked else ''}>{path.name}</a><br>"
            for path, yanked in self._pages.get(name, ())
        ]
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode() if links else b""

    def _file(self, kind: str, name: str) -> bytes:
        path = self._folder / name
        return path.read_bytes() if kind == "files" and path.is_file() else b""
