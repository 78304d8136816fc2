"""`tailpipe-exports status`: one screen about each cloud, or everything that is known about one scope."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Console

from cli.clouds import Cloud
from cli.demo.kept import kept
from cli.deployment.model import OperatorError
from cli.deployment.output import problem_documents, show_problems, with_error
from cli.deployment.session import attempt, guarded
from cli.monitor.months import MARGIN, matrix, show_missing, show_row
from cli.monitor.stored import Stored, read, unknown_scope
from cli.settings_source import Choice
from cli.terminal.console import clean, err, out, print_document, say
from cli.terminal.render import show_numbered
from shared.monitor.months import Row, month_documents
from shared.monitor.overview import scope_detail
from shared.parsing import parse_time
from tailpipe_exports import NAME

COVERED, FAILING, NEEDS_YOU = 0, 1, 2
CODES = {"ok": COVERED, "wait": COVERED, "ask": NEEDS_YOU, "bad": FAILING}
STYLES = {"ok": "bold green", "wait": "bold yellow", "ask": "bold magenta", "bad": "bold red"}
ITEMS = 5  # entries of each list; one screen
WATCH_S = 30.0


def status(clouds: Sequence[Cloud], choice: Choice, scope: str, *, as_json: bool, everything: bool) -> int:
    """Show what is covered, what needs a person and what fails.

    Returns 0 if everything is covered or pending, 1 if something failed or could not be read, 2 if a person is needed;
    of several clouds, the worst. If no deployment could be read, kept demonstrations on this machine are shown instead,
    as such: the exit code stays 1.
    """
    if scope:
        title = f"{NAME}: no status of {scope}"
        return guarded(title, lambda: _of_scope(clouds[0], choice, scope, as_json=as_json), as_json=as_json)
    documents: list[dict[str, Any]] = []
    problems: list[dict[str, str]] = []
    codes: list[int] = []

    def of_cloud(cloud: Cloud) -> int:
        stored = read(cloud, choice)
        found = stored.overview()
        documents.append(found | ({"demo": True} if stored.demo else {}))
        if not as_json:
            show_overview(out(), stored.title, found, everything=everything)
        return code_of(found)

    for cloud in clouds:
        code, unread = attempt(f"{NAME}: no status of {cloud.title}", partial(of_cloud, cloud))
        codes.append(code)
        problems += problem_documents(unread, cloud=cloud.name)
    if as_json:
        print_document(with_error({"clouds": documents}, problems))
    elif not documents and choice == Choice():
        _show_demonstrations(clouds, everything=everything)
    return FAILING if FAILING in codes else max(codes, default=COVERED)


def _show_demonstrations(clouds: Sequence[Cloud], *, everything: bool) -> None:
    """Show kept demonstrations, if there are any; leave out what cannot be read."""
    target = out()
    played = [cloud for cloud in clouds if kept(cloud.name)]
    if played:
        say(target, ("No deployment could be read. This is the last demonstration on this machine:", "bold yellow"))
    for cloud in played:
        with contextlib.suppress(OperatorError):
            stored = read(cloud, Choice(demo=True))
            show_overview(target, stored.title, stored.overview(), everything=everything)


def watch(show: Callable[[], int], wait: Callable[[float], object] = time.sleep) -> int:
    """Show again every WATCH_S seconds until interrupted; on a terminal each time on a clear screen."""
    screen = out()
    while True:
        if screen.is_terminal:
            screen.clear()
        code = show()
        say(screen, (f"again every {WATCH_S:.0f} s; Ctrl-C ends", "dim"))
        try:
            wait(WATCH_S)
        except KeyboardInterrupt:
            return code


def code_of(overview: Mapping[str, Any]) -> int:
    """Return the exit code for an overview; without any run, nothing is covered."""
    return FAILING if overview["last_run"] is None else CODES[overview["tone"]]


def show_overview(target: Console, title: str, found: Mapping[str, Any], *, everything: bool) -> None:
    """Print the overview of one cloud, or of its demonstration, under its title."""
    say(target, (f"{title}  ", "bold"), (found["sentence"], STYLES[found["tone"]]), hang=MARGIN)
    say(target, _freshness(found), indent=MARGIN)
    _list(target, "needs you", found["must_do"], _show_step, everything)
    _list(target, "failing", found["failing"], _show_failing, everything)
    _list(target, "excluded", found["excluded"], _show_excluded, everything)
    _list(target, "last runs", found["runs"], _show_run, everything)
    say(target)


def _freshness(found: Mapping[str, Any]) -> str:
    if found["last_run"] is None and found["scopes"]["total"]:
        return "When the last run was is not known."
    if found["last_run"] is None:
        return f"No state is stored. If the function is deployed: {NAME} invoke {found['cloud'] or 'CLOUD'}."
    age = f"state {_duration(found['age_s'])} old" if found["age_s"] is not None else "state of unknown age"
    late = found["interval_s"] and found["age_s"] is not None and found["age_s"] > 2 * found["interval_s"]
    parts = [f"{age}{', at least two runs were missed' if late else ''}"]
    parts.append(f"last run {found['last_run']['status']} at {moment(found['last_run']['at'])}")
    if found["running"]:
        parts.append(f"run {found['running']['run_id']} is in progress")
    elif found["next_run"]:
        parts.append(f"next expected {moment(found['next_run'])}")
    return " · ".join(parts)


def _list(
    target: Console, title: str, items: Sequence[Any], show: Callable[[Console, Any], None], everything: bool
) -> None:
    if not items:
        return
    say(target, (title, "bold"), indent=2)
    for item in items if everything else items[:ITEMS]:
        show(target, item)
    if len(items) > ITEMS and not everything:
        say(target, (f"… and {len(items) - ITEMS:,} more; --all shows them", "dim"), indent=MARGIN)


def _show_step(target: Console, step: Mapping[str, Any]) -> None:
    whose = f"{clean(step['scope_name'])} ({clean(step['scope'])})" if step["scope_name"] else clean(step["scope"])
    more = f" and {step['count'] - 1:,} more" if step["count"] > 1 else ""
    say(target, clean(step["what"]), f" · {whose}{more} · {clean(step['code'])}", indent=MARGIN, hang=2)
    show_numbered(target, step["steps"], MARGIN + 2)
    for url in filter(None, (step["url"], step["runbook"])):
        say(target, clean(url), indent=MARGIN + 2)


def _show_failing(target: Console, failing: Mapping[str, Any]) -> None:
    say(
        target,
        (clean(failing["code"]), "bold"),
        f" · {failing['count']:,} · {clean(failing['message'])}",
        indent=MARGIN,
        hang=2,
    )
    if failing["examples"]:
        say(target, f"for example {', '.join(map(clean, failing['examples']))}", indent=MARGIN + 2)
    say(target, f"→ {clean(failing['remedy'])}", indent=MARGIN + 2, hang=2)
    say(target, (f"{NAME} explain {clean(failing['code'])}", "dim"), indent=MARGIN + 2)
    if failing["runbook"]:
        say(target, clean(failing["runbook"]), indent=MARGIN + 2)


def _show_excluded(target: Console, excluded: Mapping[str, Any]) -> None:
    ids = ", ".join(map(clean, excluded["examples"]))
    more = ", …" if excluded["count"] > len(excluded["examples"]) else ""
    say(target, f"{clean(excluded['reason'])} · {excluded['count']:,} ({ids}{more})", indent=MARGIN, hang=2)


def _show_run(target: Console, run: Mapping[str, Any]) -> None:
    changes = ", ".join(run["changes"])
    say(
        target,
        f"{moment(run['at'])} · {run['status']} · {run['covered']:,} of {run['active']:,} covered",
        f" · {changes}" if changes else "",
        indent=MARGIN,
        hang=2,
    )


def _of_scope(cloud: Cloud, choice: Choice, scope: str, *, as_json: bool) -> int:
    stored = read(cloud, choice)
    known = next((one for one in stored.document.scopes if one.lower() == scope.lower()), scope)
    found = scope_detail(stored.document, known, stored.newest_reports(len(stored.document.runs)))
    if found is None:
        raise OperatorError(unknown_scope(stored, scope))
    months = _months(stored, known)
    if as_json:
        print_document({**found, "months": {row.dataset: month_documents(row) for _, row in months}})
    else:
        _show_scope(out(), cloud, found, months)
    return CODES[{"failed": "bad", "manual": "ask"}.get(found["class"], "ok")]


def _months(stored: Stored, scope: str) -> list[tuple[Sequence[str], Row]]:
    """Return the months of a scope's datasets; none, with the reason on stderr, if the ledger cannot be read."""
    try:
        names, found = matrix(stored, [scope])
    except OperatorError as error:
        show_problems(err(), f"{NAME}: no months of {clean(scope)}", error.problems)
        return []
    return [(names, row) for row in found]


