"""The mutants: how they are made, that each guard's still applies to its source, and how survivors are compared."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from tests.mutants import __main__ as command
from tests.mutants.collected import IMPORT_SECONDS, MOST_SECONDS, Reach, fork_all
from tests.mutants.groups import GROUPS, ROOT
from tests.mutants.guards import ANSWERS, GUARDS, Guard
from tests.mutants.mutate import mutants_of, replaced
from tests.mutants.uses import Uses

SOURCE = '''"""A module."""
LIMIT = 3


def due(waited: int, tries: int = 2) -> bool:
    """Return whether it is due."""
    log.info("looked", reason="at it")
    if waited > LIMIT and tries:
        return True
    raise ValueError("this is prose")
'''


def names(source: str) -> list[str]:
    """Return the mutants of a source as `function: before → after`."""
    return [one.name.removeprefix("m.py ") for one in mutants_of("m.py", source)]


def test_mutants_change_conditions_values_and_statements() -> None:
    """Docstrings, annotations, log calls and prose are left alone."""
    assert names(SOURCE) == [
        "module: 3 → 4",
        "due: 2 → 3",
        "due: if waited > LIMIT and tries: return True → if not (waited > LIMIT and tries): return True",
        "due: waited > LIMIT and tries → waited > LIMIT or tries",
        "due: waited > LIMIT → waited >= LIMIT",
        "due: True → False",
        "due: raise ValueError('this is prose') → pass",
    ]


def test_same_change_twice_gets_a_number() -> None:
    """Names are unique, and do not depend on lines."""
    assert names("def f():\n    return [1, 1]\n") == ["f: return [1, 1] → return None", "f: 1 → 2", "f: 1 → 2 #2"]


def test_mutant_of_a_function_is_told_from_one_of_the_import() -> None:
    """A function's code is replaced in a running process; a constant and a default take effect by an import only."""
    original = compile(SOURCE, str(ROOT / "m.py"), "exec", dont_inherit=True)
    swapped = {one.name: replaced(original, one.code(ROOT)) for one in mutants_of("m.py", SOURCE)}
    imported = [name for name, codes in swapped.items() if codes is None]
    assert imported == ["m.py module: 3 → 4", "m.py due: 2 → 3"]
    assert all([code.co_name for code in codes] == ["due"] for codes in swapped.values() if codes is not None)


def test_making_a_mutant_leaves_the_source_as_it_was() -> None:
    """The changed tree is changed back, whatever follows."""
    one, other = mutants_of("m.py", SOURCE)[2:4]
    before = other.code(ROOT)
    one.code(ROOT)
    assert other.code(ROOT) == before


@pytest.mark.parametrize("guard", [*GUARDS, *ANSWERS], ids=lambda one: one.name)
def test_mutant_of_a_guard_applies_to_the_source(guard: Guard) -> None:
    """Its text stands in the source once, the changed source can be compiled, and its tests exist."""
    compile(guard.source(), guard.path, "exec", dont_inherit=True)
    assert guard.tests
    assert [one for one in guard.tests if not (ROOT / one).exists()] == []


def test_guard_whose_text_is_gone_is_reported() -> None:
    """The message names the guard, the file and the text."""
    gone = GUARDS[0]._replace(old="no such text in the source")
    with pytest.raises(ValueError, match=r"completeness.*shared/state/update\.py holds 0 times: no such text"):
        gone.source()


def test_survivors_differ_from_the_list_in_both_directions() -> None:
    """An unlisted survivor, a killed one and one that does not exist are reported; other groups are left alone."""
    survived = {"shared/plan.py f: 1 → 2": True, "shared/plan.py f: 2 → 3": False}
    known = dict.fromkeys(
        ("shared/plan.py f: 2 → 3", "shared/plan.py f: 4 → 5", "gcp_function/targets.py f: 1 → 2"), ""
    )
    assert command.differences(survived, known, ["engine"]) == [
        "survives and is not listed: shared/plan.py f: 1 → 2",
        "listed as a survivor, but is killed: shared/plan.py f: 2 → 3",
        "listed as a survivor, but does not exist any more: shared/plan.py f: 4 → 5",
    ]
    assert command.differences({"shared/plan.py f: 1 → 2": True}, {"shared/plan.py f: 1 → 2": "why"}, ["engine"]) == []


def test_every_listed_survivor_has_a_reason_and_exists() -> None:
    """A renamed function, or one that changed, leaves no stale entry behind."""
    known = command.listed()
    assert [name for name, reason in known.items() if len(reason.split()) < 4] == []
    files = {path for group in GROUPS.values() for path in group.files()}
    paths = {name.split(" ")[0] for name in known}
    assert paths <= files
    made = {one.name for path in paths for one in mutants_of(path, (ROOT / path).read_text(encoding="utf-8"))}
    assert sorted(set(known) - made) == []


