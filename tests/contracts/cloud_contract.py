"""The suite that every implementation of the cloud port passes unchanged."""

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
from tests.contracts.harness import CloudHarness, finished
from tests.limits import HANG_S


class CloudContract:
    """Subclasses give the fixture `harness`."""

    def look(self, harness: CloudHarness) -> tuple[RunContext, Enumeration, list[Target], dict[Key, Observation], Plan]:
        run = harness.run()
        cloud, memory = harness.cloud(run), fresh(run.cloud)
        enumeration = cloud.enumerate(())
        targets = list(cloud.targets(enumeration, memory))
        scopes = {scope.id: scope for scope in enumeration.scopes}
        active = [one for one in targets if not one.skip and scopes[one.key.scope].state.value == "active"]
        seen = observe(cloud, active, memory, run, 0)
        return run, enumeration, targets, seen, make_plan(targets, scopes, seen, run.clock.now())

    def test_enumeration_is_complete_and_repeatable(self, harness: CloudHarness) -> None:
        """Two enumerations of an unchanged cloud are complete and show the same scopes, each once."""
        one, other = (harness.cloud(harness.run()).enumerate(()) for _ in range(2))
        ids = [scope.id for scope in one.scopes]
        assert one.complete
        assert one.owner
        assert len(ids) == len(set(ids)) > 1
        assert sorted(ids) == sorted(scope.id for scope in other.scopes)

    def test_a_refused_enumeration_is_never_an_empty_one(self, harness: CloudHarness) -> None:
        """Without the right to list, the adapter says that the enumeration is incomplete, or stops the run."""
        with harness.no_enumeration():
            try:
                enumeration = harness.cloud(harness.run()).enumerate(())
            except RunStopped:
                return
        assert not enumeration.complete
        assert enumeration.problems

    def test_targets_are_pure_data(self, harness: CloudHarness) -> None:
        """Saying what must exist makes no call, is deterministic, and names each target once."""
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
        """Whatever a target rests on is a target itself, and is made in an earlier stage."""
        _, _, targets, _, _ = self.look(harness)
        stages = {target.key: target.kind.stage for target in targets}
        for target in targets:
            for need in target.needs:
                assert stages[need] < target.kind.stage, f"{target.key} needs {need}"

    def test_every_target_is_looked_at(self, harness: CloudHarness) -> None:
        """Without a call budget every target of an active scope gets an observation, and nothing else does."""
        _, enumeration, targets, seen, _ = self.look(harness)
        active = {scope.id for scope in enumeration.scopes if scope.state.value == "active"}
        assert set(seen) == {one.key for one in targets if one.key.scope in active and not one.skip}
        assert not [key for key, one in seen.items() if isinstance(one, Unknown)]

    def test_refused_reads_are_unknown_and_never_absent(self, harness: CloudHarness) -> None:
        """What may not be read is Unknown, and a plan made of it writes nothing about it."""
        key = harness.export_key()
        with harness.no_reads():
            _, _, _, seen, plan = self.look(harness)
        assert isinstance(seen[key], Unknown)
        assert key not in {action.key for action in plan.writes()}

    def test_a_run_creates_what_is_missing_and_the_next_plan_is_empty(self, harness: CloudHarness) -> None:
        """After one run everything is there or accepted: a plan of what the cloud shows then has no writes."""
        first = finished(harness)
        assert first.report["status"] == "ok", first.report["failures"]
        assert first.plan is not None
        assert first.plan.writes()
        second = finished(harness, dry_run=True)
        assert second.plan is not None
        assert [action for action in second.plan.actions if action.verb in WRITES] == []
        scopes = second.report["scopes"]
        assert scopes["covered"] + scopes["pending"] == scopes["active"]

    def test_dry_and_real_run_plan_alike(self, harness: CloudHarness) -> None:
        """A dry run has the hash of the real run after it, and changes nothing in between."""
        dry = finished(harness, dry_run=True)
        assert harness.exports() == []
        real = finished(harness)
        assert dry.report["plan_hash"] == real.report["plan_hash"] != ""

    def test_a_deleted_export_is_absent_and_comes_back(self, harness: CloudHarness) -> None:
        """An export deleted behind the function's back is seen as Absent and recreated, though memory knows it."""
        key = harness.export_key()
        finished(harness)
        harness.settle()
        harness.delete(key)
        assert key.name not in harness.exports()
        _, _, _, seen, _ = self.look(harness)
        assert isinstance(seen[key], Absent)
        healed = finished(harness)
        assert healed.report["status"] == "ok", healed.report["failures"]
        assert harness.exports().count(key.name) == 1

    def test_creating_what_exists_neither_fails_nor_duplicates(self, harness: CloudHarness) -> None:
        """The same creates sent again, as after a lost answer, leave one of each."""
        plan = self.look(harness)[-1]
        harness.settle()
        finished(harness)
        cloud = harness.cloud(harness.run())
        again = [action for action in plan.writes() if action.key == harness.export_key()]
        answers = cloud.apply(again)
        assert len(answers) == len(again) == 1
        assert not isinstance(answers[0], Exception), answers
        assert harness.exports().count(harness.export_key().name) == 1

    def test_losing_the_state_costs_calls_and_nothing_else(self, harness: CloudHarness) -> None:
        """With the blob deleted the next run looks at everything again and writes nothing to the cloud."""
        finished(harness)
        harness.settle()
        finished(harness)
        harness.forget()
        after = finished(harness)
        assert after.report["status"] == "ok"
        assert after.plan is not None
        assert after.plan.writes() == []
        assert harness.exports().count(harness.export_key().name) == 1

    def test_two_runs_at_once_do_no_harm(self, harness: CloudHarness) -> None:
        """Two overlapping runs without a lock end with one of each thing, and no action without an outcome."""
        plans = [self.look(harness)[-1] for _ in range(2)]
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
        assert finished(harness).report["scopes"]["failed"] == 0

    def test_memory_knows_what_was_applied(self, harness: CloudHarness) -> None:
        """After a run each written target is remembered as present, with the time of the write."""
        done = finished(harness)
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
