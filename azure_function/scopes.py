"""Which scopes there are: the tenant's subscriptions, and the billing scopes that may be exported as a whole.

The trait ``role`` says what a scope is: SUBSCRIPTION, BILLING, or DESTINATION (a subscription outside the selection
that only holds a storage account). ``covered-by`` names the billing scope whose export has the subscription's costs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from azure_function.clients import ARM_READ, COST, Clients
from azure_function.clients import BILLING as BILLING_QUOTA
from azure_function.errors import CREDENTIALS_REMEDY, NO_APP_ON_BILLING, OTHER_TENANT, UNAUTHORIZED
from azure_function.settings import AzureSettings
from shared.errors import (
    CloudError,
    Denied,
    Manual,
    NotApplicable,
    NotFound,
    NotUnderstood,
    RunStopped,
    Transient,
)
from shared.model import Enumeration, Problem, Scope, ScopeState
from shared.parsing import mapping
from shared.runtime.context import RunContext

ROLE = "role"
SUBSCRIPTION, BILLING, DESTINATION = "subscription", "billing", "destination"
COVERED_BY = "covered-by"
STATE = "state"  # of the subscription of a destination, where it is not an active one

# A warned subscription can be read but nothing in it created ("Azure subscription states", Microsoft Learn).
ACTIVE_STATES = frozenset({"Enabled", "PastDue"})
LIST_REMEDY = "Grant the deployment's custom role, which can read subscriptions, at the management group."
ASK_ONE_BY_ONE = 20  # up to so many requested subscriptions, asking for each costs no more than the listing
EA, MCA = "EnterpriseAgreement", "MicrosoftCustomerAgreement"


class Found(msgspec.Struct, frozen=True):
    """A billing scope: its path in Resource Manager, name, and the subscriptions billed to it.

    `accounts` are the paths, in lower case, of the enrollment accounts of a department. `unseen` is why whose costs the
    scope holds could not be determined, "" where it could.
    """

    path: str
    name: str
    subscriptions: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()
    unseen: str = ""


class Scopes:
    """Lists the scopes as the function's identity may see them."""

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self.billing_unseen = False  # true where a passing failure hides whose costs the billing exports hold

    def enumerate(self, requested: Sequence[str]) -> Enumeration:
        """Return the selected scopes, of all or of the requested ones.

        Raises RunStopped where no subscription is visible at all or all of them are another tenant's; other
        CloudErrors where the listing failed.
        """
        ids = [one.lower() for one in requested if not one.startswith("/")]
        if requested and len(requested) <= ASK_ONE_BY_ONE:
            shown, problems = self._ask(ids)
        else:
            listing = self._clients.subscriptions.subscriptions.list
            try:
                shown, problems = list(self._pages(ARM_READ, listing)), []
            except Denied as denied:
                if denied.code == UNAUTHORIZED:
                    # Not one scope, but the whole tenant refuses the token.
                    raise RunStopped("credentials", denied.message, CREDENTIALS_REMEDY) from denied
                raise RunStopped("subscriptions-forbidden", denied.message, LIST_REMEDY) from denied
            problems += self._unseen(shown)
        if not shown and not ids and not requested:
            raise RunStopped(
                "no-subscriptions",
                "Azure shows no subscription at all: the function's identity has lost its rights, or never had any",
                LIST_REMEDY,
            )
        owner = self._owner(shown)
        selected, missing = self._selection()
        problems += missing
        scopes = {one.id: one for one in self._subscriptions(shown, owner, selected, requested)}
        for found, problem in self._billing():
            if problem is not None:
                problems.append(problem)
            if found is not None:
                scopes[found.path] = Scope(found.path, found.name, traits={ROLE: BILLING})
                for subscription in found.subscriptions & scopes.keys():
                    if scopes[subscription].traits.get(ROLE) == SUBSCRIPTION:
                        covered = {**scopes[subscription].traits, COVERED_BY: found.path}
                        scopes[subscription] = msgspec.structs.replace(scopes[subscription], traits=covered)
        for account in self._settings.destination:
            # What exports rest on is looked at whether or not its subscription is selected, visible or enabled.
            owned = scopes.get(account.subscription)
            if owned is None:
                held = Scope(account.subscription, traits={ROLE: DESTINATION}, counted=False)
                scopes[account.subscription] = held
            elif owned.state is not ScopeState.ACTIVE:
                traits = {ROLE: DESTINATION, STATE: owned.reason}
                scopes[account.subscription] = Scope(account.subscription, owned.name, traits=traits, counted=False)
        return Enumeration(
            owner,
            tuple(sorted(scopes.values(), key=lambda scope: scope.id)),
            complete=not requested and not problems,
            problems=tuple(problems),
        )

    def _owner(self, shown: Sequence[Mapping[str, Any]]) -> str:
        """Return the tenant that everything belongs to. Raises RunStopped where the credentials are another one's."""
        tenants = Counter(str(one.get("tenantId", "")).lower() for one in shown)
        told = self._settings.tenant or self._run.calls(ARM_READ, self._clients.claims).get("tid", "").lower()
        if told and shown and told not in tenants:
            raise RunStopped(
                "wrong-tenant",
                f"the credentials are of tenant {told}, the subscriptions of {', '.join(sorted(tenants))}",
                "Correct AZURE_TENANT_ID, or deploy the function with an identity of the other tenant.",
            )
        if told:
            return told
        known = sorted(tenants.items(), key=lambda one: (-one[1], one[0]))
        if not known or not known[0][0]:
            raise RunStopped(
                "tenant-unknown", "nothing tells which tenant this is", "Set AZURE_TENANT_ID to the tenant's id."
            )
        return known[0][0]

    def _subscriptions(
        self, shown: Iterable[Mapping[str, Any]], owner: str, selected: set[str] | None, requested: Sequence[str]
    ) -> Iterator[Scope]:
        settings = self._settings
        wanted = {one.lower() for one in requested}
        for one in shown:
            own = _id_of(one)
            if own in settings.exclude or (selected is not None and own not in selected):
                continue
            if wanted and own not in wanted:
                continue
            state = str(one.get("state", ""))
            reason = "" if state in ACTIVE_STATES else state or "no state"
            tenant = str(one.get("tenantId", "")).lower()
            if tenant and tenant != owner:
                reason = f"of another tenant ({tenant})"
            yield Scope(
                own,
                str(one.get("displayName", "")),
                ScopeState.INACTIVE if reason else ScopeState.ACTIVE,
                reason,
                {ROLE: SUBSCRIPTION},
            )

    def _unseen(self, shown: Sequence[Mapping[str, Any]]) -> list[Problem]:
        """Return a problem for each subscription that the settings include and Azure does not show."""
        visible = {_id_of(one) for one in shown}
        remedy = "Correct INCLUDE_SUBSCRIPTIONS, or grant the function's role on the subscription."
        return [
            Problem("subscription-not-visible", f"{one} of INCLUDE_SUBSCRIPTIONS is not visible", remedy, one)
            for one in self._settings.include
            if one not in visible
        ]

    def _ask(self, ids: Sequence[str]) -> tuple[list[Mapping[str, Any]], list[Problem]]:
        shown: list[Mapping[str, Any]] = []
        problems: list[Problem] = []
        refused = 0
        for one in ids:
            try:
                shown.append(self._run.calls(ARM_READ, self._clients.subscriptions.subscriptions.get, one))
            except (NotFound, NotApplicable, Denied) as error:
                refused += error.code in (UNAUTHORIZED, OTHER_TENANT)
                remedy = "Correct the id, or grant the function's role on the subscription."
                problems.append(Problem("subscription-not-found", f"{one[:80]}: {error.message}", remedy, one[:80]))
        if ids and refused == len(ids):
            raise RunStopped("credentials", problems[0].message, CREDENTIALS_REMEDY)
        return shown, problems

    def _selection(self) -> tuple[set[str] | None, list[Problem]]:
        """Return the subscriptions that the settings select, None for all, and why that could not be determined.

        A list of subscriptions wins over a management group, which then is not read.
        """
        group = self._settings.group
        if self._settings.include:
            return set(self._settings.include), []
        if not group:
            return None, []
        below: set[str] = set()
        try:
            descendants = self._clients.groups.management_groups.get_descendants
            for one in self._pages(ARM_READ, lambda: descendants(group)):
                if str(one.get("type", "")).lower().endswith("/subscriptions"):
                    below.add(_name_of(one, "a management group's descendants").lower())
        except CloudError as error:
            remedy = "Correct MANAGEMENT_GROUP, or grant Management Group Reader on it."
            return below, [Problem("management-group-unreadable", f"{group}: {error.message}", remedy)]
        return below, []

    def _billing(self) -> Iterator[tuple[Found | None, Problem | None]]:
        """Yield the billing scopes that accept our exports, and a problem for each that could not be determined."""
        if self._settings.billing == "off":
            return
        try:
            paths = self._settings.billing_scopes or tuple(self._listed())
        except CloudError as error:
            self.billing_unseen = isinstance(error, Transient)
            yield None, _unlisted(error.message)
            return
        if not paths:
            # Azure answers so to an identity without any billing role: it says nothing about what there is.
            yield None, _unlisted("the list of billing accounts is empty")
            return
        taken: list[Found] = []
        # What holds others comes first: an enrollment, then its departments, then the accounts.
        for path in sorted(paths, key=lambda one: (one.count("/"), one)):
            outer = next((one.path for one in taken if _holds(one, path)), "")
            if outer:
                yield None, _overlap(path, f"lies in {outer}, which is exported: it is not exported a second time")
                continue
            try:
                found = self._usable(path)
            except CloudError as error:
                self.billing_unseen = self.billing_unseen or isinstance(error, Transient)
                yield None, _refused(path, error)
                continue
            taken.append(found)
            yield found, _members_unknown(found) if found.unseen else None
        for found in taken:
            beside = [one.path for one in taken if found.unseen and _may_hold(found.path, one.path)]
            if beside:
                why = f"may hold {', '.join(beside)}: costs of accounts in it are exported twice"
                yield None, _overlap(found.path, why)

    def _listed(self) -> Iterator[str]:
        """Yield the path of every enrollment account and billing profile of every billing account."""
        billing = self._clients.billing
        for account in self._pages(BILLING_QUOTA, billing.billing_accounts.list):
            name = _name_of(account, "the billing accounts")
            agreement = str(mapping(account.get("properties")).get("agreementType", ""))
            if agreement == EA:
                accounts = self._pages(
                    BILLING_QUOTA, partial(billing.enrollment_accounts.list_by_billing_account, name)
                )
                yield from (_path(name, "enrollmentAccounts", one) for one in accounts)
            elif agreement == MCA:
                profiles = self._pages(BILLING_QUOTA, partial(billing.billing_profiles.list_by_billing_account, name))
                yield from (_path(name, "billingProfiles", one) for one in profiles)

    def _usable(self, path: str) -> Found:
        """Return the billing scope if Cost Management lets this identity see its exports there. Raises CloudError."""
        self._run.calls(COST, self._clients.cost.exports.list, path)
        found = Found(path, path.rsplit("/", 1)[1])
        try:
            accounts = tuple(self._accounts_of(path))
            subscriptions = {one for each in accounts or (path,) for one in self._billed_to(each)}
        except (Denied, Manual, NotFound) as error:
            # Not knowing whom the export covers leads to a subscription exported twice, never to one left out.
            return msgspec.structs.replace(found, unseen=error.message)
        lowered = frozenset(one.lower() for one in accounts)
        return msgspec.structs.replace(found, subscriptions=frozenset(subscriptions), accounts=lowered)

    def _accounts_of(self, path: str) -> Iterator[str]:
        """Yield the paths of a department's enrollment accounts; nothing for any other scope."""
        account, kinds, names = _parts(path)
        if kinds == ("departments",):
            listing = partial(self._clients.billing.enrollment_accounts.list_by_department, account, *names)
            for one in self._pages(BILLING_QUOTA, listing):
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
        for one in self._pages(BILLING_QUOTA, partial(listings[kinds], account, *names)):
            yield str(mapping(one.get("properties")).get("subscriptionId", "")).lower()

    def _pages(self, quota: str, listing: Callable[[], Any]) -> Iterator[Mapping[str, Any]]:
        """Yield the items of every page; a page may be empty while more follow."""
        pages = listing().by_page()
        while True:
            page = self._run.calls(quota, next, pages, None)
            if page is None:
                return
            yield from page
            self._run.heartbeat()


