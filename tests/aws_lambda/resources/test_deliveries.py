"""Deliveries: manifests compared with the files that they name, and what is said where they cannot be read."""

from __future__ import annotations

import gzip
import json

import pytest

from localcloud.aws.cloud import LocalAws
from shared.model import Result
from tests.aws_lambda.support import DAY, EXPORT, HOUR, Lines, action, messages, outcome, run, verbs


def keys(cloud: LocalAws, prefix: str) -> list[str]:
    """Return the keys below a prefix of the bucket."""
    listed = cloud.client("s3").list_objects_v2(Bucket=cloud.deployment.bucket, Prefix=prefix)
    return [str(one["Key"]) for one in listed.get("Contents", [])]


@pytest.mark.parametrize("loss", ["deleted", "without bytes"])
def test_a_manifest_whose_files_are_missing_is_no_delivery(covered: LocalAws, loss: str) -> None:
    """Waited for while it may be overwritten, then reported with the files; a whole delivery ends it."""
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


def test_files_that_vanish_after_a_whole_delivery_are_noticed(covered: LocalAws) -> None:
    """The manifest need not be read again for it: the listing shows that its period has no file left."""
    run(covered)
    covered.calls.clear()
    run(covered)
    assert covered.calls.count("s3", "GetObject") == 1, "the state alone is read"
    for part in keys(covered, f"dataexport/{EXPORT}/data/"):
        covered.client("s3").delete_object(Bucket=covered.deployment.bucket, Key=part)
    assert outcome(run(covered), "export").code == "delivery-incomplete"


def test_one_of_several_files_that_vanishes_is_noticed(covered: LocalAws) -> None:
    """What is left of a period does not stand for the whole of it, and the manifest of a month before counts too."""
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


def test_a_file_that_has_lost_bytes_since_its_delivery_is_noticed(covered: LocalAws) -> None:
    """Manifests hold no sizes, so what the files had when they were compared counts; a new delivery ends it."""
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


def test_a_file_that_no_manifest_names_may_come_and_go(covered: LocalAws) -> None:
    """What an earlier, larger delivery left behind is nobody's loss."""
    s3, bucket = covered.client("s3"), covered.deployment.bucket
    (part,) = keys(covered, f"dataexport/{EXPORT}/data/")
    left = part.replace("-00001", "-00009")
    s3.put_object(Bucket=bucket, Key=left, Body=b"of yesterday")
    assert set(verbs(run(covered))) == {"KEEP"}
    s3.delete_object(Bucket=bucket, Key=left)
    assert set(verbs(run(covered))) == {"KEEP"}


@pytest.mark.parametrize("body", [b"", b"<html></html>", b"[]", b'{"dataFiles": {}}', b'{"dataFiles": [1]}'])
def test_a_manifest_that_is_none_is_no_proof_of_a_delivery(covered: LocalAws, body: bytes) -> None:
    """Waited for at first, since it may be on its way; a refresh later a person is asked."""
    s3, bucket = covered.client("s3"), covered.deployment.bucket
    (manifest,) = keys(covered, f"dataexport/{EXPORT}/metadata/")
    s3.put_object(Bucket=bucket, Key=manifest, Body=body)
    found = outcome(run(covered), "export")
    assert (found.result, found.code) == (Result.DEFERRED, "manifest-unreadable")
    covered.advance(DAY + 3 * HOUR)
    assert outcome(run(covered), "export").result is Result.MANUAL


def test_deliveries_that_stay_unlisted_become_a_persons_business(covered: LocalAws) -> None:
    """Without the listing nothing proves that data arrives: deferred, then reported with the right that is missing."""
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


def test_executions_that_cannot_be_read_are_said(covered: LocalAws) -> None:
    """The step for a silent export does not pass over what it could not look up."""
    covered.deny("bcm-data-exports:ListExecutions")
    covered.advance(49 * HOUR)
    lines = Lines()
    finished = run(covered, sink=lines)
    assert action(finished, "export").reason == "nothing-delivered"
    assert "its executions could not be read (access-denied)" in messages(finished)
    (said,) = [fields for _, event, fields in lines.lines if event == "detail-unread"]
    assert "ListExecutions" in said["reason"]


def test_manifests_without_files_are_tolerated_for_days_only(covered: LocalAws) -> None:
    """A month that has just begun may have no costs; later the step says how to tell that from a fault of AWS."""
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


def test_files_with_headings_alone_are_no_rows(covered: LocalAws) -> None:
    """Their size tells it, as the function may not read them; one row more, and they count as a delivery."""
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


def test_without_the_right_to_read_manifests_nothing_is_compared(covered: LocalAws) -> None:
    """Deployments of earlier versions do not have it: their deliveries count as before, and the log says so."""
    covered.advance(HOUR)
    covered.deliver()
    covered.deny("s3:GetObject", resource="arn:aws:s3:::*/metadata/*")
    lines = Lines()
    finished = run(covered, sink=lines)
    assert set(verbs(finished)) == {"KEEP"}
    (said,) = [fields for _, event, fields in lines.lines if event == "detail-unread"]
    assert "Manifest.json" in said["reason"]
    assert finished.report["status"] == "ok"
