"""The simulated cloud's true state: scopes, resources, delivered data and faults, and what should be there.

The world is changed by the steps of a story, by time, and by the writes of runs. It knows since when a scope has not
been disturbed, so that the invariants can say when everything has to be right again.
"""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import date, datetime, timedelta

import msgspec

from shared.deliveries.document import File, FileSet, Series
from shared.model import Health, Key, Ownership, Scope, ScopeState
from shared.periods import EMPTY, Period, month_before, month_of
from tests.inmemory import OWNER_SCOPE, Thing, World
from tests.simulation.profiles import (
    AGREEMENTS,
    COPIED_DAYS,
    REPAIRED,
    STACKSET_KEY,
    Profile,
    copy_key,
    role_key,
)
from tests.simulation.timeline import Process, Timeline

LOCATION = "s3://data/"
KEPT_S = 40 * 86_400  # after so long, data by day is removed by the destination's lifecycle rule
FAR_AGO = -1e9
LEASE_S = 240.0  # a run that saved so long ago still holds the lock
DAY_S = 86_400


class Fault(msgspec.Struct, frozen=True):
    """Calls of an operation fail with this chance until then; `kind` says how (see `tests.simulation.cloud`)."""

    operation: str
    kind: str
    chance: float
    until: float


class Violation(msgspec.Struct, frozen=True, order=True):
    """A broken invariant: its name, what happened, and on which day after the start."""

    name: str
    detail: str
    day: int = 0


