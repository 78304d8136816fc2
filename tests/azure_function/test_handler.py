"""The entry points of the function app: timer, HTTP and status, and their responses."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import azure.functions as func
import pytest

from azure_function import handler
from azure_function.handler import app
from azure_function.invocation import status_once
from localcloud.azure.cloud import LocalAzure
from shared.errors import SettingsError, Transient
from shared.runtime.clock import Clock
from tests.azure_function.support import Lines, run


@pytest.fixture
def functions(azure: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[..., Any]]:
    """Return the app's functions by name, with the settings and the clock of the local cloud."""
    for name, value in azure.environment().items():
        monkeypatch.setenv(name, value)
    return at(azure.clock)


def at(clock: Clock) -> dict[str, Callable[..., Any]]:
    """Return the app's functions by name, with the given clock."""
    return {
        "reconcile_timer": lambda _timer: handler.on_tick(clock),
        "reconcile_http": lambda request: handler.on_request(request, clock),
        "status": lambda _request: handler.on_status(clock),
    }


@cache
def indexed() -> dict[str, Any]:
    """Return the app's functions by name. An app can be indexed only once per process."""
    return {str(one.get_function_name()): one for one in app.get_functions()}


def post(functions: dict[str, Callable[..., Any]], body: bytes) -> tuple[int, Any]:
    """Return status code and JSON document of a request to the HTTP trigger."""
    request = func.HttpRequest(method="POST", url="http://host/api/reconcile", body=body)
    response: func.HttpResponse = functions["reconcile_http"](request)
    return response.status_code, json.loads(response.get_body())


def test_triggers_have_the_documented_bindings() -> None:
    """A timer with %SCHEDULE%, and POST reconcile and GET status, which both require a function key."""
    bindings = {}
    for name, one in indexed().items():
        found = json.loads(one.get_function_json())["bindings"]
        bindings[name] = next(binding for binding in found if binding["type"] in ("timerTrigger", "httpTrigger"))
    assert bindings["reconcile_timer"]["schedule"] == "%SCHEDULE%"
    assert bindings["reconcile_timer"]["runOnStartup"] is False
    for name, route, method in (("reconcile_http", "reconcile", "POST"), ("status", "status", "GET")):
        assert bindings[name]["route"] == route
        assert [str(getattr(one, "value", one)) for one in bindings[name]["methods"]] == [method]
        assert str(bindings[name]["authLevel"]).lower().endswith("function")


def test_http_returns_the_report(functions: dict[str, Callable[..., Any]]) -> None:
    """An empty body is a full run; a dry run returns the same plan hash."""
    code, planned = post(functions, b'{"dry_run": true}')
    assert (code, planned["dry_run"], planned["status"]) == (200, True, "ok")
    code, report = post(functions, b"")
    assert (code, report["scopes"]["covered"], report["trigger"]) == (200, 6, "call")
    assert report["plan_hash"] == planned["plan_hash"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"dryrun": true}', b'{"scopes": "x"}', b"x" * 1_000_001])
def test_invalid_request_returns_400_before_the_settings_are_read(body: bytes) -> None:
    """The response lists what is wrong."""
    code, document = post({name: one.get_user_function() for name, one in indexed().items()}, body)
    assert code == 400
    assert document["faults"]


@pytest.mark.parametrize("month", ["2199-01", "1999-12"])
def test_months_that_azure_cannot_deliver_return_400(
    functions: dict[str, Callable[..., Any]], azure: LocalAzure, month: str
) -> None:
    """A month that has not ended, or that is older than seven years, is named with those that can be requested."""
    azure.calls.clear()
    code, document = post(functions, json.dumps({"months": [month]}).encode())
    assert code == 400
    assert f"'months': {month}: only months from" in document["faults"][0]
    assert len(azure.calls) == 0


def test_concurrent_run_returns_409(functions: dict[str, Callable[..., Any]], azure: LocalAzure) -> None:
    """The response has the id of the run that holds the lock."""
    run(azure)
    with azure.blob_client(azure.host_account.name) as client:
        blob = client.get_blob_client("tailpipe-state", "known_subscriptions.json")
        document = json.loads(blob.download_blob().readall())
        now = azure.clock.now()
        document["running"] = {"run_id": "other", "since": now.isoformat(), "until": now.replace(minute=4).isoformat()}
        blob.upload_blob(json.dumps(document).encode(), overwrite=True)
    code, document = post(functions, b"")
    assert (code, document["running"]["run_id"]) == (409, "other")


