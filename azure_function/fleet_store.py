"""The tenant registry, the rows of tenants and the reports of rounds, in the deployment's own storage.

Rows and reports are beside the state. The registry is in a container of its own in an account to whose blobs the
function has no write access, so that only operators change it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from azure_function.blob_documents import BlobDocuments
from azure_function.clients import Clients
from azure_function.settings import AzureSettings
from azure_function.state_store import BlobStore
from shared.errors import NotFound
from shared.runtime.context import RunContext
from shared.state.store import REPORTS, Blob
from shared.tenants.rows import REGISTRY, ROUNDS

REGISTRY_CONTAINER = "tailpipe-registry"
READ_REMEDY = (
    "Apply the deployment with fleet = true, which makes the registry's container in an account whose blobs the "
    "function's identity may read, or correct REGISTRY_ACCOUNT."
)


def registry_place(settings: AzureSettings) -> str:
    """Return the URL of the registry's container."""
    return f"{settings.registry_url}/{REGISTRY_CONTAINER}"


class RegistryBlobs(BlobDocuments):
    """The registry's container; an operator's first write `creates` it."""

    def __init__(
        self, settings: AzureSettings, clients: Clients, run: RunContext, remedy: str, *, creates: bool = False
    ) -> None:
        what = f"the tenant registry in {registry_place(settings)}"
        super().__init__(clients.registry(REGISTRY_CONTAINER), run, what, remedy, creates=creates)


class FleetBlobs:
    """The FleetDocuments of Azure."""

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._registry = RegistryBlobs(settings, clients, run, READ_REMEDY)
        self._store = BlobStore(settings, clients, run)

    def load(self, limit: int, document: str) -> Blob:
        """Return a document; see `FleetDocuments`."""
        if document == REGISTRY:
            return self._registry.load(limit, document)
        return self._store.load(limit, _stored(document))

    def put(self, document: str, data: bytes, content_type: str) -> str:
        """Write a document and return its URL."""
        return self._store.put(_stored(document), data, content_type)

    def names(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Yield the documents below a prefix; none if nothing was stored yet."""
        stored = _stored(prefix)
        try:
            for name, at in self._store.names(stored):
                yield f"{prefix}{name.removeprefix(stored)}", at
        except NotFound:
            return


def _stored(document: str) -> str:
    """Return the name of a document: reports of rounds are beside those of runs, and expire like them."""
    return f"{REPORTS}{document}" if document.startswith(ROUNDS) else document
