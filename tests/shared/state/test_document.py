"""The state document: its content, what it refuses, and merging."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import RunStopped
from shared.state.decoding import FACTS_DEPTH, CorruptState, is_document, parse
from shared.state.document import (
    RUNS_KEPT,
    VERSION,
    RunLock,
    RunNote,
    ScopeRecord,
    StateDocument,
    check_owner,
    dump,
    fresh,
    merge,
    move_owner,
)
from shared.state.notices import Notice, Notices
from shared.state.update import record_run
from shared.target_state import LONG_AGO, LastError, TargetState
from tests.shared.builders import DAY, HOUR, START, key, known

AT = b'"at":"2026-01-01T00:00:00Z"'


def with_entry(fields: bytes) -> bytes:
    """Return a document with one target that has these additional fields."""
    return b'{"version":2,"scopes":{"s1":{%s,"targets":{"export/daily":{%s,%s}}}}}' % (AT, AT, fields)


def full() -> StateDocument:
    """Return a document in which every field is set."""
    entry = TargetState(
        at=START,
        present=True,
        state="as-wanted",
        since=START - DAY,
        applied_at=START - DAY,
        looked_at=START,
        verified_at=START,
        unseen_since=START - HOUR,
        delivered_at=START - HOUR,
        waiting_since=START,
        not_before=START + HOUR,
        attempts=2,
        error=LastError("denied", "no", "Grant it.", "manual", "a right", ["Grant it."], "https://console.example"),
        remembered={"types": ["a", "b"], "nested": {"id": 7}},
    )
    memory = fresh("memory")
    memory.owner, memory.cycle_since, memory.updated_at = "org-1", START - DAY, START
    memory.running = RunLock("run-2", START, START + HOUR)
    memory.runs = [RunNote("run-1", START - HOUR, "ok", 1.5, 3, 2, 1, 1)]
    memory.scopes["s1"] = ScopeRecord(START, "one", "gone", START - DAY, START, 3, START, {"export/daily": entry})
    return memory


def test_decoded_document_equals_the_encoded_one() -> None:
    """Every field is kept, and times keep their zone."""
    memory = full()
    assert parse(dump(memory, START), "memory", START) == memory


def test_encoded_document_is_readable() -> None:
    """It is indented, sorted and without default values; equal content gives equal bytes."""
    memory = known(key("s2"), key("s1"))
    text = dump(memory, START).decode()
    assert text.splitlines()[:2] == ["{", ' "cloud": "memory",']
    assert text.index('"s1"') < text.index('"s2"')
    assert '"export/daily": {' in text
    assert "attempts" not in text
    assert "null" not in text
    turned = known(key("s1"), key("s2"))
    assert dump(turned, START).decode() == text


def test_large_document_is_not_indented(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads it, and the indentation would be a quarter of it; its content is the same."""
    memory = full()
    readable = dump(memory, START)
    monkeypatch.setattr("shared.state.document.INDENTED", 100)
    compact = dump(memory, START)
    monkeypatch.setattr("shared.state.document.INDENTED", len(compact))
    assert dump(memory, START) == readable
    assert b"\n" not in compact
    assert parse(compact, "memory", START) == parse(readable, "memory", START)


def test_entries_are_found_by_key_and_the_last_success_by_status() -> None:
    """Unknown ones are None."""
    memory = full()
    assert memory.state_of(key("s1")) is memory.scopes["s1"].targets["export/daily"]
    assert memory.state_of(key("s1", name="other")) is None
    assert memory.state_of(key("s9")) is None
    assert memory.last_success() == START - HOUR
    memory.runs.append(RunNote("run-3", START, "degraded"))
    assert memory.last_success() == START - HOUR
    assert fresh("memory").last_success() is None


def test_runs_for_events_or_certain_scopes_are_no_success_and_displace_none() -> None:
    """They say nothing of the rest, and however many there are, the last success of everything is known."""
    memory = fresh("memory")
    record_run(memory, RunNote("run-0", START - DAY, "ok"))
    for number in range(2 * RUNS_KEPT):
        record_run(memory, RunNote(f"run-{number + 1}", START - HOUR, "ok", limited=True))
    kept = parse(dump(memory, START), "memory", START)
    assert len(kept.runs) == RUNS_KEPT
    assert all(note.limited for note in kept.runs)
    assert kept.last_success() == START - DAY
    assert merge(kept, fresh("memory")).last_success() == START - DAY
    record_run(kept, RunNote("run-x", START, "degraded"))
    assert kept.last_success() == START - DAY


