"""A plan and a report as text for people. The JSON document has the same content; only this text is ever shortened."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cli.terminal.console import clean, say
from shared.errors import cut
from shared.model import BESIDE, CLASSES, WRITES, Result, Verb
from shared.report import PLANNED

if TYPE_CHECKING:
    from shared.reconcile import RunResult

ITEMS = 20  # groups of actions, manual steps and failures that are shown without --all
EXAMPLES = 5  # named scopes of each
DETAIL = 160  # characters of an action's message that are shown without --all
MARGIN = 4  # columns
REST = "*"  # the scope of the entry for the rest of a cut list

STATUS_STYLES = {"ok": "bold green", "degraded": "bold yellow", "failed": "bold red"}
DATA = {"delivering": "delivering", "awaiting_first_data": "awaiting first data"}
VERB_WORDS = {Verb.CREATE: ("create", "created"), Verb.REPAIR: ("repair", "repaired"), Verb.ADOPT: ("adopt", "adopted")}
RESULT_WORDS: dict[str, str] = {**{one.value: one.value for one in Result}, Result.UNCHANGED.value: "kept"}
PLANNED_RESULTS = {
    Verb.KEEP: Result.UNCHANGED,
    Verb.SKIP: Result.SKIPPED,
    Verb.DEFER: Result.DEFERRED,
    Verb.BLOCK: Result.BLOCKED,
    Verb.MANUAL: Result.MANUAL,
}
WORD_STYLES = {
    "created": "green",
    "to create": "bold green",
    "repaired": "green",
    "to repair": "bold yellow",
    "adopted": "green",
    "to adopt": "bold cyan",
    "deferred": "blue",
    "blocked": "magenta",
    "excluded": "magenta",
    "manual": "bold magenta",
    "kept": "dim",
    "skipped": "dim",
}
QUIET = frozenset({Verb.KEEP, Verb.SKIP})
SHOWN_BELOW = frozenset({Result.MANUAL, Result.FAILED})  # with the steps, or the cause and its remedy
EXPLAINED = frozenset({Verb.DEFER, Verb.BLOCK, Verb.SKIP, Verb.REPAIR})

WORD = re.compile(r"[\w.-]+")
DIGITS = 4  # a word with this many digits is an id of an account or a request, a date, or a name that contains one

Item = Mapping[str, Any]  # an entry of one of a report's lists


def show_finished(target: Console, called: str, finished: RunResult, everything: bool = False) -> None:
    """Print what a run did, or would do, and what remains to be done.

    `called` is the name for scopes; `everything` also shows kept and skipped targets, each on its own.
    """
    show_report(target, called, finished.report, everything)


def show_report(target: Console, called: str, report: Item, everything: bool = False) -> None:
    """Print a run's report: its actions, its status, what remains to be done, and when the next run is due."""
    # An older deployed function may return a report without actions.
    given = report.get("actions", ())
    actions = [one for one in given if one["scope"] != REST]
    names = {one["scope"]: one["scope_name"] for one in actions if one["scope_name"]}
    # Its cause and remedy are among the failures below, unless the guard holds it back.
    shown_below = {(one.get("scope"), one.get("code")) for one in report["failures"]}
    listed = [one for one in actions if everything or (one["scope"], one["reason"]) not in shown_below]
    _show_actions(target, called, listed, names, everything)
    for one in given:
        if one["scope"] == REST:  # the response to a trigger contains only the first actions, and its last one says so
            say(target, (clean(one["message"]), "dim"), hang=MARGIN)
            say(target)
    if summary := summary_of(report):
        say(target, ("plan  " if report["dry_run"] else "run  ", "bold"), summary, hang=MARGIN)
    _show_status(target, called, report)
    _show_manual(target, called, report["manual"], names, everything)
    _show_failures(target, called, report["failures"], names, everything)
    _show_excluded(target, called, report, names)
    if report["next_run_hint"]:
        if report["manual"] or report["failures"] or report.get("excluded"):
            say(target)
        say(target, ("next  ", "bold"), clean(report["next_run_hint"]), hang=MARGIN)


