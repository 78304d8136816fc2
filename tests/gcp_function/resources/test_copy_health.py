"""The health of a copy, by watermarks, and of a history, by what is missing: pure functions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gcp_function.resources import copy_health
from gcp_function.resources.copy_health import evaluate_copy, evaluate_history
from gcp_function.resources.copy_manifest import Copy, Watermark
from shared.model import Absent, Health, Observation, Present

NOW = datetime(2026, 12, 20, 12, tzinfo=UTC)
MARK = Watermark(rows=10, exported_at=1_700_000_000_000_000)
LATER = Watermark(rows=10, exported_at=MARK.exported_at + 1)
FEWER = Watermark(rows=9, exported_at=MARK.exported_at)
MORE = Watermark(rows=11, exported_at=MARK.exported_at)


def said(seen: Observation) -> tuple[Health, str]:
    """Return health and code of something that exists."""
    assert isinstance(seen, Present)
    return seen.health, seen.code


@pytest.mark.parametrize("copy", [None, Copy(generation=1, intact=True)])
def test_partition_without_a_copy_of_ours_has_none(copy: Copy | None) -> None:
    """A manifest without our mark is not a copy."""
    seen = evaluate_copy(copy, MARK, "2026-12-19", modified=5)
    assert seen == Absent(("list",), "the 10 rows of 2026-12-19 have no copy", code="no-copy")


@pytest.mark.parametrize(
    ("now", "intact", "expected"),
    [
        (MARK, True, (Health.HEALTHY, "")),
        (MARK, False, (Health.BROKEN, "files-missing")),
        (LATER, True, (Health.BROKEN, "partition-moved")),
        (MORE, True, (Health.BROKEN, "partition-moved")),
        (FEWER, True, (Health.BROKEN, "partition-lost-rows")),
    ],
)
def test_copy_is_healthy_with_all_files_and_the_watermark_of_its_partition(
    now: Watermark, intact: bool, expected: tuple[Health, str]
) -> None:
    """A partition that lost rows has a code of its own: the new copy would lose them too."""
    assert said(evaluate_copy(Copy(generation=7, watermark=MARK, intact=intact), now, "2026-12-19", 5)) == expected


def test_copy_of_a_partition_that_was_written_and_not_changed_is_remembered() -> None:
    """Later runs need no query for it."""
    seen = evaluate_copy(Copy(generation=7, watermark=MARK, intact=True), MARK, "2026-12-19", modified=5)
    assert seen == Present(facts={"modified": 5, "generation": 7})


def test_moved_copy_names_both_watermarks() -> None:
    """That of the copy, and that of the partition."""
    seen = evaluate_copy(Copy(generation=7, watermark=MARK, intact=True), LATER, "2026-12-19", 5)
    assert isinstance(seen, Present)
    assert seen.detail == f"the copy has watermark {MARK.id}, the partition {LATER.id}"


def test_history_is_complete_without_missing_partitions() -> None:
    """When it was complete is remembered, and forgotten when it is not."""
    assert evaluate_history(0, 40, "2026-11-01", NOW) == Present(facts={"done": NOW.isoformat()})
    seen = evaluate_history(1, 40, "2026-11-01", NOW)
    assert said(seen) == (Health.BROKEN, "history-incomplete")
    assert isinstance(seen, Present)
    assert seen.facts == {"done": ""}
    assert seen.detail == "1 of 40 partitions before 2026-11-01 have no current copy"


def test_copies_that_are_not_needed_or_not_compared_yet_say_why() -> None:
    """A table that cannot be read has its manual step at the export."""
    assert said(copy_health.NO_ROWS) == (Health.NOT_NEEDED, "no-partition")
    assert said(copy_health.UNEXPECTED_SCHEMA) == (Health.NOT_NEEDED, "surprising-schema")
    assert said(copy_health.HIDDEN_COPY) == (Health.NOT_NEEDED, "rows-hidden")
    assert said(copy_health.NOT_YET) == (Health.PENDING, "history")
