"""The planner: each row of its truth table, drift, dependencies, and the hash."""

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
ONE_DAY = EscalationPolicy(longest=timedelta(days=1))
THREE_TRIES = EscalationPolicy(tries=3)
FUTURE = START + HOUR
MAKING = Present(CSV, Health.PENDING)


def entry(**fields: Any) -> TargetState:
    """Return a target state."""
    return TargetState(**{"at": START, **fields})


def waits(result: str = "") -> TargetState:
    """Return a target state that waits, with the error that it waits for."""
    error = LastError("earlier-error", "refused", result=result) if result else None
    return entry(not_before=FUTURE, present=True, error=error)


def over(result: str) -> TargetState:
    """Return a target state with an error whose wait is over."""
    return entry(not_before=START, present=True, error=LastError("earlier-error", "refused", result=result))


class Row(NamedTuple):
    """One row of the truth table: a description, the input, and the expected verb and reason."""

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
    # any observation
    Row("inactive scope, target absent", Absent(), Verb.SKIP, "scope-inactive", scope=SUSPENDED),
    Row("inactive scope, drift", Present(OTHER), Verb.SKIP, "scope-inactive", scope=SUSPENDED),
    Row("scope not enumerated", Absent(), Verb.SKIP, "scope-inactive", scope=None),
    Row("scope not enumerated, target waits", NOT_LOOKED_AT, Verb.SKIP, "scope-inactive", waits("manual"), scope=None),
    Row("target does not apply", Absent(), Verb.SKIP, "not-applicable", of=target(skip="not in this partition")),
    Row(
        "inactive scope takes precedence over a target that does not apply",
        Absent(),
        Verb.SKIP,
        "scope-inactive",
        of=target(skip="no"),
        scope=SUSPENDED,
    ),
    # not observed
    Row("waits without a reason", NOT_LOOKED_AT, Verb.DEFER, "not-before", waits()),
    Row("waits after a failure", NOT_LOOKED_AT, Verb.DEFER, "earlier-error", waits("failed")),
    Row("waits after a deferral", NOT_LOOKED_AT, Verb.DEFER, "earlier-error", waits("deferred")),
    Row("waits for a manual step", NOT_LOOKED_AT, Verb.MANUAL, "earlier-error", waits("manual")),
    Row("excluded after a refusal", NOT_LOOKED_AT, Verb.SKIP, "earlier-error", waits("excluded")),
    Row("skipped, from an older document", NOT_LOOKED_AT, Verb.SKIP, "earlier-error", waits("skipped")),
    Row("excluded until it is observed", NOT_LOOKED_AT, Verb.SKIP, "earlier-error", over("excluded")),
    Row("remembered as present", NOT_LOOKED_AT, Verb.KEEP, "remembered", entry(present=True)),
    Row(
        "remembered as present, wait is over",
        NOT_LOOKED_AT,
        Verb.KEEP,
        "remembered",
        entry(present=True, not_before=START),
    ),
    Row(
        "requested by id, its error stays", NOT_LOOKED_AT, Verb.DEFER, "earlier-error", waits("failed"), requested=True
    ),
    Row("wait is over, its error stays", NOT_LOOKED_AT, Verb.DEFER, "earlier-error", over("failed")),
    Row("manual step is still open", NOT_LOOKED_AT, Verb.MANUAL, "earlier-error", over("manual")),
    Row("remembered as absent", NOT_LOOKED_AT, Verb.DEFER, "not-looked-at", entry(present=False)),
    Row("remembered, but never observed", NOT_LOOKED_AT, Verb.DEFER, "not-looked-at", entry()),
    Row("nothing is known", NOT_LOOKED_AT, Verb.DEFER, "not-looked-at"),
    # Unknown
    Row("manual step without an escalation policy", Unknown("denied", manual_step=GUIDE), Verb.MANUAL, "denied"),
    Row("escalation policy starts", Unknown("denied", "", GUIDE, ONE_DAY), Verb.DEFER, "denied"),
    Row(
        "escalation policy is running",
        Unknown("denied", "", GUIDE, ONE_DAY),
        Verb.DEFER,
        "denied",
        entry(waiting_since=START - timedelta(hours=23)),
    ),
    Row(
        "escalation policy ends by time",
        Unknown("denied", "", GUIDE, ONE_DAY),
        Verb.MANUAL,
        "denied",
        entry(waiting_since=START - timedelta(days=1)),
    ),
    Row(
        "escalation policy ends by tries",
        Unknown("denied", "", GUIDE, THREE_TRIES),
        Verb.MANUAL,
        "denied",
        entry(waiting_since=START, attempts=3),
    ),
    Row(
        "without a manual step it stays deferred",
        Unknown("busy", "", None, ONE_DAY),
        Verb.DEFER,
        "busy",
        entry(waiting_since=START - timedelta(days=9)),
    ),
    Row("unknown, remembered as absent", Unknown("busy"), Verb.DEFER, "busy", entry(present=False)),
    Row("unknown, remembered as present", Unknown("busy"), Verb.DEFER, "busy", entry(present=True)),
    # Absent
    Row("not writable", Absent(), Verb.MANUAL, "absent", of=target(kind=CHECKED)),
    Row("not writable, waits", Absent(), Verb.MANUAL, "absent", waits(), of=target(kind=CHECKED)),
    Row("within the grace", Absent(), Verb.KEEP, "pending", entry(created_at=START - HOUR)),
    Row("within the grace, created in the future", Absent(), Verb.KEEP, "pending", entry(created_at=FUTURE)),
    Row("repaired rather than created, so without grace", Absent(), Verb.CREATE, "absent", entry(applied_at=START)),
    Row("after the grace", Absent(), Verb.CREATE, "absent", entry(created_at=START - 2 * HOUR)),
    Row(
        "within the grace, absent by two reads",
        Absent(("list", "get")),
        Verb.CREATE,
        "absent",
        entry(created_at=START - HOUR),
    ),
    Row(
        "created too far in the future for a grace",
        Absent(),
        Verb.CREATE,
        "absent",
        entry(created_at=START + timedelta(days=9999)),
    ),
    Row(
        "kind without grace",
        Absent(),
        Verb.CREATE,
        "absent",
        entry(created_at=START),
        of=target(kind=DESTINATION),
    ),
    Row("absent, waits after a failure", Absent(), Verb.DEFER, "earlier-error", waits("failed")),
    Row("absent, waits for a manual step", Absent(), Verb.MANUAL, "earlier-error", waits("manual")),
    Row("absent, excluded", Absent(), Verb.SKIP, "earlier-error", waits("excluded")),
    Row("absent, requested by id", Absent(), Verb.CREATE, "absent", waits("failed"), requested=True),
    Row("absent", Absent(), Verb.CREATE, "absent"),
    Row("absent, with the provider's code", Absent(code="lost"), Verb.CREATE, "lost"),
    # Present: ownership and health
    Row("inactive", Present(OTHER, Health.INACTIVE), Verb.SKIP, "inactive"),
    Row("not needed", Present(OTHER, Health.NOT_NEEDED), Verb.SKIP, "not-needed"),
    Row("inactive, with a code", Present(CSV, Health.INACTIVE, code="suspended"), Verb.SKIP, "suspended"),
    Row("foreign", Present(CSV, ownership=Ownership.FOREIGN), Verb.MANUAL, "foreign"),
    Row("foreign and broken", Present(OTHER, Health.BROKEN, Ownership.FOREIGN), Verb.MANUAL, "foreign"),
    Row("manual health, with a code", Present(CSV, Health.MANUAL, code="owner-changed"), Verb.MANUAL, "owner-changed"),
    Row("manual health", Present(CSV, Health.MANUAL), Verb.MANUAL, "unhealthy"),
    Row("waiting health", Present(CSV, Health.WAITING), Verb.DEFER, "waiting"),
    Row(
        "waiting health without a code, for too long",
        Present(CSV, Health.WAITING, manual_step=GUIDE, escalation=EscalationPolicy(tries=1)),
        Verb.MANUAL,
        "unhealthy",
    ),
    Row("waiting health, with drift", Present(OTHER, Health.WAITING, code="busy"), Verb.DEFER, "busy"),
    Row(
        "waiting health, after its escalation policy",
        Present(CSV, Health.WAITING, code="busy", manual_step=GUIDE, escalation=ONE_DAY),
        Verb.MANUAL,
        "busy",
        entry(waiting_since=START - timedelta(days=1)),
    ),
    Row(
        "waiting health, within its escalation policy",
        Present(CSV, Health.WAITING, code="busy", manual_step=GUIDE, escalation=THREE_TRIES),
        Verb.DEFER,
        "busy",
        entry(waiting_since=START, attempts=1),
    ),
    Row(
        "waiting health, after three tries",
        Present(CSV, Health.WAITING, code="busy", manual_step=GUIDE, escalation=THREE_TRIES),
        Verb.MANUAL,
        "busy",
        entry(waiting_since=START, attempts=2),
    ),
    Row(
        "known only by its data, waits after a failure",
        Present(verified=False),
        Verb.DEFER,
        "earlier-error",
        waits("failed"),
    ),
    Row(
        "waiting health, manual step without an escalation policy",
        Present(CSV, Health.WAITING, manual_step=GUIDE),
        Verb.DEFER,
        "waiting",
    ),
    Row("pending", Present(CSV, Health.PENDING), Verb.KEEP, "pending"),
    Row("pending within its grace", MAKING, Verb.KEEP, "pending", entry(state="pending", since=START - HOUR)),
    Row("pending beyond its grace", MAKING, Verb.DEFER, "overdue", entry(state="pending", since=START - 2 * HOUR)),
    Row("pending, overdue before", MAKING, Verb.DEFER, "overdue", entry(state="overdue", since=START)),
    Row(
        "pending, with its own limit",
        Present(CSV, Health.PENDING, escalation=ONE_DAY),
        Verb.KEEP,
        "pending",
        entry(state="pending", since=START - 2 * HOUR),
    ),
    Row(
        "pending first data, with its own limit",
        Present(CSV, Health.PENDING, first_data=True),
        Verb.KEEP,
        "pending",
        entry(state="pending", since=START - 30 * HOUR),
    ),
    Row("pending with drift", Present(OTHER, Health.PENDING), Verb.REPAIR, "drift"),
    # Present: comparison with the desired fields
    Row("no drift", Present(CSV), Verb.KEEP, "as-wanted"),
    Row("unmanaged fields do not count", Present({**CSV, "view": "arn"}), Verb.KEEP, "as-wanted"),
    Row("known only by its data", Present(verified=False), Verb.KEEP, "as-wanted"),
    Row("no drift, after a wait", Present(CSV), Verb.KEEP, "as-wanted", waits("failed")),
    Row("drift, not writable", Present(OTHER), Verb.MANUAL, "drift", of=target(kind=CHECKED)),
    Row(
        "broken, not writable",
        Present(CSV, Health.BROKEN, code="lost-policy"),
        Verb.MANUAL,
        "lost-policy",
        of=target(kind=CHECKED),
    ),
    Row("drift waits after a failure", Present(OTHER), Verb.DEFER, "earlier-error", waits("failed")),
    Row("drift waits for a manual step", Present(OTHER), Verb.MANUAL, "earlier-error", waits("manual")),
    Row("broken waits", Present(CSV, Health.BROKEN), Verb.DEFER, "earlier-error", waits("failed")),
    Row(
        "unmarked, waits",
        Present(CSV, ownership=Ownership.UNMARKED),
        Verb.DEFER,
        "earlier-error",
        waits("failed"),
    ),
    Row("drift, requested by id", Present(OTHER), Verb.REPAIR, "drift", waits("manual"), requested=True),
    Row("unmarked", Present(CSV, ownership=Ownership.UNMARKED), Verb.ADOPT, "unmarked"),
    Row("unmarked, with drift", Present(OTHER, ownership=Ownership.UNMARKED), Verb.ADOPT, "unmarked"),
    Row(
        "unmarked, not writable",
        Present(CSV, ownership=Ownership.UNMARKED),
        Verb.KEEP,
        "as-wanted",
        of=target(kind=CHECKED),
    ),
    Row("broken", Present(CSV, Health.BROKEN), Verb.REPAIR, "broken"),
    Row("broken, with a code", Present(CSV, Health.BROKEN, code="lost-policy"), Verb.REPAIR, "lost-policy"),
    Row("broken, known only by its data", Present(health=Health.BROKEN, verified=False), Verb.REPAIR, "broken"),
    Row("drift", Present(OTHER), Verb.REPAIR, "drift"),
    Row("drift, field missing", Present({}), Verb.REPAIR, "drift"),
]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.why) for row in ROWS])
def test_each_row_of_the_truth_table(row: Row) -> None:
    """Verb and reason are those of the first rule that matches."""
    of = with_state(row.of, row.entry)
    decided = decide(of, row.scope, row.seen, START, requested=row.requested)
    assert (decided.verb, decided.reason) == (row.verb, row.reason), row.why
    assert decided.target is of
    assert decided.observation is row.seen, row.why
    assert (decided.manual_step is not None) == (row.verb is Verb.MANUAL), row.why


