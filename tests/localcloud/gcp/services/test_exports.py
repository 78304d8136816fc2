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


def test_the_same_seed_makes_the_same_rows(opened: Opener, clients: Make) -> None:
    """Two clouds of one seed agree row by row, and one of another seed does not."""
    select = "labels[OFFSET(0)].value AS row, sku.id AS sku, cost, usage_start_time AS at"
    found = []
    for seed in (7, 7, 8):
        one = clients(opened(accounts=1, done=1, history_days=2, seed=seed))
        account = next(iter(one.cloud.accounts()))
        found.append((account, sorted(_ask(one, select, account))))
    assert found[0] == found[1]
    assert found[0][0] != found[2][0]


def test_every_row_is_distinguishable(gcp: Clients) -> None:
    """Each row's own label is there once, whatever was streamed, and export times never go back."""
    account = next(iter(gcp.cloud.accounts()))
    for day in ("2026-03-08", "2026-03-08", "2026-03-10"):
        gcp.cloud.late_data(account, day, rows=3)
    gcp.cloud.stream(rows=4)
    select = "COUNT(*), COUNT(DISTINCT labels[OFFSET(0)].value), COUNT(DISTINCT export_time)"
    assert _ask(gcp, select, account) == [(43, 43, 43)]


def test_rows_can_arrive_late_every_day(opened: Opener, clients: Make) -> None:
    """Each day's late rows land in one of the ten partitions before, on the same days for the same seed."""
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


def test_usage_is_of_the_partitions_day_or_older(gcp: Clients) -> None:
    """The partition's day is not the usage day: some rows are of the days before."""
    account = next(iter(gcp.cloud.accounts()))
    age = "DATE_DIFF(DATE(_PARTITIONTIME), DATE(usage_start_time), DAY)"
    select = f"MIN({age}), MAX({age})"
    assert _ask(gcp, select, account) == [(0, 2)]


def test_only_enabled_open_accounts_get_data(gcp: Clients) -> None:
    """A closed account, a paused one and one without the console step get no rows."""
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


def test_a_table_goes_stale(gcp: Clients) -> None:
    """After that its newest export time, and its partitions' last change, are as old as asked for."""
    account = next(iter(gcp.cloud.accounts()))
    gcp.cloud.make_stale(account, hours=30)
    (newest,) = _ask(gcp, "MAX(export_time)", account)
    assert newest[0].isoformat() == "2026-03-08T20:00:00.009000+00:00"
    view = f"`{gcp.cloud.project}.billing_export`.INFORMATION_SCHEMA.PARTITIONS"
    sql = f"SELECT MAX(last_modified_time) AS at FROM {view} WHERE table_name = '{table_name('standard', account)}'"
    (row,) = gcp.bigquery.query_and_wait(sql)
    assert row.at.isoformat() == "2026-03-08T20:00:00.009000+00:00"


def test_a_schema_can_surprise(gcp: Clients) -> None:
    """A dropped, an added and a renamed column show in the table; other columns keep their values, and data go on."""
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


def test_a_deleted_table_comes_back_with_the_next_delivery(gcp: Clients) -> None:
    """It holds only what was delivered since."""
    account = next(iter(gcp.cloud.accounts()))
    gcp.cloud.delete_table(account)
    assert table_name("standard", account) not in gcp.cloud.tables()
    gcp.cloud.stream(rows=6)
    assert _ask(gcp, "COUNT(*)", account) == [(6,)]


def test_an_export_that_is_enabled_again_goes_on(gcp: Clients) -> None:
    """Its rows stay apart from those before, and while it was off nothing came."""
    account = next(iter(gcp.cloud.accounts()))
    gcp.cloud.undo_console_step(account)
    assert gcp.cloud.stream(rows=5, accounts=[account]) == 0
    gcp.cloud.console_step(account)
    gcp.cloud.stream(rows=5, accounts=[account])
    assert _ask(gcp, "COUNT(*), COUNT(DISTINCT labels[OFFSET(0)].value)", account) == [(35, 35)]


def test_a_table_without_older_rows_cannot_go_stale(gcp: Clients) -> None:
    """It would be a table that never had data, which is another thing."""
    account = next(iter(gcp.cloud.accounts()))
    with pytest.raises(ValueError, match="no rows older than 72 hours"):
        gcp.cloud.make_stale(account)
    assert gcp.cloud.stream(rows=1, accounts=[account], kinds=["standard"]) == 1
