"""The registry where it is stored: in the deployment, or in a file of this machine; written by compare-and-swap."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.clouds import Cloud
from cli.deployment.model import OperatorError, Problem
from cli.deployment.tenants import RegistryStore, TenantPort
from cli.settings_source import Choice, source_of
from cli.tenants.edit import Edit, Entries, encoded, entry_of, problems_of
from cli.terminal.private_file import write_private
from shared.errors import RegistryError, ReportedError, SettingsError
from shared.runtime.clock import SystemClock
from shared.state.store import Blob, Conflict
from shared.tenants.registry import MAX_BYTES, TenantRegistry, encode_registry, parse_registry, read_document, too_large
from tailpipe_exports import NAME

TRIES = 5  # of an edit, each after another operator's


@dataclass(frozen=True)
class Fleet:
    """The tenants of one deployment: its registry, and the environment of the deployment.

    With a registry in a file, nothing is known of a deployment: `environment` is empty.
    """

    cloud: Cloud
    port: TenantPort
    store: RegistryStore
    environment: Mapping[str, str]

    def entries(self) -> Entries:
        """Return the entries as they are written, none without a registry. Raises OperatorError."""
        return self._read()[0]

    def registry(self) -> TenantRegistry:
        """Return the tenants of this cloud. Raises OperatorError."""
        return parse_registry(encode_registry(self.entries()), self.port.RULES)

    def change(self, edit: Edit) -> None:
        """Apply an edit to the stored registry.

        An edit that another operator made meanwhile is kept, unless it was about the same tenants. Raises
        OperatorError; nothing was written then.
        """
        seen: list[Any] | None = None
        for _ in range(TRIES):
            entries, version = self._read()
            current = [entry_of(entries, one) for one in edit.ids]
            if seen is not None and current != seen:
                changed = next(one for one, old, new in zip(edit.ids, seen, current, strict=True) if old != new)
                raise OperatorError(
                    Problem(
                        f"tenant {changed} was changed by another operator at the same time; nothing was written",
                        f"Look at it, and call again: {NAME} tenants show {self.cloud.name} {changed}.",
                    )
                )
            seen = current
            with contextlib.suppress(Conflict), explained(self.cloud):
                self.store.save(encoded(edit, entries, self.port.RULES), version)
                return
        busy = f"the registry {self.store.place} was changed {TRIES} times meanwhile; nothing was written"
        raise OperatorError(Problem(busy, "Call again."))

    def _read(self) -> tuple[Entries, str | None]:
        with explained(self.cloud):
            blob = self.store.load(MAX_BYTES)
        if blob.version is None:
            return [], None
        try:
            if blob.size > MAX_BYTES:
                raise too_large(blob.size)
            return read_document(blob.data), blob.version
        except RegistryError as error:
            raise OperatorError(*problems_of(error)) from error


def open_fleet(cloud: Cloud, choice: Choice, file: Path | None = None) -> Fleet:
    """Open the registry of the deployment that `choice` names, or that in `file`. Raises OperatorError."""
    if file is not None:
        return Fleet(cloud, cloud.tenants(), FileRegistry(file), {})
    # A library's output must not end up in a document.
    with explained(cloud), contextlib.redirect_stdout(sys.stderr):
        return open_in(cloud, source_of(cloud, choice).environment)


def open_in(cloud: Cloud, environment: Mapping[str, str]) -> Fleet:
    """Open the registry of a deployment by its environment. Raises OperatorError, SettingsError, CloudError."""
    port = cloud.tenants()
    return Fleet(cloud, port, port.registry_store(environment, discard, SystemClock()), environment)


class FileRegistry:
    """A registry in a file of this machine; its version is the hash of its bytes."""

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.realpath(path))  # a link stays a link

    @property
    def place(self) -> str:
        return str(self._path)

    def load(self, limit: int) -> Blob:
        """Return the registry. Raises OperatorError if it cannot be read."""
        try:
            size = self._path.stat().st_size
            data = self._path.read_bytes() if size <= limit else b""
        except FileNotFoundError:
            return Blob()
        except OSError as error:
            raise self._failed(error) from error
        return Blob(data, hashlib.sha256(data).hexdigest(), max(size, len(data)))

    def save(self, data: bytes, version: str | None) -> str:
        """Write the registry. Raises Conflict, and OperatorError if it cannot be written."""
        try:
            with _locked(self._path.parent):
                if self.load(MAX_BYTES).version != version:
                    raise Conflict
                write_private(self._path, data.decode())
        except OSError as error:
            raise self._failed(error) from error
        return hashlib.sha256(data).hexdigest()

    def _failed(self, error: OSError) -> OperatorError:
        return OperatorError(Problem(f"--registry {self._path}: {error.strerror}", "Name a file that you may write."))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other commands from writing into a folder. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def explained(cloud: Cloud) -> Iterator[None]:
    """Turn errors of settings, of the registry and of the cloud into OperatorError, with a remedy for each problem."""
    try:
        yield
    except (SettingsError, RegistryError) as error:
        remedy = f"See {NAME} tenants --help, and docs/fleet.md."
        raise OperatorError(*(Problem(fault, remedy) for fault in error.problems)) from error
    except ReportedError as error:
        raise OperatorError(Problem(f"{cloud.title}: {error.code}: {error.message}", error.remedy)) from error


def discard(_level: str, _event: str, _fields: Mapping[str, object]) -> None:
    """Drop a log line: what a person needs to know is in the error."""
