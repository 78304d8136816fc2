"""`--all-tenants`: the tenants of a deployment as one, from their rows and the reports of rounds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from cli import clouds
from cli.main import main
from shared.monitor.page import data_of
from shared.runtime.clock import Clock
from shared.runtime.context import RunContext
from shared.runtime.log import Sink
from shared.settings import EngineSettings
from shared.state.store import JSON, StateStore
from shared.tenants.rounds import end_round
from shared.tenants.rows import ROUNDS, Row
from tests.cli.tenants.support import RULES, FakeTenants, MemoryDocuments, entry, serve
from tests.inmemory import InMemoryStore

NOW = datetime.now(UTC).replace(microsecond=0)
DENIED = {"code": "tenant-unreachable", "message": "AssumeRole was denied", "remedy": "Accept the invitation."}
HOSTILE = "<script>alert(1)</script>"


def called(*arguments: str) -> Result:
    """Return the tool's result."""
    return CliRunner().invoke(main, list(arguments))


def round_id(hours: float) -> str:
    """Return the id of a round that began some hours ago."""
    return f"{NOW - timedelta(hours=hours):%Y%m%dT%H%M%SZ}-00000000"


def add_round(stored: MemoryDocuments, hours: float, *rows: Row) -> str:
    """Store the report of a round that ended when it began, some hours ago."""
    at = NOW - timedelta(hours=hours)
    text = f"{at:%Y-%m-%dT%H:%M:%SZ}"
    statuses = [one.status for one in rows]
    report = {
        "round": round_id(hours),
        "started_at": text,
        "ended_at": text,
        "status": "ok" if set(statuses) == {"ok"} else "degraded",
        "duration_s": 61.0,
        "tenants": {"total": len(rows), **{one: statuses.count(one) for one in statuses}},
        "calls": {"sts": 2 * len(rows)},
        "most_calls": {"sts": 2},
        "rows": [msgspec.to_builtins(one) for one in rows],
    }
    stored.stored[f"{ROUNDS}{round_id(hours)}.json"] = (msgspec.json.encode(report), at)
    return round_id(hours)


def row(tenant: str, status: str = "ok", **fields: Any) -> Row:
    """Return a row."""
    text = f"{NOW:%Y-%m-%dT%H:%M:%SZ}"
    return Row(tenant, status, text, text, text, scopes={"active": 10, "covered": 8}, **fields)


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> FakeTenants:
    """Return a deployment with five tenants: two of one group, one unreachable, one paused, one wrong."""
    port = serve(
        monkeypatch,
        entry("ok-1", 1, labels={"group": "north"}, name=HOSTILE),
        entry("ok-2", 2, labels={"group": "south"}),
        entry("dead", 3, labels={"group": "north"}),
        entry("off", 4, paused=True),
        {"id": "wrong", "cloud": "aws"},
    )
    old = NOW - timedelta(hours=2)
    port.stored.add_row("ok-1", at=old)
    port.stored.add_row("ok-2", at=old)
    port.stored.add_row("dead", "unreachable", at=old, scopes={}, failures=(DENIED,))
    return port


def test_status_counts_groups_and_names_what_needs_attention(fleet: FakeTenants) -> None:
    """Each bad tenant has its failure, the remedy, and the command that shows it whole; the exit code is 1."""
    add_round(fleet.stored, 1, row("ok-1"), row("ok-2"), row("dead", "unreachable", failures=(DENIED,)))
    result = called("status", "aws", "--all-tenants", "--group-by", "group")
    assert result.exit_code == 1, result.output
    text = result.stdout
    assert "AWS  5 tenants: 2 ok, 1 unreachable, 1 refused, 1 paused; 24 of 30 accounts covered." in text
    assert "last round degraded at" in text
    assert "6 calls (at most by one tenant: sts 2)" in text
    assert "group = north · 2 tenants: 1 ok, 1 unreachable; 16 of 20 accounts covered" in text
    assert "without group · 2 tenants: 1 refused, 1 paused" in text
    assert "tenant-unreachable  AssumeRole was denied" in text
    assert "→ Accept the invitation." in text
    assert "tailpipe-exports status aws --tenant dead" in text
    assert "tailpipe-exports tenants show aws wrong" in text
    assert "ok-1" not in text


