"""Reading the settings: every problem is reported together, before any call."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from azure.identity import ClientSecretCredential

import azure_function
from azure_function.clients import Clients
from azure_function.settings import read_settings
from shared.errors import SettingsError

SUBSCRIPTION = "00000000-0000-0000-0000-00000000000a"
ACCOUNT = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/tailpipe-dataexport/providers/Microsoft.Storage/storageAccounts/one"
)
GOOD = {"DESTINATION": ACCOUNT, "STATE_ACCOUNT": "hoststorage"}


def test_destination_and_state_account_are_the_only_required_settings() -> None:
    """All others have the documented defaults."""
    settings = read_settings(GOOD)
    assert [one.name for one in settings.destination] == ["one"]
    assert (settings.container, settings.exports, settings.parquet, settings.identity) == (
        "dataexport",
        ("actual",),
        False,
        False,
    )
    assert (settings.billing, settings.backfill_months, settings.engine.call_budget) == ("off", 3, 1000)
    assert settings.state_url == "https://hoststorage.blob.core.windows.net"
    assert settings.blob_url("one") == "https://one.blob.core.windows.net"


def test_all_invalid_settings_are_reported_together() -> None:
    """The message contains no secret."""
    wrong = {
        "DESTINATION": "my-account",
        "DESTINATION_CONTAINER": "Not A Container",
        "STATE_ACCOUNT": "ftp://elsewhere",
        "EXPORTS": "actual,everything",
        "EXPORT_FORMAT": "xlsx",
        "EXPORT_IDENTITY": "user",
        "EXPORT_LOCATION": "West Europe",
        "MANAGEMENT_GROUP": "a/b",
        "INCLUDE_SUBSCRIPTIONS": "production",
        "EXCLUDE_SUBSCRIPTIONS": "12345",
        "BILLING_SCOPES": "/subscriptions/x",
        "BACKFILL_MONTHS": "85",
        "AZURE_CLOUD": "moon",
        "AZURE_TENANT_ID": "contoso",
        "AZURE_CLIENT_ID": "app",
        "RUN_SECONDS": "5",
        "ARM_ENDPOINT": "https://example.com",
        "BLOB_ENDPOINT": "http://10.0.0.1",
        "CALLS_AT_ONCE": "0",
    }
    with pytest.raises(SettingsError) as caught:
        read_settings({**wrong, "AZURE_CLIENT_SECRET": "hush-hush"})
    assert {problem.split(":")[0] for problem in caught.value.problems} == set(wrong)
    assert "hush-hush" not in str(caught.value)


@pytest.mark.parametrize("name", ["DESTINATION", "STATE_ACCOUNT"])
def test_missing_required_setting_is_reported(name: str) -> None:
    """A setting that contains only spaces counts as missing."""
    with pytest.raises(SettingsError, match=f"{name}: is required"):
        read_settings({**GOOD, name: " "})


def test_state_account_defaults_to_the_storage_of_the_function_app() -> None:
    """With an identity-based connection, the platform's settings contain its name or its URL."""
    settings = read_settings({"DESTINATION": ACCOUNT, "AzureWebJobsStorage__accountName": "hostone"})
    assert settings.state_url == "https://hostone.blob.core.windows.net"
    by_url = {"DESTINATION": ACCOUNT, "AzureWebJobsStorage__blobServiceUri": "https://hosttwo.blob.core.windows.net/"}
    assert read_settings(by_url).state_url == "https://hosttwo.blob.core.windows.net"


def test_state_of_a_local_cloud_is_at_its_endpoint() -> None:
    """So that commands read what a function stored that was deployed there with the name of its account."""
    settings = read_settings({**GOOD, "BLOB_ENDPOINT": "http://127.0.0.1:10000/"})
    assert settings.state_url == settings.blob_url("hoststorage") == "http://127.0.0.1:10000/hoststorage"


@pytest.mark.parametrize(
    ("cloud", "authority", "arm", "suffix"),
    [
        ("public", "login.microsoftonline.com", "management.azure.com", "core.windows.net"),
        ("usgov", "login.microsoftonline.us", "management.usgovcloudapi.net", "core.usgovcloudapi.net"),
        ("china", "login.chinacloudapi.cn", "management.chinacloudapi.cn", "core.chinacloudapi.cn"),
    ],
)
def test_azure_cloud_selects_the_endpoints(cloud: str, authority: str, arm: str, suffix: str) -> None:
    """Authority, Resource Manager and storage are those of the selected cloud, also in the clients."""
    settings = read_settings({**GOOD, "AZURE_CLOUD": cloud})
    assert settings.cloud.authority == authority
    assert settings.blob_url("one") == f"https://one.blob.{suffix}"
    clients = Clients(settings, {})
    assert arm in str(clients.cost._config.base_url)
    clients.close()


