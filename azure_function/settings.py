"""Read the Azure function's settings from environment variables; every problem is reported before any call.

The module is over 350 lines because each setting is described, read and checked in one place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from shared.parsing import is_tenant_id
from shared.settings import EngineSettings, Reader

DATASETS = ("actual", "focus", "amortized")
CONTAINER = "dataexport"
STATE_CONTAINER = "tailpipe-state"
DEFAULT_BUDGET = 1000
BACKFILL = 3  # months: the history that a Tailpipe report starts with
MOST_BACKFILL = 84  # months; cost data goes back seven years
FOCUS_VERSION = "1.2-preview"
ROUND_TENANTS = 20
ROUND_SECONDS = 3000  # of an hour: calls in progress end before the next round begins
RUN_SECONDS = 6900  # within a function timeout of two hours, which 10,000 new subscriptions may need

GUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
STORAGE_ACCOUNT = (
    r"/subscriptions/[0-9a-fA-F-]{36}/resourceGroups/[\w.()-]{1,90}"
    r"/providers/Microsoft\.Storage/storageAccounts/[a-z0-9]{3,24}"
)
_WORKSPACE = (
    r"/subscriptions/[0-9a-fA-F-]{36}/resource[gG]roups/[\w.()-]{1,90}"
    r"/providers/Microsoft\.OperationalInsights/workspaces/[A-Za-z0-9][A-Za-z0-9-]{3,62}"
)
# One segment pair each: account, then enrollment account, department, profile, invoice section or customer.
_BILLING = r"/providers/Microsoft\.Billing/billingAccounts/[\w:.-]{1,128}(/[A-Za-z]{1,40}/[\w:.-]{1,128}){0,2}"
CONTAINER_NAME = r"[a-z0-9](-?[a-z0-9]){2,62}"
_GROUP = r"[\w().-]{1,90}"
# 1.0, 1.0r2, 1.2-preview, 1.0-preview(v1): the names that Cost Management gives its FOCUS versions.
_VERSION = r"\d{1,2}\.\d{1,2}(r\d{1,2})?(-preview(\(v\d{1,2}\))?)?"
_TOPIC = r"https://[a-z0-9-]{3,64}(\.[a-z0-9-]+){1,3}\.eventgrid\.azure\.(net|us|cn)/api/events|http://.+"
# A certificate is also the secret of the same name, which holds its private key.
CERTIFICATE = (
    r"https://[A-Za-z0-9-]{3,24}\.vault\.(azure\.net|usgovcloudapi\.net|azure\.cn)"
    r"/(certificates|secrets)/[A-Za-z0-9-]{1,127}(/[0-9a-f]{32})?/?"
)
_STATE = r"[a-z0-9]{3,24}|https://[a-z0-9]{3,24}(\.[a-z0-9-]+)+/?|http://.+"


class Sovereign(msgspec.Struct, frozen=True):
    """One of Microsoft's clouds: its tokens, Resource Manager, and the suffixes of storage hosts and vaults."""

    authority: str
    resource_manager: str
    storage_suffix: str
    vault_suffix: str
    exchange: str  # audience of a managed identity's token that proves an application


# Source: azure.core's AzureClouds, azure.identity's AzureAuthorityHosts, the storage endpoints in Microsoft's "Compare
# Azure Government and global Azure" and "Azure China developer guide", and "Configure an application to trust a managed
# identity" for the audiences.
CLOUDS = {
    "public": Sovereign(
        "login.microsoftonline.com",
        "https://management.azure.com",
        "core.windows.net",
        "vault.azure.net",
        "api://AzureADTokenExchange",
    ),
    "usgov": Sovereign(
        "login.microsoftonline.us",
        "https://management.usgovcloudapi.net",
        "core.usgovcloudapi.net",
        "vault.usgovcloudapi.net",
        "api://AzureADTokenExchangeUSGov",
    ),
    "china": Sovereign(
        "login.chinacloudapi.cn",
        "https://management.chinacloudapi.cn",
        "core.chinacloudapi.cn",
        "vault.azure.cn",
        "api://AzureADTokenExchangeChina",
    ),
}


