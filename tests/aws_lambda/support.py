"""Run the function once against a local AWS with a virtual clock."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aws_lambda.handler import run_once
from localcloud.aws.cloud import LocalAws
from shared.model import Action, Outcome
from shared.reconcile import RunResult
from shared.request import RunRequest
from shared.runtime.clock import VirtualClock

START = datetime(2026, 11, 2, 9, tzinfo=UTC)
HOUR = 3600.0
DAY = 24 * HOUR
EXPORT = "tailpipe-dataexport"


class Lines:
    """A log sink that keeps what was logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __call__(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        self.lines.append((level, event, dict(fields)))

    def text(self) -> str:
        return json.dumps(self.lines, default=str)


def local_aws(**options: Any) -> LocalAws:
    """Return a local AWS with a virtual clock that starts at START."""
    return LocalAws(**{"accounts": 4, "clock": VirtualClock(START), **options})


def run(
    cloud: LocalAws,
    scopes: Sequence[str] = (),
    *,
    sink: Lines | None = None,
    seconds: float = 900,
    dry_run: bool = False,
    force: bool = False,
    **settings: str,
) -> RunResult:
    """Run the function once with the local cloud's settings, overridden by `settings`."""
    return run_once(
        RunRequest(scopes=tuple(scopes), dry_run=dry_run, force=force),
        {**cloud.environment(), **settings},
        sink or Lines(),
        cloud.clock,
        seconds,
        account=cloud.account,
        seed=1,
    )


def outcome(finished: RunResult, kind: str, scope: str = "", name: str = "") -> Outcome:
    """Return the only outcome of a kind, with this scope and name if given."""
    found = [
        one
        for one in finished.outcomes
        if one.key.kind == kind and scope in ("", one.key.scope) and name in ("", one.key.name)
    ]
    assert len(found) == 1, f"{len(found)} outcomes of {kind} {scope} {name}: {finished.report}"
    return found[0]


def action(finished: RunResult, kind: str, scope: str = "", name: str = "") -> Action:
    """Return the only action of a kind."""
    return outcome(finished, kind, scope, name).action


def verbs(finished: RunResult) -> dict[str, int]:
    """Return the number of actions by verb."""
    return {verb: sum(results.values()) for verb, results in finished.report["outcomes"].items()}


def members(cloud: LocalAws) -> list[str]:
    """Return the ids of the member accounts."""
    return sorted(account for account in cloud.accounts() if account != "111122223333")


def wrote_nothing(cloud: LocalAws, *services: str) -> bool:
    """Return whether no service received a write; writes of state and reports to S3 are not counted."""
    reads = ("Get", "List", "Describe", "Head")
    return all(
        call.operation.startswith(reads) or (call.service == "s3" and call.operation == "PutObject")
        for call in cloud.calls.select()
        if not services or call.service in services
    )


def messages(finished: RunResult) -> str:
    """Return all manual steps and failures of the report as one text."""
    return json.dumps([finished.report["manual"], finished.report["failures"]])