def _show_scope(
    target: Console, cloud: Cloud, found: Mapping[str, Any], months: Sequence[tuple[Sequence[str], Row]]
) -> None:
    name = f"{clean(found['name'])} " if found["name"] else ""
    say(target, (f"{cloud.scope} ", "bold"), f"{name}({clean(found['scope'])})", hang=MARGIN)
    state = found["class"] if found["state"] == "active" else found["state"]
    seen = f"first seen {moment(found['first_seen'])} · last seen {moment(found['last_seen'])}"
    say(target, f"{state} · {seen}", indent=MARGIN)
    if found["labels"]:
        labels = " · ".join(f"{clean(label)}: {clean(value)}" for label, value in found["labels"].items())
        say(target, labels, indent=MARGIN, hang=2)
    for one in found["targets"]:
        there = {True: "present", False: "absent", None: "not known"}[one["present"]]
        say(
            target,
            (f"{clean(one['kind'])} {clean(one['name'])}", "bold"),
            f" · {there} · {clean(one['state'])} since {moment(one['since'])} · verified {moment(one['verified_at'])}"
            f" · last data {moment(one['delivered_at'])}",
            indent=2,
            hang=2,
        )
        if one["next_try"]:
            say(target, f"next try {moment(one['next_try'])}", indent=MARGIN)
        if one["error"]:
            error = one["error"]
            say(target, (clean(error["code"]), "bold"), f"  {clean(error['message'])}", indent=MARGIN, hang=2)
            show_numbered(target, error["steps"], MARGIN + 2)
            if error["remedy"]:
                say(target, f"→ {clean(error['remedy'])}", indent=MARGIN + 2, hang=2)
    for names, row in months:
        say(target, (f"months of {clean(row.dataset)}", "bold"), _last_delivery(row), indent=2, hang=2)
        show_row(target, names, row, MARGIN)
        show_missing(target, cloud, row, MARGIN)
    if found["changes"]:
        say(target, ("last changes", "bold"), indent=2)
        show_changes(target, found["changes"])


