"""Complete runs of the engine on the in-memory cloud: the rules of a run, and regressions of the old scripts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

import msgspec
import pytest

from shared.errors import (
    AnotherRun,
    Denied,
    Manual,
    NotApplicable,
    Permanent,
    RunStopped,
    Throttled,
    TooSoon,
    Transient,
)
from shared.hints import Hints
from shared.model import (
    FORGET_AFTER,
    Enumeration,
    EscalationPolicy,
    Health,
    Key,
    ManualStep,
    Ownership,
    Problem,
    Result,
    Scope,
    ScopeState,
    Target,
)
from shared.provider import KnownStates
from shared.reconcile import SAVE_REMEDY, _begin, _log_outcome, _record_enumeration, _with_sound_scopes, reconcile
from shared.request import RunRequest, hinted
from shared.state.decoding import parse
from shared.state.deliveries import DELIVERIES
from shared.state.document import VERSION, RunLock, ScopeRecord, dump, fresh
from shared.state.session import PAGE
from shared.state.store import STATE
from shared.target_state import TargetState
from tests.inmemory import InMemoryCloud, InMemoryStore, Thing
from tests.shared.builders import EXPORT as BUILT_EXPORT
from tests.shared.builders import START, Recorder, ScriptedCloud, enumeration, outcome, remembering, target
from tests.shared.setting import QUIET, Setting, actions, document
from tests.shared.test_report import KEYS, SCOPE_KEYS

EXPORT = Key("s00001", "export", "daily")


def test_first_run_covers_every_scope_and_the_second_writes_nothing() -> None:
    """Everything that is missing is created in one run."""
    setting = Setting(5)
    first = setting.run()
    assert first.report["status"] == "ok"
    assert first.report["scopes"]["covered"] == first.report["scopes"]["active"] == 6
    assert setting.covered()
    written = list(setting.world.written)
    second = setting.run()
    assert setting.world.written == written
    assert second.report["outcomes"] == {"KEEP": {"unchanged": 12}}


def test_report_has_exactly_the_keys_of_the_contract() -> None:
    """This holds for any kind of run."""
    setting = Setting(2)
    good = setting.run()
    setting.world.faults["enumerate", "*"] = RunStopped("credentials", "expired")
    bad = setting.run()
    assert list(good.report) == list(bad.report) == KEYS
    assert set(good.report["scopes"]) == set(SCOPE_KEYS)
    json.dumps(good.report)


def test_deleted_export_of_a_known_scope_is_recreated() -> None:
    """The cloud is observed although the state document has the export as present."""
    setting = Setting(3)
    setting.run()
    del setting.world.things[EXPORT]
    healed = setting.run()
    assert [action.key for action in actions(healed, "CREATE")] == [EXPORT]
    assert EXPORT in setting.world.things


def test_log_lines_of_a_scope_have_its_name() -> None:
    """Once the scopes are listed, the account's name is logged with its id."""
    setting = Setting(2)
    setting.run()
    name = setting.world.scopes["s00001"].name
    assert name
    lines = [fields for _, event, fields in setting.events("write-done") if fields["scope"] == "s00001"]
    assert lines
    assert {fields["scope_name"] for fields in lines} == {name}


def test_run_with_a_hash_writes_only_what_was_planned() -> None:
    """If the cloud has changed since the plan, the run writes nothing."""
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


def test_drift_is_repaired_and_unmanaged_fields_are_kept() -> None:
    """A changed managed field is repaired; an added field is not drift."""
    setting = Setting(3)
    setting.run()
    setting.world.things[EXPORT].fields |= {"format": "parquet", "note": "the customer's own"}
    healed = setting.run()
    repairs = actions(healed, "REPAIR")
    assert [(one.key, one.changes) for one in repairs] == [(EXPORT, ("format",))]
    assert setting.world.things[EXPORT].fields == {"format": "csv", "destination": "data", "note": "the customer's own"}
    assert actions(setting.run(), "REPAIR") == []


