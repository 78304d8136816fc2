"""The tenant port on Azure: the registry of Entra tenants, and what admits the application of an entry there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from azure_function.billing_scopes import pages_of
from azure_function.clients import BILLING, RATES, Clients
from azure_function.errors import translate
from azure_function.fleet_store import FleetBlobs, RegistryBlobs, registry_place
from azure_function.settings import CLOUDS, AzureSettings, read_settings
from azure_function.tenants import RULES
from cli.deployment.azure.tenant_checks import check
from cli.deployment.azure.tenant_roles import Role, roles_of
from cli.deployment.tenants import Invitation
from shared.parsing import is_tenant_id
from shared.runtime.clock import Clock
from shared.runtime.context import RunContext
from shared.runtime.log import Sink
from shared.state.store import Blob
from shared.tenants.registry import Tenant
from shared.tenants.rows import REGISTRY

__all__ = ["RULES", "check", "discover", "documents", "invite", "registry_store", "remaining"]

SECONDS = 600.0
PARTNER = "MicrosoftPartnerAgreement"
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
WRITE_REMEDY = (
    "Have Storage Blob Data Contributor assigned to you on the registry's container; the function's identity may only "
    "read it."
)
SCRIPT = "admit.sh"


class BlobRegistry:
    """The registry's blob, as an operator reads and writes it."""

    def __init__(self, settings: AzureSettings, blobs: RegistryBlobs) -> None:
        self._settings, self._blobs = settings, blobs

    @property
    def place(self) -> str:
        return f"{registry_place(self._settings)}/{REGISTRY}"

    def load(self, limit: int) -> Blob:
        return self._blobs.load(limit, REGISTRY)

    def save(self, data: bytes, version: str | None) -> str:
        return self._blobs.save(data, version, REGISTRY)


def registry_store(environment: Mapping[str, str], sink: Sink, clock: Clock) -> BlobRegistry:
    """Open the deployment's registry, with the operator's credentials."""
    settings, clients, run = _opened(environment, sink, clock)
    return BlobRegistry(settings, RegistryBlobs(settings, clients, run, WRITE_REMEDY, creates=True))


def documents(environment: Mapping[str, str], sink: Sink, clock: Clock) -> FleetBlobs:
    """Open the rows and the reports of rounds, with the operator's credentials."""
    return FleetBlobs(*_opened(environment, sink, clock))


def _opened(environment: Mapping[str, str], sink: Sink, clock: Clock) -> tuple[AzureSettings, Clients, RunContext]:
    settings = read_settings(environment)
    run = RunContext("azure", settings.engine, sink, clock, SECONDS, RATES, translate)
    return settings, Clients(settings, environment), run


def invite(tenant: Tenant, environment: Mapping[str, str]) -> Invitation:
    """Return the consent link, and the script that assigns the application its roles in the tenant.

    Sources: "Create an enterprise application from a multitenant application" and "Grant tenant-wide admin consent to
    an application" (Microsoft Learn).
    """
    entra, client = tenant.entry["tenant_id"], tenant.entry["client_id"]
    authority = CLOUDS[environment.get("AZURE_CLOUD", "").strip() or "public"].authority
    roles = roles_of(tenant)
    files = {role.file: json.dumps(role.document(), indent=2) + "\n" for role in roles}
    files[SCRIPT] = _script(tenant, roles)
    return Invitation(
        "For an administrator of the tenant, in this order:\n"
        f"1. Open the link as a Cloud Application Administrator of {entra} and accept. The application asks for no "
        "permission of Microsoft Graph; accepting only makes it known. If a page afterwards says that no reply address "
        "is registered, the step is done.\n"
        f"2. As Owner or User Access Administrator of the scopes in it, run: bash {SCRIPT}\n"
        "The roles allow the application to list subscriptions, to keep cost exports, and to read deliveries in one "
        f"storage account. To end it, delete the enterprise application {client}.",
        f"https://{authority}/{entra}/adminconsent?client_id={client}",
        files,
    )


def _script(tenant: Tenant, roles: Sequence[Role]) -> str:
    """Return the commands that assign the roles; run again, they change nothing."""
    client, account = tenant.entry["client_id"], tenant.destination["storage_account"]
    create = f"az ad sp create --id {client} --query id --output tsv"
    register = "az provider register --namespace Microsoft.CostManagementExports"
    lines = [
        "#!/usr/bin/env bash",
        "# Admits Tailpipe Exports to this Entra tenant: its roles, and the provider that delivers exports.",
        "set -euo pipefail",
        f"az login --tenant {tenant.entry['tenant_id']} --output none",
        f"principal=$(az ad sp show --id {client} --query id --output tsv 2>/dev/null || {create})",
    ]
    for role in roles:
        lines += [
            f"az role definition create --role-definition @{role.file} --output none 2>/dev/null ||",
            f"  az role definition update --role-definition @{role.file} --output none",
            'az role assignment create --assignee-object-id "$principal" --assignee-principal-type ServicePrincipal \\',
            f"  --role '{role.name}' --scope '{role.scope}' --output none{role.condition_arguments}",
        ]
    lines.append(f"{register} --subscription {account.split('/')[2]} --wait")
    return "\n".join(lines) + "\n"


def remaining(tenant: Tenant) -> list[str]:
    """Return what stays after a tenant's entry is removed, each with how to remove it."""
    account, client, entra = tenant.destination["storage_account"], tenant.entry["client_id"], tenant.entry["tenant_id"]
    return [
        "its exports go on delivering: az costmanagement export delete, in each of its subscriptions",
        f"the delivered data stays in {account}; delete the container there",
        f"the application may still enter: az ad sp delete --id {client}, in the tenant {entra}, removes its roles too",
        f"its state stays in tailpipe-state, below tenants/{tenant.id}/; a tenant added under this id continues there",
    ]


def discover(environment: Mapping[str, str], sink: Sink, clock: Clock) -> list[Tenant]:
    """Return the customers of the partner billing accounts that the operator can read.

    The id of a customer is that of its Entra tenant ("Customer ID (customer-tenant-id)", Partner Center). Only a user
    can read it: Azure refuses applications there.
    """
    _, clients, run = _opened(environment, sink, clock)
    try:
        found = {one.entry["tenant_id"]: one for one in _customers(clients, run)}
    finally:
        clients.close()
    return list(found.values())


def _customers(clients: Clients, run: RunContext) -> Iterator[Tenant]:
    accounts = clients.billing.billing_accounts
    taken: set[str] = set()
    for account in pages_of(run, BILLING, accounts.list):
        if (account.get("properties") or {}).get("agreementType") != PARTNER:
            continue
        name = str(account["name"])
        listing = lambda name=name: clients.billing.customers.list_by_billing_account(name)  # noqa: E731 - of one account
        for customer in pages_of(run, BILLING, listing):
            entra = str(customer.get("name", "")).lower()
            shown = str((customer.get("properties") or {}).get("displayName", ""))
            if _GUID.fullmatch(entra):
                chosen = _id_of(shown, entra, taken)
                taken.add(chosen)
                yield Tenant(chosen, "azure", shown, entry={"tenant_id": entra})


def _id_of(name: str, entra: str, taken: set[str]) -> str:
    """Return an id for the registry: made of a customer's name, with digits of its tenant if that is taken."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:31].strip("-")
    made = plain if is_tenant_id(plain) else f"tenant-{entra[:8]}"
    return made if made not in taken else f"{made[:31]}-{entra[:8]}"
