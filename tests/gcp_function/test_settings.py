"""Settings: the public defaults, and an error that lists every problem."""

from __future__ import annotations

import pytest

from gcp_function.settings import read_settings
from shared.errors import SettingsError

PROJECT = {"GOOGLE_CLOUD_PROJECT": "tailpipe-dataexport"}
ACCOUNT = "012345-6789AB-CDEF01"


def problems(**environment: str) -> str:
    """Return all problems of an environment as one text."""
    with pytest.raises(SettingsError) as caught:
        read_settings(PROJECT | environment)
    return "; ".join(caught.value.problems)


def test_defaults_are_the_public_names() -> None:
    """With only a project set, the names are the documented ones, and standard and detailed data are copied."""
    settings = read_settings(PROJECT)
    assert settings.dataset == "billing_export"
    assert settings.location == "US"
    assert settings.bucket == "tailpipe-billing-export-tailpipe-dataexport"
    assert settings.state_bucket == "tailpipe-state-tailpipe-dataexport"
    assert settings.copy == ("standard", "detailed")
    assert settings.copy_days == 35
    assert settings.exports == ("standard", "detailed", "pricing", "focus")
    assert settings.owner == "projects/tailpipe-dataexport"


def test_error_lists_all_problems() -> None:
    """One error names every invalid setting."""
    text = problems(
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
        assert name in text


def test_project_is_required() -> None:
    """All names derive from the project."""
    with pytest.raises(SettingsError, match="GOOGLE_CLOUD_PROJECT: is required"):
        read_settings({})


def test_copies_can_be_disabled() -> None:
    """COPY=off copies nothing, and cannot be combined with a kind."""
    assert read_settings(PROJECT | {"COPY": "off"}).copy == ()
    assert "'off' cannot be combined with other values" in problems(COPY="off,standard")
    assert "COPY: detailed is not in EXPORTS" in problems(COPY="detailed", EXPORTS="standard")


def test_pricing_cannot_be_copied() -> None:
    """The pricing table covers all accounts, so it has no copies per account."""
    assert "COPY: 'pricing' is not one of" in problems(COPY="pricing")


def test_account_cannot_be_both_included_and_excluded() -> None:
    """The error names the account and the other list."""
    assert f"{ACCOUNT} is also in INCLUDE_ACCOUNTS" in problems(INCLUDE_ACCOUNTS=ACCOUNT, EXCLUDE_ACCOUNTS=ACCOUNT)


def test_state_bucket_must_differ_from_the_export_bucket() -> None:
    """The connector reads the export bucket and must not read the state."""
    assert "STATE_BUCKET" in problems(STATE_BUCKET="tailpipe-billing-export-tailpipe-dataexport")


@pytest.mark.parametrize(
    "name", ["BIGQUERY_EMULATOR_HOST", "STORAGE_EMULATOR_HOST", "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBILLING"]
)
def test_endpoint_override_must_be_a_loopback_address(name: str) -> None:
    """An environment variable cannot redirect tokens to another host."""
    assert f"{name}: endpoint overrides are honored for loopback" in problems(**{name: "https://example.com"})
    assert read_settings(PROJECT | {name: "127.0.0.1:9050/"}).endpoints.popitem()[1] == "http://127.0.0.1:9050"  # type: ignore[attr-defined]  # a dict, declared as a mapping


def test_metadata_host_is_not_an_endpoint_override() -> None:
    """Only the auth library uses the platform's metadata address."""
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
def test_run_duration_is_the_platforms_timeout_unless_set(environment: dict[str, str], seconds: int) -> None:
    """RUN_SECONDS takes precedence over the platform's timeout."""
    assert read_settings(PROJECT | environment).seconds == seconds
