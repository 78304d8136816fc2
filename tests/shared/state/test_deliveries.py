"""The ledger of deliveries: encoding, merging, and one run's session with it."""

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
from shared.state.deliveries import DELIVERIES, SLACK, CorruptLedger, Ledger, NewerLedger, decode
from shared.state.delivery_session import DeliverySession
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
    """Return a ledger with these periods."""
    made = Ledger("memory", "org-1")
    for scope, dataset, periods, at in notes:
        made.note(scope, dataset, periods, at)
    return made


def joined(*ledgers: Ledger) -> Ledger:
    """Return the merge of the ledgers in the given order."""
    made = Ledger("memory", "org-1")
    for one in ledgers:
        made.merge(one, NOW)
    return made


def test_recorded_period_is_found() -> None:
    """Known and unknown values are returned, with times in minutes."""
    made = ledger(("s1", "focus", {"2026-06": JUNE, "2026-05": Period(), "2026-06-30": EMPTY}, NOW))
    assert made.periods("s1", "focus") == {"2026-05": Period(), "2026-06": JUNE, "2026-06-30": EMPTY}
    assert list(made.series()) == [("s1", "focus")]
    assert made.periods("s1", "actual") == {}


@pytest.mark.parametrize(
    "name", ["", "2026", "2026-13", "2026-00", "2026-6", "2026-02-30", "0000-01", "2026-06-30T", "２０２６-06"]
)
def test_invalid_period_is_left_out(name: str) -> None:
    """A malformed period never enters the ledger."""
    assert not is_period(name)
    assert not ledger(("s1", "focus", {name: JUNE}, NOW))


def test_range_of_months_crosses_years() -> None:
    """A range includes both ends and may be empty."""
    assert list(months_between("2025-11", "2026-02")) == ["2025-11", "2025-12", "2026-01", "2026-02"]
    assert list(months_between("2026-02", "2026-01")) == []
    assert (month_before("2026-01"), month_before("2026-12", -1)) == ("2025-12", "2027-01")


def test_values_out_of_range_are_clamped() -> None:
    """Numbers and times that a row cannot represent become the nearest that it can."""
    wild = Period(2**40, 2**70, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), None)
    (found,) = ledger(("s1", "focus", {"2026-06": wild}, NOW)).periods("s1", "focus").values()
    assert (found.files, found.bytes) == (2**32 - 2, 2**64 - 2)
    assert (found.first, found.last) == (
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(2026, 6, 1, tzinfo=UTC) + (2**31 - 1) * MINUTE,
    )


@given(LEDGERS)
def test_decoded_ledger_equals_the_encoded_one(one: Ledger) -> None:
    """Encoding loses nothing."""
    assert decode(one.encode(NOW), "memory", "org-1") == one


@given(LEDGERS, LEDGERS, LEDGERS)
def test_merging_is_commutative_associative_and_idempotent(one: Ledger, two: Ledger, three: Ledger) -> None:
    """Order, grouping and repetition do not matter."""
    expected = joined(one, two, three)
    assert all(joined(*order) == expected for order in permutations((one, two, three)))
    assert joined(one, joined(two, three)) == joined(joined(one, two), three) == expected
    assert joined(expected, one, expected) == expected


@given(LEDGERS, LEDGERS)
def test_merge_returns_whether_a_period_changed(one: Ledger, two: Ledger) -> None:
    """A repeated observation is not a change."""

    def known(of: Ledger) -> dict[tuple[str, str], dict[str, Period]]:
        return {(scope, dataset): of.periods(scope, dataset) for scope, dataset in of.series()}

    before = known(one)
    assert one.merge(two, NOW) == (known(one) != before)


def test_newest_observation_wins_and_the_first_arrival_stays() -> None:
    """A month that was emptied later is empty, and the time of its first data is kept."""
    made = ledger(("s1", "focus", {"2026-06": JUNE}, NOW - timedelta(hours=1)))
    made.merge(ledger(("s1", "focus", {"2026-06": EMPTY}, NOW)), NOW)
    made.merge(ledger(("s1", "focus", {"2026-06": JUNE}, NOW - timedelta(hours=2))), NOW)
    assert made.periods("s1", "focus") == {"2026-06": Period(0, first=JUNE.first)}