def word_of(verb: str, result: str) -> str:
    """Return the word for the result of an action, done or planned, which is the same everywhere."""
    if verb in WRITES:
        now, past = VERB_WORDS[Verb(verb)]
        special = {
            PLANNED: f"to {now}",
            Result.DONE.value: past,
            Result.PENDING.value: f"being {past}",
            Result.FAILED.value: f"not {past}",
        }
        if result in special:
            return special[result]
    return RESULT_WORDS.get(result, result)


def planned_word(verb: str) -> str:
    """Return the word of a plan for an action with this verb."""
    return word_of(verb, PLANNED if verb in WRITES else PLANNED_RESULTS[Verb(verb)])


def summary_of(report: Item) -> str:
    """Return the results of a run's actions, writes first: `1 created, 39 being created, 3 kept`."""
    counts: Counter[str] = Counter()
    by_verb = report["outcomes"]
    for verb in sorted(by_verb, key=_place):
        for result, count in by_verb[verb].items():
            counts[word_of(verb, result)] += count
    words = ", ".join(f"{count:,} {word}" for word, count in counts.items())
    quiet = report["dry_run"] and not WRITES & by_verb.keys()
    return " · ".join(filter(None, (words, "nothing to write" if quiet else "")))


def _place(verb: str) -> int:
    return list(Verb).index(Verb(verb)) if verb in WRITES else len(Verb)


def _show_actions(target: Console, called: str, actions: Sequence[Item], names: Item, everything: bool) -> None:
    """Print each action, or those of one cause together with their number and some of their scopes."""
    shown = [one for one in actions if everything or not (one["verb"] in QUIET or one["result"] in SHOWN_BELOW)]
    groups = [[one] for one in shown] if everything else _groups(shown, _action_key)
    groups = sorted(groups, key=lambda group: _place(group[0]["verb"]))
    for group in groups if everything else groups[:ITEMS]:
        first = group[0]
        word = word_of(first["verb"], first["result"])
        same = len({one["name"] for one in group}) == 1
        what = f"{clean(first['kind'])} {clean(first['name'])}" if same else f"{len(group):,} × {clean(first['kind'])}"
        why = _message(first, everything)
        parts = (clean(first["reason"]), why if why != clean(first["reason"]) else "")
        say(
            target,
            (f"{word}  ", WORD_STYLES.get(word, "bold red")),
            " · ".join(filter(None, (what, *parts))),
            hang=MARGIN,
        )
        say(target, _scopes(called, [one["scope"] for one in group], names), indent=MARGIN)
    _say_rest(target, len(groups), everything)
    if groups:
        say(target)


def _message(action: Item, everything: bool) -> str:
    if everything:
        return clean(action["message"])
    return cut(clean(action["message"]), DETAIL) if _is_explained(action) else ""


def _is_explained(action: Item) -> bool:
    return action["verb"] in EXPLAINED or action["reason"] == BESIDE


def _action_key(action: Item) -> Sequence[str]:
    message = action["message"] if _is_explained(action) else ""
    return action["verb"], action["result"], action["kind"], action["reason"], _alike(message, action["scope"])


def _show_status(target: Console, called: str, report: Item) -> None:
    scopes = report["scopes"]
    # An older deployed function may return fewer counts.
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
        hang=MARGIN,
    )


def _show_excluded(target: Console, called: str, report: Item, names: Item) -> None:
    """Print why scopes are excluded, once for each reason, with the cloud's own message for one of them."""
    messages = {one["scope"]: one["message"] for one in report.get("actions", ()) if one["result"] == Result.EXCLUDED}
    for excluded in report.get("excluded", ()):
        examples = excluded["examples"]
        say(target)
        say(target, ("excluded  ", "bold"), (clean(excluded["reason"]), "bold"))
        say(target, _scopes(called, examples, names, excluded["count"]), indent=MARGIN)
        message = next((messages[one] for one in examples if messages.get(one)), "")
        if message:
            say(target, clean(message), indent=MARGIN)


