"""One run's session with the stored state: loading, the lock, compare-and-swap, merging."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from shared.errors import AnotherRun, CloudError, Denied, NotFound, Permanent, RunStopped, Transient
from shared.runtime.clock import VirtualClock
from shared.state.decoding import parse
from shared.state.document import SIZE_LIMIT, RunLock, RunNote, ScopeRecord, StateDocument, dump, fresh
from shared.state.session import CONFLICTS, LEASE, LONGEST_LEASE, SAVE_EVERY_S, StateSession
from shared.state.store import STATE, Blob, report_name, run_ids
from shared.target_state import TargetState
from tests.inmemory import InMemoryStore
from tests.shared.builders import START, Recorder, key, known

OWNER = "org-1"


class SharedStore:
    """A store, a clock, and the sessions of runs with them."""

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
        """Return the stored document."""
        assert self.store.data is not None
        return parse(self.store.data, "memory", self.clock.now())

    def change(self, edit: Callable[[StateDocument], None]) -> None:
        """Change the stored document as another process would."""
        document = self.stored()
        edit(document)
        self.store.replace(dump(document, self.clock.now()))


def owned(document: StateDocument, owner: str = OWNER) -> StateDocument:
    """Return the document with its owner set."""
    document.owner = owner
    return document


def learn(document: StateDocument, scope: str, at: timedelta = timedelta(0), state: str = "as-wanted") -> None:
    """Record something about a target, as a run does."""
    entry = document.scopes.setdefault(scope, ScopeRecord(at=START, targets={}))
    entry.targets["export/daily"] = TargetState(at=START + at, state=state)


# --- loading -------------------------------------------------------------------------------------


def test_missing_state_starts_a_new_document() -> None:
    """Opening the session writes nothing."""
    storage = SharedStore()
    document = storage.session().open()
    assert document == fresh("memory")
    assert storage.recorder.events() == ["state-missing"]
    assert storage.store.data is None


def test_stored_state_is_loaded() -> None:
    """A valid document causes no log line."""
    storage = SharedStore(owned(known(key("s1"))))
    document = storage.session().open()
    assert document.state_of(key("s1")) == TargetState(at=START, present=True)
    assert storage.recorder.events() == []


def test_array_of_ids_is_migrated_and_logged() -> None:
    """The ids are known immediately, and the next save writes the current format."""
    storage = SharedStore(data=b'["s1","s2"]')
    session = storage.session()
    assert list(session.open().scopes) == ["s1", "s2"]
    assert storage.recorder.events() == ["state-migrated"]
    session.lock(OWNER)
    assert (storage.stored().version, list(storage.stored().scopes), storage.store.aside) == (2, ["s1", "s2"], {})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"not a document", id="no JSON"),
        pytest.param(b'["\xff"]', id="invalid UTF-8"),
        pytest.param(b"[" * 50_000, id="deep"),
        pytest.param(b" " * (SIZE_LIMIT + 1), id="too large"),
    ],
)
def test_corrupt_state_is_set_aside_before_it_is_overwritten(data: bytes) -> None:
    """The run starts a new document; the corrupt object stays in place until its copy exists."""
    storage = SharedStore(data=data)
    session = storage.session()
    assert session.open() == fresh("memory")
    assert storage.recorder.events() == ["state-corrupt"]
    assert (storage.store.data, storage.store.aside) == (data, {})
    session.lock(OWNER)
    ((name, kept),) = storage.store.aside.items()
    assert (name.startswith("state.corrupt-"), kept) == (True, data)
    assert storage.stored().owner == OWNER
    assert name in storage.recorder.lines[-1][2]["reason"]
    session.save(release=True)
    assert len(storage.store.aside) == 1


def test_corrupt_state_that_cannot_be_overwritten_is_set_aside_once() -> None:
    """However many runs find it, there is one copy."""
    storage = SharedStore(data=b"broken")
    storage.store.faults["save"] = Denied("denied", "no")
    for _ in range(3):
        session = storage.session()
        session.open()
        with pytest.raises(RunStopped):
            session.lock(OWNER)
    assert list(storage.store.aside.values()) == [b"broken"]
    assert storage.store.data == b"broken"


def test_corrupt_state_that_cannot_be_set_aside_is_kept() -> None:
    """Without permission to copy it, the run ends and the object is unchanged."""
    storage = SharedStore(data=b"broken")
    storage.store.faults["set_aside"] = Denied("denied", "no")
    session = storage.session()
    session.open()
    with pytest.raises(Denied):
        session.lock(OWNER)
    assert (storage.store.data, session.may_write) == (b"broken", False)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Denied("denied", "the right is missing"), "state-forbidden"),
        (Transient("busy", "later"), "state-unreachable"),
    ],
)
def test_denied_or_unreachable_state_ends_the_run(fault: CloudError, code: str) -> None:
    """Neither is an empty state, so nothing is overwritten."""
    storage = SharedStore(owned(known(key("s1"))))
    before = storage.store.data
    storage.store.faults["load"] = fault
    with pytest.raises(RunStopped) as stopped:
        storage.session().open()
    assert (stopped.value.code, stopped.value.__cause__) == (code, fault)
    assert stopped.value.remedy
    assert storage.store.data == before


@pytest.mark.parametrize(
    ("data", "code"),
    [(b'{"version":3}', "state-newer"), (b'{"version":2,"cloud":"other"}', "state-foreign")],
)
def test_newer_and_foreign_states_are_refused_and_unchanged(data: bytes, code: str) -> None:
    """They are not corrupt, so they are not set aside."""
    storage = SharedStore(data=data)
    with pytest.raises(RunStopped) as stopped:
        storage.session().open()
    assert stopped.value.code == code
    assert (storage.store.data, storage.store.aside) == (data, {})


# --- the lock ------------------------------------------------------------------------------------


def held(document: StateDocument, run_id: str = "run-a", for_s: float = 60.0) -> StateDocument:
    """Return the document with a lock that another run took a minute ago."""
    document.running = RunLock(run_id, START - timedelta(minutes=1), START + timedelta(seconds=for_s))
    return document


def test_lock_has_holder_start_and_expiry() -> None:
    """The state document shows them."""
    storage = SharedStore()
    session = storage.working()
    assert storage.stored().running == RunLock(storage.recorder.run.run_id, START, START + LEASE)
    assert session.may_write
    session.save(release=True)
    assert storage.stored().running is None


def test_held_lock_refuses_another_run_and_names_the_holder() -> None:
    """The run is refused both when it loads the state and when it takes the lock; it writes nothing."""
    storage = SharedStore(owned(held(known(key("s1")))))
    before = storage.store.data
    session = storage.session()
    with pytest.raises(AnotherRun, match="run run-a has held the lock since 2026-01-04T23:59:00"):
        session.open()
    with pytest.raises(AnotherRun):
        session.lock(OWNER)
    assert (storage.store.data, session.may_write) == (before, False)


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda document: held(document, for_s=0), "it has just expired"),
        (lambda document: held(document, for_s=-1), "it has expired"),
        (lambda document: held(document, for_s=LONGEST_LEASE.total_seconds() + 1), "no run asks for so long a lease"),
        (lambda document: document.runs.append(RunNote("run-a", START, "ok")) or held(document), "its run has ended"),
    ],
)
def test_invalid_lock_is_taken_over(edit: Callable[[StateDocument], StateDocument], why: str) -> None:
    """The lock of a crashed run or a hostile lock stops no run."""
    document = owned(known(key("s1")))
    edit(document)
    storage = SharedStore(document)
    storage.working()
    running = storage.stored().running
    assert running is not None, why
    assert running.run_id == storage.recorder.run.run_id, why


def test_one_of_two_concurrent_runs_gets_the_lock() -> None:
    """The second writer has a conflict, loads the state again and is refused."""
    storage = SharedStore(owned(known(key("s1"))))
    first, second = storage.session(), storage.session()
    first.open()
    second.open()
    first.lock(OWNER)
    with pytest.raises(AnotherRun):
        second.lock(OWNER)
    assert (first.may_write, second.may_write) == (True, False)


def test_conflict_without_a_lock_is_retried_with_the_stored_state() -> None:
    """The run works with what was saved meanwhile."""
    storage = SharedStore(owned(known(key("s1"))))
    session = storage.session()
    document = session.open()
    storage.store.before_save = lambda: storage.change(lambda stored: learn(stored, "s2"))
    session.lock(OWNER)
    assert list(document.scopes) == ["s1", "s2"]
    assert list(storage.stored().scopes) == ["s1", "s2"]


def test_owner_is_verified_again_after_a_conflict() -> None:
    """A state that now has another owner is refused."""
    storage = SharedStore(owned(known(key("s1"))))
    session = storage.session()
    session.open()
    foreign = dump(owned(known(key("s9")), "org-9"), START)
    storage.store.before_save = lambda: storage.store.replace(foreign)
    with pytest.raises(RunStopped) as stopped:
        session.lock(OWNER)
    assert stopped.value.code == "state-foreign"
    assert (storage.store.data, session.may_write) == (foreign, False)


def test_state_that_becomes_corrupt_after_loading_is_set_aside() -> None:
    """Corrupt data is kept whenever it is found."""
    storage = SharedStore(owned(known(key("s1"))))
    session = storage.session()
    session.open()
    storage.store.before_save = lambda: storage.store.replace(b"broken")
    session.lock(OWNER)
    assert list(storage.store.aside.values()) == [b"broken"]
    assert storage.stored().owner == OWNER


class Contended(InMemoryStore):
    """A store into which another process writes before every save."""

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


def test_permanently_contended_lock_ends_the_run() -> None:
    """The run ends after a limited number of conflicts."""
    storage = SharedStore()
    store = storage.store = Contended(dump(owned(known(key("s1"))), START))
    session = storage.session()
    session.open()
    with pytest.raises(RunStopped) as stopped:
        session.lock(OWNER)
    assert (stopped.value.code, store.saves, session.may_write) == ("state-contended", CONFLICTS, False)


def test_denied_write_of_the_state_ends_the_run() -> None:
    """The missing permission is found before any write to the cloud."""
    storage = SharedStore(owned(known(key("s1"))))
    storage.store.faults["save"] = Denied("denied", "no")
    session = storage.session()
    session.open()
    with pytest.raises(RunStopped) as stopped:
        session.lock(OWNER)
    assert (stopped.value.code, session.may_write) == ("state-forbidden", False)
    assert stopped.value.remedy


def test_run_without_a_container_saves_once_it_exists() -> None:
    """The run may create it; state and lock are written afterwards."""
    storage = SharedStore()
    storage.store.exists = False
    session = storage.session()
    session.open()
    session.lock(OWNER)
    assert (session.may_write, storage.store.data) == (True, None)
    storage.clock.advance(SAVE_EVERY_S)
    session.heartbeat()
    assert storage.store.data is None
    storage.store.exists = True
    storage.clock.advance(SAVE_EVERY_S)
    session.heartbeat()
    assert storage.stored().running is not None
    session.save(release=True)
    assert storage.stored().running is None


def test_missing_container_is_reported_at_the_end() -> None:
    """The failure says that nothing was saved."""
    storage = SharedStore()
    storage.store.exists = False
    session = storage.working()
    with pytest.raises(NotFound):
        session.save(release=True)


def test_read_only_session_ignores_the_lock_and_writes_nothing() -> None:
    """A dry run reads the same state, whoever has the lock."""
    storage = SharedStore(owned(held(known(key("s1")))))
    before = storage.store.data
    session = storage.session(read_only=True)
    assert session.open().state_of(key("s1")) is not None
    session.lock(OWNER)
    storage.clock.advance(SAVE_EVERY_S)
    session.heartbeat()
    assert (storage.store.data, session.may_write) == (before, False)
    broken = SharedStore(data=b"broken")
    dry = broken.session(read_only=True)
    dry.open()
    dry.lock(OWNER)
    assert (broken.store.data, broken.store.aside) == (b"broken", {})


# --- saving --------------------------------------------------------------------------------------


def test_heartbeat_saves_every_thirty_seconds_and_renews_the_lock() -> None:
    """In between it makes no call; each save restarts the thirty seconds."""
    storage = SharedStore()
    session = storage.working()
    saves = []
    for second in range(1, 101):
        storage.clock.advance(1)
        learn(session.document, f"s{second}")
        before = storage.store.data
        session.heartbeat()
        if storage.store.data != before:
            saves.append(second)
            running = storage.stored().running
            assert running is not None
            assert running.until == storage.clock.now() + LEASE
            assert f"s{second}" in storage.stored().scopes
    assert saves == [30, 60, 90]
    assert SAVE_EVERY_S == 30


def test_heartbeat_does_nothing_before_the_lock_is_taken() -> None:
    """The run writes nothing, however long it takes."""
    storage = SharedStore()
    session = storage.session()
    session.open()
    storage.clock.advance(1000)
    session.heartbeat()
    assert storage.store.data is None


def test_failed_heartbeat_is_logged_and_retried_after_thirty_seconds() -> None:
    """The run continues, and does not retry at every item."""
    storage = SharedStore()
    session = storage.working()
    storage.store.faults["save"] = Transient("busy", "later")
    for _ in range(60):
        storage.clock.advance(1)
        session.heartbeat()
    assert storage.recorder.events().count("deferred") == 2
    del storage.store.faults["save"]
    learn(session.document, "s1")
    session.save(release=True)
    assert list(storage.stored().scopes) == ["s1"]


def test_state_saved_by_another_run_is_merged() -> None:
    """The stored document has the newer state of each target, and the run continues with it."""
    storage = SharedStore()
    session = storage.working()
    document = session.document
    learn(document, "s1", timedelta(minutes=1), "ours")
    learn(document, "s2", timedelta(minutes=2), "ours")
    document.runs.append(RunNote("run-ours", START, "ok"))

    def theirs(stored: StateDocument) -> None:
        learn(stored, "s2", timedelta(minutes=1), "theirs")
        learn(stored, "s3", timedelta(minutes=1), "theirs")
        stored.runs.append(RunNote("run-theirs", START, "ok"))

    storage.change(theirs)
    session.save(release=True)
    states = {scope: entry.targets["export/daily"].state for scope, entry in storage.stored().scopes.items()}
    assert states == {"s1": "ours", "s2": "ours", "s3": "theirs"}
    assert {note.run_id for note in storage.stored().runs} == {"run-ours", "run-theirs"}
    assert session.document is document
    assert list(document.scopes) == ["s1", "s2", "s3"]
    assert "state-conflict" in storage.recorder.events()


def test_permanently_contended_save_is_a_transient_error() -> None:
    """The document in memory is complete."""
    storage = SharedStore()
    store = storage.store = Contended(dump(owned(known(key("s1"))), START))
    store.contended = False
    session = storage.working()
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
def test_state_that_becomes_foreign_is_not_overwritten(blob: bytes) -> None:
    """Every further save is refused, and nothing of the foreign state is merged."""
    storage = SharedStore()
    session = storage.working()
    learn(session.document, "s1")
    storage.store.replace(blob)
    for _ in range(3):
        storage.clock.advance(SAVE_EVERY_S)
        session.heartbeat()
    for _ in range(2):
        with pytest.raises(RunStopped):
            session.save(release=True)
    assert storage.store.data == blob
    assert (list(session.document.scopes), session.document.owner) == (["s1"], OWNER)


def test_state_that_becomes_corrupt_during_the_run_is_set_aside() -> None:
    """The run's document is saved, and the corrupt object is kept as a copy."""
    storage = SharedStore()
    session = storage.working()
    learn(session.document, "s1")
    storage.store.replace(b"broken")
    session.save(release=True)
    assert list(storage.store.aside.values()) == [b"broken"]
    assert list(storage.stored().scopes) == ["s1"]


