"""The periods that a run's listings show, for the ledger of deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from localcloud.aws.cloud import LocalAws
from shared.model import Present
from shared.periods import EMPTY, Period
from shared.reconcile import RunResult
from shared.state.deliveries import DELIVERIES, decode
from tests.aws_lambda.support import DAY, EXPORT, HOUR, START, action, local_aws, run

CURRENT, LAST, BEFORE = "2026-11", "2026-10", "2026-09"
EARLIER = ("2026-05", "2026-06")


def periods(finished: RunResult) -> Mapping[str, Period]:
    """Return the periods in the observation of the export."""
    observation = action(finished, "export").observation
    assert isinstance(observation, Present)
    return observation.periods


def delete(cloud: LocalAws, *parts: str) -> None:
    """Delete the objects whose keys contain all `parts`."""
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    for one in s3.list_objects_v2(Bucket=bucket)["Contents"]:
        if all(part in one["Key"] for part in parts):
            s3.delete_object(Bucket=bucket, Key=one["Key"])


def test_recent_period_has_files_bytes_and_times(covered: LocalAws) -> None:
    """The other months whose files are in the listing are empty; AWS gives no watermark."""
    objects = covered.client("s3").list_objects_v2(
        Bucket=covered.deployment.bucket, Prefix=f"dataexport/{EXPORT}/data/BILLING_PERIOD={CURRENT}/"
    )["Contents"]
    times = [one["LastModified"] for one in objects]
    expected = Period(len(objects), sum(one["Size"] for one in objects), min(times), max(times))
    assert periods(run(covered)) == {CURRENT: expected, LAST: EMPTY, BEFORE: EMPTY}


def test_export_without_a_delivery_has_no_periods() -> None:
    """Before the first delivery there is nothing to record."""
    with local_aws(accounts=1, kind="standalone") as cloud:
        run(cloud)
        assert periods(run(cloud)) == {}


def test_earlier_periods_are_known_by_their_manifest_and_counted_one_a_day(covered: LocalAws) -> None:
    """The listing has only the manifests of earlier periods; files are listed once, and their number is remembered."""
    for period in EARLIER:
        covered.deliver(EXPORT, period)
    delivered = START + timedelta(seconds=600)
    first = periods(run(covered))
    assert {first[period].last for period in EARLIER} == {delivered}
    assert sorted(first[period].files or 0 for period in EARLIER) == [0, 1], "only the checked one is counted"
    (checked,) = (period for period in EARLIER if first[period].files)
    covered.advance(HOUR)
    covered.calls.clear()
    later = periods(run(covered))
    assert (later[checked].files, later[checked].bytes) == (1, first[checked].bytes)
    assert covered.calls.by_operation()["s3:ListObjectsV2"] == 1
    covered.advance(DAY)
    covered.deliver()
    assert [periods(run(covered))[period].files for period in EARLIER] == [1, 1]


def test_incomplete_earlier_period_is_named_only_when_its_files_are_listed(covered: LocalAws) -> None:
    """In between, the ledger keeps what the check found, not the number from before the loss."""
    covered.deliver(EXPORT, EARLIER[0])
    assert periods(run(covered))[EARLIER[0]].files == 1
    delete(covered, "/data/", EARLIER[0])
    covered.advance(DAY)
    covered.deliver()
    assert periods(run(covered))[EARLIER[0]] == EMPTY
    covered.advance(HOUR)
    assert EARLIER[0] not in periods(run(covered))


def test_ledger_keeps_the_periods_of_the_export(covered: LocalAws) -> None:
    """It is stored beside the state, by account and export."""
    run(covered)
    body = covered.client("s3").get_object(Bucket=covered.deployment.bucket, Key=f"state/{DELIVERIES}")["Body"]
    with body:
        ledger = decode(body.read(), "aws")
    assert ledger.periods(covered.account, EXPORT)[CURRENT].files == 1


def test_recent_period_whose_files_were_deleted_is_empty(covered: LocalAws) -> None:
    """The manifest alone is not data."""
    delete(covered, "/data/", CURRENT)
    assert periods(run(covered))[CURRENT] == EMPTY


def test_known_earlier_period_that_is_no_longer_listed_is_empty(covered: LocalAws) -> None:
    """A period is known after its files were compared once."""
    covered.deliver(EXPORT, EARLIER[0])
    assert periods(run(covered))[EARLIER[0]].files == 1
    covered.advance(HOUR)
    delete(covered, EARLIER[0])
    assert periods(run(covered))[EARLIER[0]] == EMPTY


def test_listing_that_fails_shows_no_periods(covered: LocalAws) -> None:
    """Nothing is concluded about deliveries that could not be listed."""
    covered.deny("s3:ListBucket")
    assert periods(run(covered)) == {}