def test_unmarked_targets_are_adopted_and_foreign_ones_reported() -> None:
    """Exports of the old scripts are adopted and repaired; a foreign one becomes a manual step."""
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


def test_denied_scope_does_not_block_the_others() -> None:
    """The denied scope is deferred without sleeping, and all others are covered."""
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


def test_incomplete_enumeration_serves_listed_scopes_and_keeps_the_others() -> None:
    """Scopes that are missing from an incomplete listing stay active in the state."""
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


def test_empty_listing_fails_the_run_and_keeps_the_state() -> None:
    """A missing permission to list does not mean that there is nothing to do."""
    setting = Setting(4)
    setting.run()
    before = setting.store.data
    setting.world.faults["enumerate", "*"] = Denied("access-denied", "not allowed to list")
    done = setting.run()
    assert done.report["status"] == "failed"
    assert done.report["enumeration_complete"] is False
    assert setting.store.data == before


def test_departed_scope_is_gone_after_three_complete_enumerations() -> None:
    """Two misses keep it, the third marks it as gone, and it keeps its state for its return."""
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


def test_suspended_scope_is_skipped_with_its_reason() -> None:
    """An inactive scope gets no writes."""
    setting = Setting(3)
    setting.world.suspend("s00001")
    done = setting.run()
    skipped = actions(done, "SKIP")
    assert {(one.key.scope, one.detail) for one in skipped} == {("s00001", "SUSPENDED")}
    assert done.report["scopes"] | {"active": 3, "total": 4} == done.report["scopes"]
    assert EXPORT not in setting.world.things


def test_many_vanished_targets_are_not_recreated_without_force() -> None:
    """Above the limit the run fails with exact counts and writes nothing, until it is forced."""
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


def test_capped_runs_write_the_longest_waiting_targets_first() -> None:
    """Each run writes at most the cap until everything exists."""
    setting = Setting(5, max_writes=4)
    sizes = []
    while not setting.covered():
        before = len(setting.world.written)
        setting.run()
        sizes.append(len(setting.world.written) - before)
    assert sizes == [4, 4, 3]
    setting.world.join("a-new-one")
    assert setting.run().report["status"] == "ok"


def test_dependents_of_a_failed_target_are_blocked_with_the_reason() -> None:
    """A destination that cannot be created blocks the exports but not the roles."""
    setting = Setting(3)
    setting.world.faults["write", "owner"] = Permanent("quota", "no more destinations", "Raise the quota.")
    done = setting.run()
    assert done.report["outcomes"]["CREATE"] == {"blocked": 3, "done": 3, "failed": 1}
    blocked = [one for one in done.report["failures"] if one["code"] == "rests-on"]
    assert len(blocked) == 3
    assert "owner/destination/data" in blocked[0]["message"]
    assert blocked[0]["remedy"] == "Raise the quota."
    assert done.report["status"] == "degraded"


def test_manual_switch_is_reported_and_blocks_its_dependents() -> None:
    """The manual step has a link, and closes once the switch is on."""
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


def test_run_stops_at_the_deadline_and_the_next_run_continues() -> None:
    """No write starts that cannot end in time, and the report marks the run as incomplete."""
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


def test_state_is_saved_every_thirty_seconds_of_work() -> None:
    """A run that crashes loses at most half a minute of results."""
    setting = Setting(4000)
    setting.seconds = 3600
    saves: list[int] = []
    original = setting.store.save

    def save(data: bytes, version: str | None, document: str = STATE) -> str:
        saves.append(round(setting.clock.monotonic()))
        return original(data, version, document)

    setting.store.save = save  # type: ignore[method-assign]  # records the times of the saves
    setting.run()
    assert len(saves) > 4
    assert max(later - earlier for earlier, later in pairwise(saves)) <= 35


def test_concurrent_run_is_refused_with_holder_and_time() -> None:
    """A dry run is not refused."""
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


