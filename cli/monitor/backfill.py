"""`tailpipe-exports backfill`: past months, requested where a function can, else what a person can do."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cli.clouds import Cloud, SupportCase
from cli.deployment.commands.invoke import call
from cli.deployment.model import OperatorError, Problem
from cli.deployment.session import EXITS, FAILED, OK, guarded, open_deployed
from cli.monitor.months import MARGIN, matrix
from cli.monitor.stored import Stored, read
from cli.settings_source import Choice, source_of
from cli.terminal.console import clean, out, print_document, say
from cli.terminal.render import show_report
from shared.errors import ReportedError, RequestError
from shared.periods import is_period, month_before, month_of
from shared.request import parse_request
from shared.runtime.clock import SystemClock
from tailpipe_exports import NAME

NEEDS_YOU = 2
SECONDS = 3600.0  # of a run on this machine

Wanted = Mapping[str, Mapping[str, Sequence[str]]]  # scope → dataset → months


def backfill(
    cloud: Cloud, choice: Choice, scopes: Sequence[str], months: Sequence[str], *, dry_run: bool, as_json: bool
) -> int:
    """Request months of scopes; without `months`, those that are missing (of all scopes where none is named).

    Returns 0 where they were requested or none is missing, 2 where a person has to open a case, 3 where some could not
    be requested, 1 where the request failed or the cloud delivers no past months.
    """

    def command() -> int:
        stored = read(cloud, choice)
        _check(stored, months)
        wanted = _wanted(stored, scopes, months)
        if not wanted:
            return _nothing(cloud, as_json=as_json)
        if cloud.no_backfill:
            raise OperatorError(Problem(f"{cloud.title} cannot deliver past months again", cloud.no_backfill))
        if cloud.support_case is not None:
            return _show_cases(cloud, cloud.support_case(), wanted, as_json=as_json)
        reports = [
            _run(cloud, choice, {"scopes": ids, "months": list(group), "dry_run": dry_run}, as_json=as_json)
            for group, ids in sorted(_groups(wanted).items())
        ]
        if as_json:
            print_document({"cloud": cloud.name, "runs": reports})
        codes = {EXITS.get(str(one.get("status")), FAILED) for one in reports}
        return FAILED if FAILED in codes else max(codes)

    return guarded(f"{NAME}: no backfill of {cloud.title}", command)


def _check(stored: Stored, months: Sequence[str]) -> None:
    """Raise OperatorError for what is no past month within the cloud's reach."""
    present = month_of(stored.now())
    reach = stored.cloud.reach().months
    oldest = month_before(present, reach) if reach else ""
    problems = []
    for month in months:
        if len(month) != len(present) or not is_period(month):
            form = "Write it as YYYY-MM, such as 2026-01."
            problems.append(Problem(f"--month {clean(month)!r} is not a month", form))
        elif month >= present:
            late = f"The last one that has ended is {month_before(present)}; exports deliver the present month daily."
            problems.append(Problem(f"--month {month} has not ended", late))
        elif month < oldest:
            bound = f"The oldest that can be requested is {oldest}."
            problems.append(Problem(f"--month {month} is too long ago", bound))
    if problems:
        raise OperatorError(*problems)


def _wanted(stored: Stored, scopes: Sequence[str], months: Sequence[str]) -> Wanted:
    """Return the months by scope and dataset. Raises OperatorError for a scope that is not known."""
    _, found = matrix(stored, scopes)
    wanted: dict[str, dict[str, list[str]]] = {}
    for row in found:
        of_row = sorted(set(months)) or row.requestable()
        if of_row:
            wanted.setdefault(row.scope, {})[row.dataset] = of_row
    if months and not wanted:
        raise OperatorError(
            Problem(
                f"no export of {', '.join(map(clean, scopes))} delivers data",
                f"See {NAME} status {stored.cloud.name} SCOPE: its costs may be in the export of another scope.",
            )
        )
    return wanted


def _groups(wanted: Wanted) -> dict[tuple[str, ...], list[str]]:
    """Return the scopes by the months that they lack: each group is one request."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for scope, datasets in wanted.items():
        months = tuple(sorted({month for of_dataset in datasets.values() for month in of_dataset}))
        groups.setdefault(months, []).append(scope)
    return groups


def _run(cloud: Cloud, choice: Choice, payload: Mapping[str, Any], *, as_json: bool) -> dict[str, Any]:
    """Run once for the payload: the deployed function, or on this machine where the settings come from elsewhere."""
    try:
        request = parse_request(payload)
        if not (choice.file or choice.without_deployment):
            return call(open_deployed(cloud, choice.function), payload, quiet=as_json)
        with contextlib.redirect_stdout(sys.stderr):
            source = source_of(cloud, choice)
            ran = cloud.run_once()(request, source.environment, _ignored, SystemClock(), SECONDS)
    except RequestError as error:
        raise OperatorError(*(Problem(fault) for fault in error.problems)) from error
    except ReportedError as error:
        raise OperatorError(Problem(error.message, error.remedy)) from error
    if not as_json:
        show_report(out(), cloud.scopes, ran.report)
    return ran.report


def _ignored(_level: str, _event: str, _fields: object) -> None:
    """Take an event: the report says what became of the request."""


def _nothing(cloud: Cloud, *, as_json: bool) -> int:
    if as_json:
        print_document({"cloud": cloud.name, "runs": []})
    else:
        say(out(), f"No month that can be delivered is missing on {cloud.title}.")
    return OK


def _show_cases(cloud: Cloud, write: SupportCase, wanted: Wanted, *, as_json: bool) -> int:
    """Show the text of one case for each scope: its owner has to open it."""
    cases = [{"scope": scope, "months": months, "text": write(scope, months)} for scope, months in wanted.items()]
    if as_json:
        print_document({"cloud": cloud.name, "cases": cases})
        return NEEDS_YOU
    target = out()
    say(target, (f"{cloud.title} delivers past months only through a case at its support.", "bold"), hang=MARGIN)
    for one in cases:
        say(target)
        say(target, str(one["text"]), indent=2)
    return NEEDS_YOU
