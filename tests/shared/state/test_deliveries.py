"""The ledger of deliveries: packing, merging, and one run's session with it."""

from __future__ import annotations

import struct
import zlib
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Denied, Transient
from shared.periods import EMPTY, Period, is_period, month_before, months_between
from shared.state.deliveries import DELIVERIES, CorruptLedger, Ledger, NewerLedger, decode
from shared.state.store import STATE
from tests.inmemory import InMemoryStore
from tests.shared.builders import START
from tests.shared.setting import Setting

NOW = datetime(2026, 7, 10, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
JUNE = Period(3, 4096, NOW - timedelta(days=30), NOW - timedelta(days=6), NOW - timedelta(days=7))
TIMES = st.none() | st.integers(0, 100_000).map(lambda minutes: NOW - minutes * MINUTE)
PERIODS = st.builds(Period, st.none() | st.integers(0, 2**31), st.none() | st.integers(0, 2**60), TIMES, TIMES, TIMES)
NOTES = st.tuples(
    st.sampled_from(["s1", "s2"]),
    st.sampled_from(["actual", "focus"]),
    st.dictionaries(st.sampled_from(["2026-05", "2026-06", "2026-06-30"]), PERIODS, max_size=3),
    st.integers(0, 3).map(lambda hours: NOW - timedelta(hours=hours)),
)
LEDGERS = st.lists(NOTES, max_size=4).map(lambda notes: ledger(*notes))


def ledger(*notes: tuple[str, str, dict[str, Period], datetime]) -> Ledger:
    """Return a ledger with these notes."""
    made = Ledger("memory", "org-1")
    for scope, dataset, periods, at in notes:
        made.note(scope, dataset, periods, at)
    return made


def joined(*ledgers: Ledger) -> Ledger:
    """Return what the ledgers know together, taken in one after the other."""
    made = Ledger("memory", "org-1")
    for one in ledgers:
        made.merge(one, NOW)
    return made


def test_what_is_noted_is_found() -> None:
    """Known and unknown values come back, to the minute."""
    made = ledger(("s1", "focus", {"2026-06": JUNE, "2026-05": Period(), "2026-06-30": EMPTY}, NOW))
    assert made.periods("s1", "focus") == {"2026-05": Period(), "2026-06": JUNE, "2026-06-30": EMPTY}
    assert list(made.series()) == [("s1", "focus")]
    assert made.periods("s1", "actual") == {}


@pytest.mark.parametrize(
    "name", ["", "2026", "2026-13", "2026-00", "2026-6", "2026-02-30", "0000-01", "2026-06-30T", "２０２６-06"]
)
def test_what_is_no_period_is_left_out(name: str) -> None:
    """A period of a wrong form never enters the ledger."""
    assert not is_period(name)
    assert not ledger(("s1", "focus", {name: JUNE}, NOW))


def test_months_are_counted_across_years() -> None:
    """A range of months includes both ends; an empty one is empty."""
    assert list(months_between("2025-11", "2026-02")) == ["2025-11", "2025-12", "2026-01", "2026-02"]
    assert list(months_between("2026-02", "2026-01")) == []
    assert (month_before("2026-01"), month_before("2026-12", -1)) == ("2025-12", "2027-01")


def test_values_out_of_range_are_clamped() -> None:
    """Numbers and times that no row can hold become the nearest that it can."""
    wild = Period(2**40, 2**70, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), None)
    (found,) = ledger(("s1", "focus", {"2026-06": wild}, NOW)).periods("s1", "focus").values()
    assert (found.files, found.bytes) == (2**32 - 2, 2**64 - 2)
    assert (found.first, found.last) == (
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(2026, 6, 1, tzinfo=UTC) + (2**31 - 1) * MINUTE,
    )


@given(LEDGERS)
def test_packing_loses_nothing(one: Ledger) -> None:
    """What is encoded is decoded as the same ledger."""
    assert decode(one.encode(NOW), "memory", "org-1") == one


@given(LEDGERS, LEDGERS, LEDGERS)
def test_merging_is_commutative_associative_and_idempotent(one: Ledger, two: Ledger, three: Ledger) -> None:
    """In any order, grouped in any way, and any number of times the same comes out."""
    expected = joined(one, two, three)
    assert all(joined(*order) == expected for order in permutations((one, two, three)))
    assert joined(one, joined(two, three)) == joined(joined(one, two), three) == expected
    assert joined(expected, one, expected) == expected


@given(LEDGERS, LEDGERS)
def test_merging_says_whether_it_learned_something(one: Ledger, two: Ledger) -> None:
    """It is news exactly where a period differs, not where the same was observed again."""

    def known(of: Ledger) -> dict[tuple[str, str], dict[str, Period]]:
        return {(scope, dataset): of.periods(scope, dataset) for scope, dataset in of.series()}

    before = known(one)
    assert one.merge(two, NOW) == (known(one) != before)


