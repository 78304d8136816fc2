"""A story: the setup of a simulated deployment, and the steps that happen to it, as text that can be replayed.

A story is written as ``seed=7 start=2027-04-03 scopes=3 every=12 zone=Europe/Berlin; 2d03:15:07 delete s1; …``. Every
step stands alone, so that any part of a story is a story: that is what makes shrinking possible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, timedelta

import msgspec

_TIME = re.compile(r"(\d+)d(\d\d):(\d\d):(\d\d)", re.ASCII)
DAY_S = 86_400


class Setup(msgspec.Struct, frozen=True):
    """What a simulated deployment is from the beginning.

    `seed` decides what no step says, such as how long each call takes. The schedule runs `every` so many hours, by the
    local time of `zone`. `budget` is the setting CALL_BUDGET, and `writes` MAX_WRITES_PER_RUN for each scope.
    """

    seed: int = 0
    start: date = date(2027, 4, 1)
    scopes: int = 3
    every: int = 12
    zone: str = "UTC"
    budget: int = 0
    writes: int = 0


class Step(msgspec.Struct, frozen=True, order=True):
    """One thing that happens `at` so many seconds after the start: a verb of `tests.simulation.steps` and its words."""

    at: int
    verb: str
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        days, rest = divmod(self.at, DAY_S)
        clock = f"{days}d{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
        return " ".join((clock, self.verb, *self.words))


class Story(msgspec.Struct, frozen=True):
    """A setup with its steps, in the order of time."""

    setup: Setup
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        return "; ".join((_written(self.setup), *map(str, self.steps)))

    def with_steps(self, steps: Iterable[Step]) -> Story:
        """Return the story with other steps."""
        return Story(self.setup, tuple(sorted(steps)))

    def until(self, days: int) -> Story:
        """Return the story of the first `days` days."""
        return self.with_steps(one for one in self.steps if one.at < days * DAY_S)


def parse_story(text: str) -> Story:
    """Return the story that `str` wrote. Raises ValueError that says which part is not valid."""
    head, *rest = (part.strip() for part in text.split(";"))
    try:
        words = dict(word.split("=", 1) for word in head.split())
        setup = msgspec.convert(words, Setup, strict=False)
    except (ValueError, msgspec.ValidationError) as error:
        raise ValueError(f"{head!r} is not a setup such as {_written(Setup())!r}: {error}") from error
    return Story(setup, tuple(sorted(_parse_step(part) for part in rest if part)))


def _written(setup: Setup) -> str:
    return " ".join(f"{name}={value}" for name, value in msgspec.structs.asdict(setup).items())


def _parse_step(text: str) -> Step:
    time, verb, *words = [*text.split(), ""]
    match = _TIME.fullmatch(time)
    if match is None or not verb:
        raise ValueError(f"{text!r} is not a step such as '2d03:15:07 delete s1'")
    days, hours, minutes, seconds = map(int, match.groups())
    at = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    return Step(int(at.total_seconds()), verb, tuple(word for word in words if word))
