"""State machines, their executions, and the Map Runs of a Distributed Map, as the local Step Functions store them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from localcloud.aws.arns import Where

UNSUCCESSFUL = ("FAILED", "ABORTED", "TIMED_OUT")


@dataclass
class Machine:
    """A state machine."""

    arn: str
    name: str
    role: str
    definition: str
    created: datetime
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def where(self) -> Where:
        return Where(self.arn.split(":")[4], self.arn.split(":")[3])


@dataclass(eq=False)
class Execution:
    """An execution, or a child workflow of `map_run`.

    `position` is the state that runs next, or that failed, with its input. `attempt` changes when the execution is
    stopped or redriven, and ends what ran before. `transitions` counts what AWS charges for.
    """

    arn: str
    machine: Machine
    definition: Mapping[str, Any]
    input: Any
    started: datetime
    position: tuple[str, Any]
    map_run: MapRun | None = None
    status: str = "RUNNING"
    stopped: datetime | None = None
    output: Any = None
    error: str = ""
    cause: str = ""
    attempt: int = 0
    redrives: int = 0
    redriven: datetime | None = None
    transitions: int = 0
    map_runs: dict[str, MapRun] = field(default_factory=dict)  # the newest, by the name of the Map state
    since: float = 0.0  # the monotonic time of the start or the redrive

    @property
    def name(self) -> str:
        return self.arn.rpartition(":")[2]


@dataclass(eq=False)
class MapRun:
    """The children of a Distributed Map; those without a start are pending."""

    arn: str
    execution: Execution
    started: datetime
    concurrency: int
    tolerated: float
    children: list[Execution]
    pending: set[str]
    status: str = "RUNNING"
    stopped: datetime | None = None
    written: int = 0

    def count(self, *statuses: str) -> int:
        return sum(one.status in statuses and one.arn not in self.pending for one in self.children)

    @property
    def exceeded(self) -> bool:
        return 100 * self.count("FAILED", "TIMED_OUT") > self.tolerated * len(self.children)


def result_record(child: Execution) -> dict[str, Any]:
    """Return the record of a child workflow in a result file. Source: "ResultWriter" in the developer guide."""
    shown = {
        "ExecutionArn": child.arn,
        "Name": child.name,
        "StateMachineArn": child.machine.arn,
        "Status": child.status,
        "Input": json.dumps(child.input),
        "InputDetails": {"Included": True},
        "StartDate": child.started.isoformat(),
        "RedriveCount": child.redrives,
    }
    ended = {"StopDate": child.stopped.isoformat()} if child.stopped else {}
    if child.status == "SUCCEEDED":
        return {**shown, **ended, "Output": json.dumps(child.output), "OutputDetails": {"Included": True}}
    return {**shown, **ended, "Error": child.error, "Cause": child.cause}