def test_observation_from_the_future_is_replaced() -> None:
    """A current observation takes precedence."""
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
    """A newer format, another cloud and another owner have different errors."""
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
def test_damaged_ledger_is_refused_and_not_decompressed_beyond_its_limit(data: bytes) -> None:
    """A compressed bomb cannot exhaust the memory."""
    with pytest.raises(CorruptLedger):
        decode(data, "memory")


def test_invalid_rows_are_left_out() -> None:
    """A row with an impossible month or an out-of-range time affects no other row."""
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


# --- the session of a run ------------------------------------------------------------------------


def delivering(scopes: int = 2) -> Setting:
    """Return a setting whose exports exist and have delivered once."""
    setting = Setting(scopes)
    setting.run()
    setting.world.deliver(setting.clock.now())
    return setting


def stored(store: InMemoryStore) -> Ledger:
    """Return the stored ledger."""
    return decode(store.documents[DELIVERIES], "memory", "org-1")


def test_run_records_the_observed_periods() -> None:
    """The ledger has the periods of every delivering target."""
    setting = delivering()
    at = setting.clock.now()
    setting.run()
    found = stored(setting.store)
    assert list(found.series()) == [("s00000", "daily"), ("s00001", "daily")]
    assert found.periods("s00000", "daily") == {f"{at:%Y-%m}": Period(1, 1000, at, at)}


def test_periods_of_a_bulk_listing_are_kept_after_a_single_read() -> None:
    """The single read of the target does not return them."""
    setting = delivering()
    setting.world.evidence = True
    setting.run(verify_all=True)
    assert list(stored(setting.store).series()) == [("s00000", "daily"), ("s00001", "daily")]


def test_listed_periods_are_recorded_while_reading_the_exports_is_refused() -> None:
    """The data lies there, whatever the control plane says of its export."""
    setting = delivering()
    setting.world.evidence = True
    setting.world.faults["read", "*"] = Denied("denied", "no permission")
    setting.run(verify_all=True)
    assert list(stored(setting.store).series()) == [("s00000", "daily"), ("s00001", "daily")]


def test_run_without_new_deliveries_writes_no_ledger() -> None:
    """This holds without any data and without new data."""
    setting = Setting(2)
    setting.run()
    assert DELIVERIES not in setting.store.documents
    setting.world.deliver(setting.clock.now())
    setting.run()
    before = setting.store.load(10**6, DELIVERIES)
    setting.run()
    assert setting.store.load(10**6, DELIVERIES) == before


def test_run_with_unchanged_observations_does_not_read_the_ledger() -> None:
    """The ledger is read again only after a failure or with new data."""
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


def test_ledger_saved_by_another_run_is_merged() -> None:
    """Both runs' periods are kept."""
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
def test_unavailable_ledger_does_not_fail_the_run(fault: dict[str, Exception], code: str) -> None:
    """It is a warning, and the next run records the same periods."""
    setting = delivering()
    setting.store.faults = dict(fault)
    assert setting.run().report["status"] == "ok"
    assert [fields["code"] for _, _, fields in setting.events("deliveries-unsaved")] == [code]
    setting.store.faults = {}
    setting.run()
    assert stored(setting.store)


def test_damaged_ledger_is_set_aside_and_rebuilt() -> None:
    """The copy has the original bytes, and the run succeeds."""
    setting = delivering()
    setting.store.replace(b"broken", DELIVERIES)
    assert setting.run().report["status"] == "ok"
    assert list(setting.store.aside.values()) == [b"broken"]
    assert next(iter(setting.store.aside)).startswith("deliveries.corrupt-")
    assert setting.events("deliveries-corrupt")
    assert len(list(stored(setting.store).series())) == 2


