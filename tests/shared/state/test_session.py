"""One run's memory and the stored blob: loading, the lock, compare-and-swap, merging."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from shared.errors import AnotherRun, CloudError, Denied, NotFound, Permanent, RunStopped, Transient
from shared.runtime.clock import VirtualClock
from shared.state.decoding import parse
from shared.state.document import SIZE_LIMIT, RunLock, RunNote, ScopeRecord, StateDocument, dump, fresh
from shared.state.session import CONFLICTS, LEASE, LONGEST_LEASE, SAVE_EVERY_S, StateSession
from shared.state.store import STATE, Blob
from shared.target_state import TargetState
from tests.inmemory import InMemoryStore
from tests.shared.builders import START, Recorder, key, known

OWNER = "org-1"


class Room:
    """A store, a clock, and sessions of runs over them."""

    def __init__(self, document: StateDocument | None = None, data: bytes | None = None) -> None:
        self.store = InMemoryStore()
        self.clock = VirtualClock(START)
        self.recorder = Recorder(self.clock)
        self.seed = 1
        if document is not None:
            self.store.replace(dump(document, START))
        if data is not None:
            self.store.replace(data)

    def session(self, *, read_only: bool = False) -> StateSession:
        """Return the session of a new run."""
        self.seed += 1
        self.recorder = Recorder(self.clock, seed=self.seed)
        return StateSession(self.store, self.recorder.run, read_only=read_only)

    def working(self) -> StateSession:
        """Return the session of a run that holds the lock."""
        session = self.session()
        session.open()
        session.lock(OWNER)
        return session

    def stored(self) -> StateDocument:
        """Return the memory as it is stored."""
        assert self.store.data is not None
        return parse(self.store.data, "memory", self.clock.now())

    def change(self, edit: Callable[[StateDocument], None]) -> None:
        """Somebody else changes the stored memory."""
        document = self.stored()
        edit(document)
        self.store.replace(dump(document, self.clock.now()))


def owned(document: StateDocument, owner: str = OWNER) -> StateDocument:
    """Return the memory with its owner set."""
    document.owner = owner
    return document


def learn(document: StateDocument, scope: str, at: timedelta = timedelta(0), state: str = "as-wanted") -> None:
    """A run notes something about a target."""
    entry = document.scopes.setdefault(scope, ScopeRecord(at=START, targets={}))
    entry.targets["export/daily"] = TargetState(at=START + at, state=state)


# --- loading -------------------------------------------------------------------------------------


def test_missing_is_a_cold_start() -> None:
    """Without a blob everything begins anew; opening writes nothing."""
    room = Room()
    document = room.session().open()
    assert document == fresh("memory")
    assert room.recorder.events() == ["state-missing"]
    assert room.store.data is None


def test_what_is_stored_is_read() -> None:
    """A good blob is taken as it is, without a word."""
    room = Room(owned(known(key("s1"))))
    document = room.session().open()
    assert document.state_of(key("s1")) == TargetState(at=START, present=True)
    assert room.recorder.events() == []


def test_the_oldest_form_is_migrated_and_said() -> None:
    """The ids are known at once; the next save writes the present form."""
    room = Room(data=b'["s1","s2"]')
    session = room.session()
    assert list(session.open().scopes) == ["s1", "s2"]
    assert room.recorder.events() == ["state-migrated"]
    session.lock(OWNER)
    assert (room.stored().version, list(room.stored().scopes), room.store.aside) == (2, ["s1", "s2"], {})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"not a document", id="no JSON"),
        pytest.param(b'["\xff"]', id="invalid UTF-8"),
        pytest.param(b"[" * 50_000, id="deep"),
        pytest.param(b" " * (SIZE_LIMIT + 1), id="too large"),
    ],
)
def test_corrupt_is_set_aside_before_it_is_overwritten(data: bytes) -> None:
    """The run begins anew, but what lay there is kept under a dated name, and stays until then."""
    room = Room(data=data)
    session = room.session()
    assert session.open() == fresh("memory")
    assert room.recorder.events() == ["state-corrupt"]
    assert (room.store.data, room.store.aside) == (data, {})
    session.lock(OWNER)
    assert room.store.aside == {"state.corrupt-20260105T000000Z.json": data}
    assert room.stored().owner == OWNER
    assert "state.corrupt-20260105T000000Z.json" in room.recorder.lines[-1][2]["reason"]
    session.save(release=True)
    assert len(room.store.aside) == 1


def test_what_cannot_be_set_aside_is_not_overwritten() -> None:
    """Without the right to keep the corrupt blob the run ends, and the blob is as it was."""
    room = Room(data=b"broken")
    room.store.faults["set_aside"] = Denied("denied", "no")
    session = room.session()
    session.open()
    with pytest.raises(Denied):
        session.lock(OWNER)
    assert (room.store.data, session.may_write) == (b"broken", False)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Denied("denied", "the right is missing"), "state-forbidden"),
        (Transient("busy", "later"), "state-unreachable"),
    ],
)
def test_forbidden_and_unreachable_end_the_run(fault: CloudError, code: str) -> None:
    """Neither is taken for an empty state: nothing is written over what cannot be read."""
    room = Room(owned(known(key("s1"))))
    before = room.store.data
    room.store.faults["load"] = fault
    with pytest.raises(RunStopped) as stopped:
        room.session().open()
    assert (stopped.value.code, stopped.value.__cause__) == (code, fault)
    assert stopped.value.remedy
    assert room.store.data == before


@pytest.mark.parametrize(
    ("data", "code"),
    [(b'{"version":3}', "state-newer"), (b'{"version":2,"cloud":"other"}', "state-foreign")],
)
def test_newer_and_foreign_states_are_refused_and_left_as_they_are(data: bytes, code: str) -> None:
    """They are not corrupt: they are not set aside either."""
    room = Room(data=data)
    with pytest.raises(RunStopped) as stopped:
        room.session().open()
    assert stopped.value.code == code
    assert (room.store.data, room.store.aside) == (data, {})


# --- the lock ------------------------------------------------------------------------------------


def held(document: StateDocument, run_id: str = "run-a", for_s: float = 60.0) -> StateDocument:
    """Return the memory with a lock that another run took a minute ago."""
    document.running = RunLock(run_id, START - timedelta(minutes=1), START + timedelta(seconds=for_s))
    return document


def test_the_lock_is_written_with_holder_and_expiry() -> None:
    """Who holds it, since when, and when it expires by itself can be read in the state."""
    room = Room()
    session = room.working()
    assert room.stored().running == RunLock(room.recorder.run.run_id, START, START + LEASE)
    assert session.may_write
    session.save(release=True)
    assert room.stored().running is None


def test_a_held_lock_refuses_a_second_run_and_names_the_holder() -> None:
    """It is refused when it looks first, and when it tries to take the lock; nothing is written."""
    room = Room(owned(held(known(key("s1")))))
    before = room.store.data
    session = room.session()
    with pytest.raises(AnotherRun, match="run run-a has held the lock since 2026-01-04T23:59:00"):
        session.open()
    with pytest.raises(AnotherRun):
        session.lock(OWNER)
    assert (room.store.data, session.may_write) == (before, False)


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda document: held(document, for_s=0), "it has just expired"),
        (lambda document: held(document, for_s=-1), "it has expired"),
        (lambda document: held(document, for_s=LONGEST_LEASE.total_seconds() + 1), "no run asks for so long a lease"),
        (lambda document: document.runs.append(RunNote("run-a", START, "ok")) or held(document), "its run has ended"),
    ],
)
def test_a_lock_that_is_not_valid_is_taken_over(edit: Callable[[StateDocument], StateDocument], why: str) -> None:
    """A crashed run, or a state with a hostile lock, keeps nobody out."""
    document = owned(known(key("s1")))
    edit(document)
    room = Room(document)
    room.working()
    running = room.stored().running
    assert running is not None, why
    assert running.run_id == room.recorder.run.run_id, why


def test_of_two_runs_that_start_together_one_gets_the_lock() -> None:
    """The one whose write came second sees the conflict, looks again and is refused."""
    room = Room(owned(known(key("s1"))))
    first, second = room.session(), room.session()
    first.open()
    second.open()
    first.lock(OWNER)
    with pytest.raises(AnotherRun):
        second.lock(OWNER)
    assert (first.may_write, second.may_write) == (True, False)


def test_a_conflict_without_a_lock_is_tried_again_with_what_is_stored_then() -> None:
    """What was saved in between is part of the memory that the run then works with."""
    room = Room(owned(known(key("s1"))))
    session = room.session()
    document = session.open()
    room.store.before_save = lambda: room.change(lambda stored: learn(stored, "s2"))
    session.lock(OWNER)
    assert list(document.scopes) == ["s1", "s2"]
    assert list(room.stored().scopes) == ["s1", "s2"]


def test_a_state_that_became_another_owners_in_between_is_not_taken() -> None:
    """The owner is checked again after a conflict."""
    room = Room(owned(known(key("s1"))))
    session = room.session()
    session.open()
    foreign = dump(owned(known(key("s9")), "org-9"), START)
    room.store.before_save = lambda: room.store.replace(foreign)
    with pytest.raises(RunStopped) as stopped:
        session.lock(OWNER)
    assert stopped.value.code == "state-foreign"
    assert (room.store.data, session.may_write) == (foreign, False)


def test_a_state_that_became_corrupt_in_between_is_set_aside_too() -> None:
    """Corrupt data is kept whenever it is found, not only at the start."""
    room = Room(owned(known(key("s1"))))
    session = room.session()
    session.open()
    room.store.before_save = lambda: room.store.replace(b"broken")
    session.lock(OWNER)
    assert list(room.store.aside.values()) == [b"broken"]
    assert room.stored().owner == OWNER


class Contended(InMemoryStore):
    """A store into which somebody else writes before every save."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.replace(data)
        self.contended = True
        self.saves = 0

    def save(self, data: bytes, version: str | None, document: str = STATE) -> str:
        self.saves += 1
        if self.contended:
            self.replace(self.data or b"")
        return super().save(data, version, document)


