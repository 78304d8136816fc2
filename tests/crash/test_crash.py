"""Some answers broken and some processes killed, on each cloud; `make crash` does it with every call in every way."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.crash.__main__ import main, record, rows, table
from tests.crash.operators import opened
from tests.crash.stage import Stage
from tests.crash.stages import STAGES, open_stage
from tests.crash.trial import Case, Trials, differences, ways_of

# What leaves the most behind, and one of each kind of answer.
FEW = ("403, quoting the request", "login page", "cut off", "429, huge", "lost", "killed before", "killed after")
# A way that once did harm, the story, and the operation whose first call it was.
ONCE_FAILED = (
    ("aws", "steady", "s3:GetObject", "cut off"),
    ("azure", "heal", "GET /subscriptions", "500, empty"),
    ("azure", "heal", "GET /subscriptions", "cut off"),
    # A connection stayed open; warnings are errors in the tests.
    ("azure", "steady", "GET /tailpipehost/tailpipe-state/deliveries.bin", "login page"),
)


@pytest.fixture(scope="module", params=STAGES)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Return each cloud where every round begins."""
    with open_stage(request.param) as opened:
        yield opened


def try_ways(stage: Stage, story: str, ways: tuple[str, ...]) -> None:
    """Break in each way another call of a story, first those that write."""
    trials = Trials(stage, story)
    calls = trials.rehearse()
    writes = [number for number, name in enumerate(calls, 1) if trials.writes(name)]
    numbers = cycle([*writes, *(one for one in range(1, len(calls) + 1) if one not in writes)])
    for way, number in zip(ways, islice(numbers, len(ways)), strict=True):
        case = Case(stage.name, story, number, way, calls[number - 1])
        verdict = trials.play(case)
        assert verdict.wrong == [], f"make crash CASE='{case}' ({case.name})"


def test_next_run_heals_what_a_broken_answer_or_a_kill_left(stage: Stage) -> None:
    """Whatever happens to a call of a run that repairs, the run after it ends in the same world."""
    try_ways(stage, "heal", FEW)


@pytest.mark.parametrize(("cloud", "story", "operation", "way"), ONCE_FAILED)
def test_what_once_failed_holds(stage: Stage, cloud: str, story: str, operation: str, way: str) -> None:
    """Each defect that was found stays away."""
    if stage.name != cloud:
        pytest.skip("another cloud")
    trials = Trials(stage, story)
    number = trials.rehearse().index(operation) + 1
    assert trials.play(Case(cloud, story, number, way, operation)).wrong == []
    gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize("story", ["onboard", "heal", "steady", "delivery"])
def test_every_way_of_breaking_some_call(stage: Stage, story: str) -> None:
    """Each way is tried with another call of the story."""
    if story in stage.stories:
        try_ways(stage, story, ways_of(stage))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("aws/destroy", 4),
        ("azure/destroy", 4),
        ("gcp/destroy", 4),
        ("aws/deploy", 22),
        ("azure/deploy", 25),
        ("gcp/deploy", 25),
    ],
)
def test_command_that_was_killed_is_completed_by_the_next(name: str, step: int) -> None:
    """The same command, given again, ends in the same world, and keeps what is the customer's."""
    cloud, story = name.split("/")
    with opened(name) as trials:
        for number, operation in list(enumerate(trials.rehearse(), 1))[::step]:
            verdict = trials.play(Case(cloud, story, number, "killed after", operation))
            assert verdict.wrong == [], f"make crash CASE='{verdict.case}' ({operation})"


def test_world_that_differs_is_found(stage: Stage) -> None:
    """A run that leaves something undone, and a write that nobody needs, are noticed."""
    trials = Trials(stage, "steady")
    trials.rehearse()
    stage.forget()
    assert differences(trials.expected, stage.world()) != []
    stage.recover()


def test_worlds_are_compared_value_by_value() -> None:
    """A difference names its place and both values."""
    assert differences({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == ["/a/1/b is 3, not 2"]
    assert differences({"a": [1]}, {"a": [1, 2], "c": 0}) == ["/a is [1, 2], not [1]", "/c is 0, not None"]


VERDICT = {
    "cloud": "aws",
    "story": "heal",
    "call": 3,
    "way": "lost",
    "name": "s3:GetObject",
    "lasting": False,
    "ended": "ok",
    "runs": 1,
    "wrong": [],
    "commit": "abc",
}


def test_table_keeps_what_was_recorded_of_other_stories(tmp_path: Path) -> None:
    """The documentation shows what was tried by cloud and story, each with its own commit."""
    killed = {**VERDICT, "way": "killed after", "call": 4, "ended": "killed", "runs": 2, "wrong": ["left"]}
    document = tmp_path / "reliability.md"
    document.write_text("before\n<!-- crash -->\nold\n<!-- end of crash -->\nafter\n", encoding="utf-8")
    record(rows([{**VERDICT, "cloud": "gcp"}, VERDICT]), document)
    record(rows([{**VERDICT, "commit": "def"}, {**killed, "commit": "def"}, {**VERDICT, "lasting": True}]), document)
    assert document.read_text(encoding="utf-8").splitlines() == [
        "before",
        "<!-- crash -->",
        *table({})[:2],
        "| aws | heal | 2 | 2 | 1 | 1 | ok 1 | 1: 1, 2: 1 | 1 | def |",
        "| aws | heal, lasting | 1 | 1 | 1 | 0 | ok 1 | 1: 1 | 0 | abc |",
        "| gcp | heal | 1 | 1 | 1 | 0 | ok 1 | 1: 1 | 0 | abc |",
        "",
        "4 cases.",
        "<!-- end of crash -->",
        "after",
    ]
    document.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="lacks the marks"):
        record({}, document)


def test_one_case_is_repeated_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that a failure prints plays that case, and writes one line for it."""
    played = []

    def play(cloud: str, story: str, choose: object) -> Iterator[object]:
        played.append((cloud, story, choose))
        return iter(())

    monkeypatch.setattr("tests.crash.__main__.play", play)
    file = tmp_path / "lines" / "crash.jsonl"
    assert main(["--case", "gcp/steady/7/cut off", "--json", str(file)]) == 0
    choose = {"first": False, "lasting": False, "calls": [7], "ways": ["cut off"]}
    assert played == [("gcp", "steady", choose)]
    assert "0 cases" in capsys.readouterr().out
    file.write_text(json.dumps({**VERDICT, "wrong": ["left"]}) + "\n")
    assert main(["--read", str(file)]) == 1
    assert "| 1 | abc |\n\n1 cases." in capsys.readouterr().out
