"""A pytest plugin that plays mutants: it imports all tests once, and forks a process for each mutant.

First it measures which tests execute which lines, each test in a forked process of several. Then each mutant gets a
process in which the code of the changed function is replaced, and which runs only the tests that execute the changed
lines: all of the module's own test file first, then the fastest. The first one that fails ends it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import coverage
import pytest
from _pytest.runner import runtestprotocol

from tests.mutants.groups import ROOT
from tests.mutants.mutate import Mutant, Place, place_of, replaced, with_inner

MOST_SECONDS = 3.0  # of CPU, as measured without a mutant, for the tests of other files than the module's own
IMPORT_SECONDS = 10.0  # the same for what an import executes: which tests depend on it is known less precisely
CPU_FACTOR, CPU_SECONDS = 10, 3  # a test that takes so many times longer, plus these seconds, runs in circles
HANG_SECONDS = 90  # of the clock, for a mutant that waits without end
SURVIVED, KILLED = 0, 1
SHOWN = os.dup(2)  # the terminal, where the processes of mutants print nothing
OPTIONS = ("-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-o", "timeout=0", "--no-cov", "-m", "not slow")


class Verdict(NamedTuple):
    """What became of a mutant: killed by a test (or by its time), or not after so many tests."""

    name: str
    killed: bool
    by: str
    tests: int


def own_file(path: str) -> str:
    """Return the end of the path of a module's own test file."""
    return f"/test_{Path(path).stem}.py"


class Reach(NamedTuple):
    """Which tests execute a line (by path and line), and how many CPU seconds each test takes."""

    lines: dict[str, dict[int, list[str]]]
    seconds: dict[str, float]

    def tests_for(self, path: str, lines: Iterable[int]) -> list[str]:
        """Return tests that execute one of the lines: all of the module's own file, then the fastest of others."""
        file = own_file(path)
        found = self.executing((path, line) for line in lines)
        return self.first({one for one in found if file in one}, found, MOST_SECONDS)

    def executing(self, lines: Iterable[tuple[str, int]]) -> set[str]:
        """Return all tests that execute one of the lines, each given by path and number."""
        return {test for path, line in lines for test in self.lines.get(path, {}).get(line, ())}

    def first(self, direct: set[str], others: set[str], most: float) -> list[str]:
        """Return all `direct` tests, then others while they take at most so many seconds; the fastest come first."""
        chosen, *more = (sorted(some, key=lambda one: (self.cost([one]), one)) for some in (direct, others - direct))
        spent = 0.0
        for one in more[0]:
            spent += self.cost([one])
            if chosen and spent > most:
                break
            chosen.append(one)
        return chosen

    def cost(self, tests: Sequence[str]) -> float:
        """Return the CPU seconds of the tests."""
        return sum(self.seconds.get(one, 0.0) for one in tests)


class Collected:
    """The plugin: `play` gets what it needs to try mutants, in the process that has imported all tests."""

    def __init__(
        self, play: Callable[[Collected], None], files: Sequence[str], measured: Sequence[str], jobs: int
    ) -> None:
        self.play, self.files, self.measured, self.jobs = play, files, measured, jobs
        self.items: dict[str, pytest.Item] = {}
        self.functions: dict[Place, list[FunctionType]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Make properties repeatable, and end them with the first counterexample, however long it is."""
        quick_properties()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Play the mutants instead of running the tests."""
        self.items = {one.nodeid: one for one in session.items}
        gc.unfreeze()
        files = {str(ROOT / one) for one in self.files}
        for one in gc.get_objects():
            if isinstance(one, FunctionType) and one.__code__.co_filename in files:
                self.functions.setdefault(place_of(one.__code__), []).append(one)
        gc.collect()
        gc.freeze()
        self.play(self)
        return True

    # --- which tests execute which lines ----------------------------------------------------------------------------

    def measure(self, folder: Path, state_of: Callable[[str], str]) -> None:
        """Run the tests of each file, and write into `folder` what each test executes; one that fails is left out.

        A file whose `state_of` is that of the last time is not measured again.
        """
        files: dict[str, list[str]] = defaultdict(list)
        for name in self.items:
            files[name.split("::")[0]].append(name)
        states = {file: state_of(file) for file in files}
        known = {one["file"] for one in _measured(folder, states.get)}
        jobs = [
            (folder / f"{file.replace('/', '+')}.json", names, {"file": file, "state": states[file]})
            for file, names in files.items()
            if file not in known
        ]
        in_forks((partial(self._measure_some, *job) for job in jobs), self.jobs)
        if ended := set(files) - {one["file"] for one in _measured(folder, states.get)}:
            raise RuntimeError(f"the tests of {', '.join(sorted(ended))} ended their process")

    def _measure_some(self, path: Path, names: Sequence[str], head: Mapping[str, str]) -> int:
        with _quiet(self.items[names[0]].session), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that tests execute none of the modules
            measured = coverage.Coverage(
                data_file=None, include=[str(ROOT / one) for one in self.measured], config_file=False
            )
            measured.start()
            seconds = dict(self._run(names, measured.switch_context))
            measured.stop()
            data = measured.get_data()
            lines = {
                str(Path(file).relative_to(ROOT)): {
                    line: [one for one in tests if one in seconds]
                    for line, tests in data.contexts_by_lineno(file).items()
                }
                for file in data.measured_files()
            }
        path.write_text(json.dumps({**head, "seconds": seconds, "lines": lines}), encoding="utf-8")
        return 0

    def _run(self, names: Sequence[str], before: Callable[[str], object]) -> Iterator[tuple[str, float]]:
        """Run tests; yield the name and the CPU seconds of each one that passes."""
        for place, name in enumerate(names):
            before(name)
            following = self.items[names[place + 1]] if place + 1 < len(names) else None
            begun = time.process_time()
            reports = runtestprotocol(self.items[name], log=False, nextitem=following)
            if all(one.passed for one in reports):
                yield name, time.process_time() - begun

    # --- mutants ----------------------------------------------------------------------------------------------------

    def swap(self, mutant: Mutant, original: Any) -> bool:
        """Replace the function that a mutant changes; return False if the change takes effect only by an import."""
        changed = replaced(original, mutant.code(ROOT))
        if changed is None:
            return False
        try:
            for code in changed:
                # An inner function may exist already, if the outer one was called by the import.
                for one in with_inner(code):
                    for function in self.functions.get(place_of(one), ()):
                        function.__code__ = one
        except ValueError:  # it uses other variables of the functions around it
            return False
        return all(place_of(code) in self.functions for code in changed)

    def fails(self, names: Sequence[str], seconds: Mapping[str, float]) -> str:
        """Run tests until one fails, and return its name, or an empty text.

        A test that takes much more than its CPU `seconds` ends the process.
        """
        session = self.items[names[0]].session
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        with _quiet(session):
            for place, name in enumerate(names):
                signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS + CPU_FACTOR * seconds.get(name, 1.0))
                following = self.items[names[place + 1]] if place + 1 < len(names) else None
                if any(one.failed for one in runtestprotocol(self.items[name], log=False, nextitem=following)):
                    with contextlib.suppress(BaseException):
                        session._setupstate.teardown_exact(None)
                    return name
        return ""


