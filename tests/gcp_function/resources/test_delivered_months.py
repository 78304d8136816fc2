"""Months with delivered data: read with the tables, and marked empty once their partitions are deleted."""

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
    """Return the periods that a run observes for an export of the first account."""
    observation = action(run(cloud, environment=settings), "export", accounts(cloud)[0], kind).observation
    assert isinstance(observation, Present)
    return dict(observation.periods)


def test_month_adds_older_days_to_the_days_in_the_window() -> None:
    """The window begins within February, so that month is the sum of both parts."""
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
        ("2026-01", "2026-01", 3),  # known from an earlier run, and now gone
        ("2025-12-24", None, 0),  # not a month
        ("nonsense", None, 0),
        ("", None, 0),
        ("0001-01", "2019-03", MONTHS + 1),
    ],
)
def test_known_months_without_partitions_are_empty(known_since: str, first: str | None, number: int) -> None:
    """A table without partitions keeps the months that earlier runs found, and no others."""
    found = delivered_months(TableSeen(), {}, known_since, NOW)
    assert (next(iter(found), None), len(found)) == (first, number)
    assert set(found.values()) <= {EMPTY}


def test_run_observes_all_months_without_another_query() -> None:
    """BigQuery counts the months before the window; only the compared partition has a watermark."""
    with local_gcp(accounts=1, done=1, history_days=60, rows=1) as cloud:
        found = periods_of(cloud, EXPORTS="standard", COPY="off", COPY_DAYS="3")
        assert {month: one.files for month, one in found.items()} == {"2026-09": 6, "2026-10": 31, "2026-11": 23}
        assert cloud.calls.count("bigquery.jobs.query") == 2, "one for the tables, one for a watermark"
        october, november = found["2026-10"], found["2026-11"]
        assert october.bytes == 31 * (november.bytes or 0) // 23 > 0
        assert october.first is not None is not october.last
        assert (october.watermark is None, november.watermark is None) == (True, False)


def test_watermark_of_a_month_comes_from_the_manifests(covered: LocalGcp) -> None:
    """In the steady state no query for a watermark is needed."""
    (november,) = periods_of(covered).values()
    assert november.watermark is not None
    assert november.watermark.replace(microsecond=0) == START
    assert covered.calls.count("bigquery.jobs.query") == 1


def test_month_is_empty_after_its_partitions_are_deleted() -> None:
    """The oldest month stays listed after its rows are deleted."""
    with local_gcp(accounts=1, done=1, history_days=30, rows=1) as cloud:
        assert periods_of(cloud, COPY="off")["2026-10"].files == 7
        for back in range(30):
            if day_of(back) < "2026-11":
                cloud.delete_rows(accounts(cloud)[0], day_of(back))
        cloud.advance(HOUR)
        found = periods_of(cloud, COPY="off", COPY_DAYS="10")
        assert found["2026-10"] == EMPTY
        assert found["2026-11"].files == 23
