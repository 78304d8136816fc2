"""What the registry accepts for an Azure tenant, and what it refuses with every fault at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from azure_function.settings import read_settings
from azure_function.tenants import RULES
from shared.errors import SettingsError
from shared.tenants.registry import environment_of, parse_registry

BASE = {
    "DESTINATION": "/subscriptions/00000000-0000-0000-0000-00000000000a/resourceGroups/rg/providers/Microsoft.Storage"
    "/storageAccounts/provider",
    "STATE_ACCOUNT": "hoststorage",
    "TENANTS_IDENTITY": "00000000-0000-0000-0000-00000000000b",
    "MANAGEMENT_GROUP": "provider-group",
    "INCLUDE_SUBSCRIPTIONS": "00000000-0000-0000-0000-00000000000c",
    "ACTIVITY_LOG_WORKSPACE": "/subscriptions/00000000-0000-0000-0000-00000000000a/resourceGroups/rg/providers"
    "/Microsoft.OperationalInsights/workspaces/central",
    "DELTAS": "1",
    "AZURE_TENANT_ID": "00000000-0000-0000-0000-00000000000d",
    "CALL_BUDGET": "50",
}


def guid(number: int) -> str:
    """Return an id that is made of a number."""
    return f"00000000-0000-0000-0000-{number:012d}"


def account(number: int) -> str:
    """Return the resource id of a storage account in a subscription of its own."""
    where = f"/subscriptions/{guid(number)}/resourceGroups/rg"
    return f"{where}/providers/Microsoft.Storage/storageAccounts/account{number}"


def tenant(number: int, **changes: Any) -> dict[str, Any]:
    """Return a valid entry with changes; a field of entry or destination is written `entry__client_id`."""
    made: dict[str, Any] = {
        "id": f"tenant-{number}",
        "cloud": "azure",
        "entry": {"tenant_id": guid(100 + number), "client_id": guid(1)},
        "destination": {"storage_account": account(number)},
    }
    for path, value in changes.items():
        *above, last = path.split("__")
        place = made[above[0]] if above else made
        if value is None:
            del place[last]
        else:
            place[last] = value
    return made


def faults(*entries: dict[str, Any]) -> dict[str, str]:
    """Return the faults of each refused entry as one text."""
    data = json.dumps({"version": 1, "tenants": entries}).encode()
    return {name: "; ".join(found) for name, found in parse_registry(data, RULES).refused.items()}


def test_a_tenants_environment_has_its_entry_and_nothing_of_the_deployments_own_tenant() -> None:
    """What is not of a tenant, such as the state's account and the sign-in for it, stays."""
    data = json.dumps({"version": 1, "tenants": [tenant(1, settings={"EXPORTS": "focus"})]}).encode()
    settings = read_settings(environment_of(parse_registry(data, RULES).tenant("tenant-1"), BASE, RULES))
    assert settings.tenant == "tenant-1"
    assert settings.entry is not None
    assert (settings.entry.tenant, settings.entry.client, settings.entry.certificate) == (guid(101), guid(1), "")
    assert settings.directory == guid(101)
    assert [one.id for one in settings.destination] == [account(1)]
    assert (settings.exports, settings.group, settings.include, settings.deltas) == (("focus",), "", (), False)
    assert settings.activity_log == ""
    assert (settings.entra_tenant, settings.state_url) == (
        BASE["AZURE_TENANT_ID"],
        "https://hoststorage.blob.core.windows.net",
    )
    assert settings.engine.call_budget == 50


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"entry__tenant_id": None}, "tenant_id is required: an Entra tenant's id"),
        ({"entry__tenant_id": "contoso.onmicrosoft.com"}, "'contoso.onmicrosoft.com' is not an Entra tenant's id"),
        ({"entry__client_id": "https://app"}, "client_id: 'https://app' is not the id of the multi-tenant application"),
        ({"entry__certificate": "-----BEGIN PRIVATE KEY-----"}, "certificate: its value is not the URI"),
        ({"entry__certificate": "https://vault.example.com/secrets/one"}, "certificate: its value is not the URI"),
        ({"entry__client_secret": "s3cret-value"}, "unknown key 'client_secret'"),
        ({"destination__storage_account": "exports"}, "not the resource id of a storage account in this tenant"),
        ({"destination__storage_account": None}, "storage_account is required"),
        ({"destination__container": "Not A Container"}, "'Not A Container' is not a container's name"),
        ({"settings": {"ARM_ENDPOINT": "http://127.0.0.1:1"}}, "'ARM_ENDPOINT' may not be set for a tenant"),
        ({"settings": {"STATE_ACCOUNT": "mine"}}, "'STATE_ACCOUNT' may not be set for a tenant"),
        ({"settings": {"NOTIFY_URL": "https://elsewhere"}}, "'NOTIFY_URL' may not be set for a tenant"),
        ({"settings": {"ENTRY_TENANT_ID": guid(9)}}, "'ENTRY_TENANT_ID' may not be set for a tenant"),
        ({"settings": {"TENANT": "other"}}, "'TENANT' may not be set for a tenant"),
        ({"settings": {"EXPORTS": "everything"}}, "'settings': EXPORTS: 'everything' is not one of"),
        ({"settings": {"CALLS_AT_ONCE": "0"}}, "'settings': CALLS_AT_ONCE"),
    ],
)
def test_a_wrong_entry_is_refused(changes: dict[str, Any], why: str) -> None:
    """The fault names the field and what is expected; the entry's neighbor is not affected."""
    found = faults(tenant(1, **changes), tenant(2))
    assert list(found) == ["tenant-1"]
    assert why in found["tenant-1"]
    assert "PRIVATE KEY" not in found["tenant-1"]
    assert "s3cret-value" not in found["tenant-1"]


