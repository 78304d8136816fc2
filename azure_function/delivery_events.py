"""Reads Event Grid's events of written manifests: which months were delivered.

Source: "Azure Blob Storage as an Event Grid source" (Microsoft Learn). Only the name of the blob is taken from it;
what was delivered is read from storage.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from azure_function.resources.deliveries import MANIFEST
from azure_function.settings import AzureSettings
from azure_function.targets import EXPORT, ROOT, is_export, placement_of
from shared.deliveries.document import Series
from shared.hints import EventRefused
from shared.model import Key
from shared.periods import number_of

CREATED = "Microsoft.Storage.BlobCreated"
ANOTHER = "event-of-another-resource"
LONGEST = 2048  # characters of a subject: a blob's name has at most 1,024
_SUBJECT = re.compile(r"/blobServices/default/containers/(?P<container>[a-z0-9-]+)/blobs/(?P<name>.+)", re.DOTALL)
_NAME = re.compile(
    rf"(?P<folder>{ROOT}/(?P<sort>subscriptions|billing)/(?P<scope>[A-Za-z0-9._-]+))/(?P<export>[A-Za-z0-9.-]+)/"
    rf"(?P<year>\d{{4}})(?P<month>\d{{2}})\d\d-\d{{8}}/[^/]+(/[^/]+)?{re.escape(MANIFEST)}"
)


def read_event(event: Mapping[str, Any], settings: AzureSettings, billing_scopes: Iterable[str] = ()) -> Series:
    """Return the series of a written manifest; `billing_scopes` are those that may have one.

    Its time does not matter: an old or repeated event leads to what is there now. Raises EventRefused for anything
    else: another kind of event, storage account, container or blob, or what is no event at all.
    """
    kind, topic, subject = (event.get(one) for one in ("eventType", "topic", "subject"))
    if not (isinstance(kind, str) and isinstance(topic, str) and isinstance(subject, str) and len(subject) <= LONGEST):
        raise EventRefused("event-malformed", "it has no type, topic or subject")
    if kind != CREATED:
        raise EventRefused("event-unknown", f"its type is {kind[:80]!r}")
    if settings.own(topic) is None:
        raise EventRefused(ANOTHER, f"it is of {topic[:200]!r}, which is no destination")
    found = _SUBJECT.fullmatch(subject)
    if found is None or found["container"] != settings.container:
        raise EventRefused(ANOTHER, f"it is not of container {settings.container}")
    name = _NAME.fullmatch(found["name"])
    series = _series(name, billing_scopes) if name else None
    if series is None:
        raise EventRefused(ANOTHER, "the blob is not a manifest of this deployment's exports")
    return series


def is_of_billing(event: Mapping[str, Any]) -> bool:
    """Return whether an event may be of a billing scope, whose folder does not name all of its id."""
    return f"/blobs/{ROOT}/billing/" in str(event.get("subject", ""))[:LONGEST]


def _series(name: re.Match[str], billing_scopes: Iterable[str]) -> Series | None:
    period = f"{name['year']}-{name['month']}"
    if number_of(period) is None:
        return None
    scopes = [name["scope"]] if name["sort"] == "subscriptions" else billing_scopes
    keys = (Key(one, EXPORT.name, name["export"]) for one in scopes)
    ours = (one for one in keys if is_export(one) and placement_of(one).folder == name["folder"])
    return next((Series(one.scope, one.name, period) for one in ours), None)
