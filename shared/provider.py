"""The port that each cloud implements. A new cloud implements it without any change to the engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from shared.errors import CloudError
from shared.model import Action, Enumeration, Key, Observation, Result, Target
from shared.target_state import TargetState


class Applied(msgspec.Struct, frozen=True):
    """A write that the cloud accepted: DONE if the target exists, PENDING if it is still being created.

    `facts` are remembered with the target, in addition to the known ones.
    """

    result: Result = Result.DONE
    message: str = ""
    facts: Mapping[str, Any] = {}


class KnownStates(Protocol):
    """A read-only view of what earlier runs recorded, from which a provider derives its targets."""

    def state_of(self, key: Key) -> TargetState | None:
        """Return what is known about a target, or None."""
        ...

    def states_of(self, kind: str) -> Iterator[tuple[Key, TargetState]]:
        """Yield everything that is known about a kind, including what is not a target of this run."""
        ...


class Provider(Protocol):
    """What each cloud implements for the engine.

    Failures are raised as classes of `shared.errors`, the original chained.

    A provider does not know what a dry run is: the engine alone decides whether `apply` is called. What was remembered
    about a target comes with it, in `Target.state`. `facts` gives the type of each remembered fact by name, as a
    msgspec type: a stored fact of another type is dropped.
    """

    name: str
    facts: Mapping[str, Any]

    def enumerate(self, scopes: Sequence[str]) -> Enumeration:
        """List the scopes, every page; only the given ids if there are any and the cloud can list them cheaply.

        Never guesses: a failed listing makes the enumeration incomplete. Raises RunStopped, with the remedy, if nothing
        can be concluded.
        """
        ...

    def targets(self, enumeration: Enumeration, known: KnownStates) -> Sequence[Target]:
        """Return what must exist, as pure data: no call is made.

        Keys are unique; needs are targets of earlier stages. `Target.state` is left to the engine, which sets it.
        """
        ...

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Observe many targets at once by bulk listings: delivered data first, then the control plane's lists.

        A target that the listings do not cover is left out, and may then be observed singly. A failed listing gives
        Unknown for its targets, never Absent.
        """
        ...

    def observe(self, target: Target) -> Observation:
        """Read one target's configuration from the control plane. Called from several threads at once."""
        ...

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Apply the actions: one to `Kind.batch_size` CREATE, REPAIR or ADOPT actions of one kind and verb.

        Returns one answer for each action, in order; a raised CloudError applies to all of them. A name that already
        exists is observed: adopted if it is ours, reported if it is foreign. Called from several threads.
        """
        ...
