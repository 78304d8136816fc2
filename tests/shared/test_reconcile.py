"""Whole runs of the engine over the in-memory cloud: the rules of a run, and what the old scripts got wrong."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import pairwise

import msgspec
import pytest

from shared.errors import AnotherRun, Denied, Manual, NotApplicable, Permanent, RunStopped, Throttled, Transient
from shared.model import EscalationPolicy, Health, Key, ManualStep, Ownership, Problem
from shared.state.document import VERSION, RunLock, ScopeRecord, dump, fresh
from shared.state.store import STATE
from tests.inmemory import InMemoryCloud, Thing
from tests.shared.setting import Setting, actions, document
from tests.shared.test_report import KEYS, SCOPE_KEYS

EXPORT = Key("s00001", "export", "daily")


def test_a_first_run_covers_every_scope_and_the_second_changes_nothing() -> None:
    """From nothing to covered in one run; after it there is nothing left to write."""
    setting = Setting(5)
    first = setting.run()
    assert first.report["status"] == "ok"
    assert first.report["scopes"]["covered"] == first.report["scopes"]["active"] == 6
    assert setting.covered()
    written = list(setting.world.written)
    second = setting.run()
    assert setting.world.written == written
    assert second.report["outcomes"] == {"KEEP": {"unchanged": 12}}


def test_the_report_has_the_keys_of_the_contract_and_no_other() -> None:
    """A report's keys are the published ones, in any kind of run."""
    setting = Setting(2)
    good = setting.run()
    setting.world.faults["enumerate", "*"] = RunStopped("credentials", "expired")
    bad = setting.run()
    assert list(good.report) == list(bad.report) == KEYS
    assert set(good.report["scopes"]) == set(SCOPE_KEYS)
    json.dumps(good.report)


def test_a_scope_known_to_the_state_is_still_looked_at_in_the_cloud() -> None:
    """An export that was deleted is recreated although memory has known it as present for long."""
    setting = Setting(3)
    setting.run()
    del setting.world.things[EXPORT]
    healed = setting.run()
    assert [action.key for action in actions(healed, "CREATE")] == [EXPORT]
    assert EXPORT in setting.world.things


def test_log_lines_of_a_scope_have_its_name() -> None:
    """A person knows an account by its name: once the scopes are listed it stands beside the id."""
    setting = Setting(2)
    setting.run()
    name = setting.world.scopes["s00001"].name
    assert name
    lines = [fields for _, event, fields in setting.events("write-done") if fields["scope"] == "s00001"]
    assert lines
    assert {fields["scope_name"] for fields in lines} == {name}


def test_run_writes_what_was_planned_and_nothing_else() -> None:
    """With the hash of a plan's writes a run makes just these; where the world has changed it makes none."""
    setting = Setting(3)
    planned = setting.run(dry_run=True)
    assert planned.plan is not None
    expected = planned.plan.writes_hash()
    late = Key("s00002", "export", "daily")
    setting.world.things[late] = Thing({"format": "csv", "destination": "data"})
    refused = setting.run(writes_hash=expected)
    assert refused.report["status"] == "failed"
    assert [one["code"] for one in refused.report["failures"]] == ["plan-changed"]
    assert setting.world.written == []
    del setting.world.things[late]
    assert setting.run(writes_hash=expected).report["status"] == "ok"
    assert setting.covered()


def test_drift_is_repaired_and_foreign_fields_are_left_alone() -> None:
    """Only managed fields are compared: a changed one is repaired, an added one is not drift."""
    setting = Setting(3)
    setting.run()
    setting.world.things[EXPORT].fields |= {"format": "parquet", "note": "the customer's own"}
    healed = setting.run()
    repairs = actions(healed, "REPAIR")
    assert [(one.key, one.changes) for one in repairs] == [(EXPORT, ("format",))]
    assert setting.world.things[EXPORT].fields == {"format": "csv", "destination": "data", "note": "the customer's own"}
    assert actions(setting.run(), "REPAIR") == []


