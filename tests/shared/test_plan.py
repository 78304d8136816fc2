"""The planner: each row of its truth table, drift, what rests on what, and the hash."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.case import drift
from shared.model import (
    NOT_LOOKED_AT,
    WRITES,
    Absent,
    Action,
    EscalationPolicy,
    Health,
    Key,
    ManualStep,
    Observation,
    Ownership,
    Present,
    Scope,
    ScopeState,
    Target,
    Unknown,
    Verb,
)
from shared.plan import assemble, make_plan
from shared.rules import decide
from shared.target_state import LastError, TargetState
from tests.shared.builders import (
    CHECKED,
    DESTINATION,
    EXPORT,
    GUIDE,
    HOUR,
    ROLE,
    START,
    action,
    key,
    known,
    remembering,
    scopes,
    target,
    with_state,
)
from tests.shared.setting import Setting

OWN_GUIDE = ManualStep("the target's own step")
CSV = {"format": "csv"}
OTHER = {"format": "parquet"}
DAY_OF_PATIENCE = EscalationPolicy(longest=timedelta(days=1))
THREE_TRIES = EscalationPolicy(tries=3)
FUTURE = START + HOUR
MAKING = Present(CSV, Health.PENDING)


def entry(**fields: Any) -> TargetState:
    """Return an entry of memory."""
    return TargetState(**{"at": START, **fields})


def waits(result: str = "") -> TargetState:
    """Return an entry that waits, with the trouble that it waits for."""
    trouble = LastError("old-trouble", "it said no", result=result) if result else None
    return entry(not_before=FUTURE, present=True, error=trouble)


def over(result: str) -> TargetState:
    """Return an entry with a trouble that need not be waited for any more."""
    return entry(not_before=START, present=True, error=LastError("old-trouble", "it said no", result=result))


class Row(NamedTuple):
    """One row of the truth table: why it holds, what is given, and the verb and the reason that are right."""

    why: str
    seen: Observation
    verb: Verb
    reason: str
    entry: TargetState | None = None
    of: Target = target()
    scope: Scope | None = Scope("s1")
    requested: bool = False


SUSPENDED = Scope("s1", state=ScopeState.INACTIVE, reason="SUSPENDED")
ROWS = [
    # whatever is seen
    Row("only active scopes take part", Absent(), Verb.SKIP, "scope-inactive", scope=SUSPENDED),
    Row("an inactive scope is not repaired", Present(OTHER), Verb.SKIP, "scope-inactive", scope=SUSPENDED),
    Row("what was not enumerated takes no part", Absent(), Verb.SKIP, "scope-inactive", scope=None),
    Row("an inactive scope is not waited for", NOT_LOOKED_AT, Verb.SKIP, "scope-inactive", waits("manual"), scope=None),
    Row("it does not apply", Absent(), Verb.SKIP, "not-applicable", of=target(skip="not in this partition")),
    Row(
        "an inactive scope comes before what does not apply",
        Absent(),
        Verb.SKIP,
        "scope-inactive",
        of=target(skip="no"),
        scope=SUSPENDED,
    ),
    # not looked at
    Row("it waits for an unnamed reason", NOT_LOOKED_AT, Verb.DEFER, "not-before", waits()),
    Row("it waits after a failure", NOT_LOOKED_AT, Verb.DEFER, "old-trouble", waits("failed")),
    Row("it waits after a deferral", NOT_LOOKED_AT, Verb.DEFER, "old-trouble", waits("deferred")),
    Row("it waits for a person", NOT_LOOKED_AT, Verb.MANUAL, "old-trouble", waits("manual")),
    Row("the cloud had refused it", NOT_LOOKED_AT, Verb.SKIP, "old-trouble", waits("excluded")),
    Row("an older document says so", NOT_LOOKED_AT, Verb.SKIP, "old-trouble", waits("skipped")),
    Row("it is refused until it is looked at", NOT_LOOKED_AT, Verb.SKIP, "old-trouble", over("excluded")),
    Row("remembered as present", NOT_LOOKED_AT, Verb.KEEP, "remembered", entry(present=True)),
    Row("the wait is over", NOT_LOOKED_AT, Verb.KEEP, "remembered", entry(present=True, not_before=START)),
    Row(
        "asked for by id, its trouble stays", NOT_LOOKED_AT, Verb.DEFER, "old-trouble", waits("failed"), requested=True
    ),
    Row("its wait is over, its trouble stays", NOT_LOOKED_AT, Verb.DEFER, "old-trouble", over("failed")),
    Row("a person is still asked", NOT_LOOKED_AT, Verb.MANUAL, "old-trouble", over("manual")),
    Row("remembered as absent", NOT_LOOKED_AT, Verb.DEFER, "not-looked-at", entry(present=False)),
    Row("remembered, but never proven", NOT_LOOKED_AT, Verb.DEFER, "not-looked-at", entry()),
    Row("nothing is known", NOT_LOOKED_AT, Verb.DEFER, "not-looked-at"),
    # Unknown
    Row("a guide without patience asks at once", Unknown("denied", manual_step=GUIDE), Verb.MANUAL, "denied"),
    Row("patience has begun", Unknown("denied", "", GUIDE, DAY_OF_PATIENCE), Verb.DEFER, "denied"),
    Row(
        "patience lasts",
        Unknown("denied", "", GUIDE, DAY_OF_PATIENCE),
        Verb.DEFER,
        "denied",
        entry(waiting_since=START - timedelta(hours=23)),
    ),
    Row(
        "patience is exhausted by time",
        Unknown("denied", "", GUIDE, DAY_OF_PATIENCE),
        Verb.MANUAL,
        "denied",
        entry(waiting_since=START - timedelta(days=1)),
    ),
    Row(
        "patience is exhausted by tries",
        Unknown("denied", "", GUIDE, THREE_TRIES),
        Verb.MANUAL,
        "denied",
        entry(waiting_since=START, attempts=3),
    ),
    Row(
        "without a guide it is deferred for ever",
        Unknown("busy", "", None, DAY_OF_PATIENCE),
        Verb.DEFER,
        "busy",
        entry(waiting_since=START - timedelta(days=9)),
    ),
    Row("unknown is never written", Unknown("busy"), Verb.DEFER, "busy", entry(present=False)),
    Row("unknown is never kept", Unknown("busy"), Verb.DEFER, "busy", entry(present=True)),
    # Absent
    Row("not writable", Absent(), Verb.MANUAL, "absent", of=target(kind=CHECKED)),
    Row("not writable, even while it waits", Absent(), Verb.MANUAL, "absent", waits(), of=target(kind=CHECKED)),
    Row("within the grace", Absent(), Verb.KEEP, "pending", entry(created_at=START - HOUR)),
    Row("within the grace, by a clock that is behind", Absent(), Verb.KEEP, "pending", entry(created_at=FUTURE)),
    Row("a repair is no creation", Absent(), Verb.CREATE, "absent", entry(applied_at=START)),
    Row("the grace is over", Absent(), Verb.CREATE, "absent", entry(created_at=START - 2 * HOUR)),
    Row("no grace hides two proofs", Absent(("list", "get")), Verb.CREATE, "absent", entry(created_at=START - HOUR)),
    Row(
        "a remembered time far ahead is no grace",
        Absent(),
        Verb.CREATE,
        "absent",
        entry(created_at=START + timedelta(days=9999)),
    ),
    Row(
        "a kind without grace has none",
        Absent(),
        Verb.CREATE,
        "absent",
        entry(created_at=START),
        of=target(kind=DESTINATION),
    ),
    Row("absent, waits after a failure", Absent(), Verb.DEFER, "old-trouble", waits("failed")),
    Row("absent, waits for a person", Absent(), Verb.MANUAL, "old-trouble", waits("manual")),
    Row("absent, was refused", Absent(), Verb.SKIP, "old-trouble", waits("excluded")),
    Row("absent, asked for by id", Absent(), Verb.CREATE, "absent", waits("failed"), requested=True),
    Row("absent", Absent(), Verb.CREATE, "absent"),
    Row("absent, for the adapter's own reason", Absent(code="lost"), Verb.CREATE, "lost"),
    # Present: whose it is, and what the cloud says of it
    Row("the cloud refuses it", Present(OTHER, Health.INACTIVE), Verb.SKIP, "inactive"),
    Row("nothing is needed for now", Present(OTHER, Health.NOT_NEEDED), Verb.SKIP, "not-needed"),
    Row("and why", Present(CSV, Health.INACTIVE, code="suspended"), Verb.SKIP, "suspended"),
    Row("somebody else's", Present(CSV, ownership=Ownership.FOREIGN), Verb.MANUAL, "foreign"),
    Row("somebody else's, and broken", Present(OTHER, Health.BROKEN, Ownership.FOREIGN), Verb.MANUAL, "foreign"),
    Row("only a person can mend it", Present(CSV, Health.MANUAL, code="owner-changed"), Verb.MANUAL, "owner-changed"),
    Row("only a person, no code", Present(CSV, Health.MANUAL), Verb.MANUAL, "unhealthy"),
    Row("it mends itself", Present(CSV, Health.WAITING), Verb.DEFER, "waiting"),
    Row("it mends itself, drift waits too", Present(OTHER, Health.WAITING, code="busy"), Verb.DEFER, "busy"),
    Row(
        "it did not mend itself in time",
        Present(CSV, Health.WAITING, code="busy", manual_step=GUIDE, escalation=DAY_OF_PATIENCE),
        Verb.MANUAL,
        "busy",
        entry(waiting_since=START - timedelta(days=1)),
    ),
    Row(
        "it may still mend itself",
        Present(CSV, Health.WAITING, code="busy", manual_step=GUIDE, escalation=THREE_TRIES),
        Verb.DEFER,
        "busy",
        entry(waiting_since=START, attempts=1),
    ),
    Row(
        "the third look is one too many",
        Present(CSV, Health.WAITING, code="busy", manual_step=GUIDE, escalation=THREE_TRIES),
        Verb.MANUAL,
        "busy",
        entry(waiting_since=START, attempts=2),
    ),
    Row("a delivery does not end a trouble", Present(verified=False), Verb.DEFER, "old-trouble", waits("failed")),
    Row("a guide without patience waits", Present(CSV, Health.WAITING, manual_step=GUIDE), Verb.DEFER, "waiting"),
    Row("accepted", Present(CSV, Health.PENDING), Verb.KEEP, "pending"),
    Row("within its normal time", MAKING, Verb.KEEP, "pending", entry(state="pending", since=START - HOUR)),
    Row("beyond its normal time", MAKING, Verb.DEFER, "overdue", entry(state="pending", since=START - 2 * HOUR)),
    Row("overdue it stays", MAKING, Verb.DEFER, "overdue", entry(state="overdue", since=START)),
    Row(
        "a normal time of its own",
        Present(CSV, Health.PENDING, escalation=DAY_OF_PATIENCE),
        Verb.KEEP,
        "pending",
        entry(state="pending", since=START - 2 * HOUR),
    ),
    Row(
        "its first data has a limit elsewhere",
        Present(CSV, Health.PENDING, first_data=True),
        Verb.KEEP,
        "pending",
        entry(state="pending", since=START - 30 * HOUR),
    ),
    Row("accepted, but not as wanted", Present(OTHER, Health.PENDING), Verb.REPAIR, "drift"),
    # Present: what is to be done
    Row("as wanted", Present(CSV), Verb.KEEP, "as-wanted"),
    Row("fields nobody manages do not count", Present({**CSV, "view": "arn"}), Verb.KEEP, "as-wanted"),
    Row("only seen by its data", Present(verified=False), Verb.KEEP, "as-wanted"),
    Row("as wanted, whatever it waited for", Present(CSV), Verb.KEEP, "as-wanted", waits("failed")),
    Row("drift, not writable", Present(OTHER), Verb.MANUAL, "drift", of=target(kind=CHECKED)),
    Row(
        "broken, not writable",
        Present(CSV, Health.BROKEN, code="lost-policy"),
        Verb.MANUAL,
        "lost-policy",
        of=target(kind=CHECKED),
    ),
    Row("drift waits after a failure", Present(OTHER), Verb.DEFER, "old-trouble", waits("failed")),
    Row("drift waits for a person", Present(OTHER), Verb.MANUAL, "old-trouble", waits("manual")),
    Row("broken waits", Present(CSV, Health.BROKEN), Verb.DEFER, "old-trouble", waits("failed")),
    Row(
        "adoption waits",
        Present(CSV, ownership=Ownership.UNMARKED),
        Verb.DEFER,
        "old-trouble",
        waits("failed"),
    ),
    Row("drift, asked for by id", Present(OTHER), Verb.REPAIR, "drift", waits("manual"), requested=True),
    Row("of our shape, without our mark", Present(CSV, ownership=Ownership.UNMARKED), Verb.ADOPT, "unmarked"),
    Row("adoption repairs too", Present(OTHER, ownership=Ownership.UNMARKED), Verb.ADOPT, "unmarked"),
    Row(
        "what is not writable needs no mark",
        Present(CSV, ownership=Ownership.UNMARKED),
        Verb.KEEP,
        "as-wanted",
        of=target(kind=CHECKED),
    ),
    Row("broken", Present(CSV, Health.BROKEN), Verb.REPAIR, "broken"),
    Row("broken, and why", Present(CSV, Health.BROKEN, code="lost-policy"), Verb.REPAIR, "lost-policy"),
    Row("broken, only seen by its data", Present(health=Health.BROKEN, verified=False), Verb.REPAIR, "broken"),
    Row("drift", Present(OTHER), Verb.REPAIR, "drift"),
    Row("a managed field is missing", Present({}), Verb.REPAIR, "drift"),
]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.why) for row in ROWS])
def test_each_row_of_the_truth_table(row: Row) -> None:
    """The verb and the reason are those of the table's first row that matches."""
    of = with_state(row.of, row.entry)
    decided = decide(of, row.scope, row.seen, START, requested=row.requested)
    assert (decided.verb, decided.reason) == (row.verb, row.reason), row.why
    assert decided.target is of
    assert decided.observation is row.seen, row.why
    assert (decided.manual_step is not None) == (row.verb is Verb.MANUAL), row.why


