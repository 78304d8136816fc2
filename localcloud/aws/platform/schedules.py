"""EventBridge Scheduler: moto stores the schedules, which start functions and state machines on request.

Schedules do not fire on time; a test or a demo fires them. As on AWS, Scheduler then assumes the schedule's role,
invokes the target with it, and sends undeliverable events to the dead-letter queue. Refused invocations are not
retried. Source: "Setting up", "Confused deputy prevention", "Configuring a schedule's dead-letter queue" and
"Adding context attributes" in the EventBridge Scheduler User Guide.
"""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

from botocore.exceptions import ClientError
from moto.scheduler.exceptions import ScheduleGroupNotFound, ScheduleNotFound
from moto.scheduler.models import scheduler_backends

from localcloud.aws.arns import Where
from localcloud.aws.errors import AwsError
from localcloud.aws.iam.sessions import Sessions, send
from localcloud.aws.platform.state_machines import StateMachines
from localcloud.aws.runtime.function_logs import add_schedule_metrics
from localcloud.aws.runtime.functions import Functions
from shared.runtime.clock import Clock

PRINCIPAL = "scheduler.amazonaws.com"


def _field(value: str, more: str = "") -> str:
    """Return the pattern of a cron field: values, ranges and steps, or what else the field takes."""
    part = rf"(\*|{value})(-{value})?(/\d+)?"
    return rf"({part}(,{part})*{more})"


_DAY, _WEEKDAY = r"(0?[1-9]|[12]\d|3[01])", "([1-7]|SUN|MON|TUE|WED|THU|FRI|SAT)"
_CRON = (
    _field(r"[0-5]?\d"),
    _field(r"([01]?\d|2[0-3])"),
    _field(_DAY, rf"|\?|L|LW|{_DAY}W"),
    _field("(0?[1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)"),
    _field(_WEEKDAY, rf"|\?|{_WEEKDAY}?L|{_WEEKDAY}#[1-5]"),
    _field(r"(19[7-9]\d|2[01]\d\d)"),
)
_OTHERS = (r"rate\([1-9]\d* (minute|hour|day)s?\)", r"at\(\d{4}(-\d\d){2}T\d\d(:\d\d){2}\)")


def check_expression(expression: str) -> None:
    """Raise AwsError for an expression that Scheduler refuses.

    Sources: "Schedule types in EventBridge Scheduler" in its User Guide; the words in localstack/localstack#9284.
    """
    cron = re.fullmatch(rf"cron\({' '.join(_CRON)}\)", expression)
    # One of the days, that of the month or that of the week, has to be "?".
    if (cron and expression.count("?") == 1) or any(re.fullmatch(one, expression) for one in _OTHERS):
        return
    raise AwsError("ValidationException", f"Invalid Schedule Expression {expression}.", 400)