def test_state_deleted_during_the_run_is_saved_again() -> None:
    """The document in memory is complete."""
    storage = SharedStore()
    session = storage.working()
    learn(session.document, "s1")
    storage.store.documents.clear()
    session.save(release=True)
    assert list(storage.stored().scopes) == ["s1"]


def test_run_past_its_lock_keeps_the_lock_of_the_next_run() -> None:
    """It saves its results, but neither takes nor releases the other run's lock."""
    storage = SharedStore()
    slow = storage.working()
    learn(slow.document, "s1")
    storage.clock.advance(LEASE.total_seconds())
    quick = storage.working()
    holder = storage.recorder.run.run_id
    slow.heartbeat()
    running = storage.stored().running
    assert running is not None
    assert running.run_id == holder
    slow.save(release=True)
    running = storage.stored().running
    assert running is not None
    assert running.run_id == holder
    learn(quick.document, "s2")
    quick.save(release=True)
    assert storage.stored().running is None
    assert list(storage.stored().scopes) == ["s1", "s2"]


def test_other_error_of_the_store_is_raised() -> None:
    """An error of no special class reaches the run unchanged."""
    storage = SharedStore()
    session = storage.working()
    storage.store.faults["save"] = Permanent("broken", "no")
    with pytest.raises(Permanent):
        session.save()
    assert storage.store.load(10) == Blob(b"", "1", len(storage.store.data or b""))