def test_a_lock_that_is_contended_for_ever_ends_the_run() -> None:
    """After so many conflicts the run stops, and says so."""
    room = Room()
    store = room.store = Contended(dump(owned(known(key("s1"))), START))
    session = room.session()
    session.open()
    with pytest.raises(RunStopped) as stopped:
        session.lock(OWNER)
    assert (stopped.value.code, store.saves, session.may_write) == ("state-contended", CONFLICTS, False)


def test_a_state_that_may_not_be_written_ends_the_run() -> None:
    """The right to write is found missing before anything is done in the cloud."""
    room = Room(owned(known(key("s1"))))
    room.store.faults["save"] = Denied("denied", "no")
    session = room.session()
    session.open()
    with pytest.raises(RunStopped) as stopped:
        session.lock(OWNER)
    assert (stopped.value.code, session.may_write) == ("state-forbidden", False)
    assert stopped.value.remedy


def test_without_a_container_the_run_goes_on_and_saves_once_it_is_there() -> None:
    """The run may be about to create it: memory and lock are written as soon as that is done."""
    room = Room()
    room.store.exists = False
    session = room.session()
    session.open()
    session.lock(OWNER)
    assert (session.may_write, room.store.data) == (True, None)
    room.clock.advance(SAVE_EVERY_S)
    session.heartbeat()
    assert room.store.data is None
    room.store.exists = True
    room.clock.advance(SAVE_EVERY_S)
    session.heartbeat()
    assert room.stored().running is not None
    session.save(release=True)
    assert room.stored().running is None


