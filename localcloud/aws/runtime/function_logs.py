"""Write invocations to CloudWatch: log lines, the metrics embedded in them, and Lambda's own metrics.

Source: "Sending Lambda function logs to CloudWatch Logs" and "Types of metrics for Lambda functions" in the AWS
Lambda Developer Guide; "Specification: Embedded metric format" in the CloudWatch User Guide.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError
from moto.cloudwatch.models import cloudwatch_backends

from localcloud.aws.arns import Where
from localcloud.aws.iam.sessions import Sessions
from localcloud.aws.runtime.lambda_runtime import Invocation

_LINES_PER_CALL = 1000
_ABSENT = "ResourceNotFoundException"


class FunctionLogs:
    """Writes logs with the function's role, as Lambda does: without write permission, there are no logs."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._made: set[tuple[Where, str, str]] = set()

    def keep(self, function: Any, where: Where, session: Any, done: Invocation) -> None:
        """Write one invocation's lines and metrics."""
        failed = float(done.error is not None)
        name = str(function.function_name)
        add_function_metrics(where, name, Errors=failed, Duration=done.duration_s * 1000)
        if self._write(f"/aws/lambda/{name}", where, session, done, platform_lines(function, done)):
            for line in done.logs:
                add_embedded_metrics(where, line)

    def _write(self, group: str, where: Where, session: Any, done: Invocation, lines: list[str]) -> bool:
        logs = self._sessions.client(session, "logs", where.region)
        try:
            if (where, group, done.log_stream) not in self._made:
                self._make_stream(logs, group, done.log_stream)
                self._made.add((where, group, done.log_stream))
            for start in range(0, len(lines), _LINES_PER_CALL):
                now = int(time.time() * 1000)
                events = [{"timestamp": now, "message": line} for line in lines[start : start + _LINES_PER_CALL]]
                logs.put_log_events(logGroupName=group, logStreamName=done.log_stream, logEvents=events)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("AccessDeniedException", _ABSENT):
                raise
            # The group may have been deleted: the next invocation creates it again.
            self._made.discard((where, group, done.log_stream))
            return False
        return True

    def _make_stream(self, logs: Any, group: str, stream: str) -> None:
        """Create a stream, and the group if it is missing; other environments may do the same concurrently."""
        try:
            _make(logs.create_log_stream, logGroupName=group, logStreamName=stream)
        except ClientError as error:
            if error.response["Error"]["Code"] != _ABSENT:
                raise
            _make(logs.create_log_group, logGroupName=group)
            _make(logs.create_log_stream, logGroupName=group, logStreamName=stream)


def _make(create: Callable[..., Any], **named: str) -> None:
    try:
        create(**named)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceAlreadyExistsException":
            raise


def platform_lines(function: Any, done: Invocation) -> list[str]:
    """Return the function's log lines, framed by the lines that Lambda writes itself."""
    about = f"RequestId: {done.request_id}"
    milliseconds = done.duration_s * 1000
    memory = f"Memory Size: {function.memory_size} MB\tMax Memory Used: {done.peak_mb or 0:.0f} MB"
    report = f"REPORT {about}\tDuration: {milliseconds:.2f} ms\tBilled Duration: {milliseconds + 1:.0f} ms\t{memory}"
    killed = [str(done.error["errorMessage"])] if done.error and "stackTrace" not in done.error else []
    return [f"START {about} Version: $LATEST", *done.logs, *killed, f"END {about}", report]


def add_function_metrics(where: Where, name: str, **figures: float) -> None:
    """Add values to the AWS/Lambda metrics of a function."""
    dimensions = [{"Name": "FunctionName", "Value": name}]
    _put(where, "AWS/Lambda", [(metric, value, "", dimensions) for metric, value in figures.items()])


def add_schedule_metrics(where: Where, group: str, **figures: float) -> None:
    """Add values to the AWS/Scheduler metrics of a schedule group."""
    dimensions = [{"Name": "ScheduleGroup", "Value": group}]
    _put(where, "AWS/Scheduler", [(metric, value, "Count", dimensions) for metric, value in figures.items()])


def add_embedded_metrics(where: Where, line: str) -> None:
    """Add the metrics that a line in the embedded metric format holds; any other line has none."""
    try:
        document = json.loads(line)
        directives = document["_aws"]["CloudWatchMetrics"]
    except (ValueError, TypeError, KeyError):
        return
    for directive in directives:
        for names in directive.get("Dimensions") or [[]]:
            dimensions = [{"Name": name, "Value": str(document[name])} for name in names if name in document]
            figures = [
                (str(metric["Name"]), float(value), str(metric.get("Unit", "None")), dimensions)
                for metric in directive.get("Metrics", [])
                for value in _values(document.get(metric["Name"]))
            ]
            _put(where, str(directive["Namespace"]), figures)


def _values(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _put(where: Where, namespace: str, figures: list[tuple[str, float, str, list[dict[str, str]]]]) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    data: list[dict[str, Any]] = []
    for name, value, unit, dimensions in figures:
        datum = {"MetricName": name, "Value": value, "Timestamp": now, "Dimensions": dimensions}
        data.append(datum | ({"Unit": unit} if unit else {}))
    cloudwatch_backends[where.account][where.region].put_metric_data(namespace, data)