def test_what_a_stored_document_leaves_out_has_not_changed() -> None:
    """Documents of earlier versions leave out what was the default: it is read as that."""
    at = "2026-01-01T00:00:00Z"
    scope = msgspec.convert({"at": at}, ScopeRecord)
    assert (scope.state, scope.missed, scope.counted) == ("active", 0, True)
    entry = msgspec.convert({"at": at, "facts": {"id": 7}}, TargetState)
    assert (entry.creations, entry.attempts, entry.facts) == (0, 0, {"id": 7})
    assert msgspec.convert({"id": "n", "at": at, "event": "failure.opened", "title": "t"}, Notice).count == 1
    note = msgspec.convert({"run_id": "run-1", "at": at, "status": "ok"}, RunNote)
    numbers = [one for one in msgspec.structs.astuple(note) if isinstance(one, int | float)]
    assert numbers == [0] * 13


def test_new_documents_share_no_state() -> None:
    """A change of one document does not appear in another."""
    one = fresh("memory")
    one.scopes["s1"] = ScopeRecord(at=START)
    one.runs.append(RunNote("run-1", START, "ok"))
    assert fresh("memory") == StateDocument(version=VERSION, cloud="memory")


def test_array_of_ids_is_migrated() -> None:
    """Each id becomes a scope without further knowledge, so everything is observed again."""
    memory = parse(b'["b", "a", "b", ""]', "memory", START)
    assert list(memory.scopes) == ["a", "b"]
    assert all(scope == ScopeRecord(at=START, first_seen=START) for scope in memory.scopes.values())
    assert (memory.version, memory.owner, memory.cloud) == (VERSION, "", "")
    assert parse(b"[]", "memory", START) == fresh("")
    again = parse(dump(memory, START), "memory", START)
    assert again.scopes == memory.scopes


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b'{"version":3}', "state-newer", id="the next version"),
        pytest.param(b'{"version":3,"scopes":"in another form"}', "state-newer", id="a newer form"),
        pytest.param(b'{"version":99999999999999999999999}', "state-newer", id="a huge version"),
        pytest.param(b'{"version":2,"cloud":"other"}', "state-foreign", id="another cloud's"),
        pytest.param(b'{"version":2,"cloud":"other","scopes":7}', "state-foreign", id="another cloud's, unreadable"),
    ],
)
def test_document_of_a_newer_version_or_another_cloud_is_refused(data: bytes, code: str) -> None:
    """The run ends with the reason and a remedy; the document is not treated as corrupt."""
    with pytest.raises(RunStopped) as stopped:
        parse(data, "memory", START)
    assert stopped.value.code == code
    assert stopped.value.remedy


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b" \n ", id="blanks"),
        pytest.param(b"null", id="null"),
        pytest.param(b"7", id="a number"),
        pytest.param(b'"s1"', id="a text"),
        pytest.param(b"{}", id="no version"),
        pytest.param(b'{"version":1}', id="a version that never was an object"),
        pytest.param(b'{"version":-2}', id="a negative version"),
        pytest.param(b'{"version":2.0}', id="a fractional version"),
        pytest.param(b'{"version":true}', id="a version that is no number"),
        pytest.param(b'{"version":"2"}', id="a version that is a text"),
        pytest.param(b'{"version":2', id="cut off"),
        pytest.param(b'{"version":2}{"version":2}', id="two documents"),
        pytest.param(b"\xef\xbb\xbf[]", id="byte order mark"),
        pytest.param(b"\x00" * 1000, id="zeros"),
        pytest.param(b"\xff\xfe{\x00}\x00", id="another encoding"),
        pytest.param(b'["\xff"]', id="invalid UTF-8 in an id"),
        pytest.param(b'["\xed\xa0\x80"]', id="half a character in an id"),
        pytest.param(b'["\\ud800"]', id="an escaped half character"),
        pytest.param(b'{"version":2,"owner":"\xff"}', id="invalid UTF-8 in a field"),
        pytest.param(b'["s1", 7]', id="an id that is a number"),
        pytest.param(b'[["s1"]]', id="an id that is a list"),
        pytest.param(b'{"version":2,"scopes":[]}', id="scopes as a list"),
        pytest.param(b'{"version":2,"owner":7}', id="an owner that is a number"),
        pytest.param(with_entry(b'"facts":{"x":NaN}'), id="no number"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"a":' * 100_000, id="deep objects"),
        pytest.param(b'{"version":2,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="deep in an unknown field"),
        pytest.param(with_entry(b'"facts":{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}"), id="deep facts"),
    ],
)
def test_hostile_data_is_reported_as_corrupt(data: bytes) -> None:
    """Any other content gives the same short error."""
    with pytest.raises(CorruptState) as corrupt:
        parse(data, "memory", START)
    assert 0 < len(str(corrupt.value)) <= 200


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'{"version":2,"scopes":{"\xff":{%s}}}' % AT, id="invalid UTF-8 in a key"),
        pytest.param(with_entry(b'"facts":{"x":"\xc3"}'), id="invalid UTF-8 in a fact"),
        pytest.param(b'{"version":2,"scopes":{"s1":null}}', id="a scope that is null"),
        pytest.param(b'{"version":2,"scopes":{"s1":{}}}', id="a scope without a time"),
        pytest.param(b'{"version":2,"runs":[{"run_id":"r","status":"ok"}]}', id="a run without a time"),
        pytest.param(b'{"version":2,"running":{"run_id":"r"}}', id="half a lock"),
        pytest.param(with_entry(b'"attempts":-1'), id="a negative count"),
        pytest.param(with_entry(b'"attempts":1.5'), id="a fractional count"),
        pytest.param(with_entry(b'"present":"yes"'), id="a truth that is a text"),
        pytest.param(with_entry(b'"not_before":"2026-01-01T00:00:00"'), id="a time without a zone"),
        pytest.param(with_entry(b'"not_before":"2026-13-01T00:00:00Z"'), id="a thirteenth month"),
        pytest.param(with_entry(b'"not_before":1767225600'), id="a time that is a number"),
        pytest.param(with_entry(b'"not_before":"tomorrow"'), id="a time in words"),
        pytest.param(with_entry(b'"error":{"message":"no code"}'), id="a trouble without a code"),
        pytest.param(with_entry(b'"facts":[]'), id="facts as a list"),
        pytest.param(with_entry(b'"facts":{"x":1e400}'), id="a number beyond all bounds"),
        pytest.param(with_entry(b'"facts":{"x":%s}' % (b"9" * 6000)), id="a number of many digits"),
        pytest.param(with_entry(b'"facts":{"ledger":"text"}'), id="a fact of another type"),
        pytest.param(with_entry(b'"facts":{"ledger":%s}' % (b"9" * 40)), id="a fact that is a huge number"),
        pytest.param(
            with_entry(b'"facts":{"ledger":[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}'), id="a fact of great depth"
        ),
    ],
)
def test_damaged_value_is_dropped_and_the_rest_kept(data: bytes) -> None:
    """The entry, fact or run with the value is dropped; other scopes, owner and history are kept."""
    sound = (
        b'"s0":{"at":"2026-01-05T00:00:00Z","targets":{"export/daily":{"at":"2026-01-05T00:00:00Z","present":true}}}'
    )
    history = b'{"run_id":"good","at":"2026-01-05T00:00:00Z","status":"ok"}'
    document = data.replace(b'"scopes":{', b'"scopes":{' + sound + b",")
    if b'"scopes"' not in document:
        document = document[:-1] + b',"scopes":{' + sound + b"}}"
    document = document.replace(b'"runs":[', b'"runs":[' + history + b",")
    if b'"runs"' not in document:
        document = document[:-1] + b',"runs":[' + history + b"]}"
    document = document[:-1] + b',"owner":"org-1"}'
    damaged: list[str] = []
    memory = parse(document, "memory", START, {"ledger": dict[str, int]}, damaged.append)
    found = memory.state_of(key("s0"))
    assert found is not None
    assert found.present is True
    assert memory.owner == "org-1"
    assert [note.run_id for note in memory.runs] == ["good"]
    assert memory.running is None
    assert all("ledger" not in entry.facts for scope in memory.scopes.values() for entry in scope.targets.values())
    assert parse(dump(memory, START), "memory", START).scopes == memory.scopes


