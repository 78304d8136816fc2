"""The class of each scope, which is the worst of its targets and their dependencies, and whether its data arrives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from shared.coverage import classify, count_scopes, find_silence, last_delivery
from shared.model import (
    AWAITING,
    DELIVERING,
    Enumeration,
    Key,
    Kind,
    Outcome,
    Present,
    Result,
    Scope,
    Stage,
    Target,
    Verb,
    Verdict,
)
from shared.settings import EngineSettings
from shared.staleness import stale_after
from shared.state.document import StateDocument, fresh
from shared.target_state import LastError, TargetState
from tests.shared.builders import DAY, DESTINATION, EXPORT, HOUR, ROLE, START, action, remembering

SETTINGS = EngineSettings()
RHYTHM = timedelta(hours=48)
OWNERS_EXPORT = Key("owner", "export", "all")
SWITCH = Kind("switch", Stage.DESTINATION, writable=False, only_to_write=True)


def outcome(result: Result, target: Target, verb: Verb = Verb.KEEP, **fields: Any) -> Outcome:
    """Return an outcome for a target."""
    seen = fields.pop("observation", Present())
    done = msgspec.structs.replace(action(verb), target=target, observation=seen)
    return Outcome(done, result, **{"code": result.value, **fields})


def target(scope: str, kind: Kind = ROLE, name: str = "reader", **fields: Any) -> Target:
    """Return a target."""
    return Target(Key(scope, kind.name, name), kind, **fields)


def verdicts(
    outcomes: Sequence[Outcome],
    *ids: str,
    memory: StateDocument | None = None,
    uncounted: str = "",
) -> Mapping[str, Verdict]:
    """Return the verdicts on active scopes."""
    shown = Enumeration("org-1", tuple(Scope(one, counted=one != uncounted) for one in ids))
    return classify(shown, outcomes, memory or fresh("memory"), SETTINGS, START)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (Result.UNCHANGED, "covered"),
        (Result.PENDING, "pending"),
        (Result.DEFERRED, "deferred"),
        (Result.EXCLUDED, "excluded"),
        (Result.MANUAL, "manual"),
        (Result.FAILED, "failed"),
        (Result.BLOCKED, "failed"),
    ],
)
def test_members_are_covered_only_if_their_export_is(result: Result, expected: str) -> None:
    """If the organization's only export is deleted or refused, none of its accounts is covered."""
    export = outcome(result, target("owner", EXPORT, "all"))
    members = [
        outcome(Result.UNCHANGED, target(one, rests_on=(OWNERS_EXPORT,))) for one in ("member1", "member2", "member3")
    ]
    found = verdicts([export, *members], "member1", "member2", "member3", "owner")
    assert {one.coverage for one in found.values()} == {expected}
    assert {one.code for one in found.values()} == {result.value}


def test_indirect_dependencies_count() -> None:
    """A role depends on an export, which depends on a bucket: a problem of the bucket affects the role's scope."""
    bucket = outcome(Result.MANUAL, target("owner", DESTINATION, "data"))
    export = outcome(Result.UNCHANGED, target("owner", EXPORT, "all", needs=(bucket.key,)))
    role = outcome(Result.UNCHANGED, target("member", rests_on=(OWNERS_EXPORT,)))
    assert verdicts([bucket, export, role], "member")["member"].coverage == "manual"


@pytest.mark.parametrize(
    ("holder", "expected"), [(Result.MANUAL, "manual"), (Result.FAILED, "failed"), (Result.BLOCKED, "failed")]
)
@pytest.mark.parametrize("kind", [DESTINATION, SWITCH])
def test_scope_blocked_by_a_manual_step_is_manual(holder: Result, expected: str, kind: Kind) -> None:
    """The step resolves everything that it blocks, across stages; a scope is failed only if a target failed."""
    base = outcome(holder, target("owner", kind, "data"))
    export = outcome(Result.BLOCKED, target("owner", EXPORT, "all", needs=(base.key,)), Verb.BLOCK, code="rests-on")
    role = outcome(Result.BLOCKED, target("member", needs=(export.key,)), Verb.BLOCK, code="rests-on")
    assert verdicts([base, export, role], "member")["member"].coverage == expected


def test_skipped_entry_of_an_earlier_version_is_not_covered() -> None:
    """Earlier versions recorded a refusal as skipped, which must not count in a run for one account."""
    refused = target("owner", EXPORT, "all")
    member = target("member", rests_on=(refused.key,))
    trouble = LastError(code="offer-unsupported", message="no", result="skipped")
    memory = remembering({refused.key: TargetState(at=START, present=True, error=trouble)})
    shown = Enumeration("org-1", (Scope("member"),))
    seen = [outcome(Result.UNCHANGED, member)]
    found = classify(shown, seen, memory, SETTINGS, START, targets=[refused, member])
    assert found["member"] == Verdict("excluded", "offer-unsupported")


