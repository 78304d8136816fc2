"""The months in a listing of blobs, for the ledger of deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

import azure_function.resources.deliveries as listing
from azure_function.resources.delivery_periods import LOOKED_BACK, MonthFiles, periods_of
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import CONTAINER
from shared.model import Present
from shared.periods import EMPTY, Period
from shared.reconcile import RunResult
from tests.azure_function.resources.test_deliveries import Blob, Container, one_run
from tests.azure_function.support import HOUR, START, action, advance, run

EARLY, LATE = START - timedelta(hours=9), START - timedelta(hours=3)
ROOT = "tailpipe/subscriptions/one"
NAME = (ROOT, "export")


def blob(month: str, run_id: str, name: str, written: datetime, size: int = 100) -> Blob:
    """Return a blob of the export in the folder of a month."""
    made = Blob(f"{ROOT}/export/{month}01-{month}28/{run_id}/{name}", written)
    made.size = size
    return made


def periods(finished: RunResult, subscription: str) -> Mapping[str, Period]:
    """Return the periods in the observation of the subscription's export."""
    observation = action(finished, subscription).observation
    assert isinstance(observation, Present)
    return observation.periods


def test_month_counts_the_files_of_its_newest_run() -> None:
    """Files of earlier runs are superseded. The first arrival is that of any run; the manifest is not counted."""
    container = Container(
        [
            blob("202610", "a", "manifest.json", EARLY),
            blob("202610", "a", "part_0_0001.csv", EARLY, 70),
            blob("202610", "b", "manifest.json", LATE),
            blob("202610", "b", "part_0_0001.csv", LATE, 50),
            blob("202610", "b", "part_1_0001.csv", LATE, 60),
        ]
    )
    found, _, _ = one_run(container, None, START)
    assert found.periods(*NAME, None)["2026-10"] == Period(2, 110, EARLY, LATE)


def test_newest_run_is_the_one_written_last() -> None:
    """The names of runs are ids without an order."""
    newest = MonthFiles("a", 2, 110, LATE, LATE)
    newest.add(MonthFiles("b", 1, 70, EARLY, EARLY))
    assert newest == MonthFiles("a", 2, 110, EARLY, LATE)


def test_month_without_blobs_is_empty_once_everything_was_listed() -> None:
    """Reported from the first month with blobs, at least a year back, without the current month."""
    months = {"202607": MonthFiles("a", 1, 10, EARLY, LATE)}
    found = periods_of(months, START, whole=True)
    assert found["2026-07"] == Period(1, 10, EARLY, LATE)
    assert [one for one in found.values() if one != EMPTY] == [found["2026-07"]]
    assert len(found) == LOOKED_BACK
    assert "2026-11" not in found
    old = periods_of({"202401": MonthFiles("a", 1, 10, EARLY, LATE)}, START, whole=True)
    assert (min(old), len(old)) == ("2024-01", 34)


def test_incomplete_listing_reports_no_empty_months() -> None:
    """Months that are not listed yet are left out."""
    assert list(periods_of({"202607": MonthFiles("a", 1, 10, EARLY, LATE)}, START, whole=False)) == ["2026-07"]
    assert periods_of({}, START, whole=True) == {}


def test_month_split_between_two_runs_is_counted_completely(monkeypatch: pytest.MonkeyPatch) -> None:
    """The progress of the listing stores the part that the first run listed."""
    monkeypatch.setattr(listing, "PAGE", 3)
    month = [blob("202611", "a", name, LATE) for name in ("manifest.json", "part_0.csv", "part_1.csv", "part_2.csv")]
    others = [
        Blob(f"tailpipe/subscriptions/two/export/20261{n}01-20261{n}28/r/{m}", LATE) for n in (0, 1) for m in "ab"
    ]
    container = Container([*month, *others])
    _, progress, _ = one_run(container, None, START)
    for hours in range(1, 6):
        found, progress, _ = one_run(container, progress, START + timedelta(hours=hours))
        if found.of(*NAME) is not None:
            assert found.periods(*NAME, None)["2026-11"] == Period(3, 300, LATE, LATE)


def test_period_equals_the_blobs_in_the_container(covered: LocalAzure) -> None:
    """Number, bytes and times are those of the blobs; a month that was never delivered is empty."""
    covered.deliver()
    advance(covered, HOUR)
    subscription = covered.subscription_ids[0]
    with covered.blob_client() as service:
        blobs = [
            one
            for one in service.get_container_client(CONTAINER).list_blobs()
            if subscription in one.name and not one.name.endswith("manifest.json") and "/202611" in one.name
        ]
    found = periods(run(covered), subscription)
    written = [one.last_modified.astimezone(UTC) for one in blobs]
    assert found["2026-11"] == Period(len(blobs), sum(one.size for one in blobs), min(written), max(written))
    assert found["2026-10"] == EMPTY


def test_export_without_any_blobs_is_empty_since_its_creation(covered: LocalAzure) -> None:
    """Otherwise the ledger would still show months whose files were deleted."""
    advance(covered, 35 * 24 * HOUR)
    covered.deliver()
    advance(covered, HOUR)
    subscription = covered.subscription_ids[0]
    assert periods(run(covered), subscription)["2026-12"].files == 1
    with covered.blob_client() as service:
        container = service.get_container_client(CONTAINER)
        for one in list(container.list_blobs()):
            if subscription in one.name:
                container.delete_blob(one.name)
    found = periods(run(covered, [subscription]), subscription)
    assert found["2026-12"] == found["2026-11"] == EMPTY


def test_export_that_never_delivered_has_no_periods() -> None:
    """An export without deliveries cannot have lost any."""
    assert periods_of({}, START, whole=True, since=None) == {}
    assert periods_of({}, START, whole=True, since=START - timedelta(days=40))["2026-11"] == EMPTY
    assert periods_of({}, START, whole=False, since=START - timedelta(days=40)) == {}
