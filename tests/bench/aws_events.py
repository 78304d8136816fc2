"""How soon damage is repaired through events: a simulated day with the real collector and function."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any, cast

from moto.events.models import EventPattern

from aws_lambda.clients import warm_clients
from aws_lambda.collector import announce
from aws_lambda.settings import read_settings
from localcloud.aws.cloud import LocalAws
from localcloud.aws.platform.deployed_deliveries import WINDOW_S, pattern
from shared.runtime.clock import VirtualClock
from tests.aws_lambda.cloudtrail import instance_changed
from tests.aws_lambda.event_path import EventPath
from tests.aws_lambda.subscriber import Subscriber
from tests.aws_lambda.support import EXPORT, Lines, local_aws, run
from tests.bench.measure import Measure

ACCOUNTS = 10_000
DAMAGED = 100  # a day: 1 % of the accounts
DAY, HOUR = 86_400.0, 3600.0
# AWS documents no delay for events. CloudTrail's log files take 5 minutes on average; its events are faster.
TRAIL_S, DIRECT_S = 180.0, 60.0
OBJECT_S = 45.0  # S3's events take seconds, sometimes a minute or longer ("Amazon S3 Event Notifications")
DATASETS, DELIVERIES = "cur2,focus,carbon", 60
MODEL = f"modeled delays, uniformly distributed: CloudTrail to {TRAIL_S:.0f} s, CloudFormation to {DIRECT_S:.0f} s"


def quantile(values: list[float], share: float) -> float:
    """Return the value that the fraction `share` of all values does not exceed."""
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def delay(rng: random.Random, event: Mapping[str, Any]) -> float:
    """Return the seconds until an event is on the bus."""
    return rng.random() * (TRAIL_S if "CloudTrail" in event["detail-type"] else DIRECT_S)


def day(cloud: LocalAws, damaged: int, joining: int, seed: int = 1) -> tuple[list[float], list[float]]:
    """Delete roles and the export at random times of a day, and add accounts.

    Returns the seconds until each was repaired, and until each new account had its role.
    """
    rng, clock = random.Random(seed), cast(VirtualClock, cloud.clock)
    path = EventPath(cloud, delay=lambda event: delay(rng, event))
    members = [account for account in cloud.accounts() if account != cloud.account]
    start = clock.monotonic()
    plan = [(rng.random() * DAY, "export" if number % 10 == 0 else "role") for number in range(damaged)]
    plan += [(rng.random() * DAY, "join") for _ in range(joining)]
    since: dict[tuple[str, str], float] = {}
    healed: dict[str, list[float]] = {"export": [], "role": [], "join": []}

    def note() -> None:
        for (kind, account), at in list(since.items()):
            if cloud.exports() if kind == "export" else account in cloud.instances():
                healed[kind].append(clock.monotonic() - at)
                del since[kind, account]

    def settle(until: float) -> None:
        while path.settle_one(until):
            note()

    for at, kind in sorted(plan):
        settle(start + at)
        clock.wait_until(start + at)
        if kind == "join":
            since[kind, cloud.join_account(f"new-{at:.0f}")] = clock.monotonic()
        elif kind == "export" and cloud.exports():
            cloud.delete_export(EXPORT)
            since[kind, cloud.account] = clock.monotonic()
        elif kind == "role":
            account = rng.choice([one for one in members if ("role", one) not in since])
            cloud.remove_instance(account)
            since[kind, account] = clock.monotonic()
    settle(math.inf)
    lost = [math.inf] * len(since)
    return healed["export"] + healed["role"] + lost, healed["join"]


def undamaged(cloud: LocalAws, runs: int = 3) -> tuple[int, int]:
    """Return the calls of runs that were started by events of scheduled runs, and the scheduled runs' calls."""
    path = EventPath(cloud)
    cloud.calls.clear()
    for _ in range(runs):
        run(cloud)
        cast(VirtualClock, cloud.clock).advance(HOUR)
    scheduled = len(cloud.calls)
    path.settle()
    return len(cloud.calls) - scheduled, scheduled


