"""The contract of every HTTP entry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from shared.errors import AnotherRun, Denied, RegistryError, RequestError, RunStopped, SettingsError
from shared.http import MAX_BODY, HttpAnswer, answer_run, parse_body
from shared.reconcile import RunResult
from shared.request import RunRequest, Trigger

Line = tuple[str, str, Mapping[str, Any]]


def ended(status: str) -> RunResult:
    """Return a run that ended with this status."""
    report = {"status": status, "actions": [], "manual": [], "failures": []}
    return RunResult(report, None, (), ())


def answered(ending: RunResult | Exception, body: bytes = b"") -> tuple[HttpAnswer, list[Line], list[RunRequest]]:
    """Return the response to a call whose run ends with `end`, the log lines, and the request of the run."""
    lines: list[Line] = []
    asked: list[RunRequest] = []

    def run(request: RunRequest) -> RunResult:
        asked.append(request)
        if isinstance(ending, Exception):
            raise ending
        return ending

    found = answer_run(body, Trigger.TIMER, run, lambda level, event, fields: lines.append((level, event, fields)))
    return found, lines, asked


@pytest.mark.parametrize(("status", "code"), [("ok", 200), ("degraded", 200), ("failed", 500)])
def test_run_returns_its_report(status: str, code: int) -> None:
    """Only a failed run is an error for the caller; the entry sets the trigger, never the body."""
    found, lines, (request,) = answered(ended(status), b'{"dry_run": true}')
    assert (found.status, json.loads(found.body())["status"], lines) == (code, status, [])
    assert (request.dry_run, request.trigger) == (True, Trigger.TIMER)


@pytest.mark.parametrize(
    ("ending", "status", "code"),
    [
        pytest.param(RequestError(["x is wrong"]), 400, "bad-request", id="request"),
        pytest.param(SettingsError(["X is wrong"]), 500, "bad-settings", id="settings"),
        pytest.param(RegistryError(["a is wrong"]), 500, "bad-registry", id="registry"),
        pytest.param(Denied("denied", "no right"), 500, "denied", id="a cloud's refusal"),
        pytest.param(RunStopped("credentials", "expired"), 500, "credentials", id="a run that was stopped"),
        pytest.param(ZeroDivisionError("secret"), 500, "internal-error", id="a defect"),
    ],
)
def test_every_error_is_returned_and_logged(ending: Exception, status: int, code: str) -> None:
    """The body has the code and the problems or the remedy, but not the text of an unexpected exception."""
    found, ((level, event, fields),), _ = answered(ending)
    document = json.loads(found.body())
    assert (found.status, document["error"]) == (status, code)
    assert document.get("faults") or document["remedy"]
    assert (level, event, fields["code"]) == ("error", "refused", code)
    assert "secret" not in found.body() + str(fields)


def test_concurrent_run_is_409_with_the_holder() -> None:
    """It is a conflict rather than a failure, and is not logged as one."""
    found, lines, _ = answered(AnotherRun("run-1", "09:00", "09:05"))
    assert (found.status, found.document["error"], lines) == (409, "another-run", [])
    assert found.document["running"] == {"run_id": "run-1", "since": "09:00", "until": "09:05"}
    assert found.document["remedy"]


@pytest.mark.parametrize("body", [b"", b" \n"])
def test_empty_body_requests_a_full_run(body: bytes) -> None:
    """Schedulers send an empty body."""
    assert parse_body(body) is None
    assert answered(ended("ok"), body)[2] == [RunRequest(trigger=Trigger.TIMER)]


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b" " * (MAX_BODY + 1)])
def test_invalid_body_is_400_without_a_run(body: bytes) -> None:
    """Malformed, undecodable, deeply nested and oversized bodies are refused before any call to a cloud."""
    found, _, asked = answered(ended("ok"), body)
    assert (found.status, found.document["error"], asked) == (400, "bad-request", [])
