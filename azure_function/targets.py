"""Declares what must exist, as pure data: names, folders, managed fields, and the storage account of each export."""

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
EXPORT = Kind("export", Stage.EXPORT)  # no grace: a creation is complete when it returns
BACKFILL = Kind("backfill", Stage.DERIVED)

EXPORTS_PROVIDER = "Microsoft.CostManagementExports"
ROOT = "tailpipe"
NAME = "TailpipeDataExport"
BILLING_NAME = "TailpipeAllSubs"
DESCRIPTION = "Cost data for Tailpipe, kept by tailpipe-exports"
UNTIL = datetime(2099, 12, 31)  # noqa: DTZ001 - only formatted as text with Z, never compared
UNTIL_TEXT = f"{UNTIL:%Y-%m-%dT%H:%M:%SZ}"
OURS = "as configured"  # any configured storage account: an export that works on one of them stays there
FAR = "more than a year ahead"
VERSIONS = "versions"  # fact of an export: {version in the settings: version that Azure accepted}
# The FOCUS dataset versions that Cost Management has offered so far; it adds and removes versions.
KNOWN_VERSIONS = ("1.0-preview(v1)", "1.0", "1.0r2", "1.2-preview", "1.2")
UP_TO_DATE = "requested or delivered"
RHYTHM = timedelta(hours=48)  # exports run daily, at no guaranteed time; a new one delivers within two days
COVERING = timedelta(hours=48)  # without a delivery for this long, a billing export covers no subscription

# The facts that the state document stores with targets: name → type.
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
    """A dataset: the suffix of its export's name, its export types in order of preference, and if it has versions.

    Pay-as-you-go agreements offer Usage where others offer ActualCost; the other two datasets have no alternative.
    Source: "Understand export types", Microsoft Cost Management documentation.
    """

    suffix: str
    types: tuple[str, ...]
    versioned: bool = False


DATASETS = {
    "actual": Dataset("", ("ActualCost", "Usage")),
    "focus": Dataset("-focus", ("FocusCost",), versioned=True),
    "amortized": Dataset("-amortized", ("AmortizedCost",)),
}


class ExportPlacement(msgspec.Struct, frozen=True):
    """What an export's key determines: its dataset, the Resource Manager path of its scope, and its folder."""

    dataset: Dataset
    path: str
    folder: str


def targets_of(enumeration: Enumeration, settings: AzureSettings, known: KnownStates) -> list[Target]:
    """Return the targets of all scopes; a destination only if its subscription is in the enumeration."""
    listed = {scope.id for scope in enumeration.scopes}
    targets = [
        Target(Key(subscription, REGISTRATION.name, EXPORTS_PROVIDER), REGISTRATION)
        for subscription in dict.fromkeys(account.subscription for account in settings.destination)
        if subscription in listed
    ]
    targets += [
        Target(container_key(account, settings), CONTAINER, {"state": "there"})
        for account in settings.destination
        if account.subscription in listed
    ]
    containers = {target.key for target in targets}
    for scope in enumeration.scopes:
        if scope.traits.get(ROLE) in (SUBSCRIPTION, BILLING):
            targets += _scope_targets(scope, settings, known, containers)
    return targets


def _scope_targets(scope: Scope, settings: AzureSettings, known: KnownStates, containers: set[Key]) -> Iterator[Target]:
    for dataset in settings.exports:
        name = export_name(scope, dataset)
        key = Key(scope.id, EXPORT.name, name)
        skip = _covered_by(scope, dataset, known)
        entry = known.state_of(key)
        container = container_key(account_of(key, entry, settings), settings)
        yield Target(
            key,
            EXPORT,
            desired_shape(scope.id, name, entry, settings),
            needs=(container,) if container in containers else (),
            skip=skip,
            rests_on=(Key(scope.traits[COVERED_BY], EXPORT.name, billing_name(dataset)),) if skip else (),
            rhythm=RHYTHM,
        )
        if settings.backfills:
            yield Target(Key(scope.id, BACKFILL.name, name), BACKFILL, {"months": UP_TO_DATE}, skip=skip)


def export_name(scope: Scope, dataset: str) -> str:
    """Return the name of the export of a dataset in a scope."""
    if scope.traits.get(ROLE) == BILLING:
        return billing_name(dataset)
    return f"{NAME}-{scope.id[-6:]}{DATASETS[dataset].suffix}"


def billing_name(dataset: str) -> str:
    """Return the name of the export of a dataset in a billing scope."""
    return BILLING_NAME + DATASETS[dataset].suffix


def is_export(key: Key) -> bool:
    """Return whether this is the key of one of the exports that the function may create."""
    return _dataset_of(key) is not None


