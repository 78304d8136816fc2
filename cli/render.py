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
ITEMS = 20  # manual steps and failures that are shown without --all

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
        if report["manual"] or report["failures"] or report["excluded"]:
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
    """Print why scopes are excluded, a line a reason, with the cloud's own words of one of them."""
    said = {(one["scope"], one["reason"]): one["message"] for one in report["actions"] if one["message"]}
    said |= {(one["scope"], ""): one["message"] for one in report["actions"] if one["result"] == Result.EXCLUDED}
    for excluded in report["excluded"]:
        examples, reason = excluded["examples"], excluded["reason"]
        first = examples[0] if examples else ""
        more = ", …" if excluded["count"] > len(examples) else ""
        say(target)
        say(
            target,
            ("excluded  ", "bold"),
            (clean(reason), "bold"),
            f"  {excluded['count']:,} {called}: {clean(', '.join(examples))}{more}",
        )
        message = said.get((first, reason)) or said.get((first, ""))
        if message:
            say(target, clean(message), indent=10)


def _show_manual(target: Console, steps: Sequence[Mapping[str, Any]], everything: bool) -> None:
    for step in _some(steps, everything):
        say(target)
        show_step(target, step)
    _rest(target, steps, everything)


def show_step(target: Console, step: Mapping[str, Any]) -> None:
    """Print one entry of a report's `manual`."""
    say(target, ("manual  ", "bold magenta"), _whose(step), clean(step.get("what", "")))
    for number, line in enumerate(step.get("steps", ()), start=1):
        say(target, f"{number}. {clean(line)}", indent=8)
    if step.get("url"):
        say(target, clean(step["url"]), indent=8)


def _show_failures(target: Console, failures: Sequence[Mapping[str, Any]], everything: bool) -> None:
    for failure in _some(failures, everything):
        say(target)
        show_failure(target, failure)
    _rest(target, failures, everything)


def show_failure(target: Console, failure: Mapping[str, Any]) -> None:
    """Print one entry of a report's `failures`."""
    text = clean(failure.get("message", ""))
    say(target, ("failed  ", "bold red"), _whose(failure), (clean(failure.get("code", "")), "bold"), f"  {text}")
    if failure.get("remedy"):
        say(target, f"→ {clean(failure['remedy'])}", indent=8)


def _whose(item: Mapping[str, Any]) -> str:
    return f"{clean(item['scope'])}: " if item.get("scope") else ""


def _some(items: Sequence[Mapping[str, Any]], everything: bool) -> Sequence[Mapping[str, Any]]:
    return items if everything else items[:ITEMS]


def _rest(target: Console, items: Sequence[Mapping[str, Any]], everything: bool) -> None:
    if len(items) > ITEMS and not everything:
        say(target, (f"… and {len(items) - ITEMS:,} more; --all shows them", "dim"))
