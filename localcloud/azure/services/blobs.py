"""Fast bulk writes and deletions of blobs in Azurite."""

from __future__ import annotations

import http.client
import queue
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote

from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

# Azurite is a single process; more than four connections hardly increase its throughput.
CONNECTIONS = 4
_HEADERS = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2021-12-02"}
_FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
T = TypeVar("T")
Write = tuple[str, str, str, bytes]  # account, container, name, data


class Connections:
    """A pool of connections to Azurite for several threads."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: queue.SimpleQueue[http.client.HTTPConnection] = queue.SimpleQueue()
        self._closed = threading.Event()

    def exchange(
        self, method: str, url: str, data: bytes, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request and return status, headers and body; reconnect if Azurite closed an idle connection."""
        while True:
            try:
                connection, new = self._idle.get_nowait(), False
            except queue.Empty:
                connection, new = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60), True
            try:
                connection.request(method, url, data, dict(headers))
                answer = connection.getresponse()
                body = answer.read()
            except (http.client.RemoteDisconnected, ConnectionError):
                connection.close()
                if new:
                    raise
                continue
            except BaseException:
                connection.close()
                raise
            if self._closed.is_set():
                connection.close()
            else:
                self._idle.put(connection)
            return answer.status, dict(answer.getheaders()), body

    def close(self) -> None:
        """Close all connections; those in use are closed after their response."""
        self._closed.set()
        while not self._idle.empty():
            self._idle.get().close()


def account_signature(account: str, key: str) -> str:
    """Return a SAS query string with full access to an account.

    It is reused, because signing each request would take longer than Azurite's own processing.
    """
    everything = AccountSasPermissions(
        read=True, write=True, delete=True, list=True, add=True, create=True, update=True, process=True
    )
    kinds = ResourceTypes(service=True, container=True, object=True)
    return generate_account_sas(account, key, kinds, everything, _FOREVER)


class Blobs:
    """Manage containers and blobs with plain requests and an account SAS."""

    def __init__(self, port: int, keys: Mapping[str, str]) -> None:
        self._sas = {account: account_signature(account, key) for account, key in keys.items()}
        self._connections = Connections(port)
        self._pool = ThreadPoolExecutor(CONNECTIONS, "local-azure-blobs")

    def close(self) -> None:
        self._pool.shutdown()
        self._connections.close()

    def make_container(self, account: str, container: str) -> bool:
        """Create a container; return False if it already exists."""
        return self._send("PUT", account, f"{quote(container)}?restype=container", b"", (201, 409)) == 201

    def has_container(self, account: str, container: str) -> bool:
        return self._send("HEAD", account, f"{quote(container)}?restype=container", b"", (200, 404)) == 200

    def empty(self) -> None:
        """Delete every container of every account."""
        for account in self._sas:
            _, _, body = self._connections.exchange("GET", f"/{account}/?comp=list&{self._sas[account]}", b"", _HEADERS)
            for found in re.findall(rb"<Name>([^<]+)</Name>", body):
                self.delete_container(account, found.decode())

    def delete_container(self, account: str, container: str) -> None:
        self._send("DELETE", account, f"{quote(container)}?restype=container", b"", (202, 404))

    def put(self, writes: Sequence[Write]) -> None:
        """Write block blobs in any order, overwriting existing ones. Raises OSError if Azurite rejects one."""
        if len(writes) < CONNECTIONS:
            for write in writes:
                self._put(write)
        else:
            for _ in self._pool.map(self._put_all, _shares(writes)):
                pass

    def delete(self, names: Sequence[tuple[str, str, str]]) -> None:
        """Delete blobs (account, container, name); missing ones are ignored."""

        def delete_all(share: Sequence[tuple[str, str, str]]) -> None:
            for account, container, name in share:
                self._send("DELETE", account, f"{quote(container)}/{quote(name)}?", b"", (202, 404))

        for _ in self._pool.map(delete_all, _shares(names)):
            pass

    def set_tier(self, names: Sequence[tuple[str, str, str]], tier: str) -> None:
        """Move blobs (account, container, name) to an access tier."""
        for account, container, name in names:
            target = f"{quote(container)}/{quote(name)}?comp=tier"
            self._send("PUT", account, target, b"", (200, 202), {"x-ms-access-tier": tier})

    def _put_all(self, writes: Iterable[Write]) -> None:
        for write in writes:
            self._put(write)

    def _put(self, write: Write) -> None:
        account, container, name, data = write
        self._send("PUT", account, f"{quote(container)}/{quote(name)}?", data, (201,))

    def _send(
        self,
        method: str,
        account: str,
        target: str,
        data: bytes,
        expected: tuple[int, ...],
        more: Mapping[str, str] | None = None,
    ) -> int:
        url = f"/{account}/{target}{'' if target.endswith('?') else '&'}{self._sas[account]}"
        status, _, body = self._connections.exchange(
            method, url, data, {**_HEADERS, "Content-Length": str(len(data)), **(more or {})}
        )
        if status not in expected:
            place = target.partition("?")[0]
            raise OSError(f"Azurite returned {status} for {method} {account}/{place}: {body[:200]!r}")
        return status


def _shares(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start::CONNECTIONS] for start in range(min(CONNECTIONS, len(items)))]