def test_subscription_in_both_lists_is_rejected() -> None:
    """Ids are compared case-insensitively."""
    both = {"INCLUDE_SUBSCRIPTIONS": SUBSCRIPTION.upper(), "EXCLUDE_SUBSCRIPTIONS": SUBSCRIPTION}
    with pytest.raises(SettingsError, match="is in INCLUDE_SUBSCRIPTIONS too"):
        read_settings({**GOOD, **both})


def test_fixed_token_and_key_are_accepted_only_for_loopback() -> None:
    """They cannot be used for the real cloud."""
    with pytest.raises(SettingsError) as caught:
        read_settings({**GOOD, "ARM_TOKEN": "secret-token", "BLOB_KEY": "secret-key"})
    assert len(caught.value.problems) == 2
    assert "secret" not in str(caught.value)


def test_client_secret_requires_tenant_and_client() -> None:
    """The secret alone does not identify a service principal."""
    with pytest.raises(SettingsError) as caught:
        read_settings({**GOOD, "AZURE_CLIENT_SECRET": "s"})
    assert {problem.split(":")[0] for problem in caught.value.problems} == {"AZURE_TENANT_ID", "AZURE_CLIENT_ID"}


def test_repr_of_settings_has_no_secret() -> None:
    """The settings may be logged."""
    guid = SUBSCRIPTION
    secret = {"AZURE_TENANT_ID": guid, "AZURE_CLIENT_ID": guid, "AZURE_CLIENT_SECRET": "hush-hush"}
    assert "hush-hush" not in repr(read_settings({**GOOD, **secret}))


def test_settings_select_the_credential() -> None:
    """A client secret selects the service principal, the platform's endpoint the managed identity, else the default."""
    guid = SUBSCRIPTION
    secret = {"AZURE_TENANT_ID": guid, "AZURE_CLIENT_ID": guid, "AZURE_CLIENT_SECRET": "s"}
    kinds = [
        (secret, {}, "ClientSecretCredential"),
        ({}, {"IDENTITY_ENDPOINT": "http://127.0.0.1:1/"}, "ManagedIdentityCredential"),
        ({}, {}, "DefaultAzureCredential"),
    ]
    for settings, environment, kind in kinds:
        clients = Clients(read_settings({**GOOD, **settings}), environment)
        assert type(clients.credential).__name__ == kind
        clients.close()


def test_default_run_time_is_below_the_function_timeout() -> None:
    """A large tenant needs no change of the timeout. No event of a run is sampled out."""
    host = json.loads((Path(azure_function.__file__).parent / "host.json").read_text(encoding="utf-8"))
    hours, minutes, seconds = (int(part) for part in host["functionTimeout"].split(":"))
    allowed = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    assert timedelta(seconds=read_settings(GOOD).run_seconds) < allowed
    # Operators read the events of a run, and sampling would drop some of them.
    assert "Trace" in host["logging"]["applicationInsights"]["samplingSettings"]["excludedTypes"]


@pytest.mark.parametrize(
    ("cloud", "authority"),
    [
        ("public", "login.microsoftonline.com"),
        ("usgov", "login.microsoftonline.us"),
        ("china", "login.chinacloudapi.cn"),
    ],
)
def test_service_principal_gets_tokens_from_the_authority_of_its_cloud(cloud: str, authority: str) -> None:
    """The settings do not show its secret."""
    principal = {"AZURE_TENANT_ID": SUBSCRIPTION, "AZURE_CLIENT_ID": SUBSCRIPTION, "AZURE_CLIENT_SECRET": "s3cret"}
    settings = read_settings({**GOOD, **principal, "AZURE_CLOUD": cloud})
    clients = Clients(settings, {})
    credential = clients._credential()
    assert isinstance(credential, ClientSecretCredential)
    assert authority in str(settings.cloud.authority)
    assert "s3cret" not in repr(settings)
    credential.close()
    clients.close()
