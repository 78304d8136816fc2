"""Resource Manager's operations on billing accounts and a subscription's billing property."""

from __future__ import annotations

from typing import Any

from localcloud.azure.errors import ArmError, authorization_failed, not_found, resource_not_found
from localcloud.azure.services.billing import ROOT as BILLING_ROOT
from localcloud.azure.services.billing import BillingAccount, payer_of
from localcloud.azure.services.directory_api import DirectoryApi
from localcloud.azure.state import World
from localcloud.azure.wire import Answer, Request


class BillingApi:
    """Billing accounts and their child scopes. Call with the world's lock held; every method raises ArmError."""

    def __init__(self, world: World, directory: DirectoryApi) -> None:
        self._world = world
        self._paged = directory.paged

    def accounts(self, request: Request) -> Answer:
        """List the billing accounts; a caller without a billing role gets an empty list with status 200."""
        accounts = [one.document() for one in self._world.billing.values()] if self._reads(request) else []
        return self._paged(request, accounts)

    def account(self, request: Request) -> Answer:
        return Answer(self._account(request).document())

    def children(self, request: Request) -> Answer:
        account, kind = self._account(request), request.path_args[1]
        canonical = next(one for one in _CHILDREN if one.lower() == kind.lower())
        return self._paged(request, [account.child(canonical, name) for name in account.names(canonical)])

    def customers(self, request: Request) -> Answer:
        """Return a partner's customers; accounts of other agreements have none."""
        account = self._account(request)
        if account.agreement != "MicrosoftPartnerAgreement":
            raise ArmError(
                400, "BadRequest", "The operation is supported only for billing accounts with agreement type Microsoft "
                "Partner Agreement.",
            )  # fmt: skip
        return self._paged(request, [account.customer(one) for one in account.customers])

    def accounts_of_department(self, request: Request) -> Answer:
        """Return the enrollment accounts of a department."""
        account, department = self._account(request), request.path_args[1]
        if department not in account.departments:
            raise resource_not_found(f"{BILLING_ROOT}/{account.name}/departments/{department}")
        kind = "enrollmentAccounts"
        return self._paged(request, [account.child(kind, one) for one in account.departments[department]])

    def subscriptions(self, request: Request) -> Answer:
        """Return the subscriptions that an account, profile or enrollment account pays for."""
        account = self._account(request)
        kind, child = request.path_args[1:3] if len(request.path_args) > 1 else ("", "")
        if kind and child not in account.names(next(one for one in _CHILDREN if one.lower() == kind.lower())):
            raise resource_not_found(f"{BILLING_ROOT}/{account.name}/{kind}/{child}")
        paid = [
            account.subscription(self._world.directory.subscriptions[one], name)
            for name, ones in account.children.items()
            if not child or name == child
            for one in ones
            if one in self._world.directory.subscriptions
        ]
        return self._paged(request, paid)

    def billing_property(self, request: Request) -> Answer:
        """Return the billing account that pays for a subscription."""
        found = self._world.directory.get(request.path_args[0])
        payer = payer_of(self._world.billing, found.id)
        properties: dict[str, Any] = {"subscriptionBillingStatus": "Active"}
        if payer:
            account, child = payer
            where = f"{BILLING_ROOT}/{account.name}"
            properties |= {"billingAccountId": where, "billingAccountAgreementType": account.agreement}
            if account.child_type == "billingProfiles":
                properties["billingProfileId"] = f"{where}/billingProfiles/{child}"
        where = f"/subscriptions/{found.id}/providers/Microsoft.Billing/billingProperty/default"
        return Answer(
            {"id": where, "name": "default", "type": "Microsoft.Billing/billingProperty", "properties": properties}
        )

    def _reads(self, request: Request) -> bool:
        return self._world.reads_billing(request.caller.principal)

    def _account(self, request: Request) -> BillingAccount:
        name = request.path_args[0]
        if not self._reads(request):
            action = "Microsoft.Billing/billingAccounts/read"
            raise authorization_failed(request.caller.principal, action, f"{BILLING_ROOT}/{name}")
        if name not in self._world.billing:
            raise not_found("NotFound", f"Billing account '{name}' was not found.")
        return self._world.billing[name]


_CHILDREN = ("billingProfiles", "enrollmentAccounts", "departments")
