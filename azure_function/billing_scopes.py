"""The billing scopes that can be exported as a whole, and the subscriptions that each of them contains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from azure_function.clients import BILLING as BILLING_QUOTA
from azure_function.clients import COST, Clients
from azure_function.errors import NO_APP_ON_BILLING
from azure_function.settings import AzureSettings
from shared.errors import CloudError, Denied, Manual, NotFound, NotUnderstood, Transient
from shared.model import Problem
from shared.parsing import mapping
from shared.runtime.context import RunContext


class Found(msgspec.Struct, frozen=True):
    """A billing scope: its path in Resource Manager, name, and the subscriptions billed to it.

    `accounts` are the paths, in lower case, of the enrollment accounts of a department. `unseen` is why the
    subscriptions of the scope could not be determined, "" if they could.
    """

    path: str
    name: str
    subscriptions: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()
    unseen: str = ""


EA, MCA = "EnterpriseAgreement", "MicrosoftCustomerAgreement"


def _path(account: str, kind: str, one: Mapping[str, Any]) -> str:
    return f"/providers/Microsoft.Billing/billingAccounts/{account}/{kind}/{name_of(one, f'the {kind}')}"


def name_of(one: Mapping[str, Any], listing: str) -> str:
    """Return the name of a list entry. Raises NotUnderstood if it has none."""
    found = one.get("name")
    if not isinstance(found, str) or not found:
        raise NotUnderstood(f"the list of {listing.removeprefix('the ')}", "one of its entries has no name")
    return found


def _parts(path: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return the billing account of a scope's path, and the kinds (in lower case) and names of what follows it."""
    account, *below = path.split("/")[4:]
    return account, tuple(one.lower() for one in below[::2]), tuple(below[1::2])


def _holds(outer: Found, path: str) -> bool:
    """Return whether a scope's costs are in another one's export: by its path, or as an account of a department."""
    return path.lower().startswith(f"{outer.path.lower()}/") or path.lower() in outer.accounts


def _may_hold(department: str, path: str) -> bool:
    """Return whether a department whose accounts are not known may hold an enrollment account."""
    (enrollment, kinds, _), (other, of_other, _) = _parts(department), _parts(path)
    return kinds == ("departments",) and of_other == ("enrollmentaccounts",) and enrollment.lower() == other.lower()


def _members_unknown(found: Found) -> Problem:
    return Problem(
        "billing-members-unknown",
        f"the subscriptions of billing scope {found.path} are unknown: {found.unseen}; they are also exported one by "
        "one, so their costs arrive twice",
        "Assign the function's identity the role EnrollmentReader of the enrollment, or remove the scope from "
        "BILLING_SCOPES.",
        found.path,
    )


def _unlisted(why: str) -> Problem:
    return Problem(
        "billing-unknown",
        f"the billing scopes are unknown: {why}; subscriptions are exported one by one",
        "Assign the function's identity a billing role (EnrollmentReader), list the scopes in BILLING_SCOPES, or set "
        "it to off.",
    )


def _overlap(path: str, why: str) -> Problem:
    remedy = "Remove one of them from BILLING_SCOPES: an enrollment contains its departments, which contain accounts."
    return Problem("billing-overlap", f"billing scope {path} {why}", remedy, path)


def _refused(path: str, error: CloudError) -> Problem:
    permanent = error.code == NO_APP_ON_BILLING
    return Problem(
        error.code,
        f"an application cannot export billing scope {path}; its subscriptions are exported one by one"
        if permanent
        else f"billing scope {path}: {error.message}; its subscriptions are exported one by one",
        "Remove it from BILLING_SCOPES, or set that to off." if permanent else error.remedy,
        path,
    )