# What each setting does; docs/settings.md is generated from this and from the code.
EFFECTS = {
    "AZURE_CLOUD": "Which of Microsoft's clouds this is.",
    "DESTINATION": "The storage accounts that exports are delivered to, by resource id.",
    "DESTINATION_CONTAINER": "The container in each of them.",
    "EXPORTS": "The datasets to export; every subscription gets one export for each.",
    "EXPORT_FORMAT": "The format of delivered files.",
    "EXPORT_IDENTITY": "`system`: each export writes with its own managed identity; `none`: with the account key.",
    "EXPORT_LOCATION": "The region of an export's managed identity; by default the region of the function.",
    "FOCUS_VERSION": "The version of the dataset `focus`; lowered for an agreement that only offers older ones.",
    "MANAGEMENT_GROUP": "Only subscriptions in this management group; empty: all that the function can read.",
    "INCLUDE_SUBSCRIPTIONS": "Only these subscriptions; empty: all.",
    "EXCLUDE_SUBSCRIPTIONS": "These subscriptions get no export.",
    "BILLING_SCOPES": "Exports of billing scopes: `off`, `auto` for all that the function can read, or a list.",
    "BACKFILL_MONTHS": "Past months that are exported once for each subscription.",
    "AZURE_TENANT_ID": "The tenant that the function signs in to.",
    "AZURE_CLIENT_ID": "An application to sign in as instead of the function's managed identity.",
    "AZURE_CLIENT_SECRET": "The secret of that application; not needed in Azure, and refused by the module.",
    "STATE_ACCOUNT": "Where the function stores its state: an account's name or its blob endpoint.",
    "ACTIVITY_LOG_WORKSPACE": "The Log Analytics workspace with all activity logs, by resource id; empty: not read.",
    "DELTAS": "1: each delivery is stored as a document with what changed, beside the data, and published.",
    "DELIVERY_TOPIC": "The Event Grid topic that deliveries are published to, by its endpoint; empty: none.",
    "TENANT": "The tenant of the registry whose run this is; set by the function itself, never by a deployment.",
    "ENTRY_TENANT_ID": "The Entra tenant that the run enters, from the tenant's entry.",
    "ENTRY_CLIENT_ID": "The multi-tenant application that it enters as, from the tenant's entry.",
    "ENTRY_CERTIFICATE": "Its certificate in Key Vault, from the tenant's entry; empty: TENANTS_IDENTITY proves it.",
    "TENANTS_IDENTITY": "The client id of the user-assigned identity that the applications of tenants' entries trust.",
    "REGISTRY_ACCOUNT": "The account of the tenant registry: its name or blob endpoint; empty: DESTINATION's first.",
    "ROUND_TENANTS": "How many tenants a round serves at once, at most.",
    "ROUND_SECONDS": "Seconds after which a round begins no further tenant; what is left waits for the next round.",
    "AUTHORITY_ENDPOINT": "The endpoint of Entra ID's tokens, for local clouds.",
    "RUN_SECONDS": "Seconds after which a run stops; the next run continues.",
    "NOTIFY_URL": "The secret in Key Vault that holds the webhook's address, by its URI; empty: no messages.",
    "ARM_ENDPOINT": "The endpoint of Resource Manager, for local clouds.",
    "BLOB_ENDPOINT": "The endpoint of blob storage, for local clouds.",
    "VAULT_ENDPOINT": "The endpoint of Key Vault, for local clouds.",
    "ARM_TOKEN": "The token for ARM_ENDPOINT.",
    "BLOB_KEY": "The key for BLOB_ENDPOINT.",
}


class Storage(msgspec.Struct, frozen=True):
    """A storage account that exports are delivered to. `id` is its resource id as it was given."""

    id: str

    @property
    def name(self) -> str:
        return self.id.rsplit("/", 1)[1]

    @property
    def subscription(self) -> str:
        return self.id.split("/")[2].lower()


class Entry(msgspec.Struct, frozen=True):
    """How a run enters the Entra tenant `tenant`: as an application, with the URI of its certificate, if it has one."""

    tenant: str
    client: str
    certificate: str = ""


