"""Google's clients: what importing their packages leaves behind."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path

import pytest

from gcp_function.clients import import_apart


class Observed:
    """Stands for what a run observed."""


def test_package_that_keeps_its_import_errors_keeps_no_variable_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """google.cloud.bigquery does so; the traceback would hold all that the first run of a process observed."""
    module = tmp_path / "keeps_its_import_error.py"
    module.write_text("try:\n    import a_missing_package\nexcept ImportError as error:\n    kept = error\n")
    monkeypatch.syspath_prepend(tmp_path)

    def first_use() -> weakref.ref[Observed]:
        observed = Observed()
        assert import_apart(module.stem).kept.__traceback__ is not None
        return weakref.ref(observed)

    try:
        assert first_use()() is None
    finally:
        sys.modules.pop(module.stem, None)
