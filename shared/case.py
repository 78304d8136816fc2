"""One target with everything that the planner's rules need, and the functions that they share."""

from __future__ import annotations

from datetime import datetime, timedelta

from shared.model import (
    Action,
    EscalationPolicy,
    Key,
    ManualStep,
    Observation,
    Ownership,
    Present,
    Scope,
    Target,
    Verb,
)
from shared.target_state import TargetState


class Case:
    """One target with everything that the rules need to decide about it."""

    __slots__ = ("changes", "now", "scope", "seen", "state", "target", "unmarked", "waits")

    def __init__(
        self, target: Target, scope: Scope | None, seen: Observation, now: datetime, *, requested: bool
    ) -> None:
        state = target.state
        self.target = target
        self.scope = scope
        self.seen = seen
        self.state = state
        self.now = now
        self.waits = state is not None and state.not_before is not None and state.not_before > now and not requested
        self.changes = drift(target, seen) if isinstance(seen, Present) and seen.verified else ()
        unmarked = isinstance(seen, Present) and seen.ownership is Ownership.UNMARKED
        self.unmarked = unmarked and target.kind.writable

    def act(self, verb: Verb, reason: str, detail: str = "", remedy: str = "") -> Action:
        """Return the action."""
        return Action(self.target, verb, reason, detail, observation=self.seen, remedy=remedy)

    def ask(self, reason: str, step: ManualStep | None) -> Action:
        """Return the action that reports a manual step."""
        key = self.target.key
        step = step or ManualStep(f"{key.kind} {key.name}: {self.seen.detail or reason}")
        return Action(self.target, Verb.MANUAL, reason, step.what, observation=self.seen, manual_step=step)

    def code(self, otherwise: str) -> str:
        """Return the observation's own code."""
        return self.seen.code or otherwise


def overdue_remedy(key: Key) -> str:
    """Return the remedy for a target whose creation was accepted but that does not appear."""
    return (
        f"Check in the cloud's console what happens to {key.kind} {key.name} of {key.scope}: who or what removes it, "
        f"or which operation never ends. Run again with --scope {key.scope} to try at once."
    )


def drift(target: Target, observation: Present) -> tuple[str, ...]:
    """Return the managed fields whose actual value differs from the desired one, sorted. Other fields never count."""
    actual = observation.actual
    return tuple(sorted(field for field, value in target.desired.items() if actual.get(field) != value))


def exhausted(escalation: EscalationPolicy, state: TargetState | None, now: datetime) -> bool:
    """Return whether an escalation policy is exhausted, counting the current attempt."""
    waited = now - state.waiting_since if state and state.waiting_since else timedelta(0)
    return escalation.exhausted(waited, (state.attempts if state else 0) + 1)


def differences(case: Case) -> str:
    """Return the differing fields in one line for people, with both values where they are short."""
    actual = case.seen.actual if isinstance(case.seen, Present) else {}
    return "; ".join(f"{name}{_difference(actual.get(name), case.target.desired[name])}" for name in case.changes)


def _difference(actual: object, desired: object) -> str:
    """Return both values for a person; whole structures are left out, since they would hide the field's name."""
    if isinstance(actual, list | dict | tuple) or isinstance(desired, list | dict | tuple):
        return ""
    return f": {actual!r} instead of {desired!r}"
