"""Rounds over tenants in one process: the local Step Functions call the real handler, each with its own role."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from aws_lambda.handler import handler
from localcloud.aws.arns import Where
from localcloud.aws.cloud import LocalAws
from localcloud.aws.iam.sessions import credentials
from localcloud.aws.platform.deployment import FUNCTION, ROUNDS
from localcloud.aws.runtime.lambda_runtime import Invocation
from tests.aws_lambda.tenants import Provider


class Rounds(Provider):
    """A deployment with `fleet` whose state machine calls the handler in this process, under the function's role.

    `events` are the calls in their order; `before` is called with each of them first. An invocation has `seconds`; a
    round may take `limit_s` seconds of this machine.
    """

    def __init__(self, cloud: LocalAws, monkeypatch: pytest.MonkeyPatch, concurrency: int = 1) -> None:
        super().__init__(cloud)
        self.events: list[Any] = []
        self.before: Callable[[Any], None] = lambda _event: None
        self.seconds, self.limit_s = 300.0, 60.0
        role = f"arn:aws:iam::{cloud.account}:role/{FUNCTION}"
        session = cloud.world.sessions.assume(
            "lambda.amazonaws.com", role, FUNCTION, Where(cloud.account, cloud.region)
        )
        for name, value in {**cloud.environment(), **credentials(session)}.items():
            monkeypatch.setenv(name, value)
        cloud.world.functions.stand_in = self._invoke
        self.rounds_role = f"arn:aws:iam::{cloud.account}:role/{ROUNDS}"
        self.machine = f"arn:aws:states:{cloud.region}:{cloud.account}:stateMachine:{ROUNDS}"
        self.concurrency = concurrency
        machine = cloud.world.state_machines.machines[self.machine]
        machine.definition = machine.definition.replace('"MaxConcurrency": 40', f'"MaxConcurrency": {concurrency}')

    def _invoke(self, event: Any, request_id: str) -> Invocation:
        self.events.append(event)
        self.before(event)
        try:
            context: Any = _Context(self)
            payload = handler(event, context, clock=self.cloud.clock)
        except Exception as error:  # noqa: BLE001 - the Lambda runtime reports every exception
            failure = {"errorType": type(error).__name__, "errorMessage": str(error)}
            return Invocation(request_id, None, failure, (), 0.0, "", None)
        # As JSON, which is what Lambda passes on.
        return Invocation(request_id, json.loads(json.dumps(payload)), None, (), 0.0, "", None)

    def round(self) -> dict[str, Any]:
        """Start a round by its schedule, and return the description of its execution."""
        done = self.cloud.fire_schedule(ROUNDS, ROUNDS, limit_s=self.limit_s)
        return self.execution(done["run"]["execution"])

    def execution(self, arn: str) -> dict[str, Any]:
        """Wait for an execution, and return its description."""
        self.cloud.await_executions()
        return dict(self.cloud.client("stepfunctions").describe_execution(executionArn=arn))

    def report(self, execution: Mapping[str, Any]) -> dict[str, Any]:
        """Return the stored report of a round."""
        assert execution["status"] == "SUCCEEDED", execution
        return self._document(f"runs/rounds/{json.loads(execution['output'])['round']}.json")

    def row(self, tenant: str) -> dict[str, Any]:
        """Return the stored row of a tenant."""
        return self._document(f"state/rows/{tenant}.json")

    def _document(self, key: str) -> dict[str, Any]:
        with self.cloud.client("s3").get_object(Bucket=self.bucket, Key=key)["Body"] as body:
            found: dict[str, Any] = json.loads(body.read())
        return found

    def statuses(self, execution: Mapping[str, Any]) -> dict[str, str]:
        """Return the status of each tenant in the report of a round."""
        return {row["tenant"]: row["status"] for row in self.report(execution)["rows"]}


class _Context:
    def __init__(self, rounds: Rounds) -> None:
        self._seconds = rounds.seconds
        self.invoked_function_arn = f"arn:aws:lambda:{rounds.cloud.region}:{rounds.cloud.account}:function:{FUNCTION}"

    def get_remaining_time_in_millis(self) -> int:
        return int(self._seconds * 1000)