def test_document_with_an_unreadable_owner_is_corrupt() -> None:
    """Its owner cannot be verified, so it is set aside and rebuilt."""
    for owner in (b"7", b'"org-\xff"', b"null"):
        with pytest.raises(CorruptState):
            parse(b'{"version":2,"owner":%s,"scopes":{}}' % owner, "memory", START)


@pytest.mark.parametrize("value", ["\ud800", 2**70])
def test_values_that_json_cannot_represent_are_saved(value: object) -> None:
    """A lone surrogate in a name and a fact beyond 64 bits are written in a form that can be read."""
    memory = known(key("s1"))
    memory.scopes["s1"].name = str(value)
    memory.scopes["s1"].targets["export/daily"] = TargetState(at=START, remembered={"value": value})
    again = parse(dump(memory, START), "memory", START)
    assert list(again.scopes) == ["s1"]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_any_bytes_are_a_document_or_refused(data: bytes) -> None:
    """No other exception is raised."""
    try:
        memory = parse(data, "memory", START)
    except (CorruptState, RunStopped):
        return
    assert parse(dump(memory, START), "memory", START).scopes == memory.scopes


def test_deeply_nested_facts_can_be_encoded_or_are_dropped() -> None:
    """Encoding never exhausts the stack."""

    def written_from_deeper(memory: StateDocument, frames: int) -> bytes:
        return dump(memory, START) if frames == 0 else written_from_deeper(memory, frames - 1)

    readable = []
    for depth in range(1, 1100):
        try:
            memory = parse(with_entry(b'"facts":{"x":' + b"[" * depth + b"]" * depth + b"}"), "memory", START)
        except CorruptState:
            continue
        if any(entry.facts for scope in memory.scopes.values() for entry in scope.targets.values()):
            readable.append(depth)
        written_from_deeper(memory, 100)
    assert readable == list(range(1, FACTS_DEPTH))


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(b'"applied_at":"0001-01-01T00:00:00+14:00"', id="before the first day"),
        pytest.param(b'"not_before":"9999-12-31T23:59:59-14:00"', id="after the last day"),
        pytest.param(b'"attempts":18446744073709551615', id="a huge count"),
        pytest.param(b'"facts":{"":"\\u0000"}', id="invalid facts"),
        pytest.param(b'"attempts":1,"attempts":2', id="a field twice"),
        pytest.param(b'"unheard_of":{"a":[1,2]}', id="an unknown field"),
    ],
)
def test_extreme_valid_documents_are_read_merged_and_written(fields: bytes) -> None:
    """Extreme values are kept; unknown fields are dropped."""
    memory = parse(with_entry(fields), "memory", START)
    again = parse(dump(merge(memory, fresh("memory")), START), "memory", START)
    assert again.scopes == memory.scopes


