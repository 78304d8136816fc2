"""The documented validation of an export and of an execution's period.

The SDK's models define shapes, required fields and enumerated values (see `export_schema`). This module adds the rules
in https://learn.microsoft.com/rest/api/cost-management/exports/create-or-update.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from azure.mgmt.costmanagement import models

from localcloud.azure.api_models import Invalid, normalized, parsed, requested
from localcloud.azure.errors import ArmError, bad_request
from localcloud.azure.services.storage import CONTAINER

_NAME = re.compile(r"[A-Za-z0-9_-]{3,64}")
_RESERVED = re.compile(r"[:?#\[\]@!$&'()*+,;=%<>{}|\\^`\"\x00-\x1f]")
_COMPRESSION = {"Csv": ("gzip", "none"), "Parquet": ("snappy", "none")}
_YEARS_BACK = 7
_RESERVATION_MONTHS_BACK = 13


def read(name: str, document: Any, now: datetime, stored: dict[str, Any] | None) -> dict[str, Any]:
    """Return the normalized body of an export; `stored` is the body that an update replaces. Raises ArmError 400."""
    if not _NAME.fullmatch(name):
        raise bad_request(f"Invalid export name '{name}': 3 to 64 letters, digits, hyphens or underscores.")
    try:
        body = requested(models.Export, document)
        properties = body.get("properties") or normalized(models.ExportProperties, {}, "properties")
        _format(properties, document["properties"])
        _schedule(properties.get("schedule"), now, stored)
        _definition(properties["definition"])
    except Invalid as cause:
        raise bad_request(f"{cause}.") from cause
    _destination(properties["deliveryInfo"]["destination"])
    identity = body.get("identity", {})
    if identity.get("type") == "SystemAssigned" and not body.get("location"):
        raise bad_request("'location' is required when the export uses a managed identity.")
    return body


def _format(properties: dict[str, Any], given: dict[str, Any]) -> None:
    properties.setdefault("format", "Csv")
    properties.setdefault("dataOverwriteBehavior", "CreateNewReport")
    properties.setdefault("partitionData", False)
    # The compression mode is case-sensitive: `Gzip` is rejected.
    compression = given.get("compressionMode") or "none"
    allowed = _COMPRESSION[properties["format"]]
    if compression not in allowed:
        raise Invalid(
            f"Invalid compressionMode '{compression}' for format '{properties['format']}'; valid values: "
            + ", ".join(f"'{value}'" for value in allowed)
        )
    properties["compressionMode"] = compression


def _schedule(schedule: dict[str, Any] | None, now: datetime, stored: dict[str, Any] | None) -> None:
    if schedule is None:
        return
    schedule.setdefault("status", "Active")
    if schedule["status"] == "Inactive" and "recurrence" not in schedule:
        return
    if "recurrence" not in schedule:
        raise Invalid("Required member 'properties.schedule.recurrence' is missing")
    period = schedule.get("recurrencePeriod")
    if not period:
        raise Invalid("Required member 'properties.schedule.recurrencePeriod' is missing")
    if "to" not in period:
        raise Invalid("Required member 'properties.schedule.recurrencePeriod.to' is missing")
    start = parsed(period["from"], "recurrencePeriod.from")
    kept = stored["properties"].get("schedule", {}).get("recurrencePeriod") if stored else None
    unchanged = kept is not None and parsed(kept["from"], "from") == start
    if start <= now and not unchanged:
        raise Invalid("The schedule's 'from' value cannot be in the past")
    if parsed(period["to"], "recurrencePeriod.to") <= start:
        raise Invalid("The schedule's 'to' value must be greater than its 'from' value")


def _definition(definition: dict[str, Any]) -> None:
    if definition["timeframe"] == "Custom" and "timePeriod" not in definition:
        raise Invalid("Required member 'properties.definition.timePeriod' is missing for the timeframe 'Custom'")


def _destination(destination: dict[str, Any]) -> None:
    if "resourceId" not in destination:
        raise bad_request("Required member 'deliveryInfo.destination.resourceId' is missing.")
    if not CONTAINER.fullmatch(destination["container"]):
        raise bad_request(f"Invalid container name '{destination['container']}'.")
    folder = destination.get("rootFolderPath", "")
    if _RESERVED.search(folder) or ".." in folder.split("/") or folder.endswith("."):
        raise bad_request(f"The rootFolderPath '{folder}' contains reserved url characters.")


def period(document: Any, export_type: str, now: datetime) -> tuple[datetime, datetime] | None:
    """Return the first and last day of a requested execution, or None for the export's own. Raises ArmError 400."""
    if not document:
        return None
    try:
        body = requested(models.ExportRunRequest, document)
        if "timePeriod" not in body:
            return None
        start = parsed(body["timePeriod"]["from"], "timePeriod.from")
        end = parsed(body["timePeriod"]["to"], "timePeriod.to")
    except Invalid as cause:
        raise bad_request(f"{cause}.") from cause
    if end < start:
        raise bad_request("The 'to' value must not be before the 'from' value.")
    if end > now:
        raise bad_request("The 'to' value cannot be in the future.")
    if (start.year, start.month) != (end.year, end.month):
        raise bad_request("The time period cannot be longer than one calendar month.")
    if export_type.startswith("Reservation"):
        oldest = now - timedelta(days=_RESERVATION_MONTHS_BACK * 31)
    else:
        oldest = now - timedelta(days=_YEARS_BACK * 366)
    if start < oldest:
        raise bad_request("The 'from' value is too far in the past.")
    return start, end


def check_tag(sent: str | None, current: str, name: str, blind: bool, stale: int, request_id: str) -> None:
    """Check an update's eTag. Raises ArmError 400 if a required one is missing, 409 or 412 if it is outdated."""
    if sent == current or (blind and not sent):
        return
    if not sent:
        raise bad_request(
            f"Etag value required for update operation of report: {name}.Please get the latest to avoid overwrite. "
            f"(Request ID: {request_id})"
        )
    raise ArmError(
        stale,
        "Conflict" if stale == 409 else "PreconditionFailed",
        f"The eTag of report: {name} has changed. Please get the latest and try again. (Request ID: {request_id})",
    )
