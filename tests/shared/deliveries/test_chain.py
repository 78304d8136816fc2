"""The chain of documents: stored once, in order, published at least once, whatever ends or runs in between."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.deliveries.chain import MOST_REFUSED, MOST_SKIPPED, Chain
from shared.deliveries.document import Current, DeliveryDocument, File, FileSet, Series, current_name, delta_name
from shared.errors import Denied, Permanent, Transient
from tests.shared.deliveries.memory import Calls, Killed, MemorySource, MemoryTopic, file_set
from tests.shared.setting import Setting

SERIES = Series("s1", "focus", "2026-07")
SETS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2", "33"]), max_size=3).map(
    lambda files: file_set(**files)
)


def chain(source: MemorySource, *, published: bool = True) -> Chain:
    """Return a chain as a new process has it."""
    return Chain("memory", {"topic": source.topic} if published else {}, Setting().new_run())


def append(source: MemorySource, found: FileSet, using: Chain | None = None) -> list[DeliveryDocument]:
    """Append a delivery to the chain of SERIES."""
    return (using or chain(source)).append(SERIES, source.documents(SERIES), found)


def kill() -> None:
    """End the process."""
    raise Killed


def replayed(documents: list[DeliveryDocument]) -> set[File]:
    """Return the files that a reader has who applies nothing but the deltas, in order."""
    files: dict[str, File] = {}
    for document in documents:
        new = {one.name: one for one in document.data.files}
        if document.data.previous is None:
            files = {}
        for name in document.data.delta.gone:
            del files[name]
        for name in (*document.data.delta.added, *document.data.delta.replaced):
            files[name] = new[name]
    return set(files.values())


def check(source: MemorySource, last: FileSet) -> None:
    """Check what holds of every chain that an undisturbed append has completed."""
    documents = source.chain()
    assert [one.data.sequence for one in documents] == list(range(1, len(documents) + 1))
    for before, after in itertools.pairwise(documents):
        assert after.data.previous is not None
        assert after.data.previous.id == before.id
        assert after.data.files != before.data.files
    assert replayed(documents) == set(last.files)
    if documents:
        assert source.current(SERIES) == Current({"topic": len(documents)}, documents[-1])
    first_accepted = list(dict.fromkeys(one_id for one_id, _, _ in source.topic.accepted))
    assert first_accepted == [one.id for one in documents]
    assert {key for _, key, _ in source.topic.accepted} <= {SERIES.path}


def test_deliveries_are_stored_and_published_in_order() -> None:
    """The first one has all files, each later one what changed."""
    source = MemorySource()
    for found in (file_set(a="1"), file_set(a="1", b="2"), file_set(b="3")):
        assert len(append(source, found)) == 1
    check(source, file_set(b="3"))
    assert [document for _, _, document in source.topic.accepted] == source.chain()


def test_delivery_without_news_is_neither_stored_nor_published() -> None:
    """It costs two reads."""
    source = MemorySource()
    append(source, file_set(a="1"))
    made = source.calls.made
    assert append(source, file_set(a="1")) == []
    assert source.calls.made == made + 2
    assert len(source.topic.accepted) == 1


def test_new_columns_are_news() -> None:
    """The files are the same, and the delta is empty."""
    source = MemorySource()
    append(source, file_set(a="1"))
    append(source, file_set(a="1", schema="s2"))
    assert [one.data.schema for one in source.chain()] == ["s1", "s2"]


def test_nothing_delivered_starts_no_chain() -> None:
    """An empty set is a delivery only where files were before."""
    source = MemorySource()
    assert append(source, file_set()) == []
    assert source.store.documents == {}


def test_without_a_topic_the_documents_are_stored_alone() -> None:
    """A topic that is added later gets what follows."""
    source = MemorySource()
    append(source, file_set(a="1"), chain(source, published=False))
    assert source.topic.accepted == []
    append(source, file_set(a="2"))
    assert [document.data.sequence for _, _, document in source.topic.accepted] == [2]


def test_what_the_topic_refused_is_stored_and_published_later_in_order() -> None:
    """Readers of the documents miss nothing meanwhile."""
    source = MemorySource()
    append(source, file_set(a="1"))
    source.topic.refusal = Denied("access-denied", "no")
    for number in (2, 3):
        with pytest.raises(Denied):
            append(source, file_set(a=str(number)))
    assert source.current(SERIES).published == {"topic": 1}
    assert source.current(SERIES).newest == source.chain()[2]
    source.topic.refusal = None
    append(source, file_set(a="3"))
    check(source, file_set(a="3"))


def test_topic_that_refuses_is_left_alone_for_the_rest_of_the_run() -> None:
    """Ten thousand deliveries do not make ten thousand refused calls."""
    source = MemorySource()
    source.topic.refusal = Denied("access-denied", "no")
    used = chain(source)
    for number in range(MOST_REFUSED + 5):
        with pytest.raises((Denied, Transient)):
            append(source, file_set(a=str(number)), used)
    assert source.topic.refused == MOST_REFUSED
    assert len(source.chain()) == MOST_REFUSED + 5


@given(st.lists(SETS, min_size=1, max_size=4), st.integers(1, 40), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_process_that_ends_at_any_call_loses_nothing(sets: list[FileSet], call: int, before: bool) -> None:
    """The next append completes the chain; an event may be published twice, under one id."""
    source = MemorySource()
    (source.calls.before if before else source.calls.after)[call] = kill
    for found in sets:
        with suppress(Killed):
            append(source, found)
    source.calls.before, source.calls.after = {}, {}
    append(source, sets[-1])
    check(source, sets[-1])


@given(SETS, SETS, SETS, st.integers(1, 12), st.booleans())
@settings(max_examples=300, deadline=None)
def test_two_processes_at_once_make_one_chain(
    first: FileSet, second: FileSet, third: FileSet, call: int, before: bool
) -> None:
    """Whichever is quicker: no document is overwritten, and none is published before its predecessor."""
    source = MemorySource()
    append(source, first)

    def other() -> None:
        append(source, third)

    (source.calls.before if before else source.calls.after)[source.calls.made + call] = other
    append(source, second)
    append(source, third)
    check(source, third)


def test_lost_newest_document_is_rebuilt_from_the_chain() -> None:
    """The events are published again, under the ids that they had."""
    source = MemorySource()
    for content in "123":
        append(source, file_set(a=content))
    del source.store.documents[current_name(SERIES)]
    append(source, file_set(a="4"))
    check(source, file_set(a="4"))


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"published":{"topic":-1}}', b'{"newest":{}}', b"\xff"])
def test_damaged_newest_document_is_replaced(damage: bytes) -> None:
    """The chain is completed as if it were missing."""
    source = MemorySource()
    append(source, file_set(a="1"))
    source.store.replace(damage, current_name(SERIES))
    append(source, file_set(a="2"))
    check(source, file_set(a="2"))


def test_new_chain_keeps_the_numbers_of_an_earlier_one() -> None:
    """Where old documents expired and the newest is lost, the chain begins anew, without a predecessor."""
    source = MemorySource()
    for content in "1234":
        append(source, file_set(a=content))
    for name in (current_name(SERIES), delta_name(SERIES, 1), delta_name(SERIES, 2)):
        del source.store.documents[name]
    for content in "567":
        append(source, file_set(a=content))
    begun = [one for one in source.chain() if one.data.files[0].checksum[-1] in "567"]
    assert [one.data.sequence for one in begun] == [1, 2, 5]
    assert begun[0].data.previous is None
    assert replayed(begun) == set(file_set(a="7").files)


def test_expired_documents_are_not_waited_for() -> None:
    """What expired before the topic accepted it is left out; readers see by the predecessor that it is missing."""
    source = MemorySource()
    source.topic.refusal = Transient("busy", "later")
    for content in "123":
        with pytest.raises(Transient):
            append(source, file_set(a=content))
    del source.store.documents[delta_name(SERIES, 1)]
    source.topic.refusal = None
    append(source, file_set(a="3"))
    assert [document.data.sequence for _, _, document in source.topic.accepted] == [2, 3]


def test_chain_that_is_blocked_is_an_error_with_a_remedy() -> None:
    """So many foreign documents are not passed over."""
    source = MemorySource()
    for number in range(1, MOST_SKIPPED + 2):
        source.store.replace(b"foreign", delta_name(SERIES, number))
    with pytest.raises(Permanent) as raised:
        append(source, file_set(a="1"))
    assert raised.value.code == "delivery-chain-blocked"
    assert "deltas/focus/s1/2026-07/" in raised.value.remedy


def test_endless_conflicts_end_with_an_error() -> None:
    """Another process that is always quicker is reported."""
    source = MemorySource()
    numbers = itertools.count(10)

    def quicker() -> None:
        append(source, file_set(a=str(next(numbers))))

    class Contended:
        """Lets the other process write between each read and write."""

        def load(self, limit: int, document: str = "") -> object:
            found = source.documents(SERIES).load(limit, document)
            if document.startswith("deltas/"):
                quicker()
            return found

        save: Callable[..., str] = source.documents(SERIES).save

    with pytest.raises(Transient) as raised:
        chain(source).append(SERIES, Contended(), file_set(a="1"))  # type: ignore[arg-type]  # it only delegates
    assert raised.value.code == "delivery-contended"


def test_topic_that_fails_holds_back_no_other() -> None:
    """Each gets every delivery once, in order, at its own pace."""
    source, slow = MemorySource(), MemoryTopic(Calls())
    slow.refusal = Transient("busy", "later")

    def both() -> Chain:
        return Chain("memory", {"slow": slow, "topic": source.topic}, Setting().new_run())

    for content in "12":
        with pytest.raises(Transient):
            append(source, file_set(a=content), both())
    assert [one.data.sequence for _, _, one in source.topic.accepted] == [1, 2]
    slow.refusal = None
    append(source, file_set(a="3"), both())
    for topic in (source.topic, slow):
        assert [one.data.sequence for _, _, one in topic.accepted] == [1, 2, 3]