def test_a_container_that_never_appears_is_a_failure_to_save() -> None:
    """The end of the run says that nothing was kept."""
    room = Room()
    room.store.exists = False
    session = room.working()
    with pytest.raises(NotFound):
        session.save(release=True)


def test_a_read_only_session_minds_no_lock_and_never_writes() -> None:
    """A dry run looks at the same memory, whoever holds the lock and whatever lies there."""
    room = Room(owned(held(known(key("s1")))))
    before = room.store.data
    session = room.session(read_only=True)
    assert session.open().state_of(key("s1")) is not None
    session.lock(OWNER)
    room.clock.advance(SAVE_EVERY_S)
    session.heartbeat()
    assert (room.store.data, session.may_write) == (before, False)
    broken = Room(data=b"broken")
    dry = broken.session(read_only=True)
    dry.open()
    dry.lock(OWNER)
    assert (broken.store.data, broken.store.aside) == (b"broken", {})


# --- saving --------------------------------------------------------------------------------------


def test_the_heartbeat_saves_every_thirty_seconds_and_renews_the_lock() -> None:
    """Between, it costs nothing; each save counts the thirty seconds anew."""
    room = Room()
    session = room.working()
    saves = []
    for second in range(1, 101):
        room.clock.advance(1)
        learn(session.document, f"s{second}")
        before = room.store.data
        session.heartbeat()
        if room.store.data != before:
            saves.append(second)
            running = room.stored().running
            assert running is not None
            assert running.until == room.clock.now() + LEASE
            assert f"s{second}" in room.stored().scopes
    assert saves == [30, 60, 90]
    assert SAVE_EVERY_S == 30


