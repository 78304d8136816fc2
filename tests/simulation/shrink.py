"""Makes a failing story as short as it can be while it still breaks the same invariant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import msgspec

from tests.simulation.simulation import Simulation
from tests.simulation.story import DAY_S, Setup, Step, Story
from tests.simulation.world import Violation

TRIES = 200  # stories that are played for one failure
WINDOWS = (8, 16, 32, 64, 128)  # days: most failures need only what happened shortly before


class Failure(msgspec.Struct, frozen=True):
    """A story that breaks an invariant within its days."""

    cloud: str
    story: Story
    days: int
    violation: Violation

    @property
    def command(self) -> str:
        """Return the command that plays the story again."""
        return f"make simulate CLOUD={self.cloud} DAYS={self.days} STORY='{self.story}'"


def play(cloud: str, story: Story, days: int) -> Violation | None:
    """Play a story and return the first broken invariant, None if all hold."""
    return Simulation(cloud, story).play(days)


def shrink(
    failure: Failure, player: Callable[[str, Story, int], Violation | None] = play, tries: int = TRIES
) -> Failure:
    """Return the failure with as few steps, days and scopes as break the same invariant."""
    best, left = failure, tries

    def try_out(story: Story, days: int) -> bool:
        nonlocal best, left
        if left <= 0:
            return False
        left -= 1
        found = player(best.cloud, story.until(days), days)
        if found is None or found.name != best.violation.name:
            return False
        days = min(days, found.day + 1)
        best = Failure(best.cloud, story.until(days), days, found)
        return True

    try_out(best.story, best.violation.day + 1)
    for window in WINDOWS:
        if window < best.days and _cut_front(best, window, try_out):
            break
    before = None
    while before != best and left > 0:
        before = best
        size = max(1, len(best.story.steps) // 2)
        while size:
            start = 0
            while start < len(best.story.steps):
                steps = best.story.steps
                if not try_out(best.story.with_steps(steps[:start] + steps[start + size :]), best.days):
                    start += size
            size //= 2
        for setup in _simpler(best.story.setup):
            if try_out(msgspec.structs.replace(best.story, setup=setup), best.days):
                break
        for step in best.story.steps:
            _round(step, best, try_out)
    return best


def _cut_front(best: Failure, window: int, try_out: Callable[[Story, int], bool]) -> bool:
    """Let the story begin so many days before it fails, on the same date, if it still fails."""
    cut = best.days - window
    steps = [Step(one.at - cut * DAY_S, one.verb, one.words) for one in best.story.steps if one.at >= cut * DAY_S]
    setup = msgspec.structs.replace(best.story.setup, start=best.story.setup.start + timedelta(days=cut))
    return try_out(Story(setup, tuple(steps)), window)


def _round(step: Step, best: Failure, try_out: Callable[[Story, int], bool]) -> None:
    """Move a step to a whole hour, or bring it a week forward, if the story still fails."""
    for at in (step.at - 7 * DAY_S, step.at - DAY_S, step.at - step.at % 3600):
        if 0 <= at != step.at:
            steps = [one for one in best.story.steps if one != step]
            if try_out(best.story.with_steps([*steps, Step(at, step.verb, step.words)]), best.days):
                return


def _simpler(setup: Setup) -> Iterator[Setup]:
    for change in ({"budget": 0}, {"zone": "UTC"}, {"scopes": 1}, {"scopes": setup.scopes - 1}, {"every": 24}):
        found: Setup = msgspec.structs.replace(setup, **change)
        if found != setup and found.scopes > 0:
            yield found