def storm(cloud: LocalAws, events: int = 10_000, seconds: float = 600) -> tuple[float, int]:
    """Send events for distinct accounts; return the largest rate of runs per minute, and the events without a run."""
    clock = cast(VirtualClock, cloud.clock)
    path = EventPath(cloud)
    started = clock.monotonic()
    for number in range(events):
        clock.wait_until(started + seconds * number / events)
        path.put(instance_changed("DELETE", f"{number:012d}"))
        path.settle(clock.monotonic())
    path.settle()
    starts = [at for at, _ in path.runs]
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    had = sum(report["events"]["count"] for _, report in path.runs)
    return 60 / min(gaps), events - had


def publishing(cloud: LocalAws, seed: int = 1) -> list[float]:
    """Deliver all exports many times in virtual time; return the seconds from each manifest to its event on the topic.

    The collector gets what has arrived by the end of the queue's window, as Lambda passes it on.
    """
    rng, clock, subscriber = random.Random(seed), cast(VirtualClock, cloud.clock), Subscriber(cloud)
    environment = cloud.environment() | {"EXPORTS": DATASETS}
    run(cloud, EXPORTS=DATASETS)
    rule, waiting, taken = EventPattern(None, pattern(cloud.deployment)), list[tuple[float, str]](), list[float]()
    cloud.client("s3").put_bucket_notification_configuration(
        Bucket=cloud.deployment.bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )

    def route(_place: object, event: dict[str, Any], *_: object) -> None:
        if rule.matches_event(cast("Any", event)):
            waiting.append((clock.monotonic() + rng.random() * OBJECT_S, json.dumps(event)))

    setattr(cloud.world.buses, "route", route)  # noqa: B010 - in place of buses, which are not deployed
    for _ in range(DELIVERIES):
        clock.advance(rng.uniform(1, 12) * HOUR)
        written = clock.monotonic()
        cloud.deliver()
        while waiting:
            clock.wait_until(min(due for due, _ in waiting) + WINDOW_S)
            batch = [body for due, body in waiting if due <= clock.monotonic()]
            waiting[:] = [one for one in waiting if one[0] > clock.monotonic()]
            settings = read_settings(environment)
            clients = warm_clients(settings, environment)
            records = {"Records": [{"body": body} for body in batch]}
            announce(records, settings, cloud.account, clients, Lines(), clock, 60)
            taken += [clock.monotonic() - written] * len(subscriber.received())
    return taken + [math.inf] * (DELIVERIES * len(DATASETS.split(",")) - len(taken))


def measures() -> Iterator[Measure]:
    """Yield the measurements of events on AWS."""
    with local_aws(accounts=ACCOUNTS) as cloud:
        run(cloud)
        cloud.deliver()
        cast(VirtualClock, cloud.clock).advance(HOUR)
        run(cloud)
        extra, steady = undamaged(cloud)
        healed, joined = day(cloud, DAMAGED, joining=20)
        per_minute, lost = storm(cloud)
    with local_aws(accounts=1, kind="standalone", deliveries=True) as cloud:
        published = publishing(cloud)
    setting = f"{ACCOUNTS} accounts, {DAMAGED} deletions in a day of virtual time; {MODEL}"
    yield Measure("aws.heal.event_p95_s", quantile(healed, 0.95), "s", 300, f"from damage to repair; {setting}")
    yield Measure("aws.onboard.new_scope_p95_s", quantile(joined, 0.95), "s", 600, f"20 accounts join; {setting}")
    yield Measure("aws.storm.10k_events.runs", per_minute, "runs/min", 1, "10,000 events in ten minutes; maximum rate")
    yield Measure("aws.storm.lost", lost, "events", 0, "events of the storm that no run counted")
    yield Measure(
        "aws.events.extra_steady_calls",
        100 * extra / steady,
        "%",
        5,
        f"calls of event runs in three hours without damage, relative to the {steady} calls of the scheduled runs; "
        f"{ACCOUNTS} accounts",
    )
    yield Measure(
        "aws.delivery.publish_p95_s",
        quantile(published, 0.95),
        "s",
        60,
        f"{len(published)} deliveries of three exports, from the manifest to the topic, virtual time, local AWS; S3's "
        f"events are modeled to take up to {OBJECT_S:.0f} s, the queue's window is {WINDOW_S} s; without a cold start",
    )
