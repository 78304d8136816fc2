"""The counts of the oracles: every check counts, in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from localcloud.azure.errors import ArmError
from localcloud.common.oracles import FOLDER
from tests.limits import HANG_S
from tests.localcloud.test_differences import documented
from tests.oracles import samples
from tests.oracles.__main__ import BEGIN, DOCUMENT, END, read
from tests.oracles.focus import COLUMNS, VALUES

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
    for name in (samples.GOOGLE, samples.MICROSOFT, COLUMNS, VALUES):
        assert f"| {name} |" in table


def test_document_lists_the_calls_that_are_not_covered() -> None:
    """Each call of a sample that answers 501 is listed with the id of a difference, and a test makes it."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.split(f"{samples.BEGIN}\n")[1].split(samples.END)[0].splitlines() == samples.table()
    assert set(samples.NOT_COVERED.values()) <= documented(DOCUMENT.parents[1])
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*_samples.py"))
    assert [call for call in samples.NOT_COVERED if f'"{call}"' not in tests] == []


def test_answered_call_in_the_list_is_an_error() -> None:
    """A difference that has vanished, and one that is not listed, fail the test of the sample."""
    call = next(iter(samples.NOT_COVERED))
    with pytest.raises(AssertionError, match="is answered"), samples.not_covered(call):
        pass
    with pytest.raises(ArmError), samples.not_covered(call):
        raise ArmError(404, "NotFound", "another status")
    with pytest.raises(AssertionError, match="is not listed"), samples.not_covered("unheard.of"):
        pass


def _with_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(DOCUMENT.parents[1])}