def _path(account: str, kind: str, one: Mapping[str, Any]) -> str:
    return f"/providers/Microsoft.Billing/billingAccounts/{account}/{kind}/{_name_of(one, f'the {kind}')}"


def _id_of(subscription: Mapping[str, Any]) -> str:
    """Return a listed subscription's id in lower case; "", which is reported as no id, where it has none."""
    found = subscription.get("subscriptionId")
    return found.lower() if isinstance(found, str) else ""


def _name_of(one: Mapping[str, Any], listing: str) -> str:
    """Return the name of a listed thing. Raises NotUnderstood where it has none."""
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
        f"whose costs billing scope {found.path} holds is unknown: {found.unseen}; its subscriptions are exported one "
        "by one beside it, so that their costs arrive twice",
        "Give the function's identity the role EnrollmentReader of the enrollment, or leave the scope out of "
        "BILLING_SCOPES.",
        found.path,
    )


def _unlisted(why: str) -> Problem:
    return Problem(
        "billing-unknown",
        f"which billing scopes there are is unknown: {why}; subscriptions are exported one by one",
        "Give the function's identity a billing role (EnrollmentReader), name the scopes in BILLING_SCOPES, or set it "
        "to off.",
    )


def _overlap(path: str, why: str) -> Problem:
    remedy = "Leave one of them out of BILLING_SCOPES: an enrollment holds its departments, these hold accounts."
    return Problem("billing-overlap", f"billing scope {path} {why}", remedy, path)


def _refused(path: str, error: CloudError) -> Problem:
    permanent = error.code == NO_APP_ON_BILLING
    return Problem(
        error.code,
        f"billing scope {path} cannot be exported by an application: its subscriptions are exported one by one"
        if permanent
        else f"billing scope {path}: {error.message}; its subscriptions are exported one by one",
        "Leave it out of BILLING_SCOPES (off)." if permanent else error.remedy,
        path,
    )
