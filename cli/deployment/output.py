"""Shows places, findings, problems and plans: what Terraform creates, changes, removes and grants."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console

from cli.deployment.grants import grants
from cli.deployment.model import Change, Finding, Place, Problem
from cli.deployment.terraform.root_module import ADDRESS
from cli.terminal.console import clean, say

MARKS = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("?", "yellow")}
ACTIONS_SHOWN = 6
NAMES_SHOWN = 5
ALIKE_SHOWN = 3
RESOURCES_SHOWN = 20  # of one type and verb
HOLDERS = {
    "function": "The function may",
    "collector": "The collector of events may",
    "rounds": "The engine of the rounds may",
    "registry_writer": "Operators of the registry may",
    "connector": "Tailpipe may",
    "tenant_connector": "For a tenant, Tailpipe may",
    "policy": "The policy's identity may",
}


def show_place(screen: Console, place: Place) -> None:
    """Print the place and the caller."""
    who, region = f" as {clean(place.caller)}", f", region {place.region}"
    say(screen, (f"{place.kind} {place.id}", "bold"), who, region, hang=2)
    for name, value in place.details.items():
        say(screen, f"{name}: {clean(value)}", indent=2, hang=2)


def show_findings(screen: Console, findings: Sequence[Finding], everything: bool = True) -> None:
    """Print findings, failed ones with their remedy; of many similar ones, only the first few."""
    alike = Counter[tuple[bool | None, str, str]]()
    for one in findings:
        if one.ok and not everything:
            continue
        kind = (one.ok, one.what.partition(" on ")[0], one.detail)
        alike[kind] += 1
        if alike[kind] > ALIKE_SHOWN:
            continue
        mark, style = MARKS[one.ok]
        detail = f" · {clean(one.detail)}" if one.detail else ""
        say(screen, (f"{mark} ", style), f"{clean(one.what)}{detail}", hang=2)
        if not one.ok and one.remedy:
            say(screen, (clean(one.remedy), "bold"), indent=4)
    for (ok, what, detail), number in alike.items():
        if number > ALIKE_SHOWN:
            mark, style = MARKS[ok]
            more = f"{clean(what)}: {number - ALIKE_SHOWN:,} more like these"
            say(screen, (f"{mark} ", style), f"{more} · {clean(detail)}", hang=2)


def show_problems(screen: Console, title: str, problems: Sequence[Problem]) -> None:
    """Print why a command cannot continue."""
    say(screen, (title, "bold red"))
    for one in problems:
        say(screen, ("✗ ", "bold red"), clean(one.what), hang=2)
        if one.remedy:
            say(screen, (clean(one.remedy), "bold"), indent=4)


def problem_documents(problems: Iterable[Problem], **about: str) -> list[dict[str, str]]:
    """Return problems as JSON data: `what`, `remedy`, and `about` (the `cloud`, if there are several)."""
    return [{**about, "what": one.what, "remedy": one.remedy} for one in problems]


def with_error(document: Mapping[str, Any], problems: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return what `--json` prints: the document, with the reason why it is incomplete as ``error``."""
    return {**document, "error": {"problems": list(problems)}} if problems else dict(document)


def show_changes(screen: Console, changes: Sequence[Change], everything: bool = False) -> None:
    """Print what Terraform would do, counted by verb and type; of many resources, the first few, or `everything`."""
    if not changes:
        say(screen, "nothing to change: the deployment matches the plan")
        return
    for (verb, type_), addresses in sorted(_grouped(changes).items()):
        named = _short(addresses)
        few = everything or len(named) <= RESOURCES_SHOWN
        say(screen, f"{verb} {len(named):,} {type_}: {', '.join(named) if few else some(named)}", hang=4)
    counted = Counter(verb_of(one) for one in changes)
    say(screen, ", ".join(f"{number:,} to {verb}" for verb, number in sorted(counted.items())))


def number_of(items: Sequence[Any], noun: str) -> str:
    """Return a number with its noun: ``1 export``, ``2,000 exports``."""
    return f"{len(items):,} {noun}{'' if len(items) == 1 else 's'}"


def some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def verb_of(change: Change) -> str:
    """Return one word for a change."""
    if change.creates and change.deletes:
        return "replace"
    if change.importing:
        return "adopt"
    return {"create": "create", "update": "change", "delete": "remove"}.get(change.actions[0], change.actions[0])


def show_grants(screen: Console, cloud: str, granted: Mapping[str, Sequence[str]] | None) -> None:
    """Print what the plan grants to whom, from the file that the module uses.

    `granted` are the ids of this deployment's grants by holder, from the plan. If the plan does not know them (None),
    all possible grants are printed, each with its condition.
    """
    for holder, title in HOLDERS.items():
        listed = grants(cloud).get(holder, ())
        chosen = listed if granted is None else [one for one in listed if one["id"] in granted.get(holder, ())]
        if chosen:
            say(screen, (f"{title}:", "bold"))
        for grant in chosen:
            what = grant.get("role") or _cut([*grant.get("actions", ()), *grant.get("data_actions", ())])
            only = f" (only with {grant['when']})" if granted is None and grant.get("when") else ""
            say(screen, f"- {clean(grant['why']).rstrip('.')}{only}: {what}", indent=2, hang=2)


def show_alarms(screen: Console, alarms: int, emails: Sequence[str], confirm: bool) -> None:
    """Print the addresses that the plan's alarms notify, or warn that there are none.

    `confirm`: each address has to accept the mail that the cloud sends it.
    """
    if not alarms:
        return
    which, notify = (f"{alarms} alarms", "notify") if alarms > 1 else ("1 alarm", "notifies")
    if emails:
        must = "; each address must confirm the mail that it gets first" if confirm else ""
        say(screen, f"{which} {notify} {', '.join(map(clean, emails))}{must}")
        return
    say(screen, (f"Warning: the {which} of this deployment {notify} no one.", "bold yellow"))
    remedy = "Failures go unnoticed. Add --alarm-email ADDRESS, or the variable notification_emails."
    say(screen, (remedy, "bold"), indent=4)


def _grouped(changes: Iterable[Change]) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for one in changes:
        found.setdefault((verb_of(one), one.type), []).append(one.address)
    return found


def _short(addresses: Sequence[str]) -> list[str]:
    return [re.sub(r"^[\w]+\.", "", one.removeprefix(ADDRESS)) for one in addresses]


def _cut(actions: Sequence[str]) -> str:
    shown = ", ".join(actions[:ACTIONS_SHOWN])
    return shown + (f" and {len(actions) - ACTIONS_SHOWN} more" if len(actions) > ACTIONS_SHOWN else "")