def test_the_rows_cover_every_verb_but_block() -> None:
    """BLOCK alone comes from what a target rests on."""
    assert {row.verb for row in ROWS} == set(Verb) - {Verb.BLOCK}


@pytest.mark.parametrize(
    ("seen", "of", "expected"),
    [
        (Absent(manual_step=GUIDE), target(kind=CHECKED, manual_step=OWN_GUIDE), GUIDE),
        (Absent(), target(kind=CHECKED, manual_step=OWN_GUIDE), OWN_GUIDE),
        (Absent(detail="the role is missing"), target(kind=CHECKED), ManualStep("checked daily: the role is missing")),
        (Absent(), target(kind=CHECKED), ManualStep("checked daily: absent")),
        (Present(OTHER, manual_step=GUIDE), target(kind=CHECKED, manual_step=OWN_GUIDE), GUIDE),
        (Present(OTHER), target(kind=CHECKED, manual_step=OWN_GUIDE), OWN_GUIDE),
        (Present(CSV, Health.MANUAL, manual_step=GUIDE), target(), GUIDE),
        (Present(CSV, ownership=Ownership.FOREIGN, detail="of 123"), target(), ManualStep("export daily: of 123")),
    ],
)
def test_a_manual_step_comes_from_the_observation_else_from_the_target(
    seen: Observation, of: Target, expected: ManualStep
) -> None:
    """There is always something that a person can read."""
    assert decide(of, Scope("s1"), seen, START, requested=False).manual_step == expected


