"""The counts of the oracles: every check counts, in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from localcloud.common.oracles import FOLDER
from tests.limits import HANG_S
from tests.oracles.__main__ import BEGIN, DOCUMENT, END, read

CHECKS = """
from localcloud.common.oracles import oracle

@oracle("ours")
def check(number):
    if number < 0:
        raise ValueError

for number in (1, 2, -1):
    try:
        check(number)
    except ValueError:
        pass
"""


def test_each_process_writes_what_it_counted(tmp_path: Path) -> None:
    """What an oracle refused is counted apart."""
    for _ in range(2):
        environment = {**os.environ, FOLDER: str(tmp_path)}
        subprocess.run([sys.executable, "-c", CHECKS], env=environment, check=True, timeout=HANG_S)
    assert read(tmp_path) == ({"ours": 4}, {"ours": 2})


def test_nothing_is_written_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local cloud that somebody starts leaves no file."""
    monkeypatch.delenv(FOLDER, raising=False)
    subprocess.run([sys.executable, "-c", CHECKS], cwd=tmp_path, check=True, timeout=HANG_S, env=_with_path())
    assert list(tmp_path.iterdir()) == []


def test_document_has_a_row_for_each_oracle() -> None:
    """The table of the last recorded run names all of them."""
    table = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    for vendor in ("botocore", "Google discovery documents", "Azure SDK models"):
        for what in ("requests", "answers"):
            assert f"| {vendor}, {what} |" in table


def _with_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(DOCUMENT.parents[1])}