def test_unmarked_things_of_our_name_are_adopted_and_foreign_ones_reported() -> None:
    """What the old scripts left is adopted and repaired; what belongs to somebody else is a manual step."""
    setting = Setting(3)
    other = Key("s00002", "export", "daily")
    setting.world.things[EXPORT] = Thing({"format": "xml", "destination": "data"}, ownership=Ownership.UNMARKED)
    setting.world.things[other] = Thing({"format": "xml", "destination": "theirs"}, ownership=Ownership.FOREIGN)
    done = setting.run()
    assert [action.key for action in actions(done, "ADOPT")] == [EXPORT]
    assert setting.world.things[EXPORT].fields["format"] == "csv"
    assert setting.world.things[other].fields == {"format": "xml", "destination": "theirs"}
    assert [one["scope"] for one in done.report["manual"]] == ["s00002"]
    assert done.report["status"] == "ok"


def test_one_scope_without_rights_never_blocks_the_others() -> None:
    """A scope that is denied is deferred with a not-before time, at once and without sleeping; the rest is covered."""
    setting = Setting(4)
    setting.world.faults["write", "s00001"] = Denied(
        "no-rights",
        "the role is missing",
        escalation=EscalationPolicy(longest=timedelta(hours=1)),
        manual_step=ManualStep("grant the role"),
    )
    before = setting.clock.monotonic()
    done = setting.run()
    assert setting.clock.monotonic() - before < 3610
    assert done.report["scopes"]["deferred"] == 1
    assert done.report["scopes"]["covered"] == 4
    entry = setting.memory().state_of(EXPORT)
    assert entry is not None
    assert entry.not_before is not None
    later = setting.run()
    assert [(one["scope"], one["what"]) for one in later.report["manual"]] == [("s00001", "grant the role")] * 2
    setting.world.faults.clear()
    setting.clock.advance(86400)
    assert setting.run().report["scopes"]["covered"] == 5


def test_an_incomplete_enumeration_creates_for_what_it_saw_and_forgets_nothing() -> None:
    """Scopes that a broken listing does not show stay remembered as active; those it shows are served."""
    setting = Setting(4)
    setting.run()
    setting.world.remove("s00003")
    setting.world.join("s00009")
    setting.world.problems = (Problem("page-lost", "the second page could not be read", "try again"),)
    for _ in range(4):
        setting.run()
    done = setting.run()
    assert done.report["enumeration_complete"] is False
    assert done.report["status"] == "degraded"
    assert Key("s00009", "export", "daily") in setting.world.things
    assert setting.memory().scopes["s00003"].gone_at is None


def test_a_listing_that_shows_nothing_fails_the_run_and_forgets_nothing() -> None:
    """No right to list is never the same as nothing to do."""
    setting = Setting(4)
    setting.run()
    before = setting.store.data
    setting.world.faults["enumerate", "*"] = Denied("access-denied", "not allowed to list")
    done = setting.run()
    assert done.report["status"] == "failed"
    assert done.report["enumeration_complete"] is False
    assert setting.store.data == before


def test_a_scope_that_left_is_gone_after_three_complete_enumerations_and_comes_back_as_itself() -> None:
    """Two misses keep it, the third marks it gone; what was known of it is there when it returns."""
    setting = Setting(3)
    setting.run()
    setting.world.remove("s00001")
    for _ in range(2):
        setting.run()
    assert setting.memory().scopes["s00001"].gone_at is None
    setting.run()
    assert setting.memory().scopes["s00001"].gone_at is not None
    assert len(setting.events("scope-gone")) == 1
    setting.world.join("s00001")
    back = setting.run()
    assert actions(back, "CREATE") == []
    assert setting.memory().scopes["s00001"].gone_at is None
    assert len(setting.events("scope-returned")) == 1


