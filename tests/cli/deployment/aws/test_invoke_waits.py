"""`tailpipe-exports invoke aws` while something else is under way, and requests that go nowhere."""

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
    """Return a deployment for the tests to which it does not matter what others did to it before."""
    with account(accounts=3) as cloud:
        yield cloud


@pytest.fixture
def busy(lasting: LocalAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """Return the lasting deployment, signed in to; whatever held its lock is gone in the end."""
    sign_in(lasting, monkeypatch)
    yield lasting
    release(lasting)


def test_json_is_the_report_and_nothing_else(busy: LocalAws) -> None:
    """With --json standard output is one document, the report that also lies in the bucket."""
    result = tailpipe("invoke", "aws", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["status"], report["dry_run"]) == (0, "ok", False)
    stored = busy.client("s3").get_object(Bucket=busy.deployment.bucket, Key=f"runs/{report['run_id']}.json")
    assert json.loads(stored["Body"].read()) == report
    assert "covered" not in result.stderr


def test_an_account_that_does_not_exist_fails_with_what_to_check(busy: LocalAws) -> None:
    """A mistyped id is no run of nothing: it is refused by name, and nothing is made."""
    result = tailpipe("invoke", "aws", "--scope", "999999999999", "--json")
    assert result.exit_code == 1
    assert "999999999999" in result.output
    assert "Check the id" in " ".join(result.output.split())


def test_a_request_that_is_none_is_refused_before_the_cloud_is_asked(busy: LocalAws) -> None:
    """An empty id never travels."""
    busy.clear_calls()
    result = tailpipe("invoke", "aws", "--scope", "")
    assert (result.exit_code, busy.actions.calls()) == (1, [])
    assert "is empty, not an id" in stderr_of(result)


def test_without_a_function_it_is_shown_how_to_get_one(busy: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not deployed, or under another name: both remedies are shown."""
    monkeypatch.setenv("TAILPIPE_EXPORTS_FUNCTION_NAME", "tailpipe-two")
    for command in ("invoke", "onboarding"):
        result = tailpipe(command, "aws")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "no function tailpipe-two is deployed here" in stderr_of(result)
        assert "tailpipe-exports deploy aws" in stderr_of(result)
        assert "TAILPIPE_EXPORTS_FUNCTION_NAME" in stderr_of(result)


def test_while_another_run_holds_the_lock_it_waits_and_says_who(busy: LocalAws) -> None:
    """The holder is named once, also where it renews its lock; as soon as the lock is free the run goes on."""
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


def test_a_lock_that_ran_out_does_not_block(busy: LocalAws) -> None:
    """The lock of a run that died expires, by the store's own time of the document."""
    hold(busy, -1)
    busy.world.buckets.age(busy.deployment.bucket, KEY, LEASE)
    assert tailpipe("invoke", "aws").exit_code == 0


def test_while_another_invocation_is_under_way_it_waits(busy: LocalAws) -> None:
    """One execution is reserved, so Lambda itself refuses a second call: it waits, and runs when the first is done."""
    client = busy.client("lambda")
    client.put_function_concurrency(FunctionName=FUNCTION, ReservedConcurrentExecutions=0)

    def sleep(_seconds: float) -> None:
        client.put_function_concurrency(FunctionName=FUNCTION, ReservedConcurrentExecutions=1)

    operator = at(sleep)
    said: list[str] = []
    assert operator.invoke({}, said.append)["status"] == "ok"
    assert said == ["waiting: another invocation of the function is under way"]


def test_it_does_not_wait_for_ever(busy: LocalAws) -> None:
    """The wait ends after the longest possible lock, and reports what was waited for."""
    client = busy.client("lambda")
    client.put_function_concurrency(FunctionName=FUNCTION, ReservedConcurrentExecutions=0)
    waits: list[float] = []
    operator = at(waits.append)
    with pytest.raises(OperatorError, match="after 20 minutes still: another invocation") as caught:
        operator.invoke({}, lambda _line: None)
    client.put_function_concurrency(FunctionName=FUNCTION, ReservedConcurrentExecutions=1)
    assert sum(waits) == LONGEST_WAIT_S
    assert caught.value.problems[0].remedy


def test_a_dry_run_does_not_wait(busy: LocalAws) -> None:
    """It writes nothing, so it needs no lock."""
    hold(busy, 10)
    waits: list[float] = []
    operator = at(waits.append)
    assert operator.invoke({"dry_run": True}, lambda _line: None)["dry_run"] is True
    assert waits == []
    assert busy.client("s3").head_object(Bucket=busy.deployment.bucket, Key=KEY)


@pytest.mark.slow
def test_the_commands_work_as_processes_with_the_variables_that_a_local_cloud_prints() -> None:
    """With nothing but the export lines the installed tool calls the function, prints the document, and sees a lack."""
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
