"""What is true of each scope: its class by the worst of all that it rests on, and whether its data arrives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from shared.coverage import classify, count_scopes, find_silence
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
from shared.state.document import StateDocument, fresh
from shared.target_state import LastError, TargetState
from tests.shared.builders import DAY, DESTINATION, EXPORT, HOUR, ROLE, START, action, remembering

SETTINGS = EngineSettings()
RHYTHM = timedelta(hours=48)
OWNERS_EXPORT = Key("owner", "export", "all")
SWITCH = Kind("switch", Stage.DESTINATION, writable=False, only_to_write=True)


def outcome(result: Result, target: Target, verb: Verb = Verb.KEEP, **fields: Any) -> Outcome:
    """Return what became of a target."""
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
def test_members_are_covered_no_better_than_the_export_they_rest_on(result: Result, expected: str) -> None:
    """With the organization's one export deleted or refused, not one of its accounts is covered."""
    export = outcome(result, target("owner", EXPORT, "all"))
    members = [
        outcome(Result.UNCHANGED, target(one, rests_on=(OWNERS_EXPORT,))) for one in ("member1", "member2", "member3")
    ]
    found = verdicts([export, *members], "member1", "member2", "member3", "owner")
    assert {one.coverage for one in found.values()} == {expected}
    assert {one.code for one in found.values()} == {result.value}


def test_what_is_needed_counts_however_far_away() -> None:
    """A role rests on an export, which needs a bucket: what ails the bucket ails the role's scope."""
    bucket = outcome(Result.MANUAL, target("owner", DESTINATION, "data"))
    export = outcome(Result.UNCHANGED, target("owner", EXPORT, "all", needs=(bucket.key,)))
    role = outcome(Result.UNCHANGED, target("member", rests_on=(OWNERS_EXPORT,)))
    assert verdicts([bucket, export, role], "member")["member"].coverage == "manual"


@pytest.mark.parametrize(
    ("holder", "expected"), [(Result.MANUAL, "manual"), (Result.FAILED, "failed"), (Result.BLOCKED, "failed")]
)
@pytest.mark.parametrize("kind", [DESTINATION, SWITCH])
def test_what_is_blocked_until_a_person_acts_waits_for_that_person(holder: Result, expected: str, kind: Kind) -> None:
    """The step cures what it blocks, through stages too: a scope is failed only by what failed."""
    base = outcome(holder, target("owner", kind, "data"))
    export = outcome(Result.BLOCKED, target("owner", EXPORT, "all", needs=(base.key,)), Verb.BLOCK, code="rests-on")
    role = outcome(Result.BLOCKED, target("member", needs=(export.key,)), Verb.BLOCK, code="rests-on")
    assert verdicts([base, export, role], "member")["member"].coverage == expected


def test_what_another_version_called_skipped_is_no_coverage() -> None:
    """Earlier versions noted a refusal as skipped: a run for one account must not read coverage out of it."""
    refused = target("owner", EXPORT, "all")
    member = target("member", rests_on=(refused.key,))
    trouble = LastError(code="offer-unsupported", message="no", result="skipped")
    memory = remembering({refused.key: TargetState(at=START, present=True, error=trouble)})
    shown = Enumeration("org-1", (Scope("member"),))
    seen = [outcome(Result.UNCHANGED, member)]
    found = classify(shown, seen, memory, SETTINGS, START, targets=[refused, member])
    assert found["member"] == Verdict("excluded", "offer-unsupported")


def test_what_is_needed_only_to_write_says_nothing_of_what_exists() -> None:
    """A switch that new roles need leaves those that exist as they are."""
    switch = outcome(Result.MANUAL, target("owner", SWITCH, "sharing"))
    role = outcome(Result.UNCHANGED, target("member", needs=(switch.key,)))
    found = verdicts([switch, role], "member", "owner")
    assert (found["member"].coverage, found["owner"].coverage) == ("covered", "manual")


def test_a_circle_of_needs_ends() -> None:
    """Two targets that name each other are judged once each."""
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


def test_what_does_not_apply_says_nothing_unless_nothing_else_is_wanted() -> None:
    """A neutral target leaves its scope's class alone; a scope for which nothing is exported is excluded."""
    skipped = outcome(Result.SKIPPED, target("s1", EXPORT, "prices", skip="not here"), Verb.SKIP)
    daily = outcome(Result.UNCHANGED, target("s1", EXPORT, "daily"))
    assert verdicts([skipped, daily], "s1")["s1"].coverage == "covered"
    alone = verdicts([skipped], "s1", "s2")
    assert [(one.coverage, one.code) for one in alone.values()] == [("excluded", "not-applicable")] * 2


def test_a_scope_whose_costs_are_in_anothers_export_is_judged_by_that_one() -> None:
    """Its own export does not apply, as the billing scope's holds its costs: if that one fails, nothing is covered."""
    own = target("s1", EXPORT, "daily", skip="its costs are in export all", rests_on=(OWNERS_EXPORT,))
    for result, expected in ((Result.UNCHANGED, "covered"), (Result.FAILED, "failed")):
        outcomes = [
            outcome(Result.SKIPPED, own, Verb.SKIP),
            outcome(result, target("owner", EXPORT, "all")),
        ]
        assert verdicts(outcomes, "s1")["s1"].coverage == expected


def test_what_only_holds_things_is_no_scope() -> None:
    """A project is not counted as a billing account; accounts that rest on it are, by what is true of it."""
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
def test_a_scope_delivers_awaits_its_first_data_or_is_silent(
    one: Outcome, entry: TargetState | None, data: str
) -> None:
    """Existing is not delivering: both are said, whatever the class is."""
    memory = remembering({DATA.key: entry}) if entry else fresh("memory")
    assert verdicts([one], "s1", memory=memory)["s1"].data == data


def test_the_adapters_own_limit_decides_where_it_knows_better() -> None:
    """An account that may be billed monthly is not late after three days, if its adapter says so."""
    seen = Present(delivered_at=START - 3 * DAY, silent_after=35 * DAY)
    one = outcome(Result.UNCHANGED, DATA, observation=seen)
    assert verdicts([one], "s1")["s1"].data == DELIVERING
    assert find_silence([one], fresh("memory"), SETTINGS, START).late == ()


def test_a_planned_export_awaits_nothing_yet() -> None:
    """In a dry run nothing was created: the scope waits, and no data is on its way."""
    found = verdicts([outcome(Result.PLANNED, DATA, Verb.CREATE, code="planned")], "s1")
    assert found["s1"] == Verdict("deferred", "planned", "")


def test_members_deliver_by_the_export_they_rest_on() -> None:
    """Their data arrives with the organization's; one silent dataset of two is not delivering."""
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


def test_silence_is_what_is_late_and_what_never_came() -> None:
    """Late is what delivered once and fell silent; missing is what should have begun by now, however often repaired."""
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
