"""`months`, and the months of `status` and `page`, show what the function recorded of deliveries."""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.periods import Period, month_before, month_of
from shared.state.deliveries import DELIVERIES, Ledger
from shared.state.document import ScopeRecord
from tests.cli.monitor.test_monitor import HOSTILE, called, fill, scope, store
from tests.inmemory import InMemoryStore

__all__ = ["store"]  # the fixture

NOW = datetime.now(UTC).replace(microsecond=0)
THIS = month_of(NOW)
LAST, BEFORE = month_before(THIS), month_before(THIS, 2)
DATA = Period(2, 4096, NOW - timedelta(days=60), NOW - timedelta(hours=3))
LOST = Period(0, first=NOW - timedelta(days=60))


def known(name: str = "") -> ScopeRecord:
    """Return a scope that has been there for a year."""
    made = scope(name=name)
    made.first_seen = NOW - timedelta(days=365)
    return made


def record(store: InMemoryStore, **scopes: dict[str, Period]) -> None:
    """Store a state of these scopes and a ledger of what their exports delivered."""
    fill(store, **{one: known(HOSTILE if one == "a" else "") for one in scopes})
    ledger = Ledger("aws")
    for one, periods in scopes.items():
        ledger.note(one, "daily", periods, NOW)
    store.save(ledger.encode(NOW), None, DELIVERIES)


@pytest.mark.usefixtures("store")
class TestMonths:
    """The command and its exit codes."""

    def test_complete_months_end_with_zero(self, store: InMemoryStore) -> None:
        """Every month that was recorded has data."""
        record(store, a={THIS: DATA, LAST: DATA})
        result = called("months", "aws")
        assert result.exit_code == 0, result.output
        assert "0 of 1 datasets lack months" in result.stdout
        assert "██" in result.stdout

    def test_lost_month_is_named_with_the_command_that_fills_it(self, store: InMemoryStore) -> None:
        """Exit code 2; the reason, the month, and a command that can be copied."""
        record(store, a={THIS: DATA, LAST: LOST, BEFORE: LOST}, b={THIS: DATA})
        result = called("months", "aws", "--missing")
        assert result.exit_code == 2
        assert f"lost: {BEFORE} to {LAST}" in result.stdout
        assert f"backfill aws --scope a --month {BEFORE} --month {LAST}" in result.stdout
        assert "b · daily" not in result.stdout

    def test_present_month_is_no_part_of_the_command(self, store: InMemoryStore) -> None:
        """It can be missing, and `backfill` refuses to request it: a command with it could not be run."""
        record(store, a={THIS: LOST, LAST: LOST}, b={THIS: LOST, LAST: DATA})
        result = called("months", "aws", "--json")
        assert result.exit_code == 2
        rows = json.loads(result.stdout)["clouds"][0]["rows"]
        assert [row["missing"] for row in rows] == [[LAST, THIS], [THIS]]
        assert [row["command"] for row in rows] == [f"tailpipe-exports backfill aws --scope a --month {LAST}", ""]
        assert called("months", "aws").stdout.count("→") == 1

    def test_document_is_json_and_nothing_else(self, store: InMemoryStore) -> None:
        """Rows with the state of each month, and what it holds."""
        record(store, a={THIS: DATA, LAST: LOST})
        result = called("months", "aws", "--json")
        (cloud,) = json.loads(result.stdout)["clouds"]
        assert cloud["months"][-1] == THIS
        (row,) = cloud["rows"]
        assert (row["scope"], row["dataset"], row["missing"]) == ("a", "daily", [LAST])
        assert (row["months"][THIS]["files"], row["months"][LAST]["state"]) == (2, "lost")

    def test_without_a_ledger_nothing_is_claimed(self, store: InMemoryStore) -> None:
        """An export whose deliveries no run has recorded is not called incomplete."""
        fill(store, a=known())
        result = called("months", "aws")
        assert result.exit_code == 0, result.output
        assert "no run has looked yet" in result.stdout

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (b"broken", "unreadable"),
            (zlib.compress(b'{"version":99}\n'), "newer than this tool"),
            (Ledger("azure").encode(NOW), "belongs to 'azure'"),
        ],
        ids=[
            "damaged",
            "newer",
            "another cloud",
        ],  # the bytes hold the time, so workers would name the tests differently
    )
    def test_ledger_that_cannot_be_read_is_an_error_with_a_remedy(
        self, store: InMemoryStore, data: bytes, expected: str
    ) -> None:
        """Damaged, newer and foreign ledgers end `months` with 1; `status` and `page` go on without."""
        fill(store, a=known())
        store.save(data, None, DELIVERIES)
        result = called("months", "aws")
        assert (result.exit_code, result.stdout) == (1, "")
        assert expected in result.stderr
        shown = called("status", "aws", "a")
        assert shown.exit_code == 0
        assert expected in shown.stderr

    def test_scope_of_another_cloud_is_an_error(self, store: InMemoryStore) -> None:
        """The message names the id, without its control characters."""
        record(store, a={THIS: DATA})
        result = called("months", "aws", "--scope", "0a0a-\x1b[31mb")
        assert result.exit_code == 1
        assert "the state knows no account" in result.stderr
        assert "\x1b" not in result.stderr

    def test_scope_belongs_to_one_cloud(self, store: InMemoryStore) -> None:
        """Without a cloud a scope's id is a usage error."""
        result = called("months", "--scope", "a")
        assert result.exit_code == 1
        assert "--scope belongs to one cloud" in result.stderr

    def test_narrow_terminal_is_kept_to(self, store: InMemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """At 40 columns no line but one of a single word is wider, and nothing hostile reaches the terminal."""
        monkeypatch.setattr("cli.terminal.console.PLAIN_WIDTH", 40)
        record(store, a={THIS: DATA, LAST: LOST, month_before(THIS, 60): DATA})
        result = called("months", "aws")
        assert not [line for line in result.stdout.splitlines() if len(line) > 40 and " " in line.strip()]
        assert "\x1b" not in result.stdout
        assert "\u202e" not in result.stdout

    def test_status_of_a_scope_shows_its_months(self, store: InMemoryStore) -> None:
        """The last arrival, one mark a month, and what is missing."""
        record(store, a={THIS: DATA, LAST: LOST})
        result = called("status", "aws", "a")
        assert f"months of daily · {THIS}: 2 files, 4,096 bytes, last arrival" in result.stdout
        assert f"lost: {LAST}" in result.stdout
        document = json.loads(called("status", "aws", "a", "--json").stdout)
        assert document["months"]["daily"][LAST]["state"] == "lost"

    def test_page_holds_the_months_of_each_scope(self, store: InMemoryStore, tmp_path: Path) -> None:
        """One letter a month, from data that never becomes markup."""
        record(store, a={THIS: DATA, LAST: LOST}, b={THIS: DATA})
        file = tmp_path / "page.html"
        assert called("page", "aws", "--out", str(file)).exit_code == 0
        embedded = file.read_text(encoding="utf-8").partition('id="data">')[2].partition("</script>")[0]
        (cloud,) = json.loads(embedded)["clouds"]
        assert cloud["months"][-2:] == [LAST, THIS]
        assert [row[5][-3:] for row in cloud["scopes"]] == ["?01", "??1"]
