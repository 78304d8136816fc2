"""What the tenant registry may say about an Azure tenant, and the settings that each field sets.

A tenant is an Entra tenant. A run enters it as a multi-tenant application that the tenant's owner has admitted and
assigned roles, and that trusts a user-assigned managed identity of this deployment ("Configure an application to trust
a managed identity", Microsoft Learn: another tenant is supported, another of Microsoft's clouds is not, and neither are
system-assigned identities) or has a certificate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from azure_function.settings import CERTIFICATE, CONTAINER_NAME, GUID, STORAGE_ACCOUNT, read_settings
from shared.errors import SettingsError
from shared.tenants.registry import Field, Rules, Tenant, environment_of

# "Exports - Create Or Update", Cost Management REST API: with a SAS token instead of a resource id, exports go to "a
# storage account in any tenant", which only global administrators of a Microsoft Partner Agreement may request.
FOREIGN_ACCOUNT = (
    "Azure delivers exports only to a storage account in the same Entra tenant (another tenant's would need a SAS "
    "token, which only partners' billing accounts may use); name an account of this tenant"
)


def _further(tenant: Tenant) -> Iterable[str]:
    """Return what is wrong with the values of the setting overrides, which only the settings' own checks know."""
    if not tenant.settings:
        return []
    base = {"STATE_ACCOUNT": "placeholder", "TENANTS_IDENTITY": tenant.entry["client_id"]}
    try:
        read_settings(environment_of(tenant, base, RULES))
    except SettingsError as error:
        return [f"'settings': {problem}" for problem in error.problems]
    return []


def _exclusive(tenant: Tenant) -> Mapping[str, str]:
    """Return the subscription of the destination: it is in one Entra tenant only."""
    subscription = tenant.destination["storage_account"].split("/")[2].lower()
    return {f"the subscription {subscription} of 'destination'": FOREIGN_ACCOUNT}


RULES = Rules(
    cloud="azure",
    entry={
        "tenant_id": Field("ENTRY_TENANT_ID", GUID, "an Entra tenant's id (a GUID)", required=True),
        "client_id": Field("ENTRY_CLIENT_ID", GUID, "the id of the multi-tenant application (a GUID)", required=True),
        "certificate": Field(
            "ENTRY_CERTIFICATE",
            CERTIFICATE,
            "the URI of a certificate in Key Vault (https://….vault.azure.net/certificates/…)",
            reference=True,
        ),
    },
    destination={
        "storage_account": Field(
            "DESTINATION",
            STORAGE_ACCOUNT,
            "the resource id of a storage account in this tenant (/subscriptions/…/storageAccounts/…)",
            required=True,
        ),
        "container": Field("DESTINATION_CONTAINER", CONTAINER_NAME, "a container's name"),
    },
    settings=frozenset(
        {
            "BACKFILL_MONTHS",
            "BILLING_SCOPES",
            "CALLS_AT_ONCE",
            "CALL_BUDGET",
            "DELTAS",
            "EXCLUDE_SUBSCRIPTIONS",
            "EXPORTS",
            "EXPORT_FORMAT",
            "EXPORT_IDENTITY",
            "EXPORT_LOCATION",
            "FOCUS_VERSION",
            "INCLUDE_SUBSCRIPTIONS",
            "MANAGEMENT_GROUP",
            "MAX_VANISHED_PERCENT",
            "MAX_WRITES_PER_RUN",
            "STALE_MAX_HOURS",
            "STALE_MIN_HOURS",
        }
    ),
    # They name resources of the deployment's own tenant, or need roles that each tenant grants by itself.
    own=frozenset(
        {
            "ACTIVITY_LOG_WORKSPACE",
            "BILLING_SCOPES",
            "DELTAS",
            "EXCLUDE_SUBSCRIPTIONS",
            "INCLUDE_SUBSCRIPTIONS",
            "MANAGEMENT_GROUP",
        }
    ),
    identity=lambda tenant: f"the Entra tenant {tenant.entry['tenant_id'].lower()}",
    further=_further,
    exclusive=_exclusive,
)