def test_dependency_of_a_write_does_not_affect_existing_targets() -> None:
    """A switch that new roles need does not affect existing roles."""
    switch = outcome(Result.MANUAL, target("owner", SWITCH, "sharing"))
    role = outcome(Result.UNCHANGED, target("member", needs=(switch.key,)))
    found = verdicts([switch, role], "member", "owner")
    assert (found["member"].coverage, found["owner"].coverage) == ("covered", "manual")


def test_circular_dependencies_terminate() -> None:
    """Two targets that depend on each other are each evaluated once."""
    one, other = Key("a", "role", "reader"), Key("b", "role", "reader")
    found = verdicts(
        [
            outcome(Result.UNCHANGED, target("a", rests_on=(other,))),
            outcome(Result.MANUAL, target("b", rests_on=(one,))),
        ],
        "a",
        "b",
    )
    assert found["a"].coverage == found["b"].coverage == "manual"


def test_target_that_does_not_apply_is_neutral() -> None:
    """It does not change the class of its scope; a scope with no other target is excluded."""
    skipped = outcome(Result.SKIPPED, target("s1", EXPORT, "prices", skip="not here"), Verb.SKIP)
    daily = outcome(Result.UNCHANGED, target("s1", EXPORT, "daily"))
    assert verdicts([skipped, daily], "s1")["s1"].coverage == "covered"
    alone = verdicts([skipped], "s1", "s2")
    assert [(one.coverage, one.code) for one in alone.values()] == [("excluded", "not-applicable")] * 2


def test_scope_with_costs_in_another_export_depends_on_that_export() -> None:
    """Its own export does not apply; if the billing scope's export fails, the scope is not covered."""
    own = target("s1", EXPORT, "daily", skip="its costs are in export all", rests_on=(OWNERS_EXPORT,))
    for result, expected in ((Result.UNCHANGED, "covered"), (Result.FAILED, "failed")):
        outcomes = [
            outcome(Result.SKIPPED, own, Verb.SKIP),
            outcome(result, target("owner", EXPORT, "all")),
        ]
        assert verdicts(outcomes, "s1")["s1"].coverage == expected


def test_container_scope_is_not_counted() -> None:
    """A project is not a billing account, but the accounts that depend on it have its problems."""
    project = outcome(Result.MANUAL, target("project", DESTINATION, "dataset"))
    account = outcome(Result.UNCHANGED, target("account", EXPORT, "daily", rests_on=(project.key,)))
    shown = Enumeration("org-1", (Scope("account"), Scope("project", counted=False)))
    found = verdicts([project, account], "account", "project", uncounted="project")
    assert {name: one.coverage for name, one in found.items()} == {"account": "manual"}
    counts = count_scopes(shown, found)
    assert (counts["total"], counts["active"], counts["manual"]) == (1, 1, 1)


DATA = target("s1", EXPORT, "daily", rhythm=RHYTHM)


@pytest.mark.parametrize(
    ("one", "entry", "data"),
    [
        pytest.param(outcome(Result.DONE, DATA, Verb.CREATE), None, AWAITING, id="just created"),
        pytest.param(outcome(Result.UNCHANGED, DATA), TargetState(at=START), AWAITING, id="never delivered"),
        pytest.param(outcome(Result.MANUAL, DATA), TargetState(at=START), "", id="nothing will come"),
        pytest.param(outcome(Result.EXCLUDED, DATA), TargetState(at=START), "", id="refused"),
        pytest.param(
            outcome(Result.UNCHANGED, DATA, observation=Present(delivered_at=START - HOUR)), None, DELIVERING, id="now"
        ),
        pytest.param(
            outcome(Result.UNCHANGED, DATA), TargetState(at=START, delivered_at=START - DAY), DELIVERING, id="by memory"
        ),
        pytest.param(
            outcome(Result.UNCHANGED, DATA), TargetState(at=START, delivered_at=START - 3 * DAY), "", id="silent"
        ),
    ],
)
def test_scope_is_delivering_awaiting_first_data_or_silent(one: Outcome, entry: TargetState | None, data: str) -> None:
    """This is reported in addition to the scope's class."""
    memory = remembering({DATA.key: entry}) if entry else fresh("memory")
    assert verdicts([one], "s1", memory=memory)["s1"].data == data


