"""Lifecycle rules that remove recent exports are recognized."""

from __future__ import annotations

from typing import Any

import pytest

from aws_lambda.resources.bucket_lifecycle import harm_of


@pytest.mark.parametrize(
    ("rule", "harm"),
    [
        ({"Filter": {"Prefix": "dataexport/x"}, "Expiration": {"Days": 89}}, "expires"),
        ({"Prefix": "dataexport", "Expiration": {"Date": "2020-01-01"}}, "expires"),
        ({"Filter": {"And": {"Prefix": "", "ObjectSizeGreaterThan": 5}}, "Expiration": {"Days": 1}}, "expires"),
        ({"Filter": {}, "Transitions": [{"Days": 0, "StorageClass": "GLACIER"}]}, "archives"),
        ({"Filter": {"Prefix": ""}, "Expiration": {"Days": 90}}, ""),
        ({"Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 1}}, ""),
        ({"Filter": {"Prefix": "dataexport/deltas/"}, "Expiration": {"Days": 1}}, ""),
        ({"Filter": {"Prefix": "dataexport/deliveries/"}, "Expiration": {"Days": 1}}, "expires"),
        ({"Filter": {"Prefix": "dataexport2/"}, "Expiration": {"Days": 1}}, ""),
        ({"Filter": {"Tag": {"Key": "a", "Value": "b"}}, "Expiration": {"Days": 1}}, ""),
        ({"Filter": {"And": {"Prefix": "", "Tags": [{"Key": "a", "Value": "b"}]}}, "Expiration": {"Days": 1}}, ""),
        ({"Filter": {"Prefix": ""}, "Expiration": {"ExpiredObjectDeleteMarker": True}}, ""),
        ({"Filter": {"Prefix": ""}, "Transitions": [{"Days": 30, "StorageClass": "STANDARD_IA"}]}, ""),
        ({"Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}}, ""),
    ],
)
def test_only_rules_for_recent_exports_are_harmful(rule: dict[str, Any], harm: str) -> None:
    """Other prefixes, tagged objects, old versions, instant-access classes, and 90 days or more are harmless."""
    assert harm_of({"Status": "Enabled", **rule}, "dataexport") == harm
    assert harm_of({"Status": "Disabled", **rule}, "dataexport") == ""
