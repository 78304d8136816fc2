"""What people do today, and this project, in the same story on the same local cloud: `make bench-peers`.

Each contender is as its users write it, on the vendor's own SDK; `sdk` only makes its waits virtual and its address
local.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tests.bench.measure import Measure
from tests.bench.peers.story import DAYS, EACH, NEW, TROUBLES, Ended, play

SUBSCRIPTIONS = 600
TITLES = {
    "loop": "a script that loops over the SDK",
    "runbook": "the runbook that this project replaces",
    "this": "Tailpipe Exports",
}
METHOD = (
    f"{SUBSCRIPTIONS} subscriptions in a local Azure at the documented quotas, virtual time, a run a day: set-up, one "
    f"quiet day, {len(TROUBLES) + 1} kinds of trouble in {EACH} subscriptions each, {DAYS} more days"
)


def measures() -> Iterator[Measure]:
    """Yield the measurements of each contender; `raw` of ``wrong`` and ``silent`` has the numbers by trouble."""
    for contender in TITLES:
        yield from measures_of(contender, play(contender, SUBSCRIPTIONS))


def measures_of(contender: str, ended: Ended) -> Iterator[Measure]:
    """Yield the measurements of one contender."""
    head = f"peers.{contender}"
    yield Measure(f"{head}.first_min", ended.first_s / 60, "min", None, f"makespan of the set-up; {METHOD}")
    yield Measure(f"{head}.steady_calls", ended.steady_calls, "calls", None, f"calls of the quiet day's run; {METHOD}")
    yield Measure(f"{head}.run_min", ended.makespan_s / 60, "min", None, f"makespan of the longest later run; {METHOD}")
    yield Measure(f"{head}.calls", ended.calls, "calls", None, f"calls after the set-up; {METHOD}")
    yield Measure(f"{head}.cpu_s", ended.cpu_s, "s", None, f"CPU of all runs, as measured; {METHOD}")
    yield Measure(f"{head}.peak_mb", ended.peak_mb, "MB", None, f"peak resident memory; {METHOD}")
    yield Measure(f"{head}.lines", ended.lines, "lines", None, "lines of code or configuration that its users maintain")
    yield Measure(
        f"{head}.wrong",
        sum(ended.wrong.values()),
        "subscriptions",
        None,
        f"without a working export at the end; {METHOD}",
        ended.wrong,
    )
    yield Measure(
        f"{head}.silent",
        sum(ended.silent.values()),
        "subscriptions",
        0 if contender == "this" else None,
        f"of these, those that the last run did not name; {METHOD}",
        ended.silent,
    )


def page(measures: Sequence[Measure]) -> Iterator[str]:
    """Yield the section of docs/performance.md."""
    found = {one.measure: one for one in measures}
    yield f"The same story for each, on a local Azure with {SUBSCRIPTIONS} subscriptions at the documented quotas, with"
    yield "a run a day. After the set-up and a quiet day each trouble happens to some of the subscriptions, and after"
    yield f"{DAYS} more days it is counted which still lack a working export. *Silent* are those of them that the last"
    yield "run did not even name. The script creates what a read does not find; the runbook looks only at subscriptions"
    yield "that its list does not know. Terraform (`azurerm`) cannot be run here against a local Azure. A policy of"
    yield "Cloud Custodian (c7n_azure 0.7.52) can find existing exports and run them, and can create none: there is no"
    yield "policy to compare. Calls are those of Azure Resource Manager and include refused ones.\n"
    columns = {
        "steady_calls": "calls, quiet day",
        "calls": "calls, all later days",
        "first_min": "set-up, min",
        "run_min": "longest run, min",
    }
    columns |= {
        "cpu_s": "CPU, s",
        "peak_mb": "MB",
        "lines": "lines to maintain",
        "wrong": "not working",
        "silent": "silent",
    }
    yield "| contender | " + " | ".join(columns.values()) + " |"
    yield "| --- " * (1 + len(columns)) + "|"
    for contender, title in TITLES.items():
        yield f"| {title} | " + " | ".join(_shown(found[f"peers.{contender}.{name}"].value) for name in columns) + " |"
    yield "\nWhat each left, as *not working / silent*:\n"
    yield "| trouble | " + " | ".join(TITLES.values()) + " |"
    yield "| --- " * (1 + len(TITLES)) + "|"
    for trouble in (*TROUBLES, NEW):
        cells = (_left(found, contender, trouble) for contender in TITLES)
        yield f"| {trouble} | " + " | ".join(cells) + " |"
    yield ""


def _left(found: Mapping[str, Measure], contender: str, trouble: str) -> str:
    wrong, silent = (found[f"peers.{contender}.{name}"].raw.get(trouble, 0) for name in ("wrong", "silent"))
    return f"{wrong:g} / {silent:g}" if wrong else ""


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"
