"""What must hold after each run and after each day, whatever happened."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from shared.deliveries.document import Current, DeliveryDocument, File, Series, current_name, delta_between
from shared.model import CLASSES, Key, Ownership, ScopeState
from shared.reconcile import RunResult
from shared.state.decoding import CorruptState, parse
from shared.state.document import RUNS_KEPT, StateDocument
from tests.inmemory import OWNER_SCOPE
from tests.simulation.profiles import COPIED_DAYS, RHYTHM, copy_key
from tests.simulation.world import FAR_AGO

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

ENTRIES = 3 + COPIED_DAYS + 8  # of a scope: its targets, and the copies that are not forgotten yet
ENTRY_BYTES, SCOPE_BYTES, BASE_BYTES = 1600, 600, 40_000  # the most that each takes in the state
RUN_S = 600.0  # the longest that a run takes
RUN = timedelta(seconds=RUN_S)
DRY_RUNS = 4  # on one of so many calm days, a dry run shows that nothing is planned


class ChainSeen(msgspec.Struct):
    """How far the documents of a series were checked; `owed` are those that have not been seen published."""

    sequence: int
    id: str
    files: tuple[File, ...]
    owed: tuple[str, ...] = ()


def check_result(simulation: Simulation, result: RunResult) -> None:
    """Check one run's report: the classes add up, and everything that is wrong has a remedy."""
    world, report = simulation.world, result.report
    scopes = report["scopes"]
    if sum(scopes[name] for name in CLASSES) != scopes["active"]:
        world.violate("sum", f"the classes of {scopes} do not add up to the active ones")
    for one in report["failures"]:
        if not one["remedy"].strip():
            world.violate("remedy", f"the failure {one} has no remedy")
        if one["code"] in ("internal-error", "unexpected"):
            world.violate("defect", one["message"])
    for one in report["manual"]:
        if not one["steps"] or not all(one["steps"]):
            world.violate("remedy", f"the manual step {one} has no steps")
    if result.plan is not None and result.outcomes and len(result.outcomes) != len(result.plan.actions):
        world.violate("outcomes", f"{len(result.plan.actions)} actions have {len(result.outcomes)} outcomes")


def check_forgotten(simulation: Simulation, scope: str) -> None:
    """Check that a scope that a run declares gone has really left, as far as the cloud said so."""
    world = simulation.world
    told_short = world.listed_short_at > simulation.timeline.elapsed - world.bound_s
    # A run that listed it as closed a moment ago may still say so.
    joined_now = world.joined_at.get(scope, 0.0) > simulation.timeline.elapsed - RUN_S
    if scope in world.active() and not told_short and not joined_now:
        world.violate("forgotten", f"{scope} is active, and a run declares it gone")


def check_day(simulation: Simulation) -> None:
    """Check the world, the state and the deliveries at the end of a day."""
    _check_customer(simulation)
    _check_documents(simulation)
    document = _check_state(simulation)
    if document is not None and simulation.result is not None:
        for scope in simulation.world.active():
            _check_scope(simulation, scope, document, simulation.result.report)
        _check_converged(simulation)
        _check_silence(simulation, simulation.result.report["deliveries"])


def _check_customer(simulation: Simulation) -> None:
    """Nothing of the customer's is deleted or overwritten."""
    world = simulation.world
    for key, fields in world.foreign.items():
        thing = world.things.get(key)
        if thing is None or thing.fields != fields or thing.ownership is not Ownership.FOREIGN:
            world.violate("foreign", f"{key} is the customer's and is now {thing and thing.fields}")


