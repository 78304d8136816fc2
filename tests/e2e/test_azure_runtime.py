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
from localcloud.azure.runtime.worker import AzureWorker, Invocation, Response

APP = "azure_function.handler"
STATE = "known_subscriptions.json"
ROUTE = "/api/reconcile"
WRITE = "Microsoft.CostManagement/exports/write"


@pytest.fixture(scope="module")
def azure() -> Iterator[LocalAzure]:
    """Return a tenant of three subscriptions."""
    with LocalAzure(subscriptions=3) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def function(azure: LocalAzure, repository: Path) -> Iterator[AzureWorker]:
    """Return the function as the platform runs it."""
    with AzureWorker(APP, azure.environment(), task_root=repository) as worker:
        assert worker.worker.startswith("azure-functions-runtime ")
        yield worker


@pytest.fixture(autouse=True)
def _mended(azure: LocalAzure) -> Iterator[None]:
    """Forget after each test what it made, what it broke and what was remembered."""
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
    """Return the function's log lines; the test fails where one is no JSON object."""
    return [json.loads(line) for line in done.logs if line.startswith("{")]


def test_timer_and_both_routes_are_indexed(function: AzureWorker) -> None:
    """The platform finds one timer on the setting's schedule, and two routes that want a function key."""
    functions = function.functions()
    triggers = {name: bindings[0] for name, bindings in functions.items()}
    assert triggers["reconcile_timer"]["schedule"] == "%SCHEDULE%"
    assert {(one["route"], *one["methods"]) for one in triggers.values() if one["type"] == "httpTrigger"} == {
        ("reconcile", "POST"),
        ("status", "GET"),
    }
    assert {one["authLevel"] for one in triggers.values() if one["type"] == "httpTrigger"} == {"FUNCTION"}


def test_a_tick_creates_every_export(azure: LocalAzure, function: AzureWorker) -> None:
    """The timer's run covers the tenant and tells its end in the log."""
    done = function.invoke_timer()
    assert done.error is None
    assert len(azure.exports()) == 3
    told = events(done)
    assert told[0]["event"] == "run-started"
    assert [line["code"] for line in told if line.get("event") == "run-finished"] == ["ok"]


def test_a_look_creates_a_deleted_export_again(azure: LocalAzure, repository: Path) -> None:
    """With its schedule set there is a second timer, which acts on the activity log; without it there is none."""
    looking = {"EVENT_SCHEDULE": "0 4-59/5 * * * *", "ACTIVITY_LOG_WORKSPACE": azure.send_activity_log()}
    with AzureWorker(APP, {**azure.environment(), **looking}, task_root=repository) as worker:
        assert worker.functions()["changes_timer"][0]["schedule"] == "%EVENT_SCHEDULE%"
        worker.invoke_timer("reconcile_timer")
        deleted = azure.subscription_ids[1]
        azure.delete_export(deleted)
        azure.calls.clear()
        done = worker.invoke_timer("changes_timer")
    assert done.error is None
    assert len(azure.exports(deleted)) == 1
    assert {one.resource.split("/")[2] for one in azure.calls.select("Microsoft.CostManagement/*")} == {deleted}


def test_a_request_is_answered_with_the_report(azure: LocalAzure, function: AzureWorker) -> None:
    """An empty body is a full run; the answer is 200 with the report, within the answer's bound."""
    done = function.invoke_http("POST", ROUTE)
    report = done.json()
    assert (done.status, report["status"], report["run_complete"]) == (200, "ok", True)
    assert report["scopes"]["covered"] == report["scopes"]["active"] == 3
    assert len(azure.exports()) == 3


def test_status_is_told_from_memory_alone(azure: LocalAzure, function: AzureWorker) -> None:
    """GET /api/status tells the last run's coverage without any call to Resource Manager."""
    function.invoke_timer()
    azure.calls.clear()
    told = function.invoke_http("GET", "/api/status")
    assert told.status == 200
    assert told.json()["scopes"]["covered"] == 3
    assert azure.calls.count() == 0


