"""Checks a tenant of the registry as its run would enter it: entry, rights, destination, and whom else it admits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from azure_function.billing_scopes import pages_of
from azure_function.clients import ARM_READ, RATES, Clients
from azure_function.entry import claims_of
from azure_function.errors import ROLES_REMEDY, translate
from azure_function.resources.permissions import PERMISSIONS_API, allows
from azure_function.settings import read_settings
from azure_function.tenants import RULES
from cli.deployment.azure.tenant_roles import Role, roles_of
from cli.deployment.model import Finding
from shared.errors import NotFound, ReportedError, Unreachable
from shared.parsing import parse_texts
from shared.runtime.clock import Clock
from shared.runtime.context import RunContext
from shared.runtime.log import Sink
from shared.tenants.registry import Tenant, environment_of

SECONDS = 600.0
STORAGE_API = "2023-05-01"
SUBSCRIPTIONS_API = "2022-12-01"
MOST_SHOWN = 4
# Whoever holds one of these could do more than keep exports.
TOO_MUCH = (
    "Microsoft.Authorization/roleAssignments/write",
    "Microsoft.Storage/storageAccounts/delete",
    "Microsoft.Compute/virtualMachines/write",
)


def check(
    tenant: Tenant, others: Sequence[Tenant], environment: Mapping[str, str], sink: Sink, clock: Clock
) -> list[Finding]:
    """Check one tenant. Nothing is written, and without an identity to prove the application, nothing is called."""
    visit = _Visit(tenant, environment, sink, clock)
    try:
        entry = visit.entry()
        if not entry.ok:
            return [entry]
        return [entry, *visit.subscriptions(), *visit.rights(), visit.destination(), *visit.strangers(others)]
    finally:
        visit.close()


class _Visit:
    """One tenant's check, with the credential of its entry."""

    def __init__(self, tenant: Tenant, environment: Mapping[str, str], sink: Sink, clock: Clock) -> None:
        self._tenant, self._environment = tenant, environment
        self._settings = read_settings(environment_of(tenant, environment, RULES))
        self._clients = [Clients(self._settings, environment)]
        self._run = RunContext("azure", self._settings.engine, sink, clock, SECONDS, RATES, translate)
        self._seen: list[str] = []

    def close(self) -> None:
        for clients in self._clients:
            clients.close()

    def entry(self) -> Finding:
        """Return whether the tenant issues a token to the application."""
        what = f"entry: the Entra tenant {self._tenant.entry['tenant_id']} admits the application"
        try:
            self._run.calls(ARM_READ, self._clients[0].claims)
        except Unreachable as error:
            return Finding(what, False, error.message, error.remedy)
        except ReportedError as error:
            return Finding(what, None, error.message, error.remedy)
        return Finding(what, True, self._proof())

    def _proof(self) -> str:
        return "by its certificate" if self._tenant.entry.get("certificate") else "by the deployment's identity"

    def subscriptions(self) -> Iterator[Finding]:
        """Yield whether the application can list subscriptions."""
        what, listing = "entry: subscriptions are visible", self._clients[0].subscriptions.subscriptions.list
        try:
            shown = list(pages_of(self._run, ARM_READ, listing))
        except ReportedError as error:
            yield Finding(what, False, error.message, ROLES_REMEDY)
            return
        self._seen = [str(one.get("subscriptionId", "")) for one in shown]
        yield Finding(what, bool(shown), f"{len(shown)} of them", "" if shown else ROLES_REMEDY)

    def rights(self) -> Iterator[Finding]:
        """Yield for each role of the invitation whether it is held, and whether the application could do more."""
        for role in roles_of(self._tenant):
            if role.scope.startswith("/providers/"):
                # Permissions are read at a subscription, because the application may not read the group itself.
                scopes = [f"/subscriptions/{one}" for one in self._seen[:1]]
            else:
                scopes = [role.scope]
            for scope in scopes:
                yield self._held(role, scope)

    def _held(self, role: Role, scope: str) -> Finding:
        what = f"rights: {role.name} on {scope}"
        try:
            listed = self._get(f"{scope}/providers/Microsoft.Authorization/permissions", PERMISSIONS_API)["value"]
        except ReportedError as error:
            return Finding(what, None, f"its permissions there could not be read: {error.message}", ROLES_REMEDY)
        lacking = [one for one in role.actions if not _held_in(listed, one, "actions")]
        lacking += [one for one in role.data_actions if not _held_in(listed, one, "dataActions")]
        lacking = [one for one in lacking if "managementGroups" not in one]  # granted on the group, not seen below it
        if lacking:
            more = f" and {len(lacking) - MOST_SHOWN} more" if len(lacking) > MOST_SHOWN else ""
            return Finding(what, False, f"missing {', '.join(lacking[:MOST_SHOWN])}{more}", ROLES_REMEDY)
        wanted = {action for one in roles_of(self._tenant) for action in one.actions}
        excess = [one for one in TOO_MUCH if one not in wanted and _held_in(listed, one, "actions")]
        if excess:
            remedy = "Remove its other role assignments in the tenant: it needs those of the invitation only."
            return Finding(what, False, f"the application could do more than keep exports: {excess[0]}", remedy)
        return Finding(what, True)

    def destination(self) -> Finding:
        """Return whether the storage account exists in this tenant and its container can be listed."""
        account = self._settings.destination[0]
        what = f"destination: {account.name}/{self._settings.container}"
        try:
            self._get(account.id, STORAGE_API)
            container = self._clients[0].container(account.name, self._settings.container)
            self._run.calls("storage", lambda: next(iter(container.list_blob_names(results_per_page=1)), None))
        except NotFound as error:
            if error.code == "ContainerNotFound":
                return Finding(what, True, "the container does not exist yet; the first run creates it")
            return Finding(what, False, error.message, "Correct storage_account in the tenant's entry.")
        except ReportedError as error:
            return Finding(what, False, error.message, error.remedy)
        return Finding(what, True)

    def strangers(self, others: Sequence[Tenant]) -> Iterator[Finding]:
        """Yield whether the tenant refuses what enters another one, and an identity that must not be trusted.

        Resource Manager is asked with the token of another tenant; no other resource of this tenant gets it.
        """
        other = next((one for one in others if one.cloud == "azure"), None)
        if other and self._seen:
            yield self._refuses_token_of(other)
        if not self._tenant.entry.get("certificate"):
            yield self._refuses_other_identity()

    def _refuses_token_of(self, other: Tenant) -> Finding:
        what = f"confused deputy: a token of {other.id} is refused here"
        settings = read_settings(environment_of(other, self._environment, RULES))
        clients = Clients(settings, self._environment)
        self._clients.append(clients)
        path = f"/subscriptions/{self._seen[0]}"
        try:
            self._run.calls(ARM_READ, clients.claims)
        except ReportedError as error:
            return Finding(what, None, f"{other.id} cannot be entered to try it: {error.message}")
        try:
            self._run.calls(ARM_READ, clients.arm_get, path, SUBSCRIPTIONS_API)
        except ReportedError as error:
            return Finding(what, True, error.message)
        remedy = "Both entries name the same Entra tenant, or the subscription moved; correct the registry."
        return Finding(what, False, f"it opened {path}", remedy)

    def _refuses_other_identity(self) -> Finding:
        """Present another identity of the deployment as the application's: only one is to be trusted."""
        what = "confused deputy: another identity of this deployment is refused here"
        try:
            accepted = self._run.calls(ARM_READ, self._clients[0].enter_by_own_identity)
        except Unreachable as error:
            return Finding(what, True, error.message)
        except ReportedError as error:
            return Finding(what, None, error.message)
        remedy = "Keep one federated credential in the application registration: that of TENANTS_IDENTITY."
        return Finding(what, False, f"it was issued a token for {claims_of(accepted).get('oid', 'the tenant')}", remedy)

    def _get(self, path: str, api_version: str) -> Any:
        return self._run.calls(ARM_READ, self._clients[0].arm_get, path, api_version)


def _held_in(listed: Sequence[Mapping[str, Any]], action: str, key: str) -> bool:
    """Return whether any of the permissions allows an action, or with the key ``dataActions`` a data action."""
    if key == "actions":
        return any(allows(one, action) for one in listed)
    data = ({"actions": parse_texts(one.get("dataActions")), "notActions": one.get("notDataActions")} for one in listed)
    return any(allows(one, action) for one in data)
