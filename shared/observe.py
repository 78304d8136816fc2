"""Observes targets: delivered data and bulk listings first, then single reads within the run's call budget."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from shared.errors import (
    CloudError,
    Denied,
    Manual,
    NotApplicable,
    OutOfTime,
    RunStopped,
    Transient,
    clean,
    clean_manual_step,
    defect,
    sound_code,
)
from shared.model import EscalationPolicy, Health, Key, ManualStep, Observation, Present, Stage, Target, Unknown
from shared.provider import Provider
from shared.runtime.context import RunContext
from shared.runtime.pool import each
from shared.state.document import StateDocument
from shared.state.update import begin_round
from shared.target_state import LONG_AGO, TargetState

DENIED_ESCALATION = EscalationPolicy(tries=3)


def observe(
    cloud: Provider,
    targets: Sequence[Target],
    document: StateDocument,
    run: RunContext,
    budget: int,
    requested: Collection[str] = (),
    note_periods: Callable[[Mapping[Key, Observation]], None] = lambda _: None,
) -> dict[Key, Observation]:
    """Return the observations of this run by target key; targets that were not observed are left out.

    `budget` bounds the single reads (0: no bound); `requested` are the scopes that were requested by id. `note_periods`
    is called with what the listings showed of targets that a single read does not show: their data lies there even if
    the target is gone, or if reading it is refused. Raises RunStopped if nothing can be believed anymore. Every other
    failure makes the targets that it concerns Unknown, except when time is up: those targets count as not observed.
    """
    try:
        seen = {key: without_secrets(one) for key, one in cloud.observe_bulk(targets).items()}
    except OutOfTime:
        run.cut_short = True
        return {}
    except CloudError as error:
        return dict.fromkeys((target.key for target in targets), without_secrets(as_observation(error)))
    run.heartbeat()
    chosen = choose(targets, seen, document, run.clock.now(), budget, requested)

    def read(target: Target) -> Observation | None:
        try:
            return cloud.observe(target)
        except OutOfTime:
            return None
        except CloudError as error:
            return as_observation(error)
        except RunStopped:
            raise  # not a defect: it ends the run
        except Exception as error:  # noqa: BLE001 - a defect of an adapter must not cost other targets their look
            return as_observation(defect(error))

    read_singly = 0
    hidden: dict[Key, Observation] = {}
    for target, observation in each(chosen, read, run.settings.workers, lambda: run.deadline.allows(0)):
        run.heartbeat()
        if observation is None:
            continue
        read_singly += 1
        observation = without_secrets(observation)
        surveyed = seen.get(target.key)
        if isinstance(surveyed, Present) and not isinstance(observation, Present):
            hidden[target.key] = surveyed
        seen[target.key] = _with_evidence(observation, surveyed, target.state)
        if isinstance(observation, Unknown):
            run.log("warning", "unknown", target.key, code=observation.code, reason=observation.detail)
    note_periods(hidden)
    run.cut_short = read_singly < len(chosen)
    run.log("info", "observed", reason=f"{len(seen)} of {len(targets)} targets, {read_singly} by single reads")
    return seen


def without_secrets(observation: Observation) -> Observation:
    """Return an observation without secrets: its texts may quote the cloud, even for a success."""
    code, detail, manual_step = observation.code, observation.detail, observation.manual_step
    if manual_step is None and not detail and not code:
        return observation  # most of them: a healthy target has no text
    return msgspec.structs.replace(
        observation,
        code=sound_code(code) if code else "",
        detail=clean(detail),
        manual_step=clean_manual_step(manual_step),
    )


def _with_evidence(observation: Observation, surveyed: Observation | None, entry: TargetState | None) -> Observation:
    """Return a single read's observation with the deliveries that the bulk listing showed.

    A read alone counts as a delivery only if it is new. Otherwise the state would record evidence as lost, or as back,
    because a read replaced the bulk observation.
    """
    if not isinstance(observation, Present):
        return observation
    if isinstance(surveyed, Present):
        return msgspec.structs.replace(
            observation,
            delivered_at=observation.delivered_at or surveyed.delivered_at,
            periods={**surveyed.periods, **observation.periods},
        )
    if observation.delivered_at and entry and entry.delivered_at and observation.delivered_at <= entry.delivered_at:
        return msgspec.structs.replace(observation, delivered_at=None)
    return observation


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A target that may be read singly.

    `evident`: this run's listings show its deliveries; `proven`: they also show that it works, since no error is
    recorded; `looked_at`: when it was last read.
    """

    target: Target
    evident: bool
    proven: bool
    looked_at: datetime

    @property
    def by_turn(self) -> tuple[bool, bool, datetime, Key]:
        """Return the sort key within a round: destinations first, then unproven targets, the oldest look first."""
        return (self.target.kind.stage is not Stage.DESTINATION, self.proven, self.looked_at, self.target.key)

    @property
    def by_age(self) -> tuple[datetime, Key]:
        """Return the sort key among the targets that this round has read already: the oldest look first."""
        return (self.looked_at, self.target.key)

    @property
    def just_lost(self) -> bool:
        """Return whether evidence of delivery was lost since the target was last read."""
        state = self.target.state
        # A recorded error is no loss: such targets would otherwise take the whole budget of every run.
        if self.evident or state is None or state.delivered_at is None:
            return False
        return state.unseen_since is None or self.looked_at < state.unseen_since


