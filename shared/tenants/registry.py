"""The tenant registry: one document, written by operators only, that names the tenants and how to enter them::

    {"version": 1, "tenants": [{
        "id": "acme", "cloud": "aws", "name": "Acme GmbH", "entry": {…}, "destination": {…},
        "settings": {"EXPORTS": "cur2"}, "paused": false, "labels": {"group": "north"}}]}

A tenant's run is the usual run with another environment: what the entry says is laid over the deployment's settings.
Which fields `entry` and `destination` have, and the setting that each one sets, is in the `Rules` of the cloud.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from shared.errors import RegistryError, RequestError, cut
from shared.parsing import is_tenant_id
from shared.redaction import printable, redact

VERSION = 1
MAX_BYTES = 8 * 1024 * 1024  # 10,000 tenants take about 5 MB
MAX_TENANTS = 10_000
MAX_LABELS, MAX_LABEL = 20, 120  # labels of a tenant, and characters of each name and value
MAX_VALUE = 2048  # characters; longer than any ARN or resource id
CLOUDS = ("aws", "azure", "gcp")
TENANT = "TENANT"  # the setting that carries the tenant's id; only `environment_of` sets it

_HEAD = ("version", "tenants")
_KEYS = ("id", "cloud", "name", "entry", "destination", "settings", "paused", "labels")


class Field(msgspec.Struct, frozen=True):
    """One field of `entry` or `destination`: the setting it sets, and the form of its value.

    The value of a `reference` to a secret is never quoted: somebody may have written the secret itself.
    """

    setting: str
    pattern: str
    hint: str
    required: bool = False
    reference: bool = False


class Tenant(msgspec.Struct, frozen=True):
    """One entry of the registry, with all its values in valid form."""

    id: str
    cloud: str
    name: str = ""
    entry: Mapping[str, str] = {}
    destination: Mapping[str, str] = {}
    settings: Mapping[str, str] = {}
    paused: bool = False
    labels: Mapping[str, str] = {}


class Extent(msgspec.Struct, frozen=True):
    """How much of something a tenant serves: all of it but what is `left_out`, or if `parts` are given, only these."""

    whole: str
    parts: frozenset[str] | None = None
    left_out: frozenset[str] = frozenset()


class Rules(msgspec.Struct, frozen=True, eq=False):
    """What one cloud allows in an entry.

    `settings` are those that an entry may override. `own` are settings of the deployment that no tenant inherits.
    `identity` returns what only one tenant may enter, such as a payer's account id, for messages. `unique` are fields
    of `entry` whose values no two tenants may share. `exclusive` returns what else only one tenant may have, each with
    the reason. `extent` returns how much a tenant serves of what several tenants may have parts of, such as an
    organization, and `extent_advice` says what to do where one tenant serves a part of another one's whole. `further`
    returns what else is wrong with a valid entry. `known_as` returns under what a cloud lists a tenant: a proposal is
    not new if it shares any of these with an entry, also with one that is not valid.
    """

    cloud: str
    entry: Mapping[str, Field]
    destination: Mapping[str, Field]
    settings: frozenset[str]
    own: frozenset[str]
    identity: Callable[[Tenant], str]
    unique: tuple[str, ...] = ()
    further: Callable[[Tenant], Iterable[str]] = lambda _: ()
    exclusive: Callable[[Tenant], Mapping[str, str]] = lambda _: {}
    known_as: Callable[[Tenant], Iterable[str]] = lambda _: ()
    extent: Callable[[Tenant], Extent | None] = lambda _: None
    extent_advice: str = ""


class TenantRegistry(msgspec.Struct, frozen=True):
    """The tenants of one cloud: those that can be used, and for the others what is wrong with each entry.

    An entry that is wrong costs nothing but its own tenant. `refused` maps its id, or its place in the document
    (``tenants[3]``) if it has no valid one, to its faults.
    """

    cloud: str
    tenants: Mapping[str, Tenant] = {}
    refused: Mapping[str, tuple[str, ...]] = {}

    def tenant(self, tenant_id: str) -> Tenant:
        """Return a tenant. Raises RequestError if it is unknown or paused, RegistryError if its entry is wrong."""
        if tenant_id in self.refused:
            raise RegistryError([f"{tenant_id}: {fault}" for fault in self.refused[tenant_id]])
        found = self.tenants.get(tenant_id)
        if found is None:
            raise RequestError([f"tenant {tenant_id[:40]!r} is not in the registry for {self.cloud}"])
        if found.paused:
            raise RequestError([f"tenant {tenant_id!r} is paused; resume it first"])
        return found

    def require_sound(self) -> None:
        """Raise one RegistryError with the faults of all entries, if there are any."""
        faults = [f"{place}: {fault}" for place, faults in self.refused.items() for fault in faults]
        if faults:
            raise RegistryError(faults)


@lru_cache(maxsize=1)  # each run of a round reads the same document, whose check grows with the number of tenants
def parse_registry(data: bytes, rules: Rules) -> TenantRegistry:
    """Return the tenants of the cloud of `rules`; entries of other clouds are left out.

    The same document is parsed once, as long as no other one is. Raises RegistryError if the document as a whole cannot
    be used.
    """
    entries = read_document(data)
    places: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(entries):
        if isinstance(one, Mapping) and is_tenant_id(one.get("id")):
            places[one["id"]].append(place)
    tenants: dict[str, Tenant] = {}
    refused: dict[str, list[str]] = defaultdict(list)
    for place, one in enumerate(entries):
        if isinstance(one, Mapping) and one.get("cloud") in CLOUDS and one["cloud"] != rules.cloud:
            continue
        tenant, faults = _parse_entry(one, rules)
        name = tenant.id if tenant.id else f"tenants[{place}]"
        if len(places.get(name, ())) > 1:
            faults.append(f"this id is used {len(places[name])} times; give each tenant its own")
        if faults:
            refused[name] += [fault for fault in faults if fault not in refused[name]]
        else:
            tenants[name] = tenant
    for one, fault in (*_shared_values(tenants.values(), rules), *_shared_parts(tenants.values(), rules)):
        refused[one].append(fault)
    usable = {name: one for name, one in tenants.items() if name not in refused}
    return TenantRegistry(rules.cloud, usable, {name: tuple(faults) for name, faults in refused.items()})


def read_document(data: bytes) -> list[Any]:
    """Return the entries of a registry as they are written. Raises RegistryError if it is no registry."""
    if len(data) > MAX_BYTES:
        raise too_large(len(data))
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RegistryError([f"the registry is not valid JSON ({type(error).__name__})"]) from None
    if not isinstance(document, Mapping):
        raise RegistryError([f"the registry is {_what(document)}, not an object"])
    version, entries = document.get("version"), document.get("tenants")
    faults = [f"unknown key {_quoted(key)} (known: {', '.join(_HEAD)})" for key in document if key not in _HEAD]
    if isinstance(version, bool) or not isinstance(version, int):
        faults.append(f"'version' is {_what(version)}, not the number {VERSION}")
    elif version != VERSION:
        newer = "a later release wrote it; update this one" if version > VERSION else f"the version is {VERSION}"
        faults.append(f"'version' is {_quoted(version)}: {newer}")
    if not isinstance(entries, list):
        faults.append(f"'tenants' is {_what(entries)}, not a list")
    elif len(entries) > MAX_TENANTS:
        faults.append(
            f"'tenants' has {len(entries)} entries, more than {MAX_TENANTS}; deploy a second time for the rest"
        )
    if faults or not isinstance(entries, list):
        raise RegistryError(faults)
    return entries


def too_large(size: int) -> RegistryError:
    """Return the error for a registry of more than MAX_BYTES bytes."""
    return RegistryError([f"the registry has {size} bytes, more than {MAX_BYTES}; deploy a second time for the rest"])


def encode_registry(entries: Iterable[Any]) -> bytes:
    """Return a registry with these entries, tenants or entries as they are written, as indented JSON."""
    written = [_written(one) if isinstance(one, Tenant) else one for one in entries]
    return json.dumps({"version": VERSION, "tenants": written}, indent=2, ensure_ascii=False).encode() + b"\n"


def environment_of(tenant: Tenant, base: Mapping[str, str], rules: Rules) -> dict[str, str]:
    """Return the environment of a tenant's run: the deployment's own with what the entry says laid over it.

    Fields that the entry leaves out and settings in `Rules.own` do not come from the deployment: what enters one
    tenant must never enter another.
    """
    fields = {**rules.entry, **rules.destination}
    values = {**tenant.entry, **tenant.destination}
    dropped = rules.own | {field.setting for field in fields.values()} | {TENANT}
    kept = {name: value for name, value in base.items() if name not in dropped}
    return {
        **kept,
        **tenant.settings,
        **{fields[name].setting: value for name, value in values.items()},
        TENANT: tenant.id,
    }


def _written(tenant: Tenant) -> dict[str, Any]:
    whole = {name: getattr(tenant, name) for name in _KEYS}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in whole.items() if value}


def _parse_entry(given: Any, rules: Rules) -> tuple[Tenant, list[str]]:
    """Return an entry and its faults; with faults, of the tenant only the id may be used, "" if it is invalid."""
    if not isinstance(given, Mapping):
        return Tenant("", rules.cloud), [f"is {_what(given)}, not an object"]
    faults = [f"unknown key {_quoted(key)} (known: {', '.join(_KEYS)})" for key in given if key not in _KEYS]
    own_id = given.get("id")
    if not is_tenant_id(own_id):
        faults.append(f"'id' is {_quoted(own_id)}, not 1 to 40 of a–z, 0–9 and - (no - at either end)")
    if given.get("cloud") != rules.cloud:
        faults.append(f"'cloud' is {_quoted(given.get('cloud'))}, not one of {', '.join(CLOUDS)}")
    if not isinstance(given.get("paused", False), bool):
        faults.append(f"'paused' is {_what(given['paused'])}, not true or false")
    name = given.get("name", "")
    if not isinstance(name, str) or len(name) > MAX_LABEL or printable(name) != name:
        faults.append(f"'name' is not printable text of at most {MAX_LABEL} characters")
    labels = _texts(given.get("labels", {}), "labels", faults)
    if len(labels) > MAX_LABELS or any(len(key) > MAX_LABEL or len(value) > MAX_LABEL for key, value in labels.items()):
        faults.append(f"'labels' has more than {MAX_LABELS} entries or one of more than {MAX_LABEL} characters")
    settings = _texts(given.get("settings", {}), "settings", faults)
    allowed = ", ".join(sorted(rules.settings))
    faults += [
        f"'settings': {_quoted(key)} may not be set for a tenant (allowed: {allowed})"
        for key in settings
        if key not in rules.settings
    ]
    entry = _fields(given.get("entry", {}), "entry", rules.entry, faults)
    destination = _fields(given.get("destination", {}), "destination", rules.destination, faults)
    tenant = Tenant(
        own_id if isinstance(own_id, str) and is_tenant_id(own_id) else "",
        rules.cloud,
        name if isinstance(name, str) else "",
        entry,
        destination,
        settings,
        given.get("paused") is True,
        labels,
    )
    return tenant, faults if faults else list(rules.further(tenant))


def _texts(given: Any, what: str, faults: list[str]) -> dict[str, str]:
    """Return an object whose values are texts; anything else is a fault."""
    if not isinstance(given, Mapping):
        faults.append(f"{what!r} is {_what(given)}, not an object")
        return {}
    wrong = [key for key, value in given.items() if not _is_text(value)]
    faults += [
        f"{what!r}: the value of {_quoted(key)} is not printable text of at most {MAX_VALUE} characters"
        for key in wrong
    ]
    return {key: value for key, value in given.items() if key not in wrong}


def _fields(given: Any, what: str, fields: Mapping[str, Field], faults: list[str]) -> dict[str, str]:
    values = _texts(given, what, faults)
    known = ", ".join(fields)
    faults += [f"{what!r}: unknown key {_quoted(key)} (known: {known})" for key in values if key not in fields]
    for name, field in fields.items():
        value = values.get(name, "")
        if field.required and not value:
            faults.append(f"{what!r}: {name} is required: {field.hint}")
        elif value and not re.fullmatch(field.pattern, value, re.ASCII):
            shown = "its value" if field.reference else _quoted(value)
            faults.append(f"{what!r}: {name}: {shown} is not {field.hint}")
    return {name: value for name, value in values.items() if name in fields and value}


def _shared_values(tenants: Iterable[Tenant], rules: Rules) -> Iterator[tuple[str, str]]:
    """Yield (id, fault) for each tenant that shares with another one what only one may have."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    texts: dict[tuple[str, str], tuple[str, str]] = {}
    for tenant in tenants:
        for kind, value, what, advice in _claims(tenant, rules):
            groups[kind, value].append(tenant.id)
            texts[kind, value] = (what, advice)
    for claim, ids in groups.items():
        if len(ids) < 2:
            continue
        what, advice = texts[claim]
        for one in ids:
            others = ", ".join(other for other in ids[:6] if other != one)
            yield one, f"{what} ({others}); {advice}"


