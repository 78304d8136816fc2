"""The stored documents of a demonstration are kept, and shown as those of a demonstration, never of a deployment."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli import clouds
from cli.demo.kept import STATE
from cli.demo.runner import Documents, Runner
from cli.main import main
from shared.state.document import RunNote, ScopeRecord, dump, fresh
from shared.state.store import report_name

ENDED = datetime(2026, 1, 10, 1, 0, tzinfo=UTC)  # by a virtual clock
RUN = "20260110T004500Z-00000000"


class Storing:
    """A scenario in which the function stores a state and a report."""

    def run(self, runner: Runner, scopes: int) -> None:
        """Meet one expectation and return the documents."""
        document = fresh("aws")
        document.scopes = {"111122223333": ScopeRecord(at=ENDED, coverage="covered")}
        document.runs = [RunNote(RUN, ENDED - timedelta(minutes=15), "ok", active=1, covered=1)]
        created = {"scope": "111122223333", "kind": "export", "name": "daily", "verb": "CREATE", "result": "done"}
        report = {"run_id": RUN, "started_at": "2026-01-10T00:45:00Z", "status": "ok", "actions": [created]}
        with runner.step("Only", "all is well") as step:
            step.check("it is well", ok=True)
        stored = {STATE: dump(document, ENDED), report_name(RUN): json.dumps(report).encode()}
        runner.documents = Documents(stored, ENDED)


class Broken:
    """A scenario that fails before the function stores anything."""

    def run(self, runner: Runner, scopes: int) -> None:
        """Raise an error."""
        raise ConnectionError("the local cloud is gone")


def called(*arguments: str) -> Result:
    """Return the tool's result."""
    return CliRunner().invoke(main, list(arguments))


def play(monkeypatch: pytest.MonkeyPatch, scenario: Any) -> Result:
    """Play a scenario instead of AWS's and return the tool's result."""
    monkeypatch.setitem(clouds.CLOUDS, "aws", replace(clouds.CLOUDS["aws"], scenario=scenario))
    return called("demo", "aws")


def test_status_shows_a_demonstration_if_no_deployment_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is labeled as a demonstration, and the exit code is that of the unread deployment."""
    assert play(monkeypatch, Storing).exit_code == 0
    done = called("status", "aws")
    assert done.exit_code == 1
    assert "no status of AWS" in done.stderr
    assert "No deployment could be read. This is the last demonstration on this machine:" in done.stdout
    assert "AWS · demonstration  1 of 1 covered." in done.stdout


def test_json_shows_a_demonstration_only_with_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --json only --demo shows it, and the document says so."""
    play(monkeypatch, Storing)
    unasked = json.loads(called("status", "aws", "--json").stdout)
    assert unasked["clouds"] == []
    assert unasked.keys() == {"clouds", "error"}
    asked = called("status", "aws", "--json", "--demo")
    assert asked.exit_code == 0
    [found] = json.loads(asked.stdout)["clouds"]
    assert found["demo"] is True
    assert found["sentence"] == "1 of 1 covered."


def test_age_of_a_demonstration_is_by_its_virtual_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock shows another year, and the state is minutes old."""
    play(monkeypatch, Storing)
    done = called("status", "aws", "--demo")
    assert "state 0 min old · last run ok at 2026-01-10 00:45 UTC" in done.stdout
    assert "111122223333" in called("status", "aws", "111122223333", "--demo").stdout
    history = called("history", "aws", "--demo")
    assert history.stdout.startswith("AWS · demonstration\n")
    assert "2026-01-10 00:45 UTC · ok" in history.stdout


def test_demonstration_writes_its_page(monkeypatch: pytest.MonkeyPatch, state_home: Path) -> None:
    """The page is in the operator's state folder, and is labeled as a demonstration."""
    done = play(monkeypatch, Storing)
    page = state_home / "tailpipe-exports" / "demo" / "status.html"
    assert str(page) in done.stdout.splitlines()
    assert re.search(r"^(tailpipe-exports|/.* -m cli\.main) status aws --demo$", done.stdout, re.MULTILINE)
    assert "AWS · demonstration" in page.read_text(encoding="utf-8")
    # Its age is by its own clock, which is virtual: by this machine's it would be years old.
    assert f'"now":"{ENDED.isoformat()}"' in page.read_text(encoding="utf-8")


def test_new_demonstration_removes_the_documents_of_the_previous_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds even if the new one stores nothing."""
    play(monkeypatch, Storing)
    broken = play(monkeypatch, Broken)
    assert broken.exit_code == 1
    assert "page" not in broken.stdout
    done = called("status", "aws", "--demo")
    assert done.exit_code == 1
    assert "no demonstration of AWS is kept on this machine" in done.stderr
    assert "tailpipe-exports demo aws" in done.stderr


def test_documents_that_cannot_be_stored_do_not_change_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, state_home: Path
) -> None:
    """The reason is shown, and the expectations decide the exit code."""
    state_home.write_text("a file", encoding="utf-8")
    done = play(monkeypatch, Storing)
    assert done.exit_code == 0
    assert "Could not keep the state and reports" in done.stdout


def test_damaged_documents_are_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch, state_home: Path) -> None:
    """An unreadable state is not shown as an empty one."""
    play(monkeypatch, Storing)
    (state_home / "tailpipe-exports" / "demo" / "aws" / STATE).write_text("{", encoding="utf-8")
    done = called("status", "aws", "--demo")
    assert done.exit_code == 1
    assert "cannot be read" in done.stderr
    assert "tailpipe-exports demo aws" in done.stderr


def test_demo_option_excludes_the_options_of_a_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both together are a usage error."""
    done = called("status", "aws", "--demo", "--function", "one")
    assert done.exit_code == 1
    assert "--demo cannot be combined with --function" in done.stderr