def test_ledger_damaged_after_it_was_saved_is_begun_anew_once() -> None:
    """What was to be marked in it is lost, which the caller learns: a later run records and announces it again."""
    setting = delivering()
    setting.run()
    series = ("s00000", "daily")
    ((name, period),) = stored(setting.store).periods(*series).items()
    setting.store.replace(b"broken", DELIVERIES)
    session = DeliverySession(setting.store, setting.new_run())
    assert session.mark_announced([(series, name, period)], "org-1") is False
    assert list(stored(setting.store).series()) == []
    assert session.mark_announced([(series, name, period)], "org-1") is True
    assert list(setting.store.aside.values()) == [b"broken"]


def test_newer_ledger_is_unchanged() -> None:
    """It is neither overwritten nor set aside."""
    setting = delivering()
    newer = zlib.compress(b'{"version":99}\n')
    setting.store.replace(newer, DELIVERIES)
    assert setting.run().report["status"] == "ok"
    assert (setting.store.documents[DELIVERIES], setting.store.aside) == (newer, {})
    assert setting.events("deliveries-newer")


def test_ledger_of_another_owner_is_set_aside() -> None:
    """Deliveries of two organizations are not mixed."""
    setting = delivering()
    foreign = Ledger("memory", "org-2")
    foreign.note("s9", "focus", {"2026-06": JUNE}, START)
    setting.store.replace(foreign.encode(START), DELIVERIES)
    setting.run()
    assert [scope for scope, _ in stored(setting.store).series()] == ["s00000", "s00001"]
    assert len(setting.store.aside) == 1


ARRIVED = NOW - timedelta(days=6)
KEPT = Period(3, 4096, ARRIVED, ARRIVED)


def open_periods(one: Ledger) -> list[str]:
    """Return the periods that are to be announced."""
    return [name for _, _, name, _ in one.unannounced()]


def test_period_is_to_be_announced_until_it_was() -> None:
    """Observing the same again, in any order of merging, changes nothing; what is stored keeps the mark."""
    made = ledger(("s1", "focus", {"2026-06": KEPT, "2026-05": KEPT}, NOW))
    assert open_periods(made) == ["2026-05", "2026-06"]
    assert made.mark_announced({("s1", "focus"): {"2026-06": KEPT}})
    assert open_periods(made) == ["2026-05"]
    assert not made.mark_announced({("s1", "focus"): {"2026-06": KEPT}})
    later = ledger(("s1", "focus", {"2026-06": KEPT}, NOW + timedelta(hours=1)))
    for one in (joined(made, later), joined(later, made), decode(made.encode(NOW), "memory")):
        assert open_periods(one) == ["2026-05"]


@pytest.mark.parametrize(
    "changed", [Period(4, 4096, ARRIVED, ARRIVED), Period(3, 1, ARRIVED, ARRIVED), Period(3, 4096, ARRIVED, NOW)]
)
def test_changed_period_is_to_be_announced_again(changed: Period) -> None:
    """Other files, bytes or another arrival are news; a mark for the former contents does not count."""
    made = ledger(("s1", "focus", {"2026-06": KEPT}, NOW))
    made.mark_announced({("s1", "focus"): {"2026-06": KEPT}})
    made.note("s1", "focus", {"2026-06": changed}, NOW + timedelta(hours=1))
    assert open_periods(made) == ["2026-06"]
    assert not made.mark_announced({("s1", "focus"): {"2026-06": KEPT}})
    assert open_periods(made) == ["2026-06"]


def test_mark_is_merged_although_nothing_else_is_new() -> None:
    """A merge that brings only marks is written."""
    one, other = (ledger(("s1", "focus", {"2026-06": KEPT}, NOW)) for _ in range(2))
    other.mark_announced({("s1", "focus"): {"2026-06": KEPT}})
    assert one.merge(other, NOW)
    assert open_periods(one) == []
    assert not one.merge(other, NOW)


def test_period_that_never_held_data_is_not_announced() -> None:
    """One whose data is gone is."""
    made = ledger(("s1", "focus", {"2026-05": EMPTY, "2026-06": KEPT}, NOW))
    made.note("s1", "focus", {"2026-06": EMPTY}, NOW + timedelta(hours=1))
    assert open_periods(made) == ["2026-06"]


