"""Starts a round over the tenants on Step Functions, and follows it to its report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from cli.deployment.aws.functions import settings_of
from cli.deployment.aws.session import Session, gone, message_of, refused
from cli.deployment.model import OperatorError, Problem
from cli.deployment.operator import Tell

AGAIN_S = 5.0
RIGHTS = "states:StartExecution, ListExecutions, DescribeExecution, ListMapRuns and DescribeMapRun"


def round_report(session: Session, tell: Tell, sleep: Callable[[float], None]) -> dict[str, Any]:
    """Start a round, or take the one in progress, and return its report once it has ended.

    Shows one line whenever the number of finished tenants has changed. Raises OperatorError, ClientError.
    """
    client = session.aws.client("stepfunctions")
    while True:
        ended = _followed(client, _execution(session, client, tell), tell, sleep)
        output = json.loads(ended.get("output") or "{}")
        if ended["status"] != "SUCCEEDED":
            raise OperatorError(_unsuccessful(ended))
        # Without a report it was left to a round that began in the same moment.
        if "round" in output:
            return _stored(session, output)


def state_machine(session: Session) -> str:
    """Return the ARN of the state machine of a deployment's rounds."""
    place = f"{session.aws.region}:{session.place.id}"
    return f"arn:{session.aws.partition}:states:{place}:stateMachine:{session.function}-rounds"


def _execution(session: Session, client: Any, tell: Tell) -> str:
    machine = state_machine(session)
    try:
        running = client.list_executions(stateMachineArn=machine, statusFilter="RUNNING")["executions"]
        if running:
            tell("a round is already in progress")
            return str(running[-1]["executionArn"])
        given = json.dumps({"source": "operator"})
        return str(client.start_execution(stateMachineArn=machine, input=given)["executionArn"])
    except ClientError as error:
        if gone(error):
            what = f"function {session.function} serves no tenants: there is no state machine {session.function}-rounds"
            raise OperatorError(Problem(what, "Deploy it with --var fleet=true.")) from error
        remedy = f"Grant {RIGHTS}." if refused(error) else "See tailpipe-exports doctor aws."
        raise OperatorError(Problem(message_of(error), remedy)) from error


def _followed(client: Any, execution: str, tell: Tell, sleep: Callable[[float], None]) -> dict[str, Any]:
    shown = ""
    while True:
        ended: dict[str, Any] = client.describe_execution(executionArn=execution)
        progress = _progress(client, execution)
        if progress and progress != shown:
            tell(progress)
            shown = progress
        if ended["status"] != "RUNNING":
            return ended
        sleep(AGAIN_S)


def _progress(client: Any, execution: str) -> str:
    """Return how many tenants the newest pass has served, "" before the first one."""
    passes = client.list_map_runs(executionArn=execution)["mapRuns"]
    if not passes:
        return ""
    newest = max(passes, key=lambda one: one["startDate"])
    counts = client.describe_map_run(mapRunArn=newest["mapRunArn"])["itemCounts"]
    done = counts["total"] - counts["pending"] - counts["running"]
    again = f"pass {len(passes)}: " if len(passes) > 1 else ""
    failed = f", {counts['failed']} without an answer" if counts["failed"] else ""
    return f"{again}{done} of {counts['total']} tenants{failed}"


def _unsuccessful(ended: Mapping[str, Any]) -> Problem:
    why = ": ".join(str(ended[name]) for name in ("error", "cause") if ended.get(name)) or "no reason given"
    arn = ended["executionArn"]
    return Problem(
        f"the round ended as {ended['status']}: {why[:1000]}",
        "Read the function's log (tailpipe-exports logs aws) and correct the cause. Then call again, or continue this "
        f"round: aws stepfunctions redrive-execution --execution-arn {arn}",
    )


def _stored(session: Session, output: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored report of a round; what the engine returned if it cannot be read."""
    settings = settings_of(session)
    client, bucket = session.aws.client("s3", settings.bucket_region), settings.bucket_of(session.place.id)
    try:
        with client.get_object(**session.owned(bucket), Key=f"runs/rounds/{output['round']}.json")["Body"] as body:
            found = json.loads(body.read())
    except (ClientError, ValueError):
        return dict(output)
    return found if isinstance(found, dict) and "rows" in found else dict(output)