def test_a_suspended_scope_is_skipped_with_its_reason() -> None:
    """A scope that is not active gets no writes, and the plan says why."""
    setting = Setting(3)
    setting.world.suspend("s00001")
    done = setting.run()
    skipped = actions(done, "SKIP")
    assert {(one.key.scope, one.detail) for one in skipped} == {("s00001", "SUSPENDED")}
    assert done.report["scopes"] | {"active": 3, "total": 4} == done.report["scopes"]
    assert EXPORT not in setting.world.things


def test_many_vanished_targets_are_not_recreated_without_force() -> None:
    """Above the limit nothing is written and the run fails with exact figures, again and again, until forced."""
    setting = Setting(20)
    setting.run()
    for number in range(16):
        del setting.world.things[Key(f"s{number:05d}", "export", "daily")]
    written = len(setting.world.written)
    for _ in range(3):
        done = setting.run()
        assert done.report["status"] == "failed"
        assert "16 of 41 known targets (39.0 %)" in done.report["failures"][0]["message"]
        assert len(done.report["failures"]) == 1
    assert len(setting.world.written) == written
    assert len(setting.memory().runs) == 4
    assert setting.run(force=True).report["status"] == "ok"
    assert setting.covered()


def test_a_cap_on_writes_defers_the_rest_and_serves_the_longest_wait_first() -> None:
    """Each run writes at most the cap, those that wait longest first, until everything is there."""
    setting = Setting(5, max_writes=4)
    sizes = []
    while not setting.covered():
        before = len(setting.world.written)
        setting.run()
        sizes.append(len(setting.world.written) - before)
    assert sizes == [4, 4, 3]
    setting.world.join("a-new-one")
    assert setting.run().report["status"] == "ok"


def test_what_rests_on_a_failed_target_is_blocked_with_the_reason() -> None:
    """A destination that cannot be made blocks the exports, not the roles; the report says on what they rest."""
    setting = Setting(3)
    setting.world.faults["write", "owner"] = Permanent("quota", "no more destinations", "Raise the quota.")
    done = setting.run()
    assert done.report["outcomes"]["CREATE"] == {"blocked": 3, "done": 3, "failed": 1}
    blocked = [one for one in done.report["failures"] if one["code"] == "rests-on"]
    assert len(blocked) == 3
    assert "owner/destination/data" in blocked[0]["message"]
    assert blocked[0]["remedy"] == "Raise the quota."
    assert done.report["status"] == "degraded"


def test_a_switch_that_only_a_person_may_turn_is_reported_and_blocks_what_needs_it() -> None:
    """What the function may not write is a manual step with its link; it closes itself when it is done."""
    setting = Setting(2)
    setting.world.things[Key("owner", "switch", "sharing")].fields["on"] = False
    done = setting.run()
    assert [(one["scope"], one["url"]) for one in done.report["manual"]] == [
        ("owner", "https://console.example/sharing")
    ]
    assert done.report["outcomes"]["BLOCK"] == {"blocked": 2}
    assert done.report["status"] == "degraded"
    setting.world.things[Key("owner", "switch", "sharing")].fields["on"] = True
    assert setting.run().report["manual"] == []
    assert setting.covered()


def test_the_deadline_ends_the_work_and_the_next_run_goes_on() -> None:
    """Nothing is begun that cannot end in time; the report says that the run is not complete and where it goes on."""
    setting = Setting(400)
    setting.seconds = 10
    done = setting.run()
    assert done.report["run_complete"] is False
    assert done.report["next_run_hint"].startswith("now: ")
    assert setting.clock.monotonic() <= 10 + 3600
    runs = 1
    while not setting.covered():
        setting.run()
        runs += 1
        assert runs < 10
    assert setting.run().report["run_complete"] is True


