"""Shows tenants by status, rows, and the reports of rounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console

from cli.terminal.console import clean, say

STYLES = {"ok": "green", "degraded": "yellow", "paused": "dim", "not_run": "yellow"}
MARGIN = 4  # columns
LISTED = 10  # tenants


def style_of(status: str) -> str:
    """Return the style of a tenant's status."""
    return STYLES.get(status, "bold red")


def counted(number: int) -> str:
    """Return a number of tenants in words."""
    return f"{number:,} tenant{'' if number == 1 else 's'}"


def status_counts(counts: Mapping[str, int]) -> str:
    """Return statuses with their numbers, such as ``9 ok, 1 not run``; what no tenant has is left out."""
    found = (f"{number:,} {status.replace('_', ' ')}" for status, number in counts.items() if number)
    return ", ".join(found) or "none"


def age(seconds: int | None) -> str:
    """Return how long ago something was."""
    if seconds is None:
        return "never"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min ago"
    return f"{round(minutes / 60)} h ago" if minutes < 48 * 60 else f"{round(minutes / 1440)} days ago"


def covered_of(scopes: Mapping[str, int]) -> str:
    """Return how many of the active scopes are covered, ``-`` if nothing is known."""
    return f"{scopes['covered']:,}/{scopes['active']:,}" if {"covered", "active"} <= scopes.keys() else "-"


def show_row_failure(target: Console, failure: Mapping[str, str], indent: int = MARGIN) -> None:
    """Print one failure of a row."""
    code, message = clean(failure.get("code", "")), clean(failure.get("message", ""))
    say(target, (code, "bold"), f"  {message}", indent=indent, hang=2)
    if failure.get("remedy"):
        say(target, f"→ {clean(failure['remedy'])}", indent=indent + 2, hang=2)


def show_round(target: Console, scopes_word: str, report: Mapping[str, Any], everything: bool = False) -> None:
    """Print the report of a round: how many tenants ended how, what it took, and whose runs were not ok."""
    counts = {name: number for name, number in report["tenants"].items() if name != "total"}
    scopes = report.get("scopes", {})
    say(
        target,
        (f"{report['status']}  ", style_of(report["status"])),
        f"{counted(report['tenants']['total'])}: {status_counts(counts)}",
        f" · {covered_of(scopes).replace('/', ' of ')} {scopes_word} covered" if "active" in scopes else "",
        f" · {sum(report['calls'].values()):,} calls · {report['duration_s']:.1f} s · round {clean(report['round'])}",
        hang=MARGIN,
    )
    wrong = [row for row in report["rows"] if row["status"] != "ok"]
    _show_rows(target, wrong if everything else wrong[:LISTED])
    left = len(wrong) - LISTED
    if left > 0 and not everything:
        say(target, (f"… and {left:,} more; --json has them all", "dim"), indent=2)


def _show_rows(target: Console, rows: Iterable[Mapping[str, Any]]) -> None:
    for row in rows:
        say(target, (row["status"].replace("_", " "), style_of(row["status"])), f"  {clean(row['tenant'])}", indent=2)
        for failure in row.get("failures", ())[:1]:
            show_row_failure(target, failure)
