"""Evidence first: what delivered data and bulk listings show, then single reads within the run's call budget."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from shared.cloud import Cloud
from shared.errors import CloudError, Denied, Manual, NotApplicable, RunStopped, Transient
from shared.memory import Entry, Memory
from shared.model import Health, Key, Observation, Present, Target, Unknown
from shared.pool import each
from shared.run import Run

LONG_AGO = datetime.min.replace(tzinfo=UTC)


def observe(cloud: Cloud, targets: Sequence[Target], memory: Memory, run: Run, budget: int) -> dict[Key, Observation]:
    """Return what is known of the targets after this run's reads; those that nobody looked at are left out.

    `budget` bounds the single reads (0: no bound). Raises RunStopped where nothing can be believed any more; every
    other failure becomes Unknown for what it would have shown.
    """
    try:
        seen: dict[Key, Observation] = dict(cloud.survey(targets, memory))
    except RunStopped:
        raise
    except CloudError as error:
        return {target.key: as_observation(error) for target in targets}
    run.heartbeat()
    chosen = choose(targets, seen, memory, run.clock.now(), budget)

    def read(target: Target) -> Observation:
        try:
            return cloud.inspect(target, memory)
        except RunStopped:
            raise
        except CloudError as error:
            return as_observation(error)

    for target, observation in each(chosen, read, run.settings.workers, lambda: run.deadline.allows(0)):
        seen[target.key] = observation
        run.heartbeat()
        if isinstance(observation, Unknown):
            run.log("warning", "unknown", target.key, code=observation.code, reason=observation.detail)
    return seen


def choose(
    targets: Sequence[Target], seen: dict[Key, Observation], memory: Memory, now: datetime, budget: int
) -> list[Target]:
    """Return the targets to read singly, in order; begins a new round of verification in `memory` when one is full.

    Each round reads every target once: first those without fresh evidence, oldest first, then the others, oldest
    first. One whose evidence has just been lost is read at once, even if this round has read it already. Nothing is
    read while its first look has to wait.
    """
    candidates = []
    for target in targets:
        found = seen.get(target.key)
        if found is None or (isinstance(found, Present) and not found.verified):
            entry = memory.entry(target.key)
            if entry is None or not (entry.present is None and entry.not_before and entry.not_before > now):
                candidates.append(
                    (found is not None, (entry and entry.looked_at) or LONG_AGO, target.key, target, entry)
                )
    candidates.sort(key=lambda one: one[:3])
    if not budget:
        memory.cycle_since = now
        return [one[3] for one in candidates]
    begun = memory.cycle_since or now
    due = [one for one in candidates if one[1] < begun or _just_lost(one[0], one[4])]
    chosen = due[:budget]
    if len(due) <= budget:
        memory.cycle_since = now
        due_keys = {one[2] for one in due}
        rest = sorted((one for one in candidates if one[2] not in due_keys), key=lambda one: one[1:3])
        chosen += rest[: budget - len(due)]
    return [one[3] for one in chosen]


def _just_lost(has_evidence: bool, entry: Entry | None) -> bool:
    if has_evidence or entry is None or entry.delivered_at is None:
        return False
    return entry.unseen_since is None or (entry.looked_at or LONG_AGO) < entry.unseen_since


def as_observation(error: CloudError) -> Observation:
    """Return what a failed read tells: the thing is not there, does not apply, or is unknown; never more."""
    match error:
        case NotApplicable():
            return Present(health=Health.INACTIVE, verified=False, code=error.code, detail=error.message)
        case Manual():
            return Unknown(error.code, error.message, guide=error.guide)
        case Denied():
            return Unknown(error.code, error.message, guide=error.guide, patience=error.patience)
        case Transient():
            return Unknown(error.code, error.message, error.guide, error.patience, error.retry_after)
        case _:
            return Unknown(error.code, error.message)
