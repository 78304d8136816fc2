"""Edits of the tenant registry: pure functions of the entries as they are written.

An edit keeps every entry that it is not about as it is, also one that this version finds wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cli.deployment.model import OperatorError, Problem
from shared.errors import RegistryError
from shared.tenants.registry import MAX_BYTES, Rules, TenantRegistry, encode_registry, parse_registry, too_large
from tailpipe_exports import NAME

Entries = Sequence[Any]
KEEP = "Nothing was written. Correct or restore the document where it is stored; see docs/fleet.md."


@dataclass(frozen=True)
class Edit:
    """A change of some entries of one cloud.

    `ids` are the tenants it is about. `added` are whole entries: new ones, or with `replace` also those of known
    tenants. `paused` sets that field of known tenants; `remove` leaves them out.
    """

    ids: tuple[str, ...]
    added: Entries = ()
    replace: bool = False
    paused: bool | None = None
    remove: bool = False

    def apply(self, entries: Entries, cloud: str) -> list[Any]:
        """Return the edited entries. Raises OperatorError with one problem for each tenant that does not permit it."""
        known = {one: entry_of(entries, one) for one in self.ids}
        problems = [problem for one, entry in known.items() if (problem := self._problem(one, entry, cloud))]
        if problems:
            raise OperatorError(*problems)
        if self.added:
            new = {str(one.get("id")): one for one in self.added}
            kept = [new.pop(id_of(one)) if id_of(one) in new else one for one in entries]
            return [*kept, *new.values()]
        if self.remove:
            return [one for one in entries if id_of(one) not in self.ids]
        return [self._paused(one) if id_of(one) in self.ids else one for one in entries]

    def _problem(self, tenant: str, entry: Any, cloud: str) -> Problem | None:
        see = f"See {NAME} tenants list {cloud}."
        if entry is None:
            return None if self.added else Problem(f"tenant {tenant} is not in the registry", see)
        theirs = entry.get("cloud")
        if theirs != cloud and isinstance(theirs, str):
            return Problem(f"tenant {tenant} is one of {theirs}, not of {cloud}", "Ids are unique across the clouds.")
        if self.added and not self.replace:
            return Problem(f"tenant {tenant} is in the registry already", "Add --replace to write its entry again.")
        return None

    def _paused(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        rest = {name: value for name, value in entry.items() if name != "paused"}
        return {**rest, "paused": True} if self.paused else rest


def id_of(entry: Any) -> str:
    """Return the id of an entry as it is written, "" without one."""
    found = entry.get("id") if isinstance(entry, Mapping) else None
    return found if isinstance(found, str) else ""


def entry_of(entries: Entries, tenant: str) -> Any:
    """Return the first entry with an id, None without one."""
    return next((one for one in entries if id_of(one) == tenant), None)


def encoded(edit: Edit, entries: Entries, rules: Rules) -> bytes:
    """Return the document of the edited `entries`. Raises OperatorError with every fault that the edit brings in.

    Faults that other entries had before are theirs: a tenant can be paused or removed while another one is wrong.
    """
    changed = edit.apply(entries, rules.cloud)
    data = encode_registry(changed)
    try:
        if len(data) > MAX_BYTES:
            raise too_large(len(data))
        after = _faults(parse_registry(data, rules))
    except RegistryError as error:  # too large, or too many tenants
        raise OperatorError(*problems_of(error)) from error
    before = {fault for place, fault in _faults(parse_registry(encode_registry(entries), rules))}
    theirs = [(place, fault) for place, fault in after if edit.added and place in edit.ids]
    brought = theirs or [(place, fault) for place, fault in after if fault not in before]
    if brought:
        raise OperatorError(*(Problem(f"{place}: {fault}", "Nothing was written.") for place, fault in brought))
    return data


def problems_of(error: RegistryError) -> list[Problem]:
    """Return the problems of a registry that cannot be used as a whole; nothing is ever written over such a one."""
    return [Problem(one, KEEP) for one in error.problems]


def entries_in(text: str, source: str) -> list[Any]:
    """Return the entries of a file to add: a registry, a list of entries, or one entry. Raises OperatorError."""
    remedy = "Give a registry, a list of entries, or one entry as JSON; see docs/fleet.md."
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OperatorError(Problem(f"{source} is not valid JSON ({type(error).__name__})", remedy)) from None
    listed = found.get("tenants", [found]) if isinstance(found, Mapping) else found
    if not isinstance(listed, list) or not listed:
        raise OperatorError(Problem(f"{source} has no entries", remedy))
    wrong = [f"entry {place} of {source} has no id" for place, one in enumerate(listed, start=1) if not id_of(one)]
    if wrong:
        raise OperatorError(*(Problem(one, remedy) for one in wrong))
    return listed


def _faults(registry: TenantRegistry) -> list[tuple[str, str]]:
    return [(place, fault) for place, faults in registry.refused.items() for fault in faults]