def test_newest_observation_wins_and_the_first_arrival_stays() -> None:
    """A month that was emptied later is empty, and when its data first came is still known."""
    made = ledger(("s1", "focus", {"2026-06": JUNE}, NOW - timedelta(hours=1)))
    made.merge(ledger(("s1", "focus", {"2026-06": EMPTY}, NOW)), NOW)
    made.merge(ledger(("s1", "focus", {"2026-06": JUNE}, NOW - timedelta(hours=2))), NOW)
    assert made.periods("s1", "focus") == {"2026-06": Period(0, first=JUNE.first)}


def test_observation_of_a_wrong_clock_never_wins() -> None:
    """What was observed in the future gives way to what is observed now."""
    made = ledger(("s1", "focus", {"2026-06": EMPTY}, NOW + timedelta(days=400)))
    assert made.merge(ledger(("s1", "focus", {"2026-06": JUNE}, NOW)), NOW)
    assert made.periods("s1", "focus") == {"2026-06": JUNE}


def test_old_periods_are_dropped() -> None:
    """Months are kept for seven years, days for 400 days."""
    made = ledger(("s1", "focus", dict.fromkeys(["2019-06", "2019-08", "2025-05-01", "2025-07-01"], JUNE), NOW))
    made.note("s2", "focus", {"2018-01": JUNE}, NOW)
    made.compact(NOW)
    assert list(made.periods("s1", "focus")) == ["2019-08", "2025-07-01"]
    assert list(made.series()) == [("s1", "focus")]


def test_newer_and_foreign_ledgers_are_refused() -> None:
    """A newer format, another cloud and another owner are three refusals, each with its reason."""
    data = ledger(("s1", "focus", {"2026-06": JUNE}, NOW)).encode(NOW)
    with pytest.raises(CorruptLedger, match="memory"):
        decode(data, "aws")
    with pytest.raises(CorruptLedger, match="org-1"):
        decode(data, "memory", "org-2")
    with pytest.raises(NewerLedger, match="99"):
        decode(zlib.compress(b'{"version":99,"rows":"of another form"}\n'), "memory")


def _bomb() -> bytes:
    packer = zlib.compressobj(9)
    return b"".join([packer.compress(bytes(2**20)) for _ in range(65)]) + packer.flush()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        zlib.compress(b""),
        zlib.compress(b"\n"),
        zlib.compress(b"[" * 100_000 + b"\n"),
        zlib.compress(b'{"version":0}\n'),
        zlib.compress(b'{"version":1,"cloud":"memory","series":{"s1":{"focus":2}}}\n' + bytes(32)),
        zlib.compress(b'{"version":1,"cloud":"memory","series":{"s1":{"focus":1}}}\n' + bytes(31)),
        zlib.compress(b'{"version":1,"cloud":"memory","series":{"s1":{"focus":-1}}}\n'),
        ledger(("s1", "focus", {"2026-06": JUNE}, NOW)).encode(NOW)[:-1],
        ledger(("s1", "focus", {"2026-06": JUNE}, NOW)).encode(NOW) + b"x",
        _bomb(),
    ],
    ids=lambda data: f"{len(data)}-bytes",
)
def test_damage_is_told_apart(data: bytes) -> None:
    """What is no ledger is refused as such, and never unpacked beyond its limit."""
    with pytest.raises(CorruptLedger):
        decode(data, "memory")


def test_rows_that_no_function_wrote_are_left_out() -> None:
    """A row of an impossible month, or of times beyond the calendar, costs nothing but itself."""
    rows = [
        (20261399, 1, 1, 0, 0, 0, 0),
        (20260600, 1, 1, 2**31 - 1, 0, -(2**31), 0),
        (99991200, 1, 1, 2**31 - 1, 0, 0, 0),
    ]
    packed = b"".join(struct.pack("<IIQiiiI", *row) for row in rows)
    columns = b"".join(packed[column::32] for column in range(32))
    head = b'{"version":1,"cloud":"memory","series":{"s1":{"focus":3}}}\n'
    found = decode(zlib.compress(head + columns), "memory").periods("s1", "focus")
    assert list(found) == ["2026-06", "9999-12"]
    assert found["9999-12"].first is None


# --- a run's session -----------------------------------------------------------------------------


def delivering(scopes: int = 2) -> Setting:
    """Return a setting whose exports exist and have delivered once."""
    setting = Setting(scopes)
    setting.run()
    setting.world.deliver(setting.clock.now())
    return setting


def stored(store: InMemoryStore) -> Ledger:
    """Return the ledger as it is stored."""
    return decode(store.documents[DELIVERIES], "memory", "org-1")


