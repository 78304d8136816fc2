"""The planner's truth table is data: the docstring is generated from it, and every row is reached."""

from __future__ import annotations

from shared.case import Case
from shared.model import NOT_LOOKED_AT, Absent, Health, Present
from shared.rules import ANY, RULES, Rule, decide, table
from tests.shared.builders import START, with_state
from tests.shared.test_plan import ROWS, Row


def deciding(row: Row) -> int:
    """Return the index of the rule that decides a row of the planner's tests."""
    case = Case(with_state(row.of, row.entry), row.scope, row.seen, START, requested=row.requested)
    action = decide(case.target, row.scope, row.seen, START, requested=row.requested)
    sight = row.seen.health if isinstance(row.seen, Present) else "Absent" if isinstance(row.seen, Absent) else ""
    sight = sight or ("not looked at" if row.seen is NOT_LOOKED_AT else "Unknown")
    place = next(place for place, rule in enumerate(RULES) if sight in rule.sights and rule.applies(case))
    assert RULES[place].action(case) == action
    return place


def test_every_rule_decides_a_tested_case() -> None:
    """A row that no case reaches would be dead."""
    assert {deciding(row) for row in ROWS} == set(range(len(RULES)))


def test_every_observation_has_a_rule_that_always_applies() -> None:
    """Otherwise a target could be left without an action."""
    last = {sight: rule for rule in RULES for sight in rule.sights}
    assert set(last) == set(ANY)
    assert {rule.applies.__name__ for rule in last.values()} == {"_always"}


def test_docstring_contains_every_row_of_the_table() -> None:
    """The documented table is the one that runs."""
    rows = table().splitlines()[3:-1]
    assert len(rows) == len(RULES)
    for rule, row in zip(RULES, rows, strict=True):
        assert rule.condition in row
        assert row in (decide.__doc__ or "")


def test_table_has_aligned_columns_below_their_names() -> None:
    """It is a table in reStructuredText, which the documentation shows."""
    first, last = RULES[0], RULES[-1]
    few = [
        Rule(ANY, "scope not active", "SKIP (reason)", first.applies, first.action),
        Rule((Health.HEALTHY, Health.BROKEN), "drift", "REPAIR", last.applies, last.action),
    ]
    assert table(few).splitlines() == [
        "========================  ================  =============",
        "observation               condition         verb (reason)",
        "========================  ================  =============",
        "any                       scope not active  SKIP (reason)",
        "Present, HEALTHY, BROKEN  drift             REPAIR",
        "========================  ================  =============",
    ]
