"""Announcing deliveries: at once by name, and after each run what no event named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.deliveries.announce import AT_ONCE, Announcer
from shared.deliveries.document import File, FileSet, Series
from shared.errors import Denied, NotFound, Transient
from shared.periods import EMPTY
from shared.reconcile import RunResult
from shared.state.deliveries import DELIVERIES, decode
from tests.inmemory import EXPORT
from tests.shared.deliveries.memory import Killed, MemorySource
from tests.shared.setting import Setting


class World:
    """Exports that deliver, and a topic; `deliver` writes a file for every scope."""

    def __init__(self, scopes: int = 2) -> None:
        self.source = MemorySource()
        self.setting = Setting(scopes)
        self.setting.announcer = lambda run: Announcer(self.source, {"topic": self.source.topic}, run)
        self.setting.run()

    def deliver(self) -> list[Series]:
        """Deliver a file more for every scope; return the series."""
        self.setting.world.deliver(self.setting.clock.now())
        return self.expose()

    def expose(self) -> list[Series]:
        """Let the source see what the exports delivered."""
        delivered = []
        for key, thing in self.setting.world.things.items():
            for period, held in thing.periods.items() if key.kind == EXPORT.name else ():
                series = Series(key.scope, key.name, period)
                names = range(held.files or 0)
                files = tuple(File(f"{key.scope}/{number}", 1000, f"etag:{number}") for number in names)
                assert held.last is not None
                self.source.sets[series] = FileSet("memory://", files, held.last)
                delivered.append(series)
        return delivered

    def announcer(self) -> Announcer:
        """Return the announcer of an event's function."""
        return Announcer(self.source, {"topic": self.source.topic}, self.setting.new_run())

    def run(self) -> RunResult:
        """Run once; nothing of the run's own may have failed."""
        finished = self.setting.run()
        assert finished.report["status"] == "ok"
        return finished

    def accepted(self) -> list[tuple[str, int]]:
        """Return what the topic accepted: scope and sequence, each once."""
        found = ((one.data.scope, one.data.sequence) for _, _, one in self.source.topic.accepted)
        return list(dict.fromkeys(found))

    def left(self, finished: RunResult) -> float:
        """Return the metric of what a run left."""
        return next(one.value for one in finished.metrics if one.name == "deliveries_unannounced")


def test_run_announces_what_no_event_named() -> None:
    """Losing every event costs latency and nothing else; the next run finds nothing to do."""
    world = World()
    world.deliver()
    assert world.left(world.run()) == 0
    assert sorted(world.accepted()) == [("s00000", 1), ("s00001", 1)]
    made = world.source.calls.made
    world.run()
    assert world.source.calls.made == made
    world.deliver()
    world.run()
    assert sorted(world.accepted())[1::2] == [("s00000", 2), ("s00001", 2)]


def test_run_does_not_repeat_what_an_event_announced() -> None:
    """It reads the newest document, and neither the manifest nor the files."""
    world = World()
    world.announcer().announce_named(world.deliver())
    world.source.looked_at.clear()
    made = world.source.calls.made
    world.run()
    assert world.source.looked_at == []
    assert world.source.calls.made == made + 2
    assert len(world.source.topic.accepted) == 2


def test_run_without_news_reads_no_ledger() -> None:
    """The steady run makes no call more than without announcements."""
    world = World()
    world.deliver()
    world.run()
    world.setting.store.faults["load deliveries.bin"] = Denied("access-denied", "no")
    world.run()
    assert world.setting.events("deliveries-unsaved") == []


def test_repeated_events_are_one_announcement() -> None:
    """A storm of the same manifest is one look."""
    world = World(1)
    (series,) = world.deliver()
    assert world.announcer().announce_named([series] * 100) == 0
    assert (world.source.looked_at, world.accepted()) == ([series], [("s00000", 1)])


def test_failed_event_is_counted_and_caught_up_by_the_run() -> None:
    """The others are announced."""
    world = World()
    first, second = world.deliver()
    world.source.failures[first] = Transient("busy", "later")
    assert world.announcer().announce_named([first, second]) == 1
    assert [fields["code"] for _, _, fields in world.setting.events("delivery-unannounced")] == ["busy"]
    world.source.failures.clear()
    world.run()
    assert sorted(world.accepted()) == [("s00000", 1), ("s00001", 1)]


