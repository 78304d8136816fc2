"""Reads what a delivery consists of: the files that the newest manifest of a month names.

Each run of an export writes its files and then its manifest into a folder of its own; an export that overwrites deletes
the folders of earlier runs afterwards ("Tutorial: Create and manage exports", Cost Management documentation).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from azure.core import MatchConditions
from azure.storage.blob import ContainerClient

from azure_function.blob_documents import BlobDocuments
from azure_function.clients import STORAGE, Clients
from azure_function.errors import CONTAINER_MISSING, PRECONDITION
from azure_function.resources.deliveries import MANIFEST, PAGE
from azure_function.settings import AzureSettings
from azure_function.targets import EXPORT, is_export, placement_of
from shared.deliveries.document import File, FileSet, Series
from shared.errors import NotFound, NotUnderstood, Permanent
from shared.model import Key
from shared.parsing import mapping
from shared.periods import number_of
from shared.runtime.context import RunContext

MONTH = len("2026-01")
LARGEST_MANIFEST = 16 * 1024 * 1024  # bytes: more files than any month has
REMEDY = "Apply the deployment, which grants the function its role for the folders deltas/ and deliveries/."
TENANT_REMEDY = (
    "Have an administrator of the tenant run the script of `tailpipe-exports tenants invite azure` again: with "
    "DELTAS=1 it also grants the application its role for the folders deltas/ and deliveries/."
)


class Listed(msgspec.Struct, frozen=True, order=True):
    """A delivered blob, in the order of writing."""

    at: datetime
    name: str
    size: int
    etag: str
    checksum: str


class DeliverySource:
    """The deliveries of one deployment, as `shared.deliveries.announce` asks for them. Safe in several threads."""

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._documents = delivery_documents(settings, clients, run)

    def announces(self, series: Series) -> bool:
        """Return whether a series is a month of one of our exports."""
        is_month = len(series.period) == MONTH and number_of(series.period) is not None
        return is_month and is_export(Key(series.scope, EXPORT.name, series.dataset))

    def documents(self, series: Series) -> BlobDocuments:  # noqa: ARG002 - all chains are in one place
        """Return the documents of all series: they are in the first storage account, and stay there."""
        return self._documents

    def files(self, series: Series) -> FileSet | None:
        """Return the files of a month, None while they are not all there. Raises CloudError."""
        placement = placement_of(Key(series.scope, EXPORT.name, series.dataset))
        prefix = f"{placement.folder}/{series.dataset}/{series.period.replace('-', '')}"
        # An export that was moved to another storage account leaves its old files behind.
        delivered = [(self._listed(one.name, prefix), one.name) for one in self._settings.destination]
        blobs, account = max(delivered, key=lambda one: one[0][-1:])
        location = f"{self._settings.blob_url(account)}/{self._settings.container}/"
        if not blobs:
            return FileSet(location, (), self._run.clock.now())
        manifest = blobs[-1]
        if not manifest.name.endswith(MANIFEST):
            return None  # the next delivery is being written
        try:
            data = self._run.calls(STORAGE, _download, self._container(account), manifest)
        except NotFound:
            return None  # the next delivery has just replaced it
        except Permanent as error:
            if error.code == PRECONDITION:
                return None
            raise
        names, schema = read_manifest(data, manifest.name)
        folder = manifest.name.rpartition("/")[0]
        there = {one.name: one for one in blobs}
        named = [there.get(f"{folder}/{name}") for name in names]
        whole = [one for one in named if one is not None and one.size]
        if len(whole) < len(named):
            return None
        files = tuple(File(one.name, one.size, one.checksum) for one in whole)
        return FileSet(location, files, manifest.at, schema=schema)

    def _listed(self, account: str, prefix: str) -> list[Listed]:
        """Return the blobs below a prefix; without the container, all data is gone. Raises CloudError."""
        try:
            return self._run.calls(STORAGE, _list, self._container(account), prefix)
        except NotFound as error:
            if error.code in CONTAINER_MISSING:
                return []
            raise

    def _container(self, account: str) -> ContainerClient:
        return self._clients.container(account, self._settings.container)


def delivery_documents(settings: AzureSettings, clients: Clients, run: RunContext) -> BlobDocuments:
    """Return the documents of all deliveries, in the export container of the first storage account."""
    account = settings.destination[0].name
    container = clients.container(account, settings.container)
    remedy = TENANT_REMEDY if settings.tenant else REMEDY
    return BlobDocuments(container, run, f"the deliveries in {container.url}", remedy)


def read_manifest(data: bytes, name: str) -> tuple[list[str], str]:
    """Return the file names of a manifest, and a fingerprint of what decides over its columns.

    Azure's manifests do not name the columns. Dataset, its version and the file format decide over them. Raises
    NotUnderstood.
    """
    what = f"the manifest {name}"
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotUnderstood(what, "it is not valid JSON") from error
    blobs = mapping(document).get("blobs")
    named = [mapping(one).get("blobName") for one in blobs] if isinstance(blobs, list) else [None]
    names = [one.rpartition("/")[2] for one in named if isinstance(one, str)]
    if len(names) < len(named) or not all(names):
        raise NotUnderstood(what, "it has no list of files")
    return list(dict.fromkeys(names)), _schema(mapping(document))


def _schema(document: Mapping[str, Any]) -> str:
    export, delivery = mapping(document.get("exportConfig")), mapping(document.get("deliveryConfig"))
    parts = [export.get("type"), export.get("dataVersion"), delivery.get("fileFormat")]
    return hashlib.sha256(msgspec.json.encode([str(one or "") for one in parts])).hexdigest()[:16]


def _list(client: ContainerClient, prefix: str) -> list[Listed]:
    """Return the blobs below a prefix in the order of writing; of those written at the same time, manifests last."""
    found = [_listed(blob) for blob in client.list_blobs(name_starts_with=prefix, results_per_page=PAGE)]
    return sorted(found, key=lambda one: (one.at, one.name.endswith(MANIFEST), one.name))


def _listed(blob: Any) -> Listed:
    md5 = getattr(blob.content_settings, "content_md5", None)
    checksum = f"md5:{base64.b64encode(bytes(md5)).decode()}" if md5 else f"etag:{blob.etag}"
    return Listed(blob.last_modified, str(blob.name), int(blob.size or 0), str(blob.etag), checksum)


def _download(client: ContainerClient, manifest: Listed) -> bytes:
    """Return a manifest, if it is still the listed one."""
    if manifest.size > LARGEST_MANIFEST:
        raise NotUnderstood(f"the manifest {manifest.name}", f"it has {manifest.size} bytes")
    stream = client.get_blob_client(manifest.name).download_blob(
        etag=manifest.etag, match_condition=MatchConditions.IfNotModified
    )
    return bytes(stream.readall())
