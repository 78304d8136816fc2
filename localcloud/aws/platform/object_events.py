"""S3's events of objects that are created or deleted, for buckets that send them to EventBridge.

They go to the default bus of the bucket's owner, in the bucket's region. Source: "Amazon EventBridge event message
structure" in the Amazon S3 User Guide.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from moto.s3 import notifications

from localcloud.aws.arns import Where
from localcloud.aws.platform.service_events import ServiceEvents

# What a call is named in `reason`, and the event's kind, by moto's name of the notification.
_REASONS = {
    "s3:ObjectCreated:Put": ("PutObject", "Object Created"),
    "s3:ObjectCreated:Post": ("POST Object", "Object Created"),
    "s3:ObjectCreated:Copy": ("CopyObject", "Object Created"),
    "s3:ObjectCreated:CompleteMultipartUpload": ("CompleteMultipartUpload", "Object Created"),
    "s3:ObjectRemoved:Delete": ("DeleteObject", "Object Deleted"),
}


@contextmanager
def object_events(events: ServiceEvents) -> Iterator[None]:
    """Let moto's S3 send events as `events` does, instead of passing them to moto's own rules."""
    sequence = itertools.count(1)

    # difference: AWS-24
    def send(account: str, bucket: Any, name: Any, key: Any) -> None:
        reason, kind = _REASONS.get(str(getattr(name, "value", name)), ("", ""))
        if not reason:
            return
        stored = {"key": key.name, "etag": key.etag.strip('"'), "sequencer": f"{next(sequence):018X}"}
        if key.version_id is not None:
            stored["version-id"] = str(key.version_id)
        detail = {
            "version": "0",
            "bucket": {"name": bucket.name},
            "object": {**stored, **({"size": key.size} if kind == "Object Created" else {})},
            "request-id": uuid.uuid4().hex[:16].upper(),
            "requester": account,
            "source-ip-address": "127.0.0.1",
            "reason": reason,
        }
        if kind == "Object Deleted":
            detail["deletion-type"] = "Permanently Deleted"
        events.send(Where(account, bucket.region_name), "aws.s3", kind, detail)

    original = notifications._send_event_bridge_message
    vars(notifications)["_send_event_bridge_message"] = send
    try:
        yield
    finally:
        vars(notifications)["_send_event_bridge_message"] = original
