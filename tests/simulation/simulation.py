"""Plays a story: the schedule, events, deliveries and steps, day by day, with the invariants after each day."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from shared.deliveries.document import Series
from shared.errors import AnotherRun, Permanent, TooSoon
from shared.hints import Hint, merge
from shared.model import ScopeState
from shared.monitor.months import Reach
from shared.notify.changes import Wording
from shared.publish import Publishing
from shared.reconcile import RunResult, reconcile
from shared.request import RunRequest, hinted, parse_request
from shared.runtime.context import RunContext
from shared.settings import EngineSettings
from shared.state.session import LEASE
from tests.simulation import invariants
from tests.simulation.cloud import Caller, SimulatedCloud
from tests.simulation.profiles import PROFILES
from tests.simulation.steps import apply_step
from tests.simulation.storage import Bucket, ProcessStore, TopicLog, announcer
from tests.simulation.story import DAY_S, Story
from tests.simulation.timeline import Killed, Process, Timeline, run_at_once, without_threads
from tests.simulation.world import SimulatedWorld, Violation

RUN_S = 600.0  # the invocation's time
BACK_OFF_H = 29  # the longest wait after a failure, a day and a fifth of it
CAPPED_ROUNDS = 3  # more runs until everything is right, where each may only write so much
STALE_MAX_H = 24 * 6  # the longest silence that may go unnoticed; exports of stories are silent for longer
TRIES = 4  # of a run that events ask for and another one holds up
WORDING = Wording("memory", "account", "accounts")
Line = tuple[str, str, Mapping[str, Any]]


class Simulation:
    """One deployment in one world. `play` returns the first broken invariant.

    `lines` are the last lines of the log, `kills` the kills that wait for a process, `chains` what the invariants know
    of each series' documents, `result` the last full run that ended.
    """

    def __init__(self, cloud: str, story: Story) -> None:
        setup = story.setup
        self.setup = setup
        self.timeline = Timeline(datetime.combine(setup.start, time(), UTC))
        self.world = SimulatedWorld(PROFILES[cloud], self.timeline, setup.scopes)
        self.state = Bucket(self.timeline)
        self.documents = Bucket(self.timeline)
        self.topic = TopicLog()
        self.settings = EngineSettings(
            call_budget=setup.budget,
            max_writes=setup.writes * (setup.scopes + 2),
            stale_max_hours=STALE_MAX_H,
            workers=4,
        )
        self.kills: deque[tuple[int, str]] = deque()
        self.chains: dict[Series, invariants.ChainSeen] = {}
        self.lines: deque[Line] = deque(maxlen=400)
        self.idle_until = 0.0
        self.result: RunResult | None = None
        self.result_at = 0.0
        self.runs = 0
        self._order = random.Random(f"{cloud}/{setup.seed}/order")
        self._steps = deque(story.steps)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._hints: list[Hint] = []
        self._made = 0
        self._zone = ZoneInfo(setup.zone)
        rounds = math.ceil((setup.scopes * 2 + 6) / setup.budget) if setup.budget else 1
        rounds += CAPPED_ROUNDS if setup.writes else 0
        self.world.bound_s = (BACK_OFF_H + (2 + rounds) * setup.every) * 3600.0
        self.timeline.on_passing = self._steps_until
        if self.world.profile.by_day:
            for scope in list(self.world.scopes)[1:]:
                self.world.set_up_table(scope)

    def play(self, days: int) -> Violation | None:
        """Play the days and return the first broken invariant, None if all hold."""
        with without_threads(self._order):
            for day in range(days):
                self._play_day(day)
                invariants.check_day(self)
                if self.world.violations:
                    return self.world.violations[0]
        return None

    # Time.

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Plan something for so many seconds from now."""
        self._plan(self.timeline.elapsed + seconds, work)

    def _plan(self, moment: float, work: Callable[[], None]) -> None:
        self._made += 1
        heapq.heappush(self._agenda, (moment, self._made, work))

    def _play_day(self, day: int) -> None:
        for hour in self.world.profile.hours:
            self._plan(day * DAY_S + hour * 3600.0, self._deliver)
        for moment in self._scheduled(self.setup.start + timedelta(days=day)):
            self._plan(max(0.0, (moment - self.timeline.start).total_seconds()), self._run_by_schedule)
        end = (day + 1) * DAY_S
        while True:
            upcoming = self._agenda[0][0] if self._agenda else math.inf
            if upcoming >= end:
                self.timeline.pass_to(end)
                if not self._agenda or self._agenda[0][0] >= end:
                    break
                continue
            self.timeline.pass_to(upcoming)
            _, _, work = heapq.heappop(self._agenda)
            work()
        self.world.tick()
        self.documents.expire()

    def _scheduled(self, day: date) -> Iterator[datetime]:
        """Yield the times of a day's scheduled runs: the schedule knows only local time.

        A time that a change of summer time leaves out has no run, and one that comes twice has two.
        """
        for hour in range(2, 26, self.setup.every):
            local = datetime.combine(day, time(hour % 24, 30))
            for fold in (0, 1):
                moment = local.replace(tzinfo=self._zone, fold=fold).astimezone(UTC)
                exists = moment.astimezone(self._zone).replace(tzinfo=None) == local
                if exists and (fold == 0 or moment != local.replace(tzinfo=self._zone, fold=0).astimezone(UTC)):
                    yield moment

    def _steps_until(self, moment: float) -> None:
        while self._steps and self._steps[0].at <= moment:
            step = self._steps.popleft()
            self.timeline.elapsed = max(self.timeline.elapsed, step.at)
            apply_step(self, step)

    def set_clock_right(self) -> None:
        """Let the hosts' clocks be right again."""
        self.world.skew, self.world.skewed_at = 0.0, self.timeline.elapsed

    # What happens by itself.

    def _deliver(self) -> None:
        self.hear_of(self.world.deliver_all())

    def hear_of(self, series: Sequence[Series]) -> None:
        """Send the events of delivered files: most arrive within a minute, some late, twice or never."""
        luck = self._order.random()
        if series and luck > 0.2:
            self.later(5 + luck * 60, lambda: self._announce(series))
            if luck > 0.9:
                self.later(luck * 7200, lambda: self._announce(series))

    def tell(self, scope: str, kind: str = "") -> None:
        """Send the event of a change: it may be lost, doubled, or overtaken by a later one."""
        luck = self._order.random()
        if luck > 0.25:
            hint = Hint(scope, kind, self.timeline.now())
            for _ in range(1 + int(luck > 0.85)):
                delay = self._order.choice((20, 90, 300, 4000))
                self.later(delay + 10 * self._order.random(), lambda: self._hear(hint))

    def _hear(self, hint: Hint) -> None:
        self._hints.append(hint)
        self.later(0, lambda: self._run_by_events(TRIES))

    # Processes.

    def _process(self) -> Process:
        kill = self.kills.popleft() if self.kills else None
        self.runs += 1
        return Process(self.timeline, random.Random(f"{self.setup.seed}/{self.runs}"), lambda: self.world.skew, kill)

    def _context(self, process: Process) -> RunContext:
        def sink(level: str, event: str, fields: Mapping[str, Any]) -> None:
            self.lines.append((level, event, fields))
            if event == "scope-gone":
                invariants.check_forgotten(self, str(fields["scope"]))
            if fields.get("code") == "internal-error":
                self.world.violate("defect", str(fields.get("reason")))

        def translate(error: Exception) -> Permanent:
            self.world.violate("defect", f"{type(error).__name__}: {error}")
            return Permanent("unexpected", f"{type(error).__name__}: {error}")

        rates, seed = self.world.profile.rates, process.rng.getrandbits(32)
        return RunContext("memory", self.settings, sink, process, RUN_S, rates, translate, seed)

    def _reconcile(self, process: Process, request: RunRequest) -> RunResult | None:
        """Run once; return None if the process was killed. Raises AnotherRun, TooSoon."""
        run = self._context(process)
        call = Caller(self.world, process, run)
        cloud = SimulatedCloud(self.world, run, process, call)
        cloud.requested = bool(request.verify_all or request.scopes)
        save = partial(self.world.note_save, process, run.run_id)
        store = ProcessStore(self.state, call, "state", save)
        self.world.alive.add(process)
        found = announcer(self.world, self.documents, self.topic, run, call)
        try:
            result = reconcile(cloud, store, request, run, Publishing(WORDING, Reach(), announcer=found))
        except Killed:
            self.world.disturb()
            return None
        except AnotherRun as error:
            self._judge_refusal(error)
            self.world.disturb()
            raise
        finally:
            self.world.alive.discard(process)
        invariants.check_result(self, result)
        return result

    def _judge_refusal(self, error: AnotherRun) -> None:
        """Note a lock that keeps a run out although its holder has not written for longer than its lease."""
        age = self.state.age()
        if age is not None and age >= LEASE + timedelta(minutes=1) and not self.world.troubles:
            self.world.violate("lock", f"{error.message}, and the state was written {age} ago")

    def _run_by_schedule(self) -> None:
        if self.timeline.elapsed >= self.idle_until:
            self._run_fully(RunRequest())

    def _run_fully(self, request: RunRequest) -> None:
        try:
            result = self._reconcile(self._process(), request)
        except AnotherRun:
            return
        if result is not None and not request.scopes:
            self.result, self.result_at = result, self.timeline.elapsed

    def invoke(self, **payload: object) -> None:
        """Run as a person asks for it."""
        self._run_fully(parse_request(payload))

    def dry_run(self) -> RunResult | None:
        """Plan without a write, without faults and in no time."""
        return self._reconcile(self._process(), RunRequest(dry_run=True))

    def _run_by_events(self, tries: int) -> None:
        hints, self._hints = merge(self._hints, self.timeline.now()), []
        if hints is None:
            return
        heard = [Hint(scope, kind, hints.oldest) for scope in hints.scopes for kind in hints.scopes[scope] or ("",)]
        try:
            self._reconcile(self._process(), hinted(hints))
        except TooSoon as error:
            self._hints += heard
            self.later(error.wait_s, lambda: self._run_by_events(tries))
        except AnotherRun:
            if tries:
                self._hints += heard
                self.later(120, lambda: self._run_by_events(tries - 1))

    def _announce(self, series: Sequence[Series]) -> None:
        process = self._process()
        run = self._context(process)
        call = Caller(self.world, process, run)
        try:
            announcer(self.world, self.documents, self.topic, run, call).announce_named(series)
        except Killed:
            self.world.disturb()

    def plan_burst(self, number: int) -> None:
        """Plan several processes that run at once: full runs, runs of one scope, dry runs, announcements."""
        self.later(0, lambda: self._run_burst(number))

    def _run_burst(self, number: int) -> None:
        scopes = [one.id for one in self.world.scopes.values() if one.state is ScopeState.ACTIVE]
        works: dict[Process, Callable[[], None]] = {}
        for _ in range(number):
            process = self._process()
            process.wake = self.timeline.elapsed + self._order.random() * 20
            kind = self._order.randrange(6)
            request = RunRequest(dry_run=kind == 0, verify_all=kind == 1, scopes=(scopes[0],) if kind == 2 else ())
            works[process] = self._one_of_burst(process, request)
        run_at_once(self.timeline, works)

    def _one_of_burst(self, process: Process, request: RunRequest) -> Callable[[], None]:
        def work() -> None:
            with suppress(AnotherRun):
                self._reconcile(process, request)

        return work