def test_failed_run_and_invalid_settings_return_500(
    functions: dict[str, Callable[..., Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The response has the reason. The timer function raises the error."""
    monkeypatch.setenv("AZURE_TENANT_ID", "00000000-0000-0000-0000-00000000000f")
    code, report = post(functions, b"")
    assert (code, report["status"]) == (500, "failed")
    with pytest.raises(handler.RunFailed, match="wrong-tenant"):
        functions["reconcile_timer"](None)
    monkeypatch.setenv("EXPORTS", "everything")
    code, document = post(functions, b"")
    assert (code, document["error"]) == (500, "bad-settings")
    with pytest.raises(SettingsError):
        functions["reconcile_timer"](None)


def test_error_before_the_report_returns_500_with_a_remedy(
    functions: dict[str, Callable[..., Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both HTTP functions return code, message and remedy, without a traceback."""

    def broken(*_: object, **__: object) -> None:
        raise Transient("connection", "Azure could not be reached")

    monkeypatch.setattr(handler, "run_once", broken)
    monkeypatch.setattr(handler, "status_once", broken)
    response: func.HttpResponse = functions["status"](None)
    status = response.status_code, json.loads(response.get_body())
    for code, document in (post(functions, b""), status):
        assert (code, document["error"], document["message"]) == (500, "connection", "Azure could not be reached")
        assert document["remedy"]


def test_http_run_ends_before_the_time_limit_and_the_next_run_continues(
    functions: dict[str, Callable[..., Any]], azure: LocalAzure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No work starts that cannot end in time.

    The report says that the run is incomplete and where the next one starts.
    """
    azure.faults.latency(39, "Microsoft.CostManagement/exports/write")
    monkeypatch.setenv("CALLS_AT_ONCE", "1")
    begun = azure.clock.monotonic()
    code, report = post(functions, b"")
    assert (code, report["run_complete"]) == (200, False)
    assert "the next run starts with" in report["next_run_hint"]
    assert azure.clock.monotonic() - begun < 230
    azure.clear_faults()
    code, report = post(functions, b"")
    assert (code, report["run_complete"], report["scopes"]["covered"]) == (200, True, 6)


def test_status_returns_the_coverage_from_the_state(
    functions: dict[str, Callable[..., Any]], azure: LocalAzure
) -> None:
    """It calls no Resource Manager API."""
    functions["reconcile_timer"](None)
    azure.calls.clear()
    response: func.HttpResponse = functions["status"](None)
    document = json.loads(response.get_body())
    assert response.status_code == 200
    assert document["scopes"]["covered"] == 6
    assert document["last_run"]["status"] == "ok"
    assert len(azure.calls) == 0


def test_status_without_a_state_is_empty(azure: LocalAzure) -> None:
    """A missing state is not an error."""
    clock: Clock = azure.clock
    assert status_once(azure.environment(), Lines(), clock)["scopes"]["total"] == 0


def test_events_are_json_lines_without_secrets(
    functions: dict[str, Callable[..., Any]], azure: LocalAzure, caplog: pytest.LogCaptureFixture
) -> None:
    """Each event is one line with the shared field names."""
    with caplog.at_level(logging.INFO, logger="tailpipe-exports"):
        functions["reconcile_timer"](None)
    lines = [json.loads(record.message) for record in caplog.records if record.name == "tailpipe-exports"]
    assert {"run-started", "enumerated", "write-done", "run-finished"} <= {line["event"] for line in lines}
    (figures,) = [line for line in lines if line["event"] == "figures"]
    assert (figures["status"], figures["covered"], figures["missing"]) == ("ok", 6, 0)
    assert figures["seconds_since_last_success"] < 60
    environment = azure.environment()
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert environment["ARM_TOKEN"] not in text
    assert environment["BLOB_KEY"] not in text
