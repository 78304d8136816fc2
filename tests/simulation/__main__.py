"""Plays many random stories and prints what broke, each as one command that plays it again.

``python -m tests.simulation --seeds 200 --days 365 --clouds "aws azure gcp"``; `make simulate` calls it. Exit codes:
0 all invariants hold, 1 one was broken, 2 the arguments are not valid.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import msgspec

from tests.marks import write_between
from tests.simulation.generate import story_of
from tests.simulation.profiles import PROFILES
from tests.simulation.regressions import regressions
from tests.simulation.shrink import Failure, shrink
from tests.simulation.simulation import Simulation
from tests.simulation.story import Story, parse_story

DOCUMENT = Path(__file__).parents[2] / "docs" / "testing.md"
BEGIN, END = "<!-- simulation -->", "<!-- end of simulation -->"
SHOWN = 5  # failures that are shrunk and printed; more of one night are mostly the same


class Job(msgspec.Struct, frozen=True):
    """A story to play on one cloud."""

    cloud: str
    story: Story
    days: int


class Played(msgspec.Struct, frozen=True):
    """What became of one story: the days and processes that were simulated, CPU seconds, and the failure, if any."""

    days: int
    runs: int
    cpu_s: float
    failure: Failure | None = None


def play_job(job: Job) -> Played:
    """Play one story to its end or to the first broken invariant."""
    begun = time.process_time()
    simulation = Simulation(job.cloud, job.story)
    violation = simulation.play(job.days)
    failure = None if violation is None else Failure(job.cloud, job.story, job.days, violation)
    days = job.days if violation is None else violation.day + 1
    return Played(days, simulation.runs, time.process_time() - begun, failure)


def jobs_of(clouds: Iterable[str], seeds: Iterable[int], days: int) -> Iterator[Job]:
    """Yield a story for each seed and cloud."""
    for seed in seeds:
        for cloud in clouds:
            yield Job(cloud, story_of(cloud, seed, days), days)


def seeds_of(text: str) -> range:
    """Return the seeds of ``200`` (the first 200), or of ``17-20``. Raises ValueError."""
    first, dash, last = text.partition("-")
    return range(int(first), int(last) + 1) if dash else range(int(first))


def play_all(jobs: Iterable[Job], processes: int) -> Iterator[Played]:
    """Play the stories in several processes, in order of completion."""
    if processes == 1:
        yield from map(play_job, jobs)
        return
    with Pool(processes) as pool:
        yield from pool.imap_unordered(play_job, jobs, chunksize=2)


def summary(played: list[Played], clouds: list[str], wall_s: float) -> dict[str, Any]:
    """Return the figures of all stories, as one JSON line."""
    failed = [one.failure for one in played if one.failure is not None]
    return {
        "commit": _commit(),
        "clouds": clouds,
        "stories": len(played),
        "days": sum(one.days for one in played),
        "processes": sum(one.runs for one in played),
        "cpu_s": round(sum(one.cpu_s for one in played), 1),
        "wall_s": round(wall_s, 1),
        "failed": dict(Counter(one.violation.name for one in failed)),
    }


def _commit() -> str:
    found = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _report(failures: list[Failure]) -> None:
    """Print each failure's shrunk story and its command."""
    by_name: dict[str, Failure] = {}
    for one in failures:
        by_name.setdefault(f"{one.cloud} {one.violation.name}", one)
    for failure in list(by_name.values())[:SHOWN]:
        print(
            f"\n{failure.cloud}: seed {failure.story.setup.seed} fails on day {failure.violation.day}; it is shortened:"
        )
        short = shrink(failure)
        print(f"{short.cloud}: the invariant {short.violation.name!r} does not hold: {short.violation.detail}")
        print(f"It needs {len(short.story.steps)} steps and {short.days} days:")
        for step in short.story.steps:
            print(f"  {step}")
        print(f"Play it again:\n  {short.command}")


def record(figures: Mapping[str, Any], document: Path = DOCUMENT) -> None:
    """Write the figures of a run into the documentation, between its marks."""
    failed = ", ".join(figures["failed"]) or "none"
    rows = (
        ("commit", figures["commit"]),
        ("stories", f"{figures['stories']:,}"),
        ("simulated days", f"{figures['days']:,}"),
        ("processes", f"{figures['processes']:,}"),
        ("CPU seconds", f"{figures['cpu_s']:,.0f}"),
        ("broken invariants", failed),
    )
    lines = ["| measure | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]
    write_between(document, BEGIN, END, lines)


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("200"), help="200, or 17-20")
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--clouds", default=" ".join(PROFILES), help="names separated by blanks")
    parser.add_argument("--story", default="", help="play this story instead of random ones")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--record", action="store_true", help="write the figures into docs/testing.md")
    found = parser.parse_args(arguments)
    unknown = [name for name in found.clouds.split() if name not in PROFILES]
    if unknown or found.days < 1:
        parser.error(f"unknown cloud {unknown[0]!r}: one of {', '.join(PROFILES)}" if unknown else "--days is below 1")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Play the stories that the arguments name and return the exit code."""
    found = _arguments(arguments)
    clouds, begun = found.clouds.split(), time.monotonic()
    if found.story:
        jobs = [Job(cloud, parse_story(found.story), found.days) for cloud in clouds]
    else:
        kept = [Job(one.cloud, one.story, one.days) for one in regressions() if one.cloud in clouds]
        jobs = [*kept, *jobs_of(clouds, found.seeds, found.days)]
    played = list(play_all(jobs, min(found.jobs, len(jobs))))
    failures = [one.failure for one in played if one.failure is not None]
    _report(failures)
    figures = summary(played, clouds, time.monotonic() - begun)
    print(json.dumps(figures))
    if found.record:
        record(figures)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