class AzureSettings(msgspec.Struct, frozen=True):
    """The settings of the Azure function.

    `destination` are the storage accounts, each with `container`. `exports` names datasets, `focus_version` is the
    version of the dataset ``focus``. `identity`: whether exports write with an identity of their own. `include` and
    `exclude` are subscription ids in lower case, `group` is a management group's name ("" for no filter; a list in
    `include` is selected regardless of the group). `billing` is ``off``, ``auto`` or ``list``, then with
    `billing_scopes`. `requested_months` are the months (``YYYY-MM``) that a request names instead of the last
    `backfill_months`. `state_url` is the host storage's blob endpoint. `arm_endpoint` and `blob_endpoint` are loopback
    addresses, where a fixed `arm_token` and `blob_key` are used if given; accounts are the first part of the blob
    endpoint's path. `notify_url` is the URI of the secret with the webhook's address, never the address itself;
    `vault_endpoint` is a loopback address that replaces its vault. `activity_log` is the resource id of the workspace
    with the activity logs, "" for none. `deltas`: deliveries are announced, and published to the Event Grid topic with
    the endpoint `delivery_topic`, "" for none.

    `entra_tenant`, `client` and `client_secret` are the deployment's own sign-in. `tenant` is the id of the registry's
    tenant whose run this is, "" for the deployment's own, and `entry` how to enter it; `tenants_identity` is the client
    id of the managed identity that proves the application of an entry without certificate. `registry_url` is the blob
    endpoint of the account with the registry. A round serves at most `round_tenants` tenants at once and begins none
    after `round_seconds`.
    """

    cloud: Sovereign
    destination: tuple[Storage, ...]
    container: str
    exports: tuple[str, ...]
    parquet: bool
    identity: bool
    location: str
    group: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    billing: str
    billing_scopes: tuple[str, ...]
    backfill_months: int
    entra_tenant: str
    client: str
    client_secret: str
    state_url: str
    run_seconds: int
    engine: EngineSettings
    arm_endpoint: str = ""
    blob_endpoint: str = ""
    arm_token: str = ""
    blob_key: str = ""
    focus_version: str = FOCUS_VERSION
    requested_months: tuple[str, ...] = ()
    vault_endpoint: str = ""
    notify_url: str = ""
    activity_log: str = ""
    deltas: bool = False
    delivery_topic: str = ""
    tenant: str = ""
    entry: Entry | None = None
    tenants_identity: str = ""
    registry_url: str = ""
    authority_endpoint: str = ""
    round_tenants: int = ROUND_TENANTS
    round_seconds: int = ROUND_SECONDS

    @property
    def directory(self) -> str:
        """The Entra tenant whose subscriptions the run covers, "" if only its token says which."""
        return self.entry.tenant if self.entry else self.entra_tenant

    @property
    def backfills(self) -> bool:
        """Whether past months are wanted."""
        return bool(self.backfill_months or self.requested_months)

    def __repr__(self) -> str:
        return f"AzureSettings({len(self.destination)} storage accounts, exports {','.join(self.exports)})"

    def blob_url(self, account: str) -> str:
        """Return the blob endpoint of a storage account."""
        if self.blob_endpoint:
            return f"{self.blob_endpoint.rstrip('/')}/{account}"
        return f"https://{account}.blob.{self.cloud.storage_suffix}"

    def own(self, resource_id: str) -> Storage | None:
        """Return the destination with this resource id, ignoring case, or None."""
        return next((one for one in self.destination if one.id.lower() == resource_id.lower()), None)

    def named(self, name: str) -> Storage | None:
        """Return the destination with this name, or None; account names are unique in a cloud."""
        return next((one for one in self.destination if one.name == name), None)


