"""Contract suite that every implementation of the provider port must pass."""

from __future__ import annotations

from threading import Thread

from shared.apply import apply
from shared.errors import RunStopped
from shared.model import WRITES, Absent, Enumeration, Key, Observation, Target, Unknown
from shared.observe import observe
from shared.plan import Plan, make_plan
from shared.runtime.context import RunContext
from shared.state.decoding import parse
from shared.state.document import fresh
from tests.contracts.harness import CloudHarness, run_once
from tests.limits import HANG_S


class CloudContract:
    """Subclasses provide the fixture `harness`."""

    def observe_and_plan(
        self, harness: CloudHarness
    ) -> tuple[RunContext, Enumeration, list[Target], dict[Key, Observation], Plan]:
        """Enumerate, observe every target and plan, without applying anything."""
        run = harness.run()
        cloud, memory = harness.cloud(run), fresh(run.cloud)
        enumeration = cloud.enumerate(())
        targets = list(cloud.targets(enumeration, memory))
        scopes = {scope.id: scope for scope in enumeration.scopes}
        active = [one for one in targets if not one.skip and scopes[one.key.scope].state.value == "active"]
        observations = observe(cloud, active, memory, run, 0)
        return run, enumeration, targets, observations, make_plan(targets, scopes, observations, run.clock.now())

    def test_enumeration_is_complete_and_repeatable(self, harness: CloudHarness) -> None:
        """Two enumerations of an unchanged cloud are complete and list the same scopes, each once."""
        one, other = (harness.cloud(harness.run()).enumerate(()) for _ in range(2))
        ids = [scope.id for scope in one.scopes]
        assert one.complete
        assert one.owner
        assert len(ids) == len(set(ids)) > 1
        assert sorted(ids) == sorted(scope.id for scope in other.scopes)

    def test_denied_enumeration_is_incomplete_or_ends_the_run(self, harness: CloudHarness) -> None:
        """Without permission to list scopes, the adapter never returns a complete, empty enumeration."""
        with harness.enumeration_denied():
            try:
                enumeration = harness.cloud(harness.run()).enumerate(())
            except RunStopped:
                return
        assert not enumeration.complete
        assert enumeration.problems

    def test_targets_are_computed_without_calls(self, harness: CloudHarness) -> None:
        """The targets are deterministic and unique, and belong to enumerated scopes."""
        run = harness.run()
        cloud = harness.cloud(run)
        enumeration = cloud.enumerate(())
        before = run.calls.counts.total()
        first, second = (list(cloud.targets(enumeration, fresh(run.cloud))) for _ in range(2))
        assert run.calls.counts.total() == before
        assert first == second
        assert len({target.key for target in first}) == len(first) > 0
        assert {target.key.scope for target in first} <= {scope.id for scope in enumeration.scopes}

    def test_needs_are_targets_of_earlier_stages(self, harness: CloudHarness) -> None:
        """Every dependency of a target is itself a target, in an earlier stage."""
        _, _, targets, _, _ = self.observe_and_plan(harness)
        stages = {target.key: target.kind.stage for target in targets}
        for target in targets:
            for need in target.needs:
                assert stages[need] < target.kind.stage, f"{target.key} needs {need}"

    def test_every_active_target_is_observed(self, harness: CloudHarness) -> None:
        """Without a call budget, exactly the targets of active scopes have an observation."""
        _, enumeration, targets, observations, _ = self.observe_and_plan(harness)
        active = {scope.id for scope in enumeration.scopes if scope.state.value == "active"}
        assert set(observations) == {one.key for one in targets if one.key.scope in active and not one.skip}
        assert not [key for key, one in observations.items() if isinstance(one, Unknown)]

    def test_denied_reads_are_unknown(self, harness: CloudHarness) -> None:
        """A target that cannot be read is Unknown rather than Absent, and the plan does not write it."""
        key = harness.export_key()
        with harness.reads_denied():
            _, _, _, observations, plan = self.observe_and_plan(harness)
        assert isinstance(observations[key], Unknown)
        assert key not in {action.key for action in plan.writes()}

    def test_run_creates_missing_targets_and_the_next_plan_has_no_writes(self, harness: CloudHarness) -> None:
        """After one run, every scope is covered or pending."""
        first = run_once(harness)
        assert first.report["status"] == "ok", first.report["failures"]
        assert first.plan is not None
        assert first.plan.writes()
        second = run_once(harness, dry_run=True)
        assert second.plan is not None
        assert [action for action in second.plan.actions if action.verb in WRITES] == []
        scopes = second.report["scopes"]
        assert scopes["covered"] + scopes["pending"] == scopes["active"]

    def test_dry_run_has_the_plan_hash_of_the_real_run(self, harness: CloudHarness) -> None:
        """The dry run changes nothing."""
        dry = run_once(harness, dry_run=True)
        assert harness.exports() == []
        real = run_once(harness)
        assert dry.report["plan_hash"] == real.report["plan_hash"] != ""

    def test_deleted_export_is_absent_and_recreated(self, harness: CloudHarness) -> None:
        """The observation is Absent although the state document still has the export."""
        key = harness.export_key()
        run_once(harness)
        harness.settle()
        harness.delete(key)
        assert key.name not in harness.exports()
        _, _, _, observations, _ = self.observe_and_plan(harness)
        assert isinstance(observations[key], Absent)
        healed = run_once(harness)
        assert healed.report["status"] == "ok", healed.report["failures"]
        assert harness.exports().count(key.name) == 1

    def test_repeated_create_neither_fails_nor_duplicates(self, harness: CloudHarness) -> None:
        """A create that is sent again after a lost response leaves exactly one export."""
        plan = self.observe_and_plan(harness)[-1]
        harness.settle()
        run_once(harness)
        cloud = harness.cloud(harness.run())
        again = [action for action in plan.writes() if action.key == harness.export_key()]
        results = cloud.apply(again)
        assert len(results) == len(again) == 1
        assert not isinstance(results[0], Exception), results
        assert harness.exports().count(harness.export_key().name) == 1

    def test_run_without_state_writes_nothing(self, harness: CloudHarness) -> None:
        """After the state object is deleted, the run observes everything again and has nothing to write."""
        run_once(harness)
        harness.settle()
        run_once(harness)
        harness.delete_state()
        after = run_once(harness)
        assert after.report["status"] == "ok"
        assert after.plan is not None
        assert after.plan.writes() == []
        assert harness.exports().count(harness.export_key().name) == 1

    def test_concurrent_runs_create_no_duplicates(self, harness: CloudHarness) -> None:
        """Two overlapping runs without a lock leave one of each target and no failed scope."""
        plans = [self.observe_and_plan(harness)[-1] for _ in range(2)]
        keys = {action.key for action in plans[0].writes()}
        assert keys == {action.key for action in plans[1].writes()}
        results: list[object] = []

        def work(plan: Plan) -> None:
            run = harness.run()
            results.append(apply(plan, harness.cloud(run), run, lambda outcome: None))

        threads = [Thread(target=work, args=(plan,)) for plan in plans]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG_S)
        assert len(results) == len(plans)
        harness.settle()
        assert len(harness.exports()) == len(set(harness.exports()))
        assert run_once(harness).report["scopes"]["failed"] == 0

    def test_state_records_applied_targets(self, harness: CloudHarness) -> None:
        """Each written target is recorded as present, with the time of the write."""
        done = run_once(harness)
        run = harness.run()
        store = harness.store(run)
        memory = parse(store.load(10**7).data, run.cloud, run.clock.now())
        assert memory.running is None
        assert memory.runs[-1].run_id == done.report["run_id"]
        assert done.plan is not None
        for action in done.plan.writes():
            entry = memory.state_of(action.key)
            assert entry is not None
            assert entry.present, action.key
            assert entry.applied_at is not None
