"""Lifecycle rules of the export bucket: their normal form, and rules that remove recent exports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.deliveries.document import DELTAS

# Storage classes whose objects must be restored before a read, which takes hours and a permission no reader has.
ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
KEPT_DAYS = 90  # after this time files have been read, and AWS no longer restates their month


def harm_of(rule: Mapping[str, Any], prefix: str) -> str:
    """Return ``expires`` or ``archives`` if a lifecycle rule removes recent exports, otherwise "".

    `prefix` is the exports' key prefix without a trailing slash. Rules for tagged objects do not apply to exports, and
    the documents of deliveries below it are meant to expire.
    """
    place = rule.get("Filter") or {}
    place = place.get("And", place)
    own, other = f"{prefix}/", str(place.get("Prefix", rule.get("Prefix", "")))
    meets = own.startswith(other) or (other.startswith(own) and not other.startswith(own + DELTAS))
    if rule.get("Status") != "Enabled" or not meets or "Tag" in place or place.get("Tags"):
        return ""
    if _is_early(rule.get("Expiration", {})):
        return "expires"
    archiving = [one for one in rule.get("Transitions", []) if one.get("StorageClass") in ARCHIVES]
    return "archives" if any(_is_early(one) for one in archiving) else ""


def _is_early(when: Mapping[str, Any]) -> bool:
    days = when.get("Days")
    return "Date" in when or (isinstance(days, int) and days < KEPT_DAYS)


def normal_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a lifecycle rule in the form in which it is compared."""
    scope = rule.get("Filter") or {}
    return {
        "status": rule.get("Status"),
        "prefix": scope.get("Prefix", rule.get("Prefix", "")),
        "further": sorted(set(scope) - {"Prefix"}),
        "transitions": sorted((one.get("StorageClass"), one.get("Days")) for one in rule.get("Transitions", [])),
        "expires": rule.get("Expiration", {}).get("Days"),
    }
