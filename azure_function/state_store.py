"""Stores the state, and the documents beside it, in the function app's storage account.

The connector has no access to that account. A state that the legacy scripts left in the export container is read once.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from azure.core import MatchConditions
from azure.storage.blob import ContainerClient, ContentSettings

from azure_function.answers import validate_storage_response
from azure_function.clients import STORAGE, Clients
from azure_function.errors import CONTAINER_MISSING, NETWORK_CLOSED, PRECONDITION
from azure_function.settings import STATE_CONTAINER, AzureSettings
from shared.errors import CloudError, Denied, NotFound, NotUnderstood, Permanent
from shared.parsing import age_of
from shared.runtime.context import RunContext
from shared.state.store import BINARY, JSON, REPORTS, STATE, Blob, Conflict, aside_name, report_name, run_ids

NAME = "known_subscriptions.json"
LEGACY = "legacy:"  # version prefix of a state read from the legacy blob; the first save creates the new blob


class BlobStore:
    """A StateStore with compare-and-swap by Blob Storage's conditional writes (If-Match, If-None-Match)."""

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._container = clients.state(STATE_CONTAINER)
        self._read_from: ContainerClient = self._container

    def load(self, limit: int, document: str = STATE) -> Blob:
        """Read a document of at most `limit` bytes; a missing state falls back to the legacy one.

        Raises Denied, Transient.
        """
        if not document:
            self._read_from = self._container
        try:
            return self._run.calls(STORAGE, self._read, self._container, document or NAME, limit)
        except NotFound:
            return Blob() if document else self._legacy(limit)
        except Denied as denied:
            raise self._explained(denied) from denied

    def save(self, data: bytes, version: str | None, document: str = STATE) -> str:
        """Write a document if it still has `version`; return the new one.

        Raises Conflict, Denied, NotFound (the container could not be created), Transient.
        """
        condition: dict[str, Any] = {"etag": version, "match_condition": MatchConditions.IfNotModified}
        if version is None or version.startswith(LEGACY):
            condition = {"overwrite": False}
        try:
            return self._write(document or NAME, data, BINARY if document else JSON, condition)
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

    def age(self) -> timedelta | None:
        """Return how long ago the state was written, by the clock of the storage service. Raises CloudError."""
        ages: list[timedelta | None] = []

        def read_age(response: Any) -> None:
            validate_storage_response(response)  # this hook replaces the client's own
            ages.append(age_of(response.http_response.headers))

        read: Any = self._container.get_blob_client(NAME).get_blob_properties  # its generic type is lost in `calls`
        self._run.calls(STORAGE, read, raw_response_hook=read_age)
        return ages[-1] if ages else None

    def set_aside(self, suffix: str, document: str = STATE) -> str:
        """Copy the loaded document to a name that contains `suffix`; return that name. Raises CloudError."""
        name = document or NAME
        copy = aside_name(name, suffix)
        read_from = self._container if document else self._read_from
        data = self._run.calls(STORAGE, self._download, read_from, name)
        self._write(copy, data, BINARY if document else JSON, {"overwrite": True})
        return copy

    def put(self, document: str, data: bytes, content_type: str) -> str:
        """Write a document beside the state, overwriting an existing one; return its URL. Raises CloudError."""
        self._write(document, data, content_type, {"overwrite": True})
        return f"{self._settings.state_url}/{STATE_CONTAINER}/{document}"

    def put_report(self, run_id: str, data: bytes) -> str:
        """Write the full report of a run; return its URL. Raises CloudError."""
        name = report_name(run_id)
        self._write(name, data, JSON, {"overwrite": True})
        return f"{self._settings.state_url}/{STATE_CONTAINER}/{name}"

    def report(self, run_id: str) -> bytes:
        """Return the full report of a run. Raises NotFound, Denied, Transient."""
        try:
            return self._run.calls(STORAGE, self._bytes, report_name(run_id))
        except Denied as denied:
            raise self._explained(denied) from denied

    def report_ids(self, since: str) -> list[str]:
        """Return the ids of the stored reports since `since`, oldest first. Raises Denied, Transient."""
        try:
            return run_ids(self._run.calls(STORAGE, self._names), since)
        except NotFound:
            return []
        except Denied as denied:
            raise self._explained(denied) from denied

    def _names(self) -> list[str]:
        return list(self._container.list_blob_names(name_starts_with=REPORTS))

    def _bytes(self, name: str) -> bytes:
        return self._container.get_blob_client(name).download_blob().readall()

    def _legacy(self, limit: int) -> Blob:
        """Read the legacy state from an export container, with its ids in lower case, as scopes have them."""
        for account in self._settings.destination:
            container = self._clients.container(account.name, self._settings.container)
            try:
                blob = self._run.calls(STORAGE, self._read, container, NAME, limit)
            except NotFound:
                continue
            except CloudError as error:
                # The legacy state is optional: without it, the run observes everything anew.
                reason = f"could not check {account.name} for the state of the legacy scripts: {error.message}"
                self._run.log("warning", "detail-unread", code=error.code, reason=reason)
                continue
            self._read_from = container
            return Blob(_lowercase_ids(blob.data), f"{LEGACY}{blob.version}", blob.size)
        return Blob()

    def _read(self, container: ContainerClient, name: str, limit: int) -> Blob:
        stream = container.get_blob_client(name).download_blob()
        properties = stream.properties
        size = int(properties.size)
        # The body is read inside the guarded call, so that a connection lost halfway is retried.
        data = stream.readall() if size <= limit else b""
        if data and len(data) != size:
            raise NotUnderstood("the read of the state", f"{name} has {len(data)} of {size} bytes")
        return Blob(data, str(properties.etag), size)

    def _download(self, container: ContainerClient, name: str) -> bytes:
        return bytes(container.get_blob_client(name).download_blob().readall())

    def _write(self, name: str, data: bytes, content_type: str, condition: dict[str, Any]) -> str:
        settings = ContentSettings(content_type=content_type)
        upload: Any = self._container.get_blob_client(name).upload_blob  # its generic type is lost in `calls`
        for attempt in (1, 2):
            try:
                result = self._run.calls(STORAGE, upload, data, content_settings=settings, **condition)
            except NotFound as error:
                if error.code not in CONTAINER_MISSING or attempt == 2:
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
        message = f"could not access the state in {self._settings.state_url}/{STATE_CONTAINER}: {denied.message}"
        if denied.code == NETWORK_CLOSED:
            return Denied(denied.code, message, denied.remedy)
        return Denied(
            denied.code,
            message,
            "Apply the deployment, which grants the function's identity Storage Blob Data Contributor on the function "
            "app's storage account, or correct STATE_ACCOUNT.",
        )


def _lowercase_ids(data: bytes) -> bytes:
    """Return a JSON array of ids in lower case; return any other data unchanged."""
    try:
        ids = msgspec.json.decode(data, type=list[str])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return data
    return msgspec.json.encode([name.lower() for name in ids])
