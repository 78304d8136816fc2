"""Documents in one blob container, with compare-and-swap by conditional writes (If-Match, If-None-Match)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from azure.core import MatchConditions
from azure.storage.blob import ContainerClient, ContentSettings

from azure_function.clients import STORAGE
from azure_function.errors import CONTAINER_MISSING, NETWORK_CLOSED, PRECONDITION
from shared.errors import Denied, NotFound, NotUnderstood, Permanent
from shared.runtime.context import RunContext
from shared.state.store import JSON, Blob, Conflict


class BlobDocuments:
    """Reads and writes named documents of one container.

    `what` names them in messages, `remedy` is what helps where access to them is denied. `creates`: a missing container
    is created.
    """

    def __init__(
        self, container: ContainerClient, run: RunContext, what: str, remedy: str, *, creates: bool = False
    ) -> None:
        self._container = container
        self._run = run
        self._what = what
        self._remedy = remedy
        self._creates = creates

    def load(self, limit: int, document: str = "") -> Blob:
        """Return a document of at most `limit` bytes, `Blob()` if it does not exist. Raises Denied, Transient."""
        try:
            return self._run.calls(STORAGE, self._read, self._container, document, limit)
        except NotFound:
            return Blob()
        except Denied as denied:
            raise self._explained(denied) from denied

    def save(self, data: bytes, version: str | None, document: str = "") -> str:
        """Write a document if it still has `version`; return the new one.

        Raises Conflict, Denied, NotFound (the container is missing), Transient.
        """
        return self._save(document, data, JSON, version)

    def names(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Yield name and time of writing of each document below a prefix. Raises Denied, NotFound, Transient."""
        try:
            yield from self._run.calls(STORAGE, self._list, prefix)
        except Denied as denied:
            raise self._explained(denied) from denied

    def _list(self, prefix: str) -> list[tuple[str, datetime]]:
        return [(str(blob.name), blob.last_modified) for blob in self._container.list_blobs(name_starts_with=prefix)]

    def _save(self, name: str, data: bytes, content_type: str, version: str | None) -> str:
        condition: dict[str, Any] = {"etag": version, "match_condition": MatchConditions.IfNotModified}
        if version is None:
            condition = {"overwrite": False}
        try:
            return self._write(name, data, content_type, condition)
        except Permanent as error:
            if error.code == PRECONDITION:
                raise Conflict(error.message) from error
            raise
        except NotFound as error:
            # A write with If-Match to a blob that was deleted in the meantime also returns 404.
            if error.code in CONTAINER_MISSING:
                raise
            raise Conflict(error.message) from error
        except Denied as denied:
            raise self._explained(denied) from denied

    def _read(self, container: ContainerClient, name: str, limit: int) -> Blob:
        stream = container.get_blob_client(name).download_blob()
        properties = stream.properties
        size = int(properties.size)
        # The body is read inside the guarded call, so that a connection lost halfway is retried.
        data = stream.readall() if size <= limit else b""
        if data and len(data) != size:
            raise NotUnderstood(f"the read of {self._what}", f"{name} has {len(data)} of {size} bytes")
        return Blob(data, str(properties.etag), size)

    def _write(self, name: str, data: bytes, content_type: str, condition: dict[str, Any]) -> str:
        settings = ContentSettings(content_type=content_type)
        upload: Any = self._container.get_blob_client(name).upload_blob  # its generic type is lost in `calls`
        for attempt in (1, 2):
            try:
                result = self._run.calls(STORAGE, upload, data, content_settings=settings, **condition)
            except NotFound as error:
                if not self._creates or error.code not in CONTAINER_MISSING or attempt == 2:
                    raise
                self._create_container()
                continue
            return str(result["etag"])
        raise AssertionError("unreachable: the second attempt returns or raises")

    def _create_container(self) -> None:
        try:
            self._run.calls(STORAGE, self._container.create_container)
        except Permanent as error:
            # Another run has created it in the meantime.
            if error.code != "ContainerAlreadyExists":
                raise

    def _explained(self, denied: Denied) -> Denied:
        message = f"could not access {self._what}: {denied.message}"
        if denied.code == NETWORK_CLOSED:
            return Denied(denied.code, message, denied.remedy)
        return Denied(denied.code, message, self._remedy)