def read_settings(environment: Mapping[str, str]) -> AzureSettings:
    """Return the settings. Raises SettingsError that names every problem; makes no call."""
    reader = Reader(environment)
    billing, billing_scopes = _billing(reader)
    cloud = CLOUDS[reader.choice("AZURE_CLOUD", "public", tuple(CLOUDS))]
    settings = AzureSettings(
        cloud=cloud,
        destination=_destination(reader),
        container=reader.text("DESTINATION_CONTAINER", CONTAINER, CONTAINER_NAME, "a container's name"),
        exports=reader.choices("EXPORTS", "actual", DATASETS),
        parquet=reader.choice("EXPORT_FORMAT", "csv", ("csv", "parquet")) == "parquet",
        identity=reader.choice("EXPORT_IDENTITY", "none", ("none", "system")) == "system",
        location=reader.text(
            "EXPORT_LOCATION", _region(environment), r"[a-z0-9]{3,40}", "a region, such as westeurope"
        ),
        group=reader.text("MANAGEMENT_GROUP", "", _GROUP, "a management group's id"),
        include=_subscriptions(reader, "INCLUDE_SUBSCRIPTIONS"),
        exclude=_subscriptions(reader, "EXCLUDE_SUBSCRIPTIONS"),
        billing=billing,
        billing_scopes=billing_scopes,
        backfill_months=reader.number("BACKFILL_MONTHS", BACKFILL, 0, MOST_BACKFILL),
        entra_tenant=reader.text("AZURE_TENANT_ID", "", GUID, "a tenant's id").lower(),
        client=reader.text("AZURE_CLIENT_ID", "", GUID, "an application's id").lower(),
        client_secret=reader.text("AZURE_CLIENT_SECRET", ""),
        state_url=_state_url(reader, environment, cloud),
        run_seconds=reader.number("RUN_SECONDS", RUN_SECONDS, 60, 86_400),
        engine=reader.engine(call_budget=DEFAULT_BUDGET),
        arm_endpoint=reader.endpoint("ARM_ENDPOINT"),
        blob_endpoint=reader.endpoint("BLOB_ENDPOINT"),
        arm_token=reader.text("ARM_TOKEN", ""),
        blob_key=reader.text("BLOB_KEY", ""),
        focus_version=reader.text("FOCUS_VERSION", FOCUS_VERSION, _VERSION, "a FOCUS version, such as 1.2-preview"),
        vault_endpoint=reader.endpoint("VAULT_ENDPOINT"),
        notify_url=_secret(reader, cloud),
        activity_log=reader.text(
            "ACTIVITY_LOG_WORKSPACE", "", _WORKSPACE, "a workspace's resource id (/subscriptions/…/workspaces/…)"
        ),
        deltas=reader.number("DELTAS", 0, 0, 1) == 1,
        delivery_topic=_topic(reader),
        tenant=reader.text("TENANT", "", hint="the id of a tenant in the registry"),
        entry=_entry(reader),
        tenants_identity=reader.text("TENANTS_IDENTITY", "", GUID, "a managed identity's client id").lower(),
        authority_endpoint=reader.endpoint("AUTHORITY_ENDPOINT"),
        round_tenants=reader.number("ROUND_TENANTS", ROUND_TENANTS, 1, 200),
        round_seconds=reader.number("ROUND_SECONDS", ROUND_SECONDS, 60, 86_400),
    )
    settings = msgspec.structs.replace(settings, registry_url=_registry_url(reader, settings))
    # The topic is the deployment's, also in the environment of a tenant whose deliveries are not announced.
    reader.check(
        settings.deltas or not settings.delivery_topic or bool(settings.tenant),
        "DELIVERY_TOPIC",
        "deliveries are published only with DELTAS=1; set that too, or unset DELIVERY_TOPIC",
    )
    if settings.client_secret:
        reader.check(bool(settings.entra_tenant), "AZURE_TENANT_ID", "is required together with AZURE_CLIENT_SECRET")
        reader.check(bool(settings.client), "AZURE_CLIENT_ID", "is required together with AZURE_CLIENT_SECRET")
    _check_tenant(reader, settings)
    loopback = "is for a loopback endpoint only; unset it"
    reader.check(not settings.arm_token or bool(settings.arm_endpoint), "ARM_TOKEN", loopback)
    reader.check(not settings.blob_key or bool(settings.blob_endpoint), "BLOB_KEY", loopback)
    both = sorted(set(settings.include) & set(settings.exclude))
    reader.check(not both, "EXCLUDE_SUBSCRIPTIONS", lambda: f"{', '.join(both)} is in INCLUDE_SUBSCRIPTIONS too")
    reader.finish()
    return settings


def _entry(reader: Reader) -> Entry | None:
    tenant = reader.text("ENTRY_TENANT_ID", "", GUID, "an Entra tenant's id").lower()
    client = reader.text("ENTRY_CLIENT_ID", "", GUID, "an application's id").lower()
    hint = "the URI of a certificate in Key Vault (https://….vault.azure.net/certificates/…)"
    certificate = reader.text("ENTRY_CERTIFICATE", "", CERTIFICATE, hint, secret=True)
    return Entry(tenant, client, certificate) if tenant or client or certificate else None