class SimulatedWorld(World):
    """The whole world of one story.

    `agreements` says by scope which types of exports are allowed, `denied` which scopes refuse the function, `granted`
    since when they no longer do. `rows` are the watermarks of a table by day. `data` is what lies at the destination.
    `before` remembers how each resource was before its last change, which a stale read still shows.
    """

    def __init__(self, profile: Profile, timeline: Timeline, scopes: int) -> None:
        super().__init__()
        self.profile = profile
        self.timeline = timeline
        self.things.clear()
        self.scopes[OWNER_SCOPE] = Scope(OWNER_SCOPE, "the owner's scope", counted=profile.central)
        self.agreements: dict[str, str] = defaultdict(lambda: "enterprise")
        self.denied: set[str] = set()
        self.granted: dict[str, float] = {}
        self.silent: dict[str, float] = {}
        self.empty: set[str] = set()
        self.rows: dict[str, dict[str, int]] = defaultdict(dict)
        self.rows_at: dict[tuple[str, str], float] = {}
        self.data: dict[Series, FileSet] = {}
        self.incomplete: dict[Series, float] = {}
        self.troubles: list[Fault] = []
        self.before: dict[Key, tuple[float, Thing | None]] = {}
        self.disturbed: dict[str, float] = {"*": 0.0}
        self.wiped_at = FAR_AGO
        self.foreign: dict[Key, dict[str, object]] = {}
        self.violations: list[Violation] = []
        self.delivered_at: dict[Key, datetime] = {}
        self.periods: dict[Key, dict[str, Period]] = defaultdict(dict)
        self.data_at: dict[Series, float] = {}
        self.joined_at: dict[str, float] = {}
        self.listed_short_at = FAR_AGO  # when a listing last left out a scope and said that it was complete
        self.alive: set[Process] = set()
        self.holders: dict[Process, float] = {}  # when the holder of the lock last saved the state
        self.stored_at = FAR_AGO  # when a step last changed the stored state
        self.ledger_lost_at = FAR_AGO  # when a step last changed the stored ledger
        self.touched: set[Series] = set()  # whose documents may have changed since they were checked
        self.lost_documents_at = FAR_AGO
        self.deliveries = 0
        self.skew, self.skewed_at = 0.0, FAR_AGO
        self.bound_s = 0.0  # so long after the last disturbance everything has to be right
        if profile.central:
            self.things[STACKSET_KEY] = Thing({"state": "there"})
        for number in range(scopes):
            self.join(f"s{number}")

    def set_up_table(self, scope: str) -> None:
        """Do what only a person can do in the console."""
        key = self.profile.export(scope)
        self.changing(key)
        self.things[key] = Thing(dict(REPAIRED))

    # What the invariants ask.

    def violate(self, name: str, detail: str) -> None:
        """Note a broken invariant."""
        self.violations.append(Violation(name, detail, int(self.timeline.elapsed // 86_400)))

    def join(self, scope: str) -> None:
        super().join(scope)
        self.joined_at[scope] = self.timeline.elapsed

    def note_save(self, process: Process, run_id: str, data: bytes) -> None:
        """Note that a run saved the state: it holds the lock if it says so, and no two runs hold it at once."""
        now = self.timeline.elapsed
        self.holders = {one: at for one, at in self.holders.items() if one in self.alive and one is not process}
        place = data.find(b'"running": {')
        if place < 0 or run_id.encode() not in data[place : place + 100]:
            return
        others = [now - at for one, at in self.holders.items() if now - at < LEASE_S]
        if others and not self.troubles and now - self.stored_at > LEASE_S:
            self.violate("lock", f"two runs hold the lock at once: another one took it {others[0]:.0f} s ago")
        self.holders[process] = now

    def disturb(self, scope: str = "*", hours: float = 0.0) -> None:
        """Note that a scope, or all of them, cannot be expected to be right until so many hours from now."""
        until = self.timeline.elapsed + hours * 3600
        self.disturbed[scope] = max(self.disturbed.get(scope, FAR_AGO), until)

    def calm_since(self, scope: str) -> float:
        """Return since when nothing has happened to a scope or to what it rests on, in seconds after the start."""
        return max(self.disturbed.get(one, FAR_AGO) for one in ("*", OWNER_SCOPE, scope))

    def is_calm(self, scope: str) -> bool:
        """Return whether a scope has been left alone for long enough to be right."""
        return self.timeline.elapsed - self.calm_since(scope) > self.bound_s

    def clock_was_wrong(self, since: float) -> bool:
        """Return whether hosts have had a wrong clock at any time since a moment."""
        return bool(self.skew) or self.skewed_at >= since

    def active(self) -> list[str]:
        """Return the scopes that must be covered."""
        found = (one for one in self.scopes.values() if one.counted and one.state is ScopeState.ACTIVE)
        return [one.id for one in found]

    def wanted(self, scope: str) -> list[Key]:
        """Return what must exist for a scope now."""
        profile = self.profile
        keys = [profile.destination, profile.export(scope)]
        if profile.shared and profile.rests_on_shared:
            keys.append(profile.shared)
        if profile.central and scope != OWNER_SCOPE:
            keys.append(role_key(scope))
        if profile.by_day:
            keys += [copy_key(scope, day) for day in self.copied_days(scope)]
        return keys

    def copied_days(self, scope: str) -> list[str]:
        """Return the days of a table that need a copy."""
        return sorted(self.rows[scope])[-COPIED_DAYS:]

    def is_right(self, key: Key) -> bool:
        """Return whether a resource is as it must be."""
        thing = self.things.get(key)
        if thing is None or thing.ownership is not Ownership.OURS:
            return False
        if key.kind == "copy":
            day = key.name.partition("/")[2]
            return thing.fields.get("watermark") == self.rows[key.scope].get(day)
        fine = all(thing.fields.get(name) == value for name, value in self.profile.desired(key).items())
        return fine and thing.health is Health.HEALTHY and self.is_allowed(key, thing)

    def is_allowed(self, key: Key, thing: Thing) -> bool:
        """Return whether the agreement of a scope allows the type of its export."""
        return key.kind != "export" or thing.fields.get("type", USUAL) in (
            *AGREEMENTS[self.agreements[key.scope]],
            USUAL,
        )

    def standing(self, scope: str) -> list[str]:
        """Return why a scope cannot be covered by the function alone; empty if it can."""
        reasons = [f"denied {one}" for one in (scope, OWNER_SCOPE) if one in self.denied]
        reasons += [f"foreign {key}" for key in self.foreign if key in self.wanted(scope)]
        if self.profile.central and not self.is_right(STACKSET_KEY) and not self.is_right(role_key(scope)):
            reasons.append("stackset")
        if self.profile.name == "azure" and not AGREEMENTS[self.agreements[scope]]:
            reasons.append("agreement")
        export = self.profile.export(scope)
        if self.profile.by_day and not self.is_right(export):
            reasons.append("no table")
        reasons += ["unhealthy" for key in self.wanted(scope) if self._is_manual(key)]
        return reasons

    def _is_manual(self, key: Key) -> bool:
        thing = self.things.get(key)
        return thing is not None and thing.health is Health.MANUAL

    # What changes it.

    def changing(self, key: Key) -> Thing | None:
        """Remember how a resource is before it changes, and return it."""
        thing = self.things.get(key)
        old = msgspec.structs.replace(thing, fields=dict(thing.fields)) if thing else None
        self.before[key] = (self.timeline.elapsed, old)
        return thing

    def as_read(self, key: Key, lag: float) -> Thing | None:
        """Return a resource as a read shows it that is `lag` seconds behind."""
        at, old = self.before.get(key, (FAR_AGO, None))
        return old if at > self.timeline.elapsed - lag else self.things.get(key)

    def fault(self, operation: str, rng: random.Random) -> str:
        """Return how a call that begins now fails, or an empty text."""
        for one in self.troubles:
            if one.operation == operation and one.until > self.timeline.elapsed and rng.random() < one.chance:
                return one.kind
        return ""

    def is_denied(self, scope: str, rng: random.Random) -> bool:
        """Return whether a call in a scope is refused: a new grant takes up to an hour to be in effect everywhere."""
        granted = self.granted.get(scope, FAR_AGO)
        return scope in self.denied or (self.timeline.elapsed - granted < 3600 and rng.random() < 0.5)

    def tick(self) -> None:
        """Forget faults that are over, and data that the lifecycle rule removes."""
        now = self.timeline.elapsed
        self.troubles = [one for one in self.troubles if one.until > now]
        if self.profile.by_day:
            oldest = f"{self.timeline.now() - timedelta(seconds=KEPT_S):%Y-%m-%d}"
            for key in [one for one in self.things if one.kind == "copy" and one.name.partition("/")[2] < oldest]:
                del self.things[key]
                self.periods.pop(key, None)
            self.data = {one: found for one, found in self.data.items() if one.period >= oldest}
            for scope, days in self.rows.items():
                self.rows[scope] = {day: value for day, value in days.items() if day >= oldest}

    # Deliveries.

    def deliver_all(self) -> list[Series]:
        """Deliver from every export that works, and return the series that a connector can read now."""
        scopes = [OWNER_SCOPE] if self.profile.central else self.active()
        return [series for scope in scopes for series in self._deliver(scope)]

    def _deliver(self, scope: str) -> list[Series]:
        key, now = self.profile.export(scope), self.timeline.now()
        thing = self.things.get(key)
        works = thing is not None and thing.health in (Health.HEALTHY, Health.PENDING) and self.is_allowed(key, thing)
        if thing is None or not works or thing.fields.get("status") != "active" or scope in self.silent:
            return []
        if self.profile.by_day:
            self._stream(scope, now)
            self.delivered_at[key] = now
            return []
        if thing.fields.get("destination") != "data" or self.profile.destination not in self.things:
            return []
        self.delivered_at[key] = now
        months = [month_of(now)]
        if now.day <= self.profile.restated_until:
            months.append(month_before(months[0]))
        return [self.write_month(scope, month) for month in months]

    def _stream(self, scope: str, now: datetime) -> None:
        """Write rows of yesterday, and late ones of the days before."""
        for back in (1, 2) if now.toordinal() % 3 else (1, 2, 3):
            self.write_rows(scope, (now - timedelta(days=back)).date())

    def write_rows(self, scope: str, day: date) -> None:
        """Write rows of a day to a table, whose watermark moves."""
        self.rows[scope][day.isoformat()] = self.rows[scope].get(day.isoformat(), 0) + 1
        self.rows_at[scope, day.isoformat()] = self.timeline.elapsed

    def write_month(self, scope: str, month: str) -> Series:
        """Write a month's files anew and return the series."""
        key, now = self.profile.export(scope), self.timeline.now()
        series = Series(key.scope, key.name, month)
        self.deliveries += 1
        number = 0 if scope in self.empty else 1 + self.deliveries % 3
        self._lay_down(key, series, number, f"v{self.deliveries}", now)
        return series

    def lay_down_copy(self, key: Key, watermark: int) -> Series:
        """Write the files of a day's copy, of which the watermark decides the content."""
        series = Series(key.scope, "actual", key.name.partition("/")[2])
        self._lay_down(key, series, 1 + watermark % 2, f"w{watermark}", self.timeline.now())
        return series

    def _lay_down(self, key: Key, series: Series, number: int, content: str, now: datetime) -> None:
        files = tuple(
            File(f"{series.period}/part-{one}.csv.gz", 1000 + self.deliveries % 97, f"etag:{content}-{one}")
            for one in range(number)
        )
        self.data[series], self.data_at[series] = FileSet(LOCATION, files, now), self.timeline.elapsed
        self._show(key, series.period, files, now)

    def _show(self, key: Key, period: str, files: tuple[File, ...], now: datetime) -> None:
        shown = self.periods[key]
        first = (shown.get(period) or EMPTY).first or now
        shown[period] = Period(len(files), sum(one.bytes for one in files), first, now)

    def listed(self, key: Key) -> dict[str, Period]:
        """Return what a listing shows of a target's data: all days, and the last two months."""
        if self.profile.destination not in self.things:
            return {}
        oldest = month_before(month_of(self.timeline.now()))
        shown = self.periods[key].items()
        return {name: self._as_listed(Series(key.scope, "actual", name), one) for name, one in shown if name >= oldest}

    def _as_listed(self, series: Series, period: Period) -> Period:
        last = period.last and self.delivered(series, period.last)
        return msgspec.structs.replace(period, last=last)

    def is_incomplete(self, series: Series) -> bool:
        """Return whether the last file of a delivery has yet to be written."""
        return self.incomplete.get(series, FAR_AGO) > self.timeline.elapsed

    def delivered(self, series: Series, written: datetime) -> datetime:
        """Return when the last file of a delivery was written that began with those of the time `written`."""
        completed = self.timeline.start + timedelta(seconds=int(self.incomplete.get(series, FAR_AGO)))
        return written if self.is_incomplete(series) else max(written, completed)

    def lose_data(self, series: Series, key: Key) -> None:
        """Delete the files of a period, as a person would."""
        if series in self.data:
            self.data[series], self.data_at[series] = FileSet(LOCATION, (), self.timeline.now()), self.timeline.elapsed
            self.periods[key][series.period] = EMPTY

    def wipe(self) -> None:
        """Delete the destination with everything in it."""
        self.changing(self.profile.destination)
        self.things.pop(self.profile.destination, None)
        self.wiped_at = self.timeline.elapsed
        for series in self.data:
            self.data[series], self.data_at[series] = FileSet(LOCATION, (), self.timeline.now()), self.timeline.elapsed
        for key in list(self.things):
            if key.kind == "copy":
                self.changing(key)
                del self.things[key]
        for shown in self.periods.values():
            shown.update(dict.fromkeys(shown, EMPTY))


USUAL = "usual"
