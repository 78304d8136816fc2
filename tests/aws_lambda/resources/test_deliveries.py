"""Deliveries: manifests are compared with the files that they list, and unreadable deliveries are reported."""

from __future__ import annotations

import gzip
import json

import pytest

from localcloud.aws.cloud import LocalAws
from shared.model import Result
from tests.aws_lambda.support import DAY, EXPORT, HOUR, Lines, action, messages, outcome, run, verbs


def keys(cloud: LocalAws, prefix: str) -> list[str]:
    """Return the keys in the bucket with a prefix."""
    listed = cloud.client("s3").list_objects_v2(Bucket=cloud.deployment.bucket, Prefix=prefix)
    return [str(one["Key"]) for one in listed.get("Contents", [])]


@pytest.mark.parametrize("loss", ["deleted", "without bytes"])
def test_manifest_with_missing_files_is_not_a_delivery(covered: LocalAws, loss: str) -> None:
    """Deferred while a delivery may overwrite it, then reported with the files; a full delivery resolves it."""
    (part,) = keys(covered, f"dataexport/{EXPORT}/data/")
    s3, bucket = covered.client("s3"), covered.deployment.bucket
    covered.advance(HOUR)
    covered.deliver()
    if loss == "deleted":
        s3.delete_object(Bucket=bucket, Key=part)
    else:
        s3.put_object(Bucket=bucket, Key=part, Body=b"")
    first = outcome(run(covered), "export")
    assert (first.result, first.code) == (Result.DEFERRED, "delivery-incomplete")
    covered.advance(DAY + 3 * HOUR)
    finished = run(covered)
    assert outcome(finished, "export").result is Result.MANUAL
    assert part in messages(finished)
    covered.deliver()
    assert set(verbs(run(covered))) == {"KEEP"}


def test_files_deleted_after_a_delivery_are_detected(covered: LocalAws) -> None:
    """The manifest is not read again: the listing shows that its period has no files."""
    run(covered)
    covered.calls.clear()
    run(covered)
    assert covered.calls.count("s3", "GetObject") == 1, "the state alone is read"
    for part in keys(covered, f"dataexport/{EXPORT}/data/"):
        covered.client("s3").delete_object(Bucket=covered.deployment.bucket, Key=part)
    assert outcome(run(covered), "export").code == "delivery-incomplete"


def test_one_deleted_file_of_several_is_detected(covered: LocalAws) -> None:
    """The remaining files do not count as a complete period, and the previous month's manifest is checked too."""
    s3, bucket = covered.client("s3"), covered.deployment.bucket
    (part,) = keys(covered, f"dataexport/{EXPORT}/data/")
    second = part.replace("2026-11", "2026-10").replace("-00001", "-00002")
    covered.deliver(billing_period="2026-10")
    (manifest,) = keys(covered, f"dataexport/{EXPORT}/metadata/BILLING_PERIOD=2026-10/")
    s3.put_object(Bucket=bucket, Key=second, Body=b"more rows")
    named = json.loads(s3.get_object(Bucket=bucket, Key=manifest)["Body"].read())
    named["dataFiles"].append(f"s3://{bucket}/{second}")
    s3.put_object(Bucket=bucket, Key=manifest, Body=json.dumps(named).encode())
    covered.deliver(billing_period="2026-11")
    assert set(verbs(run(covered))) == {"KEEP"}
    s3.delete_object(Bucket=bucket, Key=second)
    finished = run(covered)
    assert outcome(finished, "export").code == "delivery-incomplete"
    assert second in outcome(finished, "export").action.detail


def test_file_smaller_than_when_delivered_is_detected(covered: LocalAws) -> None:
    """Manifests have no sizes, so the sizes at the first comparison count; a new delivery resolves it."""
    s3, bucket = covered.client("s3"), covered.deployment.bucket
    (part,) = keys(covered, f"dataexport/{EXPORT}/data/")
    run(covered)
    body = s3.get_object(Bucket=bucket, Key=part)["Body"].read()
    s3.put_object(Bucket=bucket, Key=part, Body=body[:-1])
    for _ in range(2):
        found = outcome(run(covered), "export")
        assert (found.result, found.code) == (Result.DEFERRED, "delivery-incomplete")
        assert f"{len(body) - 1:,} of {len(body):,} bytes" in found.action.detail
    covered.advance(DAY + 3 * HOUR)
    assert outcome(run(covered), "export").result is Result.MANUAL
    covered.deliver()
    assert set(verbs(run(covered))) == {"KEEP"}


def test_files_outside_the_manifest_are_ignored(covered: LocalAws) -> None:
    """Files that an earlier, larger delivery left behind may be deleted."""
    s3, bucket = covered.client("s3"), covered.deployment.bucket
    (part,) = keys(covered, f"dataexport/{EXPORT}/data/")
    left = part.replace("-00001", "-00009")
    s3.put_object(Bucket=bucket, Key=left, Body=b"of yesterday")
    assert set(verbs(run(covered))) == {"KEEP"}
    s3.delete_object(Bucket=bucket, Key=left)
    assert set(verbs(run(covered))) == {"KEEP"}


