"""The state and what lies beside it in the host storage, out of the connector's reach; the older state is read once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from azure.core import MatchConditions
from azure.storage.blob import ContainerClient, ContentSettings

from azure_function.answers import prove_storage
from azure_function.clients import STORAGE, Clients
from azure_function.errors import CONTAINER_MISSING, NETWORK_CLOSED, PRECONDITION
from azure_function.settings import STATE_CONTAINER, AzureSettings
from shared.errors import CloudError, Denied, NotFound, NotUnderstood, Permanent
from shared.parsing import age_of
from shared.runtime.context import RunContext
from shared.state.store import BINARY, JSON, REPORTS, STATE, Blob, Conflict, aside_name, report_name, run_ids

NAME = "known_subscriptions.json"
LEGACY = "legacy:"  # the version of a blob that was read at the older place: the first save makes the new one


class BlobStore:
    """A StateStore by blob storage's conditional writes (If-Match, If-None-Match)."""

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._container = clients.state(STATE_CONTAINER)
        self._read_from: ContainerClient = self._container

    def load(self, limit: int, document: str = STATE) -> Blob:
        """Read a document, at most `limit` bytes; without a state, the older one in the export container.

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

        Raises Conflict, Denied, NotFound (the container could not be made), Transient.
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
            # With If-Match, a blob that was removed in between is answered like a missing one.
            if error.code in CONTAINER_MISSING:
                raise
            raise Conflict(error.message) from error
        except Denied as denied:
            raise self._explained(denied) from denied

    def age(self) -> timedelta | None:
        """Return how long ago the state was written, by the storage's own clock. Raises CloudError."""
        found: list[timedelta | None] = []

        def note(response: Any) -> None:
            prove_storage(response)  # this hook takes the place of the client's own
            found.append(age_of(response.http_response.headers))

        look: Any = self._container.get_blob_client(NAME).get_blob_properties  # generic, which a guarded call loses
        self._run.calls(STORAGE, look, raw_response_hook=note)
        return found[-1] if found else None

    def set_aside(self, suffix: str, document: str = STATE) -> str:
        """Copy the document that was loaded to a name that holds `suffix`; return that name. Raises CloudError."""
        name = document or NAME
        spare = aside_name(name, suffix)
        read_from = self._container if document else self._read_from
        data = self._run.calls(STORAGE, self._download, read_from, name)
        self._write(spare, data, BINARY if document else JSON, {"overwrite": True})
        return spare

    def put(self, document: str, data: bytes, content_type: str) -> str:
        """Write a document beside the state, whatever lies there; return its address. Raises CloudError."""
        self._write(document, data, content_type, {"overwrite": True})
        return f"{self._settings.state_url}/{STATE_CONTAINER}/{document}"

    def put_report(self, run_id: str, data: bytes) -> str:
        """Write a run's whole report; return its address. Raises CloudError."""
        name = report_name(run_id)
        self._write(name, data, JSON, {"overwrite": True})
        return f"{self._settings.state_url}/{STATE_CONTAINER}/{name}"

    def report(self, run_id: str) -> bytes:
        """Return a run's whole report. Raises NotFound, Denied, Transient."""
        try:
            return self._run.calls(STORAGE, self._bytes, report_name(run_id))
        except Denied as denied:
            raise self._explained(denied) from denied

    def report_ids(self, since: str) -> list[str]:
        """Return the ids of the stored reports from `since` on, oldest first. Raises Denied, Transient."""
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
        """Read the older blob where an export container still has it; ids in lower case, as scopes have them."""
        for account in self._settings.destination:
            container = self._clients.container(account.name, self._settings.container)
            try:
                blob = self._run.calls(STORAGE, self._read, container, NAME, limit)
            except NotFound:
                continue
            except CloudError as error:
                # It is a convenience: what cannot be read there is observed anew.
                reason = f"not known: whether {account.name} holds the state of the older scripts: {error.message}"
                self._run.log("warning", "detail-unread", code=error.code, reason=reason)
                continue
            self._read_from = container
            return Blob(_lowered(blob.data), f"{LEGACY}{blob.version}", blob.size)
        return Blob()

    def _read(self, container: ContainerClient, name: str, limit: int) -> Blob:
        stream = container.get_blob_client(name).download_blob()
        properties = stream.properties
        size = int(properties.size)
        # The body is read within the guarded call, so that a connection lost halfway is tried again.
        data = stream.readall() if size <= limit else b""
        if data and len(data) != size:
            raise NotUnderstood("the read of the state", f"{name} has {len(data)} of {size} bytes")
        return Blob(data, str(properties.etag), size)

    def _download(self, container: ContainerClient, name: str) -> bytes:
        return bytes(container.get_blob_client(name).download_blob().readall())

    def _write(self, name: str, data: bytes, content_type: str, condition: dict[str, Any]) -> str:
        settings = ContentSettings(content_type=content_type)
        upload: Any = self._container.get_blob_client(name).upload_blob  # generic in ways that a guarded call loses
        for attempt in (1, 2):
            try:
                answer = self._run.calls(STORAGE, upload, data, content_settings=settings, **condition)
            except NotFound as error:
                if error.code not in CONTAINER_MISSING or attempt == 2:
                    raise
                self._make_container()
                continue
            return str(answer["etag"])
        raise AssertionError("unreachable: the second attempt returns or raises")

    def _make_container(self) -> None:
        try:
            self._run.calls(STORAGE, self._container.create_container)
        except Permanent as error:
            # Another run was quicker, which is as good.
            if error.code != "ContainerAlreadyExists":
                raise

    def _explained(self, denied: Denied) -> Denied:
        message = f"the state in {self._settings.state_url}/{STATE_CONTAINER} may not be used: {denied.message}"
        if denied.code == NETWORK_CLOSED:
            return Denied(denied.code, message, denied.remedy)
        return Denied(
            denied.code,
            message,
            "Grant the function's identity Storage Blob Data Contributor on the host storage (the deployment does), or "
            "correct STATE_ACCOUNT.",
        )


def _lowered(data: bytes) -> bytes:
    """Return a bare array of ids in lower case; anything else as it is."""
    try:
        ids = msgspec.json.decode(data, type=list[str])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return data
    return msgspec.json.encode([one.lower() for one in ids])