class Schedules:
    """Fires schedules whose target is a function or a state machine."""

    def __init__(self, clock: Clock, sessions: Sessions, functions: Functions, machines: StateMachines) -> None:
        self._clock = clock
        self._sessions = sessions
        self._functions = functions
        self._machines = machines

    def fire(self, where: Where, name: str, group: str = "default", limit_s: float = 60) -> dict[str, Any]:
        """Fire a schedule and wait, at most `limit_s` seconds, until the function has finished.

        Returns `{schedule, fired, delivered, error, dead_lettered, run}`. `fired` is false if the schedule is not
        ENABLED; `run` is the result of the event (see `QueuedEvent.as_json`), or None if it was not delivered. Raises
        KeyError if the schedule does not exist, TimeoutError if the function has not finished.
        """
        try:
            schedule = scheduler_backends[where.account][where.region].get_schedule(group, name)
        except (ScheduleNotFound, ScheduleGroupNotFound) as error:
            raise KeyError(f"no schedule {name!r} in group {group!r} in {where.region}") from error
        result: dict[str, Any] = {"schedule": schedule.arn, "fired": schedule.state == "ENABLED", "delivered": False}
        result |= {"error": None, "dead_lettered": False, "run": None}
        if not result["fired"]:
            return result
        add_schedule_metrics(where, group, InvocationAttemptCount=1)
        execution = uuid.uuid4().hex
        body = self._input(schedule, where, execution)
        session = None
        try:
            session = self._session(schedule, where)
            request_id = self._invoke(session, schedule.target, body)
        except (AwsError, ClientError) as error:
            code, message = _code_and_message(error)
            result["error"] = f"{code}: {message}"
            add_schedule_metrics(where, group, TargetErrorCount=1)
            result["dead_lettered"] = self._dead_letter(schedule, session, body, (code, message, execution))
            outcome = "InvocationsSentToDeadLetterCount" if result["dead_lettered"] else "InvocationDroppedCount"
            add_schedule_metrics(where, group, **{outcome: 1})
            return result
        if request_id in self._machines.executions:
            self._machines.wait(request_id, limit_s)
            started = self._machines.executions[request_id]
            shown = {"execution": started.arn, "status": started.status, "error": started.error or None}
            return result | {"delivered": True, "run": shown}
        (run,) = self._functions.wait(request_id, limit_s)
        return result | {"delivered": True, "run": run.as_json()}

    def _session(self, schedule: Any, where: Where) -> Any:
        # Scheduler sets aws:SourceArn to the group: a trust policy that requires a schedule's ARN never matches.
        partition = str(schedule.arn).split(":")[1]
        group = f"arn:{partition}:scheduler:{where.region}:{where.account}:schedule-group/{schedule.group_name}"
        context = {"aws:sourceaccount": where.account, "aws:sourcearn": group}
        return self._sessions.assume(PRINCIPAL, str(schedule.target["RoleArn"]), "scheduler", where, context)

    def _invoke(self, session: Any, target: dict[str, Any], body: str) -> str:
        arn = str(target["Arn"])
        fields = arn.split(":")
        if fields[2] == "states" and fields[5] == "stateMachine":
            started = self._sessions.client(session, "stepfunctions", fields[3]).start_execution(
                stateMachineArn=arn, input=body
            )
            return str(started["executionArn"])
        if fields[2] != "lambda" or fields[5] != "function":
            raise AwsError(
                "ValidationException", f"schedules of the local cloud target functions and state machines, not {arn}"
            )
        functions = self._sessions.client(session, "lambda", fields[3])
        response = functions.invoke(FunctionName=arn, InvocationType="Event", Payload=body)
        response["Payload"].read()  # an unread body keeps its connection open
        return str(response["ResponseMetadata"]["RequestId"])

    def _input(self, schedule: Any, where: Where, execution: str) -> str:
        now = f"{self._clock.now():%Y-%m-%dT%H:%M:%SZ}"
        template = schedule.target.get("Input")
        if template is None:
            origin = {"account": where.account, "time": now, "region": where.region, "resources": [schedule.arn]}
            kind = {"detail-type": "Scheduled Event", "source": "aws.scheduler", "detail": "{}"}
            return json.dumps({"version": "0", "id": str(uuid.uuid4())} | kind | origin)
        attributes = {"schedule-arn": schedule.arn, "scheduled-time": now, "execution-id": execution}
        text = str(template)
        for name, value in {**attributes, "attempt-number": "1"}.items():
            text = text.replace(f"<aws.scheduler.{name}>", str(value))
        return text

    def _dead_letter(self, schedule: Any, session: Any, body: str, failure: tuple[str, str, str]) -> bool:
        """Send an undelivered event to the dead-letter queue with the schedule's role; return whether it succeeded."""
        arn = (schedule.target.get("DeadLetterConfig") or {}).get("Arn")
        if not arn or session is None:
            return False
        code, message, execution = failure
        sent = {
            "ERROR_CODE": code,
            "ERROR_MESSAGE": message,
            "EXECUTION_ID": execution,
            "IS_PAYLOAD_TRUNCATED": "false",
            "RETRY_ATTEMPTS": "0",
            "SCHEDULE_ARN": str(schedule.arn),
            "TARGET_ARN": str(schedule.target["Arn"]),
        }
        try:
            send(self._sessions.client(session, "sqs", arn.split(":")[3]), arn, body, sent)
        except ClientError:
            return False
        return True


def _code_and_message(error: AwsError | ClientError) -> tuple[str, str]:
    if isinstance(error, AwsError):
        return error.code, error.message
    return str(error.response["Error"]["Code"]), str(error.response["Error"]["Message"])