@pytest.mark.parametrize("body", [b"", b"<html></html>", b"[]", b'{"dataFiles": {}}', b'{"dataFiles": [1]}'])
def test_invalid_manifest_is_not_a_delivery(covered: LocalAws, body: bytes) -> None:
    """Deferred at first, since the delivery may be in progress; after a refresh it becomes a manual step."""
    s3, bucket = covered.client("s3"), covered.deployment.bucket
    (manifest,) = keys(covered, f"dataexport/{EXPORT}/metadata/")
    s3.put_object(Bucket=bucket, Key=manifest, Body=body)
    found = outcome(run(covered), "export")
    assert (found.result, found.code) == (Result.DEFERRED, "manifest-unreadable")
    covered.advance(DAY + 3 * HOUR)
    assert outcome(run(covered), "export").result is Result.MANUAL


def test_unlisted_deliveries_become_a_manual_step(covered: LocalAws) -> None:
    """Without the listing nothing proves that data arrives: deferred, then reported with the missing permission."""
    covered.deny("s3:ListBucket")
    reports = []
    for _ in range(4):
        reports.append(run(covered))
        covered.advance(HOUR)
    assert {outcome(one, "export").code for one in reports} == {"deliveries-unread"}
    assert {one.report["scopes"]["covered"] for one in reports} == {0}
    assert outcome(reports[0], "export").result is Result.DEFERRED
    assert outcome(reports[-1], "export").result is Result.MANUAL
    assert "ListObjectsV2" in messages(reports[-1])
    covered.allow("s3:ListBucket")
    assert run(covered).report["scopes"]["covered"] == 4


def test_unreadable_executions_are_reported(covered: LocalAws) -> None:
    """The manual step for an export without deliveries says that its executions could not be read."""
    covered.deny("bcm-data-exports:ListExecutions")
    covered.advance(49 * HOUR)
    lines = Lines()
    finished = run(covered, sink=lines)
    assert action(finished, "export").reason == "nothing-delivered"
    assert "its executions could not be read (access-denied)" in messages(finished)
    (said,) = [fields for _, event, fields in lines.lines if event == "detail-unread"]
    assert "ListExecutions" in said["reason"]


def test_manifests_without_files_are_tolerated_for_three_days(covered: LocalAws) -> None:
    """A new month may have no costs; later the step says how to distinguish that from a failure of AWS."""
    s3, bucket = covered.client("s3"), covered.deployment.bucket
    (manifest,) = keys(covered, f"dataexport/{EXPORT}/metadata/")
    seen = []
    for _ in range(5):
        s3.put_object(Bucket=bucket, Key=manifest, Body=json.dumps({"dataFiles": []}).encode())
        found = outcome(run(covered), "export")
        seen.append((found.result, found.action.observation.code))
        covered.advance(DAY)
    assert [result for result, _ in seen] == [Result.PENDING] * 3 + [Result.MANUAL] * 2
    assert {code for _, code in seen} == {"delivery-empty"}
    covered.deliver()
    assert set(verbs(run(covered))) == {"KEEP"}


def test_files_with_only_a_header_have_no_rows(covered: LocalAws) -> None:
    """The size shows it, as the function cannot read the files; with one more row they count as a delivery."""
    s3, bucket = covered.client("s3"), covered.deployment.bucket
    (part,) = keys(covered, f"dataexport/{EXPORT}/data/")
    seen = []
    for _ in range(5):
        covered.deliver()
        text = gzip.decompress(s3.get_object(Bucket=bucket, Key=part)["Body"].read())
        s3.put_object(Bucket=bucket, Key=part, Body=gzip.compress(text.partition(b"\n")[0]))
        found = outcome(run(covered), "export")
        seen.append((found.result, found.action.observation.code))
        covered.advance(DAY)
    assert [result for result, _ in seen] == [Result.PENDING] * 3 + [Result.MANUAL] * 2
    assert {code for _, code in seen} == {"delivery-empty"}
    covered.deliver()
    assert set(verbs(run(covered))) == {"KEEP"}


def test_without_permission_manifests_are_not_compared(covered: LocalAws) -> None:
    """Deployments of earlier versions lack the permission: their deliveries count as before, and the log says so."""
    covered.advance(HOUR)
    covered.deliver()
    covered.deny("s3:GetObject", resource="arn:aws:s3:::*/metadata/*")
    lines = Lines()
    finished = run(covered, sink=lines)
    assert set(verbs(finished)) == {"KEEP"}
    (said,) = [fields for _, event, fields in lines.lines if event == "detail-unread"]
    assert "Manifest.json" in said["reason"]
    assert finished.report["status"] == "ok"
