"""The demonstration of many tenants: four on each local cloud, one dead, one throttled, one that withdraws its consent.

Each cloud is a `Ground`. A round is made as the cloud's coordinator makes it, with the function's own steps; every
expectation is checked against the tenants' clouds and the report of the round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rich.console import Console

from cli.demo.runner import Check, Runner, ScenarioEnded, Step
from cli.terminal.console import clean, document_text, out, say
from cli.terminal.rounds import show_round
from cli.terminal.signals import unwinding
from localcloud import Unavailable

TENANTS = 4  # on each cloud
NAME = "fleet"
THROTTLED_S = 90


class Ground(Protocol):
    """A local cloud with a deployment and four tenants beside it."""

    title: str
    scopes: str
    tenants: Sequence[str]

    def round(self) -> Mapping[str, Any]:
        """Make one round an hour after the last one, and return its stored report."""
        ...

    def withdraw(self, tenant: str) -> None:
        """Take away what lets the deployment in, as the tenant's owner can at any time."""
        ...

    def exports(self, tenant: str) -> int:
        """Return how many exports the tenant has."""
        ...

    def writes(self, tenant: str) -> int:
        """Return how many calls since they were last forgotten changed something in the tenant's cloud."""
        ...

    def forget_calls(self) -> None:
        """Forget the calls of all tenants."""
        ...

    def strangers(self, tenant: str) -> int:
        """Return how many calls the tenant's cloud got from another identity than the tenant's own entry."""
        ...


@runtime_checkable
class Throttled(Ground, Protocol):
    """A ground where the quota of one tenant can be used up."""

    def throttle(self, tenant: str, seconds: float) -> None:
        """Refuse the tenant's calls that a quota limits for so long after the next round has begun."""
        ...


Opened = Callable[[], AbstractContextManager[Ground]]


@dataclass
class Played:
    """The grounds of a demonstration, and the tenants with something special."""

    grounds: Sequence[Ground]
    dead: tuple[Ground, str]
    throttled: tuple[Throttled, str] | None
    revoked: tuple[Ground, str]
    reports: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def statuses(self) -> dict[str, str]:
        """Return the status of every tenant after the last round."""
        return {row["tenant"]: row["status"] for report in self.reports.values() for row in report["rows"]}


def play_fleet(opened: Sequence[Opened], json_file: Path | None, screen: Console | None = None) -> int:
    """Play the demonstration on these clouds; return 0 if every expectation was met, else 1.

    `json_file` receives `{"fleet": {"steps": […], "ok"}}`, as for the other demonstrations. A cloud that this machine
    cannot run is left out with the reason.
    """
    screen, began = screen or out(), time.monotonic()
    runner = Runner(screen)
    say(screen, ("tailpipe-exports demo · many tenants from one deployment", "bold"))
    try:
        with unwinding(), ExitStack() as stack:
            grounds = list(_open(stack, opened, screen))
            if grounds:
                _play(runner, grounds)
    except ScenarioEnded:
        pass
    except Exception as error:  # noqa: BLE001 - a scenario that fails counts as an unmet expectation
        detail = f"{type(error).__name__}: {error}"
        runner.steps.append(Step("scenario", checks=[Check("the local clouds work", ok=False, detail=detail)]))
    ok = bool(runner.steps) and all(step.ok for step in runner.steps)
    _show_end(screen, runner.steps, time.monotonic() - began)
    if json_file is not None:
        document = {NAME: {"steps": [step.document() for step in runner.steps], "ok": ok}}
        json_file.write_text(document_text(document) + "\n", encoding="utf-8")
    return 0 if ok else 1


def _open(stack: ExitStack, opened: Sequence[Opened], screen: Console) -> Any:
    for one in opened:
        try:
            yield stack.enter_context(one())
        except Unavailable as error:
            say(screen, ("- ", "bold yellow"), f"A cloud was skipped. {error}")


def _play(runner: Runner, grounds: Sequence[Ground]) -> None:
    # Each on another cloud, if there are three.
    dead, revoked = ((place, place.tenants[number]) for number, place in ((1, grounds[0]), (3, grounds[-1])))
    throttled = next(((one, one.tenants[2]) for one in grounds if isinstance(one, Throttled)), None)
    played = Played(grounds, dead, throttled, revoked)
    runner.introduce(
        f"{sum(len(one.tenants) for one in grounds)} tenants on {', '.join(one.title for one in grounds)}, "
        "each with credentials, quotas and exports of its own.",
        "One deployment a cloud serves them in rounds. Time is virtual.",
    )
    runner.heading("Before", "Not every tenant is well.")
    dead[0].withdraw(dead[1])
    runner.event(f"{dead[1]} on {dead[0].title} was invited, and never let the deployment in")
    if throttled:
        throttled[0].throttle(throttled[1], THROTTLED_S)
        runner.event(f"the quota of {throttled[1]} on {throttled[0].title} is used up by others for {THROTTLED_S} s")
    _first_round(runner, played)
    runner.heading("Meanwhile", "A tenant changes its mind.")
    revoked[0].withdraw(revoked[1])
    runner.event(f"{revoked[1]} on {revoked[0].title} withdraws its consent")
    _second_round(runner, played)


