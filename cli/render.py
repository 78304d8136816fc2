"""A plan and a report as a person reads them. The JSON document says the same; only this may be cut for the eye."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from cli.console import clean, say, show, table
from shared.coverage import CLASSES
from shared.errors import cut
from shared.model import WRITES, Action, Outcome, Result, Verb

if TYPE_CHECKING:
    from shared.reconcile import Finished

ROWS = 100  # rows of a plan that are shown without --all
ITEMS = 20  # causes of manual steps and failures that are shown without --all
OTHERS = 5  # scopes that are named of a cause

VERB_STYLES: dict[Verb, str] = {
    Verb.CREATE: "bold green",
    Verb.REPAIR: "bold yellow",
    Verb.ADOPT: "bold cyan",
    Verb.DEFER: "blue",
    Verb.BLOCK: "magenta",
    Verb.MANUAL: "bold magenta",
    Verb.KEEP: "dim",
    Verb.SKIP: "dim",
}
RESULT_STYLES: dict[Result, str] = {
    Result.DONE: "green",
    Result.PENDING: "cyan",
    Result.FAILED: "bold red",
    Result.EXCLUDED: "magenta",
}
STATUS_STYLES = {"ok": "bold green", "degraded": "bold yellow", "failed": "bold red"}
DATA = {"delivering": "delivering", "awaiting_first_data": "awaiting first data"}
QUIET = frozenset({Verb.KEEP, Verb.SKIP})
EXPLAINED = frozenset({Verb.DEFER, Verb.BLOCK, Verb.SKIP, Verb.REPAIR})
DETAIL = 100  # characters of an action's detail in its row
COUNTED = {
    Verb.CREATE: "to create",
    Verb.REPAIR: "to repair",
    Verb.ADOPT: "to adopt",
    Verb.DEFER: "waiting",
    Verb.BLOCK: "blocked",
    Verb.MANUAL: "manual",
    Verb.KEEP: "kept",
    Verb.SKIP: "skipped",
}


def show_finished(target: Console, called: str, finished: Finished, everything: bool = False) -> None:
    """Print the plan's table, what came of it, and what is left to do.

    `called` is what the scopes are called; `everything` shows KEEP and SKIP too.
    """
    report = finished.report
    if finished.plan is not None:
        _show_plan(target, finished.plan.actions, () if report["dry_run"] else finished.outcomes, everything)
        if report["dry_run"]:
            _show_counts(target, finished.plan.actions)
        else:
            say(target, ("run  ", "bold"), summary_of(report))
    show_report(target, called, report, everything)


def show_report(target: Console, called: str, report: Mapping[str, Any], everything: bool = False) -> None:
    """Print a run's report: its status, what is left to do, and when the next run comes."""
    _show_summary(target, called, report)
    _show_manual(target, report["manual"], everything)
    _show_failures(target, report["failures"], everything)
    _show_excluded(target, called, report)
    if report["next_run_hint"]:
        if report["manual"] or report["failures"] or report.get("excluded"):
            say(target)
        say(target, ("next  ", "bold"), clean(report["next_run_hint"]))


def _show_plan(target: Console, actions: Sequence[Action], outcomes: Sequence[Outcome], everything: bool) -> None:
    shown = [action for action in actions if everything or action.verb not in QUIET]
    rows = shown if everything else shown[:ROWS]
    if rows:
        results = {outcome.key: outcome for outcome in outcomes}
        listed = table("verb", "scope", "kind", "name", "reason", *(["result"] if results else []), "detail")
        for column in listed.columns[:-1]:
            column.no_wrap = True
        for action in rows:
            listed.add_row(*_cells(action), *_result(results.get(action.key), bool(results)), _detail(action))
        show(target, listed)
        if len(rows) < len(shown):
            say(target, (f"… and {len(shown) - len(rows):,} more; --all shows them", "dim"))
        say(target)


def _show_counts(target: Console, actions: Sequence[Action]) -> None:
    """Print what a plan comes to."""
    counts = Counter(action.verb for action in actions)
    parts: list[str | tuple[str, str]] = [("plan  ", "bold")]
    for number, verb in enumerate(verb for verb in COUNTED if counts[verb]):
        parts += [", " if number else "", (f"{counts[verb]:,} {COUNTED[verb]}", VERB_STYLES[verb])]
    if not WRITES & counts.keys():
        parts += [": " if len(parts) == 1 else " · ", ("nothing to write", "green")]
    say(target, *parts)


def summary_of(report: Mapping[str, Any]) -> str:
    """Return what came of a run's actions, writes first: `CREATE 1 done, 39 pending · KEEP 3 unchanged`."""
    by_verb = report["outcomes"]
    return " · ".join(
        f"{verb} " + ", ".join(f"{count:,} {result}" for result, count in by_verb[verb].items())
        for verb in COUNTED
        if by_verb.get(verb)
    )


def _cells(action: Action) -> Iterable[Text | str]:
    yield Text(action.verb, style=VERB_STYLES[action.verb])
    yield from (clean(part) for part in (action.key.scope, action.key.kind, action.key.name))
    yield clean(action.reason)


