"""The months that hold data: read with the tables, complete, and marked empty when their partitions are deleted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gcp_function.resources.billing_tables import Month, Partition, TableSeen
from gcp_function.resources.copy_manifest import EPOCH
from gcp_function.resources.delivered_months import MONTHS, delivered_months
from localcloud.gcp.cloud import LocalGcp
from shared.model import Present
from shared.periods import EMPTY, Period
from tests.gcp_function.support import HOUR, START, accounts, action, day_of, local_gcp, run

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def micros(month: int, day: int) -> int:
    """Return a moment of 2026 in microseconds since 1970."""
    return int((datetime(2026, month, day, tzinfo=UTC) - EPOCH).total_seconds()) * 1_000_000


def periods_of(cloud: LocalGcp, kind: str = "standard", **settings: str) -> dict[str, Period]:
    """Return the periods that a run observes of the first account's export."""
    observation = action(run(cloud, environment=settings), "export", accounts(cloud)[0], kind).observation
    assert isinstance(observation, Present)
    return dict(observation.periods)


def test_months_before_the_window_and_the_days_in_it_add_up() -> None:
    """The window begins within February: its days are added to the older part of that month."""
    table = TableSeen(
        days={
            "2026-02-20": Partition(5, micros(2, 21), 50),
            "2026-02-21": Partition(0, micros(2, 22), 0),
            "2026-03-01": Partition(1, micros(3, 2), 10),
        },
        older_months={
            "2025-12": Month(31, 310, micros(1, 2), micros(1, 9)),
            "2026-02": Month(19, 190, micros(2, 2), micros(2, 20)),
        },
    )
    assert delivered_months(table, {"2026-03": micros(3, 3)}, "", NOW) == {
        "2025-12": Period(31, 310, datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 9, tzinfo=UTC)),
        "2026-01": EMPTY,
        "2026-02": Period(20, 240, datetime(2026, 2, 2, tzinfo=UTC), datetime(2026, 2, 21, tzinfo=UTC)),
        "2026-03": Period(
            1, 10, datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)
        ),
    }


@pytest.mark.parametrize(
    ("known_since", "first", "number"),
    [
        ("2026-01", "2026-01", 3),  # what was there and is gone
        ("2025-12-24", None, 0),  # not a month
        ("nonsense", None, 0),
        ("", None, 0),
        ("0001-01", "2019-03", MONTHS + 1),
    ],
)
def test_months_that_an_earlier_run_saw_are_empty_once_they_are_gone(
    known_since: str, first: str | None, number: int
) -> None:
    """A table without partitions has the empty months that are known of it, and none it never had."""
    found = delivered_months(TableSeen(), {}, known_since, NOW)
    assert (next(iter(found), None), len(found)) == (first, number)
    assert set(found.values()) <= {EMPTY}


def test_a_run_observes_every_month_with_the_query_it_makes_anyway() -> None:
    """BigQuery counts the months before the window; the watermark is known of the partition that is compared."""
    with local_gcp(accounts=1, done=1, history_days=60, rows=1) as cloud:
        found = periods_of(cloud, EXPORTS="standard", COPY="off", COPY_DAYS="3")
        assert {month: one.files for month, one in found.items()} == {"2026-09": 6, "2026-10": 31, "2026-11": 23}
        assert cloud.calls.count("bigquery.jobs.query") == 2, "the tables, and one watermark"
        october, november = found["2026-10"], found["2026-11"]
        assert october.bytes == 31 * (november.bytes or 0) // 23 > 0
        assert october.first is not None is not october.last
        assert (october.watermark is None, november.watermark is None) == (True, False)


def test_copies_show_the_watermark_of_their_month(covered: LocalGcp) -> None:
    """In a steady state no watermark is asked for: the manifests hold it."""
    (november,) = periods_of(covered).values()
    assert november.watermark is not None
    assert november.watermark.replace(microsecond=0) == START
    assert covered.calls.count("bigquery.jobs.query") == 1


def test_a_month_whose_partitions_were_deleted_is_empty() -> None:
    """The oldest month stays in view after its rows are gone."""
    with local_gcp(accounts=1, done=1, history_days=30, rows=1) as cloud:
        assert periods_of(cloud, COPY="off")["2026-10"].files == 7
        for back in range(30):
            if day_of(back) < "2026-11":
                cloud.delete_rows(accounts(cloud)[0], day_of(back))
        cloud.advance(HOUR)
        found = periods_of(cloud, COPY="off", COPY_DAYS="10")
        assert found["2026-10"] == EMPTY
        assert found["2026-11"].files == 23
