"""The engine's vocabulary, as frozen data.

A *scope* (an account, a subscription, a billing account) must have *targets*; looking at a target gives an
*observation*; comparing both gives an *action*; the sorted actions are the *plan*; carrying one out gives its
*outcome*.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from shared.periods import Period
from shared.target_state import TargetState

# The empty mapping that all objects without fields share: one dictionary each would cost megabytes.
_NOTHING: Mapping[str, Any] = MappingProxyType({})

FORGET_AFTER = timedelta(days=90)  # a target that was part of no run for this long is forgotten


class Key(NamedTuple):
    """Identifies a target: its scope, its kind and its exact name."""

    scope: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.scope}/{self.kind}/{self.name}"


class Stage(IntEnum):
    """The order of writes in a run: earlier stages create what later ones rest on."""

    DESTINATION = 1
    EXPORT = 2
    DERIVED = 3


class ScopeState(StrEnum):
    """Whether a scope takes part; only ACTIVE scopes get writes."""

    ACTIVE = "active"
    INACTIVE = "inactive"


class Scope(msgspec.Struct, frozen=True, gc=False):
    """One account, subscription, billing profile or billing account.

    `reason` says why a scope is INACTIVE (for example ``SUSPENDED``); `traits` holds further attributes that the
    cloud's targets depend on. `counted` is false for a scope that only holds what others rest on (a project, the
    subscription of a storage account): it has targets but is in no count of scopes. `restorable` is how long after it
    became INACTIVE a person can restore it, if the cloud has such a limit. `labels` are for people only, such as tags;
    None if this run did not read them.
    """

    id: str
    name: str = ""
    state: ScopeState = ScopeState.ACTIVE
    reason: str = ""
    traits: Mapping[str, str] = _NOTHING
    counted: bool = True
    restorable: timedelta | None = None
    labels: Mapping[str, str] | None = None


class Problem(msgspec.Struct, frozen=True, gc=False):
    """Something that went wrong without ending the run, with its remedy."""

    code: str
    message: str
    remedy: str = ""
    scope: str = ""


class Enumeration(msgspec.Struct, frozen=True, gc=False):
    """The scopes that the cloud listed.

    `owner` is the organization, tenant, account or parent they all belong to; `formerly` are other names under which
    the same owner's state may have been stored. `complete` is true only if every page of every listing was read: an
    incomplete enumeration never makes the state forget a scope. `problems` says why it is not complete; an enumeration
    that was limited to requested scopes is incomplete without a problem.
    """

    owner: str
    scopes: tuple[Scope, ...]
    complete: bool = True
    problems: tuple[Problem, ...] = ()
    formerly: tuple[str, ...] = ()


class ManualStep(msgspec.Struct, frozen=True, gc=False):
    """A step that only a person can take: what is wrong, the exact steps, and a link (may be empty).

    `before` is the time, if known, after which data is lost permanently.
    """

    what: str
    steps: tuple[str, ...] = ()
    url: str = ""
    before: datetime | None = None


class EscalationPolicy(msgspec.Struct, frozen=True, gc=False):
    """How long a condition is tolerated before it is reported as a manual step.

    It is exhausted after the duration `longest` since the wait began or after `tries` attempts, whichever comes first;
    with neither, never.
    """

    longest: timedelta | None = None
    tries: int | None = None

    def exhausted(self, waited: timedelta, attempts: int) -> bool:
        return (self.longest is not None and waited >= self.longest) or (
            self.tries is not None and attempts >= self.tries
        )


class Kind(msgspec.Struct, frozen=True, gc=False):
    """How all targets of one kind are handled.

    `writable`: the function may create and repair it; otherwise a missing or drifted target is reported with its manual
    step. `grace`: the normal time from an accepted creation until the target is visible. `batch_size`: how many actions
    one `Provider.apply` call may take. `only_to_write`: other targets need it only for their creation or repair; once
    they exist, they work without it. `forget_after`: how long the state of something that is no longer a target is kept
    after its last run.
    """

    name: str
    stage: Stage
    writable: bool = True
    grace: timedelta = timedelta(0)
    batch_size: int = 1
    only_to_write: bool = False
    forget_after: timedelta = FORGET_AFTER


class Target(msgspec.Struct, frozen=True, gc=False):
    """One thing that must exist.

    `desired` maps each managed field to its value in normal form: only these are compared. `needs` are targets of
    earlier stages that a write requires. `rests_on` are targets, mostly of other scopes, that deliver or hold the data
    of this target's scope (an organization's one export, a dataset): a scope is never better than what its targets need
    or rest on. `skip` says why it does not apply to this scope. `rhythm` is set if the target delivers data: the
    longest time between two deliveries, by the cloud's documentation. `manual_step` is the step to report if the kind
    is not writable. Actions of equal kind, verb and `batch` may share one call. `state` is what earlier runs recorded
    about it; the engine sets it before the observation.
    """

    key: Key
    kind: Kind
    desired: Mapping[str, Any] = _NOTHING
    needs: tuple[Key, ...] = ()
    skip: str = ""
    manual_step: ManualStep | None = None
    batch: str = ""
    rests_on: tuple[Key, ...] = ()
    rhythm: timedelta | None = None
    state: TargetState | None = None


class Health(StrEnum):
    """What the cloud reports about a target that exists."""

    HEALTHY = "healthy"
    PENDING = "pending"  # accepted, and within its normal time
    BROKEN = "broken"  # the function can repair it
    WAITING = "waiting"  # recovers on its own, or has to be tried later
    MANUAL = "manual"  # only a person can repair it
    INACTIVE = "inactive"  # the cloud refuses it for this scope permanently: the scope is excluded
    NOT_NEEDED = "not-needed"  # not needed at present; does not affect the scope


class Ownership(StrEnum):
    """Who owns a resource with our name. UNMARKED ones that match exactly are adopted, FOREIGN ones are left alone."""

    OURS = "ours"
    UNMARKED = "unmarked"
    FOREIGN = "foreign"


class Present(msgspec.Struct, frozen=True, gc=False):
    """It exists.

    `actual` holds the managed fields in the same normal form as `Target.desired`. `verified` is false if only delivered
    data shows that it works and its configuration was not read. `code` and `detail` give the reason for the health.
    `facts` are remembered with the target (ids, allowed types, …), never compared. `retry_after` is how long an
    INACTIVE target is left alone. `first_data` is true for a PENDING target that only awaits its first delivery: its
    scope is covered, and counted among those that await data. `silent_after` is how long after the last delivery the
    next one is overdue, if the adapter knows that better than `shared.staleness`. `ends` is when it expires, if that is
    known and soon.

    `periods` describes the data that this target delivered, by month (``2026-01``) or by day (``2026-01-05``), as far
    as a listing of this run shows it. A period that is left out was not looked at; one that holds nothing, or nothing
    anymore, is `shared.periods.EMPTY`. The ledger keeps them by scope and target name.
    """

    actual: Mapping[str, Any] = _NOTHING
    health: Health = Health.HEALTHY
    ownership: Ownership = Ownership.OURS
    verified: bool = True
    code: str = ""
    detail: str = ""
    manual_step: ManualStep | None = None
    escalation: EscalationPolicy | None = None
    delivered_at: datetime | None = None
    retry_after: timedelta | None = None
    facts: Mapping[str, Any] = _NOTHING
    first_data: bool = False
    silent_after: timedelta | None = None
    periods: Mapping[str, Period] = _NOTHING
    ends: datetime | None = None


BESIDE = "others-exist"  # the code of an Absent beside which exports of others have the same data


def why_not_used(name: str, desired: Mapping[str, Any], actual: Mapping[str, Any], place: str) -> str:
    """Return that an export of others, which delivers to a place, stays, and in which fields it differs from ours."""
    differs = ", ".join(["name", *(field for field, value in desired.items() if actual[field] != value)])
    return f"{name} stays, and is not used: it differs in {differs}, and delivers to {place}"


class Absent(msgspec.Struct, frozen=True, gc=False):
    """It is proven not to exist.

    `proof` names the independent reads that agree (``("list",)``, ``("list", "get")``): within the grace after a
    creation, one read is not enough, but two are. `manual_step` is the step to report if only a person can create it.
    """

    proof: tuple[str, ...] = ("list",)
    detail: str = ""
    manual_step: ManualStep | None = None
    code: str = "absent"


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """It could not be observed, so nothing may be concluded or written.

    `retry_after` is how long to leave it alone. When `escalation` is exhausted and there is a `manual_step`, the step
    is reported. `remedy` is the remedy if there is no such step.
    """

    code: str
    detail: str = ""
    manual_step: ManualStep | None = None
    escalation: EscalationPolicy | None = None
    retry_after: timedelta | None = None
    remedy: str = ""


Observation = Present | Absent | Unknown

NOT_LOOKED_AT = Unknown("not-looked-at", "outside this run's call budget")


class Verb(StrEnum):
    """What a run does about a target. Only CREATE, REPAIR and ADOPT write."""

    KEEP = "KEEP"
    CREATE = "CREATE"
    REPAIR = "REPAIR"
    ADOPT = "ADOPT"
    SKIP = "SKIP"
    DEFER = "DEFER"
    BLOCK = "BLOCK"
    MANUAL = "MANUAL"


WRITES = frozenset({Verb.CREATE, Verb.REPAIR, Verb.ADOPT})
PENDING, OVERDUE, RESTS_ON = "pending", "overdue", "rests-on"  # reasons that the engine itself gives to actions


class Action(msgspec.Struct, frozen=True, gc=False):
    """A verb for a target, with its reason.

    `reason` is a constant code, `detail` a sentence for people (not part of the plan's hash), `changes` the managed
    fields that differ. `manual_step` is set on MANUAL. `waits`: held back by the not-before time of an earlier run.
    `remedy`: the remedy if it has to be reported.
    """

    target: Target
    verb: Verb
    reason: str
    detail: str = ""
    changes: tuple[str, ...] = ()
    observation: Observation = NOT_LOOKED_AT
    manual_step: ManualStep | None = None
    waits: bool = False
    remedy: str = ""

    @property
    def key(self) -> Key:
        return self.target.key


class Result(StrEnum):
    """What became of an action."""

    DONE = "done"
    PENDING = "pending"
    UNCHANGED = "unchanged"
    PLANNED = "planned"  # a dry run would write it
    SKIPPED = "skipped"
    EXCLUDED = "excluded"  # the cloud refuses it for this scope
    DEFERRED = "deferred"
    BLOCKED = "blocked"
    MANUAL = "manual"
    FAILED = "failed"


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of one action; there are as many outcomes as actions.

    `retry_after` is the wait that the cloud requested, if any. `attempted` is false if nothing was tried. `duration_ms`
    is the duration of the call, which the actions of a batch share.
    """

    action: Action
    result: Result
    code: str = ""
    message: str = ""
    remedy: str = ""
    manual_step: ManualStep | None = None
    retry_after: timedelta | None = None
    attempted: bool = False
    duration_ms: int | None = None
    facts: Mapping[str, Any] = _NOTHING

    @property
    def key(self) -> Key:
        return self.action.target.key


CLASSES = ("covered", "pending", "deferred", "manual", "failed", "excluded")  # of scopes, see `shared.coverage`
DELIVERING, AWAITING = "delivering", "awaiting"  # what is known about a scope's data


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """The class of one scope, the code of the outcome that decided it, and DELIVERING, AWAITING or ""."""

    coverage: str
    code: str = ""
    data: str = ""