def test_the_heartbeat_does_nothing_before_the_lock() -> None:
    """A run that has not been let in yet writes nothing, however long it takes."""
    room = Room()
    session = room.session()
    session.open()
    room.clock.advance(1000)
    session.heartbeat()
    assert room.store.data is None


def test_a_heartbeat_that_fails_waits_for_the_next_one() -> None:
    """The run goes on; it is said, and tried again thirty seconds later, not at every item."""
    room = Room()
    session = room.working()
    room.store.faults["save"] = Transient("busy", "later")
    for _ in range(60):
        room.clock.advance(1)
        session.heartbeat()
    assert room.recorder.events().count("deferred") == 2
    del room.store.faults["save"]
    learn(session.document, "s1")
    session.save(release=True)
    assert list(room.stored().scopes) == ["s1"]


def test_what_somebody_else_saved_in_between_is_merged_not_overwritten() -> None:
    """Both runs' knowledge is stored, the newer of each target, and the run works on with it."""
    room = Room()
    session = room.working()
    document = session.document
    learn(document, "s1", timedelta(minutes=1), "ours")
    learn(document, "s2", timedelta(minutes=2), "ours")
    document.runs.append(RunNote("run-ours", START, "ok"))

    def theirs(stored: StateDocument) -> None:
        learn(stored, "s2", timedelta(minutes=1), "theirs")
        learn(stored, "s3", timedelta(minutes=1), "theirs")
        stored.runs.append(RunNote("run-theirs", START, "ok"))

    room.change(theirs)
    session.save(release=True)
    states = {scope: entry.targets["export/daily"].state for scope, entry in room.stored().scopes.items()}
    assert states == {"s1": "ours", "s2": "ours", "s3": "theirs"}
    assert {note.run_id for note in room.stored().runs} == {"run-ours", "run-theirs"}
    assert session.document is document
    assert list(document.scopes) == ["s1", "s2", "s3"]
    assert "state-conflict" in room.recorder.events()


def test_a_save_that_is_contended_for_ever_is_given_up() -> None:
    """It fails as something that passes; the memory in hand is still whole."""
    room = Room()
    store = room.store = Contended(dump(owned(known(key("s1"))), START))
    store.contended = False
    session = room.working()
    store.contended, store.saves = True, 0
    with pytest.raises(Transient) as raised:
        session.save(release=True)
    assert (raised.value.code, store.saves) == ("state-contended", CONFLICTS)
    assert session.document.state_of(key("s1")) is not None


@pytest.mark.parametrize(
    "blob",
    [
        pytest.param(b'{"version":3,"note":"newer"}', id="a newer format"),
        pytest.param(b'{"version":2,"cloud":"other"}', id="another cloud's"),
        pytest.param(dump(owned(known(key("s9")), "org-9"), START), id="another owner's"),
    ],
)
def test_a_state_that_is_not_ours_any_more_is_never_overwritten(blob: bytes) -> None:
    """However often the run tries to save, what somebody else put there stays, and nothing of it is taken over."""
    room = Room()
    session = room.working()
    learn(session.document, "s1")
    room.store.replace(blob)
    for _ in range(3):
        room.clock.advance(SAVE_EVERY_S)
        session.heartbeat()
    for _ in range(2):
        with pytest.raises(RunStopped):
            session.save(release=True)
    assert room.store.data == blob
    assert (list(session.document.scopes), session.document.owner) == (["s1"], OWNER)


def test_a_state_that_becomes_corrupt_while_the_run_works_is_set_aside() -> None:
    """What the run knows is saved, and the corrupt blob is kept."""
    room = Room()
    session = room.working()
    learn(session.document, "s1")
    room.store.replace(b"broken")
    session.save(release=True)
    assert list(room.store.aside.values()) == [b"broken"]
    assert list(room.stored().scopes) == ["s1"]


def test_a_state_that_vanishes_while_the_run_works_is_written_anew() -> None:
    """Losing the blob costs nothing while somebody has it in memory."""
    room = Room()
    session = room.working()
    learn(session.document, "s1")
    room.store.documents.clear()
    session.save(release=True)
    assert list(room.stored().scopes) == ["s1"]


