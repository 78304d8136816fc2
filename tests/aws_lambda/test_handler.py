"""The Lambda handler: events, failure contract, logs, metrics, and the cost of its import."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aws_lambda import clients
from aws_lambda.handler import RunFailed, handler, request_of
from aws_lambda.log import logger
from aws_lambda.settings import account_of, read_settings
from localcloud.aws.cloud import LocalAws
from shared.errors import RequestError, SettingsError
from shared.request import RunRequest
from tests.aws_lambda.support import local_aws
from tests.limits import HANG_S

MEMBER = "210000000000"


class Context:
    """The part of Lambda's context that the handler reads."""

    invoked_function_arn = "arn:aws:lambda:eu-west-1:111122223333:function:tailpipe-exports"

    def __init__(self, seconds: float = 300) -> None:
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self._seconds * 1000)


def invoke(event: Any, seconds: float = 300) -> dict[str, Any]:
    """Invoke the handler as Lambda does."""
    context: Any = Context(seconds)
    return handler(event, context)


def metrics(capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """Return the metrics in the last EMF line."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    blob = next(line for line in reversed(lines) if "_aws" in line)
    assert blob["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "TailpipeExports"
    names = [one["Name"] for one in blob["_aws"]["CloudWatchMetrics"][0]["Metrics"]]
    assert sum(blob["calls_by_quota"].values()) == blob["Calls"][0]
    return {name: blob[name][0] if isinstance(blob[name], list) else blob[name] for name in names}


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """Return a local AWS on the wall clock, with its settings in the environment as in Lambda."""
    with LocalAws(accounts=3) as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        yield cloud


def cloudtrail(name: str, **detail: Any) -> dict[str, Any]:
    """Return a CloudTrail event as EventBridge delivers it."""
    return {
        "version": "0",
        "detail-type": "AWS Service Event via CloudTrail",
        "source": "aws.organizations",
        "region": "us-east-1",
        "detail": {"eventSource": "organizations.amazonaws.com", "eventName": name, **detail},
    }


def created(state: str) -> dict[str, Any]:
    """Return the event that ends the creation of an account."""
    status = {"accountId": MEMBER, "state": state}
    return cloudtrail("CreateAccountResult", serviceEventDetails={"createAccountStatus": status})


HANDSHAKE = {"handshake": {"parties": [{"id": "abc", "type": "ORGANIZATION"}, {"id": MEMBER, "type": "ACCOUNT"}]}}


@pytest.mark.parametrize(
    ("event", "scopes"),
    [
        (None, ()),
        ({}, ()),
        ({"detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}, ()),
        ({"detail-type": "Scheduled Event", "source": "aws.scheduler", "detail": "{}", "id": "x"}, ()),
        (created("SUCCEEDED"), (MEMBER,)),
        (created("FAILED"), ()),
        (cloudtrail("MoveAccount", requestParameters={"accountId": MEMBER}), (MEMBER,)),
        (cloudtrail("AcceptHandshake", responseElements=HANDSHAKE), (MEMBER,)),
        (cloudtrail("AcceptHandshake", userIdentity={"accountId": MEMBER}, responseElements=None), (MEMBER,)),
        (cloudtrail("AccountJoinedOrganization", serviceEventDetails={"accountId": MEMBER}), (MEMBER,)),
        (cloudtrail("AccountDepartedOrganization", serviceEventDetails={"accountId": MEMBER}), ()),
        (cloudtrail("MoveAccount", requestParameters={"accountId": "not-an-id"}), ()),
        ({"scopes": [MEMBER]}, (MEMBER,)),
    ],
)
def test_events_become_requests(event: Any, scopes: tuple[str, ...]) -> None:
    """A scheduled event requests a full run, an account's event a run for that account; neither is a dry run."""
    assert request_of(event) == RunRequest(scopes=scopes, trigger=request_of(event).trigger)


@pytest.mark.parametrize(
    ("event", "trigger"),
    [
        (None, "call"),
        ({"dry_run": True}, "call"),
        ({"detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}, "timer"),
        ({"detail-type": "Scheduled Event", "source": "aws.scheduler"}, "timer"),
        (created("SUCCEEDED"), "event"),
        (cloudtrail("MoveAccount", requestParameters={"accountId": MEMBER}), "event"),
    ],
)
def test_request_has_its_trigger(event: Any, trigger: str) -> None:
    """The trigger is a schedule, an account's event, or a call."""
    assert request_of(event).trigger == trigger


def test_report_has_its_trigger(deployed: LocalAws) -> None:
    """Operators can distinguish scheduled runs from calls."""
    assert invoke({"source": "aws.scheduler", "detail-type": "Scheduled Event"})["trigger"] == "timer"
    assert invoke({})["trigger"] == "call"


def test_direct_request_keeps_all_fields() -> None:
    """All fields of the operator's request reach the engine."""
    asked = request_of({"dry_run": True, "force": True, "verify_all": True, "scopes": [MEMBER]})
    assert asked == RunRequest(dry_run=True, force=True, verify_all=True, scopes=(MEMBER,))


@pytest.mark.parametrize(
    ("event", "named"),
    [
        ({"dryrun": True}, "dryrun"),
        ({"source": "aws.ec2", "detail-type": "EC2 Instance"}, "detail-type"),
        (cloudtrail("CloseAccount"), "CloseAccount"),
        ([1], "list"),
    ],
)
def test_unknown_fields_are_rejected_by_name(event: Any, named: str) -> None:
    """A misspelled dry_run must not become a real run."""
    with pytest.raises(RequestError, match=named):
        request_of(event)


def test_account_is_read_from_the_function_arn() -> None:
    """No call is needed; outside Lambda, STS is called."""
    assert account_of(Context.invoked_function_arn) == "111122223333"
    assert account_of("") is None
    assert account_of("arn:aws:lambda:eu-west-1:test:function:x") is None


def test_invalid_settings_fail_before_any_call(deployed: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message has all problems, and no call is made."""
    monkeypatch.setenv("EXPORTS", "cur3")
    monkeypatch.setenv("CALLS_AT_ONCE", "none")
    with pytest.raises(SettingsError) as caught:
        invoke({})
    assert len(caught.value.problems) == 2
    assert deployed.calls.count() == 0


@pytest.mark.parametrize("months", [["2026-01"], ["2026-01", "2025-12"]])
def test_request_for_past_months_is_refused_before_any_call(deployed: LocalAws, months: list[str]) -> None:
    """Only AWS Support can deliver them: the message says so, and nothing runs that ignores the request."""
    with pytest.raises(RequestError, match="'months': AWS delivers past months only through a case at AWS Support"):
        invoke({"months": months, "scopes": [MEMBER]})
    assert deployed.calls.count() == 0


def test_run_returns_its_report_and_writes_metrics(deployed: LocalAws, capsys: pytest.CaptureFixture[str]) -> None:
    """Metrics are in CloudWatch's embedded format, with the names that the alarms use."""
    report = invoke({})
    assert (report["status"], report["cloud"]) == ("ok", "aws")
    assert json.loads(json.dumps(report)) == report
    figures = metrics(capsys)
    assert {"Covered", "Missing", "Failed", "Deferred", "Manual", "Duration", "Calls", "Degraded"} <= set(figures)
    assert (figures["Covered"], figures["Pending"], figures["Missing"], figures["Degraded"]) == (1, 2, 0, 0)
    assert (figures["Excluded"], figures["NewlyExcluded"], figures["AwaitingFirstData"]) == (0, 0, 3)
    assert figures["SecondsSinceLastSuccess"] < 60
    assert deployed.calls.count("sts") == 0


def test_log_lines_have_the_common_fields(deployed: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line is a JSON object with the event's name as message and as event, and the target's fields."""
    stream = io.StringIO()
    monkeypatch.setattr(logger.handlers[0], "stream", stream)
    invoke({})
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {"run-started", "enumerated", "planned", "write-done", "run-finished"} <= {line["event"] for line in lines}
    done = next(line for line in lines if line["event"] == "write-done" and line["kind"] == "export")
    assert (done["message"], done["name"], done["cloud"]) == ("write-done", "tailpipe-dataexport", "aws")
    assert {"level", "run_id", "scope", "verb", "reason"} <= set(done)


def test_partly_failed_run_returns_as_degraded(deployed: LocalAws, capsys: pytest.CaptureFixture[str]) -> None:
    """The report is returned with a metric for the alarm: an immediate retry would not help."""
    deployed.faults.add("bcm-data-exports", "CreateExport", "SomethingNew", times=None)
    report = invoke({})
    assert report["status"] == "degraded"
    figures = metrics(capsys)
    assert figures["Degraded"] == 1
    assert figures["Failed"] >= 1


def test_failed_run_raises_with_reason_and_remedy(deployed: LocalAws, capsys: pytest.CaptureFixture[str]) -> None:
    """Lambda counts an error, and the on-failure destination receives the message."""
    deployed.faults.add("organizations", "ListAccounts", "UnrecognizedClientException", times=None)
    with pytest.raises(RunFailed, match="credentials") as caught:
        invoke({})
    assert "Renew the credentials" in str(caught.value)
    assert metrics(capsys)["Covered"] == 0


def test_dry_run_writes_no_metrics(deployed: LocalAws, capsys: pytest.CaptureFixture[str]) -> None:
    """A plan must not look like a run that left everything missing."""
    assert invoke({"dry_run": True})["dry_run"] is True
    assert "_aws" not in capsys.readouterr().out
    assert deployed.exports() == {}


def test_event_reconciles_its_account(deployed: LocalAws) -> None:
    """Only that account's role is created."""
    member = next(account for account in deployed.accounts() if account != deployed.account)
    event = cloudtrail("MoveAccount", requestParameters={"accountId": member})
    assert invoke(event)["status"] == "ok"
    assert set(deployed.instances()) == {member}
    assert deployed.exports() == {}


HINTED = {"hints": {"count": 2, "scopes": {MEMBER: ["member-role"]}, "oldest": "2026-11-02T08:59:30Z"}}


def test_hints_of_the_collector_become_a_request() -> None:
    """The run looks at the named accounts and kinds, and its trigger is an event."""
    request = request_of(HINTED)
    assert (request.scopes, request.trigger, request.dry_run) == ((MEMBER,), "event", False)
    assert request.hints is not None
    assert request.hints.scopes == {MEMBER: ("member-role",)}


@pytest.mark.parametrize(
    ("event", "named"),
    [
        ({"hints": {"count": 0}}, "count"),
        ({"hints": {"count": 1, "scopes": {"a\nb": []}}}, "scope's id"),
        ({"hints": {"count": 1, "force": True}}, "force"),
        ({**HINTED, "force": True}, "hints"),
    ],
)
def test_malformed_hints_are_rejected(event: Any, named: str) -> None:
    """Hints carry nothing else, and no caller can add flags to them."""
    with pytest.raises(RequestError, match=named):
        request_of(event)


def test_runs_for_events_wait_until_a_minute_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many batches in a row become at most one run a minute, and each of them has its run."""
    with local_aws(accounts=3) as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        context: Any = Context(900)
        member = next(account for account in cloud.accounts() if account != cloud.account)
        event = {"hints": {"count": 1, "scopes": {member: []}}}
        begun = cloud.clock.monotonic()
        reports = [handler(event, context, clock=cloud.clock) for _ in range(3)]
        assert [report["status"] for report in reports] == ["ok"] * 3
        assert [report["events"]["count"] for report in reports] == [1] * 3
        assert 120 <= cloud.clock.monotonic() - begun <= 130


def test_clients_are_reused_between_invocations(deployed: LocalAws) -> None:
    """The second invocation creates no client."""
    invoke({})
    settings = read_settings(os.environ)
    warm = clients.warm_clients(settings, os.environ)
    exports, bucket = warm.exports, warm.s3
    invoke({})
    assert clients.warm_clients(settings, os.environ) is warm
    assert (warm.exports, warm.s3) == (exports, bucket)


def test_import_needs_no_settings_and_no_heavy_library(repository: Path) -> None:
    """Lambda imports the handler before any call; it needs no HTTP, configuration or validation library."""
    code = "import sys, aws_lambda.handler; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, env={}, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert {"requests", "pydantic", "moto", "localcloud", "cli"}.isdisjoint(loaded)


@pytest.mark.parametrize(("environment", "level"), [({}, "INFO"), ({"POWERTOOLS_LOG_LEVEL": "WARNING"}, "WARNING")])
def test_log_level_is_set_by_the_environment(environment: dict[str, str], level: str) -> None:
    """The deployment chooses how much is logged, without a code change."""
    code = "import logging; from aws_lambda.log import logger; print(logging.getLevelName(logger.log_level))"
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=HANG_S, check=True
    )
    assert found.stdout.strip() == level