def test_a_remembered_step_is_shown_again_while_it_waits() -> None:
    """The person is asked in every report, not only in the first; such an action is marked as waiting."""
    trouble = LastError("off", "m", "", "manual", "sharing is off", ["Switch it on."], "https://console.example")
    decided = decide(
        with_state(target(), entry(not_before=FUTURE, error=trouble)), Scope("s1"), Absent(), START, requested=False
    )
    assert decided.manual_step == ManualStep("sharing is off", ("Switch it on.",), "https://console.example")
    assert decided.waits


def test_the_reason_for_people_names_the_differences() -> None:
    """Which field, what it is, what it should be; the fields are listed, sorted."""
    wanted = target(desired={"b": 1, "a": "x", "c": True})
    decided = decide(wanted, Scope("s1"), Present({"a": "y", "c": True}), START, requested=False)
    assert decided.changes == ("a", "b")
    assert decided.detail == "a: 'y' instead of 'x'; b: None instead of 1"


@pytest.mark.parametrize(
    ("desired", "actual", "expected"),
    [
        ({}, {"x": 1}, ()),
        ({"x": 1}, {"x": 1, "y": 2}, ()),
        ({"x": 1}, {}, ("x",)),
        ({"x": ("a", "b")}, {"x": ("b", "a")}, ("x",)),
        ({"z": 1, "a": 1}, {"z": 2, "a": 2}, ("a", "z")),
    ],
)
def test_only_managed_fields_are_compared(desired: dict[str, Any], actual: dict[str, Any], expected: Any) -> None:
    """Keys that the cloud adds on read are not drift."""
    assert drift(target(desired=desired), Present(actual)) == expected


