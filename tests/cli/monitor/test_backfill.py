"""`backfill` requests past months from functions that can deliver them, and otherwise shows what a person can do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli import clouds
from cli.deployment.model import OperatorError, Problem
from cli.monitor import backfill
from shared.errors import AnotherRun, RequestError, SettingsError
from shared.model import Verb
from shared.monitor.months import Reach
from shared.periods import month_before
from tests.cli.monitor.test_monitor import called, store
from tests.cli.monitor.test_months import BEFORE, DATA, LAST, LOST, THIS, record
from tests.cli.support.fakes import FakeFunction, action, install
from tests.inmemory import InMemoryStore

__all__ = ["store"]  # the fixture

Calls = list[Mapping[str, Any]]


@pytest.fixture
def requested(store: InMemoryStore, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Record the requests to the deployed function of a cloud with backfill; it responds ok."""
    asked: Calls = []

    def call(_session: object, payload: Mapping[str, Any], *, quiet: bool) -> dict[str, Any]:
        asked.append(payload)
        return {"status": "ok", "quiet": quiet}

    can = replace(clouds.CLOUDS["aws"], support_case=None, reach=lambda: Reach(84))
    monkeypatch.setitem(clouds.CLOUDS, "aws", can)
    monkeypatch.setattr(backfill, "open_deployed", lambda _cloud, function: function)
    monkeypatch.setattr(backfill, "call", call)
    return asked


def test_missing_months_are_requested_for_the_scopes_without_them(store: InMemoryStore, requested: Calls) -> None:
    """Scopes with the same missing months share a request; the current month and complete scopes are left out."""
    lacking = {THIS: LOST, LAST: LOST}
    record(store, a=lacking, b={THIS: DATA, BEFORE: LOST}, c={THIS: DATA}, d=lacking)
    result = called("backfill", "aws", "--missing", "--json")
    assert result.exit_code == 0, result.output
    assert requested == [
        {"scopes": ["b"], "months": [BEFORE], "dry_run": False},
        {"scopes": ["a", "d"], "months": [LAST], "dry_run": False},
    ]
    assert [one["status"] for one in json.loads(result.stdout)["runs"]] == ["ok", "ok"]


def test_given_months_are_requested_for_the_given_scopes(store: InMemoryStore, requested: Calls) -> None:
    """A dry run requests a dry run, and ids ignore case."""
    record(store, a={THIS: DATA})
    result = called("backfill", "aws", "--scope", "A", "--month", LAST, "--month", BEFORE, "--dry-run")
    assert result.exit_code == 0, result.output
    assert requested == [{"scopes": ["a"], "months": [BEFORE, LAST], "dry_run": True}]


def test_nothing_is_requested_if_no_month_is_missing(store: InMemoryStore, requested: Calls) -> None:
    """A message says so, and the exit code is 0."""
    record(store, a={THIS: DATA, LAST: DATA})
    result = called("backfill", "aws", "--missing")
    assert (result.exit_code, requested) == (0, [])
    assert "No month that can be delivered is missing on AWS" in result.stdout


@pytest.mark.parametrize(
    ("month", "message"),
    [
        ("2026-13", "is not a month"),
        ("2026-1", "is not a month"),
        (f"{LAST}-01", "is not a month"),
        ("\x1b[31m", "is not a month"),
        (THIS, "has not ended"),
        (month_before(THIS, -7), "has not ended"),
        (month_before(THIS, 85), "is too long ago"),
    ],
)
def test_invalid_month_is_an_error(store: InMemoryStore, requested: Calls, month: str, message: str) -> None:
    """The message names the month and the valid form; nothing is requested."""
    record(store, a={THIS: DATA})
    result = called("backfill", "aws", "--scope", "a", "--month", month)
    assert (result.exit_code, requested) == (1, [])
    assert message in result.stderr
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--month"),
        (["--missing", "--month", LAST], "--missing"),
        (["--month", LAST], "--month requires --scope"),
        (["--scope", "elsewhere", "--month", LAST], "the state knows no account"),
    ],
)
def test_contradictory_options_request_nothing(
    store: InMemoryStore, requested: Calls, arguments: list[str], message: str
) -> None:
    """This covers neither months nor --missing, both, months without a scope, and an unknown scope."""
    record(store, a={THIS: DATA})
    result = called("backfill", "aws", *arguments)
    assert (result.exit_code, requested) == (1, [])
    assert message in result.stderr


def test_aws_shows_the_text_of_a_support_case(store: InMemoryStore) -> None:
    """It has account, exports and months; the exit code is 2, because a person must open the case."""
    record(store, a={THIS: DATA, LAST: LOST, BEFORE: LOST})
    result = called("backfill", "aws", "--missing")
    assert result.exit_code == 2
    assert "Backfill of AWS Data Exports in account a" in result.stdout
    assert f"- export daily: {BEFORE} to {LAST}" in result.stdout
    (case,) = json.loads(called("backfill", "aws", "--missing", "--json").stdout)["cases"]
    assert (case["scope"], case["months"]) == ("a", {"daily": [BEFORE, LAST]})


