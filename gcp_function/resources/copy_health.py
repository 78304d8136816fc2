"""What watermarks say of a copy, and missing copies of a history."""

from __future__ import annotations

from datetime import datetime

from gcp_function.resources.copy_manifest import Copy, Watermark
from gcp_function.resources.export_health import HIDDEN
from shared.model import Absent, Health, Observation, Present

NO_ROWS = Present(health=Health.NOT_NEEDED, code="no-partition", detail="Google wrote no rows that day")
ODD = Present(health=Health.NOT_NEEDED, code="surprising-schema", detail="its table has not the published schema")
HIDDEN_COPY = Present(
    health=Health.NOT_NEEDED, code=HIDDEN, detail="row access policies hide rows of its table: see the export's step"
)
NOT_YET = Present(health=Health.PENDING, code="history", detail="older partitions are compared in one of the next runs")


def judge_copy(copy: Copy | None, now: Watermark, day: str, modified: int) -> Observation:
    """Return what a partition's watermark says of its copy, which bears our mark if it is there.

    `modified`: when the partition was written last (microseconds, by BigQuery's catalog).
    """
    if copy is None or copy.watermark is None:
        return Absent(("list",), f"{now.rows} rows of {day} have no copy", code="no-copy")
    if copy.watermark != now:
        detail = f"the copy is of {copy.watermark.id}, the partition of {now.id}"
        code = "partition-lost-rows" if now.rows < copy.watermark.rows else "partition-moved"
        return Present(health=Health.BROKEN, code=code, detail=detail)
    if not copy.intact:
        return Present(health=Health.BROKEN, code="files-missing", detail="files that the manifest names are gone")
    # It was written without being changed: remembered, so that it need not be asked again.
    return Present(facts={"modified": modified, "generation": copy.generation})


def judge_history(missing: int, older: int, first: str, now: datetime) -> Observation:
    """Return what it says of a history that so many of its older partitions, before the day `first`, have no copy."""
    if not missing:
        return Present(facts={"done": now.isoformat()})
    detail = f"{missing} of {older} partitions before {first} have no current copy"
    return Present(health=Health.BROKEN, code="history-incomplete", detail=detail, facts={"done": ""})
