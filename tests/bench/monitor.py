"""Duration of `status`, size of the status page and the ledger, and filter time in a browser."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from cli.clouds import CLOUDS
from cli.monitor.status import show_overview
from cli.terminal.console import console
from shared.monitor.overview import overview
from shared.state.decoding import parse
from shared.state.deliveries import DELIVERIES
from shared.state.document import dump
from tests.bench.calibration import Timing, timed
from tests.bench.measure import Measure, cpu_measure, fresh_process
from tests.browser.chromium import CHROMIUM, look
from tests.browser.pages import NOW, document, page

SCOPES = 10_000


def measures() -> Iterator[Measure]:
    """Yield the measurements; those that need a browser are skipped without Chromium."""
    stored = dump(document(SCOPES), NOW)
    yield cpu_measure("status.10k_s", [timed(lambda: _show_status(stored))[1] for _ in range(5)], 1, _METHOD)
    yield from _months()
    text = page(SCOPES)
    yield Measure(
        "page.10k_mb", len(text.encode()) / 1e6, "MB", 2, "the HTML file of 10,000 subscriptions and 12 accounts"
    )
    if CHROMIUM is None:
        sys.stderr.write("page.10k_filter_ms: skipped, Chromium is not installed\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        result = look(text, Path(folder))
    method = f"from a search's input event to the layout of the new rows, the slowest of {len(result['filter_ms'])}"
    yield Measure("page.10k_filter_ms", max(result["filter_ms"]), "ms", 100, method)


def _months() -> Iterator[Measure]:
    """Yield the stored size of the delivery ledger, and the CPU and memory of merging new deliveries into it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / DELIVERIES
        subprocess.run([sys.executable, "-m", "tests.bench.deliveries", str(file), "fill"], check=True)
        yield Measure("state.months_10k_mb", file.stat().st_size / 1e6, "MB", 8, _LEDGER)
        runs = [fresh_process("tests.bench.deliveries", str(file), "merge") for _ in range(3)]
    method = f"CPU to load, merge the two newest months and pack {_LEDGER}"
    yield cpu_measure("state.months_10k_merge_s", [Timing.of(run) for run in runs], 2, method)
    memory = median(run["peak_mb"] for run in runs)
    yield Measure(
        "state.months_10k_memory_mb", memory, "MB", 100, f"peak of that above the interpreter's own memory, {_LEDGER}"
    )


_LEDGER = "the ledger of 10,000 scopes, 36 months and 2 datasets, with random sizes and arrivals"
_METHOD = "parse, evaluate and print the stored state of 10,000 scopes; CPU"


def _show_status(stored: bytes) -> None:
    found = overview(parse(stored, "azure", NOW), [], NOW)
    show_overview(console(io.StringIO()), CLOUDS["azure"].title, found, everything=False)