@pytest.mark.parametrize(
    ("body", "named"),
    [
        pytest.param(b"{", "JSON", id="no JSON"),
        pytest.param(b"\xff\xfe", "JSON", id="no text"),
        pytest.param({"dryrun": True}, "dryrun", id="an unknown key"),
        pytest.param(b"[1]", "object", id="no object"),
    ],
)
def test_a_request_with_faults_is_400_and_touches_nothing(
    azure: LocalAzure, function: AzureWorker, body: bytes | dict[str, Any], named: str
) -> None:
    """A request that cannot be understood is refused by name before any call is made."""
    refused = function.invoke_http("POST", ROUTE, body)
    assert refused.status == 400
    assert named in refused.body.decode()
    assert azure.calls.count() == 0


def test_a_second_run_is_409_and_names_the_first(azure: LocalAzure, function: AzureWorker) -> None:
    """While another run holds the lock the route answers 409 with its id, and the timer's invocation fails with it."""
    now = datetime.now(UTC)
    running = {"run_id": "r-of-another", "since": now.isoformat(), "until": (now + timedelta(minutes=5)).isoformat()}
    document = json.dumps({"version": 2, "cloud": "azure", "running": running}).encode()
    with azure.blob_client(azure.host_account.name) as storage:
        storage.get_blob_client(STATE_CONTAINER, STATE).upload_blob(document, overwrite=True)
    refused, ticked = function.invoke_http("POST", ROUTE), function.invoke_timer()
    assert (refused.status, refused.json()["running"]["run_id"]) == (409, "r-of-another")
    assert ticked.error is not None
    assert "r-of-another" in ticked.error["errorMessage"]
    assert azure.exports() == []


def test_a_failed_run_is_500_and_a_failed_tick(azure: LocalAzure, function: AzureWorker) -> None:
    """With a token that is refused the answer is 500 with the remedy, and the timer's invocation counts as failed."""
    azure.break_identity("expired")
    try:
        failed, ticked = function.invoke_http("POST", ROUTE), function.invoke_timer()
    finally:
        azure.break_identity("well")
    assert (failed.status, failed.json()["status"]) == (500, "failed")
    assert [one["code"] for one in failed.json()["failures"]] == ["credentials"]
    assert ticked.error is not None
    assert "credentials" in ticked.error["errorMessage"]
    secrets = (azure.token(), azure.environment()["BLOB_KEY"])
    told = "\n".join((*failed.logs, *ticked.logs, failed.body.decode(), *ticked.error.values()))
    assert not any(secret in told for secret in secrets)


def test_wrong_settings_are_500_all_at_once(azure: LocalAzure, repository: Path) -> None:
    """Every wrong setting is named in one answer, and Azure is not asked."""
    wrong = {"EXPORTS": "cur2", "DESTINATION": "data", "CALLS_AT_ONCE": "many"}
    with AzureWorker(APP, {**azure.environment(), **wrong}, task_root=repository) as worker:
        refused, ticked = worker.invoke_http("POST", ROUTE), worker.invoke_timer()
    assert refused.status == 500
    assert {fault.partition(":")[0] for fault in refused.json()["faults"]} == set(wrong)
    assert ticked.error is not None
    assert all(name in ticked.error["errorMessage"] for name in wrong)
    assert azure.calls.count() == 0


def test_timer_and_http_at_once_do_no_harm(azure: LocalAzure, function: AzureWorker) -> None:
    """Of two triggers at once one runs and the other is told so, or both run one after the other; nothing twice."""
    azure.latency(0.05, "Microsoft.CostManagement/*")
    answers: list[Response] = []
    thread = threading.Thread(target=lambda: answers.append(function.invoke_http("POST", ROUTE)))
    thread.start()
    ticked = function.invoke_timer()
    thread.join()
    (answer,) = answers
    assert answer.status in (200, 409)
    assert ticked.error is None or "AnotherRun" in ticked.error["errorMessage"]
    assert answer.status == 200 or ticked.error is None
    made = Counter(call.resource for call in azure.calls.select(WRITE, status=201))
    assert len(azure.exports()) == len(made) == 3
    assert set(made.values()) == {1}
