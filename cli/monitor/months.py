"""`tailpipe-exports months`: which months of each scope have data, and why others have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Console

from cli.clouds import Cloud
from cli.deployment.model import OperatorError
from cli.deployment.output import problem_documents, with_error
from cli.deployment.session import attempt
from cli.monitor.stored import Stored, read, unknown_scope
from cli.settings_source import Choice
from cli.terminal.console import clean, out, print_document, say
from shared.monitor.months import MEANING, Row, State, columns, month_documents, rows, spans
from tailpipe_exports import NAME

MARGIN = 4  # columns
COMPLETE, UNREADABLE, INCOMPLETE = 0, 1, 2
MARKS = {
    State.DATA: ("█", "green"),
    State.LOST: ("✗", "bold red"),
    State.BEFORE_EXPORT: ("○", "yellow"),
    State.NOT_KEPT: ("-", "dim"),
    State.BEFORE_SCOPE: ("-", "dim"),
    State.NOT_DUE: ("·", "dim"),
    State.UNKNOWN: ("?", "dim"),
}
LISTED = 20  # rows that are shown without --all


def months(
    clouds: Sequence[Cloud],
    choice: Choice,
    scopes: Sequence[str],
    dataset: str,
    *,
    missing: bool,
    as_json: bool,
    everything: bool,
) -> int:
    """Show the months of each dataset of each scope; with `missing`, only rows in which one is missing.

    Returns 0 if none is missing, 2 if one is lost or can be filled, 1 if a cloud could not be read.
    """
    documents: list[dict[str, Any]] = []
    problems: list[dict[str, str]] = []
    codes: list[int] = []

    def of_cloud(cloud: Cloud) -> int:
        stored = read(cloud, choice)
        names, found = matrix(stored, scopes, dataset)
        shown = [row for row in found if not missing or row.missing()]
        if as_json:
            documents.append(_document(cloud, names, shown))
        else:
            _show(out(), stored, names, shown, everything=everything, missing=missing)
        return INCOMPLETE if any(row.missing() for row in found) else COMPLETE

    for cloud in clouds:
        code, found = attempt(f"{NAME}: no months of {cloud.title}", partial(of_cloud, cloud))
        codes.append(code)
        problems += problem_documents(found, cloud=cloud.name)
    if as_json:
        print_document(with_error({"clouds": documents}, problems))
    return UNREADABLE if UNREADABLE in codes else max(codes, default=COMPLETE)


def matrix(stored: Stored, scopes: Sequence[str] = (), dataset: str = "") -> tuple[list[str], list[Row]]:
    """Return the months and the rows of a cloud. Raises OperatorError, also for an unknown scope."""
    ledger, now = stored.deliveries(), stored.now()
    names = columns(ledger, now)
    cloud = stored.cloud
    known = {one.lower() for one in stored.document.scopes} | {scope.lower() for scope, _ in ledger.series()}
    unknown = [unknown_scope(stored, one) for one in scopes if one.lower() not in known]
    if unknown:
        raise OperatorError(*unknown)
    return names, list(rows(stored.document, ledger, names, now, cloud.reach(), scopes, dataset))


def fill_command(cloud: Cloud, row: Row) -> str:
    """Return the command that fills the missing months of a row, or that shows what a person can do; "" for none.

    The current month is left out: it can be missing, but it cannot be requested.
    """
    wanted = " ".join(f"--month {month}" for month in row.requestable())
    if not wanted:
        return ""
    return f"{NAME} backfill {cloud.name} --scope {clean(row.scope)} {wanted}"


def show_row(target: Console, names: Sequence[str], row: Row, indent: int) -> None:
    """Print the months of a row as one mark each, between the first and the last month."""
    marks = [MARKS[row.states[month]] for month in names]
    say(target, (names[0], "dim"), " ", (names[-1], "dim"), indent=indent)
    say(target, *marks, indent=indent)


def show_missing(target: Console, cloud: Cloud, row: Row, indent: int) -> None:
    """Print which months a row lacks, the reason, and the command that fills them."""
    for state in sorted({row.states[month] for month in row.missing()}):
        of_state = [month for month in row.missing() if row.states[month] is state]
        say(target, f"{MEANING[state]}: {', '.join(spans(of_state))}", indent=indent, hang=2)
    if row.requestable():
        say(target, f"→ {fill_command(cloud, row)}", indent=indent, hang=2)


def _show(
    target: Console, stored: Stored, names: Sequence[str], found: Sequence[Row], *, everything: bool, missing: bool
) -> None:
    lacking = sum(1 for row in found if row.missing())
    what = f"{lacking:,} of {len(found):,} datasets lack months" if not missing else f"{lacking:,} datasets lack months"
    say(target, (stored.title, "bold"), f" · {what}", hang=MARGIN)
    if not found and not missing:
        say(target, "No run has recorded a delivery yet.", indent=MARGIN, hang=2)
    for row in found if everything else found[:LISTED]:
        name = f"{clean(row.name)} ({clean(row.scope)})" if row.name else clean(row.scope)
        say(target, (name, "bold"), f" · {clean(row.dataset)}", indent=2, hang=2)
        show_row(target, names, row, MARGIN)
        show_missing(target, stored.cloud, row, MARGIN)
    if len(found) > LISTED and not everything:
        say(target, (f"… and {len(found) - LISTED:,} more; --all shows them", "dim"), indent=2)
    used = {state for row in found for state in row.states.values()}
    legend = [f"{MARKS[state][0]} {MEANING[state]}" for state in MARKS if state in used]
    if legend:
        say(target, ("; ".join(legend), "dim"), indent=2, hang=2)
    say(target)


def _document(cloud: Cloud, names: Sequence[str], found: Sequence[Row]) -> dict[str, Any]:
    return {"cloud": cloud.name, "months": list(names), "rows": [_row_document(cloud, row) for row in found]}


def _row_document(cloud: Cloud, row: Row) -> Mapping[str, Any]:
    return {
        "scope": row.scope,
        "name": row.name,
        "dataset": row.dataset,
        "months": month_documents(row),
        "missing": row.missing(),
        "command": fill_command(cloud, row),
    }