def test_status_reads_rows_only_where_the_round_is_older(fleet: FakeTenants) -> None:
    """Documents that are read: the round's report, and the rows that were written since."""
    name = add_round(fleet.stored, 1, row("ok-1"), row("ok-2"), row("dead", "unreachable", failures=(DENIED,)))
    fleet.stored.add_row("dead")
    document = json.loads(called("status", "aws", "--all-tenants", "--json").stdout)["clouds"][0]
    assert fleet.stored.read == [f"{ROUNDS}{name}.json", "rows/dead.json"]
    assert {one["id"]: one["status"] for one in document["list"]} == {
        "dead": "ok",
        "off": "paused",
        "ok-1": "ok",
        "ok-2": "ok",
        "wrong": "refused",
    }
    assert document["last_round"]["round"] == name
    assert "rows" not in document["last_round"]


def test_five_hundred_tenants_cost_a_handful_of_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the steady state, the registry and the last round are all that is read."""
    port = serve(monkeypatch, *(entry(f"t-{number}", number) for number in range(500)))
    for number in range(500):
        port.stored.add_row(f"t-{number}", at=NOW - timedelta(hours=2))
    add_round(port.stored, 1, *(row(f"t-{number}") for number in range(500)))
    result = called("status", "aws", "--all-tenants")
    assert (result.exit_code, len(port.stored.read)) == (0, 1)
    assert "500 tenants: 500 ok; 4,000 of 5,000 accounts covered." in result.stdout


@pytest.mark.parametrize(
    ("scopes", "status", "code"),
    [
        ({"active": 2, "covered": 2}, "ok", 0),
        ({"active": 2, "covered": 1, "manual": 1}, "ok", 2),
        ({"active": 2, "covered": 1, "manual": 1}, "degraded", 2),
        ({"active": 2, "covered": 1, "failed": 1, "manual": 1}, "degraded", 1),
        ({}, "failed", 1),
        (None, "", 0),
    ],
)
def test_exit_code_is_that_of_the_worst_tenant(
    scopes: Mapping[str, int] | None, status: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenant that waits for its first run is no failure."""
    port = serve(monkeypatch, entry("one", 1), entry("two", 2))
    port.stored.add_row("two")
    if scopes is not None:
        port.stored.add_row("one", status, scopes=dict(scopes))
    assert called("status", "aws", "--all-tenants").exit_code == code


def test_damaged_round_is_replaced_by_the_rows(fleet: FakeTenants) -> None:
    """The rows are read one by one then; the history leaves the round out, and says so."""
    fleet.stored.stored[f"{ROUNDS}{round_id(1)}.json"] = (b"{", NOW)
    assert "2 ok, 1 unreachable" in called("status", "aws", "--all-tenants").stdout
    result = called("history", "aws", "--all-tenants")
    assert result.exit_code == 0
    assert "1 reports of rounds are damaged and left out" in result.stderr


def test_report_of_the_engine_is_read(fleet: FakeTenants) -> None:
    """What `end_round` stores has the form that the commands read."""
    assert fleet.registry.data is not None
    fleet.stored.put("tenants.json", fleet.registry.data, JSON)

    class Fixed:
        """A clock that stands still."""

        def now(self) -> datetime:
            return NOW

    end_round(fleet.stored, RULES, round_id(3), Fixed(), lambda *_: None)  # type: ignore[arg-type]  # of the clock only the time is asked
    document = json.loads(called("status", "aws", "--all-tenants", "--json").stdout)["clouds"][0]
    assert document["last_round"]["tenants"]["unreachable"] == 1
    assert document["tenants"] == {"total": 5, "ok": 2, "unreachable": 1, "refused": 1, "paused": 1}
    rounds = json.loads(called("history", "aws", "--all-tenants", "--json").stdout)["rounds"]
    assert [one["round"] for one in rounds] == [round_id(3)]


def test_history_shows_which_tenants_changed_their_state(fleet: FakeTenants) -> None:
    """Newest first; a tenant without a run in a round keeps its state, and the round before counts as known."""
    add_round(fleet.stored, 24 * 9, row("ok-1"), row("dead"))
    add_round(fleet.stored, 3, row("ok-1"), row("dead", "unreachable", failures=(DENIED,)))
    add_round(fleet.stored, 2, row("ok-1"), row("dead", "not_run"))
    add_round(fleet.stored, 1, row("ok-1"), row("dead"), row("ok-2"))
    rounds = json.loads(called("history", "aws", "--all-tenants", "--json").stdout)["rounds"]
    assert [[(one["tenant"], one["from"], one["to"], one["code"]) for one in of["changes"]] for of in rounds] == [
        [("dead", "unreachable", "ok", ""), ("ok-2", "", "ok", "")],
        [],
        [("dead", "ok", "unreachable", "tenant-unreachable")],
    ]
    text = called("history", "aws", "--all-tenants").stdout
    assert "dead: ok → unreachable · tenant-unreachable" in text
    assert "ok-2: new → ok" in text
    assert "no change" in text
    assert (
        len(json.loads(called("history", "aws", "--all-tenants", "--since", "2020-01-01", "--json").stdout)["rounds"])
        == 4
    )


