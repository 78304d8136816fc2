"""The stored Cost Management exports: names, eTags and runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

KEPT_RUNS = 10  # `$expand=runHistory` and the run history return the last ten


@dataclass(slots=True)
class Run:
    """One execution; `status` is one of the documented values, and its data covers `start` to `end` (inclusive)."""

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
        """Return the run as the current API documents it."""
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

    def recorded(self, export: Export) -> dict[str, Any]:
        """Return the run as in API 2021-10-01: with the export's settings, and null for fields without a value."""
        settings = export.body()["properties"]
        settings.pop("schedule", None)
        return {
            "id": f"{export.id}/Run/{self.id}",
            "name": self.id,
            "type": "Microsoft.CostManagement/exports/run",
            "properties": {
                "executionType": "Scheduled" if self.scheduled else "OnDemand",
                "status": self.status,
                "submittedBy": "System" if self.scheduled else "app",
                "submittedTime": stamp(self.submitted, long=True),
                "processingStartTime": stamp(self.started, long=True) if self.started else None,
                "processingEndTime": stamp(self.ended, long=True) if self.ended else None,
                "fileName": self.file or None,
                "runSettings": settings,
                "error": {"code": self.error[0], "message": self.error[1]} if self.error else None,
            },
        }


@dataclass(slots=True)
class Export:
    """A stored export.

    `stored` is the resource as JSON without ID and eTag, in bytes to save memory with tens of thousands of exports.
    `blobs` maps each delivered range of days (`YYYYMMDD-YYYYMMDD`) to the blobs that it contains, and `written` maps it
    to the time of the last delivery. If `ends_in` is set, every run ends with that status and without data. `empty` is
    the form of deliveries without rows (header, null, no-blobs), or "" for deliveries with rows.
    """

    scope: str
    name: str
    etag: str
    stored: bytes
    created: float
    principal: str = ""
    runs: list[Run] = field(default_factory=list)
    blobs: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    written: dict[str, datetime] = field(default_factory=dict)
    ends_in: str = ""
    empty: str = ""

    @property
    def id(self) -> str:
        return f"{self.scope}/providers/Microsoft.CostManagement/exports/{self.name}"

    def body(self) -> dict[str, Any]:
        """Return a copy of the stored document."""
        body: dict[str, Any] = msgspec.json.decode(self.stored)
        return body

    def document(self, runs: int = 0, next_run: datetime | None = None, *, recorded: bool = False) -> dict[str, Any]:
        """Return the resource as the API returns it: with the last `runs` runs, and without `destination.type`.

        With `recorded`, it has the shape of API 2021-10-01: the ID has no leading slash and the oldest run comes first.
        """
        body = self.body()
        properties = body["properties"]
        properties["deliveryInfo"]["destination"].pop("type", None)
        if next_run and properties.get("schedule", {}).get("status") == "Active":
            properties["nextRunTimeEstimate"] = stamp(next_run, long=recorded)
        if runs:
            properties["runHistory"] = {"value": self.history(runs, recorded=recorded)}
        return {
            "id": self.id.removeprefix("/") if recorded else self.id,
            "name": self.name,
            "type": "Microsoft.CostManagement/exports",
            "eTag": self.etag,
            **body,
        }

    def history(self, runs: int, *, recorded: bool) -> list[dict[str, Any]]:
        """Return the last `runs` runs as the API returns them."""
        if recorded:
            return [run.recorded(self) for run in self.runs[-runs:]]
        return [run.document(self.id) for run in reversed(self.runs[-runs:])]


class Exports:
    """All exports by scope and name, both case-insensitive."""

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


def stamp(moment: datetime, *, long: bool = False) -> str:
    """Return a UTC time in the API's format; with `long`, with seven fractional digits."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f0Z" if long else "%Y-%m-%dT%H:%M:%SZ")
