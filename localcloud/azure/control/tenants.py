"""Control actions of the owners of other tenants: whether the multi-tenant application may enter."""

from __future__ import annotations

from typing import Any, Protocol

from localcloud.azure.control.events import EventActions
from localcloud.azure.iam.entra import LOGIN, REFUSALS, FederatedCredential
from localcloud.azure.services.export_deliveries import Deliveries
from localcloud.azure.state import World


class Admitting(Protocol):
    """A customer's tenant; see `customers.CustomerTenant`."""

    def entry(self) -> dict[str, str]: ...

    def destination(self) -> dict[str, str]: ...

    def consent(self, roles: bool = True) -> str: ...

    def revoke_consent(self) -> None: ...

    def disable_application(self, disabled: bool = True) -> None: ...

    def refuse_tokens(self, code: int = 0) -> None: ...


class TenantActions(EventActions):
    """Actions on the customers' tenants, by name (`customer-000`)."""

    def __init__(self, world: World, deliveries: Deliveries) -> None:
        super().__init__(world, deliveries)
        self.customers: dict[str, Admitting] = {}

    def tenant_entries(self) -> list[dict[str, Any]]:
        """Return an entry of a tenant registry for each of the customers' tenants."""
        return [
            {"id": name, "cloud": "azure", "entry": one.entry(), "destination": one.destination()}
            for name, one in self.customers.items()
        ]

    def trust_identity(self, client: str) -> None:
        """Let the multi-tenant application trust a deployed identity, by its client id; see "Tenants" in docs/azure.md.

        As `az ad app federated-credential create` does it.
        """
        principal = self._world.assigned_identities().get(client)
        if principal is None:
            raise ValueError(f"no app has an identity with the client id {client!r}")
        for application in self._world.entra.applications.values():
            application.trust(FederatedCredential(f"{LOGIN}/{self._world.tenant}/v2.0", principal))

    def consent_tenant(self, tenant: str, roles: bool = True) -> str:
        """Admit the application again and, with `roles`, assign it its roles; return its new object ID."""
        return self._customer(tenant).consent(roles)

    def revoke_consent(self, tenant: str) -> None:
        """Delete the application's principal in the tenant: AADSTS7000229. Tokens that were issued stay valid."""
        self._customer(tenant).revoke_consent()

    def disable_application(self, tenant: str, disabled: bool = True) -> None:
        """Disable the application's sign-in in the tenant (AADSTS7000112), or enable it again."""
        self._customer(tenant).disable_application(disabled)

    def refuse_tokens(self, tenant: str, code: int = 53003) -> None:
        """Refuse every token of the tenant with an error code; 0 issues them again.

        53003: Conditional Access; 65001: no consent; 700016: unknown application; 90002: the tenant is gone; 5000225:
        the tenant is blocked.
        """
        if code and code not in REFUSALS:
            raise ValueError(f"code {code} is not one of {', '.join(map(str, sorted(REFUSALS)))}, or 0")
        self._customer(tenant).refuse_tokens(code)

    def _customer(self, tenant: str) -> Admitting:
        found = self.customers.get(tenant)
        if found is None:
            raise ValueError(f"there is no tenant {tenant!r}")
        return found
