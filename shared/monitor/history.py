"""What each run changed and what it found changed, derived from the stored reports.

Nothing about a change is stored: the reports are enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from shared.model import Result
from shared.monitor.stored import StoredReport

WRITTEN = {"CREATE": "created", "REPAIR": "repaired", "ADOPT": "adopted"}
ACCEPTED = frozenset({Result.DONE.value, Result.PENDING.value})
# What opens and closes: the result that a report's action has, or the list that it stands in.
FAILURE, MANUAL, EXCLUSION = "failure", "manual step", "exclusion"
# A scope with one of these was not judged again: what was open stays open.
UNDECIDED = frozenset({Result.DEFERRED.value, Result.BLOCKED.value})


class Change(msgspec.Struct, frozen=True):
    """One thing that a run changed or found changed.

    `at` is when the run began (ISO 8601, UTC). `what` is ``created``, ``repaired``, ``adopted``, or ``failure``,
    ``manual step`` or ``exclusion`` followed by ``opened`` or ``closed``. `code` is the reason of a write, else the
    code of what opened or closed; `scope` is "" for what concerns the whole run.
    """

    at: str
    run_id: str
    what: str
    scope: str = ""
    code: str = ""
    detail: str = ""


def all_changes(reports: Iterable[StoredReport]) -> list[Change]:
    """Return the changes of all runs, oldest first; `reports` are in the order of their runs.

    Dry runs change nothing and are left out. Everything that is open in the first report counts as opened by it. A run
    that looked at some scopes only says nothing about the others.
    """
    found: list[Change] = []
    opened: dict[tuple[str, str, str], str] = {}
    for report in reports:
        if report.dry_run:
            continue
        found += _writes(report)
        now_open, judged = open_in(report), judged_in(report)
        closed = {key: text for key, text in opened.items() if key not in now_open and key[1] in judged}
        fresh = {key: text for key, text in now_open.items() if key not in opened}
        for what, changed in (("opened", fresh), ("closed", closed)):
            found += [_change(report, f"{key[0]} {what}", key[1], key[2], text) for key, text in changed.items()]
        opened = {key: text for key, text in opened.items() if key not in closed} | now_open
    return found


def summary(found: Sequence[Change]) -> list[str]:
    """Return the changes counted, such as ``12 created`` or ``1 failure opened (storage-firewall)``."""
    written = WRITTEN.values()
    counts = Counter((one.what, "" if one.what in written else one.code) for one in found)
    return [f"{_counted(count, what)}{f' ({code})' if code else ''}" for (what, code), count in sorted(counts.items())]


def _counted(count: int, what: str) -> str:
    thing, _, change = what.rpartition(" ")  # "manual step opened", or only "created"
    return f"{count:,} {thing}s {change}" if thing and count != 1 else f"{count:,} {what}"


def _writes(report: StoredReport) -> list[Change]:
    return [
        _change(report, WRITTEN[one.verb], one.scope, one.reason, f"{one.kind} {one.name}")
        for one in report.actions
        if one.verb in WRITTEN and one.result in ACCEPTED
    ]


def _change(report: StoredReport, what: str, scope: str, code: str, detail: str) -> Change:
    return Change(report.started_at, report.run_id, what, scope, code, detail)


def open_in(report: StoredReport) -> dict[tuple[str, str, str], str]:
    """Return what is open after a run, as {(what, scope, code): text}."""
    return {
        **{(FAILURE, one.scope, one.code): one.message for one in report.failures},
        **{(MANUAL, one.scope, one.code): one.what for one in report.manual},
        **{
            (EXCLUSION, one.scope, one.code or one.reason): one.message
            for one in report.actions
            if one.result == Result.EXCLUDED.value
        },
    }


def judged_in(report: StoredReport) -> set[str]:
    """Return the scopes of which a run knows everything; "" is the run as a whole."""
    actions = report.actions
    undecided = {one.scope for one in actions if one.result in UNDECIDED}
    judged = {one.scope for one in actions} - undecided
    return judged | {""} if report.run_complete else judged
