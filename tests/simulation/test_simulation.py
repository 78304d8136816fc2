"""A few short stories of the simulation, the ones that once failed, and proof that it finds faults of the engine."""

from __future__ import annotations

import json

import pytest

from tests.simulation.__main__ import main, seeds_of
from tests.simulation.generate import setup_of, story_of
from tests.simulation.profiles import PROFILES
from tests.simulation.regressions import Regression, regressions
from tests.simulation.sabotage import SABOTAGES, STORIES, sabotaged
from tests.simulation.shrink import Failure, play, shrink
from tests.simulation.simulation import Simulation
from tests.simulation.story import Step, Story, parse_story
from tests.simulation.world import Violation


@pytest.mark.parametrize("cloud", PROFILES)
@pytest.mark.parametrize("seed", [1, 2])
def test_invariants_hold_whatever_happens(cloud: str, seed: int) -> None:
    """The full number of stories is played by `make simulate`."""
    story = story_of(cloud, seed, 48)
    violation = play(cloud, story, 48)
    assert violation is None, f"make simulate CLOUD={cloud} SEEDS={seed}-{seed} DAYS=48"


@pytest.mark.parametrize("one", list(regressions()), ids=lambda one: f"{one.cloud}-{one.reason[:40]}")
def test_story_that_once_failed_holds(one: Regression) -> None:
    """Each fault that the simulation found stays away."""
    assert play(one.cloud, one.story, one.days) is None


def test_story_always_ends_the_same() -> None:
    """Nothing but the story decides what happens: the same log and the same bytes are stored."""
    story = story_of("azure", 4, 30)
    first, second = Simulation("azure", story), Simulation("azure", story)
    assert first.play(30) is second.play(30) is None
    assert list(first.lines) == list(second.lines)
    assert first.state.documents == second.state.documents
    assert first.documents.documents == second.documents.documents


def test_processes_that_run_at_once_always_end_the_same() -> None:
    """Their turns are decided by the story, not by the machine."""
    story = parse_story("seed=1 scopes=3 every=24; 2d02:30:01 kill 9 after; 2d02:30:02 burst 8; 3d05:00:00 burst 5")
    first, second = Simulation("gcp", story), Simulation("gcp", story)
    assert first.play(6) is second.play(6) is None
    assert list(first.lines) == list(second.lines)


@pytest.mark.parametrize("cloud", PROFILES)
def test_written_story_is_read_again(cloud: str) -> None:
    """The command that is printed plays the same story."""
    story = story_of(cloud, 7, 60)
    assert story.steps
    assert parse_story(str(story)) == story


def test_longer_story_begins_like_the_shorter_one() -> None:
    """A failure can be played without the days after it."""
    assert story_of("aws", 3, 90).until(30) == story_of("aws", 3, 30)


@pytest.mark.parametrize("text", ["seed=x", "seed=1; delete s1", "seed=1; 2d delete s1", "seed=1; 2d03:00:00", "odd"])
def test_invalid_story_is_refused(text: str) -> None:
    """The message shows the part that is not valid."""
    with pytest.raises(ValueError, match="is not a"):
        parse_story(text)


def test_failing_story_is_shortened_to_the_steps_that_matter() -> None:
    """Steps, days and scopes that the failure does not need are left out."""
    story = story_of("aws", 5, 200)
    needed = {story.steps[20], story.steps[30]}

    def player(_cloud: str, tried: Story, days: int) -> Violation | None:
        verbs = {one.verb: one.words for one in tried.steps}
        found = all(one.verb in verbs for one in needed) and days > max(one.at for one in tried.steps) // 86_400
        return Violation("covered", "it fails", days - 1) if found else None

    violation = player("aws", story, 200)
    assert violation is not None
    short = shrink(Failure("aws", story, 200, violation), player)
    assert len(short.story.steps) == len({one.verb for one in needed})
    assert short.days < 200
    assert short.story.setup.scopes == 1
    assert parse_story(short.command.split("'")[1]) == short.story


@pytest.mark.parametrize("name", STORIES)
def test_simulation_finds_a_fault_of_the_engine(name: str) -> None:
    """Each story breaks its invariant with the fault and holds without it."""
    cloud, days, text = STORIES[name]
    story = parse_story(text)
    with sabotaged(name) as invariants:
        violation = play(cloud, story, days)
    assert violation is not None
    assert violation.name in invariants
    assert play(cloud, story, days) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", SABOTAGES)
def test_random_stories_find_each_fault_of_the_engine(name: str) -> None:
    """Some of the first stories of a nightly run find each of them."""
    with sabotaged(name) as invariants:
        for seed in range(30):
            for cloud in PROFILES:
                violation = play(cloud, story_of(cloud, seed, 90), 90)
                if violation is not None and violation.name in invariants:
                    return
    pytest.fail(f"no story of 30 seeds finds {name}")


def test_command_prints_figures_and_fails_for_a_broken_invariant(capsys: pytest.CaptureFixture[str]) -> None:
    """The last line is one JSON document; a failure is shortened and printed as one command."""
    assert main(["--seeds", "1", "--days", "3", "--clouds", "azure", "--jobs", "1"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["failed"] == {}
    assert figures["days"] >= 3
    cloud, days, text = STORIES["remedies-missing"]
    with sabotaged("remedies-missing"):
        assert main(["--story", text, "--days", str(days), "--clouds", cloud, "--jobs", "1"]) == 1
    printed = capsys.readouterr().out
    assert f"make simulate CLOUD={cloud} DAYS=" in printed
    assert json.loads(printed.splitlines()[-1])["failed"] == {"remedy": 1}


def test_command_refuses_an_unknown_cloud(capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the known ones."""
    with pytest.raises(SystemExit):
        main(["--clouds", "oracle"])
    assert "one of aws, azure, gcp" in capsys.readouterr().err


def test_seeds_are_a_number_or_a_range() -> None:
    """A number means the first ones."""
    assert list(seeds_of("3")) == [0, 1, 2]
    assert list(seeds_of("7-8")) == [7, 8]


def test_stories_have_a_leap_day_and_both_changes_of_summer_time() -> None:
    """Each year of each seed contains 29 February 2028."""
    for seed in range(50):
        start = setup_of("aws", seed).start
        assert (start.year, start.month) >= (2027, 4)
        assert (start.year, start.month, start.day) <= (2028, 2, 28)


def test_step_names_a_verb() -> None:
    """An unknown verb is an error, not a step that does nothing."""
    with pytest.raises(KeyError, match="explode"):
        play("aws", Story(setup_of("aws", 1), (Step(5, "explode"),)), 1)