def test_memory_is_saved_every_thirty_seconds_of_work() -> None:
    """A run that dies loses at most half a minute of what it learnt."""
    setting = Setting(4000)
    setting.seconds = 3600
    saves: list[int] = []
    original = setting.store.save

    def save(data: bytes, version: str | None, document: str = STATE) -> str:
        saves.append(round(setting.clock.monotonic()))
        return original(data, version, document)

    setting.store.save = save  # type: ignore[method-assign]  # the test watches the times of the saves
    setting.run()
    assert len(saves) > 4
    assert max(later - earlier for earlier, later in pairwise(saves)) <= 35


def test_a_second_run_at_once_is_refused_with_holder_and_time() -> None:
    """While a run holds the lock another one is refused and told who holds it; a dry run is not."""
    setting = Setting(2)
    setting.run()
    memory = setting.memory()
    since = setting.clock.now()
    memory.running = RunLock("run-a", since, since + timedelta(minutes=5))
    setting.store.replace(dump(memory, since))
    with pytest.raises(AnotherRun) as refused:
        setting.run()
    assert "run-a" in str(refused.value)
    assert since.isoformat() in str(refused.value)
    assert setting.run(dry_run=True).report["status"] == "ok"
    assert setting.run().report["status"] == "ok"
    assert setting.memory().running is None


def test_a_run_that_saves_in_between_is_merged_not_overwritten() -> None:
    """What another run learnt while this one worked is still there at the end."""
    setting = Setting(2)
    setting.run()

    def meanwhile() -> None:
        memory = setting.memory()
        memory.scopes["from-the-other-run"] = ScopeRecord(at=setting.clock.now(), targets={})
        setting.store.replace(dump(memory, setting.clock.now()))

    run_once = setting.store.save

    def save(data: bytes, version: str | None, document: str = STATE) -> str:
        setting.store.save = run_once  # type: ignore[method-assign]  # only the first save is disturbed later on
        version_now = run_once(data, version, document)
        setting.store.before_save = meanwhile
        return version_now

    setting.store.save = save  # type: ignore[method-assign]  # the test writes between the lock and the last save
    setting.run()
    assert "from-the-other-run" in setting.memory().scopes
    assert setting.memory().state_of(EXPORT) is not None


def test_losing_the_state_costs_calls_and_nothing_else() -> None:
    """Without its blob a run reads everything again, writes nothing to the cloud, and remembers anew."""
    setting = Setting(6)
    setting.run()
    written = list(setting.world.written)
    setting.store.documents.clear()
    assert setting.run().report["status"] == "ok"
    assert setting.world.written == written
    assert len(setting.memory().scopes) == 7


def test_the_old_array_of_ids_is_read_and_upgraded() -> None:
    """A bare JSON array of ids becomes a document; every id in it is looked at in the cloud and served."""
    setting = Setting(3)
    setting.store.replace(json.dumps(["s00000", "s00001", "left-long-ago"]).encode())
    setting.run()
    assert setting.covered()
    assert setting.memory().version == VERSION
    assert setting.memory().scopes["left-long-ago"].missed == 1
    assert len(setting.events("state-migrated")) == 1


@pytest.mark.parametrize(
    "blob",
    [b"", b"{", b"\xff\xfe", b"[1, 2]", b'{"version": "two"}', b"[" * 100_000, b'{"version":2,"scopes":[]}', b"null"],
    ids=["empty", "cut", "not-utf8", "numbers", "wrong-version", "deep", "wrong-types", "null"],
)
def test_a_corrupt_state_is_kept_aside_and_rebuilt(blob: bytes) -> None:
    """An unreadable blob is no empty one: it is kept under a dated name, the log warns, the run goes on."""
    setting = Setting(2)
    setting.store.replace(blob)
    done = setting.run()
    assert done.report["status"] == "ok"
    assert list(setting.store.aside.values()) == [blob]
    assert setting.events("state-corrupt")
    assert setting.memory().scopes.keys() == {"owner", "s00000", "s00001"}


