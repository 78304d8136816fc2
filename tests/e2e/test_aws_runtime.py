"""The real handler in Lambda's own runtime client, against the local AWS over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from localcloud.aws.cloud import LocalAws
from localcloud.aws.runtime.lambda_runtime import Invocation, LambdaRuntime

HANDLER = "aws_lambda.handler.handler"
RESERVED = ("AWS_REGION", "AWS_DEFAULT_REGION")


@pytest.fixture
def aws() -> Iterator[LocalAws]:
    """Return a deployed organization of six accounts."""
    with LocalAws(accounts=6) as cloud:
        yield cloud


def runtime(aws: LocalAws, repository: Path, **settings: str) -> LambdaRuntime:
    """Return the function with its settings, as Lambda starts it."""
    environment = {name: value for name, value in aws.environment().items() if name not in RESERVED}
    return LambdaRuntime(HANDLER, {**environment, **settings}, aws.account, aws.region, task_root=repository)


def report_of(invocation: Invocation) -> Mapping[str, Any]:
    """Return the report in the handler's response."""
    assert invocation.error is None, invocation.error
    assert isinstance(invocation.payload, dict)
    return invocation.payload


def lines_of(invocation: Invocation) -> list[dict[str, Any]]:
    """Return the JSON lines that the function logged."""
    return [json.loads(line) for line in invocation.logs if line.startswith("{")]


def test_scheduled_run_covers_the_organization_and_emits_metrics(aws: LocalAws, repository: Path) -> None:
    """The response is the report. Logs are JSON with the common fields, and metrics use the embedded metric format."""
    with runtime(aws, repository) as function:
        done = function.invoke({"source": "aws.scheduler", "detail-type": "Scheduled Event", "detail": {}})
    report = report_of(done)
    assert (report["status"], report["trigger"]) == ("ok", "timer")
    assert (report["scopes"]["covered"], report["scopes"]["pending"]) == (1, 5)
    lines = lines_of(done)
    events = [line["event"] for line in lines if "event" in line]
    assert (events[0], events[-1]) == ("run-started", "run-finished")
    created = next(line for line in lines if line.get("event") == "write-done")
    assert {"level", "run_id", "cloud", "scope", "kind", "name", "verb", "reason", "duration_ms"} <= set(created)
    metrics = next(line for line in lines if "_aws" in line)
    named = {one["Name"] for one in metrics["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert named >= {"Covered", "Missing", "Failed", "Deferred", "Manual", "Duration", "Calls"}
    assert metrics["Covered"] == [1.0]


def test_all_invalid_settings_are_reported_in_one_error_before_any_call(aws: LocalAws, repository: Path) -> None:
    """The invocation fails with one message that names each invalid setting. AWS is not called."""
    wrong = {
        "EXPORTS": "cur3",
        "MAX_VANISHED_PERCENT": "lots",
        "INCLUDE_ACCOUNTS": "12",
        "CALLS_AT_ONCE": "0",
        "EXTERNAL_ID_HASH": "not-a-hash",
        "AWS_ENDPOINT_URL_S3": "https://example.com",
    }
    aws.calls.clear()
    with runtime(aws, repository, **wrong) as function:
        failed = function.invoke({})
    assert failed.error is not None
    assert failed.error["errorType"] == "SettingsError"
    message = str(failed.error["errorMessage"])
    assert [name for name in wrong if name not in message] == []
    assert "not-a-hash" not in message
    assert aws.calls.by_operation() == {}


def test_request_with_an_unknown_key_is_rejected_by_name(aws: LocalAws, repository: Path) -> None:
    """A request with a typo changes nothing, and the next invocation of the same function works."""
    with runtime(aws, repository) as function:
        failed = function.invoke({"dryrun": True})
        assert failed.error is not None
        assert failed.error["errorType"] == "RequestError"
        assert "'dryrun'" in str(failed.error["errorMessage"])
        planned = report_of(function.invoke({"dry_run": True}))
    assert planned["outcomes"]["CREATE"] == {"planned": 6}
    assert aws.client("bcm-data-exports").list_exports()["Exports"] == []


def test_event_of_an_account_reconciles_only_that_account(aws: LocalAws, repository: Path) -> None:
    """A CloudTrail event gives a new account its role within minutes, without listing all accounts."""
    with runtime(aws, repository) as function:
        report_of(function.invoke({}))
        account = aws.join_account("newcomer")
        aws.remove_instance(account)
        event = {
            "source": "aws.organizations",
            "detail-type": "AWS Service Event via CloudTrail",
            "detail": {
                "eventName": "CreateAccountResult",
                "serviceEventDetails": {"createAccountStatus": {"state": "SUCCEEDED", "accountId": account}},
            },
        }
        aws.calls.clear()
        report = report_of(function.invoke(event))
    assert report["scopes"]["total"] == 1
    assert (report["trigger"], report["scopes"]["pending"]) == ("event", 1)
    assert aws.calls.count("organizations", "ListAccounts") == 0
    assert aws.instances()[account] == "SUCCEEDED"


def test_failed_run_raises_and_degraded_run_returns_its_report(aws: LocalAws, repository: Path) -> None:
    """Lambda counts a failed run as an error. A degraded run returns its report, and a metric shows it."""
    with runtime(aws, repository) as function:
        aws.deny("s3:GetObject")
        blind = function.invoke({})
        assert blind.error is not None
        assert blind.error["errorType"] == "RunFailed"
        assert "state-forbidden" in str(blind.error["errorMessage"])
        aws.allow("s3:GetObject")
        aws.deny("bcm-data-exports:CreateExport")
        degraded = function.invoke({})
    assert report_of(degraded)["status"] == "degraded"
    metrics = next(line for line in lines_of(degraded) if "_aws" in line)
    assert metrics["Degraded"] == [1.0]


def test_external_id_is_never_logged_or_returned(aws: LocalAws, repository: Path) -> None:
    """This holds whether the role's trust policy is correct or not."""
    secret = aws.deployment.external_id
    with runtime(aws, repository) as function:
        done = [function.invoke({})]
        wrong = {"Version": "2012-10-17", "Statement": [dict(aws.deployment.trust("another-id")["Statement"][0])]}
        aws.client("iam").update_assume_role_policy(
            RoleName="tailpipe-connector-role", PolicyDocument=json.dumps(wrong)
        )
        done.append(function.invoke({}))
    assert [one["what"] for one in report_of(done[1])["manual"]]
    output = "\n".join(json.dumps(one.payload) + "\n".join(one.logs) for one in done)
    assert secret not in output
    assert "another-id" not in output
