"""Reads of metrics, machines and log lines: this project has no machine and stores no lines."""

from __future__ import annotations

import re

from localcloud.gcp.context import Answer, Context, Handler
from localcloud.gcp.errors import GoogleError

_METRIC = re.compile(r"metric\.type\s*=\s*(\"[^\"]+\"|starts_with\(\"[^\"]+\"\))")


# difference: GCP-9
class ComputeStub:
    """Reads of Cloud Monitoring, Compute Engine and Cloud Logging."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {
            "logging.entries.list": self._lines,
            "monitoring.projects.timeSeries.list": self._series,
            "compute.instances.aggregatedList": self._machines,
        }

    def _series(self, context: Context) -> Answer:
        context.need("monitoring.timeSeries.list", _project(context), _denied("monitoring.timeSeries.list"))
        context.world.check_project(context.ids[-1])
        if not _METRIC.search(context.request.one("filter")):
            raise GoogleError(400, "badRequest", "Field filter had an invalid value: it must name a metric.type.")
        if not context.request.one("interval.endTime"):
            raise GoogleError(400, "badRequest", "Field interval.endTime had an invalid value: it must be set.")
        return {}

    # difference: GCP-16
    def _lines(self, context: Context) -> Answer:
        """Return no lines: those of the function are on the standard output of the process that serves it."""
        names = [str(one) for one in context.body.get("resourceNames") or ()]
        if not names:
            raise GoogleError(400, "badRequest", "resource_names must be specified.")
        for name in names:
            context.need("logging.logEntries.list", "/".join(name.split("/")[:2]), _denied("logging.logEntries.list"))
        return {}

    def _machines(self, context: Context) -> Answer:
        context.need("compute.instances.list", _project(context), _denied("compute.instances.list"))
        project = context.world.check_project(context.ids[0])
        return {"kind": "compute#instanceAggregatedList", "id": f"projects/{project.id}/aggregated/instances"}


def _project(context: Context) -> str:
    return f"projects/{context.ids[-1]}"


def _denied(permission: str) -> str:
    return f"Permission '{permission}' denied (or it may not exist)."
