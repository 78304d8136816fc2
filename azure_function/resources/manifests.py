"""The manifests of deliveries, compared with the blobs that lie beside them."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import msgspec
from azure.storage.blob import ContainerClient

from azure_function.clients import STORAGE, Clients
from azure_function.resources.deliveries import MANIFEST, PAGE, Delivery
from azure_function.settings import AzureSettings
from shared.errors import CloudError, NotFound, NotUnderstood
from shared.runtime.context import RunContext


class Content(msgspec.Struct, frozen=True):
    """What the manifest of a delivery lists, compared with the blobs beside it.

    `empty`: it lists no file, or only files without rows. `wrong` says which files are missing or have another size,
    "" if none. `sized`: at least one file has exactly the size that the manifest gives.
    """

    empty: bool
    wrong: str
    sized: bool


SHOWN = 3  # so many faults of one delivery are named


def _download(client: ContainerClient, name: str) -> bytes:
    return bytes(client.get_blob_client(name).download_blob().readall())


def _sizes(client: ContainerClient, folder: str) -> dict[str, int]:
    """Return the size of each blob of a run's folder by the last part of its name."""
    blobs = client.list_blobs(name_starts_with=folder, results_per_page=PAGE)
    return {str(blob.name).rsplit("/", 1)[-1]: int(blob.size or 0) for blob in blobs}


def compared(data: bytes, sizes: Mapping[str, int], *, sized: bool) -> Content:
    """Return what a manifest says, compared with the sizes of the blobs of its folder (see `Manifests.content`).

    Row counts may be null, and `blobs` may be empty.
    """
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Content(empty=False, wrong="its manifest is not valid JSON", sized=False)
    listed = document.get("blobs") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        return Content(empty=False, wrong="its manifest has no list of files", sized=False)
    config = document.get("deliveryConfig")
    compression = str(config.get("compressionMode") if isinstance(config, dict) else "").lower()
    expected = {str(one.get("blobName", "")).rsplit("/", 1)[-1]: one.get("byteCount") for one in listed}
    matching = [name for name, size in expected.items() if sizes.get(name) == size]
    strict = bool(matching) or sized or compression == "none"
    faults = [f"{name} is missing" for name in expected if name not in sizes]
    faults += [
        f"{name} has {sizes[name]} bytes, not {size}"
        for name, size in expected.items()
        if strict and name in sizes and isinstance(size, int) and sizes[name] != size
    ]
    counts = [one.get("dataRowCount") for one in listed] or [0]
    empty = not listed or document.get("dataRowCount") == 0 or all(count == 0 for count in counts)
    more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return Content(empty, "; ".join(faults[:SHOWN]) + more, bool(matching))


class Manifests:
    """Reads the manifests of one run.

    `unread` counts the manifests that could not be read, with an example, by the code of the failure.
    """

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._lock = threading.Lock()
        self.unread: dict[str, tuple[int, str]] = {}

    def content(self, delivery: Delivery, *, sized: bool) -> Content | None:
        """Read a delivery's manifest and the names and sizes beside it; None where they could not be read.

        `sized`: sizes in the export's earlier manifests were those of the blobs. Of compressed files only such sizes
        are compared, since Microsoft does not document which size a manifest gives.
        """
        client = self._clients.container(delivery.account, self._settings.container)
        folder = delivery.manifest.removesuffix(MANIFEST.removeprefix("/"))
        try:
            data = self._run.calls(STORAGE, _download, client, delivery.manifest)
            found = self._run.calls(STORAGE, _sizes, client, folder)
            size = found.get(MANIFEST.removeprefix("/"), len(data))
            if size != len(data):
                raise NotUnderstood(f"the read of {delivery.manifest}", f"it has {len(data)} of {size} bytes")
            content = compared(data, found, sized=sized)
            if content.wrong:
                # The next delivery takes this one away, its manifest too: then nothing is missing.
                self._run.calls(STORAGE, _download, client, delivery.manifest)
        except NotFound:
            return None  # the next delivery has just taken it away
        except CloudError as error:
            with self._lock:
                count, example = self.unread.get(error.code, (0, f"{delivery.manifest}: {error.message}"))
                self.unread[error.code] = (count + 1, example)
            return None
        return content
