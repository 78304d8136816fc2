"""Invokes each function a thousand times in one warm process, and expects that nothing grows.

``python -m tests.soak --clouds "aws azure gcp" --calls 1000``; `make soak` calls it. Each function runs in a process of
its own against a local cloud in another one. Exit codes: 0 nothing grew, 1 something did, 2 invalid arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from tests.localcloud.common.serving import serving
from tests.marks import write_between
from tests.soak.worker import FUNCTIONS, Sample

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT, BEGIN, END = ROOT / "docs" / "reliability.md", "<!-- soak -->", "<!-- end of soak -->"
# Azure's quotas would make a thousand calls take hours.
SMALL: Mapping[str, Sequence[str]] = {
    "aws": ("aws.cloud.LocalAws(accounts=3)",),
    "azure": ("azure.cloud.LocalAzure(3, limits=UNLIMITED)", "from localcloud.azure.quotas import UNLIMITED"),
    "gcp": ("gcp.cloud.LocalGcp(accounts=2, done=2, history_days=2)",),
}
WARM = 0.3  # the first part of the samples, in which caches fill and pools grow to their size
MOST_BYTES = 4096  # by which the memory may grow with each call; a kept report, connection or client is larger


class Grown(NamedTuple):
    """What a process held once it was warm, and by how much it grew with each call."""

    calls: int
    memory_mb: float
    bytes_per_call: float
    threads: tuple[int, int]
    sockets: tuple[int, int]
    files: tuple[int, int]

    def faults(self) -> list[str]:
        """Return what grew."""
        found = []
        if self.bytes_per_call > MOST_BYTES:
            found.append(f"the memory grows by {self.bytes_per_call:.0f} bytes with each call")
        for name in ("threads", "sockets", "files"):
            early, late = getattr(self, name)
            if late > early:
                found.append(f"it has {late} {name} at the end, and had at most {early} before")
        return found


def judge(samples: Sequence[Sample]) -> Grown:
    """Return how a warm process grew.

    The growth of the memory is the median of the slopes between all pairs of samples, which single peaks do not move.
    Of the rest, the most in the first half is compared with the most in the second. Raises ValueError for fewer than
    four samples.
    """
    warm = samples[int(len(samples) * WARM) :]
    if len(warm) < 4:
        raise ValueError(f"{len(warm)} samples of a warm process are too few")
    slopes = [(b.memory - a.memory) / (b.calls - a.calls) for a, b in combinations(warm, 2)]
    early, late = warm[: len(warm) // 2], warm[len(warm) // 2 :]
    of = {name: tuple(max(getattr(one, name) for one in part) for part in (early, late)) for name in Sample._fields[2:]}
    memory = statistics.median(one.memory for one in warm) / 1e6
    return Grown(samples[-1].calls, memory, statistics.median(slopes), of["threads"], of["sockets"], of["files"])


def soak(cloud: str, calls: int) -> Grown:
    """Return how the cloud's function grew over so many calls. Raises RuntimeError if it failed."""
    with tempfile.TemporaryDirectory() as name, serving(*SMALL[cloud]) as (_, environment):
        file = Path(name) / "samples.jsonl"
        command = [sys.executable, "-m", "tests.soak.worker", cloud, str(calls), str(file)]
        log = Path(name) / "log"
        with log.open("wb") as output:
            done = subprocess.run(
                command, cwd=ROOT, env={**os.environ, **environment}, stdout=output, stderr=output, check=False
            )
        if done.returncode:
            raise RuntimeError(f"the function on {cloud} failed: {log.read_text(errors='replace')[-2000:]}")
        return judge([Sample(*json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()])


def table(grown: Mapping[str, Grown]) -> list[str]:
    """Return the results as the lines of a table."""
    lines = ["| cloud | calls | memory | growth with each call | threads | sockets | files |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for cloud, one in grown.items():
        held = (f"{early}, then {late}" for early, late in (one.threads, one.sockets, one.files))
        memory = f"{one.memory_mb:.0f} MB | {one.bytes_per_call:,.0f} bytes"
        lines.append(f"| {cloud} | {one.calls:,} | {memory} | {' | '.join(held)} |")
    return lines


def record(lines: Sequence[str], document: Path = DOCUMENT) -> None:
    """Write the table into the documentation, between its marks. Raises ValueError without them."""
    write_between(document, BEGIN, END, lines)


def main(arguments: list[str] | None = None) -> int:
    """Soak the functions that the arguments name and return the exit code."""
    parser = argparse.ArgumentParser("python -m tests.soak", description=__doc__)
    parser.add_argument("--clouds", default=" ".join(FUNCTIONS), help="names separated by blanks")
    parser.add_argument("--calls", type=int, default=1000, help="of each function")
    parser.add_argument("--record", action="store_true", help="write the table into docs/reliability.md")
    given = parser.parse_args(arguments)
    if unknown := set(given.clouds.split()) - set(FUNCTIONS):
        parser.error(f"unknown cloud {sorted(unknown)[0]!r}: one of {', '.join(FUNCTIONS)}")
    grown = {}
    for cloud in given.clouds.split():
        begun = time.monotonic()
        grown[cloud] = soak(cloud, given.calls)
        print(f"{cloud}: {given.calls:,} calls in {time.monotonic() - begun:.0f} s", flush=True)
    faults = [f"{cloud}: {fault}" for cloud, one in grown.items() for fault in one.faults()]
    commit = subprocess.run(["git", "describe", "--always"], cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [*table(grown), "", f"Recorded at commit {commit.stdout.strip() or 'unknown'}."]
    print("\n".join([*lines, *faults]))
    if given.record and not faults:
        record(lines)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
