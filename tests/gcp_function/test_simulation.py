"""Sixty days of late and bursty billing data, with a crash after any call: every row is copied exactly once."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gcp_function.clients import RATES, warm_clients
from gcp_function.errors import translate
from gcp_function.provider import GcpCloud
from gcp_function.state_store import GcsStore
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.state import Behavior
from shared.errors import AnotherRun
from shared.reconcile import RunResult, reconcile
from shared.request import RunRequest
from shared.runtime.context import RunContext
from tests.gcp_function.support import DAY, HOUR, accounts, broken_manifests, differences, local_gcp, run, settings_of

pytestmark = pytest.mark.long
KINDS = ("standard", "detailed")


class Crash(BaseException):
    """The process ends here: no later call is made, and nothing is cleaned up."""


class CrashAfter:
    """Calls that crash the run after a given number of responses."""

    def __init__(self, calls: Any, number: int) -> None:
        self._calls = calls
        self._left = number
        self.counts = calls.counts

    def __call__(self, quota: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._left <= 0:
            raise Crash
        answer = self._calls(quota, function, *args, **kwargs)
        self._left -= 1
        if self._left == 0:
            raise Crash
        return answer


def crashed(cloud: LocalGcp, number: int) -> RunResult | None:
    """Run the function and crash it after `number` calls.

    Return the result of a run that needs fewer calls, and None for a crash.
    """
    settings = settings_of(cloud, CALLS_AT_ONCE="1")
    run = RunContext("gcp", settings.engine, lambda *_: None, cloud.clock, 900, RATES, translate, number)
    run.calls = CrashAfter(run.calls, number)  # type: ignore[assignment]  # replaces the calls of a process that crashes
    clients = warm_clients(settings)
    try:
        return reconcile(GcpCloud(settings, clients, run), GcsStore(settings, clients, run), RunRequest(), run)
    except Crash:
        return None


def all_partitions(cloud: LocalGcp) -> list[tuple[str, str, str]]:
    """Return (account, day, kind) of every partition that has rows outside the streaming buffer."""
    return [(one, day, kind) for one in accounts(cloud) for kind in KINDS for day in cloud.watermarks(one, kind)]


def assert_every_row_once(cloud: LocalGcp, folder: Path) -> int:
    """Compare every partition with the files that its manifest names; return the number of partitions."""
    partitions = all_partitions(cloud)
    wrong = {one: found for one in partitions if (found := differences(cloud, *one, folder)) != (0, 0)}
    assert not wrong, wrong
    return len(partitions)


def simulate(cloud: LocalGcp, days: int, seed: int) -> None:
    """Simulate days of new, buffered and late rows, with a crashed run each day and a complete one every other day."""
    rng = random.Random(seed)
    for day in range(days):
        cloud.stream(days=1, rows=rng.randint(1, 4), buffered=rng.random() < 0.5)
        for _ in range(rng.randint(0, 3)):
            account, kind = rng.choice(accounts(cloud)), rng.choice(KINDS)
            known = list(cloud.watermarks(account, kind))
            if known:
                cloud.late_data(account, rng.choice(known[-40:]), kind, rows=rng.randint(1, 3))
        if rng.random() < 0.3:
            cloud.flush_buffer()
        crashed(cloud, day % 37 + 1)
        assert broken_manifests(cloud) == []
        cloud.advance(HOUR)
        if day % 2:
            run(cloud)
            assert broken_manifests(cloud) == []
        cloud.advance(DAY - HOUR)
    cloud.flush_buffer()
    cloud.advance(HOUR)
    run(cloud, verify_all=True)
    cloud.advance(HOUR)
    finished = run(cloud, verify_all=True)
    assert finished.report["status"] == "ok", finished.report["failures"]


@pytest.mark.slow
def test_sixty_days_of_late_data_and_crashes_lose_or_duplicate_no_row(tmp_path: Path) -> None:
    """After sixty days of late rows, buffered rows and daily crashes, the files hold each row exactly once."""
    behavior = Behavior(extract_shard_rows=5, extract_s=4)
    with local_gcp(accounts=1, done=1, history_days=0, behavior=behavior) as cloud:
        simulate(cloud, 60, seed=1)
        assert assert_every_row_once(cloud, tmp_path) > 100
        oldest = min(cloud.watermarks(accounts(cloud)[0]))
        assert oldest < (cloud.clock.now() - timedelta(days=55)).date().isoformat()


@pytest.mark.slow  # tests/crash plays a kill around any call, too
def test_run_after_a_crash_at_any_call_completes_the_copies(tmp_path: Path) -> None:
    """No crash leaves a partial manifest, the next run completes the copies, and no job runs twice."""
    with local_gcp(accounts=1, done=1, history_days=2) as cloud:
        run(cloud)
        (account,) = accounts(cloud)
        day = max(cloud.watermarks(account))
        number = moved = 0
        finished = None
        while finished is None:
            number += 1
            cloud.advance(HOUR)
            cloud.late_data(account, day, "standard", rows=1)
            moved += 1
            finished = crashed(cloud, number)
            assert broken_manifests(cloud) == []
            if finished is None:
                cloud.advance(HOUR)
                healed = run(cloud)
                assert healed.report["status"] == "ok", (number, healed.report["failures"])
            assert differences(cloud, account, day, "standard", tmp_path) == (0, 0), number
        assert number > 20
        jobs = [one for one in cloud.world.jobs.of(cloud.project) if one.kind == "extract"]
        assert len(jobs) == 4 + moved


def test_concurrent_run_is_refused_until_the_lock_expires(covered: LocalGcp) -> None:
    """The lock of a crashed run refuses other runs until it expires."""
    assert crashed(covered, 8) is None
    with pytest.raises(AnotherRun):
        run(covered)
    covered.advance(HOUR)
    assert run(covered).report["status"] == "ok"