def test_a_dry_run_over_a_corrupt_state_leaves_it_where_it_is() -> None:
    """A dry run writes nothing at all: no state, no copy, no report."""
    setting = Setting(2)
    setting.store.replace(b"{")
    setting.run(dry_run=True)
    assert (setting.store.data, setting.store.aside, setting.store.reports) == (b"{", {}, {})
    assert setting.world.written == []


def test_a_forbidden_state_fails_the_run() -> None:
    """A state that may not be read is neither missing nor corrupt: nothing is created by a blind run."""
    setting = Setting(2)
    setting.store.faults["load"] = Denied("access-denied", "not allowed")
    done = setting.run()
    assert done.report["status"] == "failed"
    assert done.report["failures"][0]["code"] == "state-forbidden"
    assert setting.world.written == []


@pytest.mark.parametrize(
    ("change", "code"),
    [({"owner": "org-2"}, "state-foreign"), ({"cloud": "other"}, "state-foreign"), ({"version": 3}, "state-newer")],
    ids=["another-organization", "another-cloud", "a-newer-version"],
)
def test_a_state_that_is_not_ours_is_refused_and_left_alone(change: dict[str, object], code: str) -> None:
    """A blob of another owner, another cloud or a newer function ends the run; not a byte of it is changed."""
    setting = Setting(2)
    blob = dump(msgspec.structs.replace(fresh("memory"), **{"owner": "org-1", **change}), setting.clock.now())
    setting.store.replace(blob)
    done = setting.run()
    assert (done.report["status"], done.report["failures"][0]["code"]) == ("failed", code)
    assert setting.store.data == blob
    assert setting.world.written == []


def test_what_was_accepted_is_pending_within_its_grace_and_missing_after_it() -> None:
    """A thing that the listing does not show yet is pending; past its normal time it is created."""
    setting = Setting(1)
    setting.world.delay = timedelta(hours=5)
    first = setting.run()
    assert (first.report["scopes"]["pending"], first.report["scopes"]["covered"]) == (1, 1)
    setting.clock.advance(-1800)
    assert setting.run(dry_run=True).report["outcomes"]["KEEP"] == {"pending": 1, "unchanged": 3}
    assert [one.key.kind for one in actions(setting.run(dry_run=True), "CREATE")] == ["role"]


def test_a_creation_that_is_accepted_and_never_seen_becomes_overdue() -> None:
    """Pending for its normal time only: then it is a failure with a remedy, and is created again by back-off."""
    setting = Setting(1)
    setting.world.delay = timedelta(days=30)
    first = setting.run()
    assert (first.report["status"], first.report["scopes"]["pending"]) == ("ok", 1)
    late = setting.run()
    assert (late.report["status"], late.report["scopes"]["failed"]) == ("degraded", 1)
    (failure,) = late.report["failures"]
    assert (failure["scope"], failure["code"]) == ("s00000", "overdue")
    assert "--scope s00000" in failure["remedy"]
    statuses, before = set(), len(setting.world.written)
    for _ in range(24):
        statuses.add(setting.run().report["status"])
    assert statuses == {"degraded"}
    assert len(setting.world.written) - before < 8
    setting.world.delay = timedelta(0)
    for thing in setting.world.things.values():
        thing.visible_at = None
    healed = setting.run()
    assert (healed.report["status"], healed.report["scopes"]["covered"]) == ("ok", 2)


def test_what_stays_in_the_making_becomes_overdue() -> None:
    """A thing that the cloud shows as pending for longer than its normal time degrades the run, with a remedy."""
    setting = Setting(1)
    setting.run()
    setting.world.things[Key("s00000", "role", "reader")].health = Health.PENDING
    statuses = [setting.run().report for _ in range(4)]
    assert [one["status"] for one in statuses] == ["ok", "degraded", "degraded", "degraded"]
    assert [one["scopes"]["pending"] for one in statuses] == [1, 0, 0, 0]
    assert all("--scope s00000" in one["remedy"] for report in statuses[1:] for one in report["failures"])
    setting.world.things[Key("s00000", "role", "reader")].health = Health.HEALTHY
    assert setting.run().report["status"] == "ok"