def test_state_saved_by_another_run_is_merged() -> None:
    """What the other run recorded meanwhile is kept."""
    setting = Setting(2)
    setting.run()

    def meanwhile() -> None:
        memory = setting.memory()
        memory.scopes["from-the-other-run"] = ScopeRecord(at=setting.clock.now(), targets={})
        setting.store.replace(dump(memory, setting.clock.now()))

    run_once = setting.store.save

    def save(data: bytes, version: str | None, document: str = STATE) -> str:
        setting.store.save = run_once  # type: ignore[method-assign]  # only the first save is affected
        version_now = run_once(data, version, document)
        setting.store.before_save = meanwhile
        return version_now

    setting.store.save = save  # type: ignore[method-assign]  # writes between the lock and the last save
    setting.run()
    assert "from-the-other-run" in setting.memory().scopes
    assert setting.memory().state_of(EXPORT) is not None


def test_run_without_state_reads_everything_and_writes_nothing() -> None:
    """The run builds the state document again."""
    setting = Setting(6)
    setting.run()
    written = list(setting.world.written)
    setting.store.documents.clear()
    assert setting.run().report["status"] == "ok"
    assert setting.world.written == written
    assert len(setting.memory().scopes) == 7


def test_state_of_the_old_scripts_is_upgraded() -> None:
    """A JSON array of ids becomes a document, and every id is observed and covered."""
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
def test_corrupt_state_is_set_aside_and_rebuilt(blob: bytes) -> None:
    """It is kept under another name, the log has a warning, and the run continues."""
    setting = Setting(2)
    setting.store.replace(blob)
    done = setting.run()
    assert done.report["status"] == "ok"
    assert list(setting.store.aside.values()) == [blob]
    assert setting.events("state-corrupt")
    assert setting.memory().scopes.keys() == {"owner", "s00000", "s00001"}


def test_dry_run_does_not_set_a_corrupt_state_aside() -> None:
    """A dry run writes no state, copy or report."""
    setting = Setting(2)
    setting.store.replace(b"{")
    setting.run(dry_run=True)
    assert (setting.store.data, setting.store.aside, setting.store.reports) == (b"{", {}, {})
    assert setting.world.written == []


def test_denied_state_fails_the_run() -> None:
    """A state that cannot be read is neither missing nor corrupt, so nothing is created."""
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
def test_foreign_state_is_refused_and_unchanged(change: dict[str, object], code: str) -> None:
    """The state of another owner, another cloud or a newer version ends the run."""
    setting = Setting(2)
    blob = dump(msgspec.structs.replace(fresh("memory"), **{"owner": "org-1", **change}), setting.clock.now())
    setting.store.replace(blob)
    done = setting.run()
    assert (done.report["status"], done.report["failures"][0]["code"]) == ("failed", code)
    assert setting.store.data == blob
    assert setting.world.written == []


def test_accepted_target_is_pending_within_its_grace_and_recreated_after_it() -> None:
    """The listing does not contain the target yet."""
    setting = Setting(1)
    setting.world.delay = timedelta(hours=5)
    first = setting.run()
    assert (first.report["scopes"]["pending"], first.report["scopes"]["covered"]) == (1, 1)
    setting.clock.advance(-1800)
    assert setting.run(dry_run=True).report["outcomes"]["KEEP"] == {"pending": 1, "unchanged": 3}
    assert [one.key.kind for one in actions(setting.run(dry_run=True), "CREATE")] == ["role"]


def test_accepted_target_that_never_appears_becomes_overdue() -> None:
    """After its grace it is a failure with a remedy, and is created again with back-off."""
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


