"""The generator of billing rows, and the control actions on exports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from localcloud.gcp.services.billing_schema import table_name
from shared.runtime.clock import VirtualClock
from tests.localcloud.gcp.conftest import START, Clients, Opener

Make = Callable[..., Clients]


def _ask(one: Clients, select: str, account: str, kind: str = "standard") -> list[Any]:
    table = f"`{one.cloud.project}.billing_export.{table_name(kind, account)}`"
    return [tuple(row.values()) for row in one.bigquery.query_and_wait(f"SELECT {select} FROM {table}")]


def test_same_seed_gives_the_same_rows(opened: Opener, clients: Make) -> None:
    """Another seed gives other rows."""
    select = "labels[OFFSET(0)].value AS row, sku.id AS sku, cost, usage_start_time AS at"
    found = []
    for seed in (7, 7, 8):
        one = clients(opened(accounts=1, done=1, history_days=2, seed=seed))
        account = next(iter(one.cloud.accounts()))
        found.append((account, sorted(_ask(one, select, account))))
    assert found[0] == found[1]
    assert found[0][0] != found[2][0]


def test_every_row_is_unique(gcp: Clients) -> None:
    """Each row's label exists once, and export times never decrease."""
    account = next(iter(gcp.cloud.accounts()))
    for day in ("2026-03-08", "2026-03-08", "2026-03-10"):
        gcp.cloud.late_data(account, day, rows=3)
    gcp.cloud.stream(rows=4)
    select = "COUNT(*), COUNT(DISTINCT labels[OFFSET(0)].value), COUNT(DISTINCT export_time)"
    assert _ask(gcp, select, account) == [(43, 43, 43)]


def test_late_rows_arrive_in_earlier_partitions(opened: Opener, clients: Make) -> None:
    """Each day's late rows are in one of the ten partitions before, the same for the same seed."""
    found = []
    for seed in (1, 1, 2):
        clock = VirtualClock(START)
        cloud = opened(accounts=1, done=1, kinds=("standard",), seed=seed, clock=clock)
        (account,) = cloud.accounts()
        for _ in range(12):
            assert cloud.stream(rows=6, late=2) == 8
            clock.advance(24 * 3600)
        found.append({day: rows for day, (_, rows) in cloud.watermarks(account).items()})
    assert found[0] == found[1] != found[2]
    assert sum(found[0].values()) == 96
    assert max(found[0].values()) > 6


def test_usage_date_is_the_partition_day_or_earlier(gcp: Clients) -> None:
    """Some rows of a partition are for earlier days."""
    account = next(iter(gcp.cloud.accounts()))
    age = "DATE_DIFF(DATE(_PARTITIONTIME), DATE(usage_start_time), DAY)"
    select = f"MIN({age}), MAX({age})"
    assert _ask(gcp, select, account) == [(0, 2)]


def test_only_open_accounts_with_an_active_export_get_data(gcp: Clients) -> None:
    """A closed account, a paused export and an account without the console step get no rows."""
    closed, paused, never = gcp.cloud.accounts()
    before = gcp.cloud.tables()
    gcp.cloud.close_account(closed)
    gcp.cloud.make_stale(paused, hours=1)
    assert gcp.cloud.stream(rows=5, kinds=["standard", "detailed"]) == 0
    gcp.cloud.open_account(closed)
    gcp.cloud.resume(paused)
    gcp.cloud.console_step(never)
    assert gcp.cloud.stream(rows=5, kinds=["standard"]) == 15
    assert gcp.cloud.tables()[table_name("standard", closed)] == before[table_name("standard", closed)] + 5


def test_stale_table_has_the_requested_age(gcp: Clients) -> None:
    """Both its newest export time and its partitions' last modification have that age."""
    account = next(iter(gcp.cloud.accounts()))
    gcp.cloud.make_stale(account, hours=30)
    (newest,) = _ask(gcp, "MAX(export_time)", account)
    assert newest[0].isoformat() == "2026-03-08T20:00:00.009000+00:00"
    view = f"`{gcp.cloud.project}.billing_export`.INFORMATION_SCHEMA.PARTITIONS"
    sql = f"SELECT MAX(last_modified_time) AS at FROM {view} WHERE table_name = '{table_name('standard', account)}'"
    (row,) = gcp.bigquery.query_and_wait(sql)
    assert row.at.isoformat() == "2026-03-08T20:00:00.009000+00:00"


def test_schema_can_be_changed(gcp: Clients) -> None:
    """Columns can be dropped, added and renamed; other columns keep their values, and new rows still arrive."""
    account, other, _ = gcp.cloud.accounts()
    before = _ask(gcp, "SUM(cost)", account)
    gcp.cloud.drop_column(account, "tags")
    gcp.cloud.add_column(account, "new_one")
    gcp.cloud.rename_column(account, "seller_name", "seller")
    names = [field.name for field in gcp.bigquery.get_table(f"billing_export.{table_name('standard', account)}").schema]
    assert ("tags" in names, "new_one" in names, "seller" in names, "seller_name" in names) == (
        False,
        True,
        True,
        False,
    )
    assert _ask(gcp, "SUM(cost)", account) == before
    gcp.cloud.stream(rows=2, kinds=["standard"])
    assert _ask(gcp, "COUNT(*), COUNT(seller)", account) == [(32, 0)]
    assert _ask(gcp, "COUNT(*), COUNT(seller_name)", other) == [(32, 32)]


def test_deleted_table_is_recreated_by_the_next_delivery(gcp: Clients) -> None:
    """The table has only rows that were delivered since."""
    account = next(iter(gcp.cloud.accounts()))
    gcp.cloud.delete_table(account)
    assert table_name("standard", account) not in gcp.cloud.tables()
    gcp.cloud.stream(rows=6)
    assert _ask(gcp, "COUNT(*)", account) == [(6,)]


def test_reenabled_export_continues(gcp: Clients) -> None:
    """New rows are separate from earlier ones, and none are added for the time without the export."""
    account = next(iter(gcp.cloud.accounts()))
    gcp.cloud.undo_console_step(account)
    assert gcp.cloud.stream(rows=5, accounts=[account]) == 0
    gcp.cloud.console_step(account)
    gcp.cloud.stream(rows=5, accounts=[account])
    assert _ask(gcp, "COUNT(*), COUNT(DISTINCT labels[OFFSET(0)].value)", account) == [(35, 35)]


def test_making_a_table_without_older_rows_stale_is_refused(gcp: Clients) -> None:
    """The table would have no rows at all, which is a different state."""
    account = next(iter(gcp.cloud.accounts()))
    with pytest.raises(ValueError, match="no rows older than 72 hours"):
        gcp.cloud.make_stale(account)
    assert gcp.cloud.stream(rows=1, accounts=[account], kinds=["standard"]) == 1
