"""Billing accounts, their profiles and enrollment accounts, and the subscriptions that they pay for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from localcloud.azure.errors import ArmError, rbac_access_denied
from localcloud.azure.services.directory import Subscription

BillingAgreement = Literal[
    "EnterpriseAgreement", "MicrosoftCustomerAgreement", "MicrosoftOnlineServicesProgram", "MicrosoftPartnerAgreement"
]
ROOT = "/providers/Microsoft.Billing/billingAccounts"


@dataclass
class BillingAccount:
    """A billing account.

    `children` maps enrollment accounts (EA) or billing profiles (MCA) to the subscriptions that they pay for;
    `departments` maps departments to their enrollment accounts. `customers` maps the Entra tenants of a partner's
    customers to their names.
    """

    name: str
    display_name: str
    agreement: BillingAgreement
    children: dict[str, list[str]] = field(default_factory=dict)
    departments: dict[str, list[str]] = field(default_factory=dict)
    customers: dict[str, str] = field(default_factory=dict)

    @property
    def child_type(self) -> str:
        return "billingProfiles" if self.agreement == "MicrosoftCustomerAgreement" else "enrollmentAccounts"

    def document(self) -> dict[str, Any]:
        return {
            "id": f"{ROOT}/{self.name}",
            "name": self.name,
            "type": "Microsoft.Billing/billingAccounts",
            "properties": {
                "accountStatus": "Active",
                "accountType": "Enterprise" if self.agreement == "EnterpriseAgreement" else "Business",
                "agreementType": self.agreement,
                "displayName": self.display_name,
                "hasReadAccess": True,
                "provisioningState": "Succeeded",
            },
        }

    def child(self, kind: str, name: str) -> dict[str, Any]:
        return {
            "id": f"{ROOT}/{self.name}/{kind}/{name}",
            "name": name,
            "type": f"Microsoft.Billing/billingAccounts/{kind}",
            # Profiles say whether the caller may read them; enrollment accounts and departments do not.
            "properties": {"displayName": name, "status": "Active"}
            | ({"hasReadAccess": True} if kind == "billingProfiles" else {}),
        }

    def customer(self, tenant: str) -> dict[str, Any]:
        """Return a customer of a partner, by its Entra tenant."""
        profile = f"{ROOT}/{self.name}/billingProfiles/partner"
        properties = {"displayName": self.customers[tenant], "billingProfileId": profile, "status": "Active"}
        return {
            "id": f"{ROOT}/{self.name}/customers/{tenant}",
            "name": tenant,
            "type": "Microsoft.Billing/billingAccounts/customers",
            "properties": properties,
        }

    def names(self, kind: str) -> list[str]:
        """Return the names of the enrollment accounts, billing profiles or departments."""
        if kind == "departments":
            return list(self.departments)
        return list(self.children) if kind == self.child_type else []

    def subscription(self, subscription: Subscription, child: str) -> dict[str, Any]:
        key = "billingProfileId" if self.child_type == "billingProfiles" else "enrollmentAccountId"
        return {
            "id": f"{ROOT}/{self.name}/billingSubscriptions/{subscription.id}",
            "name": subscription.id,
            "type": "Microsoft.Billing/billingAccounts/billingSubscriptions",
            "properties": {
                "displayName": subscription.name,
                "subscriptionId": subscription.id,
                "status": "Active" if subscription.state == "Enabled" else "Disabled",
                key: f"{ROOT}/{self.name}/{self.child_type}/{child}",
            },
        }


def payer_of(accounts: dict[str, BillingAccount], subscription: str) -> tuple[BillingAccount, str] | None:
    """Return the billing account and the child that pay for a subscription, or None if there are none."""
    for account in accounts.values():
        for child, paid in account.children.items():
            if subscription in paid:
                return account, child
    return None


def check_scope(accounts: dict[str, BillingAccount], scope: str, reader: bool, app: bool) -> None:
    """Check that a caller can use exports at a billing scope; `reader`: it has a billing role, `app`: it is an app.

    Raises ArmError 404 if the scope does not exist, 401 RBACAccessDenied `NoHttpContext` for an app at a Microsoft
    Customer Agreement regardless of its role, and 401 BillingAccessDenied for a caller without a billing role.
    """
    parts = scope[len(ROOT) :].strip("/").split("/")
    account = accounts.get(parts[0])
    if account is None:
        raise ArmError(404, "NotFound", f"Billing account '{parts[0]}' was not found.")
    if len(parts) > 1 and (len(parts) != 3 or parts[2] not in account.names(parts[1])):
        raise ArmError(404, "NotFound", f"The billing scope '{scope}' was not found.")
    if account.agreement == "MicrosoftCustomerAgreement" and app:
        raise rbac_access_denied("NoHttpContext: the token of an app carries no claims for this billing scope.")
    if not reader:
        raise ArmError(401, "BillingAccessDenied", "No claims present for the caller.")