def _check_tenant(reader: Reader, settings: AzureSettings) -> None:
    """Check that a tenant's run has a whole entry, and no other run has one."""
    if not settings.tenant:
        reader.check(settings.entry is None, "ENTRY_TENANT_ID", "only the registry's tenants have an entry; unset it")
        return
    entry = settings.entry
    reader.check(is_tenant_id(settings.tenant), "TENANT", "is not the id of a tenant")
    reader.check(entry is not None and bool(entry.tenant and entry.client), "TENANT", "has no entry in the registry")
    if entry and not entry.certificate:
        reader.check(
            bool(settings.tenants_identity),
            "TENANTS_IDENTITY",
            "is required for an entry without certificate: the client id of a user-assigned managed identity, which "
            "the entry's application trusts (system-assigned ones are not supported)",
        )


def _registry_url(reader: Reader, settings: AzureSettings) -> str:
    """Return the blob endpoint of the registry's account: the configured one, else that of the first destination."""
    account = reader.text("REGISTRY_ACCOUNT", "", _STATE, "a storage account's name, or its blob endpoint (https://…)")
    if account.startswith("http://"):
        return reader.endpoint("REGISTRY_ACCOUNT").rstrip("/")
    if account:
        return account.rstrip("/") if "://" in account else settings.blob_url(account)
    return settings.blob_url(settings.destination[0].name) if settings.destination else ""


def _destination(reader: Reader) -> tuple[Storage, ...]:
    hint = "a storage account's resource id (/subscriptions/…/storageAccounts/…)"
    reader.text("DESTINATION", None, hint=hint + "; several are separated by commas")
    found = [Storage(one) for one in reader.items("DESTINATION", "", STORAGE_ACCOUNT, hint)]
    return tuple({one.id.lower(): one for one in reversed(found)}.values())[::-1]


def _secret(reader: Reader, cloud: Sovereign) -> str:
    vault = rf"https://[A-Za-z0-9-]{{3,24}}\.{re.escape(cloud.vault_suffix)}(:443)?"
    pattern = rf"{vault}/secrets/[A-Za-z0-9-]{{1,127}}(/[0-9a-f]{{32}})?/?"
    # The operator may have put the webhook address itself here, which is a secret.
    hint = f"the URI of a secret in Key Vault (https://….{cloud.vault_suffix}/secrets/…)"
    return reader.text("NOTIFY_URL", "", pattern, hint, secret=True)


def _topic(reader: Reader) -> str:
    hint = "the endpoint of an Event Grid topic (https://….eventgrid.azure.net/api/events)"
    topic = reader.text("DELIVERY_TOPIC", "", _TOPIC, hint)
    return topic if not topic.startswith("http://") else reader.endpoint("DELIVERY_TOPIC")


def _subscriptions(reader: Reader, name: str) -> tuple[str, ...]:
    return tuple(one.lower() for one in reader.items(name, "", GUID, "a subscription's id"))


def _billing(reader: Reader) -> tuple[str, tuple[str, ...]]:
    given = reader.text("BILLING_SCOPES", "off")
    if given in ("off", "auto"):
        return given, ()
    hint = "off, auto, or a list of billing scopes (/providers/Microsoft.Billing/billingAccounts/…)"
    return "list", reader.items("BILLING_SCOPES", "", _BILLING, hint)


def _state_url(reader: Reader, environment: Mapping[str, str], cloud: Sovereign) -> str:
    """Return the blob endpoint of the state: the configured account, else the host storage of the platform."""
    host = environment.get("AzureWebJobsStorage__blobServiceUri", "").strip()
    default = environment.get("AzureWebJobsStorage__accountName", "").strip() or host or None
    account = reader.text(
        "STATE_ACCOUNT", default, _STATE, "a storage account's name, or its blob endpoint (https://…)"
    )
    if account.startswith("http://") and not reader.endpoint("STATE_ACCOUNT"):
        return ""
    blobs = environment.get("BLOB_ENDPOINT", "").strip()  # of all accounts on a local cloud; validated as a setting
    if blobs and account and "://" not in account:
        return f"{blobs.rstrip('/')}/{account}"
    return account.rstrip("/") if not account or "://" in account else f"https://{account}.blob.{cloud.storage_suffix}"


def _region(environment: Mapping[str, str]) -> str:
    """Return the region of an export's identity: the function's own (``Central US`` → ``centralus``)."""
    return re.sub(r"[^a-z0-9]", "", environment.get("REGION_NAME", "").lower()) or "centralus"