def _first_round(runner: Runner, played: Played) -> None:
    with runner.step("First round", "Each tenant gets its exports; a dead one is a row among the others.") as step:
        _run(runner, played, step)
        statuses = played.statuses()
        living = [one for ground in played.grounds for one in ground.tenants if one != played.dead[1]]
        wrong = [f"{one} is {statuses.get(one)}" for one in living if statuses.get(one) not in ("ok", "degraded")]
        step.check("every living tenant was served", not wrong, ", ".join(wrong) or f"{len(living)} tenants")
        without = [
            one
            for ground in played.grounds
            for one in ground.tenants
            if one != played.dead[1] and not ground.exports(one)
        ]
        step.check("each of them has exports in its own cloud", not without, ", ".join(without) or "in every cloud")
        _check_unreachable(step, played, played.dead, "the dead tenant is unreachable, with a remedy")
        if played.throttled:
            slow = _row(played, played.throttled[1])
            others = max(row["duration_s"] for row in _rows(played) if row["tenant"] in living and row is not slow)
            detail = f"{slow['duration_s']:.0f} s, the others at most {others:.0f} s"
            step.check("the throttled tenant takes longer, and no other one does", slow["duration_s"] > others, detail)
        _check_strangers(step, played)


def _second_round(runner: Runner, played: Played) -> None:
    exports = {one: ground.exports(one) for ground in played.grounds for one in ground.tenants}
    for ground in played.grounds:
        ground.forget_calls()
    with runner.step(
        "Second round",
        "Nothing is left to do but what was throttled; the revoked tenant is one more row that is not ok.",
    ) as step:
        _run(runner, played, step)
        _check_unreachable(step, played, played.revoked, "the tenant that withdrew its consent is unreachable")
        _check_unreachable(step, played, played.dead, "the dead tenant still is")
        gone = {played.revoked[1], played.dead[1]}
        wrong = [row["tenant"] for row in _rows(played) if row["tenant"] not in gone and row["status"] != "ok"]
        step.check("every other tenant is ok", not wrong, ", ".join(wrong) or f"{len(exports) - len(gone)} tenants")
        # What the throttled tenant was refused in the first round, it gets now.
        late = played.throttled[1] if played.throttled else ""
        writes = {one: ground.writes(one) for ground in played.grounds for one in ground.tenants if one != late}
        written = {one: number for one, number in writes.items() if number}
        step.check("no other tenant's cloud received a write", not written, str(written) if written else "only reads")
        after = {one: ground.exports(one) for ground in played.grounds for one in ground.tenants}
        same = {**after, late: 0} == {**exports, late: 0} and after.get(late, 0) >= exports.get(late, 0)
        step.check("no export is gone or doubled", same, f"{sum(after.values())} exports")
        _check_strangers(step, played)


def _run(runner: Runner, played: Played, step: Step) -> None:
    """Make a round on each cloud and show its report."""
    for ground in played.grounds:
        began = time.monotonic()
        report = ground.round()
        played.reports[ground.title] = report
        runner.say(f"{ground.title}, in {time.monotonic() - began:.1f} s:")
        show_round(runner.screen, ground.scopes, report)
        counted = {row["tenant"] for row in report["rows"]}
        same = counted == set(ground.tenants)
        step.check(
            f"the round on {ground.title} reports every tenant", same, f"{len(counted)} of {len(ground.tenants)}"
        )


def _rows(played: Played) -> list[Mapping[str, Any]]:
    return [row for report in played.reports.values() for row in report["rows"]]


def _row(played: Played, tenant: str) -> Mapping[str, Any]:
    return next(row for row in _rows(played) if row["tenant"] == tenant)


def _check_unreachable(step: Step, played: Played, which: tuple[Ground, str], what: str) -> None:
    row = _row(played, which[1])
    failure: Mapping[str, Any] = next(iter(row["failures"]), {})
    ok = row["status"] == "unreachable" and bool(failure.get("remedy"))
    step.check(what, ok, f"{which[1]} is {row['status']}: {failure.get('remedy', 'no remedy')}")


def _check_strangers(step: Step, played: Played) -> None:
    found = [one for ground in played.grounds for one in ground.tenants if ground.strangers(one)]
    step.check("no tenant's cloud saw credentials of another", not found, ", ".join(found) or "in every cloud")


def _show_end(screen: Console, steps: Sequence[Step], seconds: float) -> None:
    checks = [check for step in steps for check in step.checks]
    missed = [check for check in checks if not check.ok]
    say(screen)
    if checks and not missed:
        say(screen, ("✓ ", "bold green"), f"all {len(checks)} expectations met in {seconds:.1f} s")
        return
    say(screen, ("✗ ", "bold red"), f"{len(missed)} of {len(checks)} expectations not met, after {seconds:.1f} s:")
    for check in missed:
        say(screen, f"{check.what}: {clean(check.detail)}", indent=2)
