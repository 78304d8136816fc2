"""The list of known differences between the local clouds and the real ones keeps its form."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

ROW = re.compile(r"^\| (?P<id>[A-Z]+-\d+) \| (?P<area>[^|]+) \| (?P<real>.+) \| (?P<local>.+) \|$")
CLOUDS = {"AWS", "AZURE", "GCP"}


def test_each_difference_has_an_id_of_its_own_and_says_both_sides(repository: Path) -> None:
    """An id names one difference for good, so that tests and reports can refer to it; both sides are said."""
    text = (repository / "docs" / "testing.md").read_text(encoding="utf-8")
    listed = text.split("## Local clouds and real ones")[1]
    lines = [line for line in listed.splitlines() if line.startswith("| ") and not line.startswith(("| id ", "| ---"))]
    rows = [ROW.match(line) for line in lines]
    assert [line for line, row in zip(lines, rows, strict=True) if row is None] == []
    found = [row for row in rows if row is not None]
    assert [one for one, times in Counter(row["id"] for row in found).items() if times > 1] == []
    assert {row["id"].split("-")[0] for row in found} == CLOUDS
    assert all(row[part].strip() for row in found for part in ("area", "real", "local"))
