"""A scenario with 500 subscriptions: new ones, losses, missing permissions, throttling, and a crash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from azure_function.clients import drop_clients
from localcloud.azure.cloud import LocalAzure
from tests.azure_function.support import HOUR, WRITE, Lines, advance, live, local_azure, run

# The same scenario as in e2e/test_azure_lifecycle.py, which runs on each change, with more subscriptions.
pytestmark = pytest.mark.slow
COST = "Microsoft.CostManagement/*"


class Crash(BaseException):
    """The process ends without any cleanup."""


class CrashingSink(Lines):
    """A sink that raises Crash after a number of writes."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self._left = writes

    def __call__(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        super().__call__(level, event, fields)
        self._left -= event == "write-done"
        if self._left < 0:
            raise Crash


def test_every_active_subscription_is_covered_within_the_quota_after_losses_and_a_crash() -> None:
    """500 subscriptions with several offers go through a crash, losses, missing permissions and throttling."""
    mix = {"ea": 8, "webdirect": 1, "mca": 1}
    with local_azure(subscriptions=500, storage_accounts=2, agreements=mix) as cloud:
        ids = cloud.subscription_ids
        cloud.create_exports(ids[:40])  # by the legacy scripts
        with pytest.raises(Crash):
            run(cloud, sink=CrashingSink(150))
        made = len(cloud.exports())
        assert 150 < made < 500
        advance(cloud, HOUR)  # the lock of the crashed run has expired
        assert run(cloud).report["scopes"]["covered"] == 500
        assert cloud.calls.count(WRITE, status=201) == 460, "no export is created twice after the crash"
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
            deny_writes(cloud, one)
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
        assert len(refused) <= 16, "after the first 429 responses the rate limiter holds back all calls"
        drop_clients()


def deny_writes(cloud: LocalAzure, subscription: str) -> None:
    """Deny all writes of a subscription's exports until the faults are cleared."""
    cloud.faults.add(WRITE, "RBACAccessDenied", "no", status=401, times=None, resource=f"*{subscription}*")