def _show_manual(target: Console, called: str, steps: Sequence[Item], names: Item, everything: bool) -> None:
    groups = [[one] for one in steps] if everything else _groups(steps, _step_key)
    for group in groups if everything else groups[:ITEMS]:
        say(target)
        show_step(target, group[0], _scopes(called, [str(one.get("scope", "")) for one in group], names))
    _say_rest(target, len(groups), everything)


def show_step(target: Console, step: Item, whose: str | None = None) -> None:
    """Print one entry of a report's `manual`, of the scopes `whose`."""
    say(target, ("manual  ", "bold magenta"), clean(step.get("what", "")), hang=MARGIN)
    _say_whose(target, clean(step.get("scope", "")) if whose is None else whose)
    show_numbered(target, step.get("steps", ()), MARGIN)
    if step.get("url"):
        say(target, clean(step["url"]), indent=MARGIN)


def show_numbered(target: Console, steps: Iterable[str], indent: int) -> None:
    """Print the steps, numbered from one."""
    for number, line in enumerate(steps, start=1):
        say(target, f"{number}. {clean(line)}", indent=indent, hang=3)


def _step_key(step: Item) -> Sequence[str]:
    text = " ".join((*step.get("steps", ()), step.get("url", "")))
    return step.get("code", ""), _alike(text, step.get("scope", ""))


def _show_failures(target: Console, called: str, failures: Sequence[Item], names: Item, everything: bool) -> None:
    groups = [[one] for one in failures] if everything else _groups(failures, _failure_key)
    for group in groups if everything else groups[:ITEMS]:
        say(target)
        show_failure(target, group[0], _scopes(called, [str(one.get("scope", "")) for one in group], names))
    _say_rest(target, len(groups), everything)


def show_failure(target: Console, failure: Item, whose: str | None = None) -> None:
    """Print one entry of a report's `failures`, of the scopes `whose`."""
    code = clean(failure.get("code", ""))
    say(target, ("failed  ", "bold red"), (code, "bold"), f"  {clean(failure.get('message', ''))}", hang=MARGIN)
    _say_whose(target, clean(failure.get("scope", "")) if whose is None else whose)
    if failure.get("remedy"):
        say(target, f"→ {clean(failure['remedy'])}", indent=MARGIN, hang=2)


def _failure_key(failure: Item) -> Sequence[str]:
    text = (failure.get("message", ""), failure.get("remedy", ""))
    return failure.get("code", ""), *(_alike(one, failure.get("scope", "")) for one in text)


def _groups(items: Iterable[Item], key: Any) -> list[list[Item]]:
    """Return the items of one cause together, in the order in which the causes first appear."""
    groups: dict[Sequence[str], list[Item]] = {}
    for item in items:
        groups.setdefault(tuple(key(item)), []).append(item)
    return list(groups.values())


def _alike(text: object, scope: str) -> str:
    """Return a text without what differs between scopes: ids, dates, and names that end with a part of an id."""
    text = str(text).replace(scope, "*").replace(scope[-6:], "*") if scope else str(text)
    return WORD.sub(lambda word: "*" if sum(map(str.isdigit, word[0])) >= DIGITS else word[0], text)


def _scopes(called: str, scopes: Sequence[str], names: Item, count: int = 0) -> str:
    """Return ids with their names: the only one, or their number and some of them."""
    found = list(dict.fromkeys(one for one in scopes if one not in ("", REST)))
    shown = [f"{clean(one)} ({clean(names[one])})" if names.get(one) else clean(one) for one in found]
    count = count or len(found)
    if count < 2:
        return "".join(shown)
    more = ", …" if count > EXAMPLES else ""
    return f"{count:,} {called}: {', '.join(shown[:EXAMPLES])}{more}"


def _say_whose(target: Console, whose: str) -> None:
    if whose:
        say(target, whose, indent=MARGIN)


def _say_rest(target: Console, number: int, everything: bool) -> None:
    if number > ITEMS and not everything:
        say(target, (f"… and {number - ITEMS:,} more; --all shows them", "dim"))
