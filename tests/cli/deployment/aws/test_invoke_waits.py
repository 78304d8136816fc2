"""`tailpipe-exports invoke aws` during another run, and with invalid requests."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import timedelta

import pytest

from aws_lambda.state_store import KEY
from cli.deployment.aws.invoke import LONGEST_WAIT_S
from cli.deployment.model import OperatorError
from localcloud.aws.cloud import LocalAws
from shared.state.session import LEASE
from tests.cli.support.aws import FUNCTION, account, at, hold, release, sign_in, stderr_of, tailpipe
from tests.cli.support.processes import TAILPIPE, call, local_aws
from tests.localcloud.control_client import ControlClient


@pytest.fixture(scope="module")
def lasting() -> Iterator[LocalAws]:
    """Return a deployment that tests share because its state does not matter to them."""
    with account(accounts=3) as cloud:
        yield cloud


@pytest.fixture
def busy(lasting: LocalAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """Return the shared deployment, signed in, and release its lock after the test."""
    sign_in(lasting, monkeypatch)
    yield lasting
    release(lasting)


def test_json_output_is_only_the_report(busy: LocalAws) -> None:
    """Standard output has the report that is stored in the bucket."""
    result = tailpipe("invoke", "aws", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["status"], report["dry_run"]) == (0, "ok", False)
    stored = busy.client("s3").get_object(Bucket=busy.deployment.bucket, Key=f"runs/{report['run_id']}.json")
    assert json.loads(stored["Body"].read()) == report
    assert "covered" not in result.stderr


def test_unknown_account_fails_with_a_remedy(busy: LocalAws) -> None:
    """A mistyped id is refused by name, and nothing is created."""
    result = tailpipe("invoke", "aws", "--scope", "999999999999", "--json")
    assert result.exit_code == 1
    assert "999999999999" in result.output
    assert "Check the id" in " ".join(result.output.split())


def test_invalid_request_makes_no_call(busy: LocalAws) -> None:
    """An empty id is refused locally."""
    busy.clear_calls()
    result = tailpipe("invoke", "aws", "--scope", "")
    assert (result.exit_code, busy.actions.calls()) == (1, [])
    assert "is empty, not an id" in stderr_of(result)


def test_missing_function_is_reported_with_both_remedies(busy: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not deployed, or has another name."""
    monkeypatch.setenv("TAILPIPE_EXPORTS_FUNCTION_NAME", "tailpipe-two")
    for command in ("invoke", "onboarding"):
        result = tailpipe(command, "aws")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "no function tailpipe-two is deployed here" in stderr_of(result)
        assert "tailpipe-exports deploy aws" in stderr_of(result)
        assert "TAILPIPE_EXPORTS_FUNCTION_NAME" in stderr_of(result)


def test_invoke_waits_for_the_lock_and_names_its_holder(busy: LocalAws) -> None:
    """The holder is named once, even if it renews its lock; the run starts once the lock is free."""
    hold(busy, 10, "20260101T000000Z-deadbeef")
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        busy.world.buckets.age(busy.deployment.bucket, KEY, timedelta(seconds=len(waits)))
        if len(waits) == 3:
            release(busy)

    operator = at(sleep)
    said: list[str] = []
    report = operator.invoke({}, said.append)
    assert report["status"] == "ok"
    assert len(waits) == 3
    (only,) = said
    assert "run 20260101T000000Z-deadbeef has held the lock since 20" in only


def test_expired_lock_does_not_block(busy: LocalAws) -> None:
    """The age of the document by the store's clock decides."""
    hold(busy, -1)
    busy.world.buckets.age(busy.deployment.bucket, KEY, LEASE)
    assert tailpipe("invoke", "aws").exit_code == 0


def test_invoke_waits_while_lambda_is_busy(busy: LocalAws) -> None:
    """With one reserved execution, Lambda refuses a second call until the first ends."""
    client = busy.client("lambda")
    client.put_function_concurrency(FunctionName=FUNCTION, ReservedConcurrentExecutions=0)

    def sleep(_seconds: float) -> None:
        client.put_function_concurrency(FunctionName=FUNCTION, ReservedConcurrentExecutions=1)

    operator = at(sleep)
    said: list[str] = []
    assert operator.invoke({}, said.append)["status"] == "ok"
    assert said == ["waiting: another invocation of the function is in progress"]


def test_wait_is_limited(busy: LocalAws) -> None:
    """It ends after the longest possible lock, and the message has the reason."""
    client = busy.client("lambda")
    client.put_function_concurrency(FunctionName=FUNCTION, ReservedConcurrentExecutions=0)
    waits: list[float] = []
    operator = at(waits.append)
    with pytest.raises(OperatorError, match="after 20 minutes still: another invocation") as caught:
        operator.invoke({}, lambda _line: None)
    client.put_function_concurrency(FunctionName=FUNCTION, ReservedConcurrentExecutions=1)
    assert sum(waits) == LONGEST_WAIT_S
    assert caught.value.problems[0].remedy


def test_dry_run_does_not_wait(busy: LocalAws) -> None:
    """It needs no lock because it writes nothing."""
    hold(busy, 10)
    waits: list[float] = []
    operator = at(waits.append)
    assert operator.invoke({"dry_run": True}, lambda _line: None)["dry_run"] is True
    assert waits == []
    assert busy.client("s3").head_object(Bucket=busy.deployment.bucket, Key=KEY)


@pytest.mark.slow
def test_commands_work_as_processes_with_the_local_clouds_variables() -> None:
    """The installed tool invokes the function, prints the onboarding document and reports a missing permission."""
    with local_aws("--accounts", "3") as cloud:
        ran = call([TAILPIPE, "invoke", "aws", "--json"], cloud.variables)
        report = json.loads(ran.stdout)
        well = report["scopes"]["covered"] + report["scopes"]["pending"]
        assert (ran.returncode, report["status"], well) == (0, "ok", 3), ran.stderr
        shown = call([TAILPIPE, "onboarding", "aws"], cloud.variables)
        assert json.loads(shown.stdout)["childAccounts"]["count"] == 2
        ControlClient(cloud.variables["AWS_ENDPOINT_URL"]).deny(action="lambda:CreateFunction")
        lacking = call([TAILPIPE, "doctor", "aws"], cloud.variables)
        assert lacking.returncode == 1
        assert "✗ lambda:CreateFunction" in lacking.stderr
        assert cloud.end(signal.SIGTERM) == 0
