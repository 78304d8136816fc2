"""Event Grid's events of written manifests, and their delivery to the function that subscribed to them.

Sources (Microsoft Learn): "Azure Blob Storage as an Event Grid source" and "Event Grid message delivery and retry".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from localcloud.azure.services.blobs import Write
from localcloud.azure.services.storage import StorageAccount
from localcloud.common.event_faults import EventArrivals

# Waits before the second, third, … attempt to deliver an event.
RETRIES_S = (10, 30, 60, 300, 600, 1800)


@dataclass(frozen=True)
class Published:
    """An event that the topic has accepted at the time `at`."""

    at: datetime
    event: Mapping[str, Any]


@dataclass
class Waiting:
    """An event that is due at a time, for the attempt with this number; it is dropped after `until`."""

    due: datetime
    until: datetime
    event: Mapping[str, Any]
    attempts: int = 0


# difference: AZURE-21
@dataclass
class ManifestEvents:
    """The subscription of a deployment to the manifests that are written to its storage accounts.

    `accounts` maps the name of each account with a system topic to its resource ID. Events are dropped an hour after
    their first attempt, or after `most_attempts`, as the deployed subscription says.
    """

    arrivals: EventArrivals
    container: str = ""
    accounts: dict[str, str] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)
    dropped: int = 0
    most_attempts: int = 5
    lives: timedelta = timedelta(hours=1)
    made: int = 0

    def subscribe(self, accounts: Iterable[StorageAccount], container: str) -> None:
        """Create the system topics of accounts, and the subscription to manifests in `container`."""
        self.container = container
        self.accounts = {one.name: one.id for one in accounts}

    def written(self, now: datetime, writes: list[Write]) -> None:
        """Create the events of written blobs that the subscription selects."""
        for account, container, name, data in writes:
            topic = self.accounts.get(account)
            if topic is None or container != self.container or not name.endswith("/manifest.json"):
                continue
            event = self._event(now, topic, name, len(data))
            for delay in self.arrivals.delays():
                due = now + timedelta(seconds=delay)
                self.waiting.append(Waiting(due, due + self.lives, event))

    def _event(self, now: datetime, topic: str, name: str, size: int) -> Mapping[str, Any]:
        self.made += 1
        return {
            "topic": topic,
            "subject": f"/blobServices/default/containers/{self.container}/blobs/{name}",
            "eventType": "Microsoft.Storage.BlobCreated",
            "id": str(UUID(int=self.made, version=4)),
            "eventTime": f"{now:%Y-%m-%dT%H:%M:%S.%f}0Z",
            "dataVersion": "",
            "metadataVersion": "1",
            "data": {
                "api": "PutBlob",
                "contentType": "application/json",
                "contentLength": size,
                "blobType": "BlockBlob",
                "url": f"https://{topic.rpartition('/')[2]}.blob.core.windows.net/{self.container}/{name}",
                "sequencer": f"{self.made:064X}",
            },
        }

    def take(self, now: datetime) -> list[Waiting]:
        """Remove and return the events that are due, in the order of their arrival."""
        due = sorted((one for one in self.waiting if one.due <= now), key=lambda one: one.due)
        self.waiting = [one for one in self.waiting if one.due > now]
        return due

    def failed(self, one: Waiting, now: datetime) -> None:
        """Schedule the next attempt of an event whose delivery failed, or drop it."""
        one.attempts += 1
        one.due = now + timedelta(seconds=RETRIES_S[min(one.attempts, len(RETRIES_S)) - 1])
        if one.attempts >= self.most_attempts or one.due > one.until:
            self.dropped += 1
        else:
            self.waiting.append(one)