# --- the age of the lock by the store's clock -----------------------------------------------------


class TwoClocks(SharedStore):
    """A store with its own clock, and runs on hosts whose clocks are off by `ahead`."""

    def __init__(self, ahead: timedelta) -> None:
        super().__init__()
        self.store_clock = VirtualClock(START)
        self.store = InMemoryStore(self.store_clock)
        self.clock = VirtualClock(START + ahead)

    def advance(self, seconds: float) -> None:
        """Advance the clocks of store and host."""
        self.store_clock.advance(seconds)
        self.clock.advance(seconds)


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(hours=1), timedelta(hours=-1), timedelta(days=400)])
def test_lock_expires_by_the_stores_clock(ahead: timedelta) -> None:
    """A run that crashes on a host with a wrong clock holds the lock for exactly its duration."""
    storage = TwoClocks(ahead)
    dead = storage.working()
    storage.clock = VirtualClock(START)  # the host of the next run has another clock
    storage.store_clock.advance(LEASE.total_seconds() - 1)
    with pytest.raises(AnotherRun):
        storage.working()
    storage.store_clock.advance(1)
    storage.working()
    running = storage.stored().running
    assert running is not None
    assert dead.document.running is not None
    assert running.run_id != dead.document.running.run_id


def test_lock_without_an_age_expires_as_written() -> None:
    """If the store cannot return the age, the expiry in the lock applies, and this is logged."""
    storage = TwoClocks(timedelta(0))
    storage.working()
    storage.store.faults["age"] = Denied("forbidden", "no right")
    storage.advance(LEASE.total_seconds() - 1)
    with pytest.raises(AnotherRun):
        storage.working()
    assert "lock-age-unknown" in storage.recorder.events()
    storage.advance(1)
    storage.working()


