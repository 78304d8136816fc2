"""What must exist, as pure data: names, folders, shape, and which storage account an export delivers to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec

from azure_function.scopes import BILLING, COVERED_BY, ROLE, SUBSCRIPTION
from azure_function.settings import AzureSettings, Storage
from shared.model import Enumeration, Key, Kind, Scope, Stage, Target
from shared.provider import KnownStates
from shared.target_state import TargetState

REGISTRATION = Kind("registration", Stage.DESTINATION, grace=timedelta(minutes=10))
CONTAINER = Kind("container", Stage.DESTINATION, grace=timedelta(minutes=1))
EXPORT = Kind("export", Stage.EXPORT)  # a creation answers when it is done, and refuses to be done twice
BACKFILL = Kind("backfill", Stage.DERIVED)

EXPORTS_PROVIDER = "Microsoft.CostManagementExports"
ROOT = "tailpipe"
NAME = "TailpipeDataExport"
BILLING_NAME = "TailpipeAllSubs"
DESCRIPTION = "Cost data for Tailpipe, kept by tailpipe-exports"
UNTIL = datetime(2099, 12, 31)  # noqa: DTZ001 - written as Azure's own text with Z, never compared
UNTIL_TEXT = f"{UNTIL:%Y-%m-%dT%H:%M:%SZ}"
OURS = "as configured"  # which of our own accounts is not managed: what already works on one stays there
FAR = "more than a year ahead"
VERSIONS = "versions"  # a fact of exports with versions: {version of the settings: the one that Azure took}
# Source: the FOCUS dataset versions that Cost Management has offered; they come and go.
KNOWN_VERSIONS = ("1.0-preview(v1)", "1.0", "1.0r2", "1.2-preview", "1.2")
UP_TO_DATE = "asked for or delivered"
RHYTHM = timedelta(hours=48)  # exports run once a day, at no promised time; a new one delivers within two days
COVERING = timedelta(hours=48)  # a billing scope's export without a delivery for this long covers nobody

# What is remembered of targets, by name and type.
FACTS: Mapping[str, Any] = {
    "account": str,
    "empty_since": str,
    "executed_at": str,
    "incomplete": str,
    "ledger": dict[str, tuple[Annotated[int, msgspec.Meta(ge=0, le=1000)], str]],
    "listing": dict[str, Any],
    "lost": dict[str, str],
    "manifest": str,
    "ours": bool,
    "sized": bool,
    "type": str,
    VERSIONS: dict[str, str],
}


class Dataset(msgspec.Struct, frozen=True):
    """A dataset: the suffix of its export's name, its types in order of preference, and whether it has versions.

    Source: "Understand export types", Microsoft Cost Management documentation. Pay-as-you-go agreements offer Usage
    where others offer ActualCost; there is no substitute for the other two.
    """

    suffix: str
    types: tuple[str, ...]
    versioned: bool = False


DATASETS = {
    "actual": Dataset("", ("ActualCost", "Usage")),
    "focus": Dataset("-focus", ("FocusCost",), versioned=True),
    "amortized": Dataset("-amortized", ("AmortizedCost",)),
}


class Place(msgspec.Struct, frozen=True):
    """What the name and the scope of an export say of it: dataset, scope's path in Resource Manager, folder."""

    dataset: Dataset
    path: str
    folder: str


def targets_of(enumeration: Enumeration, settings: AzureSettings, known: KnownStates) -> list[Target]:
    """Return the targets of every scope; destinations only of the subscriptions that take part in the enumeration."""
    listed = {scope.id for scope in enumeration.scopes}
    found = [
        Target(Key(subscription, REGISTRATION.name, EXPORTS_PROVIDER), REGISTRATION)
        for subscription in dict.fromkeys(one.subscription for one in settings.destination)
        if subscription in listed
    ]
    found += [
        Target(container_key(one, settings), CONTAINER, {"state": "there"})
        for one in settings.destination
        if one.subscription in listed
    ]
    containers = {target.key for target in found}
    for scope in enumeration.scopes:
        if scope.traits.get(ROLE) in (SUBSCRIPTION, BILLING):
            found += _of_scope(scope, settings, known, containers)
    return found


def _of_scope(scope: Scope, settings: AzureSettings, known: KnownStates, containers: set[Key]) -> Iterator[Target]:
    for dataset in settings.exports:
        name = export_name(scope, dataset)
        key = Key(scope.id, EXPORT.name, name)
        skip = _covered(scope, dataset, known)
        entry = known.state_of(key)
        need = container_key(account_of(key, entry, settings), settings)
        yield Target(
            key,
            EXPORT,
            desired_shape(scope.id, name, entry, settings),
            needs=(need,) if need in containers else (),
            skip=skip,
            rests_on=(Key(scope.traits[COVERED_BY], EXPORT.name, billing_name(dataset)),) if skip else (),
            rhythm=RHYTHM,
        )
        if settings.backfills:
            yield Target(Key(scope.id, BACKFILL.name, name), BACKFILL, {"months": UP_TO_DATE}, skip=skip)


def export_name(scope: Scope, dataset: str) -> str:
    """Return the exact name of a scope's export of a dataset."""
    if scope.traits.get(ROLE) == BILLING:
        return billing_name(dataset)
    return f"{NAME}-{scope.id[-6:]}{DATASETS[dataset].suffix}"


