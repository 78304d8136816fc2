"""`tailpipe-exports backfill`: requests past months if the function can, else shows what a person can do."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cli.clouds import Cloud, SupportCase
from cli.deployment.commands.invoke import call
from cli.deployment.model import OperatorError, Problem
from cli.deployment.output import problem_documents, with_error
from cli.deployment.session import EXITS, FAILED, OK, attempt, guarded, open_deployed
from cli.monitor.months import MARGIN, matrix
from cli.monitor.stored import Stored, explained, read
from cli.settings_source import Choice
from cli.terminal.console import clean, err, out, print_document, say
from cli.terminal.progress import Watcher
from cli.terminal.render import show_report
from shared.errors import RequestError
from shared.periods import is_period, month_before, month_of
from shared.request import MAX_SCOPES, parse_request
from shared.runtime.clock import SystemClock
from tailpipe_exports import NAME

NEEDS_YOU = 2
SECONDS = 3600.0  # of a run on this machine

Wanted = Mapping[str, Mapping[str, Sequence[str]]]  # scope → dataset → months
Groups = dict[tuple[str, ...], list[str]]  # months → the scopes that lack them


def backfill(
    cloud: Cloud, choice: Choice, scopes: Sequence[str], months: Sequence[str], *, dry_run: bool, as_json: bool
) -> int:
    """Request months of scopes; without `months`, the missing ones (of all scopes if none is named).

    Returns 0 if they were requested or none is missing, 2 if a person has to open a case, 3 if some could not be
    requested, 1 if the request failed or the cloud delivers no past months.
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
        return _request(stored, choice, _groups(wanted), dry_run=dry_run, as_json=as_json)

    return guarded(f"{NAME}: no backfill of {cloud.title}", command, as_json=as_json)


def _check(stored: Stored, months: Sequence[str]) -> None:
    """Raise OperatorError for anything but a past month within the cloud's reach."""
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
    """Return the months by scope and dataset. Raises OperatorError for an unknown scope."""
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


def _request(stored: Stored, choice: Choice, groups: Groups, *, dry_run: bool, as_json: bool) -> int:
    """Request the months of each group in turn. A failed request ends it; earlier results are shown too."""
    left = [
        {"scopes": ids[start : start + MAX_SCOPES], "months": list(months)}
        for months, ids in sorted(groups.items())
        for start in range(0, len(ids), MAX_SCOPES)
    ]
    cloud = stored.cloud
    reports: list[Mapping[str, Any]] = []

    def command() -> int:
        run = _runner(stored, choice, as_json=as_json)
        while left:
            of_tenant = {"tenant": stored.tenant} if stored.tenant else {}
            reports.append(run({**left[0], **of_tenant, "dry_run": dry_run}))
            del left[0]
        codes = {EXITS.get(str(one.get("status")), FAILED) for one in reports}
        return FAILED if FAILED in codes else max(codes)

    code, problems = attempt(f"{NAME}: the backfill of {cloud.title} ended early", command)
    if left:
        done = f"{len(reports):,} of {len(reports) + len(left):,} requests were made."
        again = "Call the same command again for the others: what was requested within a day is not requested again."
        say(err(), done, " ", again, indent=2, hang=2)
    if as_json:
        unfinished = {"unfinished": left} if left else {}
        print_document(with_error({"cloud": cloud.name, "runs": reports, **unfinished}, problem_documents(problems)))
    return code


def _groups(wanted: Wanted) -> Groups:
    """Return the scopes by the months that they lack: each group is one request."""
    groups: Groups = {}
    for scope, datasets in wanted.items():
        months = tuple(sorted({month for of_dataset in datasets.values() for month in of_dataset}))
        groups.setdefault(months, []).append(scope)
    return groups


def _runner(stored: Stored, choice: Choice, *, as_json: bool) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Return a function that runs once for a payload and returns the report, shown unless `as_json`.

    The deployed function makes the run, or this machine if the settings come from elsewhere. Raises OperatorError.
    """
    cloud = stored.cloud
    if not (choice.file or choice.without_deployment):
        session = open_deployed(cloud, choice.function)
        return lambda payload: call(session, payload, quiet=as_json)

    def here(payload: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            with (
                explained(cloud),
                contextlib.redirect_stdout(sys.stderr),
                Watcher(err(), quiet=as_json) as watcher,
            ):
                request = parse_request(payload)
                ran = cloud.run_once()(request, stored.environment, watcher.sink, SystemClock(), SECONDS)
        except RequestError as error:
            raise OperatorError(*(Problem(fault) for fault in error.problems)) from error
        if not as_json:
            show_report(out(), cloud.scopes, ran.report)
        return ran.report

    return here


def _nothing(cloud: Cloud, *, as_json: bool) -> int:
    if as_json:
        print_document({"cloud": cloud.name, "runs": []})
    else:
        say(out(), f"No month that can be delivered is missing on {cloud.title}.")
    return OK


def _show_cases(cloud: Cloud, write: SupportCase, wanted: Wanted, *, as_json: bool) -> int:
    """Show the text of one case for each scope, which its owner has to open."""
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
