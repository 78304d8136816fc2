"""The one log schema."""

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


def test_a_line_has_the_runs_fields_the_targets_and_its_own() -> None:
    """The key fills scope, kind and name."""
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
    """What is not given says nothing; zero does."""
    log, lines = collecting()
    log("info", "observed", Key("s1", "", ""), code="", duration_ms=0)
    assert lines[0][2] == {"run_id": "run-1", "cloud": "memory", "scope": "s1", "duration_ms": 0}


def test_an_event_without_an_entry_is_a_defect() -> None:
    """Nobody can log what the runbook does not explain."""
    log, lines = collecting()
    with pytest.raises(KeyError, match="made-up"):
        log("info", "made-up")
    assert lines == []


def test_the_sink_writes_one_json_object_a_line() -> None:
    """Line breaks and quotes of a value stay inside it; values JSON does not know are written as text."""
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


def test_the_sink_writes_to_standard_error_as_it_is_at_that_moment(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output stays free for what a command prints."""
    Log(json_sink(), "run-1", "memory")("info", "run-started")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["event"] == "run-started"


def test_every_event_that_is_declared_is_written_somewhere(repository: Path) -> None:
    """The list of events holds nothing that no code says, and each is explained."""
    folders = ("shared", "aws_lambda", "azure_function", "gcp_function")
    modules = [path for folder in folders for path in (repository / folder).rglob("*.py") if path.name != "log.py"]
    code = "".join(path.read_text(encoding="utf-8") for path in modules)
    said = set(re.findall(r'"([a-z]+(?:-[a-z]+)*)"', code))
    assert sorted(EVENTS.keys() - said) == []
    assert all(EVENTS.values())