def _dataset_of(key: Key) -> Dataset | None:
    base = BILLING_NAME if key.scope.startswith("/") else f"{NAME}-{key.scope[-6:]}"
    return next((dataset for dataset in DATASETS.values() if key.name == base + dataset.suffix), None)


def is_own(folder: str, name: str) -> bool:
    """Return whether an export that delivers to one of our folders has a name that the function gives."""
    base = BILLING_NAME if folder.startswith(f"{ROOT}/billing/") else f"{NAME}-{folder[-6:]}"
    return any(name == base + dataset.suffix for dataset in DATASETS.values())


def placement_of(key: Key) -> ExportPlacement:
    """Return the dataset, path and folder of the export with this key. Raises ValueError for any other key."""
    dataset = _dataset_of(key)
    if dataset is None:
        raise ValueError(f"{key} is no export")
    if key.scope.startswith("/"):
        # Azure rejects folders with reserved URL characters, such as the colons in a customer agreement's ids.
        return ExportPlacement(dataset, key.scope, f"{ROOT}/billing/{safe(key.scope.rsplit('/', 1)[1])}")
    return ExportPlacement(dataset, f"/subscriptions/{key.scope}", f"{ROOT}/subscriptions/{key.scope}")


def safe(text: str) -> str:
    """Return `text` with each character replaced by a dash, except letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)


def container_key(account: Storage, settings: AzureSettings) -> Key:
    """Return the key of the export container in a storage account."""
    return Key(account.subscription, CONTAINER.name, f"{account.name}/{settings.container}")


def account_of(key: Key, entry: TargetState | None, settings: AzureSettings) -> Storage:
    """Return the storage account of an export: the one it already delivers to, else the one its scope hashes to."""
    if entry is not None:
        current = settings.named(str(entry.facts.get("account", "")))
        if current is not None:
            return current
    return assigned(key.scope, settings)


def assigned(scope: str, settings: AzureSettings) -> Storage:
    """Return the storage account with the highest hash of scope and account (rendezvous hashing).

    Adding an account moves only the scopes that the new account gets; removing one moves only its own scopes. Account
    ids are hashed in lower case, because Resource Manager ignores their case.
    """
    if len(settings.destination) == 1:
        return settings.destination[0]
    return max(
        settings.destination,
        key=lambda account: hashlib.blake2b(f"{scope}\n{account.id.lower()}".encode(), digest_size=8).digest(),
    )


def desired_shape(scope: str, name: str, entry: TargetState | None, settings: AzureSettings) -> Mapping[str, Any]:
    """Return the managed fields of an export in normal form."""
    placement = placement_of(Key(scope, EXPORT.name, name))
    accepted = str(entry.facts.get("type", "")) if entry else ""
    kind = accepted if accepted in placement.dataset.types else placement.dataset.types[0]
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
        "folder": placement.folder,
        "until": FAR,
    }
    if placement.dataset.versioned:
        shape["version"] = accepted_version(entry, settings)
    if settings.identity:
        shape["identity"] = "SystemAssigned"
    return shape


def accepted_version(entry: TargetState | None, settings: AzureSettings) -> str:
    """Return the FOCUS version in the settings, or the one that Azure accepted instead."""
    wanted = settings.focus_version
    versions = entry.facts.get(VERSIONS) if entry else None
    accepted = versions.get(wanted) if isinstance(versions, Mapping) else None
    return accepted if isinstance(accepted, str) and accepted else wanted


def version_order(version: str) -> tuple[int, int, bool, str]:
    """Return the sort key of a FOCUS version: its number, a preview before the release, then the revision."""
    match = re.match(r"(\d+)\.(\d+)(.*)", version)
    if match is None:
        return (0, 0, False, version)
    return (int(match[1]), int(match[2]), "preview" not in match[3], match[3])


def fallback_version(wanted: str, offered: Sequence[str]) -> str:
    """Return the version to use if Azure rejects `wanted`: of those offered, else of the known ones; "" if none.

    The result never has a later number than `wanted`, because Tailpipe may not be able to read its rows.
    """
    number = version_order(wanted)[:2]
    versions = [
        version for version in offered or KNOWN_VERSIONS if version_order(version)[:2] <= number and version != wanted
    ]
    if not offered:
        versions = [version for version in versions if version_order(version) < version_order(wanted)]
    return max(versions, key=version_order, default="")


def _covered_by(scope: Scope, dataset: str, known: KnownStates) -> str:
    """Return which billing export already delivers the costs of a subscription, as a reason; "" if none does.

    A billing export that the state does not contain yet counts, because this run creates it. One with an error, or
    without a delivery for two days, does not count.
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
