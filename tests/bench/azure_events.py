"""How soon the Azure function acts on changes between two scheduled runs: the real handler against the local Azure.

The activity log is as late as documented, 3 to 20 minutes, evenly spread; Resource Graph one minute. No scheduled run
helps: what is measured is the light look alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from azure_function.clients import drop_clients
from azure_function.handler import look_once, run_once
from localcloud.azure.cloud import LocalAzure, start_azurite
from shared.request import RunRequest
from shared.runtime.clock import VirtualClock
from tests.azure_function.support import START, Lines
from tests.bench.azure_healing import quantile
from tests.bench.measure import Measure

SUBSCRIPTIONS, DAMAGED, NEW = 9_980, 0.01, 20  # Resource Graph shows 10,000, those that join included
LOOK_S, DAY_S, HOURS = 300.0, 86_400.0, 24
LATE_S = (180.0, 1200.0)  # "Log data ingestion time in Azure Monitor"
GRAPH_S = 60.0


class Day(msgspec.Struct):
    """What a day showed: seconds until each export was back and each newcomer covered, and the calls of both ways.

    `steady` are the calls of one look without news, `scheduled` those of one scheduled run; storage is counted in both.
    """

    healed: list[float]
    onboarded: list[float]
    steady: int
    scheduled: int


class Tenant:
    """A tenant at rest, whose changes show as late as documented."""

    def __init__(self, cloud: LocalAzure) -> None:
        self.cloud = cloud
        self.environment = dict(cloud.environment())
        self.run()
        cloud.deliver()
        self.advance(3600)
        self.scheduled = sum(self.run().values())
        self.environment["ACTIVITY_LOG_WORKSPACE"] = cloud.send_activity_log(*LATE_S)
        cloud.delay_resource_graph(GRAPH_S)

    def run(self) -> dict[str, int]:
        """Run as the schedule does; return the calls."""
        done = run_once(RunRequest(), self.environment, Lines(), self.cloud.clock, None, seed=1)
        calls: dict[str, int] = done.report["calls"]
        return calls

    def look(self) -> bool:
        """Look once; return whether a run began."""
        return look_once(self.environment, Lines(), self.cloud.clock, seed=1) is not None

    def advance(self, seconds: float) -> None:
        """Let time pass, for the storage too."""
        self.cloud.advance(max(0.0, seconds))
        self.cloud.sync()

    @property
    def now(self) -> float:
        return self.cloud.clock.monotonic()


def live(tenant: Tenant, damaged: int, new: int, seed: int = 1) -> Day:
    """Delete exports and let subscriptions join at random moments of a day, with a look every five minutes."""
    rng = random.Random(seed)
    cloud, begun = tenant.cloud, tenant.now
    cloud.calls.clear()
    assert not tenant.look()
    steady = cloud.calls.count() + 1  # and the read of the state
    changes: list[tuple[float, str]] = [
        (rng.uniform(0, DAY_S), one) for one in rng.sample(cloud.subscription_ids, damaged)
    ]
    changes += [(rng.uniform(0, DAY_S), "") for _ in range(new)]
    changes.sort(reverse=True)
    open_ones: dict[str, tuple[float, bool]] = {}
    took: dict[bool, list[float]] = {True: [], False: []}
    slot = begun
    while changes or open_ones:
        slot = max(slot + LOOK_S, tenant.now)
        while changes and begun + changes[-1][0] <= slot:
            after, subscription = changes.pop()
            tenant.advance(begun + after - tenant.now)
            if subscription:
                cloud.delete_export(subscription)
            name = subscription or cloud.join_subscription(f"new-{len(changes)}")
            open_ones[name] = (tenant.now, bool(subscription))
        tenant.advance(slot - tenant.now)
        assert slot - begun < 2 * DAY_S, f"{len(open_ones)} changes were not acted on"
        tenant.look()
        for one in [one for one in open_ones if cloud.exports(one)]:
            since, was_damaged = open_ones.pop(one)
            took[was_damaged].append(tenant.now - since)
    return Day(sorted(took[True]), sorted(took[False]), steady, tenant.scheduled)


def storm(tenant: Tenant) -> tuple[int, float, int]:
    """Let somebody write every export at once; return runs, minutes, and exports that no run has read since."""
    cloud, at, begun = tenant.cloud, tenant.cloud.clock.now(), tenant.now
    names = {one["id"].split("/")[-5].lower(): one["id"] for one in cloud.exports()}
    for identifier in names.values():
        cloud.world.note("Microsoft.CostManagement/exports/write", f"/{identifier.lstrip('/')}")
    runs = quiet = 0
    while quiet < 5:
        tenant.advance(LOOK_S)
        if tenant.look():
            runs, quiet = runs + 1, 0
        else:
            quiet += 1
    minutes = (tenant.now - begun) / 60
    return runs, minutes, sum(1 for one in _states(cloud) if str(one.get("looked_at", "")) < f"{at:%Y-%m-%dT%H:%M:%S}")


def _states(cloud: LocalAzure) -> list[dict[str, Any]]:
    with cloud.blob_client(cloud.host_account.name) as client:
        blob = client.get_blob_client("tailpipe-state", "known_subscriptions.json")
        document = msgspec.json.decode(blob.download_blob().readall())
    return [
        state
        for scope in document["scopes"].values()
        for name, state in scope["targets"].items()
        if name.startswith("export/")
    ]


def measures(subscriptions: int = SUBSCRIPTIONS) -> Iterator[Measure]:
    """Yield the measures of one tenant's day and of a storm."""
    azurite = start_azurite(clock=VirtualClock(START))
    try:
        with LocalAzure(subscriptions, clock=VirtualClock(START), azurite=azurite) as cloud:
            tenant = Tenant(cloud)
            day = live(tenant, max(1, round(subscriptions * DAMAGED)), NEW)
            runs, minutes, lost = storm(tenant)
    finally:
        drop_clients()
        azurite.stop()
    how = f"{subscriptions:,} subscriptions, a look every five minutes, no scheduled run, virtual time, local Azure"
    late = "activity log 3 to 20 minutes late as documented, so 300 s are out of reach"
    yield Measure("azure.heal.event_p95_s", quantile(day.healed, 0.95), "s", None, f"{how}; {late}; the goal is 300 s")
    yield Measure("azure.heal.event_p50_s", quantile(day.healed, 0.5), "s", None, f"{how}; {late}")
    yield Measure("azure.onboard.new_scope_p95_s", quantile(day.onboarded, 0.95), "s", 600, f"{how}; graph 60 s late")
    yield Measure("azure.storm.10k_events.runs", runs, "runs", minutes, f"{how}; at most one a minute")
    yield Measure("azure.storm.lost", lost, "exports", 0, f"{how}; exports that no run read after the storm")
    looks = DAY_S / LOOK_S * day.steady
    yield Measure("azure.events.calls_per_day", looks, "calls", None, f"{day.steady} calls a look without news; {how}")
    share = looks / (HOURS * day.scheduled)
    yield Measure("azure.events.share_of_schedule", share, "share", 0.05, f"of the calls of 24 scheduled runs; {how}")