def test_target_that_stays_pending_becomes_overdue() -> None:
    """A target that the cloud reports as pending beyond its grace degrades the run, with a remedy."""
    setting = Setting(1)
    setting.run()
    setting.world.things[Key("s00000", "role", "reader")].health = Health.PENDING
    statuses = [setting.run().report for _ in range(4)]
    assert [one["status"] for one in statuses] == ["ok", "degraded", "degraded", "degraded"]
    assert [one["scopes"]["pending"] for one in statuses] == [1, 0, 0, 0]
    assert all("--scope s00000" in one["remedy"] for report in statuses[1:] for one in report["failures"])
    setting.world.things[Key("s00000", "role", "reader")].health = Health.HEALTHY
    assert setting.run().report["status"] == "ok"


def test_failed_target_is_retried_after_its_back_off() -> None:
    """The failure degrades the run and affects no other target."""
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
def test_requested_scope_is_retried_immediately(request_: dict[str, object]) -> None:
    """This works by the scope's id or for all scopes, whatever the back-off."""
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


def test_deferral_becomes_overdue_after_three_attempts() -> None:
    """The first deferrals leave the run ok, the third degrades it."""
    setting = Setting(2)
    setting.world.faults["write", "s00001"] = Transient("busy", "an operation is in progress", within_run=False)
    statuses = [setting.run().report["status"] for _ in range(4)]
    assert statuses[0] == "ok"
    assert statuses[-1] == "degraded"


def test_refused_scope_is_excluded_logged_once_and_retried_after_a_week() -> None:
    """It is neither a failure nor covered; the report counts it by its reason."""
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


def test_unhealthy_target_is_deferred_or_becomes_a_manual_step() -> None:
    """Health that recovers without action is deferred; other health is a manual step immediately."""
    setting = Setting(2)
    setting.run()
    setting.world.things[EXPORT].health = Health.WAITING
    assert setting.run().report["scopes"]["deferred"] == 1
    setting.world.things[EXPORT].health = Health.MANUAL
    assert setting.run().report["scopes"]["manual"] == 1
    setting.world.things[EXPORT].health = Health.BROKEN
    setting.clock.advance(86400)
    assert [one.key for one in actions(setting.run(), "REPAIR")] == [EXPORT]


def test_request_touches_only_its_scopes_and_their_dependencies() -> None:
    """The report has only the requested scope."""
    setting = Setting(5)
    done = setting.run(scopes=["s00001"])
    assert {key.scope for _, key in setting.world.written} == {"owner", "s00001"}
    assert done.report["scopes"]["total"] == 1
    assert setting.memory().scopes["s00004"].missed == 0


def test_unknown_requested_scope_is_reported() -> None:
    """The other requested scopes are served."""
    setting = Setting(2)
    done = setting.run(scopes=["s00001", "typo"])
    assert [(one["scope"], one["code"]) for one in done.report["failures"]] == [("typo", "unknown-scope")]
    assert done.report["status"] == "degraded"
    assert EXPORT in setting.world.things


def test_requested_scope_ignores_case() -> None:
    """Ids that differ only in case count once."""
    setting = Setting(2)
    done = setting.run(scopes=["S00001", "s00001"])
    assert done.report["failures"] == []
    assert done.report["scopes"]["total"] == 1
    assert EXPORT in setting.world.things


def test_run_with_only_unknown_scopes_fails_and_writes_nothing() -> None:
    """The run reports each id and keeps no lock."""
    setting = Setting(2)
    done = setting.run(scopes=["typo", "another"])
    assert [(one["scope"], one["code"]) for one in done.report["failures"]] == [
        ("another", "unknown-scope"),
        ("typo", "unknown-scope"),
    ]
    assert (done.report["status"], done.plan, setting.world.written) == ("failed", None, [])
    assert setting.run().report["status"] == "ok"


def test_dependents_of_a_deferred_write_are_deferred() -> None:
    """A busy destination makes its exports wait without degrading the run."""
    setting = Setting(3)
    setting.world.faults["write", "owner"] = Transient("busy", "later", within_run=False)
    done = setting.run()
    assert done.report["outcomes"]["CREATE"] == {"deferred": 4, "done": 3}
    assert done.report["status"] == "ok"


