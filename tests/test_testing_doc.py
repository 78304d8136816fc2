"""The list of known differences between the local clouds and the real ones."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

ROW = re.compile(r"^\| (?P<id>[A-Z]+-\d+) \| (?P<area>[^|]+) \| (?P<real>.+) \| (?P<local>.+) \|$")
CLOUDS = {"AWS", "AZURE", "GCP"}


def test_every_difference_has_a_unique_id_and_describes_both_sides(repository: Path) -> None:
    """Tests and reports refer to a difference by its id."""
    text = (repository / "docs" / "testing.md").read_text(encoding="utf-8")
    listed = text.split("## Local clouds and real ones")[1].split("\n## ")[0]
    lines = [line for line in listed.splitlines() if line.startswith("| ") and not line.startswith(("| id ", "| ---"))]
    rows = [ROW.match(line) for line in lines]
    assert [line for line, row in zip(lines, rows, strict=True) if row is None] == []
    found = [row for row in rows if row is not None]
    assert [one for one, times in Counter(row["id"] for row in found).items() if times > 1] == []
    assert {row["id"].split("-")[0] for row in found} == CLOUDS
    assert all(row[part].strip() for row in found for part in ("area", "real", "local"))
