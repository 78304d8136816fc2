"""Evaluates the health of a copy, by watermarks, and of an account's history, by missing copies."""

from __future__ import annotations

from datetime import datetime

from gcp_function.resources.copy_manifest import Copy, Watermark
from gcp_function.resources.export_health import HIDDEN
from shared.model import Absent, Health, Observation, Present

NO_ROWS = Present(health=Health.NOT_NEEDED, code="no-partition", detail="Google wrote no rows that day")
UNEXPECTED_SCHEMA = Present(
    health=Health.NOT_NEEDED,
    code="surprising-schema",
    detail="the table does not match Google's published schema: see the export's manual step",
)
HIDDEN_COPY = Present(
    health=Health.NOT_NEEDED,
    code=HIDDEN,
    detail="row access policies hide rows of the table: see the export's manual step",
)
NOT_YET = Present(health=Health.PENDING, code="history", detail="older partitions are compared in a later run")


def evaluate_copy(copy: Copy | None, now: Watermark, day: str, modified: int) -> Observation:
    """Compare a copy, which has our mark if it exists, with its partition's watermark `now`.

    `modified` is when the partition was last written (microseconds since 1970, by BigQuery's catalog).
    """
    if copy is None or copy.watermark is None:
        return Absent(("list",), f"the {now.rows} rows of {day} have no copy", code="no-copy")
    if copy.watermark != now:
        detail = f"the copy has watermark {copy.watermark.id}, the partition {now.id}"
        code = "partition-lost-rows" if now.rows < copy.watermark.rows else "partition-moved"
        return Present(health=Health.BROKEN, code=code, detail=detail)
    if not copy.intact:
        return Present(health=Health.BROKEN, code="files-missing", detail="files that the manifest lists are missing")
    # The partition was written but not changed: recorded, so that later runs need no query for it.
    return Present(facts={"modified": modified, "generation": copy.generation})


def evaluate_history(missing: int, older: int, first: str, now: datetime) -> Observation:
    """Return the health of a history in which `missing` of the `older` partitions before `first` have no copy."""
    if not missing:
        return Present(facts={"done": now.isoformat()})
    detail = f"{missing} of {older} partitions before {first} have no current copy"
    return Present(health=Health.BROKEN, code="history-incomplete", detail=detail, facts={"done": ""})
