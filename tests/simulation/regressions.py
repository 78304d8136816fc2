"""The stories that once failed: every one is played by each `make test` and `make simulate`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.simulation.story import Story, parse_story

FILE = Path(__file__).with_name("regressions.txt")


class Regression(msgspec.Struct, frozen=True):
    """A story that failed, and why in one line."""

    cloud: str
    days: int
    story: Story
    reason: str


def regressions() -> Iterator[Regression]:
    """Yield the stories of the file, whose lines are ``CLOUD DAYS | STORY | REASON``; lines with ``#`` are comments."""
    for line in FILE.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            head, story, reason = (part.strip() for part in line.split("|"))
            cloud, days = head.split()
            yield Regression(cloud, int(days), parse_story(story), reason)