def test_lock_with_a_lost_response_is_released() -> None:
    """The lock was written although its response was lost: the run may save, and no run is locked out."""
    storage = TwoClocks(timedelta(0))
    session = storage.session()
    session.open()
    storage.store.lost_answers = 1
    with pytest.raises(Transient):
        session.lock(OWNER)
    assert storage.stored().running is not None
    assert session.may_write
    session.save(release=True)
    assert storage.stored().running is None


def test_run_recognizes_its_lock_after_a_lost_response() -> None:
    """A retried save conflicts with its own first write, is merged, and the lock is released."""
    storage = TwoClocks(timedelta(0))
    session = storage.working()
    learn(session.document, "s1")
    storage.store.lost_answers = 1
    with pytest.raises(Transient):
        session.save(release=True)
    session.save(release=True)
    stored = storage.stored()
    assert stored.running is None
    assert list(stored.scopes) == ["s1"]


def test_state_damaged_in_transit_is_read_again() -> None:
    """Invalid content is read a second time before it counts as corrupt."""
    storage = SharedStore(owned(known(key("s1"))))
    true, answers = storage.store.load, [Blob(b'{"version":2,', "1", 13)]
    storage.store.load = lambda limit, document=STATE: answers.pop() if answers else true(limit, document)  # type: ignore[method-assign]  # damages only the first response, which the store's faults cannot
    assert list(storage.session().open().scopes) == ["s1"]
    assert storage.store.aside == {}
    assert "state-corrupt" not in storage.recorder.events()


