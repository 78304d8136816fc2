"""A run's figures as one log line, for the alarms of clouds that make their metrics from logs."""

from __future__ import annotations

from typing import Any

from shared.coverage import CLASSES
from shared.reconcile import RunResult
from shared.runtime.clock import Clock
from shared.runtime.log import Sink


def log_metrics(sink: Sink, finished: RunResult, clock: Clock) -> None:
    """Write the event ``figures``: status, counts of scopes and calls, and durations in seconds."""
    report = finished.report
    figures: dict[str, Any] = {
        "status": report["status"],
        **metrics_of(finished),
        "calls": sum(report["calls"].values()),
        "duration": report["duration_s"],
    }
    if finished.last_success:
        figures["seconds_since_last_success"] = max(0.0, (clock.now() - finished.last_success).total_seconds())
    sink("info", "figures", {"run_id": report["run_id"], "cloud": report["cloud"], **figures})


def metrics_of(finished: RunResult) -> dict[str, int]:
    """Return a run's counts of scopes for metrics.

    `missing` are the active ones that are neither covered, on their way, nor excluded; `manual` are all that have a
    step for a person, those included that count as no scope; `newly_excluded` as in `RunResult`.
    """
    report = finished.report
    scopes = report["scopes"]
    return {
        **{name: scopes[name] for name in CLASSES},
        "missing": scopes["active"] - scopes["covered"] - scopes["pending"] - scopes["excluded"],
        "manual": len({one["scope"] for one in report["manual"]}),
        "newly_excluded": len(finished.newly_excluded),
        "delivering": scopes["delivering"],
        "awaiting_first_data": scopes["awaiting_first_data"],
        "deliveries_new": report["deliveries"]["new"],
        "deliveries_late": report["deliveries"]["late"],
        "deliveries_missing": report["deliveries"]["missing"],
    }
