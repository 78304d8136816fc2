"""What can happen in a story: one function for each verb of a step."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.deliveries.document import CURRENT, Series, current_name
from shared.model import Health, Key, Ownership
from shared.periods import month_before, month_of
from shared.state.deliveries import DELIVERIES
from shared.state.store import STATE
from tests.inmemory import OWNER_SCOPE, Thing
from tests.simulation.profiles import STACKSET_KEY, copy_key, role_key
from tests.simulation.story import Step
from tests.simulation.world import Fault

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

WEEK_H = 7 * 24.0
Verb = Callable[..., None]


def apply_step(simulation: Simulation, step: Step) -> None:
    """Let a step happen now. Raises KeyError for an unknown verb."""
    VERBS[step.verb](simulation, *step.words)


def _known(simulation: Simulation, scope: str) -> bool:
    return scope in simulation.world.scopes


def _join(simulation: Simulation, scope: str) -> None:
    simulation.world.join(scope)
    # What a scope had when it left may have been changed elsewhere, and its refusals are remembered for a week.
    simulation.world.disturb(scope, WEEK_H if simulation.world.agreements[scope] == "none" else 0)
    simulation.tell(scope)


def _close(simulation: Simulation, scope: str) -> None:
    if _known(simulation, scope):
        simulation.world.suspend(scope)
        simulation.world.disturb(scope)
        simulation.tell(scope)


def _leave(simulation: Simulation, scope: str) -> None:
    if _known(simulation, scope):
        simulation.world.remove(scope)
        simulation.world.disturb(scope)


def _agreement(simulation: Simulation, scope: str, agreement: str) -> None:
    before = simulation.world.agreements[scope]
    simulation.world.agreements[scope] = agreement
    simulation.world.disturb(scope, WEEK_H if before == "none" else 30 if before == "new" else 0)


def _key(simulation: Simulation, what: str, scope: str) -> Key | None:
    """Return the resource that a step means, None where this cloud has none such."""
    profile = simulation.world.profile
    keys: dict[str, Key | None] = {
        "export": profile.export(scope),
        "role": role_key(scope) if profile.central and scope != OWNER_SCOPE else profile.export(scope),
        "destination": profile.destination,
        "shared": profile.shared,
    }
    days = simulation.world.copied_days(scope)
    keys["copy"] = copy_key(scope, days[-1]) if days else None
    return keys[what]


def _changing(simulation: Simulation, what: str, scope: str) -> Thing | None:
    """Return the resource that is about to change, None where it is not there or is the customer's."""
    key = _key(simulation, what, scope)
    if key is None or key in simulation.world.foreign:
        return None
    simulation.world.disturb(key.scope)
    simulation.tell(key.scope, key.kind)
    return simulation.world.changing(key)


def _delete(simulation: Simulation, what: str, scope: str) -> None:
    if what == "destination":
        _wipe(simulation)
    elif _changing(simulation, what, scope):
        key = _key(simulation, what, scope)
        if key:
            del simulation.world.things[key]


def _delete_all(simulation: Simulation) -> None:
    """Delete everything that the function made, at once: more than the guard lets a run recreate."""
    world = simulation.world
    for key in [one for one in world.things if one != STACKSET_KEY and one not in world.foreign]:
        if key.kind != "export" or not world.profile.by_day:
            world.changing(key)
            del world.things[key]
    _wipe(simulation)


def _alter(simulation: Simulation, what: str, scope: str, field: str, value: str) -> None:
    thing = _changing(simulation, what, scope)
    if thing:
        thing.fields[field] = value


def _health(simulation: Simulation, scope: str, health: str) -> None:
    thing = _changing(simulation, "export", scope)
    if thing:
        thing.health = Health(health)


def _unmark(simulation: Simulation, scope: str) -> None:
    thing = _changing(simulation, "export", scope)
    if thing and not simulation.world.profile.by_day:
        thing.ownership = Ownership.UNMARKED


def _foreign(simulation: Simulation, what: str, scope: str) -> None:
    """Let the customer put a resource of their own where ours has to be."""
    world, key = simulation.world, _key(simulation, what, scope)
    if key is None or key.kind == "copy" or (world.profile.by_day and key.kind == "export"):
        return
    world.changing(key)
    world.disturb(key.scope)
    world.things[key] = Thing({"owner": "customer"}, ownership=Ownership.FOREIGN)
    world.foreign[key] = {"owner": "customer"}


def _reclaim(simulation: Simulation, what: str, scope: str) -> None:
    world, key = simulation.world, _key(simulation, what, scope)
    if key is not None and key in world.foreign:
        del world.foreign[key]
        world.changing(key)
        world.things.pop(key, None)
        world.disturb(key.scope)


def _console(simulation: Simulation, scope: str) -> None:
    """Let a person do the step in the console that only a person can do."""
    key = simulation.world.profile.export(scope)
    if simulation.world.profile.by_day and not simulation.world.is_right(key):
        simulation.world.set_up_table(scope)
        simulation.world.disturb(scope)


def _switch(simulation: Simulation, state: str) -> None:
    if simulation.world.profile.central:
        simulation.world.changing(STACKSET_KEY)
        simulation.world.things[STACKSET_KEY] = Thing({"state": state})
        simulation.world.disturb()


def _wipe(simulation: Simulation) -> None:
    simulation.world.wipe()
    simulation.world.disturb()
    for name in list(simulation.documents.documents):
        simulation.documents.lose(name)
    simulation.world.lost_documents_at = simulation.timeline.elapsed
    simulation.chains.clear()


def _deny(simulation: Simulation, scope: str) -> None:
    simulation.world.denied.add(scope)
    simulation.world.disturb(scope)


