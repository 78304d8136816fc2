"""Plan 100,000 targets in this process, and print CPU seconds and peak memory."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

from localcloud.common.child_process import peak_mb_of
from shared.guard import guard
from shared.model import Absent, Health, Key, Kind, Observation, Present, Scope, Stage, Target, Unknown
from shared.plan import Plan, make_plan
from shared.settings import EngineSettings
from shared.state.document import ScopeRecord, StateDocument, fresh
from shared.target_state import TargetState
from tests.bench.calibration import timed

SCOPES = 50_000
NOW = datetime(2026, 1, 5, tzinfo=UTC)
EXPORT = Kind("export", Stage.EXPORT)
ROLE = Kind("role", Stage.DERIVED, grace=timedelta(hours=1))
DESTINATION = Kind("destination", Stage.DESTINATION)
DATA = Key("owner", "destination", "data")


def world() -> tuple[list[Target], dict[str, Scope], dict[Key, Observation], StateDocument]:
    """Return 100,000 targets of 50,000 scopes: most unchanged, some missing, drifted, unknown or deferred."""
    targets = [Target(DATA, DESTINATION)]
    scopes = {"owner": Scope("owner")}
    observations: dict[Key, Observation] = {DATA: Present()}
    memory = fresh("bench")
    for number in range(SCOPES):
        scope = f"{number:012d}"
        scopes[scope] = Scope(scope)
        export, role = Key(scope, "export", f"export-{scope[-6:]}"), Key(scope, "role", "reader")
        targets.append(Target(export, EXPORT, {"folder": f"data/{scope}", "format": "csv"}, needs=(DATA,)))
        targets.append(Target(role, ROLE))
        observations[export] = _export_observation(number, scope)
        observations[role] = Absent() if number % 97 == 0 else Present(delivered_at=NOW)
        waiting = NOW + timedelta(hours=1) if number % 89 == 0 else None
        memory.scopes[scope] = ScopeRecord(
            at=NOW,
            targets={
                f"export/{export.name}": TargetState(at=NOW, present=True, verified_at=NOW, not_before=waiting),
                "role/reader": TargetState(at=NOW, present=True, verified_at=NOW),
            },
        )
    return targets, scopes, observations, memory


def _export_observation(number: int, scope: str) -> Observation:
    if number % 101 == 0:
        return Absent()
    if number % 103 == 0:
        return Unknown("denied", "no rights")
    if number % 107 == 0:
        return Present({"folder": f"data/{scope}", "format": "csv"}, Health.BROKEN, code="unhealthy")
    return Present({"folder": f"data/{scope}", "format": "xml" if number % 109 == 0 else "csv"})


def main() -> None:
    """Print {cpu_s, workload_s, peak_mb, targets, writes} as JSON."""
    targets, scopes, observations, memory = world()

    def planned() -> tuple[Plan, float | None]:
        nonlocal targets
        targets = memory.pair(targets)
        plan = make_plan(targets, scopes, observations, NOW)
        guard(plan, EngineSettings(), NOW, force=False)
        return plan, peak_mb_of(os.getpid())

    (plan, peak_mb), timing = timed(planned)
    figures = {"peak_mb": peak_mb, "targets": len(plan.actions), "writes": len(plan.writes())}
    print(json.dumps(figures | timing._asdict()))


if __name__ == "__main__":
    main()
