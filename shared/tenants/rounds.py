"""A round is one pass over all tenants: its begin and its end; the engine between them is the cloud's.

A round that is killed leaves rows behind: its report counts what it reached, and the next round begins with the tenants
that have waited longest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from shared.errors import RequestError
from shared.metrics import Metric, Unit
from shared.report import DEGRADED, FAILED, LONGEST_LIST, OK
from shared.request import round_start
from shared.runtime.clock import Clock
from shared.runtime.log import Sink
from shared.state.store import JSON
from shared.tenants.registry import MAX_BYTES, Rules, Tenant, TenantRegistry, parse_registry, too_large
from shared.tenants.rows import (
    REFUSED,
    REGISTRY,
    REGISTRY_REMEDY,
    ROUNDS,
    STATUSES,
    FleetDocuments,
    Row,
    read_rows,
    waiting_since,
)

NOT_RUN = "not_run"
NEVER = datetime(1, 1, 1, tzinfo=UTC)


class Round(msgspec.Struct, frozen=True):
    """A round that begins: its tenants in the order in which they are due, and how many are left out."""

    id: str
    tenants: tuple[str, ...]
    paused: int
    refused: int

    def answer(self) -> dict[str, Any]:
        """Return the round as the coordinator's engine receives it."""
        return {"round": self.id, "tenants": list(self.tenants), "paused": self.paused, "refused": self.refused}


def read_registry(documents: FleetDocuments, rules: Rules) -> TenantRegistry:
    """Return the registry of one cloud. Raises RegistryError, RequestError if there is none, CloudError."""
    blob = documents.load(MAX_BYTES, REGISTRY)
    if blob.version is None:
        raise RequestError(["there is no tenant registry; add a tenant first (tenants add)"])
    if blob.size > MAX_BYTES:
        raise too_large(blob.size)
    return parse_registry(blob.data, rules)


def begin_round(documents: FleetDocuments, registry: TenantRegistry, run_id: str, sink: Sink) -> Round:
    """Return the tenants of a new round, whose id is `run_id`: never run first, then the longest waiting.

    Tenants whose entry is wrong are logged and left out. Raises CloudError.
    """
    for tenant, faults in registry.refused.items():
        sink("error", "tenant-refused", {"tenant": tenant, "code": REFUSED, "reason": "; ".join(faults)[:500]})
    active = [one.id for one in registry.tenants.values() if not one.paused]
    written = waiting_since(documents)
    due = sorted(active, key=lambda tenant: (written.get(tenant, NEVER), tenant))
    return Round(run_id, tuple(due), len(registry.tenants) - len(active), len(registry.refused))


def end_round(
    documents: FleetDocuments,
    rules: Rules,
    round_id: str,
    clock: Clock,
    sink: Sink,
    workers: int = 8,
    may_begin: Callable[[], bool] = lambda: True,
) -> dict[str, Any]:
    """Store and return the report of a round; a second call for the same round replaces it.

    Keys: `round`, `cloud`, `started_at`, `ended_at`, `duration_s`, `status`; `tenants` counts {total, ok, degraded,
    failed, unreachable, refused, paused, not_run}, which add up to `total`; `scopes` and `calls` are sums over the
    rows, `most_calls` is {quota: calls of the tenant with most of them}; `rows` has one row for each tenant that is not
    paused: that of the round, or with the status ``not_run`` one without a run. Each row is also logged, with the
    tenant's labels, for dashboards. Raises RegistryError, RequestError, CloudError.
    """
    registry = read_registry(documents, rules)
    started, now = round_start(round_id), clock.now()
    active = [one.id for one in registry.tenants.values() if not one.paused]
    known = read_rows(documents, active, workers, may_begin, sink)
    rows = [_in_round(tenant, known.get(tenant), round_id, started) for tenant in sorted(active)]
    rows += [_refused(tenant, faults, round_id) for tenant, faults in sorted(registry.refused.items())]
    statuses = Counter(row["status"] for row in rows)
    paused = len(registry.tenants) - len(active)
    report = {
        "round": round_id,
        "cloud": rules.cloud,
        "started_at": f"{started:%Y-%m-%dT%H:%M:%SZ}",
        "ended_at": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "duration_s": round((now - started).total_seconds(), 3),
        "status": _status(statuses, len(rows)),
        "tenants": {
            "total": len(rows) + paused,
            **{status: statuses[status] for status in STATUSES},
            "paused": paused,
            "not_run": statuses[NOT_RUN],
        },
        "scopes": _total(row["scopes"] for row in rows),
        "calls": _total(row["calls"] for row in rows),
        "most_calls": _most(row["calls"] for row in rows),
        "rows": rows,
    }
    documents.put(f"{ROUNDS}{round_id}.json", msgspec.json.encode(report), JSON)
    for row in rows:
        _log_row(row, registry.tenants.get(row["tenant"]), report, sink)
    return report


def short_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a round's report for an answer of limited size: only rows that are not ok, and the first of them."""
    wrong = [row for row in report["rows"] if row["status"] != OK]
    return {**report, "rows": wrong[:LONGEST_LIST], "rows_left_out": len(report["rows"]) - len(wrong[:LONGEST_LIST])}


def metrics_of_round(report: Mapping[str, Any]) -> tuple[Metric, ...]:
    """Return the metrics of a round: its tenants by status, and how long it took."""
    counts = (Metric(f"tenants_{name}", number) for name, number in report["tenants"].items())
    return (*counts, Metric("round_duration", report["duration_s"], Unit.SECONDS))


def _log_row(row: Mapping[str, Any], tenant: Tenant | None, report: Mapping[str, Any], sink: Sink) -> None:
    scopes = row["scopes"]
    fields = {
        "cloud": report["cloud"],
        "round": report["round"],
        "tenant": row["tenant"],
        "status": row["status"],
        "code": row["failures"][0]["code"] if row["failures"] else "",
        **{name: scopes.get(name, 0) for name in ("active", "covered")},
        "duration_s": row["duration_s"],
        "labels": dict(tenant.labels) if tenant else {},
    }
    sink("info", "tenant-row", fields)


def _in_round(tenant: str, row: Row | None, round_id: str, started: datetime) -> dict[str, Any]:
    """Return a tenant's row if it is of this round, or of another run that ended since the round began."""
    if row is not None and (row.round == round_id or row.ended_at >= f"{started:%Y-%m-%dT%H:%M:%SZ}"):
        return msgspec.to_builtins(row)  # type: ignore[no-any-return]  # a struct becomes a dict
    last = {"last_status": row.status, "last_ended_at": row.ended_at} if row else {}
    return {**msgspec.to_builtins(Row(tenant, NOT_RUN, "", "", "", round_id, invocations=0)), **last}


def _refused(tenant: str, faults: tuple[str, ...], round_id: str) -> dict[str, Any]:
    failures = tuple({"code": REFUSED, "message": fault, "remedy": REGISTRY_REMEDY} for fault in faults)
    row = Row(tenant, REFUSED, "", "", "", round_id, invocations=0, failures=failures)
    return msgspec.to_builtins(row)  # type: ignore[no-any-return]  # a struct becomes a dict


def _status(statuses: Mapping[str, int], rows: int) -> str:
    if statuses[OK] == rows:
        return OK
    return DEGRADED if statuses[OK] or statuses[DEGRADED] else FAILED


def _total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))


def _most(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    most: dict[str, int] = {}
    for one in counts:
        for quota, calls in one.items():
            most[quota] = max(most.get(quota, 0), calls)
    return dict(sorted(most.items()))
