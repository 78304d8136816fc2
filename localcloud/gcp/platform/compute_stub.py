"""Reads of metrics and virtual machines: the project has none."""

from __future__ import annotations

import re

from localcloud.gcp.context import Answer, Context, Handler
from localcloud.gcp.errors import GoogleError

_METRIC = re.compile(r"metric\.type\s*=\s*(\"[^\"]+\"|starts_with\(\"[^\"]+\"\))")


# difference: GCP-9
class ComputeStub:
    """Reads of Cloud Monitoring and Compute Engine."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {
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

    def _machines(self, context: Context) -> Answer:
        context.need("compute.instances.list", _project(context), _denied("compute.instances.list"))
        project = context.world.check_project(context.ids[0])
        return {"kind": "compute#instanceAggregatedList", "id": f"projects/{project.id}/aggregated/instances"}


def _project(context: Context) -> str:
    return f"projects/{context.ids[-1]}"


def _denied(permission: str) -> str:
    return f"Permission '{permission}' denied (or it may not exist)."
