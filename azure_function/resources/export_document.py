"""Converts exports between Azure's document and the normal form in which managed fields are compared."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

import msgspec

from azure_function.settings import AzureSettings, Storage
from azure_function.targets import DESCRIPTION, FAR, OURS, ROOT, UNTIL_TEXT, ExportPlacement, version_order
from shared.errors import NotUnderstood
from shared.model import Ownership
from shared.parsing import mapping, parse_time

NEAR_END = timedelta(days=365)
LONGEST_WAIT = timedelta(hours=1)  # how long a write can wait for its quota; no run lasts longer
READ_ONLY = ("runHistory", "nextRunTimeEstimate", "systemSuspensionContext")
SCRIPT_ACCOUNT = "tailpipedataexport"  # the prefix of the storage account that the legacy scripts create


class ExportVariant(msgspec.Struct, frozen=True):
    """The fields of an export that Azure may reject: its type, and its dataset version ("" if it has none)."""

    kind: str
    version: str = ""


def document(
    placement: ExportPlacement,
    wanted: ExportVariant,
    account: Storage,
    settings: AzureSettings,
    now: datetime,
    live: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the complete document to send for a new export, or for the repair of a live one.

    Azure requires a start in the future, and a write may wait for its quota. A new export therefore starts at the first
    midnight (UTC) after LONGEST_WAIT. A live one keeps its start, its eTag, and all fields that are not managed, such
    as columns, filters, and a custom description.
    """
    body: dict[str, Any] = {"properties": deepcopy(dict(live["properties"])) if live else {}}
    properties = body["properties"]
    for name in READ_ONLY:
        properties.pop(name, None)
    definition = properties.setdefault("definition", {})
    dataset = definition.setdefault("dataSet", {})
    definition.update(type=wanted.kind, timeframe="MonthToDate")
    definition.pop("timePeriod", None)
    dataset["granularity"] = "Daily"
    if wanted.version:
        dataset["configuration"] = {**(dataset.get("configuration") or {}), "dataVersion": wanted.version}
    schedule = properties.get("schedule") or {}
    period = schedule.get("recurrencePeriod") or {}
    midnight = (now + LONGEST_WAIT + timedelta(days=1)).replace(hour=0, minute=0, second=0)
    properties["schedule"] = {
        "status": "Active",
        "recurrence": "Daily",
        "recurrencePeriod": {"from": period.get("from") or f"{midnight:%Y-%m-%dT%H:%M:%SZ}", "to": UNTIL_TEXT},
    }
    properties["format"], properties["compressionMode"] = ("Parquet", "snappy") if settings.parquet else ("Csv", "gzip")
    properties["partitionData"] = True
    properties["dataOverwriteBehavior"] = "OverwritePreviousReport"
    properties["exportDescription"] = properties.get("exportDescription") or DESCRIPTION
    properties["deliveryInfo"] = {
        "destination": {
            "type": "AzureBlob",
            "resourceId": account.id,
            "container": settings.container,
            "rootFolderPath": placement.folder,
        }
    }
    live_identity = (live or {}).get("identity") or {}
    if settings.identity or live_identity.get("type") == "SystemAssigned":
        body["identity"] = {"type": "SystemAssigned"}
        body["location"] = str((live or {}).get("location") or settings.location)
    if live and live.get("eTag"):
        body["eTag"] = live["eTag"]
    return body


def version_to_send(wanted: str, live: Mapping[str, Any] | None) -> str:
    """Return the dataset version to send: the wanted one, or that of the live export if it is later."""
    if not wanted or not live:
        return wanted
    return max(wanted, _version(((live["properties"].get("definition") or {}).get("dataSet")) or {}), key=version_order)


def _version(dataset: Mapping[str, Any]) -> str:
    return str((dataset.get("configuration") or {}).get("dataVersion") or "")


# Fields of an export that may be missing or null, and are otherwise objects.
PARTS = (
    "identity",
    "systemData",
    "properties.schedule",
    "properties.schedule.recurrencePeriod",
    "properties.definition.dataSet",
    "properties.definition.dataSet.configuration",
    "properties.deliveryInfo",
    "properties.deliveryInfo.destination",
    "properties.runHistory",
    "properties.systemSuspensionContext",
)


