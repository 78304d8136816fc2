"""Export runs: the blobs that a run writes, and the time when it writes them.

Layout and manifest are documented in https://learn.microsoft.com/azure/cost-management-billing/costs/tutorial-improved-exports
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from localcloud.azure.errors import ArmError
from localcloud.azure.iam.rights import subscription_of
from localcloud.azure.services.blobs import Write
from localcloud.azure.services.export_files import MAX_ROWS, csv_part, focus_version_of, parquet_part
from localcloud.azure.services.exports import KEPT_RUNS, Export, Run, stamp
from localcloud.azure.services.storage import account_at
from localcloud.azure.state import World

_API_VERSION = "2025-03-01"
_MANIFEST_VERSION = "2024-04-01"
# The number of exports whose blobs are written together: enough to use all connections, without much memory.
_BATCH = 500


class Deliveries:
    """The runs in progress and the failures to inject. Call with the world's lock held."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._due: list[tuple[float, Export, Run]] = []
        self._failing: dict[str, list[tuple[str, str, str]]] = {}
        self._runs = 0

    def fail_next(self, subscription: str, times: int, status: str, code: str, message: str) -> None:
        """Make the next `times` runs of a subscription (`*`: of all subscriptions) end in `status` without data."""
        self._failing.setdefault(subscription.lower(), []).extend([(status, code, message)] * times)

    def execute(self, export: Export, period: tuple[datetime, datetime] | None) -> Run:
        """Queue a run on demand; its data is written after `run_delay_s`."""
        now = self._world.clock.now()
        start, end = period or _own_period(export.body()["properties"]["definition"], now)
        run = self._record_run(export, Run(self._run_id(), False, "Queued", now, start, end))
        self._due.append((self._world.clock.monotonic() + self._world.behavior.run_delay_s, export, run))
        return run

    def settle(self) -> int:
        """Write the data of all runs that are due and return their number."""
        if not self._due:
            return 0
        moment = self._world.clock.monotonic()
        ready = [one for one in self._due if one[0] <= moment]
        if ready:
            self._due = [one for one in self._due if one[0] > moment]
            self._write([(export, run) for _, export, run in ready if self._exists(export)])
        for _, _, run in self._due:
            run.status, run.started = "InProgress", run.started or self._world.clock.now()
        return len(ready)

    def daily(self, exports: Iterable[Export]) -> int:
        """Run all exports with an active schedule, as the service does daily; return how many delivered data."""
        exports = list(exports)
        self._expire(exports)
        now = self._world.clock.now()
        pairs = []
        for export in exports:
            properties = export.body()["properties"]
            if properties.get("schedule", {}).get("status") != "Active":
                continue
            start, end = _own_period(properties["definition"], now)
            pairs.append((export, self._record_run(export, Run(self._run_id(), True, "Queued", now, start, end))))
        return self._write(pairs)

    def _write(self, pairs: list[tuple[Export, Run]]) -> int:
        self._world.before_blobs()
        delivered = 0
        for start in range(0, len(pairs), _BATCH):
            batch = pairs[start : start + _BATCH]
            parts: list[Write] = []
            manifests: list[Write] = []
            old: list[tuple[str, str, str]] = []
            for export, run in batch:
                if self._refused(export, run):
                    continue
                self._prepare(export, run, parts, manifests, old)
                delivered += 1
            for account, container in {(write[0], write[1]) for write in parts}:
                # The service creates a missing container.
                self._world.blobs.make_container(account, container)
            self._world.blobs.put(parts)
            # Write manifests last, because readers treat a run folder with a manifest as complete.
            self._world.blobs.put(manifests)
            self._world.manifest_events.written(self._world.clock.now(), manifests)
            self._world.blobs.delete(old)
        return delivered

    def _expire(self, exports: Iterable[Export]) -> None:
        """Delete the blobs that have expired under the lifecycle rules of their storage account."""
        now = self._world.clock.now()
        expired: list[tuple[str, str, str]] = []
        for export in exports:
            for days, blobs in list(export.blobs.items()):
                account = self._world.accounts.get(blobs[0][0]) if blobs else None
                limit = account.expires_after("/".join(blobs[0][1:])) if account else None
                if limit is not None and days in export.written and now - export.written[days] > limit:
                    expired += export.blobs.pop(days)
                    del export.written[days]
        if expired:
            self._world.before_blobs()
            self._world.blobs.delete(expired)

    def _refused(self, export: Export, run: Run) -> bool:
        now = self._world.clock.now()
        run.started = run.started or now
        run.ended = now
        if export.ends_in:
            run.status = export.ends_in
            return True
        for key in (subscription_of(export.scope), "*"):
            if self._failing.get(key):
                run.status, code, message = self._failing[key].pop(0)
                run.error = (code, message)
                return True
        try:
            destination = export.body()["properties"]["deliveryInfo"]["destination"]
            account = account_at(self._world.accounts, destination["resourceId"])
        except ArmError as cause:
            run.status, run.error = "Failed", ("ExportDestinationNotFound", cause.message)
            return True
        if not account.admits(identity=bool(export.principal)):
            run.status = "Failed"
            run.error = ("ExportDestinationAccessDenied", "The exports service cannot write to the storage account.")
            return True
        if account.held.get(destination["container"]) and self._overwrites(export, run):
            run.status = "Failed"
            run.error = ("ExportDestinationImmutable", "A policy of the container forbids to replace its blobs.")
            return True
        run.status = "Completed"
        return False

    def _overwrites(self, export: Export, run: Run) -> bool:
        properties = export.body()["properties"]
        days = _range(run.start, run.end, properties["definition"]["timeframe"])
        return properties["dataOverwriteBehavior"] == "OverwritePreviousReport" and bool(export.blobs.get(days))

    def _prepare(
        self, export: Export, run: Run, parts: list[Write], manifests: list[Write], old: list[tuple[str, str, str]]
    ) -> None:
        properties = export.body()["properties"]
        destination = properties["deliveryInfo"]["destination"]
        account = account_at(self._world.accounts, destination["resourceId"]).name
        container, root = destination["container"], destination.get("rootFolderPath", "").strip("/")
        days = _range(run.start, run.end, properties["definition"]["timeframe"])
        folder = "/".join(part for part in (root, export.name, days) if part)
        suffix = "parquet" if properties["format"] == "Parquet" else "csv"
        if properties["compressionMode"] == "gzip":
            suffix += ".gz"
        elif properties["compressionMode"] == "snappy":
            suffix = "snappy.parquet"
        rows: int | None
        version = focus_version_of(properties["definition"])
        if properties["format"] == "Parquet":
            # These files never have rows, so the manifest has no row count unless the export is empty.
            data, rows = parquet_part(version), 0 if export.empty else None
        else:
            compressed, max_rows = properties["compressionMode"] == "gzip", 0 if export.empty else MAX_ROWS
            data, rows = csv_part(export.scope, run.start, run.end, compressed, max_rows, version)
        if properties["partitionData"]:
            folder = f"{folder}/{run.id}"
            run.file = f"{folder}/part_0_0001.{suffix}"
            run.manifest = f"{folder}/manifest.json"
            manifest = self._manifest(export, run, properties, run.file, len(data), rows)
            manifests.append((account, container, run.manifest, manifest))
        else:
            run.file = f"{folder}/{export.name}_{run.id}.{suffix}"
        parts.append((account, container, run.file, data))
        names = [(account, container, name) for name in (run.manifest, run.file) if name]
        if properties["dataOverwriteBehavior"] == "OverwritePreviousReport":
            old += export.blobs.get(days, [])
            export.blobs[days] = names
        else:
            export.blobs.setdefault(days, []).extend(names)
        export.written[days] = self._world.clock.now()

    def _manifest(
        self, export: Export, run: Run, properties: dict[str, Any], blob: str, size: int, rows: int | None
    ) -> bytes:
        definition, destination = properties["definition"], properties["deliveryInfo"]["destination"]
        data_set = definition.get("dataSet", {})
        # In recorded manifests, the row count is null.
        counted = None if export.empty == "null" or self._world.behavior.answers == "recorded" else rows
        if export.empty == "no-blobs":
            size, counted = 0, 0
        blobs = [] if export.empty == "no-blobs" else [{"blobName": blob, "byteCount": size, "dataRowCount": counted}]
        document = {
            "manifestVersion": _MANIFEST_VERSION,
            "byteCount": size,
            "blobCount": len(blobs),
            "dataRowCount": counted,
            "exportConfig": {
                "exportName": export.name,
                "resourceId": export.id,
                "dataVersion": data_set.get("configuration", {}).get("dataVersion", ""),
                "apiVersion": _API_VERSION,
                "type": definition["type"],
                "timeFrame": definition["timeframe"],
                "granularity": data_set.get("granularity", "Daily"),
            },
            "deliveryConfig": {
                "partitionData": True,
                "dataOverwriteBehavior": properties["dataOverwriteBehavior"],
                "fileFormat": properties["format"],
                "compressionMode": properties["compressionMode"],
                "containerUri": f"{destination['resourceId']}/blobServices/default/containers/"
                f"{destination['container']}",
                "rootFolderPath": destination.get("rootFolderPath", ""),
            },
            "runInfo": {
                "executionType": "Scheduled" if run.scheduled else "OnDemand",
                "submittedTime": stamp(run.submitted),
                "runId": run.id,
                "startDate": stamp(run.start),
                "endDate": stamp(run.end),
            },
            "blobs": blobs,
        }
        return msgspec.json.encode(document)

    def _record_run(self, export: Export, run: Run) -> Run:
        export.runs.append(run)
        del export.runs[:-KEPT_RUNS]
        return run

    def _exists(self, export: Export) -> bool:
        return self._world.exports.get(export.scope, export.name) is export

    def _run_id(self) -> str:
        self._runs += 1
        return str(UUID(int=(self._runs << 64) | 0x4000_8000_0000_0000_0000, version=4))


def _own_period(definition: dict[str, Any], now: datetime) -> tuple[datetime, datetime]:
    """Return the first and last day of the definition's time frame."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    first = today.replace(day=1)
    match definition["timeframe"]:
        case "TheLastMonth" | "TheLastBillingMonth":
            last = first - timedelta(days=1)
            return last.replace(day=1), last
        case "WeekToDate":
            return today - timedelta(days=(today.weekday() + 1) % 7), today
        case "Custom":
            return tuple(datetime.fromisoformat(definition["timePeriod"][end]) for end in ("from", "to"))  # type: ignore[return-value]  # two keys give two values
        case _:
            return first, today


def _range(start: datetime, end: datetime, timeframe: str) -> str:
    """Return the folder name of a period; for monthly time frames, it always covers whole months."""
    if timeframe not in ("WeekToDate", "Custom"):
        end = end.replace(day=calendar.monthrange(end.year, end.month)[1])
    return f"{start:%Y%m%d}-{end:%Y%m%d}"
