"""The three steps of a round over all tenants; the activities of the coordinator call them.

`begin` returns whom to call, `run_tenant` is called for each tenant until its row asks for no other call, and `end`
stores the report. Each may be called twice for the same round.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from azure_function.invocation import announce, open_fleet, reconcile_once
from azure_function.settings import read_settings
from azure_function.tenants import RULES
from shared.reconcile import RunResult
from shared.request import RunRequest, Trigger, parse_request, parse_round
from shared.runtime.clock import Clock
from shared.runtime.log import Sink
from shared.tenants.registry import environment_of
from shared.tenants.rounds import begin_round, end_round, metrics_of_round, read_registry, short_report
from shared.tenants.rows import run_in_round


def begin(environment: Mapping[str, str], sink: Sink, clock: Clock) -> dict[str, Any]:
    """Return a new round: ``{"round": its id, "tenants": the ids in the order in which they are due, …}``.

    Raises SettingsError before any call, RegistryError, RequestError without a registry, CloudError.
    """
    documents, run = open_fleet(environment, sink, clock)
    return begin_round(documents, read_registry(documents, RULES), run.run_id, sink).answer()


def run_tenant(
    tenant: str,
    round_id: str,
    environment: Mapping[str, str],
    sink: Sink,
    clock: Clock,
    seconds: float | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Run one tenant as part of a round, within `seconds`, and return its row; ``again`` asks for another call.

    No failure of the tenant is raised. Raises RequestError for an invalid id, SettingsError before any call,
    RegistryError if the registry as a whole cannot be used, CloudError if it cannot be read.
    """
    asked = parse_request({"tenant": tenant, "round": round_id})
    most = read_settings(environment).engine.tenant_invocations
    documents, _ = open_fleet(environment, sink, clock)
    registry = read_registry(documents, RULES)

    def work(request: RunRequest) -> RunResult:
        entered = environment_of(registry.tenant(request.tenant), environment, RULES)
        return reconcile_once(request, entered, sink, clock, seconds, seed)

    request = msgspec.structs.replace(asked, trigger=Trigger.TIMER)
    row = run_in_round(request, documents, clock, sink, work, most)
    return msgspec.to_builtins(row)  # type: ignore[no-any-return]  # a struct becomes a dict


def end(round_id: str, environment: Mapping[str, str], sink: Sink, clock: Clock) -> dict[str, Any]:
    """Store the report of a round, write its metrics, and return it with only the rows that are not ok.

    Raises RequestError for an invalid id, SettingsError before any call, RegistryError, CloudError.
    """
    parse_round({"round": {"step": "end", "id": round_id}})
    documents, run = open_fleet(environment, sink, clock)
    workers = run.settings.workers
    report = end_round(documents, RULES, round_id, clock, sink, workers, lambda: not run.deadline.closing)
    announce(documents, report, environment, run)
    figures = {one.name: one.value for one in metrics_of_round(report)}
    sink("info", "round-figures", {"round": round_id, "cloud": RULES.cloud, "status": report["status"], **figures})
    return short_report(report)