def test_run_records_what_it_observed() -> None:
    """The periods of every delivering target are in the ledger after the run."""
    setting = delivering()
    at = setting.clock.now()
    setting.run()
    found = stored(setting.store)
    assert list(found.series()) == [("s00000", "daily"), ("s00001", "daily")]
    assert found.periods("s00000", "daily") == {f"{at:%Y-%m}": Period(1, 1000, at, at)}


def test_bulk_listings_periods_survive_a_single_read() -> None:
    """What the bulk listing alone showed is recorded although the target was read singly as well."""
    setting = delivering()
    setting.world.evidence = True
    setting.run(verify_all=True)
    assert list(stored(setting.store).series()) == [("s00000", "daily"), ("s00001", "daily")]


def test_run_without_news_writes_no_ledger() -> None:
    """Where nothing arrived, and where nothing new arrived, the ledger is not written."""
    setting = Setting(2)
    setting.run()
    assert DELIVERIES not in setting.store.documents
    setting.world.deliver(setting.clock.now())
    setting.run()
    before = setting.store.load(10**6, DELIVERIES)
    setting.run()
    assert setting.store.load(10**6, DELIVERIES) == before


def test_run_that_observes_the_same_does_not_read_the_ledger() -> None:
    """In steady state the ledger costs no call; after a failure, or with new data, it is read again."""
    setting = delivering()
    setting.store.faults["save deliveries.bin"] = Transient("busy", "later")
    setting.run()
    setting.store.faults = {}
    setting.run()
    assert stored(setting.store)
    setting.store.faults["load deliveries.bin"] = Denied("access-denied", "no")
    setting.run()
    assert [fields["code"] for _, _, fields in setting.events("deliveries-unsaved")] == ["busy"]
    setting.world.deliver(setting.clock.now())
    setting.run()
    assert [fields["code"] for _, _, fields in setting.events("deliveries-unsaved")] == ["busy", "access-denied"]


def test_dry_run_writes_no_ledger() -> None:
    """A dry run records nothing."""
    setting = delivering()
    setting.run(dry_run=True)
    assert set(setting.store.documents) == {STATE}


def test_another_runs_ledger_is_merged() -> None:
    """What another run wrote in between stays, beside what this one observed."""
    setting = delivering()
    setting.store.faults["save deliveries.bin"] = Transient("busy", "later")
    setting.run()
    del setting.store.faults["save deliveries.bin"]
    setting.store.replace(ledger(("s9", "focus", {"2025-12": JUNE}, START)).encode(START), DELIVERIES)
    setting.run()
    assert [scope for scope, _ in stored(setting.store).series()] == ["s00000", "s00001", "s9"]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"load deliveries.bin": Denied("access-denied", "no")}, "access-denied"),
        ({"save deliveries.bin": Transient("busy", "later")}, "busy"),
    ],
)
def test_ledger_out_of_reach_never_fails_a_run(fault: dict[str, Exception], code: str) -> None:
    """It is a warning, the run is as it would be without, and the next run records the same."""
    setting = delivering()
    setting.store.faults = dict(fault)
    assert setting.run().report["status"] == "ok"
    assert [fields["code"] for _, _, fields in setting.events("deliveries-unsaved")] == [code]
    setting.store.faults = {}
    setting.run()
    assert stored(setting.store)


def test_damaged_ledger_is_set_aside_and_begun_anew() -> None:
    """The copy keeps the bytes, the run is well, and the ledger is whole again."""
    setting = delivering()
    setting.store.replace(b"broken", DELIVERIES)
    assert setting.run().report["status"] == "ok"
    assert list(setting.store.aside.values()) == [b"broken"]
    assert next(iter(setting.store.aside)).startswith("deliveries.corrupt-")
    assert setting.events("deliveries-corrupt")
    assert len(list(stored(setting.store).series())) == 2


def test_newer_ledger_is_left_alone() -> None:
    """It is neither overwritten nor set aside."""
    setting = delivering()
    newer = zlib.compress(b'{"version":99}\n')
    setting.store.replace(newer, DELIVERIES)
    assert setting.run().report["status"] == "ok"
    assert (setting.store.documents[DELIVERIES], setting.store.aside) == (newer, {})
    assert setting.events("deliveries-newer")


def test_ledger_of_another_owner_is_set_aside() -> None:
    """Deliveries of another organization are not mixed with ours."""
    setting = delivering()
    foreign = Ledger("memory", "org-2")
    foreign.note("s9", "focus", {"2026-06": JUNE}, START)
    setting.store.replace(foreign.encode(START), DELIVERIES)
    setting.run()
    assert [scope for scope, _ in stored(setting.store).series()] == ["s00000", "s00001"]
    assert len(setting.store.aside) == 1