def test_share_of_vanished_targets_is_of_those_observed() -> None:
    """A small call budget does not hide that everything vanished."""
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
def test_exception_of_a_provider_is_reported_and_the_lock_released(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report has the location in the code but not the exception's text."""
    setting = Setting(3)
    setting.run()
    del setting.world.things[EXPORT]

    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret-token")

    with monkeypatch.context() as patched:
        patched.setattr(InMemoryCloud, operation, broken)
        done = setting.run()
    output = json.dumps([done.report, *(line for line in setting.lines)], default=str)
    assert "secret-token" not in output
    assert "ZeroDivisionError at test_reconcile.py" in output
    assert done.plan is None or len(done.outcomes) == len(done.plan.actions)
    setting.clock.advance(86400)
    assert setting.run().report["status"] == "ok"
    assert setting.covered()


def test_throttling_slows_the_run_without_failures() -> None:
    """A burst of throttled calls is retried within the run."""
    setting = Setting(3)
    left = [4]

    def trip(operation: str, scope: str = "*") -> None:
        if operation == "write" and scope == "*" and left[0]:
            left[0] -= 1
            raise Throttled("throttled", "slow down", retry_after=timedelta(seconds=2))

    setting.world.trip = trip  # type: ignore[method-assign]  # the fault ends after some calls
    done = setting.run()
    assert done.report["status"] == "ok"
    assert setting.covered()
    assert len(setting.events("throttled")) == 4


def test_credentials_that_expire_midway_end_the_run_and_keep_the_state() -> None:
    """Each action has an outcome, the state is saved, and the next run continues."""
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


def test_complete_report_is_stored_and_the_response_shortened() -> None:
    """The response has the first items of a long list and the number of the others."""
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
    complete = document(setting.store.reports[done.report["run_id"]])
    assert len(complete["manual"]) == len(done.report["manual"]) == 240
    assert complete == json.loads(json.dumps(done.report))


def test_log_has_constant_events_and_common_fields() -> None:
    """Each line has run and cloud; targets have scope, kind and name."""
    setting = Setting(1)
    done = setting.run()
    events = [event for _, event, _ in setting.lines]
    assert events[0] == "run-started"
    assert events[-1] == "run-finished"
    assert {fields["run_id"] for _, _, fields in setting.lines} == {done.report["run_id"]}
    created = setting.events("write-done")[0][2]
    assert set(created) >= {"run_id", "cloud", "scope", "kind", "name", "verb", "reason"}


def test_missing_state_container_does_not_stop_the_run() -> None:
    """The run repairs the cloud without a lock, and reports that it could not save."""
    setting = Setting(2)
    setting.store.exists = False
    done = setting.run()
    assert setting.covered()
    assert [one["code"] for one in done.report["failures"]] == ["state-unsaved"]
    assert done.report["status"] == "degraded"
    setting.store.exists = True
    assert setting.run().report["status"] == "ok"


def test_run_records_its_calls_log_and_report_sizes() -> None:
    """Its costs are estimated from these figures in the run history."""
    setting = Setting(3)
    report = setting.run().report
    (note,) = setting.memory().runs
    assert note.calls == report["calls"]
    assert note.log_lines > 2
    assert note.log_bytes > 20 * note.log_lines
    assert note.report_bytes > 200
    assert note.freshness_lag_h is None


def test_former_target_is_forgotten_by_a_run() -> None:
    """What is no target anymore stays in the state only as long as its kind says."""
    setting = Setting(2)
    setting.run()
    stored = setting.memory()
    old = setting.clock.now() - 2 * FORGET_AFTER
    stored.scopes["s00001"].targets["export/former"] = TargetState(at=old, present=True)
    setting.store.save(dump(stored, setting.clock.now()), setting.store.load(1).version)
    setting.run()
    assert "export/former" not in setting.memory().scopes["s00001"].targets
    assert "export/daily" in setting.memory().scopes["s00001"].targets


def test_former_target_of_a_kind_that_changes_daily_is_forgotten_sooner() -> None:
    """Its kind says when, as long as it has targets."""
    daily = msgspec.structs.replace(BUILT_EXPORT, forget_after=timedelta(days=7))
    now, store, recorder = START, InMemoryStore(), Recorder()

    class Daily(ScriptedCloud):
        def enumerate(self, scopes: Sequence[str]) -> Enumeration:
            del scopes
            return enumeration("s1")

        def targets(self, enumeration: Enumeration, known: KnownStates) -> Sequence[Target]:
            del enumeration, known
            return [target("s1", daily, "today")]

    names = (("today", 8), ("last-week", 7), ("this-week", 6))
    stored = remembering({Key("s1", "export", name): TargetState(at=now - timedelta(days=age)) for name, age in names})
    store.replace(dump(stored, now))
    reconcile(Daily(), store, RunRequest(), recorder.run)
    left = parse(store.data or b"", "memory", now).scopes["s1"].targets
    assert sorted(left) == ["export/this-week", "export/today"]


def test_verifying_everything_ignores_the_budget_of_reads() -> None:
    """A person who asks for it gets all targets looked at in one run."""
    setting = Setting(6, call_budget=2)
    setting.run()
    usual = setting.run()
    everything = setting.run(verify_all=True)
    assert usual.report["calls"].get("read", 0) <= 2
    assert everything.report["calls"]["read"] >= 6


def test_targets_of_a_suspended_scope_are_not_read() -> None:
    """Each read is a call, and nothing would follow from it."""
    setting = Setting(3)
    setting.run()
    active = setting.run(verify_all=True).report["calls"]["read"]
    for one in ("s00001", "s00002"):
        scope = setting.world.scopes[one]
        setting.world.scopes[one] = msgspec.structs.replace(scope, state=ScopeState.INACTIVE, reason="SUSPENDED")
    assert setting.run(verify_all=True).report["calls"]["read"] < active


def test_first_log_line_says_that_a_run_is_dry() -> None:
    """Otherwise it looks like a run that found nothing to do."""
    setting = Setting(1)
    setting.run(dry_run=True)
    setting.run()
    assert [fields.get("reason") for _, _, fields in setting.events("run-started")] == ["dry run", None]


def test_end_of_a_failed_run_is_logged_as_an_error() -> None:
    """Alarms select lines by their level."""
    setting = Setting(1)
    setting.run()
    setting.world.faults["enumerate", "*"] = RunStopped("credentials", "expired")
    setting.run()
    assert [level for level, _, _ in setting.events("run-finished")] == ["info", "error"]


def test_unknown_id_is_cut_in_the_report() -> None:
    """A request may hold anything."""
    setting = Setting(2)
    done = setting.run(scopes=["s00001", "x" * 100])
    (failure,) = [one for one in done.report["failures"] if one["code"] == "unknown-scope"]
    assert failure["scope"] == "x" * 80
    assert "x" * 81 not in failure["message"]


def test_newly_refused_scopes_are_counted_once() -> None:
    """The metric is of scopes that became excluded, not of those that are."""
    setting = Setting(2)
    setting.world.faults["write", "s00001"] = NotApplicable("offer", "not here")
    counts = [next(one.value for one in setting.run().metrics if one.name == "newly_excluded") for _ in range(2)]
    assert counts == [1, 0]


@pytest.mark.parametrize(
    ("asked", "problem_of", "reported"),
    [
        pytest.param(("s00001",), "s00001", True, id="of the scope that the event names"),
        pytest.param(("s00001", "gone"), "gone", False, id="of a scope that has left"),
        pytest.param(("s00001",), "other", True, id="of another scope"),
    ],
)
def test_run_for_events_reports_problems_of_scopes_that_exist(
    asked: tuple[str, ...], problem_of: str, reported: bool
) -> None:
    """A scope that left since the event is neither a problem nor a reason to stop."""
    setting = Setting(1)
    run = setting.new_run()
    progress = _begin(RunRequest(), run)
    problem = Problem("denied", "no", "Grant it.", problem_of)
    found = Enumeration("org-1", (Scope("s00001"),), complete=False, problems=(problem,))
    hints = Hints(1, dict.fromkeys(asked, ()))
    _record_enumeration(found, RunRequest(scopes=asked, hints=hints), progress, run)
    assert (problem in progress.problems) is reported
    assert not progress.stopped


def test_scope_with_an_impossible_id_makes_the_enumeration_incomplete() -> None:
    """Something altered the listing, so it proves of no scope that it has left."""
    listed = Enumeration("org-1", (Scope("s1"), Scope("s\n2")))
    sound = _with_sound_scopes(listed)
    assert [one.id for one in sound.scopes] == ["s1"]
    assert not sound.complete
    assert [(one.code, one.message) for one in sound.problems] == [
        ("scope-id-odd", "the cloud listed 's\\n2', which cannot be a scope's id")
    ]
    assert sound.problems[0].remedy
    assert _with_sound_scopes(Enumeration("org-1", (Scope("s1"),))).complete
    assert not _with_sound_scopes(Enumeration("org-1", (Scope("s1"),), complete=False)).complete


class Idle:
    """An announcer that announces nothing."""

    def catch_up(self, session: object) -> int:
        del session
        return 0


@pytest.mark.parametrize("announcing", [False, True])
def test_recorded_deliveries_are_remembered_once_they_are_announced(announcing: bool) -> None:
    """Without announcements, recording them is all that there is to do."""
    setting = Setting(2)
    setting.run()
    setting.world.deliver(setting.clock.now())
    setting.announcer = (lambda _: Idle()) if announcing else None  # type: ignore[assignment, return-value]  # has what is used of one
    report = setting.run(verify_all=True).report
    assert bool(setting.memory().ledger) is not announcing
    assert DELIVERIES in setting.store.documents
    assert report["deliveries"] == {"new": 2, "late": 0, "missing": 0}


def test_runs_for_events_keep_a_distance_from_each_other_only() -> None:
    """A storm of events is merged, and the schedule is not delayed by it."""
    setting = Setting(2)
    setting.run()
    assert setting.memory().event_run_at is None
    event = hinted(Hints(1, {"s00001": ()}))
    setting.run_now(event)
    assert setting.memory().event_run_at == setting.clock.now()
    with pytest.raises(TooSoon):
        setting.run_now(event)
    setting.clock.advance(1)
    setting.run_now(RunRequest())
    setting.clock.advance(59)
    setting.run_now(event)
    reasons = [fields.get("reason", "") for _, _, fields in setting.events("run-started")]
    assert [bool(one) for one in reasons] == [False, True, True, False, True]
    assert [one.limited for one in setting.memory().runs] == [False, True, False, True]
    setting.run(scopes=["s00001"])
    assert setting.memory().runs[-1].limited


def test_run_records_the_freshness_lag_in_hours() -> None:
    """It has two digits."""
    setting = Setting(2)
    setting.run()
    setting.world.deliver(setting.clock.now())
    setting.clock.advance(500_000)
    setting.run(verify_all=True)
    assert setting.memory().runs[-1].freshness_lag_h == 138.89


def test_plan_is_announced_in_the_log_and_in_the_report() -> None:
    """A cap is a warning, with the number of writes that wait."""
    setting = Setting(5, max_writes=4)
    finished = setting.run()
    assert finished.plan is not None
    assert finished.report["plan_hash"] == finished.plan.hash
    assert [fields["reason"] for _, _, fields in setting.events("planned")] == ["CREATE 4, DEFER 7, KEEP 1"]
    assert [line[0] for line in setting.events("writes-capped")] == ["warning"]
    setting.run()
    setting.run()
    assert len(setting.events("writes-capped")) == 2


def test_names_in_an_enumeration_are_printable() -> None:
    """They go into logs and reports."""
    listed = Enumeration("org-1", (Scope("s1", name="a\x1bb", reason="c\x1bd"), Scope("s2", name="e")))
    found = _with_sound_scopes(listed).scopes
    assert "\x1b" not in found[0].name + found[0].reason
    assert found[1] is listed.scopes[1]


def test_pending_write_is_logged_and_a_kept_one_is_not() -> None:
    """The level of each line shows whether an operator has to act."""
    setting = Setting(1)
    setting.world.delay = timedelta(hours=5)
    setting.run()
    assert {line[0] for line in setting.events("write-pending")} == {"info"}
    pending = len(setting.events("write-pending"))
    setting.clock.advance(-3600)
    kept = actions(setting.run(), "KEEP")
    assert "pending" in {one.reason for one in kept}
    assert len(setting.events("write-pending")) == pending


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (Result.DONE, ("info", "write-done")),
        (Result.FAILED, ("error", "write-failed")),
        (Result.DEFERRED, ("info", "deferred")),
        (Result.BLOCKED, ("warning", "blocked")),
        (Result.MANUAL, ("warning", "manual-step")),
        (Result.PENDING, ("info", "write-pending")),
        (Result.UNCHANGED, None),
        (Result.SKIPPED, None),
    ],
)
def test_outcome_is_logged_by_its_result(result: Result, line: tuple[str, str] | None) -> None:
    """Alarms select lines by event and level."""
    recorder = Recorder()
    _log_outcome(outcome(result), recorder.run)
    assert [(level, event) for level, event, _ in recorder.lines] == ([line] if line else [])


