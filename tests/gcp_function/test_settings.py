"""Settings: defaults that are the public contract, and every fault named at once."""

from __future__ import annotations

import pytest

from gcp_function.settings import read_settings
from shared.errors import SettingsError

PROJECT = {"GOOGLE_CLOUD_PROJECT": "tailpipe-dataexport"}
ACCOUNT = "012345-6789AB-CDEF01"


def faults(**environment: str) -> str:
    """Return all faults of an environment as one text."""
    with pytest.raises(SettingsError) as caught:
        read_settings(PROJECT | environment)
    return "; ".join(caught.value.problems)


def test_defaults_are_the_names_that_customers_rely_on() -> None:
    """With nothing but a project the names are the public ones, and standard and detailed data are copied."""
    settings = read_settings(PROJECT)
    assert settings.dataset == "billing_export"
    assert settings.location == "US"
    assert settings.bucket == "tailpipe-billing-export-tailpipe-dataexport"
    assert settings.state_bucket == "tailpipe-state-tailpipe-dataexport"
    assert settings.copy == ("standard", "detailed")
    assert settings.copy_days == 35
    assert settings.exports == ("standard", "detailed", "pricing", "focus")
    assert settings.owner == "projects/tailpipe-dataexport"


def test_all_faults_come_at_once() -> None:
    """One error names every setting that is wrong, so that they are corrected in one go."""
    said = faults(
        GOOGLE_CLOUD_PROJECT="123456",
        ORGANIZATION="acme",
        DATASET_LOCATION="the moon",
        EXPORT_BUCKET="UPPER",
        COPY_DAYS="0",
        INCLUDE_ACCOUNTS="012345-6789ab-CDEF01",
        EXPORTS="standard,everything",
    )
    for name in (
        "GOOGLE_CLOUD_PROJECT", "ORGANIZATION", "DATASET_LOCATION", "EXPORT_BUCKET", "COPY_DAYS", "INCLUDE_ACCOUNTS",
        "EXPORTS",
    ):  # fmt: skip
        assert name in said


def test_a_project_is_required() -> None:
    """Without a project nothing can be named, so no call is made."""
    with pytest.raises(SettingsError, match="GOOGLE_CLOUD_PROJECT: is required"):
        read_settings({})


def test_copies_can_be_switched_off() -> None:
    """COPY=off copies nothing; beside a kind it is a contradiction."""
    assert read_settings(PROJECT | {"COPY": "off"}).copy == ()
    assert "'off' cannot be combined with other values" in faults(COPY="off,standard")
    assert "COPY: detailed is not in EXPORTS" in faults(COPY="detailed", EXPORTS="standard")


def test_pricing_is_watched_and_never_copied() -> None:
    """The pricing table spans accounts: asking for its copies is a fault."""
    assert "COPY: 'pricing' is not one of" in faults(COPY="pricing")


def test_an_account_is_included_or_excluded_but_not_both() -> None:
    """Contradictions between lists are faults."""
    assert f"{ACCOUNT} is also in INCLUDE_ACCOUNTS" in faults(INCLUDE_ACCOUNTS=ACCOUNT, EXCLUDE_ACCOUNTS=ACCOUNT)


def test_the_state_never_lies_where_others_read() -> None:
    """The state bucket is not the bucket of the copies."""
    assert "STATE_BUCKET" in faults(STATE_BUCKET="tailpipe-billing-export-tailpipe-dataexport")


@pytest.mark.parametrize(
    "name", ["BIGQUERY_EMULATOR_HOST", "STORAGE_EMULATOR_HOST", "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBILLING"]
)
def test_endpoints_are_overridden_on_loopback_only(name: str) -> None:
    """A token is never sent to another host because a variable says so."""
    assert f"{name}: endpoint overrides are honored for loopback" in faults(**{name: "https://example.com"})
    assert read_settings(PROJECT | {name: "127.0.0.1:9050/"}).endpoints.popitem()[1] == "http://127.0.0.1:9050"  # type: ignore[attr-defined]  # it is a dict, shown as a mapping


def test_a_metadata_server_alone_changes_nothing() -> None:
    """The platform's own metadata address is the auth library's business, and no fault."""
    assert read_settings(PROJECT | {"GCE_METADATA_HOST": "169.254.169.254"}).endpoints == {}


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, 300),
        ({"CLOUD_RUN_TIMEOUT_SECONDS": "540"}, 540),
        ({"CLOUD_RUN_TIMEOUT_SECONDS": "soon"}, 300),
        ({"CLOUD_RUN_TIMEOUT_SECONDS": "540", "RUN_SECONDS": "1700"}, 1700),
    ],
)
def test_the_run_ends_before_the_platform_ends_it(environment: dict[str, str], seconds: int) -> None:
    """A run's time is what the platform says it gives, unless a setting says otherwise."""
    assert read_settings(PROJECT | environment).seconds == seconds