@pytest.mark.parametrize(
    ("remembered", "shown", "refused"),
    [("org-1", "org-1", False), ("", "org-1", False), ("org-1", "org-2", True), ("org-1", "", True)],
)
def test_document_of_another_owner_is_refused(remembered: str, shown: str, refused: bool) -> None:
    """A state document serves only its owner."""
    memory = fresh("memory")
    memory.owner = remembered
    if not refused:
        check_owner(memory, shown)
        return
    with pytest.raises(RunStopped, match="'org-1'") as stopped:
        check_owner(memory, shown)
    assert stopped.value.code == "state-foreign"


def test_history_keeps_the_last_thirty_runs() -> None:
    """They are sorted, and each is there once."""
    memory = fresh("memory")
    notes = [RunNote(f"run-{number:02}", START + number * HOUR, "ok") for number in range(40)]
    memory.runs = [*reversed(notes), notes[39]]
    assert parse(dump(memory, START), "memory", START).runs == notes[-30:]
    assert RUNS_KEPT == 30


# --- merging -------------------------------------------------------------------------------------

MOMENTS = st.integers(0, 3).map(lambda number: START + number * HOUR)
ENTRIES = st.builds(
    TargetState,
    at=MOMENTS,
    present=st.none() | st.booleans(),
    attempts=st.integers(0, 2),
    applied_at=st.none() | MOMENTS,
    remembered=st.none() | st.dictionaries(st.sampled_from("ab"), st.integers(0, 1), max_size=2),
)
SCOPES = st.builds(
    ScopeRecord,
    at=MOMENTS,
    missed=st.integers(0, 3),
    first_seen=st.none() | MOMENTS,
    gone_at=st.none() | MOMENTS,
    targets=st.dictionaries(st.sampled_from(["export/a", "role/b"]), ENTRIES, max_size=2),
)
NOTES = st.builds(RunNote, st.sampled_from(["r1", "r2", "r3"]), MOMENTS, st.sampled_from(["ok", "failed"]))
LOCKS = st.builds(RunLock, st.sampled_from(["r1", "r2", "r3"]), MOMENTS, MOMENTS)


