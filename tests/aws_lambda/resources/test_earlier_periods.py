"""Earlier billing periods: no run lists them all, and what their files lack is found, another period each day."""

from __future__ import annotations

import pytest

from localcloud.aws.cloud import LocalAws
from shared.model import Result
from tests.aws_lambda.support import DAY, EXPORT, HOUR, local_aws, messages, outcome, run

PERIODS = ("2026-04", "2026-05", "2026-06", "2026-07")


@pytest.fixture
def old(covered: LocalAws) -> LocalAws:
    """Return an organization with four periods that are no longer restated."""
    for period in PERIODS:
        covered.deliver(EXPORT, period)
    covered.deliver(EXPORT)
    return covered


def files_of(cloud: LocalAws, period: str) -> list[str]:
    """Return the keys of a period's data files."""
    listed = cloud.client("s3").list_objects_v2(Bucket=cloud.deployment.bucket)
    return [one["Key"] for one in listed["Contents"] if f"/data/BILLING_PERIOD={period}/" in one["Key"]]


def next_day(cloud: LocalAws) -> None:
    """Let a day pass, with its delivery."""
    cloud.advance(DAY)
    cloud.deliver(EXPORT)


def test_lost_files_of_an_earlier_period_are_found_within_as_many_days_as_there_are(old: LocalAws) -> None:
    """The step names the period until its files are back; the export's newest data counts as before."""
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
    assert outcome(run(old), "export").code == "period-incomplete", "what was found stays known in between"
    s3.put_object(Bucket=bucket, Key=key, Body=data)
    next_day(old)
    assert outcome(run(old), "export").result is Result.UNCHANGED


def test_bytes_that_an_earlier_period_lost_are_found(old: LocalAws) -> None:
    """A file that has shrunk since its manifest was compared is told, though the manifest does not know its size."""
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


def test_a_look_at_an_earlier_period_costs_a_listing_a_day(old: LocalAws) -> None:
    """The first run of a day lists the recent periods and an earlier one; the others list the recent ones alone."""
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


def test_a_period_whose_manifest_is_gone_as_well_is_missed_by_nobody() -> None:
    """Whoever lets old periods expire deletes manifests and files alike."""
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
