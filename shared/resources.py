"""A cloud's resources, and the registry that combines them into a provider."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from shared.errors import CloudError, OutOfTime, Permanent
from shared.model import Action, Key, Kind, Observation, Target
from shared.observe import as_observation
from shared.provider import Applied


class Resource(Protocol):
    """One kind of real thing of a cloud, such as its exports or its bucket: how its targets are observed and written.

    `kinds` are the kinds of its targets; no other resource has them. The methods have the contracts of
    `shared.provider.Provider`, for targets of these kinds only.
    """

    @property
    def kinds(self) -> tuple[Kind, ...]: ...

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Observe many targets at once; leave out those that need a single read."""
        ...

    def observe(self, target: Target) -> Observation:
        """Read one target from the control plane. Called from several threads at once."""
        ...

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Apply actions of one kind and verb; return one answer for each, in order."""
        ...


class ReadOnly:
    """The base of a resource that the function never writes: problems are reported with their manual steps."""

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Refuse every action: the planner creates none for a kind that is not writable."""
        return [not_writable(action) for action in actions]


class BulkOnly(ABC):
    """The base of a resource whose bulk observation reads everything about a target."""

    @abstractmethod
    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Observe many targets at once, leaving out none."""

    def observe(self, target: Target) -> Observation:
        """Observe one target in the same way as many. Raises CloudError, RunStopped."""
        return self.observe_bulk((target,))[target.key]


class Registry:
    """The resources of one cloud, in the order of observation: a later one may use what an earlier one saw.

    `heartbeat` is called after each of them, so that a long run keeps its state saved. Raises ValueError if two
    resources claim one kind.
    """

    def __init__(self, resources: Sequence[Resource], heartbeat: Callable[[], None]) -> None:
        self._resources = tuple(resources)
        self._heartbeat = heartbeat
        self._by_kind: dict[str, Resource] = {}
        for resource in self._resources:
            for kind in resource.kinds:
                if self._by_kind.setdefault(kind.name, resource) is not resource:
                    raise ValueError(f"two resources claim the kind {kind.name!r}")

    def observe_bulk(self, targets: Sequence[Target]) -> dict[Key, Observation]:
        """Observe the targets in bulk, resource by resource.

        A resource that fails gives Unknown for its own targets and does not affect the others. Raises OutOfTime when
        the deadline is near, and RunStopped.
        """
        seen: dict[Key, Observation] = {}
        for resource in self._resources:
            names = {kind.name for kind in resource.kinds}
            own = [target for target in targets if target.kind.name in names]
            if not own:
                continue
            try:
                seen.update(resource.observe_bulk(own))
            except OutOfTime:
                raise
            except CloudError as error:
                seen.update(dict.fromkeys((target.key for target in own), as_observation(error)))
            self._heartbeat()
        return seen

    def observe(self, target: Target) -> Observation:
        """Read one target. Raises CloudError, RunStopped."""
        return self._by_kind[target.kind.name].observe(target)

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Apply actions of one kind. Raises CloudError, which applies to all of them.

        Actions of a kind that is not writable are refused here, since a resource may have both sorts of kinds.
        """
        kind = actions[0].target.kind
        return self._by_kind[kind.name].apply(actions) if kind.writable else [not_writable(one) for one in actions]


def one_by_one(write: Callable[[Action], Applied], actions: Sequence[Action]) -> list[Applied | CloudError]:
    """Apply the actions one by one; each error is the answer of its own action."""
    answers: list[Applied | CloudError] = []
    for action in actions:
        try:
            answers.append(write(action))
        except CloudError as error:
            answers.append(error)
    return answers


def not_writable(action: Action) -> Permanent:
    """Return the answer to an action that the planner must not create."""
    what = f"{action.target.kind.name} is not written by the function"
    return Permanent("not-writable", what, "This is a defect of the function: report it with this message.")
