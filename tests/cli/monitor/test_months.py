"""`months`, and the months in `status` and `page`, show the recorded deliveries."""

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
    """Return a scope that has existed for a year."""
    made = scope(name=name)
    made.first_seen = NOW - timedelta(days=365)
    return made


def record(store: InMemoryStore, **scopes: dict[str, Period]) -> None:
    """Store a state with these scopes, and the ledger of their deliveries."""
    fill(store, **{one: known(HOSTILE if one == "a" else "") for one in scopes})
    ledger = Ledger("aws")
    for one, periods in scopes.items():
        ledger.note(one, "daily", periods, NOW)
    store.save(ledger.encode(NOW), None, DELIVERIES)


@pytest.mark.usefixtures("store")
class TestMonths:
    """Tests of the command and its exit codes."""

    def test_complete_months_exit_with_0(self, store: InMemoryStore) -> None:
        """Every recorded month has data."""
        record(store, a={THIS: DATA, LAST: DATA})
        result = called("months", "aws")
        assert result.exit_code == 0, result.output
        assert "0 of 1 datasets lack months" in result.stdout
        assert "██" in result.stdout

    def test_lost_month_is_shown_with_the_command_that_backfills_it(self, store: InMemoryStore) -> None:
        """The exit code is 2, and the command can be copied."""
        record(store, a={THIS: DATA, LAST: LOST, BEFORE: LOST}, b={THIS: DATA})
        result = called("months", "aws", "--missing")
        assert result.exit_code == 2
        assert f"lost: {BEFORE} to {LAST}" in result.stdout
        assert f"backfill aws --scope a --month {BEFORE} --month {LAST}" in result.stdout
        assert "b · daily" not in result.stdout

    def test_current_month_is_not_in_the_command(self, store: InMemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """It can be missing, but `backfill` refuses it."""
        # In a month's first days, nothing of it is missing yet.
        monkeypatch.setattr("cli.monitor.stored.Stored.now", lambda _: NOW.replace(day=15))
        record(store, a={THIS: LOST, LAST: LOST}, b={THIS: LOST, LAST: DATA})
        result = called("months", "aws", "--json")
        assert result.exit_code == 2
        rows = json.loads(result.stdout)["clouds"][0]["rows"]
        assert [row["missing"] for row in rows] == [[LAST, THIS], [THIS]]
        assert [row["command"] for row in rows] == [f"tailpipe-exports backfill aws --scope a --month {LAST}", ""]
        assert called("months", "aws").stdout.count("→") == 1

    def test_json_has_a_row_for_each_dataset(self, store: InMemoryStore) -> None:
        """A row has the state and contents of each month."""
        record(store, a={THIS: DATA, LAST: LOST})
        result = called("months", "aws", "--json")
        (cloud,) = json.loads(result.stdout)["clouds"]
        assert cloud["months"][-1] == THIS
        (row,) = cloud["rows"]
        assert (row["scope"], row["dataset"], row["missing"]) == ("a", "daily", [LAST])
        assert (row["months"][THIS]["files"], row["months"][LAST]["state"]) == (2, "lost")

    def test_export_without_a_ledger_is_not_incomplete(self, store: InMemoryStore) -> None:
        """No run has recorded its deliveries."""
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
        ],  # the bytes contain the time, which would give the tests different names in each worker
    )
    def test_unreadable_ledger_is_an_error_with_a_remedy(
        self, store: InMemoryStore, data: bytes, expected: str
    ) -> None:
        """A damaged, newer or foreign ledger ends `months` with 1; `status` and `page` work without it."""
        fill(store, a=known())
        store.save(data, None, DELIVERIES)
        result = called("months", "aws")
        assert (result.exit_code, result.stdout) == (1, "")
        assert expected in result.stderr
        shown = called("status", "aws", "a")
        assert shown.exit_code == 0
        assert expected in shown.stderr

    def test_scope_of_another_cloud_is_an_error(self, store: InMemoryStore) -> None:
        """The message has the id without its control characters."""
        record(store, a={THIS: DATA})
        result = called("months", "aws", "--scope", "0a0a-\x1b[31mb")
        assert result.exit_code == 1
        assert "the state knows no account" in result.stderr
        assert "\x1b" not in result.stderr

    def test_scope_without_a_cloud_is_a_usage_error(self, store: InMemoryStore) -> None:
        """A scope belongs to one cloud."""
        result = called("months", "--scope", "a")
        assert result.exit_code == 1
        assert "--scope belongs to one cloud" in result.stderr

    def test_output_fits_a_narrow_terminal(self, store: InMemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """At 40 columns only single words are wider, and no control character is printed."""
        monkeypatch.setattr("cli.terminal.console.PLAIN_WIDTH", 40)
        record(store, a={THIS: DATA, LAST: LOST, month_before(THIS, 60): DATA})
        result = called("months", "aws")
        assert not [line for line in result.stdout.splitlines() if len(line) > 40 and " " in line.strip()]
        assert "\x1b" not in result.stdout
        assert "\u202e" not in result.stdout

    def test_status_of_a_scope_shows_its_months(self, store: InMemoryStore) -> None:
        """It has the last delivery, one mark per month, and the missing months."""
        record(store, a={THIS: DATA, LAST: LOST})
        result = called("status", "aws", "a")
        assert f"months of daily · {THIS}: 2 files, 4,096 bytes, last arrival" in result.stdout
        assert f"lost: {LAST}" in result.stdout
        document = json.loads(called("status", "aws", "a", "--json").stdout)
        assert document["months"]["daily"][LAST]["state"] == "lost"

    def test_page_has_the_months_of_each_scope(self, store: InMemoryStore, tmp_path: Path) -> None:
        """Each month is one letter, from data that never becomes markup."""
        record(store, a={THIS: DATA, LAST: LOST}, b={THIS: DATA})
        file = tmp_path / "page.html"
        assert called("page", "aws", "--out", str(file)).exit_code == 0
        embedded = file.read_text(encoding="utf-8").partition('id="data">')[2].partition("</script>")[0]
        (cloud,) = json.loads(embedded)["clouds"]
        assert cloud["months"][-2:] == [LAST, THIS]
        assert [row[5][-3:] for row in cloud["scopes"]] == ["?01", "??1"]