@st.composite
def documents(draw: st.DrawFn) -> StateDocument:
    """Generate a document as a run may have saved it, with sorted and distinct runs."""
    memory = fresh("memory")
    memory.owner = draw(st.sampled_from(["", "org-1"]))
    memory.updated_at = draw(st.none() | MOMENTS)
    memory.cycle_since = draw(st.none() | MOMENTS)
    memory.running = draw(st.none() | LOCKS)
    memory.runs = draw(st.lists(NOTES, max_size=3))
    memory.scopes = draw(st.dictionaries(st.sampled_from(["s1", "s2"]), SCOPES, max_size=2))
    return parse(dump(memory, memory.updated_at or START), "memory", START)


@settings(max_examples=100, deadline=None)
@given(documents(), documents())
def test_merge_is_commutative(one: StateDocument, other: StateDocument) -> None:
    """The order of the saves does not matter."""
    assert merge(one, other) == merge(other, one)


@settings(max_examples=100, deadline=None)
@given(documents(), documents(), documents())
def test_merge_is_associative(one: StateDocument, two: StateDocument, three: StateDocument) -> None:
    """The order in which three runs merge does not matter."""
    assert merge(merge(one, two), three) == merge(one, merge(two, three))


@settings(max_examples=100, deadline=None)
@given(documents(), documents())
def test_merge_is_idempotent(one: StateDocument, other: StateDocument) -> None:
    """Repeating a merge changes nothing."""
    assert merge(one, one) == one
    merged = merge(one, other)
    assert merge(merged, other) == merged


@settings(max_examples=100, deadline=None)
@given(documents(), documents())
def test_merge_keeps_the_newest_of_each_target_and_loses_none(one: StateDocument, other: StateDocument) -> None:
    """The result has every target of both, in its newest state."""
    merged = merge(one, other)
    for scope in one.scopes.keys() | other.scopes.keys():
        both = [memory.scopes[scope] for memory in (one, other) if scope in memory.scopes]
        assert merged.scopes[scope].at == max(entry.at for entry in both)
        for name in {name for entry in both for name in entry.targets}:
            found = [entry.targets[name] for entry in both if name in entry.targets]
            kept = merged.scopes[scope].targets[name]
            assert kept in found
            assert kept.at == max(entry.at for entry in found)


@settings(max_examples=100, deadline=None)
@given(documents(), documents())
def test_merge_changes_neither_document(one: StateDocument, other: StateDocument) -> None:
    """The result is a new document."""
    before = msgspec.json.encode([one, other], order="sorted")
    merged = merge(one, other)
    for scope in merged.scopes.values():
        scope.targets["x/y"] = TargetState(at=START)
        scope.missed += 1
    assert msgspec.json.encode([one, other], order="sorted") == before


