"""Virtual time that several processes share: one runs alone, or up to eight take turns at every call.

A process is one invocation of the function. While it waits, time passes for the world: steps of the story that are due
happen, and the processes that run at once go on. Nothing depends on the machine's clock, its threads or its memory, so
that a story always ends in the same way.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar
from unittest import mock

from shared.runtime import pool

Item = TypeVar("Item")
Answer = TypeVar("Answer")
PLATFORM_S = 660.0  # the platform kills an invocation that is still running then


class Killed(BaseException):
    """The process ended without a chance to clean up."""


class Timeline:
    """The time of the world, in seconds since `start`; `on_passing` is called with each moment that time passes to."""

    def __init__(self, start: datetime) -> None:
        self.start = start
        self.elapsed = 0.0
        self.on_passing: Callable[[float], None] = lambda _moment: None

    def now(self) -> datetime:
        """Return the true time, which no host may know."""
        return self.start + timedelta(seconds=int(self.elapsed))

    def pass_to(self, moment: float) -> None:
        """Let time pass; what is due until then happens."""
        if moment > self.elapsed:
            self.on_passing(moment)
            self.elapsed = max(self.elapsed, moment)


class Process:
    """One invocation on a host of its own, whose clock may be wrong by `skew` seconds; it is the run's clock.

    It ends by Killed before or after its call number `kill[0]`, as `kill[1]` says.
    """

    def __init__(
        self,
        timeline: Timeline,
        rng: random.Random,
        skew: Callable[[], float] = lambda: 0.0,
        kill: tuple[int, str] | None = None,
    ) -> None:
        self.timeline = timeline
        self.rng = rng
        self.kill = kill
        self.made = 0
        self.wake = 0.0
        self.group: _Group | None = None
        self._skew = skew
        self.began = timeline.elapsed

    def now(self) -> datetime:
        return self.timeline.now() + timedelta(seconds=int(self._skew()))

    def monotonic(self) -> float:
        return self.timeline.elapsed

    def wait_until(self, moment: float) -> None:
        if self.group is None:
            self.timeline.pass_to(moment)
        else:
            self.wake = max(moment, self.timeline.elapsed)
            self.group.give_turn(self)

    def begin_call(self) -> int:
        """Note that a call begins, let it take its time, and return its number."""
        self.made += 1
        number = self.made
        if self.kill == (number, "before") or self.timeline.elapsed - self.began > PLATFORM_S:
            raise Killed
        self.wait_until(self.timeline.elapsed + self.rng.uniform(0.05, 0.6))
        return number

    def end_call(self, number: int) -> None:
        """Note that a call has had its effect."""
        if self.kill == (number, "after"):
            raise Killed


class _Group:
    """Processes that run at once: whoever wakes first goes on, until its next call or wait."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._idle = threading.Semaphore(0)
        self._turns: dict[int, threading.Semaphore] = {}

    def give_turn(self, process: Process) -> None:
        """Let the others go on until `process` is to wake."""
        self._idle.release()
        self._turns[id(process)].acquire()

    def run(self, works: Mapping[Process, Callable[[], None]]) -> None:
        defects: list[BaseException] = []

        def begin(process: Process, work: Callable[[], None]) -> None:
            self._turns[id(process)].acquire()
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - it is raised in the main thread
                defects.append(error)
            alive.remove(process)
            self._idle.release()

        alive = list(works)
        for process, work in works.items():
            process.group = self
            self._turns[id(process)] = threading.Semaphore(0)
            threading.Thread(target=begin, args=(process, work), daemon=True).start()
        while alive:
            first = min(alive, key=lambda one: one.wake)
            self._timeline.pass_to(first.wake)
            self._turns[id(first)].release()
            self._idle.acquire()
        if defects:
            raise defects[0]


def run_at_once(timeline: Timeline, works: Mapping[Process, Callable[[], None]]) -> None:
    """Run several processes at once; each begins at its `wake`. Raises what one of them raised."""
    _Group(timeline).run(works)


class _Task(Generic[Item, Answer]):
    def __init__(self, work: Callable[[Item], Answer], item: Item) -> None:
        self._work = work
        self._item = item
        self._answer: list[Answer] = []

    def finish(self) -> None:
        self._answer.append(self._work(self._item))

    def result(self) -> Answer:
        return self._answer[0]


class _Pool:
    """A thread pool without threads: the work of each process is done one by one, in a random order."""

    def __init__(self, **_options: Any) -> None: ...

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_error: object) -> None: ...

    def submit(self, work: Callable[[Item], Answer], item: Item) -> _Task[Item, Answer]:
        return _Task(work, item)


@contextmanager
def without_threads(order: random.Random) -> Iterator[None]:
    """Do the work of the engine's pools in one thread, completed in a random order, as `order` says."""

    def wait(flying: Iterable[_Task[Any, Any]], **_options: Any) -> tuple[set[_Task[Any, Any]], None]:
        waiting = list(flying)
        task = waiting[int(order.random() * len(waiting))]
        task.finish()
        return {task}, None

    with mock.patch.object(pool, "ThreadPoolExecutor", _Pool), mock.patch.object(pool, "wait", wait):
        yield
