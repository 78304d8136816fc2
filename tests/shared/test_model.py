"""The engine's vocabulary: its texts are stored and reported, and what a field means if it is left out."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

import pytest

from shared import model
from shared.model import NOT_LOOKED_AT, Absent, Enumeration, Health, Kind, Ownership, Result, ScopeState, Stage, Verb


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (ScopeState, "active inactive"),
        (Health, "healthy pending broken waiting manual inactive not-needed"),
        (Ownership, "ours unmarked foreign"),
        (Verb, "KEEP CREATE REPAIR ADOPT SKIP DEFER BLOCK MANUAL"),
        (Result, "done pending unchanged planned skipped excluded deferred blocked manual failed"),
    ],
)
def test_values_in_reports_and_stored_documents_stay(kind: type[StrEnum], values: str) -> None:
    """Documents of earlier versions and the readers of reports depend on them."""
    assert [one.value for one in kind] == values.split()


def test_codes_of_the_engine_stay() -> None:
    """Operators search for them in the runbook, and the state holds them."""
    assert (model.PENDING, model.OVERDUE, model.RESTS_ON) == ("pending", "overdue", "rests-on")
    assert (NOT_LOOKED_AT.code, Absent().code) == ("not-looked-at", "absent")
    assert model.CLASSES == ("covered", "pending", "deferred", "manual", "failed", "excluded")
    assert (model.DELIVERING, model.AWAITING) == ("delivering", "awaiting")


def test_destinations_are_written_before_exports_and_these_before_what_derives_from_them() -> None:
    """The planner and the guard rely on this order."""
    assert sorted(Stage) == [Stage.DESTINATION, Stage.EXPORT, Stage.DERIVED]


def test_defaults_of_kinds_and_observations() -> None:
    """An absence is proven by one read, an enumeration is complete, and a state is forgotten after ninety days."""
    assert Absent().proof == ("list",)
    assert Enumeration("org-1", ()).complete
    kind = Kind("export", Stage.EXPORT)
    assert (kind.writable, kind.batch_size, kind.only_to_write) == (True, 1, False)
    assert kind.forget_after == timedelta(days=90)