def test_a_target_fails_alone_and_is_tried_again_after_its_back_off() -> None:
    """A failure is reported, degrades the run, and is not retried before its not-before time."""
    setting = Setting(3)
    setting.world.faults["write", "s00001"] = Permanent("broken", "the service says no", "Ask the service.")
    first = setting.run()
    assert first.report["status"] == "degraded"
    assert {one["code"] for one in first.report["failures"]} == {"broken"}
    entry = setting.memory().state_of(EXPORT)
    assert entry is not None
    assert (entry.attempts, entry.error and entry.error.code) == (1, "broken")
    waits = []
    for _ in range(40):
        before = setting.world.calls["write", "export"]
        setting.run()
        waits.append(setting.world.calls["write", "export"] - before)
    assert 0 in waits
    assert sum(waits) < 20


@pytest.mark.parametrize("request_", [{"scopes": ["s00001"]}, {"verify_all": True}], ids=["its-scope", "verify-all"])
def test_who_asks_for_a_scope_need_not_wait(request_: dict[str, object]) -> None:
    """A person who mended something has it tried at once, by the scope's id or for all, whatever the back-off."""
    setting = Setting(3)
    setting.world.faults["write", "s00001"] = Manual("console", ManualStep("press the button"))
    setting.run()
    setting.world.faults.clear()
    setting.clock.advance(-3590)
    waiting = setting.run()
    setting.clock.advance(-3590)
    assert [one["what"] for one in waiting.report["manual"]] == ["press the button"] * 2
    assert setting.run(**request_).report["manual"] == []
    assert setting.covered()


def test_a_deferral_is_fine_at_first_and_overdue_in_the_end() -> None:
    """The first deferral leaves the run ok; after three attempts the run is degraded."""
    setting = Setting(2)
    setting.world.faults["write", "s00001"] = Transient("busy", "an operation is in progress", within_run=False)
    statuses = [setting.run().report["status"] for _ in range(4)]
    assert statuses[0] == "ok"
    assert statuses[-1] == "degraded"


def test_a_scope_that_the_cloud_refuses_is_excluded_once_told_and_tried_again_after_a_week() -> None:
    """What the cloud refuses for good is no failure and no coverage: counted by its reason, told on the change only."""
    setting = Setting(2)
    setting.world.faults["write", "s00001"] = NotApplicable("read-only", "the subscription is disabled")
    done = setting.run()
    assert done.report["status"] == "ok"
    assert done.report["outcomes"]["CREATE"]["excluded"] == 2
    assert (done.report["scopes"]["covered"], done.report["scopes"]["excluded"]) == (2, 1)
    assert done.report["excluded"] == [{"reason": "read-only", "count": 1, "examples": ["s00001"]}]
    before = setting.world.calls["write", "export"]
    again = setting.run()
    assert setting.world.calls["write", "export"] == before
    assert again.report["outcomes"]["SKIP"] == {"excluded": 2}
    assert again.report["excluded"] == done.report["excluded"]
    assert [line[2]["scope"] for line in setting.events("scope-excluded")] == ["s00001"]
    setting.world.faults.clear()
    setting.clock.advance(8 * 86400)
    setting.run()
    assert setting.covered()


def test_an_unhealthy_thing_is_waited_for_and_then_handed_to_a_person() -> None:
    """What mends itself is deferred; the health that only a person can mend is manual at once."""
    setting = Setting(2)
    setting.run()
    setting.world.things[EXPORT].health = Health.WAITING
    assert setting.run().report["scopes"]["deferred"] == 1
    setting.world.things[EXPORT].health = Health.MANUAL
    assert setting.run().report["scopes"]["manual"] == 1
    setting.world.things[EXPORT].health = Health.BROKEN
    setting.clock.advance(86400)
    assert [one.key for one in actions(setting.run(), "REPAIR")] == [EXPORT]