# --- what rests on what --------------------------------------------------------------------------

BASE = Key("owner", "destination", "data")


@pytest.mark.parametrize(
    ("holder", "expected"),
    [
        pytest.param(action(Verb.MANUAL, "owner", DESTINATION, name="data"), Verb.BLOCK, id="a person is asked"),
        pytest.param(action(Verb.BLOCK, "owner", DESTINATION, name="data"), Verb.BLOCK, id="itself blocked"),
        pytest.param(
            action(Verb.DEFER, "owner", DESTINATION, name="data", observation=Unknown("denied")),
            Verb.DEFER,
            id="unknown",
        ),
        pytest.param(
            action(Verb.DEFER, "owner", DESTINATION, name="data", observation=Absent()), Verb.DEFER, id="deferred"
        ),
        pytest.param(action(Verb.DEFER, "owner", DESTINATION, name="data"), Verb.DEFER, id="not looked at"),
        pytest.param(
            action(Verb.DEFER, "owner", DESTINATION, name="data", observation=Present(health=Health.WAITING)),
            Verb.DEFER,
            id="waiting",
        ),
        pytest.param(action(Verb.CREATE, "owner", DESTINATION, name="data"), Verb.CREATE, id="being created"),
        pytest.param(action(Verb.REPAIR, "owner", DESTINATION, name="data"), Verb.CREATE, id="being repaired"),
        pytest.param(action(Verb.KEEP, "owner", DESTINATION, name="data"), Verb.CREATE, id="there"),
        pytest.param(action(Verb.SKIP, "owner", DESTINATION, name="data"), Verb.CREATE, id="does not apply"),
    ],
)
def test_a_write_is_held_back_when_what_it_rests_on_will_not_be_there(holder: Action, expected: Verb) -> None:
    """The verb of the need decides; the action says on what it rests and why that is not there."""
    plan = assemble([action(Verb.CREATE, needs=(BASE,)), holder])
    held = next(one for one in plan.actions if one.key == key())
    assert held.verb is expected
    if expected is not Verb.CREATE:
        assert held.reason == "rests-on"
        assert str(BASE) in held.detail