def test_mark_does_not_change_the_digest() -> None:
    """It says what the periods hold."""
    made = ledger(("s1", "focus", {"2026-06": KEPT}, NOW))
    before = made.digest()
    made.mark_announced({("s1", "focus"): {"2026-06": KEPT}})
    assert made.digest() == before


def test_first_version_is_read() -> None:
    """It has no marks: all its periods are to be announced."""
    made = ledger(("s1", "focus", {"2026-05": KEPT, "2026-06": JUNE}, NOW))
    text, _, columns = zlib.decompress(made.encode(NOW)).partition(b"\n")
    older = zlib.compress(text.replace(b'"version":2', b'"version":1') + b"\n" + columns[:-2])
    found = decode(older, "memory", "org-1")
    assert found.periods("s1", "focus") == {"2026-05": KEPT, "2026-06": JUNE}
    assert open_periods(found) == ["2026-05", "2026-06"]


def test_later_observation_of_the_same_minute_wins() -> None:
    """Files that were deleted seconds after a run saw them are gone."""
    made = ledger(
        ("s1", "focus", {"2026-06": KEPT}, NOW), ("s1", "focus", {"2026-06": EMPTY}, NOW + timedelta(seconds=9))
    )
    for one in (made, decode(made.encode(NOW), "memory", "org-1")):
        assert one.periods("s1", "focus")["2026-06"].files == 0


def test_ledgers_are_equal_if_they_hold_the_same() -> None:
    """Owner, cloud and each period count; anything else is not a ledger."""
    note = ("s1", "focus", {"2026-06": JUNE}, NOW)
    assert ledger(note) == ledger(note)
    assert ledger(note) != ledger()
    assert ledger(note) != ledger(("s1", "focus", {"2026-06": EMPTY}, NOW))
    assert ledger(note) != "a ledger"
    other = ledger(note)
    other.owner = "org-2"
    assert ledger(note) != other


def test_oldest_month_is_that_of_the_earliest_period_of_all() -> None:
    """Of days, it is their month; an empty ledger has none."""
    assert ledger().oldest() is None
    some = ledger(
        ("s1", "focus", {"2026-06": JUNE, "2026-05": EMPTY}, NOW), ("s2", "actual", {"2026-04-30": EMPTY}, NOW)
    )
    assert some.oldest() == "2026-04"


def test_digest_is_of_the_contents_and_of_whose_they_are() -> None:
    """Not of when they were observed or announced. It has 32 digits."""
    note = ("s1", "focus", {"2026-06": JUNE}, NOW)
    digest = ledger(note).digest()
    assert len(digest) == 32
    assert ledger((*note[:3], NOW - MINUTE)).digest() == digest
    announced = ledger(note)
    announced.mark_announced({("s1", "focus"): announced.periods("s1", "focus")})
    assert announced.digest() == digest
    others = [("s2", *note[1:]), ("s1", "actual", *note[2:]), ("s1", "focus", {"2026-05": JUNE}, NOW)]
    assert digest not in {ledger(one).digest() for one in others}


def test_each_announced_period_is_marked_alone() -> None:
    """The others of the same series stay to be announced."""
    made = ledger(("s1", "focus", {"2026-05": JUNE, "2026-06": JUNE, "2026-07": JUNE}, NOW))
    assert made.mark_announced({("s1", "focus"): {"2026-06": made.periods("s1", "focus")["2026-06"]}})
    assert [name for *_, name, _ in made.unannounced()] == ["2026-05", "2026-07"]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("2019-08", True),  # seven years ago, within the month that is kept
        ("2019-06", False),
        ("2025-06-06", True),
        ("2025-06-05", True),
        ("2025-06-04", False),
        ("2024-12-08", False),  # its number is a multiple of 101
    ],
)
def test_old_periods_are_dropped_by_their_sort(name: str, kept: bool) -> None:
    """Months are kept for seven years, days for 400 days, also beside newer ones and in each series."""
    for more in ({}, {"2026-06": JUNE}):
        made = ledger(("s0", "focus", {"2026-07": JUNE}, NOW), ("s1", "focus", {name: JUNE, **more}, NOW))
        made.compact(NOW)
        assert (name in made.periods("s1", "focus")) is kept
        assert "2026-07" in made.periods("s0", "focus")
        assert (("s1", "focus") in made.series()) is (kept or bool(more))