def _measured(folder: Path, state_of: Callable[[str], str | None]) -> Iterator[dict[str, Any]]:
    """Yield what was measured of each test file that is still the same."""
    for path in sorted(folder.glob("*.json")):
        one = json.loads(path.read_bytes())
        if one["state"] == state_of(one["file"]):
            yield one


def reach_in(folder: Path, state_of: Callable[[str], str]) -> Reach:
    """Return which tests execute which lines, as measured before."""
    reach = Reach(defaultdict(lambda: defaultdict(list)), {})
    for one in _measured(folder, state_of):
        reach.seconds.update(one["seconds"])
        for file, of in one["lines"].items():
            for line, tests in of.items():
                reach.lines[file][int(line)].extend(tests)
    return reach


def quick_properties() -> None:
    """Let hypothesis try the same examples each time, keep none, and shrink none."""
    from hypothesis import HealthCheck, Phase, settings

    phases = (Phase.explicit, Phase.generate)
    checks = [HealthCheck.too_slow]
    settings.register_profile(
        "mutants", deadline=None, suppress_health_check=checks, database=None, derandomize=True, phases=phases
    )
    settings.load_profile("mutants")


@contextlib.contextmanager
def _quiet(session: pytest.Session) -> Iterator[None]:
    """Discard what tests print, and give the process a temporary folder of its own, which is removed."""
    be_quiet()
    folder = Path(tempfile.mkdtemp(prefix="mutant-"))
    factory: Any = session.config._tmp_path_factory  # type: ignore[attr-defined]  # pytest's own, set by a plugin
    factory._basetemp = folder
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def be_quiet() -> None:
    """Discard what this process prints."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (1, 2):
        os.dup2(null, number)


class Ended(NamedTuple):
    """How a forked process ended: its exit code, or -1 if it was killed, and what it wrote."""

    code: int
    text: str


def in_forks(works: Iterable[Callable[[], int]], jobs: int, seconds: float = 3600) -> list[int]:
    """Run each piece of work in a process of its own, several at once; return the exit codes in order."""
    codes: dict[int, int] = {}

    def done(number: int, ended: Ended) -> None:
        codes[number] = ended.code

    fork_all(((number, lambda _, work=work: work(), 0, seconds) for number, work in enumerate(works)), jobs, done)
    return [codes[number] for number in sorted(codes)]


def fork_all(works: Any, jobs: int, done: Callable[[Any, Ended], None]) -> None:
    """Run work in forked processes, at most `jobs` at once.

    `works` yields (label, work, CPU seconds or 0, seconds); the work gets a function that keeps a text, and returns the
    exit code. `done` is called with the label and the end of each process.
    """
    running: dict[int, tuple[Any, int, float]] = {}
    waiting = iter(works)
    more = True
    while more or running:
        while more and len(running) < jobs:
            item = next(waiting, None)
            if item is None:
                more = False
                break
            label, work, cpu, seconds = item
            reading, writing = os.pipe()
            process = os.fork()
            if process == 0:
                _child(work, cpu, writing)
            os.close(writing)
            running[process] = (label, reading, time.monotonic() + seconds)
        for process, (label, reading, deadline) in list(running.items()):
            ended, status = os.waitpid(process, os.WNOHANG)
            if not ended:
                if time.monotonic() > deadline:
                    _kill(process)
                continue
            with os.fdopen(reading, "rb") as pipe:
                os.set_blocking(pipe.fileno(), False)
                text = (pipe.read() or b"").decode()
            _kill(process)  # what it started and left behind
            del running[process]
            done(label, Ended(os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1, text))
        time.sleep(0.002)


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


def _child(work: Callable[[Callable[[str], None]], int], cpu: float, writing: int) -> None:
    code = KILLED
    try:
        os.setpgid(0, 0)
        if cpu:
            resource.setrlimit(resource.RLIMIT_CPU, (int(cpu) + 1, int(cpu) + 2))
        code = work(lambda text: (os.write(writing, text.encode()[:4000]), None)[1])
    except BaseException:  # noqa: BLE001 - whatever a mutant raises, the process must not return into the parent's loop
        code = KILLED
        if os.environ.get("MUTANTS_DEBUG"):
            os.write(SHOWN, traceback.format_exc().encode())
    finally:
        os._exit(code)
