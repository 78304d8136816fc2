"""The registry: sends each target to the resource of its kind, and isolates failures."""

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
    """Return an action that creates a target of the kind."""
    return Action(target(kind), Verb.CREATE, "absent")


class Recorder:
    """A resource that records its calls in a shared list."""

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


def test_bulk_observation_calls_each_resource_with_its_targets_in_order() -> None:
    """The order of the registry is the order of observation."""
    calls: list[str] = []
    registry = Registry([Recorder(calls, BUCKET, POLICY), Recorder(calls, EXPORT)], lambda: calls.append("beat"))
    observations = registry.observe_bulk([target(EXPORT), target(POLICY), target(BUCKET)])
    assert calls == ["bucket policy", "beat", "export", "beat"]
    assert set(observations) == {target(kind).key for kind in (BUCKET, POLICY, EXPORT)}


def test_resource_without_targets_is_not_called() -> None:
    """A run limited to some scopes makes no call for the others."""
    calls: list[str] = []
    Registry([Recorder(calls, BUCKET), Recorder(calls, EXPORT)], lambda: None).observe_bulk([target(EXPORT)])
    assert calls == ["export"]


def test_failure_of_a_resource_affects_only_its_targets() -> None:
    """Its own targets are Unknown."""
    failing = Recorder([], BUCKET, error=Transient("timeout", "no answer"))
    observations = Registry([failing, Recorder([], EXPORT)], lambda: None).observe_bulk(
        [target(BUCKET), target(EXPORT)]
    )
    unknown = observations[target(BUCKET).key]
    assert isinstance(unknown, Unknown)
    assert unknown.code == "timeout"
    assert observations[target(EXPORT).key] == Present()


def test_deadline_ends_the_observation() -> None:
    """Targets that were not reached are not Unknown."""
    late = Recorder([], BUCKET, error=OutOfTime("the deadline is near"))
    with pytest.raises(OutOfTime):
        Registry([late, Recorder([], EXPORT)], lambda: None).observe_bulk([target(BUCKET), target(EXPORT)])


def test_single_reads_and_writes_go_to_the_resource_of_the_kind() -> None:
    """The kind of the target selects the resource."""
    registry = Registry([Recorder([], BUCKET), Recorder([], EXPORT)], lambda: None)
    assert registry.observe(target(EXPORT)) == Absent(("export",))
    assert registry.apply([action(EXPORT)]) == [Applied(message="export")]


def test_two_resources_of_one_kind_are_refused() -> None:
    """Otherwise one of them would silently never be called."""
    with pytest.raises(ValueError, match="two resources claim the kind 'bucket'"):
        Registry([Recorder([], BUCKET), Recorder([], EXPORT, BUCKET)], lambda: None)


def test_read_only_resource_refuses_every_write() -> None:
    """The error names the kind and says that it is a defect."""
    (answer,) = ReadOnly().apply([action(POLICY)])
    assert isinstance(answer, Permanent)
    assert (answer.code, answer.message) == ("not-writable", "policy is not written by the function")


def test_bulk_only_resource_observes_a_single_target_in_bulk() -> None:
    """A single read returns what a bulk observation of that target returns."""

    class Listed(BulkOnly):
        def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
            return {one.key: Absent((str(len(targets)),)) for one in targets}

    assert Listed().observe(target(BUCKET)) == Absent(("1",))


def test_write_of_a_read_only_kind_is_refused_without_calling_its_resource() -> None:
    """This holds even if the resource writes other kinds."""
    observed = Kind("observed", Stage.DESTINATION, writable=False)
    registry = Registry([Recorder([], EXPORT, observed)], lambda: None)
    (answer,) = registry.apply([action(observed)])
    assert isinstance(answer, Permanent)
    assert answer.code == "not-writable"
    assert registry.apply([action(EXPORT)]) == [Applied(message="export")]


def test_each_write_has_its_own_result() -> None:
    """A refused write does not prevent the others."""
    error = Transient("timeout", "no answer")

    def write(one: Action) -> Applied:
        if one.target.kind == BUCKET:
            raise error
        return Applied()

    assert one_by_one(write, [action(BUCKET), action(EXPORT)]) == [error, Applied()]
