"""`--all-tenants`: all tenants of a deployment as one, from their rows and the reports of rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
from rich.console import Console

from cli.clouds import Cloud
from cli.deployment.output import problem_documents, with_error
from cli.deployment.session import OK, attempt, guarded
from cli.monitor.history import DEFAULT
from cli.monitor.months import matrix
from cli.monitor.status import COVERED, FAILING, ITEMS, NEEDS_YOU, moment
from cli.monitor.status import STYLES as TONES
from cli.monitor.stored import read_tenant
from cli.settings_source import Choice
from cli.tenants.fleet import Fleet, explained, open_fleet
from cli.tenants.rows import PAUSED, RoundOutline, Standing, Survey, grouped, open_documents, rounds_since, survey
from cli.terminal.console import clean, err, out, print_document, say
from cli.terminal.rounds import MARGIN, counted, covered_of, show_row_failure, status_counts, style_of
from shared.monitor.months import spans
from shared.runtime.clock import SystemClock
from shared.tenants.rounds import NOT_RUN
from tailpipe_exports import NAME

INCOMPLETE = 2  # of `months`
CODES = {"ok": COVERED, "wait": COVERED, "ask": NEEDS_YOU, "bad": FAILING}
ORDER = ("unreachable", "failed", "refused", "degraded", NOT_RUN)  # in which tenants need attention


def status(clouds: Sequence[Cloud], choice: Choice, label: str, *, as_json: bool, everything: bool) -> int:
    """Show how many tenants are in which state, and which need attention; by the values of `label`, if given.

    Returns 0 if all are ok or wait for their first run, 1 if one failed or could not be entered or read, 2 if a person
    is needed.
    """
    documents: list[dict[str, Any]] = []
    problems: list[dict[str, str]] = []
    codes: list[int] = []

    def of_cloud(cloud: Cloud) -> int:
        known, now = survey(open_fleet(cloud, choice)), SystemClock().now()
        found = overview(cloud, known, label, now)
        documents.append(found)
        if not as_json:
            _show(out(), cloud, found, known, everything=everything)
        return CODES[found["tone"]]

    for cloud in clouds:
        code, unread = attempt(f"{NAME}: no status of the tenants of {cloud.title}", partial(of_cloud, cloud))
        codes.append(code)
        problems += problem_documents(unread, cloud=cloud.name)
    if as_json:
        print_document(with_error({"clouds": documents}, problems))
    return FAILING if FAILING in codes else max(codes, default=COVERED)


def overview(cloud: Cloud, known: Survey, label: str, now: datetime) -> dict[str, Any]:
    """Return all tenants of a cloud as JSON data.

    Keys: `cloud`, `sentence`, `tone` (``ok``, ``wait``, ``ask`` or ``bad``), `tenants` (counts by status), `scopes`,
    `last_round` without its rows, `groups` [{label, value, tenants, scopes}], and `list`, one entry a tenant.
    """
    counts, scopes = _counts(known.found), _scopes(known.found)
    last = msgspec.to_builtins(known.last) if known.last else None
    return {
        "cloud": cloud.name,
        "sentence": f"{counted(len(known.found))}: {status_counts(counts)}{_covered(cloud, scopes)}.",
        "tone": _tone(known.found),
        "tenants": {"total": len(known.found), **counts},
        "scopes": scopes,
        "last_round": {key: value for key, value in last.items() if key != "rows"} if last else None,
        "groups": [
            {"label": label, "value": value, "tenants": _counts(group), "scopes": _scopes(group)}
            for value, group in (grouped(known.found, label) if label else ())
        ],
        "list": [one.document(now) for one in known.found],
    }


def history(cloud: Cloud, choice: Choice, since: datetime | None, *, as_json: bool, everything: bool) -> int:
    """Show the rounds from `since` on (UTC; None: for a week) and which tenants changed their state, newest first.

    Returns 0, or 1 if they cannot be read.
    """

    def command() -> int:
        fleet = open_fleet(cloud, choice)
        first = since.replace(tzinfo=UTC) if since else SystemClock().now() - DEFAULT
        bound = f"{first:%Y%m%dT%H%M%SZ}"
        with explained(cloud):
            rounds, unread = rounds_since(open_documents(fleet), bound)
        if unread:
            say(err(), f"{unread} reports of rounds are damaged and left out", indent=2)
        found = [one for one in round_documents(rounds) if one["round"] >= bound]
        if as_json:
            print_document({"cloud": cloud.name, "rounds": list(reversed(found))})
            return OK
        if not found:
            say(out(), f"No round since {first:%Y-%m-%d %H:%M} UTC is stored on {cloud.title}.")
        for one in reversed(found):
            _show_round(out(), one, everything=everything)
        return OK

    return guarded(f"{NAME}: no history of the tenants of {cloud.title}", command, as_json=as_json)


def round_documents(rounds: Sequence[RoundOutline]) -> list[dict[str, Any]]:
    """Return the rounds as JSON data, oldest first, each with the tenants whose status it changed."""
    shown = []
    before: Mapping[str, str] = {}
    for place, one in enumerate(rounds):
        # A tenant without a run in a round keeps the status that it had.
        now = {row.tenant: row for row in one.rows if row.status != NOT_RUN}
        changes = [
            {
                "tenant": tenant,
                "from": before.get(tenant, ""),
                "to": row.status,
                "code": row.failures[0].code if row.failures else "",
            }
            for tenant, row in sorted(now.items())
            if place and row.status != before.get(tenant, "")
        ]
        before = {**before, **{tenant: row.status for tenant, row in now.items()}}
        fields = ("round", "started_at", "ended_at", "status", "duration_s", "tenants", "calls")
        shown.append({**{name: getattr(one, name) for name in fields}, "changes": changes})
    return shown


def months(clouds: Sequence[Cloud], choice: Choice, dataset: str, *, missing: bool, as_json: bool) -> int:
    """Show for each tenant how many datasets lack months, and which; with `missing`, only tenants that lack some.

    The ledger of every tenant is read. Returns 0 if no month is missing, 2 if one is, 1 if a tenant could not be read.
    """
    documents: list[dict[str, Any]] = []
    problems: list[dict[str, str]] = []
    codes: list[int] = []

    def of_cloud(cloud: Cloud) -> int:
        fleet = open_fleet(cloud, choice)
        tenants = [one for one in fleet.registry().tenants.values() if not one.paused]
        say(err(), f"reading what was delivered to {counted(len(tenants))} of {cloud.title}", indent=2)
        rows: list[dict[str, Any]] = []
        for one in tenants:
            code, unread = attempt(
                f"{NAME}: no months of tenant {one.id}", partial(_tenant_months, fleet, one.id, dataset, rows)
            )
            codes.append(code)
            problems.extend(problem_documents(unread, cloud=cloud.name, tenant=one.id))
        shown = [row for row in rows if row["lacking"] or not missing]
        documents.append({"cloud": cloud.name, "tenants": shown})
        if not as_json:
            _show_months(out(), cloud, shown, len(rows))
        return INCOMPLETE if any(row["lacking"] for row in rows) else OK

    for cloud in clouds:
        code, unread = attempt(f"{NAME}: no months of the tenants of {cloud.title}", partial(of_cloud, cloud))
        codes.append(code)
        problems += problem_documents(unread, cloud=cloud.name)
    if as_json:
        print_document(with_error({"clouds": documents}, problems))
    return FAILING if FAILING in codes else max(codes, default=OK)


def page_data(cloud: Cloud, choice: Choice, label: str) -> dict[str, Any]:
    """Return what the page shows of all tenants of a cloud. Raises OperatorError."""
    return page_document(cloud, survey(open_fleet(cloud, choice)), label, SystemClock().now())


def page_document(cloud: Cloud, known: Survey, label: str, now: datetime) -> dict[str, Any]:
    """Return the data of the page.

    `tenants` are [id, name, status, covered, active, time of the last run, code, text and remedy of the first failure,
    places of its labels], `labels` all ``name=value``, `group_by` the name of the label to group by at first.
    """
    found = overview(cloud, known, label, now)
    labels = {f"{name}={value}": None for one in known.found for name, value in one.tenant.labels.items()}
    places = {one: place for place, one in enumerate(labels)}
    last = known.last
    return {
        "title": f"{cloud.title} · tenants",
        "cloud": cloud.name,
        "sentence": found["sentence"],
        "tone": found["tone"],
        "scopes_word": cloud.scopes,
        "updated_at": last.ended_at if last else None,
        "round": found["last_round"],
        "labels": list(labels),
        "group_by": label,
        "tenants": [_page_row(one, places) for one in known.found],
    }


def _page_row(one: Standing, places: Mapping[str, int]) -> list[Any]:
    row, scopes = one.row, one.row.scopes if one.row else {}
    failure: Mapping[str, str] = {}
    if one.faults:
        failure = {"code": "refused", "message": one.faults[0], "remedy": "Correct the tenant's entry in the registry."}
    elif row and row.failures:
        failure = row.failures[0]
    return [
        one.tenant.id,
        one.tenant.name,
        one.status,
        scopes.get("covered", 0),
        scopes.get("active", 0),
        row.ended_at if row else "",
        *(failure.get(name, "") for name in ("code", "message", "remedy")),
        [places[f"{name}={value}"] for name, value in one.tenant.labels.items()],
    ]


def _tenant_months(fleet: Fleet, tenant: str, dataset: str, rows: list[dict[str, Any]]) -> int:
    _, found = matrix(read_tenant(fleet, tenant), (), dataset)
    lacking = Counter(month for row in found for month in row.missing())
    rows.append(
        {
            "tenant": tenant,
            "datasets": len(found),
            "lacking": sum(1 for row in found if row.missing()),
            "missing": dict(sorted(lacking.items())),
        }
    )
    return OK


def _counts(found: Iterable[Standing]) -> dict[str, int]:
    counts = Counter(one.status for one in found)
    return {status: counts[status] for status in ("ok", *ORDER, PAUSED) if counts[status]}


def _scopes(found: Iterable[Standing]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in found:
        if one.row and not one.faults and not one.tenant.paused:
            total.update(one.row.scopes)
    return dict(sorted(total.items()))


def _covered(cloud: Cloud, scopes: Mapping[str, int]) -> str:
    known = covered_of(scopes)
    return f"; {known.replace('/', ' of ')} {cloud.scopes} covered" if known != "-" else ""


def _tone(found: Sequence[Standing]) -> str:
    tones = {_tone_of(one) for one in found}
    return next((tone for tone in ("bad", "ask", "wait") if tone in tones), "ok")


def _tone_of(one: Standing) -> str:
    if one.status in ("unreachable", "failed", "refused"):
        return "bad"
    scopes = one.row.scopes if one.row and one.status != PAUSED else {}
    if one.status == "degraded":
        return "bad" if scopes.get("failed") or not scopes.get("manual") else "ask"
    if scopes.get("manual"):
        return "ask"
    return "wait" if one.status == NOT_RUN else "ok"


def _show(target: Console, cloud: Cloud, found: Mapping[str, Any], known: Survey, *, everything: bool) -> None:
    say(target, (f"{cloud.title}  ", "bold"), (found["sentence"], TONES[found["tone"]]), hang=MARGIN)
    last = known.last
    if last is None:
        say(target, "No round has ended yet.", indent=MARGIN)
    else:
        most = ", ".join(f"{clean(quota)} {calls:,}" for quota, calls in last.most_calls.items())
        say(
            target,
            f"last round {last.status} at {moment(last.ended_at)} · took {last.duration_s:,.0f} s",
            f" · {sum(last.calls.values()):,} calls{f' (at most by one tenant: {most})' if most else ''}",
            indent=MARGIN,
            hang=2,
        )
    for group in found["groups"]:
        value = f"{clean(group['label'])} = {clean(group['value'])}" if group["value"] else f"without {group['label']}"
        counts = f"{counted(sum(group['tenants'].values()))}: {status_counts(group['tenants'])}"
        say(target, (value, "bold"), f" · {counts}{_covered(cloud, group['scopes'])}", indent=2, hang=2)
    wrong = sorted((one for one in known.found if one.status in ORDER), key=lambda one: ORDER.index(one.status))
    if wrong:
        say(target, ("needs attention", "bold"), indent=2)
    for one in wrong if everything else wrong[:ITEMS]:
        _show_tenant(target, cloud, one)
    if len(wrong) > ITEMS and not everything:
        say(target, (f"… and {len(wrong) - ITEMS:,} more; --all shows them", "dim"), indent=MARGIN)
    say(target)


def _show_tenant(target: Console, cloud: Cloud, one: Standing) -> None:
    name = f" ({clean(one.tenant.name)})" if one.tenant.name else ""
    since = f" · since {moment(one.row.since)}" if one.row and not one.faults else ""
    word = one.status.replace("_", " ")
    say(target, (f"{word}  ", style_of(one.status)), f"{clean(one.tenant.id)}{name}{since}", indent=MARGIN, hang=2)
    for fault in one.faults[:1]:
        say(target, clean(fault), indent=MARGIN + 2, hang=2)
    for failure in one.row.failures[:1] if one.row and not one.faults else ():
        show_row_failure(target, failure, MARGIN + 2)
    verb = f"tenants show {cloud.name} {clean(one.tenant.id)}"
    if one.row and not one.faults:
        verb = f"status {cloud.name} --tenant {clean(one.tenant.id)}"
    say(target, (f"{NAME} {verb}", "dim"), indent=MARGIN + 2)


def _show_round(target: Console, one: Mapping[str, Any], *, everything: bool) -> None:
    counts = {name: number for name, number in one["tenants"].items() if name != "total"}
    what = f" · {one['status']} · {status_counts(counts)} · {one['duration_s']:,.0f} s"
    calls = f" · {sum(one['calls'].values()):,} calls"
    quiet = "" if one["changes"] else " · no change"
    say(target, (moment(one["started_at"]), "bold"), what, calls, quiet, f" · round {clean(one['round'])}", hang=4)
    shown = one["changes"] if everything else one["changes"][:ITEMS]
    for change in shown:
        before = change["from"] or "new"
        code = f" · {clean(change['code'])}" if change["code"] else ""
        say(target, f"{clean(change['tenant'])}: {before} → {change['to']}{code}", indent=MARGIN, hang=2)
    if len(one["changes"]) > len(shown):
        say(target, (f"… and {len(one['changes']) - len(shown):,} more; --all shows them", "dim"), indent=MARGIN)


def _show_months(target: Console, cloud: Cloud, shown: Sequence[Mapping[str, Any]], total: int) -> None:
    lacking = sum(1 for row in shown if row["lacking"])
    say(target, (cloud.title, "bold"), f" · {lacking:,} of {counted(total)} lack months", hang=MARGIN)
    for row in shown:
        which = ", ".join(spans(list(row["missing"])))
        what = f"{row['lacking']:,} of {row['datasets']:,} datasets lack months{f': {which}' if which else ''}"
        say(target, (clean(row["tenant"]), "bold"), f" · {what}", indent=2, hang=2)
        if row["lacking"]:
            say(target, (f"{NAME} months {cloud.name} --tenant {clean(row['tenant'])} --missing", "dim"), indent=MARGIN)
    say(target)
