"""The real function under Google's functions-framework, against the local GCP over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.runtime.framework import FunctionsFramework, Response

FUNCTION = "gcp_function.handler:reconcile"
STATE = "known_billing_accounts.json"
SEVERITIES = {"DEBUG", "INFO", "WARNING", "ERROR"}


@pytest.fixture(scope="module")
def gcp() -> Iterator[LocalGcp]:
    """Return a project with three billing accounts; two have completed the console step."""
    with LocalGcp(accounts=3, history_days=2, rows=4) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def function(gcp: LocalGcp, repository: Path) -> Iterator[FunctionsFramework]:
    """Return the function as Cloud Run serves it."""
    with FunctionsFramework(FUNCTION, gcp.environment(), source=repository, grace_s=1) as serving:
        yield serving


@pytest.fixture(autouse=True)
def _reset(gcp: LocalGcp) -> Iterator[None]:
    """Remove each test's faults and state."""
    yield
    gcp.clear_faults()
    gcp.delete_objects(gcp.deployment.state_bucket, STATE)


def report_of(response: Response) -> Mapping[str, Any]:
    """Return the report in the function's response."""
    assert isinstance(response.payload, dict), response
    assert "outcomes" in response.payload, response.payload
    return response.payload


def lines_of(response: Response) -> list[dict[str, Any]]:
    """Return the JSON lines that the function logged; the test fails if one is not valid JSON."""
    return [json.loads(line) for line in response.logs]


def test_scheduled_call_copies_partitions_and_returns_the_report(gcp: LocalGcp, function: FunctionsFramework) -> None:
    """Cloud Scheduler's empty request copies every partition and logs the manual step at WARNING."""
    done = function.invoke(headers={"User-Agent": "Google-Cloud-Scheduler"})
    report = report_of(done)
    assert (done.status, report["status"]) == (200, "ok")
    assert done.headers["content-type"].startswith("application/json")
    assert sum(name.endswith("/manifest.json") for name in gcp.copies()) == 8
    (missing,) = {one["scope"] for one in report["manual"]}
    assert missing == list(gcp.accounts())[-1]
    logged = [line for line in lines_of(done) if line.get("event") == "manual-step"]
    assert {(line["severity"], line["scope"]) for line in logged} == {("WARNING", missing)}


def test_log_lines_have_severity_message_and_trace(gcp: LocalGcp, function: FunctionsFramework) -> None:
    """Cloud Logging groups the lines of a request by the trace, which is qualified with the project."""
    for _ in range(2):
        done = function.invoke({"dry_run": True})
        lines = lines_of(done)
        assert lines[0]["event"] == "run-started"
        assert lines[-1]["event"] == "run-finished"
        for line in lines:
            assert line["severity"] in SEVERITIES
            assert line["message"].startswith(line["event"])
            assert line["logging.googleapis.com/trace"] == f"projects/{gcp.project}/traces/{done.trace}"


def test_log_lines_stay_valid_with_execution_ids(gcp: LocalGcp, repository: Path) -> None:
    """With LOG_EXECUTION_ID, every line is still one JSON object with a severity."""
    environment = {**gcp.environment(), "LOG_EXECUTION_ID": "true"}
    with FunctionsFramework(FUNCTION, environment, source=repository, grace_s=1) as serving:
        lines = lines_of(serving.invoke({"dry_run": True}))
    assert {"run-started", "planned", "run-finished"} <= {line["event"] for line in lines}
    assert all(line["severity"] in SEVERITIES for line in lines)
    first = next(line for line in lines if line["event"] == "run-started")
    assert first["logging.googleapis.com/labels"]["execution_id"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        pytest.param(b"{", "JSON", id="invalid JSON"),
        pytest.param(b"\xff\xfe", "JSON", id="not text"),
        pytest.param({"dryrun": True}, "dryrun", id="unknown key"),
        pytest.param([1], "object", id="not an object"),
    ],
)
def test_invalid_request_is_400_and_makes_no_call(
    gcp: LocalGcp, function: FunctionsFramework, body: object, named: str
) -> None:
    """The response names the problem."""
    gcp.clear_calls()
    refused = function.invoke(body)
    assert refused.status == 400
    assert isinstance(refused.payload, dict)
    assert named in json.dumps(refused.payload)
    assert gcp.calls.count() == 0
    assert [line["severity"] for line in lines_of(refused)] == ["ERROR"]


def test_concurrent_run_is_409_with_the_id_of_the_first(gcp: LocalGcp, function: FunctionsFramework) -> None:
    """While another run holds the lock, the response is 409, so that Scheduler retries."""
    now = datetime.now(UTC)
    running = {"run_id": "r-of-another", "since": now.isoformat(), "until": (now + timedelta(minutes=5)).isoformat()}
    gcp.put_object(STATE, json.dumps({"version": 2, "cloud": "gcp", "running": running}), gcp.deployment.state_bucket)
    refused = function.invoke()
    assert refused.status == 409
    assert isinstance(refused.payload, dict)
    assert refused.payload["error"] == "another-run"
    assert "r-of-another" in refused.payload["message"]


def test_failed_run_is_500_with_its_report(gcp: LocalGcp, function: FunctionsFramework) -> None:
    """In a project that is being deleted, the report explains how to restore it."""
    gcp.delete_project()
    try:
        failed = function.invoke()
    finally:
        gcp.undelete_project()
    report = report_of(failed)
    assert (failed.status, report["status"]) == (500, "failed")
    assert any("undelete" in failure["remedy"] for failure in report["failures"]), report["failures"]


def test_empty_account_list_degrades_the_run(gcp: LocalGcp, function: FunctionsFramework) -> None:
    """Google lists only the accounts that the caller may see, so the report names the role to grant."""
    gcp.deny("billing.*")
    try:
        failed = function.invoke()
    finally:
        gcp.allow("billing.*")
    report = report_of(failed)
    assert (failed.status, report["status"], report["enumeration_complete"]) == (200, "degraded", False)
    assert any("billing.viewer" in failure["remedy"] for failure in report["failures"]), report["failures"]


def test_all_invalid_settings_are_reported_in_one_500(gcp: LocalGcp, repository: Path) -> None:
    """One response names every invalid setting, and Google is not called."""
    wrong = {
        "COPY": "everything",
        "COPY_DAYS": "many",
        "EXCLUDE_ACCOUNTS": "12",
        "STORAGE_EMULATOR_HOST": "example.com",
    }
    gcp.clear_calls()
    with FunctionsFramework(FUNCTION, {**gcp.environment(), **wrong}, source=repository, grace_s=1) as serving:
        refused = serving.invoke()
    assert refused.status == 500
    assert isinstance(refused.payload, dict)
    assert {fault.partition(":")[0] for fault in refused.payload["faults"]} == set(wrong)
    assert gcp.calls.count() == 0
