"""Cloud Billing: the methods on accounts, which return only those that the caller may view."""

from __future__ import annotations

import re

from localcloud.gcp.context import Answer, Context, Handler, page
from localcloud.gcp.errors import GoogleError, not_found
from localcloud.gcp.services.billing import ID, BillingAccount

PAGE = 100  # the maximum and the default (https://cloud.google.com/billing/docs/reference/rest/v1/billingAccounts/list)
_MASTER = re.compile(r'\s*(?:master_billing_account|masterBillingAccount)\s*=\s*"?(billingAccounts/[0-9A-F-]+)"?\s*')


class BillingApi:
    """The supported methods of Cloud Billing."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {
            "cloudbilling.billingAccounts.list": self._list,
            "cloudbilling.billingAccounts.get": self._get,
            "cloudbilling.billingAccounts.getIamPolicy": self._policy,
            "cloudbilling.billingAccounts.testIamPermissions": self._test,
            "cloudbilling.billingAccounts.subAccounts.list": self._sub_accounts,
            "cloudbilling.organizations.billingAccounts.list": self._of_organization,
        }

    def _list(self, context: Context) -> Answer:
        return self._page(context, context.request.one("parent"))

    def _of_organization(self, context: Context) -> Answer:
        return self._page(context, f"organizations/{context.ids[0]}")

    def _sub_accounts(self, context: Context) -> Answer:
        self._find(context)
        return self._page(context, f"billingAccounts/{context.ids[0]}")

    def _page(self, context: Context, parent: str) -> Answer:
        request = context.request
        wanted = request.one("filter")
        master = _MASTER.fullmatch(wanted)
        if wanted and not master:
            raise GoogleError(400, "badRequest", f"Invalid filter: {wanted[:80]}")
        size = min(int(request.one("pageSize") or PAGE) or PAGE, PAGE)
        if size < 0:
            raise GoogleError(400, "badRequest", "The page size must not be negative.")
        documents = [account.as_json() for account in self._visible(context)]
        shown = [
            document
            for document in documents
            if (not parent or document["parent"] == parent)
            and (not master or document["masterBillingAccount"] == master[1])
        ]
        items, token = page(shown, request.one("pageToken"), size, f"{parent}|{wanted}")
        # Empty lists are omitted, as in proto3's JSON encoding.
        return ({"billingAccounts": list(items)} if items else {}) | ({"nextPageToken": token} if token else {})

    def _visible(self, context: Context) -> list[BillingAccount]:
        # A permission on the organization shows all its accounts: it is checked once, not per account.
        world, billing = context.world, context.world.billing
        granted = [one for one in billing.of_parent if one and world.iam.bound_below(context.identity, one)]
        whole = {parent for parent in granted if context.may("billing.accounts.list", parent)}
        if len(whole) == 1 == len(granted) and not world.iam.bound_below(context.identity, "billingAccounts/"):
            return list(billing.of_parent[whole.pop()])
        return [
            account
            for account in billing.accounts.values()
            if account.parent in whole or context.may("billing.accounts.get", f"billingAccounts/{account.id}")
        ]

    def _get(self, context: Context) -> Answer:
        return self._find(context).as_json()

    def _policy(self, context: Context) -> Answer:
        self._find(context)
        context.need("billing.accounts.getIamPolicy", f"billingAccounts/{context.ids[0]}")
        return context.world.iam.policy(f"billingAccounts/{context.ids[0]}")

    def _test(self, context: Context) -> Answer:
        account = context.world.billing.accounts.get(context.ids[0])
        if account is None:
            raise GoogleError(403, "forbidden", "The caller does not have permission")
        return context.tested(f"billingAccounts/{account.id}")

    def _find(self, context: Context) -> BillingAccount:
        identifier = context.ids[0]
        if not ID.fullmatch(identifier):
            raise GoogleError(400, "badRequest", "Request contains an invalid argument.")
        context.need("billing.accounts.get", f"billingAccounts/{identifier}")
        if identifier not in context.world.billing.accounts:
            raise not_found("Requested entity was not found.")
        return context.world.billing.accounts[identifier]
