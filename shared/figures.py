"""A run's figures as one log line, for the alarms of clouds that make their metrics from logs."""

from __future__ import annotations

from typing import Any

from shared.clock import Clock
from shared.log import Sink
from shared.reconcile import Finished


def log_figures(sink: Sink, finished: Finished, clock: Clock) -> None:
    """Write the event ``figures``: status, counts of scopes and calls, and durations in seconds."""
    report = finished.report
    scopes = report["scopes"]
    figures: dict[str, Any] = {
        "status": report["status"],
        "covered": scopes["covered"],
        "missing": scopes["active"] - scopes["covered"],
        **{name: scopes[name] for name in ("failed", "deferred", "manual")},
        "calls": sum(report["calls"].values()),
        "duration": report["duration_s"],
    }
    if finished.last_success:
        figures["seconds_since_last_success"] = max(0.0, (clock.now() - finished.last_success).total_seconds())
    sink("info", "figures", {"run_id": report["run_id"], "cloud": report["cloud"], **figures})