def test_a_write_held_back_by_a_manual_step_is_reported_with_that_step() -> None:
    """Whoever reads of the blocked target alone learns what to do, also where a reason travels over two stages."""
    switch = action(Verb.MANUAL, "owner", DESTINATION, name="data", manual_step=GUIDE)
    export = action(Verb.CREATE, needs=(BASE,))
    role = action(Verb.CREATE, kind=ROLE, name="reader", needs=(export.key,))
    held = {one.key: one for one in assemble([switch, export, role]).actions}
    assert held[export.key].verb is held[role.key].verb is Verb.BLOCK
    assert held[export.key].remedy == held[role.key].remedy == "Mend it."


@pytest.mark.parametrize("verb", [Verb.KEEP, Verb.SKIP, Verb.MANUAL, Verb.DEFER])
def test_what_does_not_write_is_not_held_back(verb: Verb) -> None:
    """A healthy export stays healthy while its destination is being looked into."""
    holder = action(Verb.MANUAL, "owner", DESTINATION, name="data")
    plan = assemble([action(verb, needs=(BASE,)), holder])
    assert next(one for one in plan.actions if one.key == key()).verb is verb


def test_a_reason_travels_the_whole_way() -> None:
    """A connector that needs an export that needs a destination is blocked when the destination is."""
    actions = [
        action(Verb.CREATE, "a", ROLE, name="reader", needs=(Key("b", "export", "daily"),)),
        action(Verb.CREATE, "b", EXPORT, needs=(BASE,)),
        action(Verb.MANUAL, "owner", DESTINATION, name="data"),
    ]
    assert [one.verb for one in assemble(actions).actions] == [Verb.BLOCK, Verb.BLOCK, Verb.MANUAL]