def _shared_parts(tenants: Iterable[Tenant], rules: Rules) -> Iterator[tuple[str, str]]:
    """Yield (id, fault) for each tenant that serves a part of what another one serves as a whole, and for that one."""
    extents = [(tenant.id, extent) for tenant in tenants if (extent := rules.extent(tenant)) is not None]
    wholes = defaultdict[str, list[tuple[str, Extent]]](list)
    for tenant, extent in extents:
        if extent.parts is None:
            wholes[extent.whole].append((tenant, extent))
    for tenant, extent in extents:
        for other, whole in wholes.get(extent.whole, ()) if extent.parts is not None else ():
            both = sorted((extent.parts or frozenset()) - whole.left_out)
            if both:
                shown = ", ".join(both[:3]) + (f" and {len(both) - 3} more" if len(both) > 3 else "")
                yield tenant, f"serves {shown} of {whole.whole}, as {other} does; {rules.extent_advice}"
                yield other, f"serves all of {whole.whole}, of which {tenant} serves {shown}; {rules.extent_advice}"


def _claims(tenant: Tenant, rules: Rules) -> Iterator[tuple[str, str, str, str]]:
    """Yield kind and value of what only this tenant may have, with the fault and the advice if another one has it."""
    identity, keep = rules.identity(tenant), "keep one of them"
    yield "identity", identity, f"enters {identity}, as another one does", keep
    for name in rules.unique:
        if tenant.entry.get(name):
            yield name, tenant.entry[name], f"'entry': {name} is the same as that of another tenant", keep
    for value, why in rules.exclusive(tenant).items():
        yield "exclusive", value, f"{value} is also that of another tenant", why


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_VALUE and printable(value) == value and "\n" not in value


def _what(value: Any) -> str:
    return "missing" if value is None else type(value).__name__


def _quoted(value: Any) -> str:
    """Return a value for a message, cut and without what looks like a secret."""
    if value is None:
        return "missing"
    return repr(cut(redact(printable(str(value))), 60))
