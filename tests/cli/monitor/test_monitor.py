"""status, history, page and explain show what the function stored, without a call to any account."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli import clouds
from cli.demo import kept
from cli.deployment.model import AGAIN
from cli.main import main
from cli.monitor import status
from shared.errors import Denied, Transient
from shared.runtime.clock import Clock
from shared.runtime.context import RunContext
from shared.runtime.log import Sink
from shared.settings import EngineSettings
from shared.state.document import RunNote, ScopeRecord, StateDocument, dump, fresh
from shared.state.store import StateStore
from shared.target_state import LastError, TargetState
from tests.cli.support.fakes import FakeFunction, install
from tests.inmemory import InMemoryStore

NOW = datetime.now(UTC).replace(microsecond=0)
STEP = LastError(
    "console-step", what="Switch it on", steps=["Open the page", "Save"], url="https://x.test", result="manual"
)
BROKEN = LastError("storage-firewall", "the firewall refuses", "Let the service in.", "failed")
HOSTILE = "team\x1b[31m\u202egro"


def run_id(hours: float) -> str:
    """Return the id of a run that started a number of hours ago."""
    return f"{NOW - timedelta(hours=hours):%Y%m%dT%H%M%SZ}-00000000"


def scope(coverage: str = "covered", error: LastError | None = None, name: str = "") -> ScopeRecord:
    """Return a scope with one export."""
    entry = TargetState(at=NOW, present=True, state="as-wanted", since=NOW, delivered_at=NOW, error=error)
    return ScopeRecord(at=NOW, name=name, coverage=coverage, targets={"export/daily": entry})


def action(scope_id: str, verb: str, result: str) -> dict[str, str]:
    """Return one action of a report."""
    return {"scope": scope_id, "kind": "export", "name": "daily", "verb": verb, "reason": "absent", "result": result}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> InMemoryStore:
    """Yield the store of the deployed AWS function, without a state."""
    kept = InMemoryStore()

    def open_state(environment: Mapping[str, str], sink: Sink, clock: Clock) -> tuple[StateStore, RunContext]:
        assert environment["EXPORTS"] == "cur2"
        print("a library that writes to standard output")  # noqa: T201 - what the tool must keep out of its document
        return kept, RunContext("aws", EngineSettings(), sink, clock, 60.0, {}, lambda error: error)  # type: ignore[arg-type,return-value]  # no call uses it

    install(monkeypatch, FakeFunction())
    monkeypatch.setitem(clouds.CLOUDS, "aws", replace(clouds.CLOUDS["aws"], open_state=lambda: open_state))
    return kept


def fill(store: InMemoryStore, **scopes: ScopeRecord) -> StateDocument:
    """Store a state with these scopes, two hourly runs, and their reports."""
    document = fresh("aws")
    document.scopes = scopes
    active = len(scopes)
    document.runs = [
        RunNote(run_id(hours), NOW - timedelta(hours=hours), "ok", active=active, covered=active)
        for hours in (1.5, 0.5)
    ]
    # The current time, because the tests may have been collected minutes ago.
    store.save(dump(document, datetime.now(UTC)), None)
    for hours, verb in ((200, "KEEP"), (1.5, "CREATE"), (0.5, "KEEP")):
        report = {
            "run_id": run_id(hours),
            "started_at": f"{NOW - timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}",
            "status": "ok",
            "trigger": "timer",
            "run_complete": True,
            "actions": [action(one, verb, "done" if verb == "CREATE" else "unchanged") for one in sorted(scopes)],
        }
        store.put_report(run_id(hours), json.dumps(report).encode())
    return document


def called(*arguments: str) -> Result:
    """Return the tool's result."""
    return CliRunner().invoke(main, list(arguments))