def test_a_need_that_is_not_planned_holds_nothing_back() -> None:
    """What a selection of scopes left out is taken for there."""
    (only,) = assemble([action(Verb.CREATE, needs=(BASE,))]).actions
    assert only.verb is Verb.CREATE


# --- the plan as a whole -------------------------------------------------------------------------


def test_there_is_one_action_for_each_target_sorted_by_key() -> None:
    """Nothing is left out, whatever was seen of it."""
    targets = [target("s2"), target("s1", ROLE), target("s1"), target("s3")]
    plan = make_plan(targets, scopes("s1", "s2"), {key("s2"): Present(CSV)}, START)
    assert [(one.key.scope, one.key.kind, one.verb) for one in plan.actions] == [
        ("s1", "export", Verb.DEFER),
        ("s1", "role", Verb.DEFER),
        ("s2", "export", Verb.KEEP),
        ("s3", "export", Verb.SKIP),
    ]
    assert plan.writes() == []


def test_who_asks_for_a_scope_by_its_id_does_not_wait_and_nobody_else_is_hurried() -> None:
    """The not-before time counts for the other scopes."""
    memory = known(key("s1"), key("s2"), not_before=FUTURE)
    seen = {key("s1"): Absent(), key("s2"): Absent()}
    plan = make_plan(memory.pair([target("s1"), target("s2")]), scopes("s1", "s2"), seen, START, requested=["s2"])
    assert [one.verb for one in plan.actions] == [Verb.DEFER, Verb.CREATE]


def test_the_hash_does_not_depend_on_the_order_of_the_input() -> None:
    """Targets, observations and scopes may come in any order."""
    targets = [target(f"s{number}", kind) for number in range(20) for kind in (EXPORT, ROLE)]
    seen: list[tuple[Key, Observation]] = [
        (one.key, (Absent(), Present(CSV), Present(OTHER), Unknown("x"))[place % 4])
        for place, one in enumerate(targets)
    ]
    ids = [f"s{number}" for number in range(20)]
    hashes = set()
    for seed in range(5):
        for items in (targets, seen, ids):
            random.Random(seed).shuffle(items)
        hashes.add(make_plan(targets, scopes(*ids), dict(seen), START).hash)
    assert len(hashes) == 1