def test_limit_of_the_provider_takes_precedence() -> None:
    """An account that may be billed monthly is not late after three days if its provider says so."""
    seen = Present(delivered_at=START - 3 * DAY, silent_after=35 * DAY)
    one = outcome(Result.UNCHANGED, DATA, observation=seen)
    assert verdicts([one], "s1")["s1"].data == DELIVERING
    assert find_silence([one], fresh("memory"), SETTINGS, START).late == ()


def test_planned_export_does_not_await_data() -> None:
    """In a dry run nothing was created, so the scope waits but no data is expected."""
    found = verdicts([outcome(Result.PLANNED, DATA, Verb.CREATE, code="planned")], "s1")
    assert found["s1"] == Verdict("deferred", "planned", "")


def test_members_deliver_through_their_export() -> None:
    """Their data arrives with the organization's; if one of two datasets is silent, they are not delivering."""
    kinds = [target("owner", EXPORT, name, rhythm=RHYTHM) for name in ("all", "more")]
    member = outcome(Result.UNCHANGED, target("member", rests_on=tuple(one.key for one in kinds)))
    fresh_data, old = Present(delivered_at=START), Present(delivered_at=START - 4 * DAY)
    for second, data in ((fresh_data, DELIVERING), (old, "")):
        outcomes = [
            outcome(Result.UNCHANGED, kinds[0], observation=fresh_data),
            outcome(Result.UNCHANGED, kinds[1], observation=second),
            member,
        ]
        assert verdicts(outcomes, "member")["member"].data == data


def test_silence_is_late_or_missing_data() -> None:
    """Late data was delivered before; missing data should have started by now, even if the export was repaired."""
    names = ("fresh", "late", "young", "missing", "refused", "repaired")
    targets = {name: target("s1", EXPORT, name, rhythm=RHYTHM) for name in names}
    memory = remembering(
        {
            targets["fresh"].key: TargetState(at=START, present=True, delivered_at=START - HOUR),
            targets["late"].key: TargetState(at=START, present=True, delivered_at=START - 3 * DAY),
            targets["young"].key: TargetState(at=START, present=True, applied_at=START - DAY),
            targets["missing"].key: TargetState(at=START, present=True, applied_at=START - 3 * DAY),
            targets["refused"].key: TargetState(at=START, present=True, applied_at=START - 3 * DAY),
            targets["repaired"].key: TargetState(
                at=START, present=True, created_at=START - 3 * DAY, applied_at=START - HOUR
            ),
        }
    )
    outcomes = [
        outcome(Result.EXCLUDED if name == "refused" else Result.UNCHANGED, one) for name, one in targets.items()
    ]
    found = find_silence(outcomes, memory, SETTINGS, START)
    assert [one.key.name for one in found.late] == ["late"]
    assert [one.key.name for one in found.missing] == ["missing", "repaired"]


@pytest.mark.parametrize(
    ("entry", "skip", "expected"),
    [
        pytest.param(None, "", Verdict("deferred", "not-looked-at"), id="nothing is known of it"),
        pytest.param(TargetState(at=START), "", Verdict("deferred", "not-looked-at"), id="it was never seen"),
        pytest.param(
            TargetState(at=START, present=True), "", Verdict("covered", "unchanged", AWAITING), id="it awaits data"
        ),
        pytest.param(
            TargetState(at=START, present=True, delivered_at=START - HOUR),
            "",
            Verdict("covered", "unchanged", DELIVERING),
            id="it delivers",
        ),
        pytest.param(
            TargetState(at=START, present=True, delivered_at=START - 9 * DAY),
            "",
            Verdict("covered", "unchanged"),
            id="it is silent",
        ),
        pytest.param(
            TargetState(at=START, error=LastError(code="denied", message="no", result="manual")),
            "",
            Verdict("manual", "denied"),
            id="an error is recorded, although it was never seen",
        ),
        pytest.param(None, "not here", Verdict("covered", "unchanged"), id="it does not apply"),
    ],
)
def test_target_outside_the_run_counts_as_it_is_recorded(
    entry: TargetState | None, skip: str, expected: Verdict
) -> None:
    """A run for one scope looks at its targets only, and the organization's export is judged by the state."""
    export = target("owner", EXPORT, "all", rhythm=RHYTHM, skip=skip)
    role = target("member", rests_on=(export.key,))
    memory = remembering({export.key: entry}) if entry else fresh("memory")
    shown = Enumeration("org-1", (Scope("member"),))
    found = classify(shown, [outcome(Result.UNCHANGED, role)], memory, SETTINGS, START, targets=[export, role])
    assert found["member"] == expected