def test_tests_of_the_module_itself_come_first() -> None:
    """Then the fastest of other files, as long as they are within the limit."""
    tests = ["tests/shared/test_apply.py::a", "tests/shared/test_plan.py::b", "tests/shared/test_plan.py::c"]
    reach = Reach({"shared/plan.py": {7: tests, 9: ["other"]}}, dict(zip(tests, (0.1, 0.3, 0.2), strict=True)))
    assert reach.tests_for("shared/plan.py", range(6, 8)) == [tests[2], tests[1], tests[0]]
    assert reach.tests_for("shared/plan.py", [1]) == []
    long = Reach(reach.lines, dict(zip(tests, (MOST_SECONDS + 1, 0.3, 9.0), strict=True)))
    assert long.tests_for("shared/plan.py", [7]) == [tests[1], tests[2]]


CONSTANTS = """LIMITS = {"most": 3}
LONGEST = LIMITS["most"]


class Seen:
    fresh: bool = False


def due(waited: int, tries: int = 2) -> bool:
    return waited > LONGEST
"""


@pytest.mark.parametrize(
    ("change", "names", "lines"),
    [
        ("module: 3 → 4", {"LIMITS", "LONGEST"}, {1, 2, 10}),
        ("Seen: False → True", {"Seen", "fresh"}, {6}),
        ("due: 2 → 3", {"due"}, set()),
    ],
)
def test_users_of_what_an_import_executes_are_found_by_name(change: str, names: set[str], lines: set[int]) -> None:
    """A constant is used by the constants that are made of it, a default by its class and its field."""
    (mutant,) = (one for one in mutants_of("m.py", CONSTANTS) if one.name == f"m.py {change}")
    uses = Uses({"m.py": ast.parse(CONSTANTS)}, {})
    assert uses.names(mutant) == names
    assert uses.lines(names) == {("m.py", line) for line in lines}


def test_tests_that_mention_a_name_are_found() -> None:
    """In their body or in their parameters, as a name or as an attribute."""
    source = """
@pytest.mark.parametrize("limit", [LONGEST])
def test_one(limit): ...
def test_two(): assert module.LONGEST
def test_three(): assert LIMIT
def support(): return LONGEST
"""
    assert Uses({}, {"a.py": ast.parse(source)}).tests({"LONGEST"}) == {"a.py::test_one", "a.py::test_two"}


def test_tests_of_an_import_are_direct_ones_and_then_fast_ones() -> None:
    """The module's own file and the tests that mention the name are direct, whatever they take."""
    (mutant,) = (one for one in mutants_of("m.py", CONSTANTS) if one.name == "m.py module: 3 → 4")
    uses = Uses({"m.py": ast.parse(CONSTANTS)}, {"tests/test_a.py": ast.parse("def test_direct(): assert LIMITS")})
    direct, own, fast, slow = "tests/test_a.py::test_direct[1]", "tests/test_m.py::own", "b::fast", "b::slow"
    seconds = {direct: 30.0, own: 20.0, fast: 1.0, slow: IMPORT_SECONDS, "c::other": 0.1}
    reach = Reach({"m.py": {10: [slow, fast]}}, seconds)
    chosen = command._of_users(mutant, reach, uses)
    assert chosen == [own, direct, fast]


def test_processes_end_with_their_code_and_their_text() -> None:
    """One that raises counts as killed, and so does one that takes too long."""
    ended = {}

    def stuck(_: object) -> int:
        while True:
            os.sched_yield()

    def works() -> object:
        yield "returns", lambda keep: keep("a test") or 0, 0, 60
        yield "raises", lambda _: 1 // 0, 0, 60
        yield "hangs", stuck, 0, 0.1

    fork_all(works(), 2, lambda label, end: ended.update({label: end}))
    assert ended == {"returns": (0, "a test"), "raises": (1, ""), "hangs": (-1, "")}


def test_record_writes_the_table_between_its_marks(tmp_path: Path) -> None:
    """Rows of other groups stay with their commit; without the marks nothing is written."""
    document = tmp_path / "reliability.md"
    document.write_text(f"before\n\n{command.BEGIN}\n{command.END}\nafter\n", encoding="utf-8")
    command.record([["gcp", "2", "10", "9", "90.0 %"], ["engine", "3", "4", "4", "100.0 %"]], "abc1234", document)
    command.record([["gcp", "2", "11", "11", "100.0 %"], ["guards", "1", "5", "5", "100.0 %"]], "def5678", document)
    text = document.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("|")][2:] == [
        "| guards | 1 | 5 | 5 | 100.0 % | def5678 |",
        "| engine | 3 | 4 | 4 | 100.0 % | abc1234 |",
        "| gcp | 2 | 11 | 11 | 100.0 % | def5678 |",
    ]
    assert text.endswith("after\n")
    document.write_text("nothing", encoding="utf-8")
    with pytest.raises(ValueError, match="lacks the marks"):
        command.record([], "abc1234", document)
