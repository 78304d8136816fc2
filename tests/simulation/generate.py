"""Random stories: weeks of trouble and weeks of calm, for a whole year.

The steps of a day depend on the seed and the day alone, so that a shorter story is the beginning of a longer one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import date, timedelta

from tests.simulation.story import DAY_S, Setup, Step, Story

PERIOD, BUSY = 16, 9  # days; the first ones of each period bring trouble, the others let the world converge
EACH_DAY = 1.1  # steps on a busy day, without those that end what others began
WRITES = 4  # for each scope in a run, where they are capped: more than a day's data needs
SILENCE = 18  # days that an export is silent at most: longer than data may be overdue unnoticed
FIRST_START, STARTS = date(2027, 4, 1), 300  # every such year has a leap day, and both changes of summer time
ZONES = ("UTC", "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
OPERATIONS = ("enumerate", "list", "read", "write", "state", "deliveries", "documents", "topic")
FAILURES = ("throttled", "failing", "hanging", "lost", "refused")
SKEWS = (-3_456_000, -90_000, -7200, -300, -30, 30, 300, 7200, 80_000, 34_560_000)


def setup_of(cloud: str, seed: int) -> Setup:
    """Return the deployment of a seed."""
    rng = random.Random(f"{cloud}/{seed}")
    return Setup(
        seed=seed,
        start=FIRST_START + timedelta(days=rng.randrange(STARTS)),
        scopes=rng.choice((1, 2, 2, 3, 3, 4, 5)),
        every=rng.choice((24, 24, 12, 12, 8)),
        zone=rng.choice(ZONES),
        budget=rng.choice((0, 0, 0, 3)),
        writes=rng.choice((0, 0, 0, WRITES)),
    )


def story_of(cloud: str, seed: int, days: int) -> Story:
    """Return the story of a seed."""
    setup = setup_of(cloud, seed)
    steps = [step for day in range(days) for step in _steps_of(cloud, setup, day)]
    return Story(setup).with_steps(one for one in steps if one.at < days * DAY_S)


def _steps_of(cloud: str, setup: Setup, day: int) -> Iterator[Step]:
    if day % PERIOD >= BUSY:
        return
    rng = random.Random(f"{cloud}/{setup.seed}/{day}")
    chance = EACH_DAY
    while rng.random() < chance:
        chance -= 0.45
        at = day * DAY_S + rng.randrange(DAY_S)
        if rng.random() < 0.4:
            # At the time of a scheduled run, or a few seconds later: in the middle of it.
            at = day * DAY_S + rng.randrange(24 // setup.every) * setup.every * 3600 + rng.randrange(15)
        yield from rng.choices(_MAKERS, _WEIGHTS)[0](cloud, setup, at, rng)


def _scope(setup: Setup, rng: random.Random, *, owner: bool = True) -> str:
    number = rng.randrange(setup.scopes + 2 + int(owner))
    return f"s{number}" if number < setup.scopes + 2 else "owner"


def _until(at: int, rng: random.Random, days: float = 6) -> int:
    """Return a later time at which what began `at` ends, within the busy days of the period."""
    end = (at // DAY_S // PERIOD * PERIOD + BUSY) * DAY_S
    return min(at + 600 + int(rng.random() * days * DAY_S), max(end, at + 600))


Maker = Callable[[str, Setup, int, random.Random], Iterator[Step]]


def _membership(cloud: str, setup: Setup, at: int, rng: random.Random) -> Iterator[Step]:
    scope = _scope(setup, rng, owner=False)
    verb = rng.choice(("join", "close", "leave"))
    yield Step(at, verb, (scope,))
    back = _until(at, rng)
    if verb != "join" and rng.random() < 0.7:
        yield Step(back, "join", (scope,))
    if cloud == "gcp" and rng.random() < 0.7:
        yield Step(_until(back, rng, 2), "console", (scope,))


def _agreement(_cloud: str, setup: Setup, at: int, rng: random.Random) -> Iterator[Step]:
    scope = _scope(setup, rng, owner=False)
    yield Step(at, "agreement", (scope, rng.choice(("payg", "none", "none", "new", "enterprise"))))
    if rng.random() < 0.7:
        yield Step(_until(at, rng), "agreement", (scope, rng.choice(("enterprise", "payg"))))


def _damage(cloud: str, setup: Setup, at: int, rng: random.Random) -> Iterator[Step]:
    scope = _scope(setup, rng)
    what = rng.choice(("export", "export", "role", "copy", "shared"))
    if rng.random() < 0.5:
        yield Step(at, "delete", (what, scope))
    else:
        change = rng.choice((("format", "xml"), ("status", "inactive"), ("destination", "elsewhere"), ("state", "odd")))
        yield Step(at, "alter", (what, scope, *change))
    if cloud == "gcp" and rng.random() < 0.7:
        yield Step(_until(at, rng), "console", (scope,))


def _export(cloud: str, setup: Setup, at: int, rng: random.Random) -> Iterator[Step]:
    scope = _scope(setup, rng)
    kind = rng.randrange(6)
    if kind == 0:
        yield Step(at, "health", (scope, rng.choice(("broken", "manual"))))
        yield Step(_until(at, rng), "health", (scope, "healthy"))
    elif kind == 1:
        yield Step(at, "unmark", (scope,))
    elif kind in (2, 3):
        yield Step(at, "silence", (scope,))
        # Also in the days without trouble: only then it is sure that nothing else keeps it from being noticed.
        yield Step(at + 600 + int(rng.random() * SILENCE * DAY_S), "speak", (scope,))
    elif kind == 4:
        yield Step(at, "empty", (scope, "on"))
        yield Step(_until(at, rng), "empty", (scope, "off"))
    elif cloud == "aws":
        yield Step(at, "switch", ("off",))
        yield Step(_until(at, rng), "switch", ("there",))


def _theirs(_cloud: str, setup: Setup, at: int, rng: random.Random) -> Iterator[Step]:
    words = (rng.choice(("export", "role", "shared")), _scope(setup, rng))
    yield Step(at, "foreign", words)
    if rng.random() < 0.8:
        yield Step(_until(at, rng), "reclaim", words)


def _rights(_cloud: str, setup: Setup, at: int, rng: random.Random) -> Iterator[Step]:
    scope = _scope(setup, rng)
    yield Step(at, "deny", (scope,))
    if rng.random() < 0.8:
        yield Step(_until(at, rng, 3), "grant", (scope,))


def _wipe(_cloud: str, _setup: Setup, at: int, rng: random.Random) -> Iterator[Step]:
    yield Step(at, *rng.choice((("delete", ("destination", "owner")), ("delete-all", ()))))
    yield Step(_until(at, rng, 3), "force")


def _data(_cloud: str, setup: Setup, at: int, rng: random.Random) -> Iterator[Step]:
    scope = _scope(setup, rng)
    verb = rng.choice(("restate", "restate", "lose-data", "incomplete"))
    yield Step(at, verb, (scope, str(rng.randrange(1, 30) if verb == "incomplete" else rng.randrange(2))))


def _fault(_cloud: str, _setup: Setup, at: int, rng: random.Random) -> Iterator[Step]:
    kind, hours = rng.randrange(5), str(round(rng.choice((0.1, 1, 6, 30)) * (0.5 + rng.random()), 1))
    percent = str(rng.choice((10, 40, 80, 100)))
    if kind == 0:
        yield Step(at, "fault", ("pages", rng.choice(("short", "empty", "repeated", "refused")), percent, hours))
    elif kind == 1:
        words = rng.choice((("listing", "stale"), ("listing", "partial"), ("reading", "stale")))
        yield Step(at, "fault", (*words, percent, hours))
    elif kind == 2 and rng.random() < 0.5:
        # A receiver, or one API, is out of order for days.
        operation = rng.choice(("topic", "topic", "pages", *OPERATIONS))
        yield Step(at, "fault", (operation, rng.choice(("failing", "refused")), "100", str(rng.randrange(20, 100))))
    else:
        yield Step(at, "fault", (rng.choice(OPERATIONS), rng.choice(FAILURES), percent, hours))


def _memory(_cloud: str, setup: Setup, at: int, rng: random.Random) -> Iterator[Step]:
    if rng.random() < 0.25:
        yield Step(at, "documents", (rng.choice(("lose", "spoil")), _scope(setup, rng)))
        return
    do = rng.choice(("lose", "spoil", "roll-back"))
    number = str(rng.randrange(1, 100) if do == "spoil" else rng.randrange(1, 20))
    yield Step(at, rng.choice(("state", "state", "ledger")), (do, number))


def _process(_cloud: str, setup: Setup, at: int, rng: random.Random) -> Iterator[Step]:
    kind = rng.randrange(6)
    if kind <= 1:
        yield Step(at, "kill", (str(rng.randrange(1, 40)), rng.choice(("before", "after"))))
    elif kind == 2:
        yield Step(at, "clock", (str(rng.choice(SKEWS)), str(rng.randrange(1, 40))))
    elif kind == 3:
        yield Step(at, "skip", (str(rng.randrange(1, 60)),))
    else:
        yield Step(at, "invoke", (_scope(setup, rng, owner=False),))


def _burst(_cloud: str, _setup: Setup, at: int, rng: random.Random) -> Iterator[Step]:
    if rng.random() < 0.5:
        yield Step(at - at % 60, "kill", (str(rng.randrange(1, 40)), rng.choice(("before", "after"))))
    yield Step(at, "burst", (str(rng.randrange(2, 9)),))


_WEIGHED: tuple[tuple[Maker, float], ...] = (
    (_membership, 3),
    (_agreement, 2),
    (_damage, 4),
    (_export, 2),
    (_theirs, 1),
    (_rights, 1.5),
    (_wipe, 0.5),
    (_data, 3),
    (_fault, 3),
    (_memory, 1.5),
    (_process, 3),
    (_burst, 0.7),
)
_MAKERS = [maker for maker, _ in _WEIGHED]
_WEIGHTS = [weight for _, weight in _WEIGHED]
