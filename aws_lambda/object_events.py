"""Turn an event of S3 into the period whose delivery it reports, or refuse it by name.

AWS writes the manifest of a delivery last, so its creation is the delivery. Keys in these events are not encoded, and
nothing else in the event is trusted: a sender with permission to the queue can send anything. Source: "Amazon
EventBridge event message structure", Amazon S3 User Guide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from aws_lambda.events import Own, decode_event, refuse_another, require_account, shown
from aws_lambda.resources.delivery_manifest import manifest_name
from shared.deliveries.document import Series
from shared.hints import EventRefused
from shared.parsing import mapping
from shared.periods import is_period

CREATED = "Object Created"
_OF_TENANT = re.compile(r"\d{12}/[a-z0-9-]{1,40}/", re.ASCII)
_KEY = re.compile(r"([^/]+)/metadata/BILLING_PERIOD=([^/]+)/(?:.*/)?([^/]+)", re.DOTALL)


def read_object_event(body: str | bytes, own: Own, prefix: str) -> Series | None:
    """Return the period of which an event says that a manifest was written. Raises EventRefused and nothing else.

    `prefix` is that of the exports, without a slash at its end. Returns None for an object of a tenant, whose exports
    deliver below ``PREFIX/ACCOUNT/TENANT/``: the tenant's own run announces it.
    """
    event = mapping(decode_event(body))
    detail, source, kind = event.get("detail"), event.get("source"), event.get("detail-type")
    if not isinstance(detail, Mapping) or not isinstance(source, str):
        raise EventRefused(code="event-malformed", reason="the event has no source, or its detail is no JSON object")
    if (source, kind) != ("aws.s3", CREATED):
        raise EventRefused(code="event-unknown", reason=f"{shown(kind)} of {shown(source)} is not an event to act on")
    require_account(event.get("account"), own)
    bucket, key = mapping(detail.get("bucket")).get("name"), mapping(detail.get("object")).get("key")
    if bucket != own.bucket:
        raise refuse_another(f"bucket {shown(bucket)}", [own.bucket])
    if str(key).startswith(f"{prefix}/") and _OF_TENANT.match(str(key).removeprefix(f"{prefix}/")):
        return None
    found = _KEY.fullmatch(str(key).removeprefix(f"{prefix}/")) if str(key).startswith(f"{prefix}/") else None
    if found is None or found[1] not in own.exports or found[3] != manifest_name(found[1]) or not is_period(found[2]):
        raise refuse_another(f"object {shown(key)}", [f"a manifest of {one}" for one in sorted(own.exports)])
    return Series(own.account, found[1], found[2])
