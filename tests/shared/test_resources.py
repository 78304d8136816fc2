"""The registry: each target goes to the resource of its kind, in order, and one failure stays with its own targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from shared.errors import CloudError, OutOfTime, Permanent, Transient
from shared.model import Absent, Action, Key, Kind, Observation, Present, Stage, Target, Unknown, Verb
from shared.provider import Applied
from shared.resources import BulkOnly, ReadOnly, Registry, one_by_one

BUCKET, POLICY, EXPORT = (
    Kind("bucket", Stage.DESTINATION),
    Kind("policy", Stage.DESTINATION),
    Kind("export", Stage.EXPORT),
)


def target(kind: Kind, scope: str = "a") -> Target:
    """Return a target of the kind."""
    return Target(Key(scope, kind.name, "x"), kind, {})


def action(kind: Kind) -> Action:
    """Return the creation of a target of the kind."""
    return Action(target(kind), Verb.CREATE, "absent")


class Recorder:
    """A resource that notes its calls in a list that several share."""

    def __init__(self, calls: list[str], *kinds: Kind, error: CloudError | None = None) -> None:
        self.kinds = kinds
        self._calls = calls
        self._error = error

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        self._calls.append(" ".join(sorted(one.kind.name for one in targets)))
        if self._error is not None:
            raise self._error
        return {one.key: Present() for one in targets}

    def observe(self, one: Target) -> Observation:
        return Absent((one.kind.name,))

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        return [Applied(message=self.kinds[0].name) for _ in actions]


def test_bulk_observation_asks_each_resource_for_its_own_targets_in_order() -> None:
    """The order of the registry is the order of observation."""
    calls: list[str] = []
    registry = Registry([Recorder(calls, BUCKET, POLICY), Recorder(calls, EXPORT)], lambda: calls.append("beat"))
    seen = registry.observe_bulk([target(EXPORT), target(POLICY), target(BUCKET)])
    assert calls == ["bucket policy", "beat", "export", "beat"]
    assert set(seen) == {target(kind).key for kind in (BUCKET, POLICY, EXPORT)}


def test_resource_without_targets_is_not_asked() -> None:
    """A run that is limited to some scopes makes no call for the rest."""
    calls: list[str] = []
    Registry([Recorder(calls, BUCKET), Recorder(calls, EXPORT)], lambda: None).observe_bulk([target(EXPORT)])
    assert calls == ["export"]


def test_failure_of_one_resource_leaves_the_others_alone() -> None:
    """Its own targets are Unknown; nothing is concluded from it about the others."""
    failing = Recorder([], BUCKET, error=Transient("timeout", "no answer"))
    seen = Registry([failing, Recorder([], EXPORT)], lambda: None).observe_bulk([target(BUCKET), target(EXPORT)])
    unknown = seen[target(BUCKET).key]
    assert isinstance(unknown, Unknown)
    assert unknown.code == "timeout"
    assert seen[target(EXPORT).key] == Present()


def test_deadline_ends_the_whole_observation() -> None:
    """Nothing that was not observed may count as Unknown."""
    late = Recorder([], BUCKET, error=OutOfTime("the deadline is near"))
    with pytest.raises(OutOfTime):
        Registry([late, Recorder([], EXPORT)], lambda: None).observe_bulk([target(BUCKET), target(EXPORT)])


def test_single_reads_and_writes_go_to_the_resource_of_the_kind() -> None:
    """The kind of the target decides."""
    registry = Registry([Recorder([], BUCKET), Recorder([], EXPORT)], lambda: None)
    assert registry.observe(target(EXPORT)) == Absent(("export",))
    assert registry.apply([action(EXPORT)]) == [Applied(message="export")]


def test_two_resources_of_one_kind_are_a_defect() -> None:
    """Otherwise one of them would silently never be asked."""
    with pytest.raises(ValueError, match="two resources claim the kind 'bucket'"):
        Registry([Recorder([], BUCKET), Recorder([], EXPORT, BUCKET)], lambda: None)


def test_read_only_resource_refuses_every_write() -> None:
    """The answer names the kind and says that it is a defect."""
    (answer,) = ReadOnly().apply([action(POLICY)])
    assert isinstance(answer, Permanent)
    assert (answer.code, answer.message) == ("not-writable", "policy is not written by the function")


def test_bulk_only_resource_observes_one_target_as_it_observes_many() -> None:
    """A single read gives what the bulk observation of that target alone gives."""

    class Listed(BulkOnly):
        def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
            return {one.key: Absent((str(len(targets)),)) for one in targets}

    assert Listed().observe(target(BUCKET)) == Absent(("1",))


def test_kind_that_is_not_writable_is_refused_for_a_resource_that_writes_others() -> None:
    """The resource is not asked: what it does for its other kinds does not matter."""
    observed = Kind("observed", Stage.DESTINATION, writable=False)
    registry = Registry([Recorder([], EXPORT, observed)], lambda: None)
    (answer,) = registry.apply([action(observed)])
    assert isinstance(answer, Permanent)
    assert answer.code == "not-writable"
    assert registry.apply([action(EXPORT)]) == [Applied(message="export")]


def test_each_write_has_its_own_answer() -> None:
    """A refused write does not keep the others from being written."""
    error = Transient("timeout", "no answer")

    def write(one: Action) -> Applied:
        if one.target.kind == BUCKET:
            raise error
        return Applied()

    assert one_by_one(write, [action(BUCKET), action(EXPORT)]) == [error, Applied()]
