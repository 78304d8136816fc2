"""How soon the GCP function repairs damage that an event reports: a day of damage and an event storm in virtual time.

The real handler runs against the local cloud's Pub/Sub and audit log, without the web server. The local log sink has no
delay, because Google documents none; the values are the time that the function adds.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import msgspec

from gcp_function.handler import NO_CALLS
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.audit_log import table_deleted
from localcloud.gcp.services.pubsub import MOST
from shared.deliveries.document import DeliveryDocument
from shared.reconcile import RunResult
from shared.request import RunRequest
from shared.runtime.clock import VirtualClock
from tests.bench.azure_healing import quantile
from tests.bench.measure import Measure
from tests.gcp_function.events import EventFunction

SCOPES, DAMAGED, ADDED, STORM = 10_000, 100, 20, 10_000
DAY = 86_400.0
READERS, HOURS, LATENCY_S = 20, 12, 0.1  # accounts whose copies are announced, hourly runs, and seconds of each call


class _Deployed(EventFunction):
    """A deployment without enabled billing exports; events need no deliveries."""

    def __init__(self, cloud: LocalGcp) -> None:
        super().__init__(cloud, COPY="off", EXPORTS="standard")
        self.ends: list[tuple[float, dict[str, Any]]] = []
        self.scheduled()
        for one in cloud.world.pubsub.subscriptions.values():
            one.messages.clear()

    def scheduled(self) -> int:
        """Do a scheduled run; return the number of its calls."""
        before = len(self.cloud.calls.select())
        self.run(RunRequest())
        return len(self.cloud.calls.select()) - before

    def step(self) -> None:
        """Deliver due messages, and advance the clock by one second."""
        self.deliver()
        self.cloud.advance(1)

    def waiting(self) -> bool:
        """Return whether a subscription has messages."""
        return any(one.messages for one in self.cloud.world.pubsub.subscriptions.values())

    def run(self, request: RunRequest, calls: Mapping[str, int] = NO_CALLS) -> RunResult:
        """Run once, and keep the moment of its end. Raises RuntimeError if the run failed."""
        finished = super().run(request, calls)
        if finished.report["status"] == "failed":
            raise RuntimeError(f"the run failed: {finished.report['failures'][:3]}")
        self.ends.append((self.cloud.clock.monotonic(), finished.report))
        return finished


def measures() -> Iterator[Measure]:
    """Yield the measurements of events on GCP."""
    with LocalGcp(SCOPES, clock=VirtualClock(), done=0) as cloud:
        deployed = _Deployed(cloud)
        calls = deployed.scheduled()
        healed, onboarded, cost = _day(deployed)
        runs, minutes, lost = _storm(deployed)
    published = _published()
    method = f"{SCOPES:,} billing accounts, virtual time, real handler and SDK calls, local Pub/Sub and audit log"
    yield Measure(
        "gcp.heal.event_p95_s",
        quantile(sorted(healed), 0.95),
        "s",
        300,
        f"from damage to the end of the run that repaired it, {DAMAGED} deletions of dataset or bucket a day; {method}",
    )
    yield Measure(
        "gcp.onboard.new_scope_p95_s",
        quantile(sorted(onboarded), 0.95),
        "s",
        600,
        f"from a new billing account to the end of the run that observed it, {ADDED} in that day; {method}",
    )
    yield Measure("gcp.storm.10k_events.runs", runs / minutes, "a minute", 1, f"{STORM:,} events at once; {method}")
    yield Measure("gcp.storm.lost", lost, "events", 0, f"events that no run received; {method}")
    yield Measure(
        "gcp.events.steady_calls",
        0.0 if not cost else cost / (24 * calls) * 100,
        "%",
        5,
        f"event calls of a day without changes, relative to the {24 * calls:,} of an hourly schedule; {method}",
    )
    yield Measure(
        "gcp.delivery.publish_p95_s",
        quantile(published, 0.95),
        "s",
        60,
        f"from a manifest's write until the topic accepted its delivery, {len(published):,} copies of {READERS} "
        f"accounts in {HOURS} hourly runs, {LATENCY_S} s a call, one after another; virtual time, real handler",
    )


def _day(deployed: _Deployed) -> tuple[list[float], list[float], int]:
    """Delete resources and add accounts at random for a day; return both latencies (s) and the calls of an idle day."""
    cloud, rng = deployed.cloud, random.Random(15)
    before = len(cloud.calls.select())
    for _ in range(3600):
        deployed.step()
    idle = len(cloud.calls.select()) - before
    deletions: list[Callable[[], str]] = [lambda: _delete_dataset(cloud), lambda: _delete_bucket(cloud)]
    plan = sorted((rng.uniform(0, DAY), number < DAMAGED) for number in range(DAMAGED + ADDED))
    healed: list[float] = []
    onboarded: list[float] = []
    kinds = itertools.cycle(deletions)
    started = cloud.clock.monotonic()
    for at, damage in plan:
        cloud.advance(max(0.0, started + at - cloud.clock.monotonic()))
        since, known = cloud.clock.monotonic(), len(deployed.ends)
        wanted = next(kinds)() if damage else cloud.add_account()
        while not any(_is_handled(report, wanted, damage=damage) for _, report in deployed.ends[known:]):
            deployed.step()
            if cloud.clock.monotonic() - since > DAY:
                raise RuntimeError(f"no run observed {wanted} within a day")
        (healed if damage else onboarded).append(deployed.ends[-1][0] - since)
    return healed, onboarded, idle * 24


def _is_handled(report: dict[str, Any], wanted: str, *, damage: bool) -> bool:
    if damage:
        return any(one["kind"] == wanted and one["verb"] == "CREATE" for one in report["actions"])
    return any(one["scope"] == wanted for one in report["actions"])


def _delete_dataset(cloud: LocalGcp) -> str:
    cloud.delete_dataset()
    return "dataset"


def _delete_bucket(cloud: LocalGcp) -> str:
    cloud.delete_bucket()
    return "bucket"


def _storm(deployed: _Deployed) -> tuple[int, float, int]:
    """Log many events at the same time; return runs, minutes until the queues are empty, and lost events."""
    cloud = deployed.cloud
    cloud.advance(600)
    known, since = len(deployed.ends), cloud.clock.monotonic()
    for number, account in zip(range(STORM), itertools.cycle(cloud.accounts()), strict=False):
        table = f"gcp_billing_export_v1_{account.replace('-', '_')}"
        cloud.world.audit.write(table_deleted(cloud.project, cloud.deployment.dataset, table), f"p{number}@example.com")
    while deployed.waiting():
        deployed.step()
    reports = [report for _, report in deployed.ends[known:]]
    received = sum(report["events"]["count"] for report in reports)
    return len(reports), max(1.0, (cloud.clock.monotonic() - since) / 60), STORM - received


def _published() -> list[float]:
    """Copy partitions to which rows are added at random; return the seconds until each copy was published, sorted."""
    rng = random.Random(15)
    found: list[float] = []
    with LocalGcp(READERS, clock=VirtualClock(), done=READERS, history_days=3, rows=2) as cloud:
        topic = cloud.announce_deliveries()
        function = EventFunction(cloud, EXPORTS="standard", COPY="standard", DELTAS="1", DELIVERY_TOPIC=topic)
        (subscription,) = [name for name, one in cloud.world.pubsub.subscriptions.items() if one.topic == topic]
        cloud.faults.latency_all(LATENCY_S)
        for _ in range(HOURS):
            for account in rng.sample(list(cloud.accounts()), READERS // 4):
                days = (cloud.clock.now().date() - timedelta(days=back) for back in range(3))
                cloud.late_data(account, rng.choice(list(days)).isoformat())
            function.run(RunRequest())
            while messages := cloud.world.pubsub.pull(subscription, MOST):
                for message in messages:
                    event = msgspec.json.decode(message.data, type=DeliveryDocument)
                    found.append((message.published - event.data.delivered_at).total_seconds())
                cloud.world.pubsub.acknowledge(subscription, {one.ack_id for one in messages})
            cloud.advance(3600)
    return sorted(found)