def test_only_the_requested_scopes_and_what_they_rest_on_are_touched() -> None:
    """A request for one scope serves that scope, its destination included, and reports on it alone."""
    setting = Setting(5)
    done = setting.run(scopes=["s00001"])
    assert {key.scope for _, key in setting.world.written} == {"owner", "s00001"}
    assert done.report["scopes"]["total"] == 1
    assert setting.memory().scopes["s00004"].missed == 0


def test_a_requested_scope_that_does_not_exist_is_named() -> None:
    """A wrong id is a failure that names it; the others are served."""
    setting = Setting(2)
    done = setting.run(scopes=["s00001", "typo"])
    assert [(one["scope"], one["code"]) for one in done.report["failures"]] == [("typo", "unknown-scope")]
    assert done.report["status"] == "degraded"
    assert EXPORT in setting.world.things


def test_a_requested_scope_may_be_written_in_capitals() -> None:
    """An id is found however its letters are written, and counts once."""
    setting = Setting(2)
    done = setting.run(scopes=["S00001", "s00001"])
    assert done.report["failures"] == []
    assert done.report["scopes"]["total"] == 1
    assert EXPORT in setting.world.things


def test_a_run_of_which_nothing_is_there_fails_and_writes_nothing() -> None:
    """Where every requested id is wrong there is nothing to do: the run fails, names each, and keeps no lock."""
    setting = Setting(2)
    done = setting.run(scopes=["typo", "another"])
    assert [(one["scope"], one["code"]) for one in done.report["failures"]] == [
        ("another", "unknown-scope"),
        ("typo", "unknown-scope"),
    ]
    assert (done.report["status"], done.plan, setting.world.written) == ("failed", None, [])
    assert setting.run().report["status"] == "ok"


def test_a_write_that_rests_on_a_deferred_one_waits_with_it() -> None:
    """A destination that is busy for now makes its exports wait, without degrading the run."""
    setting = Setting(3)
    setting.world.faults["write", "owner"] = Transient("busy", "later", within_run=False)
    done = setting.run()
    assert done.report["outcomes"]["CREATE"] == {"deferred": 4, "done": 3}
    assert done.report["status"] == "ok"


def test_the_share_of_the_vanished_is_of_those_that_were_looked_at() -> None:
    """However small the call budget, a world that is gone is noticed by what the run did look at."""
    setting = Setting(200, call_budget=20)
    setting.world.evidence = True
    for _ in range(12):
        setting.world.deliver(setting.clock.now())
        setting.run()
    for key in [key for key in setting.world.things if key.kind == "export"]:
        del setting.world.things[key]
    for key in [key for key in setting.world.things if key.kind == "role"]:
        del setting.world.things[key]
    done = setting.run()
    assert done.report["status"] == "failed"
    assert done.report["failures"][0]["code"] == "vanished"


