"""Cloud Storage buckets: the global namespace, locations, public access, lifecycle rules."""

from __future__ import annotations

import hashlib
import re
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from localcloud.common.data_file import read_table
from localcloud.gcp.errors import GoogleError, invalid, not_found
from localcloud.gcp.services.objects import ObjectStore, StoredObject, rfc3339

MULTI_REGIONS = ("US", "EU", "ASIA")
# Regions of both Cloud Storage and BigQuery (https://cloud.google.com/storage/docs/locations).
REGIONS = read_table(__file__, "regions.json", frozenset[str])
CLASSES = ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{1,220})[a-z0-9]")
_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}")
_IMMUTABLE = ("location", "name", "id", "kind", "projectNumber", "timeCreated", "locationType")
_SOFT_DELETE_S = 7 * 24 * 3600


@dataclass
class Bucket:
    """One bucket: its owner, its metadata as the API shows it, and its objects."""

    project: str
    document: dict[str, Any]
    objects: ObjectStore
    created: datetime
    uploads: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.document["name"])

    @property
    def location(self) -> str:
        return str(self.document["location"])

    @property
    def metageneration(self) -> int:
        return int(self.document["metageneration"])

    def retained_until(self, found: StoredObject) -> datetime | None:
        """Return the end of an object's retention by the bucket's policy, or None without a policy."""
        policy = self.document.get("retentionPolicy")
        return found.created + timedelta(seconds=int(policy["retentionPeriod"])) if policy else None

    def held(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return a new object's fields, with the bucket's default event-based hold if it is enabled."""
        return {"eventBasedHold": True, **fields} if self.document.get("defaultEventBasedHold") else fields

    def check_unprotected(self, found: StoredObject, now: datetime, *, deleted: bool) -> None:
        """Raise GoogleError 403 for an object that a hold or the retention policy protects.

        With versioning, a replaced object stays as a noncurrent version, which the policy allows; a delete fails
        (https://cloud.google.com/storage/docs/bucket-lock, https://cloud.google.com/storage/docs/object-holds).
        """
        if found.fields.get("eventBasedHold") or found.fields.get("temporaryHold"):
            raise GoogleError(
                403,
                "objectUnderActiveHold",
                f"Object '{self.name}/{found.name}' is under active Event-Based hold and cannot be deleted, "
                "overwritten or archived until hold is removed.",
            )
        until = self.retained_until(found)
        versions = bool((self.document.get("versioning") or {}).get("enabled"))
        if until is not None and now < until and (deleted or not versions):
            raise GoogleError(
                403,
                "retentionPolicyNotMet",
                f"Object '{self.name}/{found.name}' is subject to bucket's retention policy or object retention and "
                f"cannot be deleted or overwritten until {rfc3339(until)}",
            )


def valid_name(name: str) -> bool:
    """Return whether a bucket name is valid (https://cloud.google.com/storage/docs/buckets#naming)."""
    parts = name.split(".")
    return bool(
        _NAME.fullmatch(name)
        and not _ADDRESS.fullmatch(name)
        and not name.startswith("goog")
        and "google" not in name
        and all(0 < len(part) <= 63 for part in parts)
    )


def new_document(body: dict[str, Any], project_number: str, now: datetime) -> dict[str, Any]:
    """Return the metadata of a bucket created by this request. Raises GoogleError for invalid settings."""
    name = body.get("name", "")
    if not valid_name(name):
        raise invalid(f"Invalid bucket name: '{name[:80]}'")
    location = str(body.get("location") or "US").upper()
    if location not in REGIONS and location not in MULTI_REGIONS:
        raise invalid("The specified location constraint is not valid.")
    document: dict[str, Any] = {
        "kind": "storage#bucket",
        "selfLink": f"https://www.googleapis.com/storage/v1/b/{name}",
        "id": name,
        "name": name,
        "projectNumber": project_number,
        "generation": str(int(now.timestamp() * 1_000_000)),
        "metageneration": "1",
        "location": location,
        "locationType": "multi-region" if location in MULTI_REGIONS else "region",
        "storageClass": "STANDARD",
        "timeCreated": rfc3339(now),
        "updated": rfc3339(now),
        "softDeletePolicy": {"retentionDurationSeconds": str(_SOFT_DELETE_S), "effectiveTime": rfc3339(now)},
        "iamConfiguration": {"publicAccessPrevention": "inherited", "uniformBucketLevelAccess": {"enabled": False}},
    }
    wanted = {name: value for name, value in body.items() if name not in _IMMUTABLE}
    _merge(document, wanted, now)
    return _tagged(document)


def patched(bucket: Bucket, body: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return a bucket's metadata after a patch: values replace, null removes, objects merge."""
    for name in _IMMUTABLE:
        given = body.get(name, bucket.document.get(name))
        if str(given).upper() != str(bucket.document.get(name)).upper():
            raise invalid(f"Cannot change {name} of an existing bucket.")
    document = deepcopy(bucket.document)
    _merge(document, {name: value for name, value in body.items() if name not in _IMMUTABLE}, now)
    document["metageneration"] = str(bucket.metageneration + 1)
    document["updated"] = rfc3339(now)
    return _tagged(document)


def _merge(document: dict[str, Any], body: dict[str, Any], now: datetime) -> None:
    for name, value in body.items():
        if name in ("etag", "metageneration", "selfLink", "updated", "generation", "acl", "defaultObjectAcl"):
            continue
        if value is None:
            document.pop(name, None)
        elif isinstance(value, dict) and name != "lifecycle":
            merged = (document.get(name) or {}) | value
            document[name] = {key: item for key, item in merged.items() if item is not None}
            if not document[name]:
                del document[name]
        else:
            document[name] = value
    _check(document)
    access = document["iamConfiguration"]["uniformBucketLevelAccess"]
    if access.get("enabled") in (True, "true"):
        access.setdefault("lockedTime", rfc3339(now))
    else:
        access.pop("lockedTime", None)
    if not document.get("lifecycle", {}).get("rule", True):
        del document["lifecycle"]


def _check(document: dict[str, Any]) -> None:
    if document["storageClass"] not in CLASSES:
        raise invalid(f"The specified storage class is not valid: {document['storageClass']}")
    if document["iamConfiguration"].get("publicAccessPrevention") not in ("inherited", "enforced", "unspecified"):
        raise invalid("Invalid value for publicAccessPrevention.")
    for rule in document.get("lifecycle", {}).get("rule", []):
        action, condition = rule.get("action", {}), rule.get("condition", {})
        if action.get("type") not in ("Delete", "SetStorageClass", "AbortIncompleteMultipartUpload"):
            raise invalid(f"A lifecycle management rule has an invalid action: {action.get('type')}")
        if action["type"] == "SetStorageClass" and action.get("storageClass") not in CLASSES:
            raise invalid("A SetStorageClass rule needs a valid storage class.")
        if not condition:
            raise invalid("A lifecycle management rule must have at least one condition.")
    seconds = int(document.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0))
    if seconds and not _SOFT_DELETE_S <= seconds <= 90 * 24 * 3600:
        raise invalid("Soft delete retention must be zero, or between 7 and 90 days.")


def _tagged(document: dict[str, Any]) -> dict[str, Any]:
    seed = f"{document['id']}{document['generation']}{document['metageneration']}"
    return document | {"etag": hashlib.sha256(seed.encode()).hexdigest()[:12]}


class Buckets:
    """All buckets of the local cloud, by name."""

    def __init__(self) -> None:
        self.all: dict[str, Bucket] = {}

    def find(self, name: str) -> Bucket:
        """Return a bucket. Raises GoogleError 404."""
        if name not in self.all:
            raise not_found("The specified bucket does not exist.")
        return self.all[name]

    def add(self, bucket: Bucket) -> None:
        """Add a bucket. Raises GoogleError 409 for a taken name; the message depends on the owner."""
        owner = self.all.get(bucket.name)
        if owner and owner.project == bucket.project:
            raise GoogleError(
                409, "conflict", "Your previous request to create the named bucket succeeded and you already own it."
            )
        if owner:
            raise GoogleError(
                409,
                "conflict",
                "The requested bucket name is not available. The bucket namespace is shared by all users of the "
                "system. Please select a different name and try again.",
            )
        self.all[bucket.name] = bucket
