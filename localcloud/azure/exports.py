"""Cost Management exports as they are stored: who owns which names, eTags, and each export's runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

KEPT_RUNS = 10  # `$expand=runHistory` and the run history show the last ten


@dataclass(slots=True)
class Run:
    """One execution. `status` is the documented one; `start`–`end` are the days (inclusive) its data cover."""

    id: str
    scheduled: bool
    status: str
    submitted: datetime
    start: datetime
    end: datetime
    started: datetime | None = None
    ended: datetime | None = None
    manifest: str = ""
    file: str = ""
    error: tuple[str, str] | None = None

    def document(self, export_id: str) -> dict[str, Any]:
        properties: dict[str, Any] = {
            "executionType": "Scheduled" if self.scheduled else "OnDemand",
            "status": self.status,
            "submittedBy": "System" if self.scheduled else "app",
            "submittedTime": stamp(self.submitted),
            "startDate": stamp(self.start),
            "endDate": stamp(self.end),
        }
        if self.started:
            properties["processingStartTime"] = stamp(self.started)
        if self.ended:
            properties["processingEndTime"] = stamp(self.ended)
        if self.manifest:
            properties["manifestFile"] = self.manifest
        if self.file:
            properties["fileName"] = self.file
        if self.error:
            properties["error"] = {"code": self.error[0], "message": self.error[1]}
        return {
            "id": f"{export_id}/runHistory/{self.id}",
            "name": self.id,
            "type": "Microsoft.CostManagement/exports/runHistory",
            "properties": properties,
        }


@dataclass(slots=True)
class Export:
    """`stored` is the resource as JSON without id and eTag: bytes, because there may be ten thousand of them.

    `blobs` maps each delivered range of days (`YYYYMMDD-YYYYMMDD`) to the names of the blobs of its last run.
    """

    scope: str
    name: str
    etag: str
    stored: bytes
    created: float
    principal: str = ""
    runs: list[Run] = field(default_factory=list)
    blobs: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.scope}/providers/Microsoft.CostManagement/exports/{self.name}"

    def body(self) -> dict[str, Any]:
        """Return what is stored, decoded; a copy."""
        body: dict[str, Any] = msgspec.json.decode(self.stored)
        return body

    def document(self, runs: int = 0, next_run: datetime | None = None) -> dict[str, Any]:
        """Return the resource as the API answers it, with the last `runs` runs. `destination.type` is not answered."""
        body = self.body()
        properties = body["properties"]
        properties["deliveryInfo"]["destination"].pop("type", None)
        if next_run and properties.get("schedule", {}).get("status") == "Active":
            properties["nextRunTimeEstimate"] = stamp(next_run)
        if runs:
            history = [run.document(self.id) for run in reversed(self.runs[-runs:])]
            properties["runHistory"] = {"value": history}
        return {
            "id": self.id,
            "name": self.name,
            "type": "Microsoft.CostManagement/exports",
            "eTag": self.etag,
            **body,
        }


class Exports:
    """All exports by scope and name; neither has case."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, Export]] = {}
        self._tags = itertools.count(0x1DBBDE31CBBE959)

    def next_tag(self) -> str:
        return f'"{next(self._tags):x}"'

    def get(self, scope: str, name: str) -> Export | None:
        return self._of.get(scope.lower(), {}).get(name.lower())

    def at(self, scope: str) -> list[Export]:
        return list(self._of.get(scope.lower(), {}).values())

    def put(self, export: Export) -> None:
        self._of.setdefault(export.scope.lower(), {})[export.name.lower()] = export

    def remove(self, scope: str, name: str) -> Export | None:
        return self._of.get(scope.lower(), {}).pop(name.lower(), None)

    def __iter__(self) -> Iterator[Export]:
        for exports in list(self._of.values()):
            yield from list(exports.values())

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))


def stamp(moment: datetime) -> str:
    """Return a moment (UTC) as the API writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
