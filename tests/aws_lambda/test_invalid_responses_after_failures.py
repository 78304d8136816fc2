"""Invalid responses to reads that happen only after failures: they change nothing either."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from localcloud.aws.cloud import LocalAws
from tests.aws_lambda.support import local_aws, members, wrote_nothing
from tests.aws_lambda.support import run as run_function
from tests.aws_lambda.test_invalid_responses import READ_AFTER_FAILURES, corruptions


def wait_without_delivery(aws: LocalAws) -> None:
    """Advance two days without a delivery, so that executions are read."""
    aws.advance(49 * 3600)


def lose_instances(aws: LocalAws) -> None:
    """Delete instances right after their creation, so that their operation is read."""
    for account in members(aws):
        aws.remove_instance(account)
    aws.advance(300)


def leave_a_lock(aws: LocalAws) -> None:
    """Leave the lock of a run that ended long ago, so that its age is read."""
    s3, where = aws.client("s3"), {"Bucket": f"tailpipe-dataexport-{aws.account}", "Key": "state/known_accounts.json"}
    document = json.loads(s3.get_object(**where)["Body"].read())
    past = "2026-11-01T00:00:00Z"
    document["running"] = {"run_id": "other", "since": past, "until": past}
    s3.put_object(**where, Body=json.dumps(document).encode())


def test_reads_here_are_those_that_the_other_file_skips() -> None:
    """Together both files cover all reads."""
    assert {read.partition(".")[2] for read in PREPARED} | {"HeadObject"} == READ_AFTER_FAILURES


PREPARED: dict[str, Callable[[LocalAws], None]] = {
    "bcm-data-exports.ListExecutions": wait_without_delivery,
    "cloudformation.DescribeStackSetOperation": lose_instances,
}


@pytest.mark.parametrize(
    ("read", "prepare"),
    list(PREPARED.items()),
)
def test_invalid_response_after_a_failure_changes_nothing(read: str, prepare: Callable[[LocalAws], None]) -> None:
    """An invalid execution, operation or lock age is unknown: nothing is written."""
    with local_aws() as aws:
        run_function(aws)
        prepare(aws)
        for name, body in corruptions(read):
            aws.calls.clear()
            corruption = aws.faults.corrupt(read, body)
            finished = run_function(aws, MAX_VANISHED_PERCENT="100")
            aws.faults.restore()
            assert corruption.hits, f"{read} was not called"
            assert wrote_nothing(aws, "cloudformation"), f"{read} {name}"
            assert all(one["remedy"] for one in finished.report["failures"]), f"{read} {name}"
            assert all(all(one["steps"]) for one in finished.report["manual"]), f"{read} {name}"


@pytest.mark.parametrize("odd", ["²", "yesterday", "Mon, 99 Nov 2026 99:00:00 GMT"])
def test_lock_with_an_invalid_age_ends_at_its_expiry(odd: str) -> None:
    """HEAD returns headers only: without a valid age, the expiry in the lock decides."""
    with local_aws() as aws:
        run_function(aws)
        leave_a_lock(aws)
        corruption = aws.faults.corrupt("s3.HeadObject", b"", headers={"Last-Modified": odd})
        assert run_function(aws).report["status"] == "ok"
        assert corruption.hits