def test_every_fault_is_named_at_once() -> None:
    """Invalid values of settings are among them."""
    found = faults(tenant(1, settings={"EXPORTS": "everything", "EXPORT_FORMAT": "xlsx", "BACKFILL_MONTHS": "-1"}))
    assert all(name in found["tenant-1"] for name in ("EXPORTS", "EXPORT_FORMAT", "BACKFILL_MONTHS"))


def test_two_entries_of_one_entra_tenant_are_refused() -> None:
    """The case of an id does not matter."""
    upper = guid(101).replace("0", "A", 1)
    one = tenant(1, entry__tenant_id=upper.lower())
    found = faults(one, tenant(2, entry__tenant_id=upper), tenant(3))
    assert set(found) == {"tenant-1", "tenant-2"}
    assert "enters the Entra tenant" in found["tenant-1"]


def test_two_tenants_may_share_an_application_and_no_subscription() -> None:
    """A subscription belongs to one Entra tenant, and Azure delivers by resource id within the tenant only."""
    other = f"/subscriptions/{guid(1)}/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/another"
    found = faults(tenant(1), tenant(2, destination__storage_account=other), tenant(3))
    assert set(found) == {"tenant-1", "tenant-2"}
    assert "SAS token" in found["tenant-2"]
    assert "same Entra tenant" in found["tenant-2"]


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ({"TENANT": ""}, "ENTRY_TENANT_ID"),
        ({"ENTRY_CLIENT_ID": ""}, "TENANT"),
        ({"TENANTS_IDENTITY": ""}, "TENANTS_IDENTITY"),
        ({"TENANT": "Not An Id"}, "TENANT"),
    ],
)
def test_settings_of_a_tenants_run_have_to_be_complete(changed: dict[str, str], missing: str) -> None:
    """No run enters a tenant by half of an entry, and no other run has one."""
    entered = {
        "DESTINATION": account(1),
        "STATE_ACCOUNT": "hoststorage",
        "TENANT": "tenant-1",
        "ENTRY_TENANT_ID": guid(101),
        "ENTRY_CLIENT_ID": guid(1),
        "TENANTS_IDENTITY": guid(2),
    }
    assert read_settings(entered).entry
    with pytest.raises(SettingsError) as caught:
        read_settings({**entered, **changed})
    assert {problem.split(":")[0] for problem in caught.value.problems} == {missing}


def test_registry_is_in_the_first_destination_unless_an_account_is_set() -> None:
    """The function has no write access to the blobs of either."""
    base = {"DESTINATION": account(1), "STATE_ACCOUNT": "hoststorage"}
    assert read_settings(base).registry_url == "https://account1.blob.core.windows.net"
    named = read_settings({**base, "REGISTRY_ACCOUNT": "registry"})
    assert named.registry_url == "https://registry.blob.core.windows.net"
    by_url = read_settings({**base, "REGISTRY_ACCOUNT": "https://registry.blob.core.windows.net/"})
    assert by_url.registry_url == named.registry_url
    with pytest.raises(SettingsError, match="REGISTRY_ACCOUNT"):
        read_settings({**base, "REGISTRY_ACCOUNT": "http://10.0.0.1/registry"})
