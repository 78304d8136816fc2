"""Plays the mutants of the engine and of what each cloud's function decides.

``python -m tests.mutants --groups "engine aws azure gcp"``; `make mutants` calls it. The results are kept in
`build/mutants/`, so that an interrupted run goes on where it ended, and that only what changed is played again.
Exit codes: 0 the score is reached and the survivors are those of the list, 1 otherwise, 2 the arguments are not valid.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

from tests.marks import write_between
from tests.mutants import collected
from tests.mutants.collected import (
    CPU_FACTOR,
    HANG_SECONDS,
    IMPORT_SECONDS,
    KILLED,
    OPTIONS,
    SURVIVED,
    Collected,
    Reach,
    own_file,
)
from tests.mutants.groups import GROUPS, ROOT, Group
from tests.mutants.guards import ANSWERS, GUARDS, Guard
from tests.mutants.mutate import Mutant, mutants_of
from tests.mutants.uses import Uses

KEPT = ROOT / "build" / "mutants"
LIST = Path(__file__).with_name("survivors.txt")
DOCUMENT, BEGIN, END = ROOT / "docs" / "reliability.md", "<!-- mutants -->", "<!-- end of mutants -->"
SCORE = 90.0  # per cent
GUARD_SECONDS = 1800  # of the clock, for the tests of one guard
LISTS = {"guards": GUARDS, "local clouds": ANSWERS}  # of these, all have to be killed
# Not pytest's plugins, whose assertions pytest rewrites when it imports them.
LIBRARIES = ("msgspec", "cryptography.x509", "boto3", "flask", "requests", "azure.core", "google.api_core")


class Results:
    """Verdicts in a file: killed ones are valid while what they change is the same, others while the tests are, too."""

    def __init__(self, name: str, tests: str) -> None:
        self.path, self.tests = KEPT / f"{name}.jsonl", tests
        self.found: dict[str, dict[str, Any]] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else ():
            one = json.loads(line)
            self.found[one["name"]] = one

    def get(self, mutant: Mutant) -> dict[str, Any] | None:
        """Return the verdict of an earlier run, if it is still valid."""
        one = self.found.get(mutant.name)
        if one is None or one["state"] != mutant.part or not (one["killed"] or one["test_digest"] == self.tests):
            return None
        return one

    def add(self, mutant: Mutant, killed: bool, by: str, tests: int) -> None:
        """Keep the verdict of a mutant."""
        self.keep(mutant.name, mutant.part, killed, by, tests)

    def state_of(self, name: str) -> str:
        """Return for which state of the source, and of the tests, the verdict of a name is valid."""
        return str(self.found.get(name, {}).get("state", ""))

    def keep(self, name: str, state: str, killed: bool, by: str, tests: int) -> None:
        """Keep a verdict."""
        one = {"name": name, "state": state, "test_digest": self.tests, "killed": killed, "by": by, "tests": tests}
        self.found[name] = one
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(one) + "\n")


def digest_of(paths: Iterable[Path]) -> str:
    """Return the hash of the files' contents."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def tests_of(group: Group) -> set[Path]:
    """Return the files of the tests of a group, and those that all tests share."""
    files: set[Path] = set((ROOT / "tests").glob("*.py"))
    for one in group.tests:
        path = ROOT / one
        files |= set(path.rglob("*.py")) if path.is_dir() else {path}
    return files