def validated(live: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    """Return an export's document unchanged. Raises NotUnderstood if an optional field has the wrong type.

    `what` names the call. The required fields are validated before (see `EXPECTED` in `answers`).
    """
    for path in PARTS:
        value: Any = live
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is not None and not isinstance(value, Mapping):
            raise NotUnderstood(what, f"its field {path} is {type(value).__name__}")
    runs = mapping(mapping(live.get("properties")).get("runHistory")).get("value")
    if runs is not None and not (isinstance(runs, list) and all(_is_run(run) for run in runs)):
        raise NotUnderstood(what, "its field properties.runHistory.value is not a list of runs")
    return live


def _is_run(run: Any) -> bool:
    if not isinstance(run, Mapping) or not isinstance(run.get("properties"), Mapping):
        return False
    error = run["properties"].get("error")
    return error is None or isinstance(error, Mapping)


def normal_form(live: Mapping[str, Any], settings: AzureSettings, now: datetime) -> dict[str, Any]:
    """Return the managed fields of a live export in the form of `Target.desired`.

    Azure omits default values and the type of the destination, and may change the case or the slashes of what was sent.
    The normal form does not contain these differences.
    """
    properties: Mapping[str, Any] = live.get("properties") or {}
    definition = properties.get("definition") or {}
    dataset = definition.get("dataSet") or {}
    schedule = properties.get("schedule") or {}
    target = (properties.get("deliveryInfo") or {}).get("destination") or {}
    until = parse_time((schedule.get("recurrencePeriod") or {}).get("to"))
    resource = str(target.get("resourceId", ""))
    return {
        "type": str(definition.get("type", "")),
        "schedule": f"{schedule.get('status', 'Active')} {schedule.get('recurrence', '')}".strip(),
        "timeframe": str(definition.get("timeframe", "")),
        "granularity": str(dataset.get("granularity", "")),
        "format": f"{properties.get('format') or 'Csv'} {str(properties.get('compressionMode') or 'none').lower()}",
        "partitioned": bool(properties.get("partitionData", False)),
        "overwrite": str(properties.get("dataOverwriteBehavior") or "CreateNewReport"),
        "destination": OURS if settings.own(resource) else resource,
        "container": str(target.get("container", "")),
        "folder": str(target.get("rootFolderPath", "")).strip("/"),
        "until": FAR if until is None or until - now > NEAR_END else f"{until:%Y-%m-%d}",
        "version": _version(dataset),
        "identity": str((live.get("identity") or {}).get("type") or "None"),
    }


def ownership(
    live: Mapping[str, Any], actual: Mapping[str, Any], placement: ExportPlacement, facts: Mapping[str, Any]
) -> Ownership:
    """Return the ownership of an export that has our name.

    OURS: it has our description, the state records that we wrote it, or it delivers to our folder in our account.
    UNMARKED, and so adopted: it has our account, or it runs daily and has our folder or an account of the legacy
    scripts. An export that delivers elsewhere and is not scheduled was stopped on purpose or created for one run, so it
    is not adopted. FOREIGN: any other export.
    """
    target = ((live.get("properties") or {}).get("deliveryInfo") or {}).get("destination") or {}
    resource = str(target.get("resourceId"))
    ours, folder = actual["destination"] == OURS, actual["folder"] == placement.folder
    if is_marked(live) or facts.get("ours") or (ours and folder):
        return Ownership.OURS
    script = resource.rsplit("/", 1)[-1].lower().startswith(SCRIPT_ACCOUNT)
    own_root = str(actual["folder"]).lower().startswith(f"{ROOT}/")
    runs = str(actual["schedule"]).startswith("Active ")
    return Ownership.UNMARKED if ours or (runs and (folder or script or own_root)) else Ownership.FOREIGN


def account_in(live: Mapping[str, Any], settings: AzureSettings) -> Storage | None:
    """Return the configured storage account that a live export delivers to, or None."""
    target = ((live.get("properties") or {}).get("deliveryInfo") or {}).get("destination") or {}
    return settings.own(str(target.get("resourceId", "")))


def is_marked(live: Mapping[str, Any]) -> bool:
    """Return whether a live export has our description."""
    return str((live.get("properties") or {}).get("exportDescription", "")) == DESCRIPTION