def test_targets_that_events_left_out_count_only_in_scopes_that_were_looked_at() -> None:
    """A run for events looks at the named targets: the others of the same scope keep their recorded state."""
    seen, rest = target("s1", EXPORT, "daily"), target("s1", EXPORT, "focus")
    skipped, other = target("s1", EXPORT, "prices", skip="not here"), target("s2", EXPORT, "daily")
    trouble = LastError(code="denied", message="no", result="failed")
    memory = remembering({one.key: TargetState(at=START, error=trouble) for one in (rest, skipped, other)})
    shown = Enumeration("org-1", (Scope("s1"), Scope("s2")))
    targets = [seen, rest, skipped, other]
    found = classify(shown, [outcome(Result.UNCHANGED, seen)], memory, SETTINGS, START, targets=targets)
    assert found == {"s1": Verdict("failed", "denied"), "s2": Verdict("excluded", "not-applicable")}
    del memory.scopes["s1"].targets["export/focus"]
    found = classify(shown, [outcome(Result.UNCHANGED, seen)], memory, SETTINGS, START, targets=[seen, skipped])
    assert found["s1"] == Verdict("covered", "unchanged")


def test_first_of_equally_bad_targets_gives_the_code() -> None:
    """The order of the outcomes decides, so that a report does not change from run to run."""
    some = [outcome(Result.FAILED, target("s1", EXPORT, name), code=name) for name in ("a", "b")]
    assert verdicts(some, "s1")["s1"].code == "a"


@pytest.mark.parametrize("kind", [DESTINATION, SWITCH])
def test_blocked_write_is_as_bad_as_the_worst_that_it_needs(kind: Kind) -> None:
    """A failed prerequisite counts even if another one only waits for a person."""
    bases = [outcome(result, target("owner", kind, result.value)) for result in (Result.MANUAL, Result.FAILED)]
    needs = tuple(one.key for one in bases)
    write = outcome(Result.BLOCKED, target("s1", EXPORT, "daily", needs=needs), Verb.BLOCK, code="rests-on")
    assert verdicts([*bases, write], "s1")["s1"].coverage == "failed"


def test_skipped_target_depends_on_what_holds_its_costs_only() -> None:
    """What its own export would need does not matter, since that export is not wanted."""
    base = outcome(Result.FAILED, target("owner", DESTINATION, "data"), Verb.CREATE)
    whole = outcome(Result.UNCHANGED, target("owner", EXPORT, "all"))
    member = target("s1", EXPORT, "daily", needs=(base.key,), rests_on=(whole.key,), skip="it is in the owner's export")
    assert verdicts([base, whole, outcome(Result.SKIPPED, member, Verb.SKIP)], "s1")["s1"].coverage == "covered"


def test_run_that_ended_before_its_plan_has_no_evidence() -> None:
    """Its scopes are deferred, not excluded."""
    assert verdicts([], "s1")["s1"] == Verdict("deferred", "run-stopped")


def test_only_an_awaited_first_delivery_makes_a_pending_target_covered() -> None:
    """What was accepted and is not there yet is pending; one that exists and waits for data is covered."""
    for result, first_data, expected in (
        (Result.PENDING, True, "covered"),
        (Result.PENDING, False, "pending"),
        (Result.DEFERRED, True, "deferred"),
    ):
        seen = Present(first_data=first_data)
        assert verdicts([outcome(result, DATA, observation=seen)], "s1")["s1"].coverage == expected


def test_later_of_two_deliveries_counts() -> None:
    """A listing may be older than what is recorded, and the other way round."""
    seen, recorded = Present(delivered_at=START - 9 * DAY), TargetState(at=START, delivered_at=START - HOUR)
    one = outcome(Result.UNCHANGED, DATA, observation=seen)
    assert last_delivery(one, recorded) == START - HOUR
    assert last_delivery(one, None) == START - 9 * DAY
    assert last_delivery(outcome(Result.UNCHANGED, DATA), None) is None


@pytest.mark.parametrize(("seconds", "late"), [(-1, False), (0, True)])
def test_data_is_late_as_soon_as_its_time_has_passed(seconds: int, late: bool) -> None:
    """The limit itself is late, for the first delivery and for later ones."""
    limit = stale_after(RHYTHM, SETTINGS, None) + timedelta(seconds=seconds)
    once = remembering({DATA.key: TargetState(at=START, present=True, delivered_at=START - limit)})
    never = remembering({DATA.key: TargetState(at=START, present=True, created_at=START - limit)})
    one = outcome(Result.UNCHANGED, DATA)
    assert bool(find_silence([one], once, SETTINGS, START).late) is late
    assert bool(find_silence([one], never, SETTINGS, START).missing) is late
