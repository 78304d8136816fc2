"""Stores the state, and the documents beside it, in the function app's storage account.

The connector has no access to that account. A state that the legacy scripts left in the export container is read once.
A tenant's documents are below ``tenants/<id>/``, and its reports below ``runs/tenants/<id>/``, where they expire with
the deployment's own.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from azure.storage.blob import ContainerClient

from azure_function.answers import validate_storage_response
from azure_function.blob_documents import BlobDocuments
from azure_function.clients import STORAGE, Clients
from azure_function.settings import STATE_CONTAINER, AzureSettings
from shared.errors import CloudError, Denied, NotFound
from shared.parsing import age_of
from shared.runtime.context import RunContext
from shared.state.store import BINARY, JSON, REPORTS, STATE, Blob, aside_name, run_ids

NAME = "known_subscriptions.json"
LEGACY = "legacy:"  # version prefix of a state read from the legacy blob; the first save creates the new blob


REMEDY = (
    "Apply the deployment, which grants the function's identity Storage Blob Data Contributor on the function app's "
    "storage account, or correct STATE_ACCOUNT."
)


class BlobStore(BlobDocuments):
    """The StateStore of Azure."""

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        what = f"the state in {settings.state_url}/{STATE_CONTAINER}"
        super().__init__(clients.state(STATE_CONTAINER), run, what, REMEDY, creates=True)
        self._settings = settings
        self._clients = clients
        self._read_from: ContainerClient = self._container
        folder = f"tenants/{settings.tenant}/" if settings.tenant else ""
        self._below, self._reports = folder, f"{REPORTS}{folder}"
        self._state_name = f"{folder}{NAME}"

    def load(self, limit: int, document: str = STATE) -> Blob:
        """Read a document of at most `limit` bytes; a missing state falls back to the legacy one.

        Raises Denied, Transient.
        """
        if document:
            return super().load(limit, f"{self._below}{document}")
        self._read_from = self._container
        found = super().load(limit, self._state_name)
        # The legacy scripts knew no tenants.
        return self._legacy(limit) if found.version is None and not self._settings.tenant else found

    def save(self, data: bytes, version: str | None, document: str = STATE) -> str:
        """Write a document if it still has `version`; return the new one.

        Raises Conflict, Denied, NotFound (the container could not be created), Transient.
        """
        known = None if version is None or version.startswith(LEGACY) else version
        return self._save(f"{self._below}{document or NAME}", data, BINARY if document else JSON, known)

    def age(self) -> timedelta | None:
        """Return how long ago the state was written, by the clock of the storage service. Raises CloudError."""
        ages: list[timedelta | None] = []

        def read_age(response: Any) -> None:
            validate_storage_response(response)  # this hook replaces the client's own
            ages.append(age_of(response.http_response.headers))

        read: Any = self._container.get_blob_client(
            self._state_name
        ).get_blob_properties  # its generic type is lost in `calls`
        self._run.calls(STORAGE, read, raw_response_hook=read_age)
        return ages[-1] if ages else None

    def set_aside(self, damaged: Blob, document: str = STATE) -> str:
        """Keep a damaged document under another name, which is returned. Raises CloudError."""
        name = f"{self._below}{document or NAME}"
        copy = aside_name(name, damaged)
        read_from = self._container if document else self._read_from
        data = damaged.data or self._run.calls(STORAGE, self._download, read_from, name)
        self._write(copy, data, BINARY, {"overwrite": True})
        return copy

    def put(self, document: str, data: bytes, content_type: str) -> str:
        """Write a document beside the state, overwriting an existing one; return its URL. Raises CloudError."""
        return self._put(f"{self._below}{document}", data, content_type)

    def put_report(self, run_id: str, data: bytes) -> str:
        """Write the full report of a run; return its URL. Raises CloudError."""
        return self._put(f"{self._reports}{run_id}.json", data, JSON)

    def report(self, run_id: str) -> bytes:
        """Return the full report of a run. Raises NotFound, Denied, Transient."""
        try:
            return self._run.calls(STORAGE, self._bytes, f"{self._reports}{run_id}.json")
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
        """Return the names of the reports as those of a deployment without tenants; folders in between are skipped."""
        found = self._container.walk_blobs(name_starts_with=self._reports, delimiter="/")
        return [f"{REPORTS}{one.name.removeprefix(self._reports)}" for one in found if not one.name.endswith("/")]

    def _put(self, name: str, data: bytes, content_type: str) -> str:
        self._write(name, data, content_type, {"overwrite": True})
        return f"{self._settings.state_url}/{STATE_CONTAINER}/{name}"

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

    def _download(self, container: ContainerClient, name: str) -> bytes:
        return bytes(container.get_blob_client(name).download_blob().readall())


def _lowercase_ids(data: bytes) -> bytes:
    """Return a JSON array of ids in lower case; return any other data unchanged."""
    try:
        ids = msgspec.json.decode(data, type=list[str])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return data
    return msgspec.json.encode([name.lower() for name in ids])
