"""The HTTP function, served by functions-framework: status codes, reports and log lines."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from functions_framework import create_app

from gcp_function import handler
from gcp_function.handler import cloud_logging, trace_of
from gcp_function.provider import GcpCloud
from localcloud.gcp.cloud import LocalGcp
from shared.errors import AnotherRun
from tests.gcp_function.support import accounts, local_gcp

TRACE = "0af7651916cd43dd8448eb211c80319c"
HEADER = {"X-Cloud-Trace-Context": f"{TRACE}/123;o=1"}


@pytest.fixture(scope="module")
def served() -> Any:
    """Return a test client of the function as functions-framework serves it."""
    app = create_app("reconcile", str(Path(handler.__file__)), "http")  # type: ignore[no-untyped-call]  # it has no types
    return app.test_client()


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGcp]:
    """Return a project in real time, with the function's environment variables set in this process."""
    with local_gcp(accounts=2, done=2, history_days=2, clock=None) as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        yield cloud


def lines(text: str) -> list[dict[str, Any]]:
    """Return the JSON log lines in captured output."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_call_runs_and_returns_the_report(served: Any, deployed: LocalGcp, capsys: pytest.CaptureFixture[str]) -> None:
    """Cloud Scheduler's empty POST is a full run: 200, the report as JSON, log lines with severity and trace."""
    answer = served.post("/", headers=HEADER)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    report = answer.get_json()
    assert (report["cloud"], report["status"]) == ("gcp", "ok")
    assert report["scopes"]["covered"] == report["scopes"]["total"] == 2
    written = lines(capsys.readouterr().out)
    assert {"INFO"} <= {line["severity"] for line in written}
    assert {line["logging.googleapis.com/trace"] for line in written} == {f"projects/{deployed.project}/traces/{TRACE}"}
    assert {"run-started", "run-finished"} <= {line["event"] for line in written}


def test_run_logs_its_metrics_as_one_line(served: Any, deployed: LocalGcp, capsys: pytest.CaptureFixture[str]) -> None:
    """The counts are fields of one line, named as log-based metrics filter them; a dry run logs none."""
    served.post("/", json={"dry_run": True})
    assert "figures" not in {line["event"] for line in lines(capsys.readouterr().out)}
    served.post("/")
    deployed.revoke("roles/billing.viewer")
    served.post("/")
    complete, denied = [line for line in lines(capsys.readouterr().out) if line["event"] == "figures"]
    assert (complete["status"], complete["covered"], complete["missing"], complete["manual"]) == ("ok", 2, 0, 0)
    assert complete["seconds_since_last_success"] < 60
    assert (complete["severity"], complete["cloud"]) == ("INFO", "gcp")
    assert denied["status"] == "degraded"
    assert denied["calls"] > 0


@pytest.mark.parametrize(
    ("headers", "trigger"), [({"X-CloudScheduler": "true"}, "timer"), ({"ce-type": "google.x"}, "event"), ({}, "call")]
)
def test_report_has_the_trigger(served: Any, deployed: LocalGcp, headers: dict[str, str], trigger: str) -> None:
    """Cloud Scheduler marks its calls and events have a type; every other request is a call."""
    assert served.post("/", json={"dry_run": True}, headers=headers).get_json()["trigger"] == trigger


def test_request_body_selects_a_dry_run_for_one_account(served: Any, deployed: LocalGcp) -> None:
    """The body has the same format as on the other clouds."""
    account = accounts(deployed)[0]
    answer = served.post("/", json={"dry_run": True, "scopes": [account]})
    assert answer.status_code == 200
    assert answer.get_json()["dry_run"] is True
    assert deployed.copies() == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{not json", "not valid JSON"),
        (b'{"scope": []}', "unknown key"),
        (b"[1]", "not an object"),
        (b'{"scopes": "all", "force": 1}', "'force' is int"),
        (b'{"months": ["2026-01"]}', "'months': Google delivers no past months once an export is switched on"),
    ],
)
def test_invalid_request_makes_no_call(served: Any, deployed: LocalGcp, body: bytes, problem: str) -> None:
    """The response is 400 and lists every problem, before any call to Google."""
    answer = served.post("/", data=body)
    assert answer.status_code == 400
    assert problem in "; ".join(answer.get_json()["faults"])
    assert deployed.calls.count() == 0


def test_invalid_settings_make_no_call(served: Any, deployed: LocalGcp, monkeypatch: pytest.MonkeyPatch) -> None:
    """The response is 500 and lists every problem."""
    monkeypatch.setenv("COPY_DAYS", "many")
    monkeypatch.setenv("DATASET_LOCATION", "nowhere 1")
    answer = served.post("/")
    assert answer.status_code == 500
    assert len(answer.get_json()["faults"]) == 2
    assert deployed.calls.count() == 0


def test_failed_run_returns_500(served: Any, deployed: LocalGcp) -> None:
    """The response has the report and its remedy, and Cloud Scheduler counts the call as failed."""
    deployed.delete_project()
    answer = served.post("/")
    assert answer.status_code == 500
    assert answer.get_json()["status"] == "failed"
    assert "undelete" in answer.get_json()["failures"][0]["remedy"]


def test_degraded_run_returns_200(served: Any, deployed: LocalGcp) -> None:
    """The report has the failures; the status is 200 because an immediate retry would not help."""
    deployed.revoke("roles/billing.viewer")
    answer = served.post("/")
    assert (answer.status_code, answer.get_json()["status"]) == (200, "degraded")


def test_concurrent_run_returns_409(served: Any, deployed: LocalGcp, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another run holds the lock, the response names that run."""

    def held(*_: object, **__: object) -> None:
        raise AnotherRun("run-1", "09:00", "09:05")

    monkeypatch.setattr(GcpCloud, "enumerate", held)
    answer = served.post("/")
    assert answer.status_code == 409
    assert "run-1" in answer.get_json()["message"]


@pytest.mark.parametrize(
    ("headers", "span"),
    [
        (HEADER, None),
        ({"Traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}, "b7ad6b7169203331"),
        ({"X-Cloud-Trace-Context": "nonsense"}, ""),
        ({}, ""),
    ],
)
def test_log_lines_have_the_trace_of_their_request(headers: dict[str, str], span: str | None) -> None:
    """Both trace headers are parsed; an invalid header adds no field."""
    fields = trace_of(headers, {"GOOGLE_CLOUD_PROJECT": "p"})
    if span == "":
        assert fields == {}
    else:
        assert fields["logging.googleapis.com/trace"] == f"projects/p/traces/{TRACE}"
        assert fields.get("logging.googleapis.com/spanId") == span


def test_log_line_has_the_severity_of_its_event() -> None:
    """Cloud Logging reads the severity field; the message has the event and its reason."""
    stream = io.StringIO()
    sink = cloud_logging({}, stream)
    for level in ("debug", "info", "warning", "error"):
        sink(level, "manual-step", {"reason": "because"})
    written = lines(stream.getvalue())
    assert [line["severity"] for line in written] == ["DEBUG", "INFO", "WARNING", "ERROR"]
    assert {line["message"] for line in written} == {"manual-step: because"}
