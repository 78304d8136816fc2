"""Applies a bucket's lifecycle rules (https://cloud.google.com/storage/docs/lifecycle)."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta
from typing import Any

from localcloud.gcp.errors import GoogleError, unimplemented
from localcloud.gcp.services.buckets import CLASSES, Bucket
from localcloud.gcp.services.objects import Conditions, StoredObject

_KNOWN = {"age", "createdBefore", "isLive", "matchesPrefix", "matchesSuffix", "matchesStorageClass"}
_ANY = Conditions()


# difference: GCP-7
def apply_rules(bucket: Bucket, now: datetime) -> dict[str, int]:
    """Delete objects, or move them to colder classes, by the rules that match; return the object count by action.

    Delete takes precedence over a class change, and the coldest class over the others. Raises GoogleError 501 for an
    unsupported condition.
    """
    done: Counter[str] = Counter()
    rules = bucket.document.get("lifecycle", {}).get("rule", [])
    for name in bucket.objects.names():
        found = bucket.objects.get(bucket.name, name)
        current_class = str(found.fields.get("storageClass") or bucket.document["storageClass"])
        actions = [rule["action"] for rule in rules if _holds(rule["condition"], found, current_class, now)]
        if any(action["type"] == "Delete" for action in actions) and not _protected(bucket, found, now):
            bucket.objects.delete(bucket.name, name, None, _ANY)
            done["Delete"] += 1
            continue
        classes = [action["storageClass"] for action in actions if action["type"] == "SetStorageClass"]
        coldest = max(classes, key=CLASSES.index, default=current_class)
        if CLASSES.index(coldest) > CLASSES.index(current_class):
            bucket.objects.reclass(found, coldest, now)
            done[coldest] += 1
    return dict(done)


def _protected(bucket: Bucket, found: StoredObject, now: datetime) -> bool:
    try:
        bucket.check_unprotected(found, now, deleted=True)
    except GoogleError:
        return True
    return False


def _holds(condition: dict[str, Any], found: StoredObject, storage_class: str, now: datetime) -> bool:
    others = sorted(set(condition) - _KNOWN)
    if others:
        raise unimplemented(f"The lifecycle condition {others[0]}")
    before = condition.get("createdBefore")
    return (
        ("age" not in condition or now >= found.created + timedelta(days=int(condition["age"])))
        and (before is None or found.created.date() < date.fromisoformat(before))
        and condition.get("isLive", True)
        and ("matchesPrefix" not in condition or found.name.startswith(tuple(condition["matchesPrefix"])))
        and ("matchesSuffix" not in condition or found.name.endswith(tuple(condition["matchesSuffix"])))
        and ("matchesStorageClass" not in condition or storage_class in condition["matchesStorageClass"])
    )
