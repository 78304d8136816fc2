"""Odd answers to what is read only when something is wrong: still nothing may be concluded from them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from localcloud.aws.cloud import LocalAws
from tests.aws_lambda.support import local_aws, members, wrote_nothing
from tests.aws_lambda.support import run as run_function
from tests.aws_lambda.test_odd_answers import IN_TROUBLE, breaks


def wait_in_vain(aws: LocalAws) -> None:
    """Let two days pass without a delivery: executions are looked at."""
    aws.advance(49 * 3600)


def lose_instances(aws: LocalAws) -> None:
    """Take the instances away right after they were made: their operation is asked for."""
    for account in members(aws):
        aws.remove_instance(account)
    aws.advance(300)


def leave_a_lock(aws: LocalAws) -> None:
    """Leave the lock of a run that died long ago: its age is asked for."""
    s3, where = aws.client("s3"), {"Bucket": f"tailpipe-dataexport-{aws.account}", "Key": "state/known_accounts.json"}
    document = json.loads(s3.get_object(**where)["Body"].read())
    past = "2026-11-01T00:00:00Z"
    document["running"] = {"run_id": "other", "since": past, "until": past}
    s3.put_object(**where, Body=json.dumps(document).encode())


def test_the_reads_of_this_file_are_those_that_the_other_leaves_out() -> None:
    """Neither file says that the other tries what none of them does."""
    assert {read.partition(".")[2] for read in PREPARED} | {"HeadObject"} == IN_TROUBLE


PREPARED: dict[str, Callable[[LocalAws], None]] = {
    "bcm-data-exports.ListExecutions": wait_in_vain,
    "cloudformation.DescribeStackSetOperation": lose_instances,
}


@pytest.mark.parametrize(
    ("read", "prepare"),
    list(PREPARED.items()),
)
def test_reads_of_troubled_times_conclude_nothing(read: str, prepare: Callable[[LocalAws], None]) -> None:
    """An execution, an operation and a lock's age that are not understood are unknown: nothing is written for them."""
    with local_aws() as aws:
        run_function(aws)
        prepare(aws)
        for name, body in breaks(read):
            aws.calls.clear()
            order = aws.faults.spoil(read, body)
            finished = run_function(aws, MAX_VANISHED_PERCENT="100")
            aws.faults.restore()
            assert order.hits, f"{read} was not called"
            assert wrote_nothing(aws, "cloudformation"), f"{read} {name}"
            assert all(one["remedy"] for one in finished.report["failures"]), f"{read} {name}"
            assert all(all(one["steps"]) for one in finished.report["manual"]), f"{read} {name}"


@pytest.mark.parametrize("odd", ["²", "yesterday", "Mon, 99 Nov 2026 99:00:00 GMT"])
def test_a_lock_whose_age_is_not_understood_is_judged_by_its_own_end(odd: str) -> None:
    """The answer to HEAD has headers only: where they tell no age, a lock that has expired by itself holds nobody."""
    with local_aws() as aws:
        run_function(aws)
        leave_a_lock(aws)
        order = aws.faults.spoil("s3.HeadObject", b"", headers={"Last-Modified": odd})
        assert run_function(aws).report["status"] == "ok"
        assert order.hits