def test_months_are_counted_for_each_tenant(fleet: FakeTenants, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paused and wrong tenants are left out; one whose state cannot be read is named, and the others are shown."""
    opened: list[str] = []

    def open_state(environment: Mapping[str, str], sink: Sink, clock: Clock) -> tuple[StateStore, RunContext]:
        opened.append(environment["TENANT"])
        store = InMemoryStore()
        if environment["TENANT"] == "dead":
            store.save(b"{", None)
        return store, RunContext("aws", EngineSettings(), sink, clock, 60.0, {}, lambda error: error)  # type: ignore[arg-type,return-value]  # no call uses it

    monkeypatch.setitem(clouds.CLOUDS, "aws", replace(clouds.CLOUDS["aws"], open_state=lambda: open_state))
    result = called("months", "aws", "--all-tenants", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert opened == ["ok-1", "ok-2", "dead"]
    assert [one["tenant"] for one in document["clouds"][0]["tenants"]] == ["ok-1", "ok-2"]
    assert [one["tenant"] for one in document["error"]["problems"]] == ["dead"]


def test_page_has_all_tenants_and_their_failures(fleet: FakeTenants, tmp_path: Path) -> None:
    """Labels are stored once, and a hostile name is data."""
    add_round(fleet.stored, 1, row("ok-1"), row("ok-2"), row("dead", "unreachable", failures=(DENIED,)))
    file = tmp_path / "page.html"
    assert called("page", "aws", "--all-tenants", "--group-by", "group", "--out", str(file)).exit_code == 0
    html = file.read_text(encoding="utf-8")
    found = data_of(html)[0]
    assert found["labels"] == ["group=north", "group=south"]
    assert found["group_by"] == "group"
    rows = {one[0]: one[1:] for one in found["tenants"]}
    assert rows["dead"] == ["", "unreachable", 8, 10, rows["dead"][4], *DENIED.values(), [0]]
    assert rows["wrong"][5] == "refused"
    assert rows["ok-1"][0] == HOSTILE
    assert "<script>alert(1)" not in html


def test_page_of_ten_thousand_tenants_is_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It has at most 2 MB."""
    groups = [{"group": f"g{number % 20}", "tier": ("gold", "silver")[number % 2]} for number in range(10_000)]
    port = serve(
        monkeypatch, *(entry(f"tenant-{n}", n, name=f"Customer number {n}", labels=groups[n]) for n in range(10_000))
    )
    rows = [
        row(f"tenant-{n}", "unreachable" if n % 20 == 0 else "ok", failures=(DENIED,) if n % 20 == 0 else ())
        for n in range(10_000)
    ]
    add_round(port.stored, 1, *rows)
    file = tmp_path / "page.html"
    assert called("page", "aws", "--all-tenants", "--out", str(file)).exit_code == 0
    assert file.stat().st_size <= 2_000_000
    assert len(data_of(file.read_text(encoding="utf-8"))[0]["tenants"]) == 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("status", "aws", "--group-by", "group"), "--group-by requires --all-tenants"),
        (("page", "aws", "--group-by", "group"), "--group-by requires --all-tenants"),
        (("status", "aws", "--all-tenants", "--tenant", "dead"), "cannot be combined with --tenant"),
        (("status", "aws", "111122223333", "--all-tenants"), "cannot be combined with a SCOPE"),
        (("status", "aws", "--all-tenants", "--demo"), "cannot be combined with --demo"),
        (("history", "aws", "--all-tenants", "--scope", "x"), "cannot be combined with --scope"),
        (("months", "aws", "--all-tenants", "--scope", "x"), "cannot be combined with --scope"),
        (("page", "aws", "--all-tenants", "--published"), "cannot be combined with --published"),
        (("status", "--all-tenants", "--function", "x"), "are for one cloud"),
    ],
)
def test_options_that_exclude_each_other_are_refused(arguments: tuple[str, ...], message: str) -> None:
    """Nothing is read before."""
    result = called(*arguments)
    assert result.exit_code == 1
    assert re.search(re.escape(message), " ".join(result.stderr.split()))