def test_merge_of_long_histories_keeps_the_newest_runs() -> None:
    """Two full histories give one of the same length."""
    one, other = fresh("memory"), fresh("memory")
    one.runs = [RunNote(f"a{number}", START + 2 * number * HOUR, "ok") for number in range(30)]
    other.runs = [RunNote(f"b{number}", START + (2 * number + 1) * HOUR, "ok") for number in range(30)]
    runs = merge(one, other).runs
    assert len(runs) == 30
    assert [note.at for note in runs] == [START + (30 + number) * HOUR for number in range(30)]


def test_document_of_a_renamed_owner_is_accepted() -> None:
    """Only a former name of the same owner is accepted."""
    memory = fresh("test")
    for before, after in (("org-1", "account"), ("org-2", "org-2"), ("", "")):
        memory.owner = before
        move_owner(memory, "account", ("org-1",))
        assert memory.owner == after


def test_documents_of_two_owners_do_not_merge() -> None:
    """No data of another organization is taken over."""
    one, other = fresh("memory"), fresh("memory")
    one.owner, other.owner = "org-1", "org-2"
    with pytest.raises(RunStopped) as stopped:
        merge(one, other)
    assert stopped.value.code == "state-foreign"


def test_hundred_thousand_targets_fit_into_the_size_limit() -> None:
    """A document of a thousand healthy targets is smaller than a hundredth of the limit."""
    entry = TargetState(
        at=START, present=True, state="as-wanted", since=START, applied_at=START, looked_at=START, verified_at=START
    )
    memory = fresh("memory")
    for number in range(1000):
        scope = ScopeRecord(at=START, name="a name", first_seen=START, last_seen=START, targets={"export/daily": entry})
        memory.scopes[f"{number:036d}"] = scope
    size = len(dump(memory, START))
    assert size * 100 < 64 * 1024 * 1024
    values: Any = msgspec.json.decode(dump(memory, START))
    assert datetime.fromisoformat(values["updated_at"]).tzinfo == UTC


def test_merge_takes_the_later_time_of_the_whole_document() -> None:
    """Whichever of the two documents has it; one that is missing does not count."""
    names = ("updated_at", "cycle_since", "event_run_at", "succeeded_at")
    for name in names:
        one, other, none = fresh("memory"), fresh("memory"), fresh("memory")
        setattr(one, name, START)
        setattr(other, name, START + HOUR)
        for ours, theirs, expected in ((one, other, START + HOUR), (other, one, START + HOUR), (one, none, START)):
            assert getattr(merge(ours, theirs), name) == expected, name
        assert getattr(merge(none, none), name) is None


def test_merge_keeps_cloud_owner_and_notices_of_the_one_that_has_them() -> None:
    """A document of the oldest form has neither cloud nor owner."""
    known, bare = fresh("memory"), fresh("")
    known.owner, known.notices = "org-1", Notices(START)
    for merged in (merge(known, bare), merge(bare, known)):
        assert (merged.cloud, merged.owner) == ("memory", "org-1")
        assert merged.notices is not None


@pytest.mark.parametrize(("one", "other", "merged"), [("d1", "d1", "d1"), ("d1", "d2", ""), ("d1", "", "")])
def test_merge_forgets_the_digest_of_a_ledger_that_differs(one: str, other: str, merged: str) -> None:
    """Then the next run reads the ledger instead of believing that it knows it."""
    ours, theirs = fresh("memory"), fresh("memory")
    ours.ledger, theirs.ledger = one, other
    assert merge(ours, theirs).ledger == merged


def test_merge_keeps_when_a_scope_was_first_seen() -> None:
    """The earlier of both, since the later document may be of a run after a lost state."""
    ours, theirs = fresh("memory"), fresh("memory")
    ours.scopes["s1"] = ScopeRecord(at=START + HOUR, first_seen=START + HOUR, targets={})
    theirs.scopes["s1"] = ScopeRecord(at=START, first_seen=START, targets={})
    for merged in (merge(ours, theirs), merge(theirs, ours)):
        assert merged.scopes["s1"].first_seen == START