def test_time_kept_for_saving_is_free_once_work_has_ended() -> None:
    """A quota that pauses must not keep the run from saving its results and freeing its lock."""
    recorder = Recorder()
    reconcile(ScriptedCloud(), InMemoryStore(), RunRequest(), recorder.run)
    assert recorder.run.deadline.closing


def test_dry_run_is_complete_and_a_run_frees_its_lock() -> None:
    """Nothing of the plan is left to carry out."""
    setting = Setting(2)
    assert setting.run(dry_run=True).report["run_complete"]
    setting.run()
    assert setting.memory().running is None


def test_unsaved_state_has_the_remedy_of_its_error_or_the_usual_one() -> None:
    """Nothing is published then: the next run would publish it again."""
    for remedy in ("Free some space.", ""):
        setting = Setting(1, publishing=QUIET, publish_page=True)
        setting.run()
        published = setting.store.documents[PAGE]

        def full(setting: Setting = setting, remedy: str = remedy) -> None:
            setting.store.before_save = lambda: setting.store.faults.update(save=Permanent("disk", "full", remedy))

        setting.store.before_save = full  # the lock is taken, and nothing is saved afterwards
        (failure,) = setting.run().report["failures"]
        assert failure["code"] == "state-unsaved"
        assert failure["remedy"] == (remedy or SAVE_REMEDY)
        assert setting.store.documents[PAGE] == published


def test_run_without_any_scope_excludes_none() -> None:
    """A refused listing says nothing about scopes."""
    setting = Setting(1)
    problem = Problem("denied", "no", "Grant it.")
    with pytest.raises(RunStopped) as raised:
        _record_enumeration(
            Enumeration("org-1", (), complete=False, problems=(problem,)),
            RunRequest(),
            _begin(RunRequest(), setting.new_run()),
            setting.new_run(),
        )
    assert (raised.value.code, raised.value.remedy) == ("nothing-enumerated", "Grant it.")
    setting.world.faults["enumerate", "*"] = RunStopped("credentials", "expired")
    assert {one.value for one in setting.run().metrics if one.name == "newly_excluded"} <= {0}
