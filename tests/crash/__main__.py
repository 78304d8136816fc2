"""Breaks every answer once, and kills the function before and after every call, on the three local clouds.

``python -m tests.crash --clouds "aws azure gcp"``; `make crash` calls it. ``--case aws/heal/3/lost`` repeats one case.
Exit codes: 0 all is as it has to be, 1 a case is not, 2 the arguments are not valid.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.crash.commands import COMMANDS
from tests.crash.operators import opened
from tests.crash.stage import Stage
from tests.crash.stages import STAGES, open_stage
from tests.crash.trial import ROUNDS, Case, Trials, Verdict, ways_of
from tests.marks import write_between

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT, LINES = ROOT / "docs" / "reliability.md", ROOT / "build" / "crash.jsonl"
BEGIN, END = "<!-- crash -->", "<!-- end of crash -->"
COLUMNS = (
    "cloud",
    "story",
    "calls",
    "faults",
    "answers broken",
    "kills",
    "the broken call ended",
    "runs until healed",
    "wrong",
    "commit",
)
WAYS_AT_ONCE = 4  # of a story: a job in a process of its own


def play(cloud: str, story: str, choose: Mapping[str, Any]) -> Iterator[Verdict]:
    """Play the chosen cases of a story, each on a stage that is where every round begins; or those of a command."""
    if f"{cloud}/{story}" in COMMANDS:
        with opened(f"{cloud}/{story}") as commands:
            calls = commands.rehearse()
            chosen = () if choose["lasting"] else commands.cases()
            yield from (commands.play(one) for one in chosen if _is_chosen(one, calls, choose))
        return
    left: list[Case] | None = None
    while left is None or left:
        with open_stage(cloud) as stage:
            left = yield from _play_some(stage, story, choose, left)


def _play_some(stage: Stage, story: str, choose: Mapping[str, Any], left: list[Case] | None) -> Any:
    """Play cases until the month of a stage ends, or until one did not recover; return those that are left."""
    trials = Trials(stage, story)
    trials.rehearse()
    if left is None:
        left = [one for one in trials.cases(choose["lasting"]) if _is_chosen(one, trials.calls, choose)]
    for number, case in enumerate(left[:ROUNDS], 1):
        verdict = trials.play(case)
        yield verdict
        if verdict.wrong:
            return left[number:]
    return left[ROUNDS:]


def _is_chosen(case: Case, calls: Sequence[str], choose: Mapping[str, Any]) -> bool:
    if choose["calls"] and case.call not in choose["calls"]:
        return False
    if choose["first"] and calls.index(case.name) + 1 != case.call:
        return False
    return not choose["ways"] or case.way in choose["ways"]


def _job(job: tuple[str, str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [one.as_json() for one in play(*job)]


def jobs_of(stories: Iterable[tuple[str, str]], ways: Sequence[str], choose: Mapping[str, Any]) -> list[Any]:
    """Return what each process plays: some ways of breaking all calls of a story."""
    some = [ways[start : start + WAYS_AT_ONCE] for start in range(0, len(ways), WAYS_AT_ONCE)]
    return [(cloud, story, {**choose, "ways": part}) for part in some for cloud, story in stories]


def play_all(jobs: list[Any], processes: int) -> Iterator[dict[str, Any]]:
    """Play all jobs in several processes; yield the verdicts as they come."""
    if processes == 1 or len(jobs) == 1:
        for job in jobs:
            yield from (one.as_json() for one in play(*job))
        return
    # A new process for each job: the local AWS keeps state of the process.
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=1) as pool:
        for verdicts in pool.imap_unordered(_job, jobs):
            yield from verdicts


def rows(verdicts: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """Return a line of the table for each cloud and story."""
    by_story: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in verdicts:
        story = f"{one['story']}, lasting" if one["lasting"] else one["story"]
        by_story.setdefault((one["cloud"], story), []).append(one)
    return {names: _row(*names, some) for names, some in by_story.items()}


def _row(cloud: str, story: str, some: Sequence[Mapping[str, Any]]) -> str:
    kills = sum(one["way"].startswith("killed") for one in some)
    ended = Counter(one["ended"] for one in some if one["ended"] != "killed")
    runs = Counter(one["runs"] for one in some)
    cells = (
        cloud,
        story,
        len({one["call"] for one in some}),
        len({one["way"] for one in some}),
        f"{len(some) - kills:,}",
        f"{kills:,}",
        ", ".join(f"{name} {number:,}" for name, number in ended.most_common()),
        ", ".join(f"{number}: {count:,}" for number, count in sorted(runs.items())),
        sum(bool(one["wrong"]) for one in some),
        ", ".join(sorted({one["commit"] for one in some})),
    )
    return f"| {' | '.join(map(str, cells))} |"


def table(found: Mapping[tuple[str, str], str]) -> list[str]:
    """Return the table of the given lines, sorted, and how many cases it has."""
    cells = [_cells(one) for one in found.values()]
    cases = sum(int(number.replace(",", "")) for one in cells for number in one[4:6])
    head = [f"| {' | '.join(COLUMNS)} |", f"| {' | '.join('---' for _ in COLUMNS)} |"]
    return [*head, *(found[names] for names in sorted(found)), "", f"{cases:,} cases."]


def recorded(document: Path = DOCUMENT) -> dict[tuple[str, str], str]:
    """Return the lines of the documentation's table, without its head."""
    shown = document.read_text(encoding="utf-8").partition(f"{BEGIN}\n")[2].partition(END)[0].splitlines()
    lines = [one for one in shown if one.startswith("| ") and _cells(one)[0] in STAGES]
    return {(cloud, story): one for one in lines for cloud, story, *_ in [_cells(one)]}


