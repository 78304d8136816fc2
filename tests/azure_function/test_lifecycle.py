"""The whole runbook story on 500 subscriptions: joiners, losses, lost rights, throttling, a crash in the middle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from azure_function.clients import drop_clients
from localcloud.azure.cloud import LocalAzure
from tests.azure_function.support import HOUR, WRITE, Lines, advance, live, local_azure, run

# The story of e2e/test_azure_story.py, which is run on each change, at another size.
pytestmark = [pytest.mark.slow, pytest.mark.no_cover]
COST = "Microsoft.CostManagement/*"


class Crash(BaseException):
    """The process is gone: nothing of the function gets to clean up."""


class CrashingSink(Lines):
    """Ends the process, as it were, after so many writes."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self._left = writes

    def __call__(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        super().__call__(level, event, fields)
        self._left -= event == "write-done"
        if self._left < 0:
            raise Crash


def test_the_runbook_story_ends_with_every_active_subscription_covered_and_no_call_above_quota() -> None:
    """500 subscriptions of several offers through a crash, losses, lost rights and a burst of throttling."""
    mix = {"ea": 8, "webdirect": 1, "mca": 1}
    with local_azure(subscriptions=500, storage_accounts=2, agreements=mix) as cloud:
        ids = cloud.subscription_ids
        cloud.create_exports(ids[:40])  # the old scripts were here
        with pytest.raises(Crash):
            run(cloud, sink=CrashingSink(150))
        made = len(cloud.exports())
        assert 150 < made < 500
        advance(cloud, HOUR)  # the dead run's lock has expired by then
        assert run(cloud).report["scopes"]["covered"] == 500
        assert cloud.calls.count(WRITE, status=201) == 460, "nothing was made twice after the crash"
        cloud.deliver()
        advance(cloud, HOUR)

        new = [cloud.join_subscription(f"joined-{number}") for number in range(20)]
        deleted, inactive, moved = ids[100:130], ids[130:140], ids[140:150]
        for one in deleted:
            cloud.delete_export(one)
        for one in inactive:
            cloud.set_schedule_inactive(one)
        for one in moved:
            cloud.change_destination(one, folder="elsewhere")
        lost = ids[200:210]
        for one in lost:
            refuse_writes(cloud, one)
            cloud.delete_export(one)
        suspended = ids[-3:]
        for one in suspended:
            cloud.suspend_subscription(one)
        cloud.throttle(40)
        finished = run(cloud)
        assert finished.report["status"] == "ok", finished.report["failures"]
        assert finished.report["scopes"]["deferred"] == len(lost)
        assert finished.report["scopes"]["covered"] == 500 + 20 - 3 - len(lost)
        assert [live(cloud, one)["schedule"]["status"] for one in inactive] == ["Active"] * 10
        assert all(len(cloud.exports(one)) == 1 for one in [*new, *deleted])

        cloud.clear_faults()
        advance(cloud, HOUR)
        last = run(cloud)
        assert last.report["scopes"]["active"] == last.report["scopes"]["covered"] == 517
        assert cloud.calls.peak(COST, 60) <= 200
        refused = [call.at for call in cloud.calls.select(COST, status=429)]
        assert len(refused) <= 16, "after a burst's first answers the limiter keeps everybody back"
        drop_clients()


def refuse_writes(cloud: LocalAzure, subscription: str) -> None:
    """Let Azure refuse to write exports of a subscription until the faults are cleared."""
    cloud.faults.add(WRITE, "RBACAccessDenied", "no", status=401, times=None, resource=f"*{subscription}*")