def test_defect_in_one_delivery_fails_neither_the_others_nor_their_copy() -> None:
    """Whoever wrote the files goes on; the run that follows tries again."""
    world = World()
    first, second = world.deliver()
    files = world.source.files

    def broken(series: Series) -> FileSet | None:
        if series == first:
            raise ZeroDivisionError("a defect")
        return files(series)

    world.source.files = broken  # type: ignore[method-assign]  # one series is made to fail
    assert world.announcer().announce_named([first, second]) == 1
    assert [fields["code"] for _, _, fields in world.setting.events("delivery-unannounced")] == ["internal-error"]
    assert world.accepted() == [(second.scope, 1)]


def test_incomplete_delivery_waits_for_its_files() -> None:
    """No reader learns of half a set; the run is not degraded, and looks again once the ledger shows more files."""
    world = World(1)
    (series,) = world.deliver()
    del world.source.sets[series]
    world.setting.clock.advance(7200)
    assert world.announcer().announce_named([series]) == 0
    assert [world.left(world.run()) for _ in range(2)] == [0, 0]
    assert len(world.setting.events("delivery-incomplete")) == 1
    assert (world.accepted(), len(world.source.looked_at)) == ([], 2)
    world.deliver()
    world.run()
    assert world.accepted() == [("s00000", 1)]


def test_delivery_that_ends_in_the_minute_of_a_look_is_announced() -> None:
    """The ledger's entry, accurate to the minute, does not show that the manifest arrived."""
    world = World(1)
    (series,) = world.deliver()
    whole = world.source.sets.pop(series)
    assert world.left(world.run()) == 0
    world.source.sets[series] = whole
    world.run()
    assert world.accepted() == [("s00000", 1)]
    made = world.source.calls.made
    world.run()
    assert world.source.calls.made == made


def test_data_whose_manifest_goes_later_is_announced_as_gone() -> None:
    """The ledger's entry is that of an empty period before and after."""
    world = World(1)
    (series,) = world.deliver()
    world.run()
    thing = next(one for key, one in world.setting.world.things.items() if key[:2] == ("s00000", "export"))
    thing.periods = {series.period: EMPTY}
    del world.source.sets[series]
    assert [world.left(world.run()) for _ in range(2)] == [0, 0]
    world.source.sets[series] = FileSet("memory://", (), world.setting.clock.now())
    world.run()
    assert world.source.chain()[-1].data.delta.gone == ("s00000/0",)
    made = world.source.calls.made
    world.run()
    assert world.source.calls.made == made


def test_topic_that_refuses_for_a_day_loses_nothing() -> None:
    """The documents are stored meanwhile; afterwards the topic gets each of them, in order."""
    world = World(1)
    world.source.topic.refusal = Denied("access-denied", "no", "Grant it.")
    for _ in range(3):
        world.deliver()
        assert world.left(world.run()) == 1
    assert [one.data.sequence for one in world.source.chain()] == [1, 2, 3]
    level, _, fields = world.setting.events("delivery-unannounced")[-1]
    assert (level, fields["code"]) == ("warning", "access-denied")
    assert "Grant it." in fields["reason"]
    world.source.topic.refusal = None
    assert world.left(world.run()) == 0
    assert world.accepted() == [("s00000", 1), ("s00000", 2), ("s00000", 3)]


def test_deleted_data_is_announced_once() -> None:
    """The document says which files are gone; a period that never held data has none."""
    world = World(2)
    first, _ = world.deliver()
    world.run()
    thing = next(one for key, one in world.setting.world.things.items() if key[:2] == ("s00000", "export"))
    thing.periods = {first.period: EMPTY, "2020-01": EMPTY}
    world.source.sets[first] = FileSet("memory://", (), world.setting.clock.now())
    world.run()
    made = world.source.calls.made
    world.run()
    assert world.source.calls.made == made
    gone = world.source.chain()[1]
    assert (gone.data.scope, gone.data.delta.gone) == ("s00000", ("s00000/0",))
    assert len(world.source.chain()) == 3


