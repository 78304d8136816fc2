"""Deliveries on Google Cloud: each copy of a partition is one, and its manifest lists the files."""

from __future__ import annotations

import re

from gcp_function.clients import Clients
from gcp_function.delivery_topic import DeliveryTopic
from gcp_function.resources.copy_manifest import MANIFEST, MANIFEST_LIMIT, Manifest, folder_of, parse_manifest
from gcp_function.resources.objects import Objects
from gcp_function.settings import ACCOUNT, GcpSettings
from gcp_function.state_store import GcsDocuments
from shared.deliveries.announce import Announcer
from shared.deliveries.chain import Topic
from shared.deliveries.document import File, FileSet, Series
from shared.errors import NotFound
from shared.notify.delivery import Secret
from shared.notify.topic import WebhookTopic
from shared.periods import is_period
from shared.runtime.context import RunContext

DAY = len("2026-01-05")


class CopyDeliveries:
    """A DeliverySource: the dataset of a series is the export's kind, its period the partition's day."""

    def __init__(self, settings: GcpSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._run = run
        self._objects = Objects(settings.bucket, clients, run)
        self._documents = stored_deliveries(settings, clients, run)

    def announces(self, series: Series) -> bool:
        """Return whether such a series consists of copies: a day of an export that is copied."""
        day = len(series.period) == DAY and is_period(series.period)
        return day and series.dataset in self._settings.copy and re.fullmatch(ACCOUNT, series.scope) is not None

    def documents(self, _series: Series) -> GcsDocuments:
        """Return the store of the documents: the bucket of the copies."""
        return self._documents

    def files(self, series: Series) -> FileSet | None:
        """Return the files that a copy's manifest lists, with the checksums of the listing: two calls.

        Returns None if a file is missing, has another size, or if the manifest is missing, foreign, or was replaced in
        between. Raises CloudError.
        """
        folder = folder_of(series.scope, series.period, series.dataset)
        manifest, generation = self._manifest(series, folder + MANIFEST)
        listed = {one.name: one for one in self._objects.below(folder)}
        location = f"gs://{self._settings.bucket}/"
        present = listed.pop(folder + MANIFEST, None)
        if present is None:
            return FileSet(location, (), self._run.clock.now()) if not generation and not listed else None
        if manifest is None or present.generation != generation:
            return None
        found: list[File] = []
        for named in manifest.files:
            stored = listed.get(named.name)
            if stored is None or not stored.size or stored.size != named.bytes:
                return None
            found.append(File(stored.name, stored.size, f"crc32c:{stored.crc32c}"))
        delivered_at = present.created or manifest.written_at
        return FileSet(location, tuple(found), delivered_at, manifest.newest_export_time, manifest.schema)

    def _manifest(self, series: Series, name: str) -> tuple[Manifest | None, int]:
        """Return a copy's manifest, None if it is not ours, and its generation, 0 if it does not exist."""
        try:
            data, generation = self._objects.read(name, MANIFEST_LIMIT)
        except NotFound:
            return None, 0
        return parse_manifest(data, series.scope, series.dataset, series.period), generation


def stored_deliveries(settings: GcpSettings, clients: Clients, run: RunContext) -> GcsDocuments:
    """Return the store of the documents: the bucket of the copies."""
    return GcsDocuments(settings.bucket, "the deliveries", clients, run)


def announcer_of(settings: GcpSettings, clients: Clients, run: RunContext, secret: Secret | None) -> Announcer | None:
    """Return what announces the deliveries; None if the settings say that they are not announced.

    `secret` is the webhook's, None without a webhook.
    """
    if not settings.deltas:
        return None
    topics: dict[str, Topic] = {}
    if settings.delivery_topic:
        topics["topic"] = DeliveryTopic(settings.delivery_topic, clients, run)
    if secret:
        topics["webhook"] = WebhookTopic(secret, run)
    return Announcer(CopyDeliveries(settings, clients, run), topics, run)