def _last_delivery(row: Row) -> str:
    """Return the contents of the newest month with data, and when its data last arrived."""
    newest = max((month for month, one in row.periods.items() if one.has_data), default="")
    if not newest:
        return ""
    one = row.periods[newest]
    size = "" if one.bytes is None else f", {one.bytes:,} bytes"
    files = "" if one.files is None else f": {one.files:,} files{size}"
    last = f", last arrival {one.last:%Y-%m-%d %H:%M} UTC" if one.last else ""
    return f" · {newest}{files}{last}"


def show_changes(target: Console, changes: Sequence[Mapping[str, str]]) -> None:
    """Print changes, one a line."""
    for one in changes:
        what = " · ".join(clean(part) for part in (one["what"], one["scope"], one["code"], one["detail"]) if part)
        say(target, f"{moment(one['at'])} · {what}", indent=MARGIN, hang=2)


def moment(text: str | None) -> str:
    """Return a time in ISO 8601 in display form; for other text, a note that it is not a time."""
    if not text:
        return "never"
    known = parse_time(text)
    return f"{known:%Y-%m-%d %H:%M} UTC" if known else "at an unknown time"


def _duration(seconds: int) -> str:
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{round(minutes / 60)} h" if minutes < 48 * 60 else f"{round(minutes / 1440)} days"
