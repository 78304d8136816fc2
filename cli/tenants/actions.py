"""What the commands of `tailpipe-exports tenants` do.

The module is over 350 lines because each command's problems and their remedies stand with it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cli.clouds import Cloud
from cli.deployment.model import Finding, OperatorError, Problem
from cli.deployment.session import FAILED, OK, can_ask, confirmed, guarded
from cli.settings_source import Choice
from cli.tenants import show
from cli.tenants.edit import Edit, entries_in, entry_of, id_of
from cli.tenants.fleet import Fleet, discard, explained, open_fleet
from cli.tenants.rows import grouped, one_standing, registered, survey
from cli.terminal.console import clean, err, out, print_document, say
from cli.terminal.private_file import write_private
from shared.runtime.clock import SystemClock
from shared.tenants.registry import Rules, Tenant
from tailpipe_exports import NAME

MOST_INPUT = 32 * 1024 * 1024  # bytes of a file of entries
MAPPINGS = {"entry": "--entry", "destination": "--destination", "overrides": "--set", "labels": "--label"}


@dataclass(frozen=True)
class Where:
    """The cloud, where its registry is, and the form of the result."""

    cloud: Cloud
    registry: Path | None = None
    function: str = ""
    settings: Path | None = None
    as_json: bool = False

    def open(self, *, deployed: bool = False) -> Fleet:
        """Open the registry; with `deployed`, also the deployment of a registry in a file. Raises OperatorError."""
        choice = Choice(self.function, self.settings)
        fleet = open_fleet(self.cloud, choice, self.registry)
        if deployed and self.registry is not None:
            with explained(self.cloud):
                environment = open_fleet(self.cloud, choice).environment
            return Fleet(fleet.cloud, fleet.port, fleet.store, environment)
        return fleet

    def guarded(self, what: str, command: Callable[[], int]) -> int:
        """Run a command; show why it cannot continue."""
        return guarded(f"{NAME}: {what}", command, as_json=self.as_json)

    def command(self, verb: str, tenant: str = "") -> str:
        """Return the command line of another command on the same registry."""
        given = f" --registry {self.registry}" if self.registry else ""
        return " ".join(filter(None, (NAME, "tenants", verb, self.cloud.name, tenant))) + given


def add(
    where: Where, tenant: str, name: str, pairs: Mapping[str, Sequence[str]], *, paused: bool, replace: bool
) -> int:
    """Add one tenant. Returns 0, or 1 if nothing was written."""

    def command() -> int:
        values = _pairs(pairs)
        entry: dict[str, Any] = {"id": tenant, "cloud": where.cloud.name, "name": name, **values}
        entry = {key: value for key, value in entry.items() if value} | ({"paused": True} if paused else {})
        return _add(where, [entry], replace=replace)

    return where.guarded(f"tenant {clean(tenant)} was not added", command)


def add_file(where: Where, source: Path, *, replace: bool) -> int:
    """Add the entries of a file of JSON. Returns 0, or 1 if nothing was written."""

    def command() -> int:
        return _add(where, entries_in(_text(source), str(source)), replace=replace)

    return where.guarded("no tenant was added", command)


def pause(where: Where, tenants: Sequence[str], *, paused: bool) -> int:
    """Leave tenants out of rounds, or include them again. Returns 0, or 1 if nothing was written."""
    verb = "paused" if paused else "resumed"

    def command() -> int:
        ids = tuple(dict.fromkeys(tenants))
        return _changed(where, where.open(), Edit(ids, paused=paused), verb)

    return where.guarded(f"nothing was {verb}", command)


def remove(where: Where, tenants: Sequence[str], *, yes: bool) -> int:
    """Remove tenants from the registry after showing what stays. Returns 0, or 1 if nothing was written."""

    def command() -> int:
        if not yes and not can_ask():
            raise OperatorError(Problem("cannot prompt: not running in a terminal", "Add --yes."))
        fleet, ids = where.open(), tuple(dict.fromkeys(tenants))
        registry, edit = fleet.registry(), Edit(ids, remove=True)
        edit.apply(fleet.entries(), where.cloud.name)
        # Of an entry that is wrong nothing is known but its id.
        known = {one: registry.tenants.get(one, Tenant(one, where.cloud.name)) for one in ids}
        stays = {one: fleet.port.remaining(tenant) for one, tenant in known.items()}
        if not where.as_json:
            show.remaining(err(), stays)
        if not yes and not confirmed(f"Remove {', '.join(ids)} from the registry?"):
            raise OperatorError(Problem("the question was not answered with yes", "Nothing was written."))
        return _changed(where, fleet, edit, "removed", remaining=stays)

    return where.guarded("nothing was removed", command)


def list_tenants(where: Where, label: str = "") -> int:
    """List the tenants with their newest rows; those of a file without. Returns 0."""

    def command() -> int:
        fleet, now = where.open(), SystemClock().now()
        found = registered(fleet.registry()) if where.registry else survey(fleet).found
        if where.as_json:
            print_document({"cloud": where.cloud.name, "tenants": [one.document(now) for one in found]})
            return OK
        for value, group in grouped(found, label) if label else [("", found)]:
            if label:
                say(out(), (f"{label} = {clean(value)}" if value else f"without {label}", "bold"))
            show.table_of(out(), where.cloud, group, now)
        if not found:
            say(out(), f"The registry has no tenant of {where.cloud.title}. Add one: {where.command('add')} TENANT.")
        return OK

    return where.guarded(f"the tenants of {where.cloud.title} could not be read", command)


def discovered(where: Where) -> int:
    """List the tenants that the cloud knows and the registry does not. Returns 0."""

    def command() -> int:
        fleet = where.open(deployed=True)
        registry, rules = fleet.registry(), fleet.port.RULES
        with explained(where.cloud):
            proposals = fleet.port.discover(fleet.environment, discard, SystemClock())
        entries = fleet.entries()
        known = {rules.identity(one) for one in registry.tenants.values()}
        known |= {name for one in entries for name in rules.known_as(_as_written(one))} - {""}
        taken = {id_of(one) for one in entries}
        new = [one for one in proposals if known.isdisjoint((_identity(one, rules), *rules.known_as(one)))]
        if where.as_json:
            print_document({"cloud": where.cloud.name, "tenants": [_proposal(one, taken) for one in new]})
        else:
            show.proposals(out(), where.cloud, [_proposal(one, taken) for one in new], len(proposals) - len(new))
        return OK

    return where.guarded(f"{where.cloud.title} could not be asked for tenants", command)


def show_tenant(where: Where, tenant: str) -> int:
    """Show one tenant. Returns 0, or 1 if its entry is wrong or missing."""

    def command() -> int:
        fleet, now = where.open(), SystemClock().now()
        entry, found = entry_of(fleet.entries(), tenant), one_standing(fleet, tenant, rows=not where.registry)
        if entry is None or found is None:
            raise OperatorError(_unknown(where, tenant))
        written = _masked(entry, fleet.port.RULES)
        if where.as_json:
            print_document({"cloud": where.cloud.name, **found.document(now), "entry": written})
        else:
            show.tenant(out(), where.cloud, found, written, now)
        return FAILED if found.faults else OK

    return where.guarded(f"tenant {clean(tenant)} could not be shown", command)


def check(where: Where, tenants: Sequence[str]) -> int:
    """Check tenants, all without a name. Returns 0, or 1 if a check failed."""

    def command() -> int:
        fleet = where.open(deployed=True)
        registry = fleet.registry()
        ids = list(dict.fromkeys(tenants)) or [*registry.tenants, *registry.refused]
        unknown = [one for one in ids if one not in registry.tenants and one not in registry.refused]
        if unknown:
            raise OperatorError(*(_unknown(where, one) for one in unknown))
        found: dict[str, Sequence[Finding]] = {}
        for one in ids:
            found[one] = _checked(fleet, registry.tenants, registry.refused.get(one, ()), one)
            if not where.as_json:
                show.findings(err(), one, found[one])
        if where.as_json:
            listed = [{"id": one, "findings": [asdict(finding) for finding in found[one]]} for one in ids]
            print_document({"cloud": where.cloud.name, "tenants": listed})
        return FAILED if any(one.ok is False for findings in found.values() for one in findings) else OK

    return where.guarded(f"the tenants of {where.cloud.title} could not be checked", command)


def invite(where: Where, tenant: str, folder: Path | None) -> int:
    """Print a tenant's invitation, and write its files to a folder. Returns 0."""

    def command() -> int:
        fleet = where.open(deployed=True)
        one = _usable(where, fleet, tenant)
        with explained(where.cloud):
            invitation = fleet.port.invite(one, fleet.environment)
        written = _write_files(folder, invitation.files)
        if where.as_json:
            print_document({"cloud": where.cloud.name, "id": tenant, **asdict(invitation)})
        else:
            show.invitation(out(), invitation, written, where.command("check", tenant))
        return OK

    return where.guarded(f"tenant {clean(tenant)} was not invited", command)


