"""The orchestrations of a round: what runs when, without any work of its own.

::

    tenants_round   round_begin ─▶ at most `parallel` lanes ─▶ round_end
    tenants_lane    tenant_run for one tenant after another; at the end those that failed or need more time
    tenant_calls    tenant_run for one tenant, repeated while it asks for more, with back-off after a failure

An orchestration is replayed from its history after every step, so it may only depend on its input, on results and on
the context's time. It never waits again for a task that it has waited for: the Functions host replays an orchestration
of the Python SDK by awaiting one action after another, so that a window over running tasks (`task_any` with some of the
former tasks) stops scheduling new ones until the last scheduled task has ended. Lanes need no such window.

A tenant that is done after one call costs one activity. Only one that needs more gets an orchestration of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

ROUND, LANE, CALLS = "tenants_round", "tenants_lane", "tenant_calls"  # orchestrations
BEGIN, RUN, END = "round_begin", "tenant_run", "round_end"  # activities
INSTANCE = "tenants-round"  # one instance at most: a round is not begun while another one runs

STEP_TRIES = 3  # of the begin and of the end of a round
TENANT_TRIES = 3  # of calls that fail in the second pass
BATCH = 50  # tenants after which a lane continues as new, so that its history stays short
PAUSE_S, LONGEST_PAUSE_S = 30.0, 300.0
GRACE_S = 300.0  # for calls in progress when a round's time is over
LEAST_S = 60.0  # of a first call
MOST_CALLS = 50  # of one orchestration; the tenant's share ends long before

Input = Mapping[str, Any]
Steps = Generator[Any, Any, Any]


class DurableContext(Protocol):
    """What an orchestration may use of its engine. Tasks are yielded, which returns their result or raises."""

    @property
    def now(self) -> datetime:
        """Return the engine's time, the same in each replay, in UTC."""
        ...

    def call(self, activity: str, given: Input) -> Any:
        """Return the task of an activity."""
        ...

    def start(self, orchestration: str, given: Input, instance: str) -> Any:
        """Return the task of a sub-orchestration with this instance id."""
        ...

    def wait_until(self, moment: datetime) -> Any:
        """Return the task of a timer."""
        ...

    def cancel(self, timer: Any) -> None:
        """Cancel a timer that has not fired."""
        ...

    def all_of(self, tasks: Sequence[Any]) -> Any:
        """Return a task that ends with all of these."""
        ...

    def any_of(self, tasks: Sequence[Any]) -> Any:
        """Return a task that ends with the first of these; its result is that task."""
        ...

    def continue_as_new(self, given: Input) -> None:
        """Start this orchestration again with another input and without a history, once it returns."""
        ...


def run_round(context: DurableContext) -> Steps:
    """Begin a round, run its tenants in lanes, end it, and return the short report of the round.

    Tenants that are not done when the time is over are left to the next round. Raises if the begin or the end fails
    three times.
    """
    begun = yield from _step(context, BEGIN, {})
    until = context.now + timedelta(seconds=begun["round_s"])
    lanes = deal(begun["tenants"], begun["parallel"])
    shared = {"round": begun["round"], "until": until.isoformat(), "tenant_s": begun["tenant_s"]}
    if lanes:
        # A first call takes no more than the tenant's part of the round, so that no slow tenant uses up its lane.
        shared["first_s"] = max(LEAST_S, begun["round_s"] * len(lanes) / len(begun["tenants"]))
        started = [
            context.start(LANE, {**shared, "tenants": lane, "again": []}, f"{begun['round']}:{number}")
            for number, lane in enumerate(lanes)
        ]
        over = context.wait_until(until + timedelta(seconds=GRACE_S))
        first = yield context.any_of([context.all_of(started), over])
        if first is not over:
            context.cancel(over)
    return (yield from _step(context, END, {"round": begun["round"]}))