class Play:
    """The mutants of one group."""

    def __init__(self, name: str, only: str, jobs: int) -> None:
        self.name, self.group, self.jobs = name, GROUPS[name], jobs
        self.results = Results(name, digest_of(tests_of(self.group)))
        self.mutants: list[Mutant] = []
        self.modules = self.group.files()
        helpers = [one for one in tests_of(self.group) if not one.name.startswith("test_")]
        self.packages = self.group.packages()
        self.shared = digest_of([*helpers, *(ROOT / one for one in self.packages)])
        self.originals: dict[str, CodeType] = {}
        for path in self.modules:
            source = (ROOT / path).read_text(encoding="utf-8")
            self.originals[path] = compile(source, str(ROOT / path), "exec", dont_inherit=True)
            self.mutants += [one for one in mutants_of(path, source) if not only or fnmatch(one.name, only)]

    def waiting(self) -> list[Mutant]:
        """Return the mutants without a valid verdict."""
        return [one for one in self.mutants if self.results.get(one) is None]

    def run(self) -> None:
        """Try all mutants that wait: those of functions in a process with all tests, the others by imports."""
        if not self.waiting():
            return
        arguments = [*OPTIONS, *self.group.tests]
        plugin = Collected(self._play_functions, self.modules, self.packages, self.jobs)
        code = collected.in_forks(iter([lambda: int(pytest.main(arguments, plugins=[plugin]))]), 1, seconds=86_400)
        self.results = Results(self.name, self.results.tests)
        if code != [0]:
            raise RuntimeError(f"pytest ended with {code[0]}: python -m pytest {' '.join(arguments)}")
        self._play_imports(collected.reach_in(self._folder(), self._state_of))

    def _folder(self) -> Path:
        """Return where it is kept which tests execute which lines, a file for each test file."""
        folder = KEPT / f"{self.name}.reach"
        folder.mkdir(exist_ok=True)
        return folder

    def _state_of(self, file: str) -> str:
        """Return the hash of what the lines that a test file executes depend on; "" if it is gone."""
        path = ROOT / file
        return f"{self.shared} {digest_of([path])}" if path.exists() else ""

    def _reach(self, plugin: Collected) -> Reach:
        """Return which tests execute which lines; it is measured again of what changed."""
        begun = time.monotonic()
        plugin.measure(self._folder(), self._state_of)
        reach = collected.reach_in(self._folder(), self._state_of)
        print(f"{self.name}: {len(reach.seconds):,} tests measured in {time.monotonic() - begun:.0f} s", flush=True)
        return reach

    def _play_functions(self, plugin: Collected) -> None:
        reach = self._reach(plugin)
        progress = Progress(self.name, len(self.waiting()))

        def works() -> Iterator[Any]:
            for one in self.waiting():
                tests = [
                    test
                    for test in reach.tests_for(one.path, range(one.lines[0], one.lines[1] + 1))
                    if test in plugin.items
                ]
                earlier = self.results.found.get(one.name, {}).get("by")
                if earlier in tests:
                    tests.sort(key=lambda test, earlier=earlier: test != earlier)  # type: ignore[misc]  # mypy: lambda with a default
                if not tests:
                    continue  # if anything executes it, it is the import of the module
                work = partial(self._try, plugin, reach, one, tests)
                yield (one, tests), work, 0, HANG_SECONDS + 30 * reach.cost(tests)

        def done(label: Any, ended: collected.Ended) -> None:
            mutant, tests = label
            if ended.code == IMPORTED:
                return
            killed = ended.code != SURVIVED
            by = ended.text or ("its time" if ended.code == -1 else "its exit") if killed else ""
            self.results.add(mutant, killed=killed, by=by, tests=len(tests))
            progress.count(killed)

        collected.fork_all(works(), self.jobs, done)

    def _try(self, plugin: Collected, reach: Reach, mutant: Mutant, tests: Sequence[str], keep: Any) -> int:
        if not plugin.swap(mutant, self.originals[mutant.path]):
            return IMPORTED
        by = plugin.fails(tests, reach.seconds)
        keep(by)
        return KILLED if by else SURVIVED

    def _play_imports(self, reach: Reach) -> None:
        """Try the mutants of what is executed by an import: each imports the changed module and few test files."""
        waiting = self.waiting()
        progress = Progress(f"{self.name} (imports)", len(waiting))
        files = {test.split("::")[0] for test in reach.seconds}
        uses = Uses(_trees(self.packages), _trees(files))
        chosen = [_of_users(one, reach, uses) for one in waiting]
        if waiting:
            if self.name != "engine":  # which the local clouds import
                importlib.import_module(f"localcloud.{self.name}.cloud")
            _require_passing(_files(chosen[0][:20]), chosen[0][:20])

        def works() -> Iterator[Any]:
            for one, tests in zip(waiting, chosen, strict=True):
                cpu = 60 + CPU_FACTOR * reach.cost(tests)  # the longest part is to import the tests
                yield (one, tests), self._work(one, tests), cpu, HANG_SECONDS

        def done(label: Any, ended: collected.Ended) -> None:
            mutant, tests = label
            killed = ended.code != SURVIVED
            self.results.add(mutant, killed=killed, by=ended.text, tests=len(tests))
            progress.count(killed)

        collected.fork_all(works(), self.jobs, done)

    def _work(self, mutant: Mutant, tests: Sequence[str]) -> Any:
        return partial(_import_and_test, mutant.path, mutant.code(ROOT), _files(tests), chosen=tests)


IMPORTED = 3
_SPELLED = {name.replace(" ", "-"): name for name in LISTS}


def _trees(paths: Iterable[str]) -> dict[str, ast.Module]:
    return {path: ast.parse((ROOT / path).read_text(encoding="utf-8")) for path in sorted(paths)}


