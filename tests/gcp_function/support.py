"""Run the function against a local GCP whose virtual clock the test controls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gcp_function.handler import run_once
from gcp_function.settings import GcpSettings, read_settings
from gcp_function.targets import EXPORTS
from localcloud.gcp.cloud import LocalGcp
from shared.model import Action, Outcome
from shared.reconcile import RunResult
from shared.request import RunRequest
from shared.runtime.clock import VirtualClock

START = datetime(2026, 11, 23, 9, tzinfo=UTC)
HOUR = 3600.0
DAY = 24 * HOUR


class Lines:
    """Log sink that keeps every line."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __call__(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        self.lines.append((level, event, dict(fields)))

    def text(self) -> str:
        return json.dumps(self.lines, default=str)


def local_gcp(**options: Any) -> LocalGcp:
    """Return a local GCP at START in virtual time: three accounts that export, three days of data."""
    return LocalGcp(**{"accounts": 3, "done": 3, "clock": VirtualClock(START), "history_days": 3, "rows": 3, **options})


def run(
    cloud: LocalGcp,
    scopes: Sequence[str] = (),
    *,
    sink: Lines | None = None,
    seconds: float = 900,
    dry_run: bool = False,
    force: bool = False,
    verify_all: bool = False,
    environment: Mapping[str, str] | None = None,
    **settings: str,
) -> RunResult:
    """Run the function once with the local cloud's settings, overridden by `environment` and `settings`."""
    return run_once(
        RunRequest(scopes=tuple(scopes), dry_run=dry_run, force=force, verify_all=verify_all),
        {**cloud.environment(), **(environment or {}), **settings},
        sink or Lines(),
        cloud.clock,
        seconds,
        seed=len(cloud.calls.select()) + 1,
    )


def settings_of(cloud: LocalGcp, **settings: str) -> GcpSettings:
    """Return the function's settings for a local cloud."""
    return read_settings({**cloud.environment(), **settings})


def accounts(cloud: LocalGcp) -> list[str]:
    """Return the ids of the billing accounts in the order in which they were opened."""
    return list(cloud.accounts())


def day_of(back: int = 0, start: datetime = START) -> str:
    """Return the ISO date of the day that is `back` days before `start`."""
    return (start - timedelta(days=back)).date().isoformat()


def outcome(finished: RunResult, kind: str, scope: str = "", name: str = "") -> Outcome:
    """Return the only outcome of a kind, optionally limited to one scope and name."""
    found = [
        one
        for one in finished.outcomes
        if one.key.kind == kind and scope in ("", one.key.scope) and name in ("", one.key.name)
    ]
    assert len(found) == 1, f"{len(found)} outcomes of {kind} {scope} {name}: {finished.report}"
    return found[0]


def action(finished: RunResult, kind: str, scope: str = "", name: str = "") -> Action:
    """Return the only action of a kind, optionally limited to one scope and name."""
    return outcome(finished, kind, scope, name).action


def verbs(finished: RunResult) -> dict[str, int]:
    """Return the number of actions by verb."""
    return {verb: sum(results.values()) for verb, results in finished.report["outcomes"].items()}


def messages(finished: RunResult) -> str:
    """Return the report's manual steps and failures as one text."""
    return json.dumps([finished.report["manual"], finished.report["failures"]], ensure_ascii=False)


def export_bucket(cloud: LocalGcp) -> dict[str, Any]:
    """Return the export bucket's document as Cloud Storage returns it."""
    return dict(cloud.world.buckets.find(f"tailpipe-billing-export-{cloud.project}").document)


def manifest(cloud: LocalGcp, account: str, day: str, kind: str = "standard") -> dict[str, Any]:
    """Return a partition's manifest."""
    found: dict[str, Any] = json.loads(cloud.read_object(f"{account}/{day}/{kind}/manifest.json"))
    return found


def differences(cloud: LocalGcp, account: str, day: str, kind: str, folder: Path) -> tuple[int, int]:
    """Compare a partition with the files that its manifest names.

    Return the number of rows that only the partition has, and the number that only the files have; a duplicate row
    counts. The files are fetched by their names in the manifest, as a reader would, and read with DuckDB.
    """
    world = cloud.world
    bucket = world.buckets.find(f"tailpipe-billing-export-{cloud.project}")
    paths = []
    for number, file in enumerate(manifest(cloud, account, day, kind)["files"]):
        content = bucket.objects.get(bucket.name, file["name"]).content
        path = folder / f"{account}-{day}-{kind}-{number}.parquet"
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        paths.append(str(path))
    table = world.catalog.dataset(cloud.project, "billing_export").tables[EXPORTS[kind].table_of(account)]
    names = ", ".join(f'"{field["name"]}"' for field in table.fields)
    partition = f"SELECT {names} FROM {table.rows} WHERE _table = {table.uid} AND _PARTITIONTIME = TIMESTAMP '{day}'"  # noqa: S608 - only names from this test
    copied = f"SELECT {names} FROM read_parquet({paths})"  # noqa: S608 - only names from this test
    counts = [
        world.warehouse.query(f"SELECT count(*) FROM (({one}) EXCEPT ALL ({other}))")[0][0]  # noqa: S608 - only names from this test
        for one, other in ((partition, copied), (copied, partition))
    ]
    return counts[0], counts[1]


def broken_manifests(cloud: LocalGcp) -> list[str]:
    """Return the manifests that would mislead a reader: a file is missing, or the row counts do not add up."""
    names = set(cloud.copies())
    wrong = []
    for name in names:
        if name.endswith("/manifest.json"):
            files = (document := json.loads(cloud.read_object(name)))["files"]
            if any(file["name"] not in names for file in files) or document["rows"] != sum(
                one["rows"] for one in files
            ):
                wrong.append(name)
    return wrong