def test_status_of_a_covered_cloud_has_a_sentence_and_the_runs(store: InMemoryStore) -> None:
    """The exit code is 0, with the state's age, the next run, and the changes of the last runs."""
    fill(store, a=scope(), b=scope())
    done = called("status", "aws")
    assert done.exit_code == 0
    assert "AWS  2 of 2 covered." in done.stdout
    # The module may have been imported minutes before this test.
    old = re.search(r"state (\d+) min old · last run ok", done.stdout)
    assert old is not None
    assert int(old[1]) <= (datetime.now(UTC) - NOW).total_seconds() / 60
    assert "2 of 2 covered · 2 created" in done.stdout
    assert "needs you" not in done.stdout


def test_demonstration_is_not_shown_with_a_deployment(
    store: InMemoryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its stored documents are ignored once a deployment is read."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    fill(store, a=scope())
    kept.keep("aws", {kept.STATE: store.data or b""}, NOW)
    done = called("status", "aws")
    assert done.exit_code == 0
    assert "AWS  1 of 1 covered." in done.stdout
    assert "demonstration" not in done.stdout


def test_status_shows_manual_steps_and_exits_with_2(store: InMemoryStore) -> None:
    """Each has its scope and link."""
    fill(store, a=scope(), b=scope("manual", STEP, "Beta"))
    done = called("status", "aws")
    assert done.exit_code == 2
    assert "Switch it on · Beta (b) · console-step" in done.stdout
    assert "1. Open the page" in done.stdout
    assert "https://x.test" in done.stdout


def test_status_shows_failures_with_remedies_and_exits_with_1(store: InMemoryStore) -> None:
    """A failure takes precedence over a manual step, and refers to the runbook."""
    fill(store, a=scope("failed", BROKEN), b=scope("manual", STEP))
    done = called("status", "aws")
    assert done.exit_code == 1
    assert "storage-firewall · 1 · the firewall refuses" in done.stdout
    assert "→ Let the service in." in done.stdout
    assert "tailpipe-exports explain storage-firewall" in done.stdout


def test_status_before_the_first_run_exits_with_1(store: InMemoryStore) -> None:
    """Nothing is shown as covered, and the remedy is to run."""
    assert store.data is None
    done = called("status", "aws")
    assert done.exit_code == 1
    assert "No run has been recorded yet." in done.stdout
    assert "tailpipe-exports invoke aws" in done.stdout


def test_status_of_a_newer_state_is_an_error_with_a_remedy(store: InMemoryStore) -> None:
    """A state of a newer version is not interpreted."""
    store.save(b'{"version": 99, "scopes": {}}', None)
    done = called("status", "aws")
    assert done.exit_code == 1
    assert "state-newer" in done.stderr
    assert "Deploy the newer function again" in done.stderr


def test_unreadable_state_is_not_reported_as_missing(store: InMemoryStore) -> None:
    """The exit code is 1, and the reports are still shown."""
    whole = fill(store, a=scope())
    store.replace(dump(whole, NOW)[:100])
    for command in ("status", "months", "page"):
        done = called(command, "aws")
        assert (done.exit_code, done.stdout) == (1, "")
        assert "the state of AWS is unreadable" in done.stderr
        assert "begins anew from what exists" in done.stderr
    history = called("history", "aws")
    assert history.exit_code == 0
    assert run_id(0.5) in history.stdout
    assert "the state of AWS is unreadable" in history.stderr


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (Transient("busy", "later", "Nothing: a later run retries."), AGAIN),
        (Denied("denied", "no", "Grant the function's identity its role."), "Have the permission granted to you"),
    ],
)
def test_failed_read_has_a_remedy_for_its_reader(
    store: InMemoryStore, monkeypatch: pytest.MonkeyPatch, error: Exception, remedy: str
) -> None:
    """The function's own remedies speak of its identity, and of a next run."""

    def load(_limit: int) -> None:
        raise error

    monkeypatch.setattr(store, "load", load)
    done = called("status", "aws", "--json")
    assert done.exit_code == 1
    (problem,) = json.loads(done.stdout)["error"]["problems"]
    assert problem["remedy"].startswith(remedy)


