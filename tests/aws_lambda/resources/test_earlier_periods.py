"""Earlier billing periods: missing files are found by checking one further period each day."""

from __future__ import annotations

import pytest

from localcloud.aws.cloud import LocalAws
from shared.model import Result
from tests.aws_lambda.support import DAY, EXPORT, HOUR, local_aws, messages, outcome, run

PERIODS = ("2026-04", "2026-05", "2026-06", "2026-07")


@pytest.fixture
def old(covered: LocalAws) -> LocalAws:
    """Return an organization with four periods that AWS no longer restates."""
    for period in PERIODS:
        covered.deliver(EXPORT, period)
    covered.deliver(EXPORT)
    return covered


def files_of(cloud: LocalAws, period: str) -> list[str]:
    """Return the keys of a period's data files."""
    listed = cloud.client("s3").list_objects_v2(Bucket=cloud.deployment.bucket)
    return [one["Key"] for one in listed["Contents"] if f"/data/BILLING_PERIOD={period}/" in one["Key"]]


def next_day(cloud: LocalAws) -> None:
    """Advance the clock by a day and deliver data."""
    cloud.advance(DAY)
    cloud.deliver(EXPORT)


def test_missing_files_of_an_earlier_period_are_found_within_one_day_per_period(old: LocalAws) -> None:
    """The step names the period until its files are restored; the newest data counts as before."""
    run(old)
    (key,) = files_of(old, PERIODS[1])
    s3, bucket = old.client("s3"), old.deployment.bucket
    with s3.get_object(Bucket=bucket, Key=key)["Body"] as body:
        data = body.read()
    s3.delete_object(Bucket=bucket, Key=key)
    days = 0
    while outcome(finished := run(old), "export").code != "period-incomplete":
        assert outcome(finished, "export").result is Result.UNCHANGED
        days += 1
        assert days <= len(PERIODS)
        next_day(old)
    assert PERIODS[1] in messages(finished)
    assert key in messages(finished)
    old.advance(HOUR)
    assert outcome(run(old), "export").code == "period-incomplete", "the result is remembered between checks"
    s3.put_object(Bucket=bucket, Key=key, Body=data)
    next_day(old)
    assert outcome(run(old), "export").result is Result.UNCHANGED


def test_shrunken_file_of_an_earlier_period_is_found(old: LocalAws) -> None:
    """A file smaller than at the first comparison is reported, although the manifest does not have its size."""
    for _ in PERIODS:
        run(old)
        next_day(old)
    (key,) = files_of(old, PERIODS[0])
    old.client("s3").put_object(Bucket=old.deployment.bucket, Key=key, Body=b"1")
    found = []
    for _ in PERIODS:
        found.append(outcome(run(old), "export").code)
        next_day(old)
    assert "period-incomplete" in found


def test_check_of_an_earlier_period_costs_one_listing_a_day(old: LocalAws) -> None:
    """The first run of a day lists the recent periods and one earlier period; other runs list only the recent ones."""
    for _ in range(5):
        run(old)
        next_day(old)
    counts = []
    for _ in range(3):
        old.calls.clear()
        run(old)
        counts.append(old.calls.by_operation()["s3:ListObjectsV2"])
        old.advance(HOUR)
    assert counts == [2, 1, 1]


def test_period_deleted_with_its_manifest_is_not_reported() -> None:
    """An operator who expires old periods deletes manifests and files alike."""
    with local_aws(accounts=2) as cloud:
        run(cloud)
        for period in PERIODS:
            cloud.deliver(EXPORT, period)
        s3, bucket = cloud.client("s3"), cloud.deployment.bucket
        for one in s3.list_objects_v2(Bucket=bucket)["Contents"]:
            if any(period in one["Key"] for period in PERIODS[:2]):
                s3.delete_object(Bucket=bucket, Key=one["Key"])
        for _ in range(3):
            next_day(cloud)
            assert outcome(run(cloud), "export").result is Result.UNCHANGED
