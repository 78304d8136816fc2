"""The real function in Azure's own worker runtime, by its timer and by HTTP, against the local Azure."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import STATE_CONTAINER
from localcloud.azure.quotas import UNLIMITED
from localcloud.azure.runtime.worker import AzureWorker, Invocation, Response

APP = "azure_function.handler"
STATE = "known_subscriptions.json"
ROUTE = "/api/reconcile"
WRITE = "Microsoft.CostManagement/exports/write"


@pytest.fixture(scope="module")
def azure() -> Iterator[LocalAzure]:
    """Return a tenant of three subscriptions."""
    with LocalAzure(subscriptions=3, limits=UNLIMITED) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def function(azure: LocalAzure, repository: Path) -> Iterator[AzureWorker]:
    """Return the function as the platform runs it."""
    with AzureWorker(APP, azure.environment(), task_root=repository) as worker:
        assert worker.worker.startswith("azure-functions-runtime ")
        yield worker


@pytest.fixture(autouse=True)
def _reset(azure: LocalAzure) -> Iterator[None]:
    """Remove each test's exports, faults and state."""
    yield
    azure.clear_faults()
    azure.calls.clear()
    for subscription in azure.subscription_ids:
        azure.delete_export(subscription)
    with azure.blob_client(azure.host_account.name) as storage:
        try:
            storage.get_blob_client(STATE_CONTAINER, STATE).delete_blob()
        except ResourceNotFoundError:
            return


def events(done: Invocation) -> list[Mapping[str, Any]]:
    """Return the function's log lines; the test fails if one is not valid JSON."""
    return [json.loads(line) for line in done.logs if line.startswith("{")]


def test_timer_and_both_routes_are_indexed(function: AzureWorker) -> None:
    """The platform finds one timer with the configured schedule, and two routes that require a function key."""
    functions = function.functions()
    triggers = {name: bindings[0] for name, bindings in functions.items()}
    assert triggers["reconcile_timer"]["schedule"] == "%SCHEDULE%"
    assert {(one["route"], *one["methods"]) for one in triggers.values() if one["type"] == "httpTrigger"} == {
        ("reconcile", "POST"),
        ("status", "GET"),
    }
    assert {one["authLevel"] for one in triggers.values() if one["type"] == "httpTrigger"} == {"FUNCTION"}


def test_timer_creates_every_export(azure: LocalAzure, function: AzureWorker) -> None:
    """The run covers the tenant and logs its start and end."""
    done = function.invoke_timer("reconcile_timer")
    assert done.error is None
    assert len(azure.exports()) == 3
    lines = events(done)
    assert lines[0]["event"] == "run-started"
    assert [line["code"] for line in lines if line.get("event") == "run-finished"] == ["ok"]


def test_event_timer_restores_a_deleted_export(azure: LocalAzure, repository: Path) -> None:
    """EVENT_SCHEDULE adds a second timer, which reads the activity log."""
    event_settings = {"EVENT_SCHEDULE": "0 4-59/5 * * * *", "ACTIVITY_LOG_WORKSPACE": azure.send_activity_log()}
    with AzureWorker(APP, {**azure.environment(), **event_settings}, task_root=repository) as worker:
        assert worker.functions()["changes_timer"][0]["schedule"] == "%EVENT_SCHEDULE%"
        worker.invoke_timer("reconcile_timer")
        deleted = azure.subscription_ids[1]
        azure.delete_export(deleted)
        azure.calls.clear()
        done = worker.invoke_timer("changes_timer")
    assert done.error is None
    assert len(azure.exports(deleted)) == 1
    assert {one.resource.split("/")[2] for one in azure.calls.select("Microsoft.CostManagement/*")} == {deleted}


def test_http_request_returns_the_report(azure: LocalAzure, function: AzureWorker) -> None:
    """An empty body starts a full run; the response is 200 with the report."""
    done = function.invoke_http("POST", ROUTE)
    report = done.json()
    assert (done.status, report["status"], report["run_complete"]) == (200, "ok", True)
    assert report["scopes"]["covered"] == report["scopes"]["active"] == 3
    assert len(azure.exports()) == 3


def test_status_is_read_from_the_state_only(azure: LocalAzure, function: AzureWorker) -> None:
    """GET /api/status returns the last run's coverage without calling Resource Manager."""
    function.invoke_timer("reconcile_timer")
    azure.calls.clear()
    response = function.invoke_http("GET", "/api/status")
    assert response.status == 200
    assert response.json()["scopes"]["covered"] == 3
    assert azure.calls.count() == 0


