"""What prevents Google from writing to the dataset, unless rows arrive all the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gcp_function.resources.dataset_restrictions import DatasetRestrictions
from gcp_function.settings import read_settings
from gcp_function.targets import ENCRYPTION, REGION
from shared.model import Health, Key, Observation, Present, Target, Unknown

KEY = "projects/p/locations/us/keyRings/r/cryptoKeys/k"


def observed(
    location: str = "US", key: str = "", arriving: bool = False, unseen: Any = None, default: str = "US"
) -> dict[str, Observation]:
    """Return what is said of a dataset by kind; `default` is the location in the settings."""
    settings = read_settings({"GOOGLE_CLOUD_PROJECT": "tailpipe-dataexport", "DATASET_LOCATION": default})
    dataset: Any = SimpleNamespace(location=location, last_read=SimpleNamespace(key=key), unseen=unseen)
    exports: Any = SimpleNamespace(arriving=arriving)
    targets = [Target(Key(settings.project, kind.name, settings.dataset), kind) for kind in (REGION, ENCRYPTION)]
    found = DatasetRestrictions(settings, dataset, exports).observe_bulk(targets)
    assert list(found) == [one.key for one in targets]
    return {place.kind: one for place, one in found.items()}


@pytest.mark.parametrize(
    ("location", "default", "arriving", "supported"),
    [
        ("us", "US", False, True),
        ("europe-west3", "US", False, True),
        ("africa-south1", "US", False, False),
        ("africa-south1", "US", True, True),
        ("", "US", False, True),
        ("", "africa-south1", False, False),
    ],
)
def test_region_is_supported_if_google_lists_it_or_rows_arrive(
    location: str, default: str, arriving: bool, supported: bool
) -> None:
    """Google adds regions; a dataset that does not exist yet will be where the settings say."""
    seen = observed(location, arriving=arriving, default=default)["region"]
    assert isinstance(seen, Present)
    assert (seen == Present()) is supported
    if not supported:
        assert (seen.health, seen.code) == (Health.MANUAL, "unsupported-region")
        assert seen.manual_step is not None
        assert seen.detail == seen.manual_step.what


@pytest.mark.parametrize(("key", "arriving", "blocked"), [("", False, False), (KEY, False, True), (KEY, True, False)])
def test_customer_managed_key_blocks_unless_rows_arrive(key: str, arriving: bool, blocked: bool) -> None:
    """Google documents both that such a dataset takes no billing data and how to create one."""
    seen = observed(key=key, arriving=arriving)["encryption"]
    assert isinstance(seen, Present)
    assert (seen != Present()) is blocked
    if blocked:
        assert (seen.health, seen.code) == (Health.MANUAL, "customer-managed-key")
        assert seen.manual_step is not None
        assert seen.detail == seen.manual_step.what


def test_dataset_that_was_not_read_is_not_judged() -> None:
    """Both checks repeat why."""
    unseen = Unknown("denied", "may not be read")
    assert set(observed("africa-south1", KEY, unseen=unseen).values()) == {unseen}