def run_lane(context: DurableContext, given: Input) -> Steps:
    """Run one tenant after another, then those whose call failed, found another run, or was cut short.

    `again` has them as pairs of the tenant and whether its call failed.
    """
    again = list(given["again"])
    for tenant in given["tenants"][:BATCH]:
        if _is_over(context, given):
            return {}
        row = yield from _call(context, given, tenant, given["first_s"])
        failed = row is None or row["status"] == "busy"
        if failed or row["again"]:
            again.append([tenant, failed])
    rest = given["tenants"][BATCH:]
    if rest:
        context.continue_as_new({**given, "tenants": rest, "again": again})
        return {}
    for tenant, failed in again:
        if _is_over(context, given):
            return {}
        yield from _calls(context, given, tenant, failed=failed)
    return {}


def run_tenant(context: DurableContext, given: Input) -> Steps:
    """Call for one tenant while its row asks for more and the round has time; after a failure with back-off."""
    tenant, failures = given["tenant"], int(given["failed"])
    for _ in range(MOST_CALLS):
        if failures > TENANT_TRIES:
            return {}
        if failures:
            wake = context.now + timedelta(seconds=pause_s(given["round"], tenant, failures))
            if wake >= datetime.fromisoformat(given["until"]):
                return {}
            yield context.wait_until(wake)
        if _is_over(context, given):
            return {}
        row = yield from _call(context, given, tenant, given["tenant_s"])
        if row is None or row["status"] == "busy":
            failures += 1
        elif row["again"]:
            failures = 0
        else:
            break
    return {}


def deal(tenants: Sequence[str], lanes: int) -> list[list[str]]:
    """Return at most `lanes` lists with the tenants in turn, so that each lane begins with those waiting longest."""
    return [list(tenants[number::lanes]) for number in range(min(lanes, len(tenants)))]


def pause_s(round_id: str, tenant: str, failures: int) -> float:
    """Return the seconds before the next call: doubled with each failure, and up to a quarter more or less.

    The jitter follows from the arguments, because a replay has to find the same pause.
    """
    digest = hashlib.sha256(f"{round_id}/{tenant}/{failures}".encode()).digest()
    spread = int.from_bytes(digest[:4], "big") / 2**32
    return float(min(PAUSE_S * 2 ** (failures - 1), LONGEST_PAUSE_S) * (0.75 + spread / 2))


def _step(context: DurableContext, activity: str, given: Input) -> Steps:
    """Return the result of the round's begin or end; a failed call is repeated. Raises after the last try."""
    for failures in range(1, STEP_TRIES):
        try:
            return (yield context.call(activity, given))
        except Exception:  # noqa: BLE001 - each engine has its own class for a failed activity
            yield context.wait_until(context.now + timedelta(seconds=pause_s(activity, "", failures)))
    return (yield context.call(activity, given))


def _call(context: DurableContext, given: Input, tenant: str, most_s: float) -> Steps:
    """Call for one tenant, and return its row; None if the call failed: the host ended it, or it could not run."""
    left_s = (datetime.fromisoformat(given["until"]) - context.now).total_seconds()
    seconds = min(most_s, float(given["tenant_s"]), left_s)
    try:
        return (yield context.call(RUN, {"tenant": tenant, "round": given["round"], "seconds": seconds}))
    except Exception:  # noqa: BLE001 - each engine has its own class for a failed activity
        return None


def _calls(context: DurableContext, given: Input, tenant: str, *, failed: bool) -> Steps:
    """Give a tenant its own orchestration, and wait for it; a failure there concerns this tenant only."""
    shared = {name: given[name] for name in ("round", "until", "tenant_s")}
    try:
        yield context.start(CALLS, {**shared, "tenant": tenant, "failed": failed}, f"{given['round']}:{tenant}")
    except Exception:  # noqa: BLE001 - each engine has its own class for a failed orchestration
        return


def _is_over(context: DurableContext, given: Input) -> bool:
    return context.now >= datetime.fromisoformat(given["until"])
