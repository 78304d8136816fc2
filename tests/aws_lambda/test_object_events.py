"""S3's events of manifests become periods, or are refused by name."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aws_lambda.events import MOST_BYTES
from aws_lambda.object_events import read_object_event
from shared.deliveries.document import Series
from shared.hints import EventRefused
from tests.aws_lambda.cloudtrail import ACCOUNT, BUCKET, MEMBER, OWN
from tests.limits import examples

EXPORT = "tailpipe-dataexport"
KEY = f"dataexport/{EXPORT}/metadata/BILLING_PERIOD=2026-11/{EXPORT}-Manifest.json"


def created(key: str = KEY, bucket: str = BUCKET, **more: Any) -> dict[str, Any]:
    """Return S3's event of a created object."""
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": ACCOUNT,
        "time": "2026-11-02T08:59:30Z",
        "region": "eu-west-1",
        "resources": [f"arn:aws:s3:::{bucket}"],
        "detail": {
            "version": "0",
            "bucket": {"name": bucket},
            "object": {
                "key": key,
                "size": 5,
                "etag": "b1946ac92492d2347c6235b4d2611184",
                "sequencer": "617f08299329d189",
            },
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            "source-ip-address": "1.2.3.4",
            "reason": "PutObject",
        },
        **more,
    }


@pytest.mark.parametrize("time", ["2026-11-02T08:59:30Z", "1999-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "soon"])
@pytest.mark.parametrize(
    "key", [KEY, KEY.replace("/tailpipe-dataexport-M", "/20261102T085930Z-id/tailpipe-dataexport-M")]
)
def test_the_event_of_a_manifest_names_its_period(key: str, time: str) -> None:
    """The event's time is not relied on: the manifest is read as it is now."""
    found = read_object_event(json.dumps(created(key, time=time)), OWN, "dataexport")
    assert found == Series(ACCOUNT, EXPORT, "2026-11")


REFUSED = {
    "no JSON": ("{", "event-malformed"),
    "no object": ([], "event-malformed"),
    "no detail": ({"source": "aws.s3"}, "event-malformed"),
    "too large": (" " * (MOST_BYTES + 1), "event-too-large"),
    "a deletion": (created(**{"detail-type": "Object Deleted"}), "event-unknown"),
    "another source": (created(source="custom"), "event-unknown"),
    "another account": (created(account=MEMBER), "event-of-another-account"),
    "no account": (created(account=None), "event-of-another-account"),
    "another bucket": (created(bucket="another-bucket"), "event-of-another-resource"),
    "a data file": (created(KEY.replace("metadata", "data")), "event-of-another-resource"),
    "another prefix": (created(f"x{KEY}"), "event-of-another-resource"),
    "another export": (created(KEY.replace(EXPORT, f"{EXPORT}-x")), "event-of-another-resource"),
    "another file": (created(KEY.replace("-Manifest", "-Report")), "event-of-another-resource"),
    "no month": (created(KEY.replace("2026-11", "2026-13")), "event-of-another-resource"),
    "no key": (created(detail={"bucket": {"name": BUCKET}, "object": {}}), "event-of-another-resource"),
    "odd parts": (created(detail={"bucket": [BUCKET], "object": 7}), "event-of-another-resource"),
}  # fmt: skip


@pytest.mark.parametrize(("event", "code"), REFUSED.values(), ids=list(REFUSED))
def test_any_other_event_is_refused_by_name(event: Any, code: str) -> None:
    """The reason says what was found and what was expected, in one printable line."""
    with pytest.raises(EventRefused) as caught:
        read_object_event(event if isinstance(event, str) else json.dumps(event), OWN, "dataexport")
    assert caught.value.code == code
    assert caught.value.reason.isprintable()


@given(st.text() | st.binary())
@hypothesis.settings(max_examples=examples(200))
def test_no_text_ends_a_batch(text: str | bytes) -> None:
    """Anyone who may send to the queue can send anything."""
    with pytest.raises(EventRefused):
        read_object_event(text, OWN, "dataexport")


def test_object_of_a_tenant_is_left_to_its_own_run() -> None:
    """It is neither a delivery of the deployment's own exports nor an event that does not belong here."""
    key = KEY.replace("dataexport/", "dataexport/222233334444/acme/", 1)
    assert read_object_event(json.dumps(created(key)), OWN, "dataexport") is None