def test_rows_cover_every_verb_except_block() -> None:
    """BLOCK results only from dependencies."""
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
def test_manual_step_comes_from_the_observation_or_the_target(
    seen: Observation, of: Target, expected: ManualStep
) -> None:
    """There is always a text for the operator."""
    assert decide(of, Scope("s1"), seen, START, requested=False).manual_step == expected


def test_remembered_manual_step_is_reported_while_it_waits() -> None:
    """It is in every report, not only in the first; the action is marked as waiting."""
    error = LastError("off", "m", "", "manual", "sharing is off", ["Switch it on."], "https://console.example")
    decided = decide(
        with_state(target(), entry(not_before=FUTURE, error=error)), Scope("s1"), Absent(), START, requested=False
    )
    assert decided.manual_step == ManualStep("sharing is off", ("Switch it on.",), "https://console.example")
    assert decided.waits


def test_detail_of_drift_lists_the_differences() -> None:
    """It has each field with its actual and its desired value, sorted."""
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


# --- dependencies --------------------------------------------------------------------------------

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
def test_write_is_blocked_if_its_dependency_will_not_exist(holder: Action, expected: Verb) -> None:
    """The verb of the dependency decides, and the action names the dependency and its reason."""
    plan = assemble([action(Verb.CREATE, needs=(BASE,)), holder])
    held = next(one for one in plan.actions if one.key == key())
    assert held.verb is expected
    if expected is not Verb.CREATE:
        assert held.reason == "rests-on"
        assert str(BASE) in held.detail


