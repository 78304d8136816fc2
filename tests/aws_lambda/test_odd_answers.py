"""Answers of success that are not AWS's: empty, cut off, pages of a gateway, other shapes. Unknown is never absent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from aws_lambda.handler import run_once
from localcloud.aws.cloud import LocalAws
from shared.errors import CloudError
from shared.reconcile import Finished
from shared.request import RunRequest
from tests.aws_lambda.support import Lines, local_aws, wrote_nothing
from tests.aws_lambda.support import run as run_function

PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
XML = ("s3", "iam", "sts", "cloudformation")
READS = (
    "s3.GetBucketPolicy",
    "s3.GetBucketEncryption",
    "s3.GetBucketLifecycleConfiguration",
    "s3.GetPublicAccessBlock",
    "s3.ListObjectsV2",
    "bcm-data-exports.GetExport",
    "bcm-data-exports.ListExports",
    "bcm-data-exports.GetTable",
    "bcm-data-exports.ListTagsForResource",
    "cloudformation.ListStackInstances",
    "cloudformation.DescribeOrganizationsAccess",
    "iam.GetRole",
    "organizations.ListAccounts",
)
ONLY_WITHOUT_MEMORY = ("bcm-data-exports.ListExports", "bcm-data-exports.ListTagsForResource")


def breaks(read: str) -> Iterator[tuple[str, bytes | Callable[[bytes], bytes]]]:
    """Yield the ways in which a read's answer is broken."""
    yield "empty", b""
    yield "page", PAGE
    yield "cut off", lambda true: true[: len(true) // 2]
    if read.split(".", maxsplit=1)[0] in XML:
        yield "another document", b"<?xml version='1.0'?><Answer/>"
    else:
        yield "no fields", b"{}"
        yield "another type", b"[1]"
        yield "null fields", lambda true: json.dumps(dict.fromkeys(json.loads(true))).encode()


@pytest.fixture(scope="module")
def steady() -> Iterator[LocalAws]:
    """Return an organization at rest, with one person's own statement and rule in its bucket."""
    with local_aws() as aws:
        run_function(aws)
        aws.deliver()
        aws.advance(600)
        assert run_function(aws).report["status"] == "ok"
        yield aws


def everything(aws: LocalAws, sink: Lines | None = None) -> Finished:
    """Run once, looking at every target."""
    request = RunRequest(verify_all=True)
    return run_once(request, aws.environment(), sink or Lines(), aws.clock, 900, account=aws.account, seed=1)


@pytest.mark.parametrize("read", READS)
def test_an_answer_that_is_not_understood_concludes_nothing(steady: LocalAws, read: str) -> None:
    """Whatever a read is answered with, nothing is written; the run says what was not understood, with a remedy."""
    for name, body in breaks(read):
        steady.advance(90_000)  # what was remembered of tables is asked for again
        steady.deliver()
        if read in ONLY_WITHOUT_MEMORY:
            bucket = f"tailpipe-dataexport-{steady.account}"
            steady.client("s3").delete_object(Bucket=bucket, Key="state/known_accounts.json")
        steady.calls.clear()
        order = steady.faults.spoil(read, body)
        lines = Lines()
        finished = everything(steady, lines)
        steady.faults.restore()
        assert wrote_nothing(steady), f"{read} {name}: {finished.report}"
        assert order.hits, f"{read} was not called"
        # botocore itself takes an answer of S3 that is no XML for one of status 500.
        told = json.dumps([finished.report, lines.lines], default=str)
        assert "not-understood" in told or "service-unavailable" in told, f"{read} {name}: {told}"
        assert all(one["remedy"] for one in finished.report["failures"]), f"{read} {name}"
    assert everything(steady).report["status"] == "ok"


@pytest.mark.parametrize("body", [b"", PAGE, b"<GetCallerIdentityResponse/>"])
def test_an_identity_that_is_not_understood_is_asked_for_again(steady: LocalAws, body: bytes) -> None:
    """GetCallerIdentity is retried first; where it stays odd, the error has a remedy."""
    once = steady.faults.spoil("sts.GetCallerIdentity", body, times=1)
    environment = steady.environment()
    assert run_once(RunRequest(), environment, Lines(), steady.clock, 900, seed=1).report["status"] == "ok"
    assert once.hits == 1
    always = steady.faults.spoil("sts.GetCallerIdentity", body)
    with pytest.raises(CloudError) as refused:
        run_once(RunRequest(), environment, Lines(), steady.clock, 900, seed=1)
    steady.faults.restore()
    assert refused.value.code == "answer-not-understood"
    assert refused.value.remedy
    assert always.hits > 1


@pytest.mark.parametrize("body", [b"", PAGE, b'{"version": 2, "scopes": {'])
def test_a_state_that_was_damaged_on_its_way_is_read_again(steady: LocalAws, body: bytes) -> None:
    """One bad answer to the state's read sets nothing aside."""
    order = steady.faults.spoil("s3.GetObject", body, times=1)
    lines = Lines()
    finished = everything(steady, lines)
    steady.faults.restore()
    assert order.hits == 1
    assert finished.report["status"] == "ok"
    assert "state-corrupt" not in lines.text()


def test_a_listing_of_deliveries_that_fails_is_said(steady: LocalAws) -> None:
    """The export is read by itself then; that nothing is known of its data is a warning, not silence."""
    order = steady.faults.spoil("s3.ListObjectsV2", b"", status=503)
    lines = Lines()
    finished = everything(steady, lines)
    steady.faults.restore()
    assert order.hits
    (said,) = [fields for _, event, fields in lines.lines if event == "deliveries-unread"]
    assert said["kind"] == "export"
    assert said["code"]
    assert said["reason"]
    assert finished.report["scopes"]["failed"] == 0
