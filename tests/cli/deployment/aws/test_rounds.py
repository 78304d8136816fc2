"""`round` of the operator port on AWS: a round is started on Step Functions and followed to its stored report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cli.deployment.model import OperatorError
from localcloud.aws.cloud import LocalAws
from tests.aws_lambda.rounds import Rounds
from tests.aws_lambda.support import local_aws
from tests.aws_lambda.tenants import Provider
from tests.cli.support.aws import account, at, sign_in, tailpipe


class Operated(Rounds):
    """A deployment whose operator is signed in with the account's credentials."""

    def __init__(self, cloud: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(cloud, monkeypatch)
        self.said: list[str] = []

    def operate(self) -> dict[str, Any]:
        """Start a round as the operator does."""
        return at(sleep=lambda _seconds: self.cloud.await_executions()).round(self.said.append)


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Operated]:
    """Return a deployment with two tenants; its function is created, and runs in this process."""
    with local_aws(accounts=2, fleet=True, package=bytes) as cloud:
        made = Operated(cloud, monkeypatch)
        for name in ("acme", "bolt"):
            made.add(name, shared=True)
        sign_in(cloud, monkeypatch)
        yield made


def test_round_returns_its_stored_report(rounds: Operated) -> None:
    """With a row for each tenant, and the number of served ones on the way."""
    report = rounds.operate()
    assert {row["tenant"]: row["status"] for row in report["rows"]} == {"acme": "ok", "bolt": "ok"}
    assert rounds.said == ["2 of 2 tenants"]
    assert [event for event in rounds.events if event.get("round") == {"step": "begin"}] == [
        {"round": {"step": "begin"}}
    ]


def test_round_in_progress_is_followed(rounds: Operated) -> None:
    """No second one is started."""
    followed: list[bool] = []

    def operate(event: Any) -> None:
        if event.get("tenant") == "bolt" and not followed:
            followed.append(True)
            with pytest.raises(StopFollowing):
                at().round(_stop)

    rounds.before = operate
    assert rounds.statuses(rounds.round()) == {"acme": "ok", "bolt": "ok"}
    executions = rounds.cloud.client("stepfunctions").list_executions(stateMachineArn=rounds.machine)["executions"]
    assert len(executions) == 1


class StopFollowing(Exception):
    """The operator interrupts."""


def _stop(line: str) -> None:
    if line == "a round is already in progress":
        raise StopFollowing


def test_one_tenant_is_run_by_the_deployed_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own role, which serves tenants."""
    with account(accounts=2, fleet=True) as cloud:
        provider = Provider(cloud)
        payer = provider.add("acme", shared=True)
        sign_in(cloud, monkeypatch)
        done = tailpipe("invoke", "aws", "--tenant", "acme", "--json")
        assert (done.exit_code, json.loads(done.stdout)["tenant"]) == (0, "acme"), done.output
        assert cloud.exports(account=payer) == {"tailpipe-dataexport": "HEALTHY"}
        assert cloud.accesses(f"arn:aws:iam::{cloud.account}:role/tailpipe-exports")


def test_report_of_a_tenants_failed_run_is_the_stored_one(rounds: Operated, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lambda's answer has only the message; the report is below the tenant's id."""
    run_id = "20260105T000000Z-0000002a"
    stored = {"run_id": run_id, "status": "failed", "tenant": "acme"}
    key = f"runs/tenants/acme/{run_id}.json"
    rounds.cloud.client("s3").put_object(Bucket=rounds.bucket, Key=key, Body=json.dumps(stored))
    answer = {"errorType": "RunFailed", "errorMessage": f"run {run_id} failed. bucket-foreign: of another account"}
    monkeypatch.setattr("cli.deployment.aws.invoke._call", lambda *_: ("", answer))
    assert at().invoke({"tenant": "acme"}, rounds.said.append) == stored


def test_deployment_without_rounds_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable that adds them."""
    with local_aws(accounts=2) as cloud:
        sign_in(cloud, monkeypatch)
        with pytest.raises(OperatorError, match="serves no tenants") as raised:
            at().round(print)
        assert raised.value.problems[0].remedy == "Deploy it with --var fleet=true."


def test_failed_round_is_reported_with_its_redrive(rounds: Operated) -> None:
    """The message has the error and its cause."""
    rounds.write({"not": "a registry"})
    rounds.cloud.client("s3").put_object(Bucket=rounds.bucket, Key="registry/tenants.json", Body=b"{")
    with pytest.raises(OperatorError, match=r"ended as FAILED: \w+: .*registry") as raised:
        rounds.operate()
    assert "aws stepfunctions redrive-execution --execution-arn arn:aws:states:" in raised.value.problems[0].remedy


def test_denied_operator_is_told_the_rights(rounds: Operated) -> None:
    """Each of them by name."""
    rounds.cloud.deny("states:ListExecutions")
    with pytest.raises(OperatorError) as raised:
        rounds.operate()
    assert "states:StartExecution" in raised.value.problems[0].remedy
    assert rounds.said == []
