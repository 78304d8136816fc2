"""One run's session with the ledger of deliveries: what it notes, and what becomes of it when saving fails."""

from __future__ import annotations

import zlib
from datetime import timedelta

import pytest

from shared.model import Present
from shared.periods import Period
from shared.state.deliveries import DELIVERIES, Ledger, decode
from shared.state.delivery_session import CONFLICTS, DeliverySession
from shared.state.store import Blob, Conflict
from tests.inmemory import InMemoryStore
from tests.shared.builders import START, Recorder, key

OWNER = "org-1"
PERIOD = Period(1, 10, START, START)


class Fixture:
    """A store, and a session that has noted one period of one dataset."""

    def __init__(self, name: str = "focus/daily", period: str = "2025-12") -> None:
        self.store = InMemoryStore()
        self.recorder = Recorder()
        self.session = DeliverySession(self.store, self.recorder.run)
        self.session.note({key("s1", "export", name): Present(periods={period: PERIOD})})

    def stored(self) -> Ledger:
        """Return the stored ledger."""
        return decode(self.store.documents[DELIVERIES], "memory", OWNER)


def test_dataset_of_a_target_is_its_name_up_to_the_first_slash() -> None:
    """Targets that deliver parts of one dataset share its periods."""
    fixture = Fixture()
    assert fixture.session.save(OWNER)
    assert fixture.stored().periods("s1", "focus") == {"2025-12": PERIOD}


def test_what_was_saved_is_not_noted_any_more() -> None:
    """The digest says whether anything is left to save, and announcing changes it."""
    fixture = Fixture()
    noted = fixture.session.digest()
    assert noted
    assert not noted.startswith("+")
    fixture.session.announcing = True
    assert fixture.session.digest() == f"+{noted}"
    assert fixture.session.save(OWNER)
    assert fixture.session.digest() == ""


def test_saving_drops_periods_that_are_too_old() -> None:
    """Otherwise the ledger would only grow."""
    fixture = Fixture(period="2018-01")
    fixture.session.note({key("s1", "export", "focus"): Present(periods={"2025-12": PERIOD})})
    assert fixture.session.save(OWNER)
    assert list(fixture.stored().periods("s1", "focus")) == ["2025-12"]


def test_newer_ledger_has_not_all_that_was_noted() -> None:
    """The caller learns it, and observes the same again."""
    fixture = Fixture()
    fixture.store.replace(zlib.compress(b'{"version":99}\n'), DELIVERIES)
    assert not fixture.session.save(OWNER)


def test_ledger_that_could_not_be_read_again_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of exactly the limit is written; a larger one is a warning, and the caller learns it."""
    fixture = Fixture()
    assert fixture.session.save(OWNER)
    size = len(fixture.store.documents.pop(DELIVERIES))
    for limit, written in ((size, True), (size - 1, False)):
        fixture = Fixture()
        monkeypatch.setattr("shared.state.delivery_session.SIZE_LIMIT", limit)
        assert fixture.session.save(OWNER) is written
        assert (DELIVERIES in fixture.store.documents) is written
        assert fixture.recorder.events() == ([] if written else ["deliveries-unsaved"])


@pytest.mark.parametrize("others", [1, CONFLICTS - 1, CONFLICTS])
def test_ledger_that_others_write_is_merged_in_a_few_tries(others: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they wrote is kept; if they never stop, the caller learns that it is not saved."""
    fixture = Fixture()
    save, left = fixture.store.save, list(range(others))

    def contended(data: bytes, version: str | None, document: str) -> str:
        if left:
            left.pop()
            other = Ledger("memory", OWNER)
            other.note("s2", "focus", {"2025-11": PERIOD}, START + timedelta(minutes=len(left)))
            fixture.store.replace(other.encode(START), document)
            raise Conflict
        return save(data, version, document)

    monkeypatch.setattr(fixture.store, "save", contended)
    assert fixture.session.save(OWNER) is (others < CONFLICTS)
    assert [scope for scope, _ in fixture.stored().series()] == (["s1", "s2"] if others < CONFLICTS else ["s2"])
    assert fixture.recorder.events() == ([] if others < CONFLICTS else ["deliveries-unsaved"])


def test_ledger_damaged_in_transit_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what cannot be read twice is set aside."""
    fixture = Fixture()
    assert fixture.session.save(OWNER)
    read, answers = fixture.store.load, [Blob(b"cut off", "1", 7)]
    monkeypatch.setattr(fixture.store, "load", lambda *given: answers.pop() if answers else read(*given))
    other = DeliverySession(fixture.store, fixture.recorder.run)
    other.note({key("s2", "export", "focus"): Present(periods={"2025-12": PERIOD})})
    assert other.save(OWNER)
    assert [scope for scope, _ in fixture.stored().series()] == ["s1", "s2"]
    assert fixture.store.aside == {}


def test_missing_ledger_is_not_written_for_nothing() -> None:
    """There is nothing that it would hold."""
    fixture = Fixture()
    assert fixture.session.mark_announced([], OWNER)
    assert DELIVERIES not in fixture.store.documents
