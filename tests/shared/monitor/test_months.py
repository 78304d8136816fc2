"""The state of each month: whether it has data, and the reason if it does not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.monitor.months import (
    FEWEST_MONTHS,
    Reach,
    Row,
    State,
    by_month,
    columns,
    marks,
    month_documents,
    rows,
    spans,
)
from shared.periods import EMPTY, Period
from shared.state.deliveries import Ledger
from shared.state.document import ScopeRecord, StateDocument, fresh
from shared.target_state import TargetState

NOW = datetime(2026, 7, 10, 9, tzinfo=UTC)
BEGUN = datetime(2026, 3, 5, tzinfo=UTC)  # the first run of the function
DATA = Period(2, 100, BEGUN, NOW)
GONE = Period(0, first=BEGUN)
REACH = Reach(months=12, tried="asked", tries=3)


def scope(first_seen: datetime = BEGUN, created: datetime | None = None, **fields: Any) -> ScopeRecord:
    """Return a scope with one export and the remembered state of its backfill."""
    targets = {
        "export/focus": TargetState(at=NOW, present=True, created_at=created),
        "backfill/focus": TargetState(at=NOW, remembered={"asked": {"202512": [3, ""], "202511": [1, ""], "x": 7}}),
    }
    return ScopeRecord(at=NOW, first_seen=first_seen, targets=targets, **fields)


def document(**scopes: ScopeRecord) -> StateDocument:
    """Return a state document with these scopes."""
    made = fresh("memory")
    made.scopes = {"first": ScopeRecord(at=NOW, first_seen=BEGUN, targets={}), **scopes}
    return made


def ledger(periods: Mapping[str, Period], scope_id: str = "s1", dataset: str = "focus") -> Ledger:
    """Return a ledger of one dataset."""
    made = Ledger("memory")
    made.note(scope_id, dataset, periods, NOW)
    return made


def state_of(month: str, record: ScopeRecord, periods: Mapping[str, Period], reach: Reach = REACH) -> State:
    """Return the state of one month of one scope."""
    (row,) = rows(document(s1=record), ledger(periods), [month], NOW, reach, ["S1"])
    return row.states[month]


CREATED = datetime(2026, 5, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("month", "record", "periods", "expected"),
    [
        ("2026-06", scope(), {"2026-06": DATA}, State.DATA),
        ("2026-06", scope(), {"2026-06-30": DATA}, State.DATA),
        ("2026-06", scope(), {"2026-06": Period()}, State.DATA),
        ("2026-06", scope(), {"2026-06": GONE}, State.LOST),
        ("2026-06", scope(), {"2026-06": EMPTY}, State.LOST),
        ("2026-06", scope(), {}, State.UNKNOWN),
        ("2026-07", scope(), {"2026-07": EMPTY}, State.LOST),
        ("2026-07", scope(created=NOW - timedelta(hours=5)), {"2026-07": EMPTY}, State.NOT_DUE),
        ("2026-08", scope(), {}, State.NOT_DUE),
        ("2026-04", scope(created=CREATED), {}, State.BEFORE_EXPORT),
        ("2026-04", scope(created=CREATED), {"2026-04": EMPTY}, State.BEFORE_EXPORT),
        ("2026-04", scope(created=CREATED), {"2026-04": DATA}, State.DATA),
        ("2026-04", scope(created=CREATED), {"2026-04": GONE}, State.LOST),
        ("2025-06", scope(created=CREATED), {}, State.NOT_KEPT),
        ("2025-12", scope(created=CREATED), {}, State.NOT_KEPT),
        ("2025-11", scope(created=CREATED), {}, State.BEFORE_EXPORT),
        ("2026-04", scope(first_seen=CREATED, created=CREATED), {}, State.BEFORE_SCOPE),
        ("2026-06", scope(coverage="excluded"), {"2026-06": EMPTY}, State.NOT_KEPT),
        ("2026-06", scope(state="suspended"), {"2026-05": DATA, "2026-06": EMPTY}, State.NOT_DUE),
        ("2026-04", scope(state="suspended"), {"2026-05": DATA, "2026-04": GONE}, State.LOST),
    ],
)
def test_each_month_has_a_state(month: str, record: ScopeRecord, periods: dict[str, Period], expected: State) -> None:
    """The ledger and the state document decide every case."""
    assert state_of(month, record, periods) is expected


def test_cloud_without_backfill_has_no_month_before_the_export() -> None:
    """No earlier month can be filled."""
    assert state_of("2026-04", scope(created=CREATED), {}, Reach()) is State.NOT_KEPT


def test_days_are_summed_to_months() -> None:
    """A month that is recorded itself takes precedence; unknown parts make the sum unknown."""
    one, two = (Period(1, 10, BEGUN + day, NOW - day, NOW - day) for day in (timedelta(1), timedelta(2)))
    found = by_month(
        {"2026-05": DATA, "2026-05-01": one, "2026-06-01": one, "2026-06-02": two, "2026-06-03": Period(1)}
    )
    assert found == {
        "2026-05": DATA,
        "2026-06": Period(3, None, BEGUN + timedelta(1), NOW - timedelta(1), NOW - timedelta(1)),
    }


def test_columns_reach_back_to_the_oldest_data() -> None:
    """At least 13 and at most 36 months are shown, ending with the current one."""
    assert len(columns(Ledger("memory"), NOW)) == FEWEST_MONTHS
    assert columns(ledger({"2024-01": DATA}), NOW)[::30] == ["2024-01", "2026-07"]
    assert columns(ledger({"2019-01": DATA}), NOW)[0] == "2023-08"


def test_rows_can_be_limited_to_scopes_and_datasets() -> None:
    """An export without an entry in the ledger also has a row; names ignore case."""
    made = document(s1=scope(), s2=scope())
    known = ledger({"2026-06": DATA}, "s2", "actual")
    months = ["2026-06"]
    assert [(one.scope, one.dataset) for one in rows(made, known, months, NOW, REACH)] == [
        ("s1", "focus"),
        ("s2", "actual"),
        ("s2", "focus"),
    ]
    assert [one.dataset for one in rows(made, known, months, NOW, REACH, ["S2"], "ACT")] == ["actual"]


def test_scope_without_state_still_has_its_months() -> None:
    """Its deliveries are shown."""
    (row,) = rows(fresh("memory"), ledger({"2026-06": DATA}, "gone"), ["2026-06"], NOW, REACH)
    assert row.states == {"2026-06": State.DATA}


def test_letter_of_a_month_is_the_worst_of_its_datasets() -> None:
    """One dataset without the month makes the month missing."""
    names = ["2026-04", "2026-05", "2026-06", "2026-07"]
    one = Row("s1", "", "a", dict(zip(names, [State.DATA, State.DATA, State.DATA, State.NOT_DUE], strict=True)), {})
    two = Row(
        "s1", "", "b", dict(zip(names, [State.LOST, State.UNKNOWN, State.NOT_KEPT, State.NOT_DUE], strict=True)), {}
    )
    assert marks([one, two], names) == "0?1-"
    old = Row("s1", "", "c", dict.fromkeys(names, State.BEFORE_EXPORT), {})
    assert marks([one, two, old], names) == "0+++"
    assert marks([], names) == "----"


def test_document_has_state_and_contents_of_each_month() -> None:
    """Times are text, and unknown values are null."""
    row = Row("s1", "", "a", {"2026-05": State.UNKNOWN, "2026-06": State.DATA}, {"2026-06": Period(2, None, BEGUN)})
    assert month_documents(row) == {
        "2026-05": {"state": "unknown"},
        "2026-06": {
            "state": "data",
            "files": 2,
            "bytes": None,
            "first": "2026-03-05T00:00Z",
            "last": None,
            "watermark": None,
        },
    }


def test_consecutive_months_are_shown_as_a_range() -> None:
    """A range may cross years."""
    assert spans(["2026-02", "2025-12", "2026-01", "2026-05"]) == ["2025-12 to 2026-02", "2026-05"]
    assert spans([]) == []