def test_write_blocked_by_a_manual_step_has_that_step() -> None:
    """The blocked target's entry alone has the instructions, also across two stages."""
    switch = action(Verb.MANUAL, "owner", DESTINATION, name="data", manual_step=GUIDE)
    export = action(Verb.CREATE, needs=(BASE,))
    role = action(Verb.CREATE, kind=ROLE, name="reader", needs=(export.key,))
    held = {one.key: one for one in assemble([switch, export, role]).actions}
    assert held[export.key].verb is held[role.key].verb is Verb.BLOCK
    assert held[export.key].remedy == held[role.key].remedy == "Mend it."


@pytest.mark.parametrize("verb", [Verb.KEEP, Verb.SKIP, Verb.MANUAL, Verb.DEFER])
def test_action_without_a_write_is_not_blocked(verb: Verb) -> None:
    """A healthy export stays healthy while its destination is Unknown."""
    holder = action(Verb.MANUAL, "owner", DESTINATION, name="data")
    plan = assemble([action(verb, needs=(BASE,)), holder])
    assert next(one for one in plan.actions if one.key == key()).verb is verb


def test_reason_of_a_block_propagates_to_indirect_dependents() -> None:
    """A connector that needs an export that needs a destination is blocked with the destination's reason."""
    actions = [
        action(Verb.CREATE, "a", ROLE, name="reader", needs=(Key("b", "export", "daily"),)),
        action(Verb.CREATE, "b", EXPORT, needs=(BASE,)),
        action(Verb.MANUAL, "owner", DESTINATION, name="data"),
    ]
    assert [one.verb for one in assemble(actions).actions] == [Verb.BLOCK, Verb.BLOCK, Verb.MANUAL]