def test_damage_of_a_value_is_reported_and_the_intact_parts_are_kept() -> None:
    """Scope, run, history and facts next to the damaged value stay, with the reason for the log."""
    document = full()
    document.scopes["s2"] = ScopeRecord(at=START + HOUR, targets={})
    broken = dump(document, START).replace(b'"attempts": 2', b'"attempts": "x"')
    damages: list[str] = []
    found = parse(broken, "memory", START, {}, damages.append)
    assert len(damages) == 1
    assert "attempts" in damages[0]
    assert sorted(found.scopes) == ["s1", "s2"]
    assert found.scopes["s1"].targets == {}
    assert found.scopes["s2"].at == START + HOUR
    assert [one.run_id for one in found.runs] == ["run-1"]


def test_damaged_value_is_not_guessed() -> None:
    """A number in a text is damage like any other."""
    assert parse(with_entry(b'"attempts":"3"'), "memory", START).scopes["s1"].targets == {}


@pytest.mark.parametrize(
    ("data", "complete"), [(b"[]", True), (b'{"a":[7]}', True), (b'{"a":', False), (b"7", False), (b"", False)]
)
def test_complete_document_is_an_object_or_an_array(data: bytes, complete: bool) -> None:
    """Whatever it holds; anything else may have been cut off in transit."""
    assert is_document(data) is complete


def test_time_of_a_damaged_scope_is_taken_from_what_is_intact_in_it() -> None:
    """A scope whose own time is damaged keeps its name, and is as old as nothing if no time is intact."""
    damaged = b'{"version":2,"scopes":{"s1":{"at":7,"name":"one","targets":7}}}'
    scope = parse(damaged, "memory", START).scopes["s1"]
    assert (scope.name, scope.at, scope.targets) == ("one", LONG_AGO, {})
    other = b'{"version":2,"scopes":{"s1":{"at":7,"first_seen":"2026-01-01T00:00:00Z","targets":{}}}}'
    assert parse(other, "memory", START).scopes["s1"].at == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("digits", "kept"), [(18, True), (19, True), (20, False)])
def test_number_in_a_damaged_document_has_at_most_nineteen_digits(digits: int, kept: bool) -> None:
    """A longer one is damage; it is left out, and the rest is read."""
    number = b"9" * digits if digits < 19 else b"1" * digits
    damaged = b'{"version":2,"runs":7,"scopes":{"s1":{%s,"targets":{"export/daily":{%s,"facts":{"n":%s}}}}}}'
    entry = parse(damaged % (AT, AT, number), "memory", START).scopes["s1"].targets["export/daily"]
    assert (entry.facts["n"] == int(number)) if kept else (entry.facts["n"] is None)


def test_fraction_in_a_damaged_document_is_kept_unless_it_is_infinite() -> None:
    """JSON has no infinity, and this one would be written as such."""
    damaged = b'{"version":2,"runs":7,"scopes":{"s1":{%s,"targets":{"export/daily":{%s,"facts":{"a":1.5,"b":1e999}}}}}}'
    entry = parse(damaged % (AT, AT), "memory", START).scopes["s1"].targets["export/daily"]
    assert entry.facts == {"a": 1.5, "b": None}


@pytest.mark.parametrize(
    ("value", "kind", "kept"),
    [(b'"x"', str, True), (b"7", str, False), (b'["a"]', list[str], True), (b"[7]", list[str], False)],
)
def test_fact_of_another_type_than_its_adapter_reads_is_dropped(value: bytes, kind: Any, kept: bool) -> None:
    """The other facts of the target stay."""
    data = with_entry(b'"facts":{"known":%s,"other":7}' % value)
    facts = parse(data, "memory", START, {"known": kind}).scopes["s1"].targets["export/daily"].facts
    assert facts == ({"known": json.loads(value)} if kept else {}) | {"other": 7}


def test_reason_of_a_corrupt_document_is_short_and_says_what_is_wrong() -> None:
    """It goes into a log line; a nesting that is too deep has no position."""
    with pytest.raises(CorruptState, match=r"^JSON is malformed"):
        parse(b'{"version": 2, ' + b"x" * 5000, "memory", START)
    with pytest.raises(CorruptState, match="nested too deeply"):
        parse(b'{"a":' * 100_000, "memory", START)
