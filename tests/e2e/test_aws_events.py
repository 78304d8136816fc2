"""Events reach the real functions through rules, queue and collector, and the export is back before the schedule."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localcloud.aws.cloud import LocalAws
from localcloud.aws.platform.deployed_events import COLLECTOR, WINDOW_S
from localcloud.aws.platform.deployment import FUNCTION
from shared.runtime.clock import SystemClock, VirtualClock
from tests.aws_lambda.support import EXPORT
from tests.cli.support.aws import built
from tests.e2e.aws_rights import beyond, missing, superfluous

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def deployed() -> Iterator[LocalAws]:
    """Return an organization of four accounts, covered by the deployed function, whose export was deleted once."""
    with LocalAws(accounts=4, package=built, clock=VirtualClock(SystemClock().now())) as cloud:
        first = cloud.fire_schedule(FUNCTION, FUNCTION)
        assert first["run"]["outcome"] == "succeeded", first
        cloud.settle_events()
        cloud.delete_export(EXPORT)
        assert cloud.exports() == {}
        assert started(cloud) == [FUNCTION]
        yield cloud


def started(cloud: LocalAws) -> list[str]:
    """Let a window pass, and return which functions ran for it, in order."""
    before = len(cloud.await_functions())
    cloud.settle_events()
    cloud.advance(WINDOW_S)
    return [one["function"] for one in cloud.settle_events()[before:]]


def test_a_deleted_export_is_back_within_the_window(deployed: LocalAws) -> None:
    """CloudTrail's event in the home region reaches the function in its own; the run names its trigger."""
    run = deployed.await_functions()[-1]
    assert (run["function"], run["outcome"]) == (FUNCTION, "succeeded")
    assert (run["payload"]["trigger"], run["payload"]["status"]) == ("event", "ok")
    assert run["payload"]["events"]["count"] == 1
    assert list(deployed.exports()) == [EXPORT]
    named = [one for one in deployed.event_deliveries() if one["rule"].endswith(f"{FUNCTION}-exports")]
    assert [one["error"] for one in named] == ["", ""]
    assert COLLECTOR in {one["target"].rpartition(":")[2] for one in named}


def test_the_functions_own_writes_start_no_run(deployed: LocalAws) -> None:
    """The rules leave out what the function's role did; nothing waits in the queue."""
    assert started(deployed) == []


def test_the_collector_has_the_rights_that_it_uses_and_no_others(deployed: LocalAws) -> None:
    """Each grant of the collector was used on what it names, and nothing else was needed."""
    role = f"arn:aws:iam::{deployed.account}:role/{COLLECTOR}"
    used = {(one["action"], one["resource"]) for one in deployed.accesses(role)}
    assert {"lambda:InvokeFunction", "sqs:ReceiveMessage"} <= {action for action, _ in used}
    assert superfluous(used, holder="collector", conditions={"events"}) == []
    assert missing(used, holder="collector", conditions={"events"}) == []
    assert beyond(holder="collector") == set()