@pytest.mark.parametrize("document", ["", DELIVERIES])
def test_failure_to_note_announcements_repeats_them_under_the_same_ids(document: str) -> None:
    """Neither the state nor the ledger is needed to announce."""
    world = World(1)
    world.deliver()

    def refuse() -> None:
        world.setting.store.faults[f"save {document}".strip()] = Transient("busy", "later")

    world.source.calls.before[world.source.calls.made + 1] = refuse
    world.run()
    world.setting.store.faults = {}
    world.run()
    world.run()
    assert world.accepted() == [("s00000", 1)]
    assert list(decode(world.setting.store.documents[DELIVERIES], "memory").unannounced()) == []


@given(st.integers(1, 12), st.booleans())
@hypothesis_settings(max_examples=40, deadline=None)
def test_run_that_is_killed_while_it_announces_loses_nothing(call: int, before: bool) -> None:
    """The next run announces the rest."""
    world = World()
    world.deliver()

    def kill() -> None:
        raise Killed

    (world.source.calls.before if before else world.source.calls.after)[call] = kill
    try:
        world.setting.run()
    except Killed:
        world.setting.clock.advance(3600)
    world.source.calls.before, world.source.calls.after = {}, {}
    world.run()
    assert sorted(world.accepted()) == [("s00000", 1), ("s00001", 1)]


@given(st.data())
@hypothesis_settings(max_examples=60, deadline=None)
def test_events_lost_doubled_and_reordered_give_the_same_deltas(data: st.DataObject) -> None:
    """What readers get at the end of the day is the same, and every chain is whole."""
    world = World()
    for _ in range(data.draw(st.integers(1, 4))):
        named = world.deliver()
        events = data.draw(st.lists(st.sampled_from(named), max_size=6))
        half = data.draw(st.integers(0, len(events)))
        world.announcer().announce_named(events[:half])
        if data.draw(st.booleans()):
            world.run()
        world.announcer().announce_named(events[half:])
    world.run()
    for series, found in world.source.sets.items():
        current = world.source.current(series)
        assert current.newest is not None
        assert current.newest.data.files == tuple(sorted(found.files))
        chain = [one for one in world.source.chain() if one.data.scope == series.scope]
        assert [one.data.previous and one.data.previous.id for one in chain] == [None, *(one.id for one in chain[:-1])]
        accepted = [one.id for _, _, one in world.source.topic.accepted if one.data.scope == series.scope]
        assert list(dict.fromkeys(accepted)) == [one.id for one in chain]


def test_first_run_that_announces_begins_with_what_was_delivered_before() -> None:
    """A reader that begins now finds every month."""
    world = World()
    announcing, world.setting.announcer = world.setting.announcer, None
    world.deliver()
    world.run()
    world.setting.announcer = announcing
    world.run()
    assert sorted(world.accepted()) == [("s00000", 1), ("s00001", 1)]


def test_dry_run_announces_nothing() -> None:
    """It writes nothing at all."""
    world = World()
    world.deliver()
    world.setting.run(dry_run=True)
    assert (world.accepted(), world.source.chain()) == ([], [])


def test_defect_of_a_cloud_does_not_fail_the_run() -> None:
    """It is reported like any failure."""
    world = World(1)
    (series,) = world.deliver()
    world.source.failures[series] = NotFound("no-bucket", "the bucket is gone")
    assert world.left(world.run()) == 1
    world.source.failures[series] = ValueError("a defect")  # type: ignore[assignment]  # no cloud raises it on purpose
    assert world.left(world.run()) == 1
    assert [fields["code"] for _, _, fields in world.setting.events("delivery-unannounced")] == [
        "no-bucket",
        "internal-error",
    ]


def test_periods_beyond_the_most_of_a_run_are_left_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted, and the run ends in time."""
    assert AT_ONCE == 2000
    monkeypatch.setattr("shared.deliveries.announce.AT_ONCE", 2)
    world = World(3)
    world.deliver()
    assert [world.left(world.run()) for _ in range(2)] == [1, 0]
    assert len(world.accepted()) == 3


def test_periods_of_another_length_are_not_announced() -> None:
    """A cloud's deliveries are for months, or for days."""
    world = World(1)
    (series,) = world.deliver()
    thing = next(one for key, one in world.setting.world.things.items() if key[:2] == ("s00000", "export"))
    month = thing.periods[series.period]
    thing.periods = {**thing.periods, f"{series.period}-01": month}
    assert world.left(world.run()) == 0
    assert world.source.looked_at == [series]
