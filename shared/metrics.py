"""The metrics of a run: one list for all clouds; each cloud publishes them in its own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from shared.model import CLASSES, WRITES, Result
from shared.report import DEGRADED
from shared.runtime.log import Sink

FRESHNESS = "freshness_lag_hours"
EVENT_TO_HEALED = "event_to_healed"  # seconds from the first event to the end of a run that made a write for it
CALLS_BY_QUOTA = "calls_by_quota"  # in addition to the metrics: {quota: calls}, a series each on dashboards


class Unit(StrEnum):
    """What a metric counts."""

    COUNT = "count"
    SECONDS = "seconds"
    HOURS = "hours"


class Metric(msgspec.Struct, frozen=True):
    """One metric of a run."""

    name: str
    value: float
    unit: Unit = Unit.COUNT


class Unpublished(msgspec.Struct, frozen=True):
    """What a run could not publish: messages that the webhook did not accept, and deliveries not announced."""

    messages: int = 0
    deliveries: int = 0


NOTHING_LEFT = Unpublished()


def metrics_of(
    report: Mapping[str, Any],
    newly_excluded: int,
    last_success: datetime | None,
    now: datetime,
    freshness_lag: timedelta | None = None,
    left: Unpublished = NOTHING_LEFT,
) -> tuple[Metric, ...]:
    """Return the metrics of a run that ended at `now` with this report.

    `missing` are the active scopes that are neither covered, pending, nor excluded; `manual` are all scopes with a
    manual step, including those that are not counted; `newly_excluded` as in `RunResult`; `freshness_lag` as in
    `shared.state.summary`; `left` is what the run did not publish. An unknown time has no metric.
    """
    scopes, deliveries = report["scopes"], report["deliveries"]
    counts = {
        **{name: scopes[name] for name in CLASSES},
        "missing": scopes["active"] - scopes["covered"] - scopes["pending"] - scopes["excluded"],
        "manual": len({one["scope"] for one in report["manual"]}),
        "newly_excluded": newly_excluded,
        "delivering": scopes["delivering"],
        "awaiting_first_data": scopes["awaiting_first_data"],
        "deliveries_new": deliveries["new"],
        "deliveries_late": deliveries["late"],
        "deliveries_missing": deliveries["missing"],
        "calls": sum(report["calls"].values()),
        "deliveries_unannounced": left.deliveries,
        "messages_unsent": left.messages,
        "degraded": int(report["status"] == DEGRADED),
    }
    times = {"duration": report["duration_s"]}
    if has_healed(report):
        times[EVENT_TO_HEALED] = report["events"]["latency_s"]
    if last_success is not None:
        times["seconds_since_last_success"] = max(0.0, (now - last_success).total_seconds())
    hours = {} if freshness_lag is None else {FRESHNESS: round(freshness_lag.total_seconds() / 3600, 2)}
    return (
        *(Metric(name, value) for name, value in counts.items()),
        *(Metric(name, value, Unit.SECONDS) for name, value in times.items()),
        *(Metric(name, value, Unit.HOURS) for name, value in hours.items()),
    )


def has_healed(report: Mapping[str, Any]) -> bool:
    """Return whether the run was for events, at least one of them with a time, and a write was accepted."""
    if report.get("events", {}).get("latency_s") is None:
        return False
    outcomes = report["outcomes"]
    return any(outcomes.get(verb, {}).get(result, 0) for verb in WRITES for result in (Result.DONE, Result.PENDING))


def log_metrics(sink: Sink, report: Mapping[str, Any], metrics: Sequence[Metric]) -> None:
    """Write the event ``figures``, from which alarms derive their metrics; write nothing without metrics."""
    if metrics:
        head = {name: report[name] for name in ("run_id", "cloud", "status", "trigger")}
        values = {one.name: one.value for one in metrics}
        sink("info", "figures", {**head, **values, CALLS_BY_QUOTA: report["calls"]})