def _cells(line: str) -> list[str]:
    return [one.strip() for one in line.split("|")[1:-1]]


def record(found: Mapping[tuple[str, str], str], document: Path = DOCUMENT) -> None:
    """Write the given lines into the documentation's table; those of other stories stay.

    Raises ValueError without its marks.
    """
    write_between(document, BEGIN, END, table({**recorded(document), **found}))


def _commit() -> str:
    found = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def stories_of_commands(cloud: str) -> list[str]:
    """Return the operator's commands that are played on a cloud."""
    return [name.partition("/")[2] for name in COMMANDS if name.startswith(f"{cloud}/")]


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.crash", description=__doc__)
    parser.add_argument("--clouds", default=" ".join(STAGES), help="names separated by blanks")
    parser.add_argument("--stories", default="", help="names separated by blanks; all without it")
    parser.add_argument("--ways", default="", help="ways of breaking an answer, separated by semicolons")
    parser.add_argument("--first", action="store_true", help="only the first call of each operation")
    parser.add_argument("--lasting", action="store_true", help="break all answers from a call on, instead of one")
    parser.add_argument("--case", default="", help="play this case only, as a failure prints it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--json", type=Path, default=LINES, help="the file for one line a case")
    parser.add_argument("--record", action="store_true", help="write the table into docs/reliability.md")
    parser.add_argument("--read", type=Path, help="show the lines of an earlier run instead of playing")
    found = parser.parse_args(arguments)
    unknown = set(found.clouds.split()) - set(STAGES)
    if unknown:
        parser.error(f"unknown cloud {sorted(unknown)[0]!r}: one of {', '.join(STAGES)}")
    return found


def _jobs(found: argparse.Namespace) -> list[Any]:
    choose = {"first": found.first, "lasting": found.lasting, "calls": []}
    if found.case:
        cloud, story, call, way, *lasting = found.case.split("/")
        return [(cloud, story, {**choose, "calls": [int(call)], "ways": [way], "lasting": bool(lasting)})]
    wanted = found.stories.split()
    stories = [
        (cloud, story)
        for cloud in found.clouds.split()
        for story in (*STAGES[cloud].stories, *stories_of_commands(cloud))
        if not wanted or story in wanted
    ]
    ways = found.ways.split(";") if found.ways else ways_of(STAGES["aws"], lasting=found.lasting)
    return jobs_of(stories, ways, choose)


def _play_and_write(jobs: list[Any], processes: int, path: Path) -> Iterator[dict[str, Any]]:
    """Yield the verdicts of all jobs as they come, with the commit; write them to a file and show the wrong ones."""
    path.parent.mkdir(exist_ok=True)
    commit = _commit()
    with path.open("w", encoding="utf-8") as file:
        for verdict in play_all(jobs, processes):
            one = {**verdict, "commit": commit}
            file.write(json.dumps(one) + "\n")
            file.flush()
            if one["wrong"]:
                case = Case(*(one[name] for name in ("cloud", "story", "call", "way", "name", "lasting")))
                print(f"\n{case} ({case.name}) ended {one['ended']}:", *one["wrong"], sep="\n  ")
                print(f"Play it again:\n  make crash CASE='{case}'", flush=True)
            yield one


def _read(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def main(arguments: list[str] | None = None) -> int:
    """Play the cases that the arguments name and return the exit code."""
    found = _arguments(arguments)
    verdicts = list(_read(found.read) if found.read else _play_and_write(_jobs(found), found.jobs, found.json))
    lines = rows(verdicts)
    print("\n".join(table(lines)))
    if found.record:
        record(lines)
    return 1 if any(one["wrong"] for one in verdicts) else 0


if __name__ == "__main__":
    # Other processes cannot import what they are given of a package's `__main__`, only of the module by its name.
    from tests.crash.__main__ import main as command

    sys.exit(command())