def _of_users(mutant: Mutant, reach: Reach, uses: Uses) -> list[str]:
    """Return the tests of what an import executes: the module's own, those that mention its name, and its users'."""
    names = uses.names(mutant)
    own, mentioning = own_file(mutant.path), uses.tests(names)
    direct = {one for one in reach.seconds if own in one or one.split("[")[0] in mentioning}
    return reach.first(direct, reach.executing(uses.lines(names)), IMPORT_SECONDS)


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a changed module in place of the one in its file."""

    def __init__(self, path: str, code: CodeType) -> None:
        self.name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        self.code, self.path = code, ROOT / path

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return the specification of the changed module, and None for all others."""
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        """Execute the changed code."""
        exec(self.code, vars(module))  # noqa: S102 - it is our own module


class _Quick:
    """A plugin for the mutants that are imported: it keeps the name of the first test that fails.

    If `chosen` names tests, only these run, in this order.
    """

    def __init__(self, chosen: Sequence[str]) -> None:
        self.failed = ""
        self.chosen = {name: place for place, name in enumerate(chosen)}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Make properties repeatable."""
        collected.quick_properties()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the chosen tests, in their order."""
        if self.chosen:
            items[:] = sorted(
                (one for one in items if one.nodeid in self.chosen), key=lambda one: self.chosen[one.nodeid]
            )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the name of a test that fails."""
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep the name of a test file that cannot be imported."""
        if report.failed and not self.failed:
            self.failed = f"{report.nodeid}::import"


def _import_and_test(path: str, code: CodeType, tests: Sequence[str], keep: Any, *, chosen: Sequence[str] = ()) -> int:
    """Run tests, or the `chosen` ones of them, with a changed module until one fails; return SURVIVED if none does."""
    if not tests:
        return SURVIVED
    collected.be_quiet()
    sys.meta_path.insert(0, _Mutated(path, code))
    # Most mutants are found by the first file, so that the others need not be imported.
    for some in (tests[:1], tests[1:]) if chosen else (tests,):
        plugin = _Quick(chosen)
        if some and pytest.main([*OPTIONS, "-x", *some], plugins=[plugin]):
            keep(plugin.failed)
            return KILLED
    return SURVIVED


def _files(tests: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(one.split("::")[0] for one in tests))


def _require_passing(tests: Sequence[str], chosen: Sequence[str] = ()) -> None:
    """Raise RuntimeError unless tests pass without any change: otherwise every mutant would count as killed."""
    _import_libraries()
    path = next(iter(GROUPS["engine"].files()))
    code = compile((ROOT / path).read_text(encoding="utf-8"), str(ROOT / path), "exec", dont_inherit=True)
    work = partial(_import_and_test, path, code, tests, lambda _: None, chosen=chosen)
    if collected.in_forks([work], 1) != [SURVIVED]:
        raise RuntimeError(
            f"these tests fail without a mutant: python -m pytest {' '.join([*OPTIONS, *(chosen or tests)])}"
        )


def _import_libraries() -> None:
    """Import once what each process of a mutant would import."""
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def play_guards(name: str, guards: Sequence[Guard], only: str, jobs: int) -> tuple[list[str], list[str]]:
    """Break each guard, or each answer, and expect a test to fail; return the row of the table and what is wrong."""
    results = Results(name, "")
    chosen = [one for one in guards if not only or fnmatch(one.name, only)]
    states = {one.name: digest_of([ROOT / one.path, *_files_of(one.tests)]) for one in chosen}
    waiting = [one for one in chosen if results.state_of(one.name) != states[one.name]]
    progress = Progress(name, len(waiting))
    if waiting:
        _require_passing(waiting[0].tests[:1])

    def works() -> Iterator[Any]:
        for one in waiting:
            code = compile(one.source(), str(ROOT / one.path), "exec", dont_inherit=True)
            # The test that found it last time comes first.
            by = results.found.get(one.name, {}).get("by", "")
            first = [by] if by and (ROOT / by.split("::")[0]).exists() else []
            tests = [*first, *one.tests]
            work = partial(_import_and_test, one.path, code, tests)
            yield one, work, 0, GUARD_SECONDS

    def done(guard: Guard, ended: collected.Ended) -> None:
        killed = ended.code == KILLED and "::" in ended.text  # by a test, and not by its time
        results.keep(guard.name, states[guard.name], killed, ended.text, 0)
        progress.count(killed)

    collected.fork_all(works(), jobs, done)
    alive = [one.name for one in chosen if not results.found[one.name]["killed"]]
    killed = len(chosen) - len(alive)
    cells = [name, str(len({one.path for one in chosen})), str(len(chosen)), str(killed)]
    return [*cells, f"{100 * killed / max(1, len(chosen)):.1f} %"], [f"{name}: no test fails: {one}" for one in alive]


def _files_of(paths: Iterable[str]) -> Iterator[Path]:
    for one in paths:
        path = ROOT / one
        yield from path.rglob("*.py") if path.is_dir() else [path]