def billing_name(dataset: str) -> str:
    """Return the exact name of a billing scope's export of a dataset."""
    return BILLING_NAME + DATASETS[dataset].suffix


def place_of(key: Key) -> Place:
    """Return what follows from an export's key alone."""
    billing = key.scope.startswith("/")
    base = BILLING_NAME if billing else f"{NAME}-{key.scope[-6:]}"
    dataset = next(one for one in DATASETS.values() if key.name == base + one.suffix)
    if billing:
        # Colons of a customer agreement's ids, and whatever else a URL reserves, are refused in a folder.
        return Place(dataset, key.scope, f"{ROOT}/billing/{safe(key.scope.rsplit('/', 1)[1])}")
    return Place(dataset, f"/subscriptions/{key.scope}", f"{ROOT}/subscriptions/{key.scope}")


def safe(text: str) -> str:
    """Return `text` with everything but letters, digits, dot, dash and underscore replaced by a dash."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)


def container_key(account: Storage, settings: AzureSettings) -> Key:
    """Return the key of an account's container."""
    return Key(account.subscription, CONTAINER.name, f"{account.name}/{settings.container}")


def account_of(key: Key, entry: TargetState | None, settings: AzureSettings) -> Storage:
    """Return the storage account an export belongs to: where it works already, else the one its scope hashes to."""
    if entry is not None:
        known = settings.named(str(entry.facts.get("account", "")))
        if known is not None:
            return known
    return assigned(key.scope, settings)


def assigned(scope: str, settings: AzureSettings) -> Storage:
    """Return the account with the highest hash of scope and account (rendezvous hashing).

    Each scope chooses by itself: another account takes its share of all of them, one that leaves gives its own away,
    and nothing else moves. The accounts' ids are hashed in lower case, in which Resource Manager does not tell them
    apart.
    """
    if len(settings.destination) == 1:
        return settings.destination[0]
    return max(
        settings.destination,
        key=lambda one: hashlib.blake2b(f"{scope}\n{one.id.lower()}".encode(), digest_size=8).digest(),
    )


def desired_shape(scope: str, name: str, entry: TargetState | None, settings: AzureSettings) -> Mapping[str, Any]:
    """Return the managed fields in normal form; equal ones are one object, for there are thousands of them."""
    place = place_of(Key(scope, EXPORT.name, name))
    allowed = str(entry.facts.get("type", "")) if entry else ""
    kind = allowed if allowed in place.dataset.types else place.dataset.types[0]
    shape = {
        "type": kind,
        "schedule": "Active Daily",
        "timeframe": "MonthToDate",
        "granularity": "Daily",
        "format": "Parquet snappy" if settings.parquet else "Csv gzip",
        "partitioned": True,
        "overwrite": "OverwritePreviousReport",
        "destination": OURS,
        "container": settings.container,
        "folder": place.folder,
        "until": FAR,
    }
    if place.dataset.versioned:
        shape["version"] = accepted_version(entry, settings)
    if settings.identity:
        shape["identity"] = "SystemAssigned"
    return shape


def accepted_version(entry: TargetState | None, settings: AzureSettings) -> str:
    """Return the FOCUS version of the settings, or the one that Azure took in its place."""
    wanted = settings.focus_version
    taken = entry.facts.get(VERSIONS) if entry else None
    found = taken.get(wanted) if isinstance(taken, Mapping) else None
    return found if isinstance(found, str) and found else wanted


def version_order(version: str) -> tuple[int, int, bool, str]:
    """Return by what FOCUS versions are compared: the number, then a preview before the release, then revisions."""
    found = re.match(r"(\d+)\.(\d+)(.*)", version)
    if found is None:
        return (0, 0, False, version)
    return (int(found[1]), int(found[2]), "preview" not in found[3], found[3])


def lower_version(wanted: str, offered: Sequence[str]) -> str:
    """Return the best version to take where `wanted` is refused: of those offered, else of the known ones; "" if none.

    It is never of a later number than `wanted`, whose rows the reader may not know.
    """
    number = version_order(wanted)[:2]
    found = [one for one in offered or KNOWN_VERSIONS if version_order(one)[:2] <= number and one != wanted]
    if not offered:
        found = [one for one in found if version_order(one) < version_order(wanted)]
    return max(found, key=version_order, default="")


def _covered(scope: Scope, dataset: str, known: KnownStates) -> str:
    """Return by which billing scope's export a subscription's costs are delivered already; "" if by none.

    A billing export that memory has not seen yet is made in this very run and counts; one with an error, or without
    a delivery for two days, does not.
    """
    cover = scope.traits.get(COVERED_BY, "")
    if not cover:
        return ""
    name = billing_name(dataset)
    entry = known.state_of(Key(cover, EXPORT.name, name))
    if entry is not None and not _delivers(entry):
        return ""
    return f"its costs are in export {name} of billing scope {cover}"


def _delivers(entry: TargetState) -> bool:
    since = entry.delivered_at or entry.applied_at
    return entry.error is None and entry.present is not False and (since is None or entry.at - since < COVERING)
