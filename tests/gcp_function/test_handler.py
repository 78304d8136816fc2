"""The HTTP function, served by functions-framework: codes, reports and log lines."""

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
    """Return a client of the function as functions-framework serves it."""
    app = create_app("reconcile", str(Path(handler.__file__)), "http")  # type: ignore[no-untyped-call]  # it has no types
    return app.test_client()


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGcp]:
    """Return a project on the machine's clock, with the function's environment set for this process."""
    with local_gcp(accounts=2, done=2, history_days=2, clock=None) as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        yield cloud


def lines(text: str) -> list[dict[str, Any]]:
    """Return the log lines of a call."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_a_call_runs_and_answers_with_the_report(
    served: Any, deployed: LocalGcp, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cloud Scheduler's empty POST is a full run: 200, the report as JSON, and log lines with severity and trace."""
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


def test_each_run_writes_its_figures_as_one_line(
    served: Any, deployed: LocalGcp, capsys: pytest.CaptureFixture[str]
) -> None:
    """The counts are fields of one line, under the names that log-based metrics filter by; a dry run writes none."""
    served.post("/", json={"dry_run": True})
    assert "figures" not in {line["event"] for line in lines(capsys.readouterr().out)}
    served.post("/")
    deployed.revoke("roles/billing.viewer")
    served.post("/")
    whole, blind = [line for line in lines(capsys.readouterr().out) if line["event"] == "figures"]
    assert (whole["status"], whole["covered"], whole["missing"], whole["manual"]) == ("ok", 2, 0, 0)
    assert whole["seconds_since_last_success"] < 60
    assert (whole["severity"], whole["cloud"]) == ("INFO", "gcp")
    assert blind["status"] == "degraded"
    assert blind["calls"] > 0


@pytest.mark.parametrize(
    ("headers", "trigger"), [({"X-CloudScheduler": "true"}, "timer"), ({"ce-type": "google.x"}, "event"), ({}, "call")]
)
def test_the_report_names_its_trigger(served: Any, deployed: LocalGcp, headers: dict[str, str], trigger: str) -> None:
    """Cloud Scheduler marks its calls and events carry their type; anything else is somebody's call."""
    assert served.post("/", json={"dry_run": True}, headers=headers).get_json()["trigger"] == trigger


def test_a_dry_run_for_one_account_is_asked_for_by_its_body(served: Any, deployed: LocalGcp) -> None:
    """The body takes the same request as the other clouds."""
    account = accounts(deployed)[0]
    answer = served.post("/", json={"dry_run": True, "scopes": [account]})
    assert answer.status_code == 200
    assert answer.get_json()["dry_run"] is True
    assert deployed.copies() == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{not json", "not valid JSON"),
        (b'{"scope": []}', "unknown key"),
        (b"[1]", "not an object"),
        (b'{"scopes": "all", "force": 1}', "'force' is int"),
    ],
)
def test_a_bad_request_makes_no_call(served: Any, deployed: LocalGcp, body: bytes, said: str) -> None:
    """A request with faults is answered with 400 and every fault, before anything is asked of Google."""
    answer = served.post("/", data=body)
    assert answer.status_code == 400
    assert said in "; ".join(answer.get_json()["faults"])
    assert deployed.calls.count() == 0


def test_bad_settings_make_no_call(served: Any, deployed: LocalGcp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings with faults are answered with 500 and every fault."""
    monkeypatch.setenv("COPY_DAYS", "many")
    monkeypatch.setenv("DATASET_LOCATION", "nowhere 1")
    answer = served.post("/")
    assert answer.status_code == 500
    assert len(answer.get_json()["faults"]) == 2
    assert deployed.calls.count() == 0


def test_a_failed_run_is_an_error_that_schedulers_see(served: Any, deployed: LocalGcp) -> None:
    """A run whose status is failed answers 500, with its report and the remedy."""
    deployed.delete_project()
    answer = served.post("/")
    assert answer.status_code == 500
    assert answer.get_json()["status"] == "failed"
    assert "undelete" in answer.get_json()["failures"][0]["remedy"]


def test_a_degraded_run_is_answered_with_its_report(served: Any, deployed: LocalGcp) -> None:
    """What failed in part is told in the report: 200, since trying again at once would not help."""
    deployed.revoke("roles/billing.viewer")
    answer = served.post("/")
    assert (answer.status_code, answer.get_json()["status"]) == (200, "degraded")


def test_a_second_run_is_told_to_wait(served: Any, deployed: LocalGcp, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another run holds the lock the answer is 409 and says who holds it."""

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
def test_lines_are_tied_to_their_call(headers: dict[str, str], span: str | None) -> None:
    """Both trace headers are understood; nonsense ties a line to nothing."""
    fields = trace_of(headers, {"GOOGLE_CLOUD_PROJECT": "p"})
    if span == "":
        assert fields == {}
    else:
        assert fields["logging.googleapis.com/trace"] == f"projects/p/traces/{TRACE}"
        assert fields.get("logging.googleapis.com/spanId") == span


def test_severity_is_the_events_own() -> None:
    """Cloud Logging shows an error as an error: severity is written, and the message says what and why."""
    stream = io.StringIO()
    sink = cloud_logging({}, stream)
    for level in ("debug", "info", "warning", "error"):
        sink(level, "manual-step", {"reason": "because"})
    written = lines(stream.getvalue())
    assert [line["severity"] for line in written] == ["DEBUG", "INFO", "WARNING", "ERROR"]
    assert {line["message"] for line in written} == {"manual-step: because"}