BASIS = [action(Verb.REPAIR, "s1", changes=("a",)), action(Verb.KEEP, "s2")]


@pytest.mark.parametrize(
    ("actions", "same"),
    [
        pytest.param([msgspec.structs.replace(BASIS[0], detail="other words"), BASIS[1]], True, id="words for people"),
        pytest.param([msgspec.structs.replace(BASIS[0], waits=True), BASIS[1]], True, id="how it came about"),
        pytest.param([msgspec.structs.replace(BASIS[0], verb=Verb.ADOPT), BASIS[1]], False, id="another verb"),
        pytest.param([msgspec.structs.replace(BASIS[0], reason="x"), BASIS[1]], False, id="another reason"),
        pytest.param([msgspec.structs.replace(BASIS[0], changes=("b",)), BASIS[1]], False, id="another field"),
        pytest.param([msgspec.structs.replace(BASIS[0], changes=("a", "b")), BASIS[1]], False, id="one field more"),
        pytest.param(BASIS[:1], False, id="one action less"),
        pytest.param([BASIS[0], action(Verb.KEEP, "s3")], False, id="another target"),
    ],
)
def test_the_hash_is_of_what_will_be_done(actions: list[Action], same: bool) -> None:
    """Verb, reason, fields and key count, and nothing else."""
    assert (assemble(actions).hash == assemble(BASIS).hash) is same


def test_a_dry_run_has_the_same_plan_and_hash_as_the_real_one() -> None:
    """What was shown is what is done, at the first run and later."""
    setting = Setting(4)
    for step in range(3):
        if step == 1:
            setting.world.things.pop(Key("s00001", "export", "daily"))
        dry = setting.run(dry_run=True)
        real = setting.run()
        assert dry.plan is not None
        assert dry.plan == real.plan
        assert dry.report["plan_hash"] == real.report["plan_hash"] == dry.plan.hash


OBSERVATIONS = st.sampled_from(
    [
        Absent(),
        Absent(("list", "get")),
        Unknown("denied"),
        Unknown("denied", manual_step=GUIDE),
        NOT_LOOKED_AT,
        *(Present(fields, health, owner) for fields in (CSV, OTHER) for health in Health for owner in Ownership),
    ]
)
ENTRIES = st.sampled_from([None, entry(), entry(present=True), entry(applied_at=START), waits("failed")])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(OBSERVATIONS, ENTRIES, st.sampled_from([DESTINATION, EXPORT, CHECKED, ROLE])), min_size=1, max_size=8
    )
)
def test_what_was_not_proven_is_never_written(cases: list[tuple[Observation, TargetState | None, Any]]) -> None:
    """Over any world: a write rests on a proof, each target has one action, and equal input gives an equal plan."""
    targets = [target(f"s{place}", kind) for place, (_, _, kind) in enumerate(cases)]
    for later, earlier in zip(targets[1:], targets, strict=False):
        if later.kind.stage > earlier.kind.stage:
            targets[targets.index(later)] = msgspec.structs.replace(later, needs=(earlier.key,))
    seen = {one.key: case[0] for one, case in zip(targets, cases, strict=True)}
    memory = remembering({one.key: case[1] for one, case in zip(targets, cases, strict=True) if case[1]})
    everybody = scopes(*(one.key.scope for one in targets))
    plan = make_plan(memory.pair(targets), everybody, seen, START)
    assert [one.key for one in plan.actions] == sorted(one.key for one in targets)
    by_key = {one.key: one for one in plan.actions}
    for one in plan.actions:
        if one.verb in WRITES:
            assert one.target.kind.writable
            assert isinstance(one.observation, Absent if one.verb is Verb.CREATE else Present)
            assert not [need for need in one.target.needs if by_key[need].verb in (Verb.MANUAL, Verb.BLOCK, Verb.DEFER)]
    assert make_plan(memory.pair(reversed(targets)), everybody, seen, START) == plan