class Progress:
    """Prints how far a run is, at most every 20 seconds."""

    def __init__(self, name: str, total: int) -> None:
        self.name, self.total, self.done, self.survived = name, total, 0, 0
        self.begun = self.shown = time.monotonic()

    def count(self, killed: bool) -> None:
        """Count a mutant."""
        self.done += 1
        self.survived += not killed
        if time.monotonic() - self.shown > 20 or self.done == self.total:
            self.shown = time.monotonic()
            passed = self.shown - self.begun
            print(f"{self.name}: {self.done:,} of {self.total:,}, {self.survived} survive, {passed:.0f} s", flush=True)


# --- the list of survivors, and the table ---------------------------------------------------------------------------


def listed(path: Path = LIST) -> dict[str, str]:
    """Return the reason by the name of each listed survivor; a reason stands above its names, after `# `."""
    found, reason = {}, ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            reason = line[2:]
        elif line:
            found[line] = reason
    return found


def differences(survived: Mapping[str, bool], known: Mapping[str, str], groups: Sequence[str]) -> list[str]:
    """Return what differs between the survivors of these groups and the list; `survived` tells it of each mutant."""
    files = tuple(path for name in groups for path in GROUPS[name].files())
    wrong = [f"survives and is not listed: {name}" for name, lives in survived.items() if lives and name not in known]
    for name in known:
        if name.split(" ")[0] in files and not survived.get(name, False):
            what = "is killed" if name in survived else "does not exist any more"
            wrong.append(f"listed as a survivor, but {what}: {name}")
    return wrong


def row(name: str, play: Play) -> tuple[list[str], dict[str, bool], float]:
    """Return the group's row of the table, whether each mutant survived, and the score in per cent."""
    verdicts = {one.name: play.results.get(one) for one in play.mutants}
    survived = {one: not verdict["killed"] for one, verdict in verdicts.items() if verdict}
    killed = len(survived) - sum(survived.values())
    score = 100 * killed / max(1, len(survived))
    return [name, str(len(play.modules)), f"{len(survived):,}", f"{killed:,}", f"{score:.1f} %"], survived, score


def record(rows: Sequence[Sequence[str]], commit: str, document: Path = DOCUMENT) -> None:
    """Write the rows into the documentation's table, with their commit; those of other groups stay.

    Raises ValueError without the marks.
    """
    table = document.read_text(encoding="utf-8").partition(f"{BEGIN}\n")[2].partition(END)[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    known = {one[0]: one for one in [*cells, *([*one, commit] for one in rows)]}
    head = ["| group | modules | mutants | killed | score | commit |", "| --- | --- | --- | --- | --- | --- |"]
    order = [known[name] for name in (*LISTS, *GROUPS) if name in known]
    write_between(document, BEGIN, END, [*head, *(f"| {' | '.join(one)} |" for one in order)])


def main(arguments: list[str] | None = None) -> int:
    """Play the mutants that the arguments name, compare the survivors with the list, and return the exit code."""
    parser = argparse.ArgumentParser("python -m tests.mutants", description=__doc__)
    parser.add_argument("--groups", default=" ".join((*_SPELLED, *GROUPS)), help="names separated by blanks")
    parser.add_argument("--only", default="", help="a pattern of mutants' names, such as 'shared/plan.py*'")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--record", action="store_true", help="write the table into docs/reliability.md")
    given = parser.parse_args(arguments)
    names = given.groups.split()
    if unknown := set(names) - {*GROUPS, *_SPELLED}:
        parser.error(f"unknown group {sorted(unknown)[0]!r}: one of {', '.join((*_SPELLED, *GROUPS))}")
    KEPT.mkdir(parents=True, exist_ok=True)
    rows, wrong = [], []
    survived: dict[str, bool] = {}
    for name in (one for one in names if one in _SPELLED):
        cells, alive = play_guards(_SPELLED[name], LISTS[_SPELLED[name]], given.only, given.jobs)
        rows.append(cells)
        wrong += alive
    names = [one for one in names if one in GROUPS]
    for name in names:
        play = Play(name, given.only, given.jobs)
        play.run()
        cells, some, score = row(name, play)
        rows.append(cells)
        survived |= some
        if score < SCORE and not given.only:
            wrong.append(f"{name}: the score of {score:.1f} % is below {SCORE:.0f} %")
    for one in rows:
        print("{}: {} modules, {} mutants, {} killed, {}".format(*one))
    wrong += [] if given.only else differences(survived, listed(), names)
    if given.only:
        print("\n".join(f"survives: {name}" for name, lives in survived.items() if lives))
    print("\n".join(wrong))
    if given.record and not wrong:
        describe = subprocess.run(["git", "describe", "--always"], cwd=ROOT, capture_output=True, text=True, check=True)
        record(rows, describe.stdout.strip())
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