class BillingScopes:
    """Lists the billing scopes that are visible to the function's identity.

    `unseen`: a temporary failure hides which subscriptions the billing exports contain.
    """

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self.unseen = False

    def usable(self) -> Iterator[tuple[Found | None, Problem | None]]:
        """Yield the billing scopes that accept our exports, and a problem for each that could not be determined."""
        if self._settings.billing == "off":
            return
        try:
            paths = self._settings.billing_scopes or tuple(self._listed())
        except CloudError as error:
            self.unseen = isinstance(error, Transient)
            yield None, _unlisted(error.message)
            return
        if not paths:
            # An identity without any billing role gets an empty list, so this proves nothing.
            yield None, _unlisted("the list of billing accounts is empty")
            return
        taken: list[Found] = []
        # Containing scopes come first: an enrollment, then its departments, then the accounts.
        for path in sorted(paths, key=lambda one: (one.count("/"), one)):
            outer = next((one.path for one in taken if _holds(one, path)), "")
            if outer:
                yield (
                    None,
                    _overlap(path, f"is part of {outer}, which is exported, so it is not exported a second time"),
                )
                continue
            try:
                found = self._usable(path)
            except CloudError as error:
                self.unseen = self.unseen or isinstance(error, Transient)
                yield None, _refused(path, error)
                continue
            taken.append(found)
            yield found, _members_unknown(found) if found.unseen else None
        for found in taken:
            beside = [one.path for one in taken if found.unseen and _may_hold(found.path, one.path)]
            if beside:
                why = f"may contain {', '.join(beside)}, so costs of its accounts are exported twice"
                yield None, _overlap(found.path, why)

    def _listed(self) -> Iterator[str]:
        """Yield the path of every enrollment account and billing profile of every billing account."""
        billing = self._clients.billing
        for account in pages_of(self._run, BILLING_QUOTA, billing.billing_accounts.list):
            name = name_of(account, "the billing accounts")
            agreement = str(mapping(account.get("properties")).get("agreementType", ""))
            if agreement == EA:
                accounts = pages_of(
                    self._run, BILLING_QUOTA, partial(billing.enrollment_accounts.list_by_billing_account, name)
                )
                yield from (_path(name, "enrollmentAccounts", one) for one in accounts)
            elif agreement == MCA:
                profiles = pages_of(
                    self._run, BILLING_QUOTA, partial(billing.billing_profiles.list_by_billing_account, name)
                )
                yield from (_path(name, "billingProfiles", one) for one in profiles)

    def _usable(self, path: str) -> Found:
        """Return the billing scope if Cost Management lets this identity see its exports there. Raises CloudError."""
        self._run.calls(COST, self._clients.cost.exports.list, path)
        found = Found(path, path.rsplit("/", 1)[1])
        try:
            accounts = tuple(self._accounts_of(path))
            subscriptions = {one for each in accounts or (path,) for one in self._billed_to(each)}
        except (Denied, Manual, NotFound) as error:
            # If the contents are unknown, a subscription is exported twice rather than not at all.
            return msgspec.structs.replace(found, unseen=error.message)
        lowered = frozenset(one.lower() for one in accounts)
        return msgspec.structs.replace(found, subscriptions=frozenset(subscriptions), accounts=lowered)

    def _accounts_of(self, path: str) -> Iterator[str]:
        """Yield the paths of a department's enrollment accounts; nothing for any other scope."""
        account, kinds, names = _parts(path)
        if kinds == ("departments",):
            listing = partial(self._clients.billing.enrollment_accounts.list_by_department, account, *names)
            for one in pages_of(self._run, BILLING_QUOTA, listing):
                yield _path(account, "enrollmentAccounts", one)

    def _billed_to(self, path: str) -> Iterator[str]:
        """Yield the subscriptions billed to a scope; a department is billed by its accounts. Raises CloudError."""
        account, kinds, names = _parts(path)
        billing = self._clients.billing.billing_subscriptions
        listings: dict[tuple[str, ...], Callable[..., Any]] = {
            (): billing.list_by_billing_account,
            ("enrollmentaccounts",): billing.list_by_enrollment_account,
            ("billingprofiles",): billing.list_by_billing_profile,
            ("billingprofiles", "invoicesections"): billing.list_by_invoice_section,
            ("billingprofiles", "customers"): billing.list_by_customer,
            ("customers",): billing.list_by_customer_at_billing_account,
        }
        if kinds == ("departments",):
            return  # without an account: nothing is billed to it
        if kinds not in listings:
            raise NotFound("billing-members-unknown", f"Azure lists no subscriptions of a scope {'/'.join(kinds)}")
        for one in pages_of(self._run, BILLING_QUOTA, partial(listings[kinds], account, *names)):
            yield str(mapping(one.get("properties")).get("subscriptionId", "")).lower()


def pages_of(run: RunContext, quota: str, listing: Callable[[], Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the items of every page; a page may be empty while more follow."""
    pages = listing().by_page()
    while True:
        page = run.calls(quota, next, pages, None)
        if page is None:
            return
        yield from page
        run.heartbeat()
