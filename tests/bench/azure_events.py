"""How soon the Azure function reacts to changes through its event check: the real handler against the local Azure.

The delay of the activity log is the documented one, uniformly distributed between 3 and 20 minutes; that of Resource
Graph is one minute. No scheduled run takes place, so only the event check is measured.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec

from azure_function.clients import drop_clients
from azure_function.invocation import announce_once, look_once, run_once
from localcloud.azure.cloud import LocalAzure, start_azurite
from shared.request import RunRequest
from shared.runtime.clock import VirtualClock
from tests.azure_function.support import START, Lines
from tests.bench.azure_healing import quantile
from tests.bench.measure import Measure

SUBSCRIPTIONS, DAMAGED, NEW = 9_980, 0.01, 20  # 10,000 in Resource Graph, including the new ones
CHECK_S, DAY_S, HOURS = 300.0, 86_400.0, 24
SPAN_S = DAY_S / 4  # at the rate of a day's changes: a whole day adds minutes of CPU to the ten of all measures
LATE_S = (180.0, 1200.0)  # source: "Log data ingestion time in Azure Monitor"
GRAPH_S = 60.0
DELIVERING, DELIVERING_S, EVENT_GRID_S = 1_000, 4 * 3600.0, 30.0


class Changes(msgspec.Struct):
    """The results: seconds until each deleted export and each new subscription had an export, and the calls.

    `steady` is the number of calls of one event check without changes, `scheduled` that of one scheduled run; both
    include storage.
    """

    healed: list[float]
    onboarded: list[float]
    steady: int
    scheduled: int


class Tenant:
    """A tenant in the steady state, whose changes become visible after the documented delays."""

    def __init__(self, cloud: LocalAzure) -> None:
        self.cloud = cloud
        self.environment = dict(cloud.environment())
        self.run()
        cloud.deliver()
        self.advance(3600)
        self.scheduled = sum(self.run().values())
        self.environment["ACTIVITY_LOG_WORKSPACE"] = cloud.send_activity_log()
        cloud.event_faults(delay_s=LATE_S[0], spread_s=LATE_S[1] - LATE_S[0])
        cloud.delay_resource_graph(GRAPH_S)

    def run(self) -> dict[str, int]:
        """Do a scheduled run; return its calls by quota."""
        done = run_once(RunRequest(), self.environment, Lines(), self.cloud.clock, None, seed=1)
        calls: dict[str, int] = done.report["calls"]
        return calls

    def check_events(self) -> bool:
        """Check for events once; return whether a run started."""
        return look_once(self.environment, Lines(), self.cloud.clock, seed=1) is not None

    def advance(self, seconds: float) -> None:
        """Advance the clock, including that of storage."""
        self.cloud.advance(max(0.0, seconds))
        self.cloud.sync()

    @property
    def now(self) -> float:
        return self.cloud.clock.monotonic()


def live(tenant: Tenant, damaged: int, new: int, seed: int = 1) -> Changes:
    """Delete exports and add subscriptions at random times of six hours, with an event check every five minutes."""
    rng = random.Random(seed)
    cloud, started = tenant.cloud, tenant.now
    cloud.calls.clear()
    assert not tenant.check_events()
    steady = cloud.calls.count() + 1  # plus the read of the state
    changes: list[tuple[float, str]] = [
        (rng.uniform(0, SPAN_S), one) for one in rng.sample(cloud.subscription_ids, damaged)
    ]
    changes += [(rng.uniform(0, SPAN_S), "") for _ in range(new)]
    changes.sort(reverse=True)
    open_ones: dict[str, tuple[float, bool]] = {}
    took: dict[bool, list[float]] = {True: [], False: []}
    slot = started
    while changes or open_ones:
        slot = max(slot + CHECK_S, tenant.now)
        while changes and started + changes[-1][0] <= slot:
            after, subscription = changes.pop()
            tenant.advance(started + after - tenant.now)
            if subscription:
                cloud.delete_export(subscription)
            name = subscription or cloud.join_subscription(f"new-{len(changes)}")
            open_ones[name] = (tenant.now, bool(subscription))
        tenant.advance(slot - tenant.now)
        assert slot - started < SPAN_S + DAY_S, f"{len(open_ones)} changes had no effect"
        tenant.check_events()
        for one in [one for one in open_ones if cloud.exports(one)]:
            since, was_damaged = open_ones.pop(one)
            took[was_damaged].append(tenant.now - since)
    return Changes(sorted(took[True]), sorted(took[False]), steady, tenant.scheduled)


def storm(tenant: Tenant) -> tuple[int, float, int]:
    """Log a write of every export at the same time; return runs, minutes, and exports that no run has read since."""
    cloud, at, started = tenant.cloud, tenant.cloud.clock.now(), tenant.now
    names = {one["id"].split("/")[-5].lower(): one["id"] for one in cloud.exports()}
    for identifier in names.values():
        cloud.world.note("Microsoft.CostManagement/exports/write", f"/{identifier.lstrip('/')}")
    runs = quiet = 0
    while quiet < 5:
        tenant.advance(CHECK_S)
        if tenant.check_events():
            runs, quiet = runs + 1, 0
        else:
            quiet += 1
    minutes = (tenant.now - started) / 60
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


def publishing(cloud: LocalAzure, seed: int = 1) -> list[float]:
    """Let all exports deliver at random times of four hours; return the seconds from each manifest to its event."""
    run_once(RunRequest(), cloud.environment(), Lines(), cloud.clock, None, seed=seed)
    cloud.event_faults(spread_s=EVENT_GRID_S)
    rng, events, topic = random.Random(seed), cloud.world.manifest_events, cloud.world.published
    started, written = cloud.clock.now(), dict[str, datetime]()
    times = sorted((rng.uniform(0, DELIVERING_S), one) for one in cloud.subscription_ids)
    while times or events.waiting:
        coming = [started + timedelta(seconds=times[0][0])] if times else []
        coming += [one.due for one in events.waiting]
        cloud.advance(max(0.0, (min(coming) - cloud.clock.now()).total_seconds()))
        cloud.sync()
        while times and started + timedelta(seconds=times[0][0]) <= cloud.clock.now():
            subscription = times.pop(0)[1]
            written[subscription] = cloud.clock.now()
            cloud.deliver([subscription])
        due = [one.event for one in events.take(cloud.clock.now())]
        assert not due or announce_once(due, cloud.environment(), Lines(), cloud.clock, seed=seed) == 0
    assert len(topic) == len(written)
    return sorted((one.at - written[one.event["data"]["scope"]]).total_seconds() for one in topic)


def measures(subscriptions: int = SUBSCRIPTIONS) -> Iterator[Measure]:
    """Yield the measurements of six hours of changes and of an event storm."""
    azurite = start_azurite(clock=VirtualClock(START))
    try:
        with LocalAzure(subscriptions, clock=VirtualClock(START), azurite=azurite) as cloud:
            tenant = Tenant(cloud)
            found = live(tenant, max(1, round(subscriptions * DAMAGED * SPAN_S / DAY_S)), NEW)
            runs, minutes, lost = storm(tenant)
        drop_clients()
        with LocalAzure(DELIVERING, clock=VirtualClock(START), azurite=azurite, deliveries=True) as cloud:
            published = publishing(cloud)
    finally:
        drop_clients()
        azurite.stop()
    how = (
        f"{subscriptions:,} subscriptions, an event check every 5 minutes, no scheduled run, virtual time, local Azure"
    )
    late = "documented activity log delay of 3 to 20 minutes, which makes 300 s impossible"
    yield Measure(
        "azure.heal.event_p95_s", quantile(found.healed, 0.95), "s", None, f"{how}; {late}; the goal is 300 s"
    )
    yield Measure("azure.heal.event_p50_s", quantile(found.healed, 0.5), "s", None, f"{how}; {late}")
    yield Measure(
        "azure.onboard.new_scope_p95_s", quantile(found.onboarded, 0.95), "s", 600, f"{how}; Resource Graph delay 60 s"
    )
    yield Measure("azure.storm.10k_events.runs", runs, "runs", minutes, f"{how}; at most one per minute")
    yield Measure("azure.storm.lost", lost, "exports", 0, f"{how}; exports that no run read after the storm")
    checks = DAY_S / CHECK_S * found.steady
    yield Measure(
        "azure.events.calls_per_day",
        checks,
        "calls",
        None,
        f"{found.steady} calls per event check without changes; {how}",
    )
    share = checks / (HOURS * found.scheduled)
    yield Measure("azure.events.share_of_schedule", share, "share", 0.05, f"of the calls of 24 scheduled runs; {how}")
    yield Measure(
        "azure.delivery.publish_p95_s",
        quantile(published, 0.95),
        "s",
        60,
        f"{DELIVERING:,} exports that deliver within four hours, from the manifest to the topic, virtual time, local "
        f"Azure; Event Grid documents no delay, {EVENT_GRID_S:g} s at most are assumed; without a cold start",
    )