def _add(where: Where, entries: Sequence[Any], *, replace: bool) -> int:
    ids = tuple(id_of(one) for one in entries)
    twice = sorted({one for one in ids if ids.count(one) > 1})
    if twice:
        raise OperatorError(*(Problem(f"tenant {clean(one)} is given more than once") for one in twice))
    return _changed(where, where.open(), Edit(ids, added=entries, replace=replace), "added")


def _changed(where: Where, fleet: Fleet, edit: Edit, verb: str, **more: Any) -> int:
    fleet.change(edit)
    if where.as_json:
        written = {"cloud": where.cloud.name, "registry": fleet.store.place, "done": verb, "tenants": list(edit.ids)}
        print_document({**written, **more})
        return OK
    say(out(), f"{verb} ", (", ".join(map(clean, edit.ids)), "bold"), f" · {fleet.store.place}", hang=2)
    if verb == "added":
        for next_ in ("invite", "check"):
            say(out(), f"→ {where.command(next_, edit.ids[0])}", indent=2)
    return OK


def _unknown(where: Where, tenant: str) -> Problem:
    return Problem(f"no tenant {clean(tenant)} of {where.cloud.title} is registered", f"See {where.command('list')}.")


def _usable(where: Where, fleet: Fleet, tenant: str) -> Tenant:
    """Return a tenant, also a paused one. Raises OperatorError if it is unknown or its entry is wrong."""
    registry = fleet.registry()
    faults = registry.refused.get(tenant, ())
    if faults:
        see = f"Correct its entry: {where.command('show', tenant)}."
        raise OperatorError(*(Problem(f"{tenant}: {fault}", see) for fault in faults))
    if tenant not in registry.tenants:
        raise OperatorError(_unknown(where, tenant))
    return registry.tenants[tenant]


