"""Reads the manifests of deliveries, and compares them with the delivered blobs."""

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


class ManifestContent(msgspec.Struct, frozen=True):
    """The files in the manifest of a delivery, compared with the delivered blobs.

    `empty`: the manifest lists no files, or only files without rows. `wrong`: the files that are missing or have a
    different size, as text; "" if none. `sized`: at least one blob has exactly the size in the manifest.
    """

    empty: bool
    wrong: str
    sized: bool


SHOWN = 3  # problems of one delivery that a message names


def _download(client: ContainerClient, name: str) -> bytes:
    return bytes(client.get_blob_client(name).download_blob().readall())


def _sizes(client: ContainerClient, folder: str) -> dict[str, int]:
    """Return the size in bytes of each blob in the folder of a run, by file name."""
    blobs = client.list_blobs(name_starts_with=folder, results_per_page=PAGE)
    return {str(blob.name).rsplit("/", 1)[-1]: int(blob.size or 0) for blob in blobs}


def compare_manifest(data: bytes, sizes: Mapping[str, int], *, sized: bool) -> ManifestContent:
    """Compare a manifest with the sizes of the blobs in its folder (see `Manifests.content` for `sized`).

    In a manifest, row counts may be null, and `blobs` may be empty.
    """
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ManifestContent(empty=False, wrong="its manifest is not valid JSON", sized=False)
    listed = document.get("blobs") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(file, dict) for file in listed):
        return ManifestContent(empty=False, wrong="its manifest has no list of files", sized=False)
    config = document.get("deliveryConfig")
    compression = str(config.get("compressionMode") if isinstance(config, dict) else "").lower()
    expected = {str(file.get("blobName", "")).rsplit("/", 1)[-1]: file.get("byteCount") for file in listed}
    matching = [name for name, size in expected.items() if sizes.get(name) == size]
    strict = bool(matching) or sized or compression == "none"
    problems = [f"{name} is missing" for name in expected if name not in sizes]
    problems += [
        f"{name} has {sizes[name]} bytes, not {size}"
        for name, size in expected.items()
        if strict and name in sizes and isinstance(size, int) and sizes[name] != size
    ]
    counts = [file.get("dataRowCount") for file in listed] or [0]
    empty = not listed or document.get("dataRowCount") == 0 or all(count == 0 for count in counts)
    more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return ManifestContent(empty, "; ".join(problems[:SHOWN]) + more, bool(matching))


class Manifests:
    """Reads manifests during one run.

    `unread` has the number of manifests that could not be read, and the message of one, by error code.
    """

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._lock = threading.Lock()
        self.unread: dict[str, tuple[int, str]] = {}

    def content(self, delivery: Delivery, *, sized: bool) -> ManifestContent | None:
        """Read the manifest of a delivery, and compare it with the blobs. Return None if it could not be read.

        `sized`: in earlier manifests of this export, the sizes were those of the blobs. Sizes of compressed files are
        compared only then, because Microsoft does not document which size a manifest contains.
        """
        client = self._clients.container(delivery.account, self._settings.container)
        folder = delivery.manifest.removesuffix(MANIFEST.removeprefix("/"))
        try:
            data = self._run.calls(STORAGE, _download, client, delivery.manifest)
            sizes = self._run.calls(STORAGE, _sizes, client, folder)
            size = sizes.get(MANIFEST.removeprefix("/"), len(data))
            if size != len(data):
                raise NotUnderstood(f"the read of {delivery.manifest}", f"it has {len(data)} of {size} bytes")
            content = compare_manifest(data, sizes, sized=sized)
            if content.wrong:
                # If the next delivery has just replaced this one, the manifest is gone too: this raises NotFound.
                self._run.calls(STORAGE, _download, client, delivery.manifest)
        except NotFound:
            return None  # the next delivery has just replaced it
        except CloudError as error:
            with self._lock:
                count, example = self.unread.get(error.code, (0, f"{delivery.manifest}: {error.message}"))
                self.unread[error.code] = (count + 1, example)
            return None
        return content
