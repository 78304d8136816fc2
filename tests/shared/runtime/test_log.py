"""The schema of log lines."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from shared.model import Key
from shared.runtime.log import EVENTS, Log, json_sink

Line = tuple[str, str, Mapping[str, Any]]


def collecting() -> tuple[Log, list[Line]]:
    """Return a log and the lines that it writes."""
    lines: list[Line] = []
    return Log(lambda level, event, fields: lines.append((level, event, fields)), "run-1", "memory"), lines


def test_line_has_the_fields_of_the_run_the_target_and_the_event() -> None:
    """The key sets scope, kind and name."""
    log, lines = collecting()
    log("warning", "unknown", Key("s1", "export", "daily"), code="denied", attempt=0)
    assert lines == [
        (
            "warning",
            "unknown",
            {
                "run_id": "run-1",
                "cloud": "memory",
                "scope": "s1",
                "kind": "export",
                "name": "daily",
                "code": "denied",
                "attempt": 0,
            },
        )
    ]


def test_empty_fields_are_left_out() -> None:
    """Zero is kept."""
    log, lines = collecting()
    log("info", "observed", Key("s1", "", ""), code="", duration_ms=0)
    assert lines[0][2] == {"run_id": "run-1", "cloud": "memory", "scope": "s1", "duration_ms": 0}


def test_undeclared_event_is_refused() -> None:
    """Every event must be declared and have an entry in the runbook."""
    log, lines = collecting()
    with pytest.raises(KeyError, match="made-up"):
        log("info", "made-up")
    assert lines == []


def test_sink_writes_one_json_object_per_line() -> None:
    """Line breaks and quotes stay inside a value; values that JSON does not support are written as text."""
    stream = io.StringIO()
    log = Log(json_sink(stream), "run-1", "memory")
    log("error", "write-failed", reason='two\nlines and a "quote"', duration_ms=12)
    log("info", "observed", reason=str(Path("somewhere")))
    first, second = stream.getvalue().splitlines()
    assert json.loads(first) == {
        "level": "ERROR",
        "event": "write-failed",
        "run_id": "run-1",
        "cloud": "memory",
        "reason": 'two\nlines and a "quote"',
        "duration_ms": 12,
    }
    assert json.loads(second)["reason"] == "somewhere"


def test_sink_writes_to_the_current_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output stays free for the output of a command."""
    Log(json_sink(), "run-1", "memory")("info", "run-started")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["event"] == "run-started"


def test_every_declared_event_is_logged_by_the_code(repository: Path) -> None:
    """Each event also has an explanation."""
    folders = ("shared", "aws_lambda", "azure_function", "gcp_function")
    modules = [path for folder in folders for path in (repository / folder).rglob("*.py") if path.name != "log.py"]
    code = "".join(path.read_text(encoding="utf-8") for path in modules)
    logged = set(re.findall(r'"([a-z]+(?:-[a-z]+)*)"', code))
    assert sorted(EVENTS.keys() - logged) == []
    assert all(EVENTS.values())
