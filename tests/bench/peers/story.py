"""The story: a tenant is set up, troubles of every kind happen, and each contender runs once a day."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from localcloud.azure.api_models import parsed
from localcloud.azure.cloud import LocalAzure
from shared.runtime.clock import VirtualClock
from tests.azure_function.support import START
from tests.bench.measure import ROOT
from tests.bench.peers.wanted import name_of
from tests.limits import HANG_S

DAY_S = 86_400.0
DAYS = 3  # runs after the troubles: a contender that heals at all has done so
EACH = 5  # subscriptions for each trouble
FOLDER = Path(__file__).parent
# What the users of each contender maintain.
CODE = {"loop": ("loop.py", "wanted.py"), "runbook": ("runbook.py", "wanted.py"), "this": ()}
SETTINGS = 6  # lines of the Terraform module's call in the guide

Trouble = Callable[[LocalAzure, str], Any]
TROUBLES: Mapping[str, Trouble] = {
    "export deleted": lambda cloud, one: cloud.delete_export(one),
    "export switched off": lambda cloud, one: cloud.set_schedule_inactive(one),
    "export redirected": lambda cloud, one: cloud.change_destination(one, container="elsewhere"),
    "export of another type": lambda cloud, one: cloud.change_type(one, "Usage"),
    "schedule about to end": lambda cloud, one: cloud.set_end_date(one, 1),
    "runs that fail": lambda cloud, one: cloud.fail_runs(one, times=99),
    "rights removed": lambda cloud, one: cloud.revoke_rights(one),
    "charges hidden": lambda cloud, one: (cloud.delete_export(one), cloud.hide_charges(one)),
    "provider unregistered": lambda cloud, one: (
        cloud.delete_export(one),
        cloud.unregister_provider(one, "Microsoft.CostManagement"),
        cloud.demand_registration(one),
    ),
}
NEW = "new subscription"


class Ended(msgspec.Struct, frozen=True):
    """What a contender used over all runs, and what it left: {trouble: subscriptions}.

    `wrong` subscriptions lack a working export; `silent` are those of them that the last run did not name.
    """

    calls: int
    first_s: float
    steady_calls: int
    makespan_s: float
    cpu_s: float
    peak_mb: float
    lines: int
    wrong: Mapping[str, int]
    silent: Mapping[str, int]


def play(contender: str, subscriptions: int) -> Ended:
    """Play the story for one contender on a tenant of its own."""
    with LocalAzure(subscriptions=subscriptions, clock=VirtualClock(START)) as cloud:
        runs = [_run(cloud, contender)]
        cloud.deliver()
        cloud.advance(DAY_S)
        cloud.calls.clear()
        runs.append(_run(cloud, contender))
        steady = cloud.calls.count()
        hit = _troubles(cloud)
        for _ in range(DAYS):
            cloud.deliver()
            cloud.advance(DAY_S)
            runs.append(_run(cloud, contender))
        cloud.deliver()
        wrong = {trouble: [one for one in ids if not works(cloud, one)] for trouble, ids in hit.items()}
        named = set(runs[-1]["named"])
        return Ended(
            calls=cloud.calls.count(),
            first_s=runs[0]["makespan_s"],
            steady_calls=steady,
            makespan_s=max(one["makespan_s"] for one in runs[2:]),
            cpu_s=sum(one["cpu_s"] for one in runs),
            peak_mb=max(one["peak_mb"] for one in runs),
            lines=lines_of(contender),
            wrong={trouble: len(ids) for trouble, ids in wrong.items() if ids},
            silent={trouble: len(lost) for trouble, ids in wrong.items() if (lost := set(ids) - named)},
        )


def works(cloud: LocalAzure, subscription: str) -> bool:
    """Return whether the subscription has the wanted export, active, and whether its last run brought data."""
    for one in cloud.exports(subscription):
        properties = one["properties"]
        destination = properties["deliveryInfo"]["destination"]
        last = (properties.get("runHistory") or {}).get("value") or [{}]
        status = last[0].get("properties", {}).get("status", "")
        if one["name"] == name_of(subscription):
            return bool(
                properties["schedule"]["status"] == "Active"
                and parsed(properties["schedule"]["recurrencePeriod"]["to"], "to") > cloud.clock.now()
                and destination["container"] == "dataexport"
                and properties["definition"]["type"] == "ActualCost"
                and status == "Completed"
            )
    return False


def lines_of(contender: str) -> int:
    """Return how many lines of code and configuration the users of a contender maintain."""
    if not CODE[contender]:
        return SETTINGS
    text = "".join((FOLDER / name).read_text(encoding="utf-8") for name in CODE[contender])
    return sum(1 for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))


def _troubles(cloud: LocalAzure) -> dict[str, list[str]]:
    """Let every trouble happen to its own subscriptions; return {trouble: subscriptions}."""
    ids = iter(cloud.subscription_ids)
    next(ids)  # the first one holds the storage account
    hit: dict[str, list[str]] = {}
    for trouble, happen in TROUBLES.items():
        hit[trouble] = [next(ids) for _ in range(EACH)]
        for one in hit[trouble]:
            happen(cloud, one)
    hit[NEW] = [cloud.join_subscription(f"new-{number}") for number in range(EACH)]
    return hit


def _run(cloud: LocalAzure, contender: str) -> dict[str, Any]:
    environment = {**os.environ, **cloud.environment(), "BACKFILL_MONTHS": "0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.bench.peers.contender", contender]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{contender} failed: {done.stderr[-3000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    cloud.sync()
    return figures
