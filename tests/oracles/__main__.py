"""Runs the tests that talk to the local clouds and counts how often an oracle of a vendor was asked.

``python -m tests.oracles [--record] [PATH…]``; `make oracles` calls it. One JSON line an oracle; with ``--record``
the table in docs/testing.md is written, too. Exit codes: 0 all tests pass, else that of pytest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from localcloud.common.oracles import FOLDER
from tests.marks import write_between
from tests.oracles import samples

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "testing.md"
BEGIN, END = "<!-- oracles -->", "<!-- end of oracles -->"
PATHS = (
    "tests/oracles",
    "tests/localcloud",
    "tests/contracts",
    "tests/aws_lambda",
    "tests/azure_function",
    "tests/gcp_function",
)


def main() -> int:
    """Run the tests, print the counts, and record them if asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracles")
    parser.add_argument("--record", action="store_true", help="write the table in docs/testing.md")
    parser.add_argument("paths", nargs="*", help="the tests to run", default=list(PATHS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "-m", "not slow", *given.paths]
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, FOLDER: folder}, check=False).returncode
        held, refused = read(Path(folder))
    for name in sorted(held | refused):
        sys.stdout.write(json.dumps({"oracle": name, "held": held[name], "refused": refused[name]}) + "\n")
    if given.record and code == 0:
        record(held, refused)
    return code


def read(folder: Path) -> tuple[Counter[str], Counter[str]]:
    """Return the counts of all processes: how many checks held, and how many things were refused."""
    held: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for file in folder.glob("*.json"):
        for name, verdicts in json.loads(file.read_bytes()).items():
            held[name] += verdicts.get("held", 0)
            refused[name] += verdicts.get("refused", 0)
    return held, refused


def record(held: Counter[str], refused: Counter[str]) -> None:
    """Write the tables of docs/testing.md, with the commit of the tree."""
    show = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(show, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    rows = [f"| {name} | {held[name]:,} | {refused[name]:,} |" for name in sorted(held | refused)]
    table = ["| oracle and what is held against it | held | refused |", "| --- | --- | --- |", *rows]
    write_between(DOCUMENT, BEGIN, END, [*table, "", f"Recorded at commit {commit}."])
    write_between(DOCUMENT, samples.BEGIN, samples.END, samples.table())


if __name__ == "__main__":
    sys.exit(main())