def test_dependency_outside_the_plan_does_not_block() -> None:
    """A target outside the requested scopes is assumed to exist."""
    (only,) = assemble([action(Verb.CREATE, needs=(BASE,))]).actions
    assert only.verb is Verb.CREATE


# --- the complete plan ---------------------------------------------------------------------------


def test_plan_has_one_action_per_target_sorted_by_key() -> None:
    """This holds for any observations."""
    targets = [target("s2"), target("s1", ROLE), target("s1"), target("s3")]
    plan = make_plan(targets, scopes("s1", "s2"), {key("s2"): Present(CSV)}, START)
    assert [(one.key.scope, one.key.kind, one.verb) for one in plan.actions] == [
        ("s1", "export", Verb.DEFER),
        ("s1", "role", Verb.DEFER),
        ("s2", "export", Verb.KEEP),
        ("s3", "export", Verb.SKIP),
    ]
    assert plan.writes() == []


def test_requested_scope_ignores_its_wait() -> None:
    """The wait still applies to all other scopes."""
    memory = known(key("s1"), key("s2"), not_before=FUTURE)
    seen = {key("s1"): Absent(), key("s2"): Absent()}
    plan = make_plan(memory.pair([target("s1"), target("s2")]), scopes("s1", "s2"), seen, START, requested=["s2"])
    assert [one.verb for one in plan.actions] == [Verb.DEFER, Verb.CREATE]