def _check_state(simulation: Simulation) -> StateDocument | None:
    """The state is readable and bounded, and the runs forget nobody."""
    world, data = simulation.world, simulation.state.data
    if data is None:
        return None
    try:
        document = parse(data, "memory", simulation.timeline.now())
    except CorruptState:
        return None  # a step of today did it, and no run came after it
    entries = [len(one.targets) for one in document.scopes.values()]
    limit = BASE_BYTES + SCOPE_BYTES * len(entries) + ENTRY_BYTES * sum(entries)
    if len(data) > limit:
        world.violate("bounded", f"the state has {len(data)} bytes, more than {limit} for {sum(entries)} targets")
    if max(entries, default=0) > ENTRIES + 2 * simulation.setup.scopes or len(document.runs) > RUNS_KEPT:
        world.violate("bounded", f"a scope has {max(entries)} entries, the history {len(document.runs)} runs")
    kept = list(simulation.state.aside.values())
    if len(kept) > len(set(kept)):
        world.violate("bounded", f"{len(kept)} copies of {len(set(kept))} damaged documents are kept")
    if not simulation.state.damaged.issuperset(kept):
        world.violate("bounded", "a document that was not damaged is kept as a damaged one")
    return document


def _check_scope(simulation: Simulation, scope: str, document: StateDocument, report: Mapping[str, Any]) -> None:
    world = simulation.world
    if not world.is_calm(scope):
        return
    known = document.scopes.get(scope)
    if known is None or known.gone_at is not None or known.state != ScopeState.ACTIVE.value:
        world.violate("forgotten", f"{scope} is active, and the state says {known and known.state!r} of it")
        return
    missing, reasons = _missing(simulation, scope), world.standing(scope)
    if _is_refused(report):
        return  # the guard waits for a person, and says so
    if not reasons:
        if missing:
            world.violate("covered", f"{scope} lacks {missing[0]} with no reason, and is said to be {known.coverage}")
        elif known.coverage != "covered":
            world.violate("reported", f"{scope} has everything, and is said to be {known.coverage}")
    elif missing:
        if known.coverage in ("covered", "pending"):
            world.violate("reported", f"{scope} lacks {missing[0]} ({reasons[0]}), and is said to be {known.coverage}")
        elif not _is_explained(scope, known.coverage, report):
            world.violate("reason", f"{scope} is {known.coverage} ({reasons[0]}), and the report does not say why")


def _check_silence(simulation: Simulation, reported: Mapping[str, int]) -> None:
    """A run reports the exports that deliver nothing for too long, and no others."""
    world, settings = simulation.world, simulation.settings
    active = world.active()
    # Also of the scopes that have left: a run may count one that has just gone.
    if not all(map(world.is_calm, world.scopes)) or any(map(world.standing, active)):
        return
    seen_at = simulation.timeline.start + timedelta(seconds=simulation.result_at)
    exports = {world.profile.export(scope) for scope in active}
    quiet = [seen_at - at for key in exports if (at := world.delivered_at.get(key)) is not None]
    overdue = sum(one > timedelta(hours=settings.stale_max_hours) + RUN for one in quiet)
    late, missing = reported["late"], reported["missing"]
    if late + missing < overdue:
        world.violate("silence", f"{overdue} exports are silent for too long, and a run reports {late} and {missing}")
    # An export that has delivered since the run may have been late before.
    if late > sum(not timedelta() <= one <= RHYTHM - RUN for one in quiet):
        world.violate("silence", f"a run reports that {late} exports are late, and the silence of all is {quiet}")


def _missing(simulation: Simulation, scope: str) -> list[Key]:
    """Return what a scope lacks and has had time to get."""
    world = simulation.world
    since = simulation.timeline.elapsed - world.bound_s

    def is_new(key: Key) -> bool:
        day = key.name.partition("/")[2]
        return key.kind == "copy" and world.rows_at.get((scope, day), 0.0) > since

    return [key for key in world.wanted(scope) if not world.is_right(key) and not is_new(key)]


def _is_refused(report: Mapping[str, Any]) -> bool:
    return any(one["code"] == "vanished" for one in report["failures"])


def _is_explained(scope: str, coverage: str, report: Mapping[str, Any]) -> bool:
    """Return whether the report says of a scope, or of what it rests on, why it is not covered."""
    if coverage == "excluded":
        return any(one["reason"] for one in report["excluded"])
    named = {one["scope"] for one in (*report["manual"], *report["failures"])}
    return not named.isdisjoint({scope, OWNER_SCOPE, ""})