def test_state_with_future_times_is_reported(store: InMemoryStore) -> None:
    """A wrong clock wrote them; the state is not reported as missing."""
    document = fill(store, a=scope())
    ahead = timedelta(days=400)
    document.runs = [RunNote(note.run_id, note.at + ahead, "ok", active=1, covered=1) for note in document.runs]
    store.replace(dump(document, NOW + ahead))
    done = called("status", "aws")
    assert done.exit_code == 1
    assert "damaged in part" in done.stderr
    assert "times in the future" in done.stderr
    assert "When the last run was is not known." in done.stdout
    assert "No state is stored" not in done.stdout


def test_scope_ignores_case_and_an_unknown_one_is_an_error(store: InMemoryStore) -> None:
    """This holds for `status` and `history`; an id of another cloud or a typo exits with 1."""
    fill(store, **{"0a0b": scope()})
    assert "account (0a0b)" in " ".join(called("status", "aws", "0A0B").stdout.split())
    assert "created" in called("history", "aws", "--scope", "0A0B").stdout
    for arguments in (["status", "aws", "0a0c"], ["history", "aws", "--scope", "0a0c"]):
        done = called(*arguments)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "the state knows no account '0a0c'" in done.stderr
        assert "An id of another cloud belongs to that cloud's name." in " ".join(done.stderr.split())


def test_scope_before_the_first_run_has_the_remedy_to_run(store: InMemoryStore) -> None:
    """There is no state yet."""
    assert store.data is None
    done = called("status", "aws", "a")
    assert done.exit_code == 1
    assert "no run has been recorded yet" in done.stderr
    assert "tailpipe-exports invoke aws" in done.stderr


def test_report_with_an_invalid_time_says_so(store: InMemoryStore) -> None:
    """The value is not shown as a time."""
    fill(store, a=scope())
    store.put_report(run_id(0.5), json.dumps({"run_id": run_id(0.5), "started_at": "soon", "status": "ok"}).encode())
    done = called("history", "aws")
    assert done.exit_code == 0
    assert "at an unknown time" in done.stdout
    assert "soon" not in done.stdout


def test_status_of_a_scope_has_targets_error_and_changes(store: InMemoryStore) -> None:
    """The error has its remedy, and an unknown scope is an error."""
    fill(store, a=scope("failed", BROKEN, "Alpha"), b=scope())
    done = called("status", "aws", "a")
    assert done.exit_code == 1
    assert "account Alpha (a)" in done.stdout
    assert "export daily · present · as-wanted" in done.stdout
    assert "→ Let the service in." in done.stdout
    assert "created · a · absent · export daily" in done.stdout
    assert called("status", "aws", "b").exit_code == 0
    unknown = called("status", "aws", "nowhere")
    assert unknown.exit_code == 1
    assert "the state knows no account 'nowhere'" in unknown.stderr


def test_json_output_is_only_the_document(store: InMemoryStore) -> None:
    """Output of libraries is excluded, and each document has the content of the text."""
    fill(store, a=scope(), b=scope("manual", STEP))
    done = called("status", "aws", "--json")
    (cloud,) = json.loads(done.stdout)["clouds"]
    assert (done.exit_code, cloud["tone"], cloud["scopes"]["manual"]) == (2, "ask", 1)
    detail = json.loads(called("status", "aws", "b", "--json").stdout)
    assert (detail["class"], detail["targets"][0]["error"]["code"]) == ("manual", "console-step")
    runs = json.loads(called("history", "aws", "--json").stdout)["runs"]
    assert [len(run["changes"]) for run in runs] == [0, 2]


