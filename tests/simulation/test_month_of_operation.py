"""A month of hourly runs, in virtual time, on a cloud that keeps changing."""

from __future__ import annotations

import math
import random
from datetime import timedelta

import pytest

from shared.errors import Denied, Throttled
from shared.model import EscalationPolicy, Key, ManualStep, Verb
from shared.state.document import RUNS_KEPT
from tests.inmemory import InMemoryStore
from tests.shared.setting import Setting

# They take minutes: `make simulate` and `make test-all` run them.
pytestmark = pytest.mark.slow
DAY = 24
SCOPES = 120
BUDGET = 40
PROPAGATION = EscalationPolicy(longest=timedelta(hours=1))


class Month:
    """A cloud with random damage.

    `lost` has, for each export that was deleted in an active scope, the hour of its deletion.
    """

    def __init__(self, seed: int) -> None:
        self.setting = Setting(SCOPES, call_budget=BUDGET)
        self.world = self.setting.world
        self.world.evidence = True
        self.rng = random.Random(seed)
        self.lost: dict[Key, int] = {}
        self.repaired_after: list[int] = []
        self.joined = 0

    def hour(self, hour: int) -> None:
        """Apply one hour's damage, run once, and record what was repaired."""
        if hour % 24 == 0:
            self.world.deliver(self.setting.clock.now())
        self.damage(hour)
        self.setting.run()
        for key, since in list(self.lost.items()):
            if key in self.world.things:
                self.repaired_after.append(hour - since + 1)
                del self.lost[key]

    def damage(self, hour: int) -> None:
        """Delete, change, deny, throttle, suspend and add at random."""
        exports = sorted(key for key in self.world.things if key.kind == "export")
        if exports and self.rng.random() < 0.5:
            key = self.rng.choice(exports)
            del self.world.things[key]
            if self.world.scopes[key.scope].state.value == "active":
                self.lost[key] = hour
        if exports and self.rng.random() < 0.2:
            thing = self.world.things.get(self.rng.choice(exports))
            if thing:
                thing.fields["format"] = "xml"
        if self.rng.random() < 0.05:
            self.joined += 1
            self.world.join(f"new{self.joined:03d}")
        if self.rng.random() < 0.05:
            self.suspend(self.rng.choice(sorted(self.world.scopes)))
        self.world.faults.clear()
        if self.rng.random() < 0.1:
            scope = self.rng.choice(sorted(self.world.scopes))
            manual_step = ManualStep("grant the permission")
            self.world.faults["write", scope] = Denied(
                "denied", "no permission", escalation=PROPAGATION, manual_step=manual_step
            )
        if self.rng.random() < 0.05:
            self.world.faults["list", "*"] = Throttled("throttled", "slow down", retry_after=timedelta(seconds=30))
        if self.rng.random() < 0.02:
            self.setting.store.documents.clear()

    def suspend(self, scope: str) -> None:
        """Suspend a scope; its exports no longer have to be restored."""
        if scope != "owner":
            self.world.suspend(scope)
            self.lost = {key: since for key, since in self.lost.items() if key.scope != scope}


@pytest.mark.parametrize(
    ("seed", "days"), [(1, 10), *(pytest.param(seed, 30, marks=pytest.mark.slow) for seed in (2, 3, 4))]
)
def test_month_of_damage_ends_with_every_scope_covered(seed: int, days: int) -> None:
    """Deleted exports are restored within one round of verification, and no role is created twice."""
    month = Month(seed)
    for hour in range(days * DAY):
        month.hour(hour)
    round_runs = math.ceil((len(month.world.scopes) + 2) / BUDGET)
    repaired = sorted(month.repaired_after)
    assert len(repaired) > 5 * days
    # A target whose write failed also waits for its back-off, so a few take longer than one round.
    assert repaired[len(repaired) * 95 // 100] <= round_runs
    assert repaired[-1] <= 24 + round_runs
    for _ in range(3 * round_runs):
        month.world.faults.clear()
        month.setting.run()
    assert month.setting.covered()
    creates = [key for verb, key in month.world.written if verb is Verb.CREATE and key.kind == "role"]
    assert len(creates) == len(set(creates))
    assert len(month.setting.memory().runs) <= RUNS_KEPT


def test_month_without_damage_writes_only_in_the_first_run() -> None:
    """Every later run stays within its call budget."""
    setting = Setting(SCOPES, call_budget=BUDGET)
    setting.world.evidence = True
    setting.run()
    setting.run(verify_all=True)
    written = len(setting.world.written)
    for hour in range(10 * DAY):
        if hour % 24 == 0:
            setting.world.deliver(setting.clock.now())
        before = setting.world.calls.total()
        setting.run()
        assert setting.world.calls.total() - before <= BUDGET + 1
    assert len(setting.world.written) == written


def test_reports_distinguish_delivering_waiting_and_silent_exports() -> None:
    """An existing export is not necessarily delivering, and a monthly one is not silent between deliveries."""
    setting = Setting(30)
    world, clock = setting.world, setting.clock
    exports = [Key(scope, "export", "daily") for scope in sorted(world.scopes) if scope != "owner"]
    monthly, silent, newcomers = exports[:5], exports[5:8], exports[8:10]
    days_of_monthly = {0, 28, 56}
    reports = []
    for day in range(60):
        now = clock.now()
        setting.run()
        for key in exports:
            stopped = (key in silent and day >= 40) or (key in newcomers and day < 45)
            if key in world.things and not stopped and (key not in monthly or day in days_of_monthly):
                world.things[key].delivered_at = now
        clock.advance(11 * 3600)
        report = setting.run().report
        reports.append((report["scopes"], report["deliveries"]))
        assert report["scopes"]["covered"] == report["scopes"]["active"] == len(exports) + 1
        clock.advance(11 * 3600)
    # The newcomers have not delivered yet; all others deliver from the first day.
    scopes, deliveries = reports[0]
    assert (scopes["delivering"], scopes["awaiting_first_data"], deliveries["missing"]) == (28, 2, 0)
    # The monthly exports count as late once, until their interval is known.
    assert reports[10][1] == {"new": 23, "late": 5, "missing": 2}
    scopes, deliveries = reports[39]
    assert (scopes["delivering"], scopes["awaiting_first_data"]) == (28, 2)
    assert deliveries == {"new": 23, "late": 0, "missing": 2}
    # The silent exports are late two days after their last delivery; the newcomers have delivered by then.
    scopes, deliveries = reports[50]
    assert (scopes["delivering"], scopes["awaiting_first_data"]) == (27, 0)
    assert deliveries == {"new": 22, "late": 3, "missing": 0}


def test_losing_the_state_before_every_run_creates_nothing_twice() -> None:
    """The cloud ends in the same covered state."""
    setting = Setting(20)
    for _ in range(24):
        setting.store = InMemoryStore()
        setting.run()
    assert setting.covered()
    assert len(setting.world.written) == len({key for _, key in setting.world.written})