@pytest.mark.parametrize("operation", ["enumerate", "targets", "observe_bulk", "observe", "apply"])
def test_a_defect_of_an_adapter_is_reported_and_gives_the_lock_back(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that nobody expected ends in a report that names its place, never its text; the lock is free."""
    setting = Setting(3)
    setting.run()
    del setting.world.things[EXPORT]

    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret-token")

    with monkeypatch.context() as patched:
        patched.setattr(InMemoryCloud, operation, broken)
        done = setting.run()
    said = json.dumps([done.report, *(line for line in setting.lines)], default=str)
    assert "secret-token" not in said
    assert "ZeroDivisionError at test_reconcile.py" in said
    assert done.plan is None or len(done.outcomes) == len(done.plan.actions)
    setting.clock.advance(86400)
    assert setting.run().report["status"] == "ok"
    assert setting.covered()


def test_throttling_slows_the_run_and_fails_nobody() -> None:
    """A burst of throttling answers is waited out within the run."""
    setting = Setting(3)
    left = [4]

    def trip(operation: str, scope: str = "*") -> None:
        if operation == "write" and scope == "*" and left[0]:
            left[0] -= 1
            raise Throttled("throttled", "slow down", retry_after=timedelta(seconds=2))

    setting.world.trip = trip  # type: ignore[method-assign]  # the fault ends after some answers
    done = setting.run()
    assert done.report["status"] == "ok"
    assert setting.covered()
    assert len(setting.events("throttled")) == 4


def test_expired_credentials_in_the_middle_stop_the_run_and_keep_what_was_learnt() -> None:
    """The run fails, nothing more is begun, each action has an outcome, memory is saved, the next run goes on."""
    setting = Setting(20, workers=1)
    setting.world.faults["write", "s00003"] = RunStopped("credentials", "the token has expired", "Renew it.")
    done = setting.run()
    assert done.report["status"] == "failed"
    assert done.report["run_complete"] is False
    assert "credentials" in {one["code"] for one in done.report["failures"]}
    assert done.plan is not None
    assert len(done.outcomes) == len(done.plan.actions) == 42
    assert len(setting.world.written) == 4
    assert setting.memory().state_of(Key("s00002", "export", "daily")) is not None
    setting.world.faults.clear()
    setting.run()
    setting.clock.advance(86400)
    setting.run()
    assert setting.covered()


def test_the_whole_report_is_stored_and_the_answer_is_cut() -> None:
    """Of a long list the answer holds the first items and a count; the stored report holds all."""
    setting = Setting(120)
    manual_step = ManualStep("open the console", ("Press the button.",), "https://console.example")
    for number in range(120):
        setting.world.faults["write", f"s{number:05d}"] = Manual("console", manual_step)
    done = setting.run()
    answer = done.answer()
    assert len(answer["manual"]) == 51
    assert answer["manual"][-1]["what"] == "190 more of 240"
    assert len(answer["actions"]) == 51
    assert "unchanged" not in {one["result"] for one in answer["actions"]}
    whole = document(setting.store.reports[done.report["run_id"]])
    assert len(whole["manual"]) == len(done.report["manual"]) == 240
    assert whole == json.loads(json.dumps(done.report))


def test_the_log_tells_the_run_with_constant_events_and_common_fields() -> None:
    """Each line carries run and cloud; targets are named by scope, kind and name."""
    setting = Setting(1)
    done = setting.run()
    events = [event for _, event, _ in setting.lines]
    assert events[0] == "run-started"
    assert events[-1] == "run-finished"
    assert {fields["run_id"] for _, _, fields in setting.lines} == {done.report["run_id"]}
    created = setting.events("write-done")[0][2]
    assert set(created) >= {"run_id", "cloud", "scope", "kind", "name", "verb", "reason"}


def test_a_state_container_that_was_lost_is_no_reason_to_stop() -> None:
    """Where the container is missing the run heals the cloud without a lock, and says that it could not save."""
    setting = Setting(2)
    setting.store.exists = False
    done = setting.run()
    assert setting.covered()
    assert [one["code"] for one in done.report["failures"]] == ["state-unsaved"]
    assert done.report["status"] == "degraded"
    setting.store.exists = True
    assert setting.run().report["status"] == "ok"


def test_a_run_notes_what_it_took_and_how_late_data_is() -> None:
    """Its calls by quota, its log and its report are in the history, from which its costs are estimated."""
    setting = Setting(3)
    report = setting.run().report
    (note,) = setting.memory().runs
    assert note.calls == report["calls"]
    assert note.log_lines > 2
    assert note.log_bytes > 20 * note.log_lines
    assert note.report_bytes > 200
    assert note.freshness_lag_h is None
