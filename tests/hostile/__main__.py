"""Lets everything that reads a document read random and damaged ones, and reports what was not refused properly.

``python -m tests.hostile --count 1000000 [--seed 7] [--record]``; `make hostile` calls it. Exit codes: 0 all inputs
were read or refused, 1 some were not, 2 the arguments are not valid.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.hostile.readers import READERS, read
from tests.marks import write_between

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT, BEGIN, END = ROOT / "docs" / "reliability.md", "<!-- hostile -->", "<!-- end of hostile -->"
CHUNK = 2_000  # examples of one property: hypothesis remembers all of them
MOST_FAILURES = 3  # of one reader: the next ones are most probably the same
SLOW_S = 5.0  # of CPU for one input


class Counted(NamedTuple):
    """How many inputs a reader got, how many of them it refused, and the failures as text."""

    name: str
    inputs: int
    refused: int
    failures: tuple[str, ...]


def try_reader(name: str, number: int, first: int) -> Counted:
    """Let a reader read `number` inputs; `first` is the seed."""
    inputs = refused = 0
    failures: list[str] = []

    def check(value: object) -> None:
        nonlocal inputs, refused
        inputs += 1
        begun = time.thread_time()
        refused += read(name, value)
        spent = time.thread_time() - begun
        assert spent < SLOW_S, f"{spent:.1f} s of CPU for one input"

    for chunk in range(-(-number // CHUNK)):
        count = min(CHUNK, number - chunk * CHUNK)
        options = settings(
            max_examples=count,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )
        try:
            seed(first + chunk)(options(given(READERS[name].inputs)(check)))()
        except Exception:  # noqa: BLE001 - whatever a reader raises is a finding, and the next chunk goes on
            failures.append(traceback.format_exc(limit=-6)[-3000:])
            if len(failures) == MOST_FAILURES:
                break
    return Counted(name, inputs, refused, tuple(failures))


def _job(job: tuple[str, int, int]) -> Counted:
    return try_reader(*job)


def play(names: Sequence[str], count: int, first: int, jobs: int) -> Iterator[Counted]:
    """Divide the inputs among the readers, in several processes; yield the results as they come."""
    each = -(-count // len(names))
    parts = [(name, min(20_000, each - start), first + start) for start in range(0, each, 20_000) for name in names]
    if jobs == 1:
        yield from map(_job, parts)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(_job, parts)


def table(counted: Sequence[Counted]) -> list[str]:
    """Return the counts by area as the lines of a table."""
    lines = ["| area | inputs | refused | findings |", "| --- | --- | --- | --- |"]
    for area in sorted({one.area for one in READERS.values()}):
        some = [one for one in counted if READERS[one.name].area == area]
        inputs, refused = sum(one.inputs for one in some), sum(one.refused for one in some)
        lines.append(f"| {area} | {inputs:,} | {refused:,} | {sum(len(one.failures) for one in some)} |")
    return lines


def record(lines: Sequence[str], document: Path = DOCUMENT) -> None:
    """Write the table into the documentation, between its marks. Raises ValueError without them."""
    write_between(document, BEGIN, END, lines)


def main(arguments: list[str] | None = None) -> int:
    """Try the readers that the arguments name and return the exit code."""
    parser = argparse.ArgumentParser("python -m tests.hostile", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="inputs, of all readers together")
    parser.add_argument("--seed", type=int, default=0, help="the first seed; another one gives other inputs")
    parser.add_argument("--readers", default="", help="names separated by semicolons; all without it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--record", action="store_true", help="write the table into docs/reliability.md")
    given_ = parser.parse_args(arguments)
    names = given_.readers.split(";") if given_.readers else list(READERS)
    if unknown := set(names) - set(READERS):
        parser.error(f"unknown reader {sorted(unknown)[0]!r}: one of {', '.join(READERS)}")
    counted = []
    for one in play(names, given_.count, given_.seed, given_.jobs):
        counted.append(one)
        for failure in one.failures:
            print(f"\n{one.name}:\n{failure}", flush=True)
    lines = table(counted)
    commit = subprocess.run(["git", "describe", "--always"], cwd=ROOT, capture_output=True, text=True, check=False)
    total = sum(one.inputs for one in counted)
    lines += ["", f"{total:,} inputs, at commit {commit.stdout.strip() or 'unknown'}."]
    print("\n".join(lines))
    if given_.record:
        record(lines)
    return 1 if any(one.failures for one in counted) else 0


if __name__ == "__main__":
    # Other processes cannot import what they are given of a package's `__main__`, only of the module by its name.
    from tests.hostile.__main__ import main as command

    sys.exit(command())