def _check_converged(simulation: Simulation) -> None:
    """A world that is right needs no write, and its deliveries are all announced."""
    world = simulation.world
    active = world.active()
    calm = all(world.is_calm(scope) and not world.standing(scope) for scope in active)
    if not calm or not active or (simulation.result and _is_refused(simulation.result.report)):
        return
    if simulation.runs % DRY_RUNS == 0:
        planned = simulation.dry_run()
        writes = [one for one in planned.plan.writes() if one.key.kind != "copy"] if planned and planned.plan else []
        # A step may have happened while the run looked.
        if writes and world.is_calm(writes[0].key.scope):
            world.violate("plans", f"everything is right, and a run plans {writes[0].verb} of {writes[0].key}")
    for scope in active:
        _check_announced(simulation, scope)


def _check_announced(simulation: Simulation, scope: str) -> None:
    """What a listing shows of a scope's data is announced as it is, and published."""
    world = simulation.world
    since = simulation.timeline.elapsed - world.bound_s
    keys = [copy_key(scope, day) for day in world.copied_days(scope)] or [world.profile.export(scope)]
    for key in keys:
        for period in world.listed(key):
            series = Series(key.scope, "actual", period)
            at = max(world.data_at.get(series, 0.0), world.incomplete.get(series, 0.0))
            found = world.data[series]
            if at > since or world.lost_documents_at >= at:
                continue
            if not found.files and world.ledger_lost_at > FAR_AGO:
                continue  # a ledger that was lost does not know that there was data, which is gone now
            newest = _current(simulation, series).newest
            if (newest.data.files if newest else ()) != found.files:
                world.violate("announced", f"{series.path} was delivered, and its newest document says something else")
                continue
            chain, accepted = simulation.chains.get(series), simulation.topic.accepted[series.path]
            if chain is not None and chain.owed:
                lost = set(chain.owed).difference(one.id for one in accepted)
                if lost:
                    world.violate("announced", f"{len(lost)} documents of {series.path} were never published")
                chain.owed = ()


def _current(simulation: Simulation, series: Series) -> Current:
    try:
        return msgspec.json.decode(simulation.documents.documents.get(current_name(series), b"{}"), type=Current)
    except msgspec.MsgspecError:
        return Current()


def _check_documents(simulation: Simulation) -> None:
    """Each document follows the one before and says what changed, none is written again, and topics keep the order."""
    world, documents = simulation.world, simulation.documents
    for name in documents.overwritten:
        world.violate("chain", f"{name} was written again")
    documents.overwritten.clear()
    for series in sorted(world.touched):
        newest = _current(simulation, series).newest
        seen = simulation.chains.get(series)
        if newest is None or (seen is not None and seen.sequence == newest.data.sequence):
            continue
        for document in _since(simulation, newest, seen):
            seen = _follow(simulation, seen, document)
        if seen is not None:
            simulation.chains[series] = seen
    world.touched.clear()


def _since(simulation: Simulation, newest: DeliveryDocument, seen: ChainSeen | None) -> list[DeliveryDocument]:
    """Return the documents of a chain after the last one that was checked, oldest first.

    Only those that are named: numbers in between may have been taken by a chain that was lost.
    """
    found = [newest]
    previous = newest.data.previous
    while seen is not None and previous is not None and previous.id != seen.id:
        data = simulation.documents.documents.get(previous.document)
        if data is None:
            break
        found.append(msgspec.json.decode(data, type=DeliveryDocument))
        previous = found[-1].data.previous
    return found[::-1]


def _follow(simulation: Simulation, seen: ChainSeen | None, document: DeliveryDocument) -> ChainSeen:
    data = document.data
    if seen is not None:
        before = data.previous.id if data.previous else None
        if before != seen.id:
            simulation.world.violate("chain", f"{data.document} follows {before}, and the last one was {seen.id}")
        elif data.delta != delta_between(seen.files, data.files):
            simulation.world.violate("chain", f"the delta of {data.document} does not lead to its files")
    return ChainSeen(data.sequence, document.id, data.files, (*(seen.owed if seen else ()), document.id))