@pytest.mark.parametrize("width", [40, 80])
def test_names_cannot_control_the_terminal_at_any_width(
    store: InMemoryStore, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control and direction characters are not printed, and an id is not broken."""
    monkeypatch.setenv("COLUMNS", str(width))
    fill(store, **{"1" * 38: scope("manual", STEP, HOSTILE)})
    for done in (called("status", "aws"), called("status", "aws", "1" * 38), called("history", "aws")):
        assert not {"\x1b", "\u202e"} & set(done.output)
        assert "1" * 38 in done.stdout


def test_history_starts_at_the_given_time(store: InMemoryStore) -> None:
    """The default is a week; the run before is read too, so that its open failures do not count as new."""
    fill(store, a=scope())
    recent = called("history", "aws")
    assert recent.exit_code == 0
    assert run_id(0.5) in recent.stdout
    assert run_id(200) not in recent.stdout
    older = called("history", "aws", "--since", f"{NOW - timedelta(days=30):%Y-%m-%d}")
    assert run_id(200) in older.stdout
    assert "created" not in called("history", "aws", "--scope", "b").stdout


def test_damaged_report_is_reported_and_the_others_used(store: InMemoryStore) -> None:
    """One report is truncated."""
    fill(store, a=scope())
    store.put_report(run_id(0.5), b'{"run_id": "half')
    done = called("history", "aws")
    assert done.exit_code == 0
    assert f"report of run {run_id(0.5)} is damaged" in done.stderr
    assert run_id(1.5) in done.stdout


def test_page_file_is_private(store: InMemoryStore, tmp_path: Path) -> None:
    """Its mode is 0600, and its path is printed."""
    fill(store, a=scope(name=HOSTILE))
    file = tmp_path / "status.html"
    done = called("page", "aws", "--out", str(file))
    assert (done.exit_code, done.stdout.strip()) == (0, str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "1 of 1 covered." in file.read_text(encoding="utf-8")
    nowhere = called("page", "aws", "--out", str(tmp_path / "none" / "status.html"))
    assert nowhere.exit_code == 1
    assert "Name a file in an existing folder." in nowhere.stderr


def test_published_page_is_rebuilt_from_its_data(store: InMemoryStore, tmp_path: Path) -> None:
    """A script in the stored file is not passed on; without a published page, the command says how to get one."""
    fill(store, a=scope())
    file = tmp_path / "status.html"
    missing = called("page", "aws", "--published", "--out", str(file))
    assert missing.exit_code == 1
    assert "publish_page = true" in missing.stderr
    assert called("page", "aws", "--out", str(file)).exit_code == 0
    built = file.read_text(encoding="utf-8")
    store.put("status.html", built.replace("</body>", "<script>alert(1)</script></body>").encode(), "text/html")
    assert called("page", "aws", "--published", "--out", str(file)).exit_code == 0
    assert file.read_text(encoding="utf-8") == built
    store.put("status.html", b"<html>", "text/html")
    damaged = called("page", "aws", "--published", "--out", str(file))
    assert damaged.exit_code == 1
    assert "damaged" in damaged.stderr


def test_watch_repeats_until_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is that of the last output."""
    codes = iter([0, 2])
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt

    assert status.watch(lambda: next(codes), wait) == 2
    assert waits == [status.WATCH_S] * 2
    assert "Ctrl-C ends" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["status", "oracle"], "no cloud is called 'oracle'"),
        (["status", "aws", "azure", "111122223333"], "a SCOPE belongs to one cloud"),
        (["status", "aws", "--watch", "--json"], "--watch shows text"),
        (["status", "aws", ""], "the SCOPE is empty"),
        (["status", "--function", "x"], "--function, --settings and --tenant are for one cloud"),
        (
            ["page", "aws", "--function", "x", "--without-deployment"],
            "--function cannot be combined with --without-deployment",
        ),
    ],
)
def test_invalid_arguments_exit_with_1_and_one_sentence(arguments: list[str], why: str) -> None:
    """Nothing is read before."""
    done = called(*arguments)
    assert done.exit_code == 1
    assert why in " ".join(done.stderr.split())


def test_explain_shows_the_entry_of_the_runbook() -> None:
    """It has the row's cells without Markdown, and suggests a similar name."""
    done = called("explain", "state-foreign")
    assert done.exit_code == 0
    assert done.stdout.startswith("state-foreign · Codes of the engine")
    assert "what you do: " in done.stdout
    assert "`" not in done.stdout
    document: dict[str, Any] = json.loads(called("explain", "state-foreign", "--json").stdout)
    assert document["entries"][0]["section"] == "Codes of the engine"
    unknown = called("explain", "state-foregn")
    assert unknown.exit_code == 1
    assert "Did you mean state-foreign" in unknown.stderr