def _detail(action: Action) -> Text:
    """Return the managed fields that differ, else why there is nothing to be done now."""
    if action.changes:
        return Text(clean(", ".join(action.changes)))
    return Text(cut(clean(action.detail), DETAIL) if action.verb in EXPLAINED else "", style="dim")


def _result(outcome: Outcome | None, wanted: bool) -> Iterable[Text]:
    if wanted:
        yield Text(outcome.result, style=RESULT_STYLES.get(outcome.result, "")) if outcome else Text("-")


def _show_summary(target: Console, called: str, report: Mapping[str, Any]) -> None:
    scopes = report["scopes"]
    # A function that was deployed before may answer with fewer counts.
    extras = [f"{scopes[name]:,} {name}" for name in CLASSES[1:] if scopes.get(name)]
    data = [f"{scopes[name]:,} {words}" for name, words in DATA.items() if scopes.get(name)]
    say(
        target,
        (f"{report['status']}  ", STATUS_STYLES.get(report["status"], "")),
        f"{scopes['covered']:,} of {scopes['active']:,} active {called} covered",
        f" ({', '.join(extras)})" if extras else "",
        f" · {', '.join(data)}" if data else "",
        f" · {sum(report['calls'].values()):,} calls · {report['duration_s']:.1f} s",
        " · dry run, nothing was written" if report["dry_run"] else "",
        f" · run {report['run_id']}" if report["run_id"] else "",
    )


def _show_excluded(target: Console, called: str, report: Mapping[str, Any]) -> None:
    """Print why scopes are excluded, a line a reason, with the cloud's own words about one of them."""
    told = {one["scope"]: one["message"] for one in report.get("actions", ()) if one["result"] == Result.EXCLUDED}
    for excluded in report.get("excluded", ()):
        examples = excluded["examples"]
        shown = clean(", ".join(examples)) + (", …" if excluded["count"] > len(examples) else "")
        say(target)
        reason = (clean(excluded["reason"]), "bold")
        say(target, ("excluded  ", "bold"), reason, f"  {excluded['count']:,} {called}: {shown}")
        message = next((told[one] for one in examples if told.get(one)), "")
        if message:
            say(target, clean(message), indent=10)


def _show_manual(target: Console, steps: Sequence[Mapping[str, Any]], everything: bool) -> None:
    causes = _causes(steps, ("steps", "url"), everything)
    for step, others in _some(causes, everything):
        say(target)
        show_step(target, step)
        _show_others(target, others)
    _rest(target, causes, everything)


def show_step(target: Console, step: Mapping[str, Any]) -> None:
    """Print one entry of a report's `manual`."""
    say(target, ("manual  ", "bold magenta"), _whose(step), clean(step.get("what", "")))
    for number, line in enumerate(step.get("steps", ()), start=1):
        say(target, f"{number}. {clean(line)}", indent=8)
    if step.get("url"):
        say(target, clean(step["url"]), indent=8)


def _show_failures(target: Console, failures: Sequence[Mapping[str, Any]], everything: bool) -> None:
    causes = _causes(failures, ("remedy",), everything)
    for failure, others in _some(causes, everything):
        say(target)
        show_failure(target, failure)
        _show_others(target, others)
    _rest(target, causes, everything)


def show_failure(target: Console, failure: Mapping[str, Any]) -> None:
    """Print one entry of a report's `failures`."""
    text = clean(failure.get("message", ""))
    say(target, ("failed  ", "bold red"), _whose(failure), (clean(failure.get("code", "")), "bold"), f"  {text}")
    if failure.get("remedy"):
        say(target, f"→ {clean(failure['remedy'])}", indent=8)


def _whose(item: Mapping[str, Any]) -> str:
    return f"{clean(item['scope'])}: " if item.get("scope") else ""


Cause = tuple[Mapping[str, Any], Sequence[str]]  # the first item of a cause, and the scopes of the others


def _causes(items: Sequence[Mapping[str, Any]], telling: Sequence[str], everything: bool) -> list[Cause]:
    """Return the items of one cause together: those of one code whose `telling` fields differ by their scope alone."""
    if everything:
        return [(item, ()) for item in items]
    causes: dict[tuple[str, ...], tuple[Mapping[str, Any], list[str]]] = {}
    for item in items:
        scope = str(item.get("scope", ""))
        parts = [str(item.get(field, "")) for field in ("code", *telling)]
        key = tuple(part.replace(scope, "*") if scope else part for part in parts)
        if key in causes:
            causes[key][1].append(scope)
        else:
            causes[key] = (item, [])
    return list(causes.values())


def _show_others(target: Console, scopes: Sequence[str]) -> None:
    """Print which other scopes have the same cause; a scope may have it several times."""
    others = list(dict.fromkeys(scopes))
    if others:
        shown = ", ".join(others[:OTHERS]) + (", …" if len(others) > OTHERS else "")
        say(target, f"… and {len(scopes):,} more of the same cause: {clean(shown)}", indent=8)


def _some(items: Sequence[Cause], everything: bool) -> Sequence[Cause]:
    return items if everything else items[:ITEMS]


def _rest(target: Console, items: Sequence[Cause], everything: bool) -> None:
    if len(items) > ITEMS and not everything:
        say(target, (f"… and {len(items) - ITEMS:,} more; --all shows them", "dim"))