def _grant(simulation: Simulation, scope: str) -> None:
    simulation.world.denied.discard(scope)
    simulation.world.granted[scope] = simulation.timeline.elapsed
    simulation.world.disturb(scope, 1)


def _silence(simulation: Simulation, scope: str) -> None:
    simulation.world.silent.setdefault(simulation.world.profile.export(scope).scope, simulation.timeline.elapsed)


def _speak(simulation: Simulation, scope: str) -> None:
    simulation.world.silent.pop(simulation.world.profile.export(scope).scope, None)


def _empty(simulation: Simulation, scope: str, how: str) -> None:
    owner = simulation.world.profile.export(scope).scope
    if how == "on":
        simulation.world.empty.add(owner)
    else:
        simulation.world.empty.discard(owner)


def _restate(simulation: Simulation, scope: str, back: str) -> None:
    """Let the cloud deliver a past period again."""
    world, now = simulation.world, simulation.timeline.now()
    key = world.profile.export(scope)
    if key not in world.things or world.profile.destination not in world.things:
        return
    if world.profile.by_day:
        world.write_rows(scope, now.date() - timedelta(days=1 + int(back)))
    elif key not in world.foreign:
        series = world.write_month(key.scope, month_before(month_of(now)) if int(back) else month_of(now))
        simulation.hear_of([series])


def _lose_data(simulation: Simulation, scope: str, back: str) -> None:
    world, now = simulation.world, simulation.timeline.now()
    if not world.profile.by_day:
        key = world.profile.export(scope)
        month = month_before(month_of(now)) if int(back) else month_of(now)
        world.lose_data(Series(key.scope, key.name, month), key)


def _incomplete(simulation: Simulation, scope: str, hours: str) -> None:
    world = simulation.world
    series = world.profile.series(scope, simulation.timeline.now() - timedelta(days=int(world.profile.by_day)))
    world.incomplete[series] = simulation.timeline.elapsed + float(hours) * 3600


def _fault(simulation: Simulation, operation: str, kind: str, percent: str, hours: str) -> None:
    until = simulation.timeline.elapsed + float(hours) * 3600
    simulation.world.troubles.append(Fault(operation, kind, int(percent) / 100, until))
    simulation.world.disturb(hours=float(hours))


def _stored(document: str, do: str, number: str, simulation: Simulation) -> None:
    simulation.world.disturb()
    simulation.world.stored_at = simulation.timeline.elapsed
    if do == "lose":
        simulation.state.lose(document)
    elif do == "spoil":
        simulation.state.spoil(document, int(number) / 100)
    else:
        simulation.state.roll_back(document, int(number))


def _state(simulation: Simulation, do: str, number: str = "0") -> None:
    _stored(STATE, do, number, simulation)


def _ledger(simulation: Simulation, do: str, number: str = "0") -> None:
    _stored(DELIVERIES, do, number, simulation)
    simulation.world.ledger_lost_at = simulation.timeline.elapsed


def _documents(simulation: Simulation, do: str, scope: str) -> None:
    """Let the newest documents of a scope's deliveries be lost, or be damaged."""
    scope = simulation.world.profile.export(scope).scope
    names = [one for one in simulation.documents.documents if one.startswith(CURRENT) and f"/{scope}/" in one]
    for name in names:
        if do == "lose":
            simulation.documents.lose(name)
        else:
            simulation.documents.spoil(name, 0.5)
    simulation.world.lost_documents_at = simulation.timeline.elapsed
    for series in [one for one in simulation.chains if current_name(one) in names]:
        del simulation.chains[series]


def _kill(simulation: Simulation, number: str, when: str) -> None:
    simulation.kills.append((int(number), when))


def _burst(simulation: Simulation, number: str) -> None:
    simulation.world.disturb()
    simulation.plan_burst(int(number))


def _clock(simulation: Simulation, seconds: str, hours: str) -> None:
    """Let the clocks of the hosts be wrong; they step back later."""
    world = simulation.world
    world.skew = float(seconds)
    # Times that lie a day ahead are believed, and those that lie further ahead are dropped.
    world.disturb(hours=float(hours) + min(abs(world.skew) / 3600, 24) + 24)
    simulation.later(float(hours) * 3600, simulation.set_clock_right)


def _skip(simulation: Simulation, hours: str) -> None:
    simulation.idle_until = simulation.timeline.elapsed + float(hours) * 3600
    simulation.world.disturb(hours=float(hours))


def _force(simulation: Simulation) -> None:
    simulation.world.disturb()
    simulation.later(0, lambda: simulation.invoke(force=True, verify_all=True))


def _invoke(simulation: Simulation, scope: str) -> None:
    if _known(simulation, scope):
        simulation.later(0, lambda: simulation.invoke(scopes=[scope]))


VERBS: dict[str, Verb] = {
    "join": _join,
    "close": _close,
    "leave": _leave,
    "agreement": _agreement,
    "delete": _delete,
    "delete-all": _delete_all,
    "alter": _alter,
    "health": _health,
    "unmark": _unmark,
    "foreign": _foreign,
    "reclaim": _reclaim,
    "console": _console,
    "switch": _switch,
    "deny": _deny,
    "grant": _grant,
    "silence": _silence,
    "speak": _speak,
    "empty": _empty,
    "restate": _restate,
    "lose-data": _lose_data,
    "incomplete": _incomplete,
    "fault": _fault,
    "state": _state,
    "ledger": _ledger,
    "documents": _documents,
    "kill": _kill,
    "burst": _burst,
    "clock": _clock,
    "skip": _skip,
    "force": _force,
    "invoke": _invoke,
}
