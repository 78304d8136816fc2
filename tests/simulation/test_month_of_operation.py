"""A month of hourly runs over a world in which things keep happening, in virtual time."""

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

# To measure its branches, which other tests cover, would take half as long again.
# Minutes together: `make simulate` and `make test-all` run them.
pytestmark = [pytest.mark.slow, pytest.mark.no_cover]
DAY = 24
SCOPES = 120
BUDGET = 40
PROPAGATION = EscalationPolicy(longest=timedelta(hours=1))


class Month:
    """One world with its damage; `lost` holds since which hour an export of an active scope is gone."""

    def __init__(self, seed: int) -> None:
        self.setting = Setting(SCOPES, call_budget=BUDGET)
        self.world = self.setting.world
        self.world.evidence = True
        self.rng = random.Random(seed)
        self.lost: dict[Key, int] = {}
        self.healed_after: list[int] = []
        self.joined = 0

    def hour(self, hour: int) -> None:
        """Let one hour's damage happen, run once, and note what is healed."""
        if hour % 24 == 0:
            self.world.deliver(self.setting.clock.now())
        self.damage(hour)
        self.setting.run()
        for key, since in list(self.lost.items()):
            if key in self.world.things:
                self.healed_after.append(hour - since + 1)
                del self.lost[key]

    def damage(self, hour: int) -> None:
        """Delete, change, deny, throttle, suspend and add, each now and then."""
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
            manual_step = ManualStep("grant the right")
            self.world.faults["write", scope] = Denied(
                "denied", "no rights", escalation=PROPAGATION, manual_step=manual_step
            )
        if self.rng.random() < 0.05:
            self.world.faults["list", "*"] = Throttled("throttled", "slow down", retry_after=timedelta(seconds=30))
        if self.rng.random() < 0.02:
            self.setting.store.documents.clear()

    def suspend(self, scope: str) -> None:
        """Suspend a scope; its exports are nobody's loss any more."""
        if scope != "owner":
            self.world.suspend(scope)
            self.lost = {key: since for key, since in self.lost.items() if key.scope != scope}


@pytest.mark.parametrize(
    ("seed", "days"), [(1, 10), *(pytest.param(seed, 30, marks=pytest.mark.slow) for seed in (2, 3, 4))]
)
def test_a_month_of_damage_ends_with_everything_covered(seed: int, days: int) -> None:
    """Whatever happens, exports come back within a round of verification, nothing is written twice, all is covered."""
    month = Month(seed)
    for hour in range(days * DAY):
        month.hour(hour)
    round_of = math.ceil((len(month.world.scopes) + 2) / BUDGET)
    healed = sorted(month.healed_after)
    assert len(healed) > 5 * days
    # A target whose write failed waits for its back-off too, hence the tail beyond one round.
    assert healed[len(healed) * 95 // 100] <= round_of
    assert healed[-1] <= 24 + round_of
    for _ in range(3 * round_of):
        month.world.faults.clear()
        month.setting.run()
    assert month.setting.covered()
    creates = [key for verb, key in month.world.written if verb is Verb.CREATE and key.kind == "role"]
    assert len(creates) == len(set(creates))
    assert len(month.setting.memory().runs) <= RUNS_KEPT


def test_a_month_without_damage_writes_once_and_stays_within_its_calls() -> None:
    """After the first run nothing is written any more, and each run reads no more than its budget."""
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


def test_a_month_tells_who_delivers_who_waits_and_who_fell_silent() -> None:
    """The report's numbers are those of the world: existing is not delivering, and monthly is not silent."""
    setting = Setting(30)
    world, clock = setting.world, setting.clock
    exports = [Key(scope, "export", "daily") for scope in sorted(world.scopes) if scope != "owner"]
    monthly, silent, newcomers = exports[:5], exports[5:8], exports[8:10]
    days_of_monthly = {0, 28, 56}
    told = []
    for day in range(60):
        now = clock.now()
        setting.run()
        for key in exports:
            stopped = (key in silent and day >= 40) or (key in newcomers and day < 45)
            if key in world.things and not stopped and (key not in monthly or day in days_of_monthly):
                world.things[key].delivered_at = now
        clock.advance(11 * 3600)
        report = setting.run().report
        told.append((report["scopes"], report["deliveries"]))
        assert report["scopes"]["covered"] == report["scopes"]["active"] == len(exports) + 1
        clock.advance(11 * 3600)
    # Nothing has arrived of the newcomers for weeks, which is missing; all others deliver from the first day on.
    scopes, deliveries = told[0]
    assert (scopes["delivering"], scopes["awaiting_first_data"], deliveries["missing"]) == (28, 2, 0)
    # What is billed monthly looks silent once, until its rhythm is known.
    assert told[10][1] == {"new": 23, "late": 5, "missing": 2}
    scopes, deliveries = told[39]
    assert (scopes["delivering"], scopes["awaiting_first_data"]) == (28, 2)
    assert deliveries == {"new": 23, "late": 0, "missing": 2}
    # Two days after they stopped, the silent ones are late; the newcomers have arrived by then.
    scopes, deliveries = told[50]
    assert (scopes["delivering"], scopes["awaiting_first_data"]) == (27, 0)
    assert deliveries == {"new": 22, "late": 3, "missing": 0}


def test_every_run_may_be_the_first_one() -> None:
    """With the state lost before every single run the cloud ends in the same state, and nothing is created twice."""
    setting = Setting(20)
    for _ in range(24):
        setting.store = InMemoryStore()
        setting.run()
    assert setting.covered()
    assert len(setting.world.written) == len({key for _, key in setting.world.written})
