"""Runs the function against a local Azure whose clock the test controls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from azure_function.invocation import run_once
from azure_function.settings import AzureSettings, read_settings
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.state import Behavior
from shared.model import Action, Outcome
from shared.reconcile import RunResult
from shared.request import RunRequest
from shared.runtime.clock import VirtualClock

START = datetime(2026, 11, 2, 9, tzinfo=UTC)
HOUR = 3600.0
DAY = 24 * HOUR
READ, WRITE = "Microsoft.CostManagement/exports/read", "Microsoft.CostManagement/exports/write"
BILLED: dict[str, Any] = {"BILLING_SCOPES": "auto"}
EXECUTE = "Microsoft.CostManagement/exports/*action"


class Lines:
    """A sink that stores the logged events."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __call__(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        self.lines.append((level, event, dict(fields)))

    def text(self) -> str:
        return json.dumps(self.lines, default=str)


def local_azure(behavior: Behavior | None = None, **options: Any) -> LocalAzure:
    """Return a local Azure with a virtual clock that starts at START; three subscriptions by default."""
    return LocalAzure(**{"clock": VirtualClock(START), "behavior": behavior or Behavior(), **options})


def advance(cloud: LocalAzure, seconds: float) -> None:
    """Advance the clock of the local cloud and its storage."""
    cloud.advance(seconds)
    cloud.sync()


def run(
    cloud: LocalAzure,
    scopes: Sequence[str] = (),
    *,
    sink: Lines | None = None,
    seconds: float = 3300,
    dry_run: bool = False,
    force: bool = False,
    months: Sequence[str] = (),
    **settings: str,
) -> RunResult:
    """Run the function once with the settings of the local cloud, overridden by `settings`."""
    return run_once(
        RunRequest(scopes=tuple(scopes), dry_run=dry_run, force=force, months=tuple(months)),
        {**cloud.environment(), **settings},
        sink or Lines(),
        cloud.clock,
        seconds,
        seed=1,
    )


def outcome(finished: RunResult, scope: str, kind: str = "export", name: str = "") -> Outcome:
    """Return the only outcome of a scope and kind; `name` selects one of several."""
    found = [
        one
        for one in finished.outcomes
        if (one.key.scope, one.key.kind) == (scope, kind) and name in ("", one.key.name)
    ]
    assert len(found) == 1, f"{len(found)} outcomes of {kind} {scope} {name}: {finished.report}"
    return found[0]


def action(finished: RunResult, scope: str, kind: str = "export", name: str = "") -> Action:
    """Return the only action of a scope and kind; `name` selects one of several."""
    return outcome(finished, scope, kind, name).action


def verbs(finished: RunResult) -> dict[str, int]:
    """Return the number of actions by verb."""
    return {verb: sum(results.values()) for verb, results in finished.report["outcomes"].items()}


def messages(finished: RunResult) -> str:
    """Return the manual steps and failures of the report as one text."""
    return json.dumps([finished.report["manual"], finished.report["failures"]])


def live(cloud: LocalAzure, subscription: str) -> dict[str, Any]:
    """Return the properties of the only export of a subscription."""
    (export,) = cloud.exports(subscription)
    properties: dict[str, Any] = export["properties"]
    return properties


def destination_of(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the destination in the properties of an export."""
    found: Mapping[str, Any] = properties["deliveryInfo"]["destination"]
    return found


def account_settings(accounts: int = 1, **more: str) -> AzureSettings:
    """Return settings with a number of storage accounts."""
    ids = [
        f"/subscriptions/00000000-0000-0000-0000-{number:012d}/resourceGroups/rg/providers/Microsoft.Storage"
        f"/storageAccounts/account{number}"
        for number in range(accounts)
    ]
    return read_settings({"DESTINATION": ",".join(ids), "STATE_ACCOUNT": "hoststorage", **more})


def focus_version(cloud: LocalAzure, subscription: str) -> str:
    """Return the dataset version of the only export of a subscription."""
    version: str = live(cloud, subscription)["definition"]["dataSet"]["configuration"]["dataVersion"]
    return version


def run_daily(cloud: LocalAzure, days: int, **settings: Any) -> RunResult:
    """Advance the clock by a number of days, each with a delivery and a run; return the last run."""
    runs = []
    for _ in range(days):
        advance(cloud, DAY)
        cloud.deliver()
        runs.append(run(cloud, **settings))
    return runs[-1]
