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
    """Return a project with three billing accounts, the console step done for two."""
    with LocalGcp(accounts=3, history_days=2, rows=4) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def function(gcp: LocalGcp, repository: Path) -> Iterator[FunctionsFramework]:
    """Return the function as Cloud Run serves it."""
    with FunctionsFramework(FUNCTION, gcp.environment(), source=repository, grace_s=1) as serving:
        yield serving


@pytest.fixture(autouse=True)
def _mended(gcp: LocalGcp) -> Iterator[None]:
    """Forget after each test what it broke and what was remembered."""
    yield
    gcp.clear_faults()
    gcp.delete_objects(gcp.deployment.state_bucket, STATE)


def report_of(response: Response) -> Mapping[str, Any]:
    """Return the report that the function answered."""
    assert isinstance(response.payload, dict), response
    assert "outcomes" in response.payload, response.payload
    return response.payload


def lines_of(response: Response) -> list[dict[str, Any]]:
    """Return the JSON lines that the function wrote; the test fails where a line of its own is none."""
    return [json.loads(line) for line in response.logs]


def test_a_scheduled_call_copies_tells_and_answers_with_the_report(gcp: LocalGcp, function: FunctionsFramework) -> None:
    """Cloud Scheduler's empty call copies every partition, tells the manual step at WARNING, and answers 200."""
    done = function.invoke(headers={"User-Agent": "Google-Cloud-Scheduler"})
    report = report_of(done)
    assert (done.status, report["status"]) == (200, "ok")
    assert done.headers["content-type"].startswith("application/json")
    assert sum(name.endswith("/manifest.json") for name in gcp.copies()) == 8
    (missing,) = {one["scope"] for one in report["manual"]}
    assert missing == list(gcp.accounts())[-1]
    told = [line for line in lines_of(done) if line.get("event") == "manual-step"]
    assert {(line["severity"], line["scope"]) for line in told} == {("WARNING", missing)}


def test_every_line_is_one_of_cloud_loggings_and_bears_the_calls_trace(
    gcp: LocalGcp, function: FunctionsFramework
) -> None:
    """Each line has a severity, a message, and the trace of the call that it belongs to, in the project's name."""
    for _ in range(2):
        done = function.invoke({"dry_run": True})
        lines = lines_of(done)
        assert lines[0]["event"] == "run-started"
        assert lines[-1]["event"] == "run-finished"
        for line in lines:
            assert line["severity"] in SEVERITIES
            assert line["message"].startswith(line["event"])
            assert line["logging.googleapis.com/trace"] == f"projects/{gcp.project}/traces/{done.trace}"


def test_lines_stay_whole_where_the_framework_labels_them(gcp: LocalGcp, repository: Path) -> None:
    """With LOG_EXECUTION_ID every line of the function is still one JSON object with its severity."""
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
        pytest.param(b"{", "JSON", id="no JSON"),
        pytest.param(b"\xff\xfe", "JSON", id="no text"),
        pytest.param({"dryrun": True}, "dryrun", id="an unknown key"),
        pytest.param([1], "object", id="no object"),
    ],
)
def test_a_request_with_faults_is_400_and_touches_nothing(
    gcp: LocalGcp, function: FunctionsFramework, body: object, named: str
) -> None:
    """A request that cannot be understood is refused by name before any call is made."""
    gcp.clear_calls()
    refused = function.invoke(body)
    assert refused.status == 400
    assert isinstance(refused.payload, dict)
    assert named in json.dumps(refused.payload)
    assert gcp.calls.count() == 0
    assert [line["severity"] for line in lines_of(refused)] == ["ERROR"]


def test_a_second_run_is_409_and_names_the_first(gcp: LocalGcp, function: FunctionsFramework) -> None:
    """While another run holds the lock a call answers 409 with its id and until when, so that Scheduler tries again."""
    now = datetime.now(UTC)
    running = {"run_id": "r-of-another", "since": now.isoformat(), "until": (now + timedelta(minutes=5)).isoformat()}
    gcp.put_object(STATE, json.dumps({"version": 2, "cloud": "gcp", "running": running}), gcp.deployment.state_bucket)
    refused = function.invoke()
    assert refused.status == 409
    assert isinstance(refused.payload, dict)
    assert refused.payload["error"] == "another-run"
    assert "r-of-another" in refused.payload["message"]


def test_a_failed_run_is_500_with_its_report(gcp: LocalGcp, function: FunctionsFramework) -> None:
    """In a project that is on its way out nothing can be done: 500, with the way back in the report."""
    gcp.delete_project()
    try:
        failed = function.invoke()
    finally:
        gcp.undelete_project()
    report = report_of(failed)
    assert (failed.status, report["status"]) == (500, "failed")
    assert any("undelete" in failure["remedy"] for failure in report["failures"]), report["failures"]


def test_no_visible_account_is_never_nothing_to_do(gcp: LocalGcp, function: FunctionsFramework) -> None:
    """Google lists what the caller may see: an empty list degrades the run and is told with the role to grant."""
    gcp.deny("billing.*")
    try:
        failed = function.invoke()
    finally:
        gcp.allow("billing.*")
    report = report_of(failed)
    assert (failed.status, report["status"], report["enumeration_complete"]) == (200, "degraded", False)
    assert any("billing.viewer" in failure["remedy"] for failure in report["failures"]), report["failures"]


def test_wrong_settings_are_500_all_at_once(gcp: LocalGcp, repository: Path) -> None:
    """Every wrong setting is named in one answer, and Google is not asked."""
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