def test_hash_does_not_depend_on_the_order_of_the_input() -> None:
    """Targets, observations and scopes may be in any order."""
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
def test_hash_covers_verb_reason_fields_and_key(actions: list[Action], same: bool) -> None:
    """Nothing else changes it."""
    assert (assemble(actions).hash == assemble(BASIS).hash) is same


def test_dry_run_has_the_plan_and_hash_of_the_real_run() -> None:
    """This holds for the first run and later ones."""
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
def test_writes_need_a_proof(cases: list[tuple[Observation, TargetState | None, Any]]) -> None:
    """In any state, a write has a proof, each target has one action, and equal input gives an equal plan."""
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


def test_write_takes_the_cloud_s_own_words_over_the_differences() -> None:
    """What the adapter says of a broken target explains more than a list of fields."""
    said = decide(target(), Scope("s1"), Present(OTHER, detail="AWS says so"), START, requested=False)
    assert said.detail == "AWS says so"
    assert decide(target(), Scope("s1"), Present(OTHER), START, requested=False).detail.startswith("format: ")


def test_unknown_target_keeps_the_remedy_of_its_read() -> None:
    """It is what an operator can do about it."""
    seen = Unknown("busy", "later", remedy="Wait.")
    assert decide(target(), Scope("s1"), seen, START, requested=False).remedy == "Wait."


@pytest.mark.parametrize(
    ("state", "detail"),
    [
        (entry(not_before=FUTURE), f"not before {FUTURE}"),
        (
            entry(error=LastError("denied", "no", result="failed")),
            "as it was when it was last looked at: no",
        ),
    ],
)
def test_remembered_action_says_until_when_it_waits(state: TargetState, detail: str) -> None:
    """Without a wait, it says that this is what was seen last."""
    decided = decide(with_state(target(), state), Scope("s1"), NOT_LOOKED_AT, START, requested=False)
    assert decided.detail == detail


@pytest.mark.parametrize(("seen", "end"), [(MAKING, ")"), (Present(CSV, Health.PENDING, code="x"), ": x")])
def test_overdue_target_says_since_when_and_what_the_cloud_says(seen: Present, end: str) -> None:
    """The detail has the beginning, the normal time, and the cloud's detail or code."""
    late = entry(state="pending", since=START - 3 * HOUR)
    decided = decide(with_state(target(), late), Scope("s1"), seen, START, requested=False)
    assert decided.reason == "overdue"
    assert decided.detail.startswith("pending since 2026-01-04 21:00 UTC, longer than its normal time (2:00:00)")
    assert decided.detail.endswith(end)


def test_differences_of_whole_structures_are_left_out() -> None:
    """Only their names are shown, whichever of the two values is a structure."""
    wanted = target(desired={"a": ["x"], "b": "y", "c": "z"})
    seen = Present({"a": "x", "b": {"k": 1}, "c": "w"})
    assert decide(wanted, Scope("s1"), seen, START, requested=False).detail == "a; b; c: 'w' instead of 'z'"


def test_one_that_is_not_held_does_not_end_the_search_for_others() -> None:
    """Each need is looked at, and the first that is not met gives the reason."""
    there = action(Verb.KEEP, "owner", DESTINATION, name="a")
    blocked = action(Verb.MANUAL, "owner", DESTINATION, name="b", manual_step=GUIDE)
    later = action(Verb.DEFER, "owner", DESTINATION, name="c")
    write = action(Verb.CREATE, "s1", EXPORT, needs=(there.key, blocked.key, later.key))
    held = next(one for one in assemble([there, blocked, later, write]).actions if one.key == write.key)
    assert (held.verb, held.detail) == (Verb.BLOCK, f"rests on {blocked.key}: test")