def choose(
    targets: Sequence[Target],
    seen: Mapping[Key, Observation],
    document: StateDocument,
    now: datetime,
    budget: int,
    requested: Collection[str] = (),
) -> list[Target]:
    """Return the targets to read singly, in order.

    Begins a new round of verification in `document` when the last one is complete. Each round reads every target once:
    destinations first, since others rest on them, then those without fresh evidence, then the others, oldest first. A
    target whose evidence has just been lost is read at once, even if this round has read it already. A target whose
    retry time lies in the future is not read, unless `requested` names its scope.
    """
    candidates = sorted(_candidates(targets, seen, now, requested), key=lambda one: one.by_turn)
    if not budget:
        begin_round(document, now)
        return [one.target for one in candidates]
    # A round begins in the run after the one that completed the last: each has the same order and takes as many runs.
    begun = document.cycle_since
    if begun is None or not any(one.looked_at < begun for one in candidates):
        begun = now
        begin_round(document, now)
    due = [one for one in candidates if one.looked_at < begun or one.just_lost]
    chosen = due[:budget]
    if len(due) < budget:
        due_keys = {one.target.key for one in due}
        rest = sorted((one for one in candidates if one.target.key not in due_keys), key=lambda one: one.by_age)
        chosen += rest[: budget - len(due)]
    return [one.target for one in chosen]


def _candidates(
    targets: Sequence[Target], seen: Mapping[Key, Observation], now: datetime, requested: Collection[str]
) -> Iterator[Candidate]:
    for target in targets:
        found, state = seen.get(target.key), target.state
        if found is not None and not (isinstance(found, Present) and not found.verified):
            continue
        waits = state is not None and state.present is None and state.not_before is not None and state.not_before > now
        if not waits or target.key.scope in requested:
            # Deliveries show that it works, but not that a recorded error is resolved.
            evident = found is not None
            proven = evident and not (state and state.error)
            yield Candidate(target, evident, proven, (state and state.looked_at) or LONG_AGO)


def as_observation(error: CloudError) -> Observation:
    """Return the observation for a failed read: not applicable or Unknown, never Absent."""
    match error:
        case NotApplicable():
            inactive = Present(health=Health.INACTIVE, code=error.code, detail=error.message)
            return msgspec.structs.replace(inactive, retry_after=error.retry_after)
        case Manual():
            return Unknown(error.code, error.message, manual_step=error.manual_step)
        case Denied():
            return Unknown(
                error.code,
                error.message,
                manual_step=error.manual_step,
                escalation=error.escalation,
                remedy=error.remedy,
            )
        case Transient():
            return Unknown(
                error.code, error.message, error.manual_step, error.escalation, error.retry_after, error.remedy
            )
        case _:
            return Unknown(error.code, error.message, remedy=error.remedy)


def as_bulk_observation(error: CloudError, manual_step: ManualStep) -> Observation:
    """Return the observation for a failed read of a bulk listing: never Absent.

    A missing permission is reported as a manual step after three runs: that of the error, else `manual_step`.

    """
    if isinstance(error, Denied):
        return Unknown(
            error.code,
            error.message,
            error.manual_step or manual_step,
            error.escalation or DENIED_ESCALATION,
            remedy=error.remedy,
        )
    seen = as_observation(error)
    # Every run lists in bulk, so a target that does not apply need not be left alone for a week.
    return msgspec.structs.replace(seen, retry_after=None) if isinstance(seen, Present) else seen