def _checked(fleet: Fleet, tenants: Mapping[str, Tenant], faults: Iterable[str], tenant: str) -> Sequence[Finding]:
    """Return the findings about a tenant; one that fails does not keep the others from being checked."""
    wrong = [Finding("the entry is valid", ok=False, detail=fault, remedy="Correct the entry.") for fault in faults]
    if wrong:
        return wrong
    others = [one for one in tenants.values() if one.id != tenant]
    try:
        with explained(fleet.cloud):
            return fleet.port.check(tenants[tenant], others, fleet.environment, discard, SystemClock())
    except OperatorError as error:
        return [
            Finding("the tenant could be checked", ok=False, detail=p.what, remedy=p.remedy) for p in error.problems
        ]


def _pairs(given: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """Return the values of the options as objects of an entry. Raises OperatorError, which quotes no value."""
    found: dict[str, dict[str, str]] = {}
    problems = []
    for key, listed in given.items():
        values: dict[str, str] = {}
        for place, pair in enumerate(listed, start=1):
            name, separator, value = pair.partition("=")
            if not separator or not name:
                problems.append(Problem(f"{MAPPINGS[key]} number {place} is not of the form NAME=VALUE"))
            elif name in values:
                problems.append(Problem(f"{MAPPINGS[key]} {clean(name)} is given twice"))
            values[name] = value
        found["settings" if key == "overrides" else key] = values
    if problems:
        raise OperatorError(*problems)
    return found


def _text(source: Path) -> str:
    """Return a file of entries. Raises OperatorError."""
    try:
        data = sys.stdin.buffer.read(MOST_INPUT + 1) if str(source) == "-" else _bytes(source)
        if len(data) > MOST_INPUT:
            raise OperatorError(Problem(f"--from {source} has more than {MOST_INPUT:,} bytes", "Add fewer at once."))
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise OperatorError(Problem(f"--from {source}: {why}")) from error


def _bytes(source: Path) -> bytes:
    with source.open("rb") as file:
        return file.read(MOST_INPUT + 1)


def _proposal(tenant: Tenant, taken: set[str]) -> dict[str, Any]:
    """Return a proposal as an entry; its id is changed if it is taken."""
    proposed, number = tenant.id, 1
    while proposed in taken:
        number += 1
        proposed = f"{tenant.id[:36]}-{number}"
    taken.add(proposed)
    entry = {"id": proposed, "cloud": tenant.cloud, "name": tenant.name}
    more = {"entry": tenant.entry, "destination": tenant.destination, "labels": tenant.labels}
    return {
        key: dict(value) if isinstance(value, Mapping) else value for key, value in {**entry, **more}.items() if value
    }


def _as_written(entry: Mapping[str, Any]) -> Tenant:
    """Return an entry as a tenant, with only those of its values that are texts; it may be invalid."""

    def texts(part: str) -> dict[str, str]:
        given = entry.get(part)
        return {k: v for k, v in given.items() if isinstance(v, str)} if isinstance(given, Mapping) else {}

    return Tenant(
        id_of(entry),
        str(entry.get("cloud", "")),
        entry=texts("entry"),
        destination=texts("destination"),
        labels=texts("labels"),
    )


def _identity(proposal: Tenant, rules: Rules) -> str:
    """Return what only one tenant may enter, "" for a proposal whose entry is not complete yet."""
    try:
        return rules.identity(proposal)
    except LookupError:
        return ""


def _masked(entry: Mapping[str, Any], rules: Rules) -> dict[str, Any]:
    """Return an entry as it is written, without references that are not of their form: they may be secrets."""
    given, found = entry.get("entry"), dict(entry)
    if isinstance(given, Mapping):
        found["entry"] = {
            name: value
            if not (field := rules.entry.get(name)) or not field.reference or re.fullmatch(field.pattern, str(value))
            else "(not shown: it is no reference)"
            for name, value in given.items()
        }
    return found


def _write_files(folder: Path | None, files: Mapping[str, str]) -> list[str]:
    if folder is None or not files:
        return []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_private(folder / Path(name).name, content)
    except OSError as error:
        raise OperatorError(
            Problem(f"--out {folder}: {error.strerror}", "Name a folder that you may write.")
        ) from error
    return [str(folder / Path(name).name) for name in files]