def test_a_run_that_overstayed_its_lease_leaves_the_lock_to_the_next_one() -> None:
    """It saves what it learnt, but neither takes the other's lock back nor ends it."""
    room = Room()
    slow = room.working()
    learn(slow.document, "s1")
    room.clock.advance(LEASE.total_seconds())
    quick = room.working()
    holder = room.recorder.run.run_id
    slow.heartbeat()
    running = room.stored().running
    assert running is not None
    assert running.run_id == holder
    slow.save(release=True)
    running = room.stored().running
    assert running is not None
    assert running.run_id == holder
    learn(quick.document, "s2")
    quick.save(release=True)
    assert room.stored().running is None
    assert list(room.stored().scopes) == ["s1", "s2"]


def test_a_store_that_fails_otherwise_is_not_hidden() -> None:
    """A failure of no special class reaches the run as it is."""
    room = Room()
    session = room.working()
    room.store.faults["save"] = Permanent("broken", "no")
    with pytest.raises(Permanent):
        session.save()
    assert room.store.load(10) == Blob(b"", "1", len(room.store.data or b""))


# --- the lease by the store's clock ---------------------------------------------------------------


class TwoClocks(Room):
    """A store with a clock of its own, and runs on hosts whose clocks are off by `ahead`."""

    def __init__(self, ahead: timedelta) -> None:
        super().__init__()
        self.store_clock = VirtualClock(START)
        self.store = InMemoryStore(self.store_clock)
        self.clock = VirtualClock(START + ahead)

    def advance(self, seconds: float) -> None:
        """Time passes for the store and the host."""
        self.store_clock.advance(seconds)
        self.clock.advance(seconds)


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(hours=1), timedelta(hours=-1), timedelta(days=400)])
def test_a_lease_is_judged_by_the_stores_own_clock(ahead: timedelta) -> None:
    """A run that dies on a host whose clock is wrong holds the lock for the lease's length: no longer, no shorter."""
    room = TwoClocks(ahead)
    dead = room.working()
    room.clock = VirtualClock(START)  # the next run's host has another clock
    room.store_clock.advance(LEASE.total_seconds() - 1)
    with pytest.raises(AnotherRun):
        room.working()
    room.store_clock.advance(1)
    room.working()
    running = room.stored().running
    assert running is not None
    assert dead.document.running is not None
    assert running.run_id != dead.document.running.run_id


def test_a_store_that_does_not_say_is_judged_by_the_written_expiry() -> None:
    """Where the age cannot be read, the expiry in the lock counts, and the log says so."""
    room = TwoClocks(timedelta(0))
    room.working()
    room.store.faults["age"] = Denied("forbidden", "no right")
    room.advance(LEASE.total_seconds() - 1)
    with pytest.raises(AnotherRun):
        room.working()
    assert "lock-age-unknown" in room.recorder.events()
    room.advance(1)
    room.working()


def test_a_lock_whose_answer_was_lost_is_given_back() -> None:
    """The write arrived although its answer did not: the run may save, and its own lock keeps nobody out."""
    room = TwoClocks(timedelta(0))
    session = room.session()
    session.open()
    room.store.lost_answers = 1
    with pytest.raises(Transient):
        session.lock(OWNER)
    assert room.stored().running is not None
    assert session.may_write
    session.save(release=True)
    assert room.stored().running is None


def test_a_run_recognizes_its_own_lock_after_a_lost_answer() -> None:
    """A save whose answer was lost conflicts with itself when it is tried again: it is merged, and released."""
    room = TwoClocks(timedelta(0))
    session = room.working()
    learn(session.document, "s1")
    room.store.lost_answers = 1
    with pytest.raises(Transient):
        session.save(release=True)
    session.save(release=True)
    stored = room.stored()
    assert stored.running is None
    assert list(stored.scopes) == ["s1"]


def test_an_answer_that_was_damaged_on_its_way_sets_nothing_aside() -> None:
    """What is no document is read once more before it counts as corrupt."""
    room = Room(owned(known(key("s1"))))
    true, answers = room.store.load, [Blob(b'{"version":2,', "1", 13)]
    room.store.load = lambda limit, document=STATE: answers.pop() if answers else true(limit, document)  # type: ignore[method-assign]  # the first answer alone is damaged, which no fault of the store offers
    assert list(room.session().open().scopes) == ["s1"]
    assert room.store.aside == {}
    assert "state-corrupt" not in room.recorder.events()