def test_day_at_the_limit_is_kept_beside_an_older_one() -> None:
    """The limit is the oldest day that is kept."""
    made = ledger(("s1", "focus", {"2025-06-04": JUNE, "2025-06-05": JUNE}, NOW))
    made.compact(NOW)
    assert list(made.periods("s1", "focus")) == ["2025-06-05"]


@pytest.mark.parametrize("at", [datetime(1960, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)])
def test_time_of_observation_by_a_wrong_clock_is_recorded(at: datetime) -> None:
    """A row has no room for it; the period is kept all the same."""
    assert ledger(("s1", "focus", {"2026-06": JUNE}, at)).periods("s1", "focus") == {"2026-06": JUNE}


def test_arrival_long_before_a_period_is_clamped() -> None:
    """A row counts the minutes from the period's beginning."""
    early = Period(first=datetime(1, 1, 1, tzinfo=UTC))
    (found,) = ledger(("s1", "focus", {"9999-01": early}, NOW)).periods("s1", "focus").values()
    assert found.first == datetime(9999, 1, 1, tzinfo=UTC) - (2**31 - 1) * MINUTE


def test_observed_sizes_of_nothing_are_kept() -> None:
    """No bytes are something else than an unknown number of them."""
    nothing = Period(0, 0)
    assert ledger(("s1", "focus", {"2026-06": nothing}, NOW)).periods("s1", "focus") == {"2026-06": nothing}


def test_time_of_writing_is_stored_and_read() -> None:
    """It shows how old a ledger is."""
    made = ledger(("s1", "focus", {"2026-06": JUNE}, NOW))
    data = made.encode(NOW)
    assert made.updated_at == NOW
    assert decode(data, "memory").updated_at == NOW


def test_first_arrival_of_a_merged_period_is_the_earlier_one() -> None:
    """Whichever observation is newer, and if only one of both knows it."""
    early, late = NOW - timedelta(days=9), NOW - timedelta(days=3)
    for one, other, expected in ((early, late, early), (late, early, early), (early, None, early), (None, None, None)):
        newer = ledger(("s1", "focus", {"2026-07": Period(1, 1, one, late)}, NOW))
        older = ledger(("s1", "focus", {"2026-07": Period(1, 1, other, late)}, NOW - MINUTE))
        for merged in (joined(newer, older), joined(older, newer)):
            assert merged.periods("s1", "focus")["2026-07"].first == expected


def test_observation_that_a_wrong_clock_timed_never_wins() -> None:
    """One of now does, also at the limit of the allowed difference."""
    right = ("s1", "focus", {"2026-07": Period(1, 1)}, NOW)
    ahead = ("s1", "focus", {"2026-07": Period(9, 9)}, NOW + SLACK + timedelta(seconds=1))
    within = ("s1", "focus", {"2026-07": Period(9, 9)}, NOW + SLACK)
    assert joined(ledger(right), ledger(ahead)).periods("s1", "focus")["2026-07"].files == 1
    assert joined(ledger(right), ledger(within)).periods("s1", "focus")["2026-07"].files == 9


@pytest.mark.parametrize(
    ("first", "last", "months"),
    [
        ("2025-11", "2026-02", ["2025-11", "2025-12", "2026-01", "2026-02"]),
        ("2026-01", "2026-01", ["2026-01"]),
        ("2026-02", "2026-01", []),
        ("2025-10-31", "2025-11-01", ["2025-10", "2025-11"]),
    ],
)
def test_months_between_two_periods(first: str, last: str, months: list[str]) -> None:
    """Both ends are included, and of days their months count."""
    assert list(months_between(first, last)) == months
    assert month_before("2026-01") == "2025-12"
    assert month_before("2026-01-31", -1) == "2026-02"
    assert month_before("0001-01", 5) == "0001-01"