def test_cloud_without_backfill_is_reported_with_the_reason(
    store: InMemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code is 1, because nothing can be done."""
    none = replace(clouds.CLOUDS["aws"], no_backfill=clouds.CLOUDS["gcp"].no_backfill)
    monkeypatch.setitem(clouds.CLOUDS, "aws", none)
    record(store, a={THIS: DATA, LAST: LOST})
    result = called("backfill", "aws", "--missing")
    assert result.exit_code == 1
    assert "only the first time that an export is switched on" in result.stderr


def test_failed_request_keeps_the_previous_reports(
    store: InMemoryStore, requested: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One document has the reports, the remaining requests and the failure; the message says how to continue."""
    record(store, a={THIS: DATA, LAST: LOST}, b={THIS: DATA, BEFORE: LOST}, c={THIS: DATA, LAST: LOST, BEFORE: LOST})

    def call(_session: object, payload: Mapping[str, Any], *, quiet: bool) -> dict[str, Any]:
        requested.append(payload)
        if len(requested) % 2 == 0:  # each second request
            raise OperatorError(Problem("the function did not answer", "Look at its log."))
        return {"status": "ok", "quiet": quiet}

    monkeypatch.setattr(backfill, "call", call)
    result = called("backfill", "aws", "--missing", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [one["status"] for one in document["runs"]] == ["ok"]
    assert document["unfinished"] == [
        {"scopes": ["c"], "months": [BEFORE, LAST]},
        {"scopes": ["a"], "months": [LAST]},
    ]
    problem = {"what": "the function did not answer", "remedy": "Look at its log."}
    assert document["error"] == {"problems": [problem]}
    assert len(requested) == 2
    said = " ".join(called("backfill", "aws", "--missing").stderr.split())
    assert "1 of 3 requests were made. Call the same command again" in said
    assert "the function did not answer" in said


def test_request_has_at_most_the_scopes_that_a_function_accepts(
    store: InMemoryStore, requested: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A larger group becomes several requests."""
    monkeypatch.setattr(backfill, "MAX_SCOPES", 2)
    record(store, **{one: {THIS: DATA, LAST: LOST} for one in "abc"})
    assert called("backfill", "aws", "--missing", "--json").exit_code == 0
    assert [one["scopes"] for one in requested] == [["a", "b"], ["c"]]


def test_settings_from_a_file_run_the_request_on_this_machine(
    store: InMemoryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The function's code runs locally with the file; no deployed function is called."""
    can = replace(clouds.CLOUDS["aws"], support_case=None, reach=lambda: Reach(84))
    monkeypatch.setitem(clouds.CLOUDS, "aws", can)
    function = install(monkeypatch, FakeFunction([action(Verb.CREATE, "a")]))
    record(store, a={THIS: DATA, LAST: LOST})
    file = tmp_path / "settings.env"
    file.write_text("EXPORTS=cur2\n", encoding="utf-8")
    as_text = called("backfill", "aws", "--missing", "--settings", str(file))
    as_json = called("backfill", "aws", "--missing", "--settings", str(file), "--json", "--dry-run")
    assert (as_text.exit_code, as_json.exit_code) == (0, 0), as_text.output
    assert [(one.scopes, one.months, one.dry_run) for one in function.requests] == [
        (("a",), (LAST,), False),
        (("a",), (LAST,), True),
    ]
    assert "1 created" in as_text.stdout
    assert "a library that writes to standard output" not in as_text.stdout
    [report] = json.loads(as_json.stdout)["runs"]
    assert report["dry_run"] is True


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SettingsError(["EXPORTS: is odd"]), "EXPORTS: is odd"),
        (RequestError(["'months': is refused"]), "'months': is refused"),
        (AnotherRun("r-2", "12:00", "12:05"), "run r-2 has held the lock"),
        (KeyError("x"), "a defect of the command: KeyError"),
    ],
)
def test_request_that_cannot_run_on_this_machine_is_reported(
    store: InMemoryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, message: str
) -> None:
    """The exit code is 1, with the reason on standard error and in the document."""
    can = replace(clouds.CLOUDS["aws"], support_case=None, reach=lambda: Reach(84))
    monkeypatch.setitem(clouds.CLOUDS, "aws", can)
    install(monkeypatch, FakeFunction(error=error))
    record(store, a={THIS: DATA, LAST: LOST})
    file = tmp_path / "settings.env"
    file.write_text("EXPORTS=cur2\n", encoding="utf-8")
    result = called("backfill", "aws", "--missing", "--settings", str(file), "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert message in document["error"]["problems"][0]["what"]
    assert message in " ".join(result.stderr.split())
    assert document["runs"] == []
