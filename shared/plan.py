"""The planner: a pure function from what must exist, what was observed and what is remembered to the plan.

Each target's action comes from the truth table in `shared.rules`. At the end a write whose needs are MANUAL or BLOCK
becomes BLOCK, one whose needs are DEFER becomes DEFER.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from hashlib import sha256

import msgspec

from shared.model import (
    NOT_LOOKED_AT,
    RESTS_ON,
    WRITES,
    Action,
    Key,
    Observation,
    Scope,
    Target,
    Verb,
)
from shared.rules import decide


class Plan(msgspec.Struct, frozen=True):
    """The actions, sorted by key, and their hash (hex): equal for equal input, whether the run is dry or real."""

    actions: tuple[Action, ...]
    hash: str

    def writes(self) -> list[Action]:
        """Return the actions that write."""
        return [action for action in self.actions if action.verb in WRITES]

    def writes_hash(self) -> str:
        """Return the hash (hex) of the writes alone; it does not depend on targets that are kept or wait."""
        return _digest(self.writes())


def make_plan(
    targets: Iterable[Target],
    scopes: Mapping[str, Scope],
    observations: Mapping[Key, Observation],
    now: datetime,
    requested: Collection[str] = (),
) -> Plan:
    """Return the plan: one action for each target.

    `scopes` are the enumerated ones by id, `requested` the ids that were requested by name: their not-before times are
    ignored.
    """
    # A generator: a list in addition to the sorted one would hold another 100,000 references at the peak.
    actions = (
        decide(
            target,
            scopes.get(target.key.scope),
            observations.get(target.key, NOT_LOOKED_AT),
            now,
            requested=target.key.scope in requested,
        )
        for target in targets
    )
    return assemble(actions)


def assemble(actions: Iterable[Action]) -> Plan:
    """Return the plan of these actions: sorted, hashed, and with writes held back whose needs are not met."""
    held = hold_dependants(sorted(actions, key=_order))
    return Plan(tuple(held), _digest(held))


def _digest(actions: Iterable[Action]) -> str:
    digest = sha256()
    for action in actions:
        key = action.target.key
        parts = (key.scope, key.kind, key.name, action.verb.value, action.reason, *action.changes)
        digest.update("\x1f".join(parts).encode() + b"\x1e")
    return digest.hexdigest()


def _order(action: Action) -> Key:
    return action.target.key


def hold_dependants(actions: list[Action]) -> list[Action]:
    """Return the actions, in the same order, with every write held back whose needs will not be met.

    Needs may have needs of their own: they are processed stage by stage, so that the original reason is kept.
    """
    writes = [place for place, action in enumerate(actions) if action.verb in WRITES and action.target.needs]
    needed = {need for place in writes for need in actions[place].target.needs}
    holders = {action.target.key: action for action in actions if action.target.key in needed}
    for place in sorted(writes, key=lambda place: actions[place].target.kind.stage):
        action = actions[place]
        for need in action.target.needs:
            holder = holders.get(need)
            if holder is None or holder.verb not in (Verb.MANUAL, Verb.BLOCK, Verb.DEFER):
                continue
            verb = Verb.DEFER if holder.verb is Verb.DEFER else Verb.BLOCK
            detail = f"rests on {need}: {holder.detail or holder.reason}"
            remedy = holder.remedy or (" ".join(holder.manual_step.steps) if holder.manual_step else "")
            actions[place] = msgspec.structs.replace(action, verb=verb, reason=RESTS_ON, detail=detail, remedy=remedy)
            if action.key in holders:
                holders[action.key] = actions[place]
            break
    return actions