@pytest.mark.parametrize("data", [None, dump(owned(known(key("s1"))), START)], ids=["none", "of the limit"])
def test_intact_state_is_read_once(data: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second read is for what may have been damaged in transit; a state of exactly the limit is not too large."""
    storage = SharedStore(data=data)
    reads: list[int] = []
    read = storage.store.load

    def counted(limit: int, document: str = STATE) -> Blob:
        reads.append(limit)
        return read(limit, document)

    monkeypatch.setattr(storage.store, "load", counted)
    monkeypatch.setattr("shared.state.session.SIZE_LIMIT", len(data or b""))
    assert bool(storage.session().open().scopes) is (data is not None)
    assert len(reads) == 1


def test_state_is_set_aside_once_even_if_others_write_it() -> None:
    """What another run wrote in between is intact."""
    storage = SharedStore(data=b"broken")
    session = storage.working()
    storage.change(lambda document: learn(document, "s1"))
    session.save()
    assert list(storage.store.aside.values()) == [b"broken"]
    assert "s1" in storage.stored().scopes


def test_fact_of_a_wrong_type_is_dropped_by_the_session() -> None:
    """The provider says of which type each of its facts is."""
    memory = known(key("s1"), remembered={"seen": 7, "other": 7})
    storage = SharedStore(owned(memory))
    session = StateSession(storage.store, storage.recorder.run, facts={"seen": str})
    entry = session.open().state_of(key("s1"))
    assert entry is not None
    assert entry.facts == {"other": 7}


def test_state_under_a_former_name_of_the_owner_is_adopted() -> None:
    """Another owner's is refused."""
    storage = SharedStore(owned(fresh("memory"), "org-0"))
    session = storage.session()
    session.open()
    with pytest.raises(RunStopped, match="belongs to"):
        session.lock(OWNER, ["org-9"])
    session.lock(OWNER, ["org-0"])
    assert storage.stored().owner == OWNER


def test_state_that_could_not_be_read_again_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The former one stays as it is, and the error says what to do; one of exactly the limit is written."""
    shared = SharedStore(owned(fresh("memory")))
    session = shared.working()
    learn(session.document, "s1")
    size = len(dump(session.document, shared.clock.now()))
    monkeypatch.setattr("shared.state.session.SIZE_LIMIT", size)
    session.save()
    assert "s1" in shared.stored().scopes
    before = shared.store.data
    monkeypatch.setattr("shared.state.session.SIZE_LIMIT", size - 1)
    with pytest.raises(Permanent, match="the state has") as raised:
        session.save()
    assert raised.value.code == "state-too-large"
    assert "more than once" in raised.value.remedy
    assert shared.store.data == before


def test_refused_run_is_shown_until_when_the_lock_is_held() -> None:
    """By the store's clock: the age of the state, counted from now."""
    shared = SharedStore(owned(fresh("memory")))
    shared.working()
    shared.clock.advance(60)
    with pytest.raises(AnotherRun) as raised:
        shared.session().open()
    assert (START + LEASE).isoformat() in str(raised.value)
    storage = TwoClocks(timedelta(hours=1))
    storage.working()
    storage.advance(60)
    with pytest.raises(AnotherRun) as raised:
        storage.session().open()
    assert (START + timedelta(hours=1) + LEASE).isoformat() in str(raised.value)


def test_document_of_the_oldest_form_gets_the_cloud_of_its_function() -> None:
    """It names none."""
    shared = SharedStore(data=b'["s1"]')
    assert shared.session().open().cloud == "memory"


def test_saving_drops_what_is_too_old() -> None:
    """Otherwise a document would only grow."""
    shared = SharedStore(owned(fresh("memory")))
    session = shared.working()
    learn(session.document, "s1", at=-timedelta(days=91))
    session.save()
    assert shared.stored().scopes["s1"].targets == {}


def test_report_is_stored_whole() -> None:
    """It comes in pieces, so that a large one is in memory once."""
    shared = SharedStore()
    shared.working().store_report(iter((b"{", b"}")))
    assert list(shared.store.reports.values()) == [b"{}"]


def test_reports_of_runs_are_found_by_their_names() -> None:
    """Other files, files in folders below, and older runs are left out; the oldest comes first."""
    names = [report_name("20260103"), report_name("20260102"), report_name("20260101")]
    names += ["runs/20260104.txt", "runs/20260104/part.json"]
    assert run_ids(names, "20260102") == ["20260102", "20260103"]