@pytest.mark.parametrize(
    ("body", "named"),
    [
        pytest.param(b"{", "JSON", id="invalid JSON"),
        pytest.param(b"\xff\xfe", "JSON", id="not text"),
        pytest.param({"dryrun": True}, "dryrun", id="unknown key"),
        pytest.param(b"[1]", "object", id="not an object"),
    ],
)
def test_invalid_request_is_400_and_makes_no_call(
    azure: LocalAzure, function: AzureWorker, body: bytes | dict[str, Any], named: str
) -> None:
    """The response names the problem."""
    refused = function.invoke_http("POST", ROUTE, body)
    assert refused.status == 400
    assert named in refused.body.decode()
    assert azure.calls.count() == 0


def test_concurrent_run_is_409_with_the_id_of_the_first(azure: LocalAzure, function: AzureWorker) -> None:
    """While another run holds the lock, HTTP returns 409 with its id, and the timer's invocation fails with it."""
    now = datetime.now(UTC)
    running = {"run_id": "r-of-another", "since": now.isoformat(), "until": (now + timedelta(minutes=5)).isoformat()}
    document = json.dumps({"version": 2, "cloud": "azure", "running": running}).encode()
    with azure.blob_client(azure.host_account.name) as storage:
        storage.get_blob_client(STATE_CONTAINER, STATE).upload_blob(document, overwrite=True)
    refused, ticked = function.invoke_http("POST", ROUTE), function.invoke_timer("reconcile_timer")
    assert (refused.status, refused.json()["running"]["run_id"]) == (409, "r-of-another")
    assert ticked.error is not None
    assert "r-of-another" in ticked.error["errorMessage"]
    assert azure.exports() == []


def test_failed_run_is_500_and_a_failed_invocation(azure: LocalAzure, function: AzureWorker) -> None:
    """With an expired token, HTTP returns 500 with the failure, and the timer's invocation fails without secrets."""
    azure.break_identity("expired")
    try:
        failed, ticked = function.invoke_http("POST", ROUTE), function.invoke_timer("reconcile_timer")
    finally:
        azure.break_identity("well")
    assert (failed.status, failed.json()["status"]) == (500, "failed")
    assert [one["code"] for one in failed.json()["failures"]] == ["credentials"]
    assert ticked.error is not None
    assert "credentials" in ticked.error["errorMessage"]
    secrets = (azure.token(), azure.environment()["BLOB_KEY"])
    output = "\n".join((*failed.logs, *ticked.logs, failed.body.decode(), *ticked.error.values()))
    assert not any(secret in output for secret in secrets)


def test_all_invalid_settings_are_reported_in_one_500(azure: LocalAzure, repository: Path) -> None:
    """One response names every invalid setting, and Azure is not called."""
    wrong = {"EXPORTS": "cur2", "DESTINATION": "data", "CALLS_AT_ONCE": "many"}
    with AzureWorker(APP, {**azure.environment(), **wrong}, task_root=repository) as worker:
        refused, ticked = worker.invoke_http("POST", ROUTE), worker.invoke_timer("reconcile_timer")
    assert refused.status == 500
    assert {fault.partition(":")[0] for fault in refused.json()["faults"]} == set(wrong)
    assert ticked.error is not None
    assert all(name in ticked.error["errorMessage"] for name in wrong)
    assert azure.calls.count() == 0


def test_concurrent_timer_and_http_runs_write_nothing_twice(azure: LocalAzure, function: AzureWorker) -> None:
    """Either one run is refused with the other's id, or both run one after the other."""
    azure.latency(0.05, "Microsoft.CostManagement/*")
    answers: list[Response] = []
    thread = threading.Thread(target=lambda: answers.append(function.invoke_http("POST", ROUTE)))
    thread.start()
    ticked = function.invoke_timer("reconcile_timer")
    thread.join()
    (answer,) = answers
    assert answer.status in (200, 409)
    assert ticked.error is None or "AnotherRun" in ticked.error["errorMessage"]
    assert answer.status == 200 or ticked.error is None
    made = Counter(call.resource for call in azure.calls.select(WRITE, status=201))
    assert len(azure.exports()) == len(made) == 3
    assert set(made.values()) == {1}
