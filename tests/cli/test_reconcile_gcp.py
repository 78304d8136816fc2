"""`plan` and `run` with the real function and a local GCP in this process: each error has one clear outcome."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from localcloud.gcp.cloud import LocalGcp

STATE = "known_billing_accounts.json"


@pytest.fixture(scope="module")
def gcp() -> Iterator[LocalGcp]:
    """Return a local project with three billing accounts, two of which export."""
    with LocalGcp(accounts=3, history_days=1, rows=3) as cloud:
        yield cloud


@pytest.fixture
def operator(gcp: LocalGcp, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Set the operator's variables, and restore after the test what it damaged."""
    for name, value in gcp.environment().items():
        monkeypatch.setenv(name, value)
    # Otherwise a client without credentials would call the metadata service on a link-local address.
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    yield monkeypatch
    gcp.clear_faults()
    gcp.delete_objects()
    gcp.delete_objects(gcp.deployment.state_bucket)


def tailpipe(*arguments: str) -> Result:
    """Run the tool in this process."""
    return CliRunner().invoke(main, arguments)


def reported(result: Result) -> Any:
    """Return the document on stdout; fail the test if there is other output."""
    return json.loads(result.stdout)


def test_plan_announces_the_run_and_the_next_plan_is_empty(operator: pytest.MonkeyPatch) -> None:
    """Plan and run have the same hash."""
    planned, ran, after = (
        tailpipe("plan", "gcp", "--json"),
        tailpipe("run", "gcp", "--yes", "--json"),
        tailpipe("plan", "gcp"),
    )
    assert (planned.exit_code, ran.exit_code, after.exit_code) == (2, 0, 0), after.output
    assert reported(planned)["plan_hash"] == reported(ran)["plan_hash"] != ""
    assert reported(ran)["outcomes"]["CREATE"] == {"done": 4}
    assert "nothing to write" in after.stdout


def test_plan_shows_the_console_step_with_its_link(operator: pytest.MonkeyPatch, gcp: LocalGcp) -> None:
    """It names the export to enable, the destination and the page of the account."""
    waiting = list(gcp.accounts())[-1]
    result = tailpipe("plan", "gcp")
    shown = result.stdout
    assert f"https://console.cloud.google.com/billing/{waiting}/export/bigquery" in shown
    assert all(title in shown for title in ("Standard usage cost", "Detailed usage cost"))
    assert f"Project: {gcp.project}. Dataset: {gcp.deployment.dataset}." in shown
    done = next(iter(gcp.accounts()))
    assert f"/billing/{done}/" not in shown


def test_dry_run_writes_nothing(operator: pytest.MonkeyPatch, gcp: LocalGcp) -> None:
    """`run --dry-run` has the exit code of a run, and leaves state and lock unchanged."""
    gcp.clear_calls()
    result = tailpipe("run", "gcp", "--dry-run", "--json")
    assert (result.exit_code, reported(result)["dry_run"]) == (0, True)
    writing = ("insert", "update", "patch", "delete")
    assert [call.method for call in gcp.calls.select() if call.method.rpartition(".")[2] in writing] == []


def test_scope_limits_the_plan(operator: pytest.MonkeyPatch, gcp: LocalGcp) -> None:
    """Only the account given by --scope is planned."""
    account = next(iter(gcp.accounts()))
    report = reported(tailpipe("plan", "gcp", "--scope", account, "--json"))
    assert report["scopes"]["total"] == 1
    assert report["outcomes"]["CREATE"] == {"planned": 2}


def test_partly_failed_run_exits_with_3(operator: pytest.MonkeyPatch, gcp: LocalGcp) -> None:
    """Jobs are refused: the rest is done, and each failure is reported."""
    gcp.fail_jobs("extract", "invalid", times=None)
    as_json, as_text = tailpipe("run", "gcp", "--yes", "--json"), tailpipe("run", "gcp", "--yes", "--force")
    report = reported(as_json)
    assert (as_json.exit_code, report["status"]) == (3, "degraded")
    assert {failure["scope"] for failure in report["failures"]} == set(list(gcp.accounts())[:2])
    assert as_text.exit_code == 3
    assert "invalid" in as_text.stdout


def test_all_invalid_settings_are_reported_before_any_call(operator: pytest.MonkeyPatch, gcp: LocalGcp) -> None:
    """One message lists them all."""
    operator.setenv("COPY", "everything")
    operator.setenv("DATASET_LOCATION", "?")
    operator.setenv("CALLS_AT_ONCE", "many")
    gcp.clear_calls()
    result = tailpipe("run", "gcp", "--yes", "--without-deployment", "--json")
    assert result.exit_code == 1
    messages = [failure["message"] for failure in reported(result)["failures"]]
    assert {message.partition(":")[0] for message in messages} == {"COPY", "DATASET_LOCATION", "CALLS_AT_ONCE"}
    assert all(message in result.stderr for message in messages)
    assert gcp.calls.count() == 0


def test_missing_credentials_are_reported_as_one_failure(operator: pytest.MonkeyPatch, gcp: LocalGcp) -> None:
    """Text and report have it, without a traceback."""
    for name in gcp.environment():
        if name.startswith(("CLOUDSDK_", "GCE_", "GOOGLE_")) and name != "GOOGLE_CLOUD_PROJECT":
            operator.delenv(name)
        if name.endswith("_EMULATOR_HOST"):
            operator.delenv(name)
    result = tailpipe("plan", "gcp", "--json")
    report = reported(result)
    assert (result.exit_code, report["status"]) == (1, "failed")
    assert "redentials" in json.dumps(report["failures"])
    assert "Traceback" not in result.output


def test_concurrent_run_is_reported_with_id_and_expiry(operator: pytest.MonkeyPatch, gcp: LocalGcp) -> None:
    """A plan ignores the lock."""
    now = datetime.now(UTC)
    running = {"run_id": "r-of-another", "since": now.isoformat(), "until": (now + timedelta(minutes=5)).isoformat()}
    gcp.put_object(STATE, json.dumps({"version": 2, "cloud": "gcp", "running": running}), gcp.deployment.state_bucket)
    result = tailpipe("run", "gcp", "--yes", "--json")
    (failure,) = reported(result)["failures"]
    assert (result.exit_code, failure["code"]) == (1, "another-run")
    assert "r-of-another" in failure["message"]
    assert "r-of-another" in result.stderr
    assert tailpipe("plan", "gcp").exit_code == 2


def test_project_can_come_from_gclouds_configuration(operator: pytest.MonkeyPatch, gcp: LocalGcp) -> None:
    """The environment has no project."""
    operator.delenv("GOOGLE_CLOUD_PROJECT")
    operator.setenv("CLOUDSDK_CORE_PROJECT", gcp.project)
    assert tailpipe("plan", "gcp").exit_code == 2


def test_missing_project_is_the_only_reported_problem(operator: pytest.MonkeyPatch, gcp: LocalGcp) -> None:
    """The message names the variable."""
    for name in ("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT", "GCE_METADATA_HOST", "GCE_METADATA_IP"):
        operator.delenv(name)
    result = tailpipe("plan", "gcp", "--json")
    (failure,) = reported(result)["failures"]
    assert result.exit_code == 1
    assert failure["message"] == "no project is named"
    assert failure["remedy"].startswith("Set GOOGLE_CLOUD_PROJECT")
