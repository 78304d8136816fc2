"""Enumerate the scopes: the tenant's subscriptions, and the billing scopes that can be exported as a whole.

The trait ``role`` says what a scope is: SUBSCRIPTION, BILLING, or DESTINATION (a subscription outside the selection
that only holds a storage account). ``covered-by`` names the billing scope whose export has the subscription's costs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from azure_function.billing_scopes import BillingScopes, name_of, pages_of
from azure_function.clients import ARM_READ, Clients
from azure_function.errors import CREDENTIALS_REMEDY, OTHER_TENANT, ROLES_REMEDY, UNAUTHORIZED
from azure_function.settings import AzureSettings
from shared.errors import (
    CloudError,
    Denied,
    NotApplicable,
    NotFound,
    RunStopped,
    Unreachable,
)
from shared.model import Enumeration, Problem, Scope, ScopeState
from shared.runtime.context import RunContext

ROLE = "role"
SUBSCRIPTION, BILLING, DESTINATION = "subscription", "billing", "destination"
COVERED_BY = "covered-by"
STATE = "state"  # of a destination's subscription, if that is not active

# A warned subscription can be read, but nothing can be created in it ("Azure subscription states", Microsoft Learn).
ACTIVE_STATES = frozenset({"Enabled", "PastDue"})
LIST_REMEDY = "Assign the deployment's custom role, which can read subscriptions, on the management group."
ASK_ONE_BY_ONE = 20  # up to this many requested subscriptions, reading each one costs no more than listing all


class Scopes:
    """Lists the scopes that the function's identity can read."""

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._billing = BillingScopes(settings, clients, run)

    @property
    def billing_unseen(self) -> bool:
        """Whether a temporary failure hides which subscriptions the billing exports contain."""
        return self._billing.unseen

    def enumerate(self, requested: Sequence[str]) -> Enumeration:
        """Return the selected scopes, of all or of the requested ones.

        Raises RunStopped if no subscription is visible or all belong to another tenant, and CloudErrors if the listing
        failed.
        """
        ids = [one.lower() for one in requested if not one.startswith("/")]
        if requested and len(requested) <= ASK_ONE_BY_ONE:
            shown, problems = self._ask(ids)
        else:
            listing = self._clients.subscriptions.subscriptions.list
            try:
                shown, problems = list(pages_of(self._run, ARM_READ, listing)), []
            except Denied as denied:
                if denied.code == UNAUTHORIZED:
                    # The whole tenant refuses the token, not only one scope.
                    raise self._stopped("credentials", denied.message, CREDENTIALS_REMEDY) from denied
                raise self._stopped("subscriptions-forbidden", denied.message, LIST_REMEDY) from denied
            problems += self._unseen(shown)
        if not shown and not ids and not requested:
            who = "the application" if self._settings.entry else "the function's identity"
            raise self._stopped(
                "no-subscriptions",
                f"Azure lists no subscriptions: {who} lost its role assignments, or never had any",
                LIST_REMEDY,
            )
        owner = self._owner(shown)
        selected, missing = self._selection()
        problems += missing
        scopes = {one.id: one for one in self._subscriptions(shown, owner, selected, requested)}
        for found, problem in self._billing.usable():
            if problem is not None:
                problems.append(problem)
            if found is not None:
                scopes[found.path] = Scope(found.path, found.name, traits={ROLE: BILLING})
                for subscription in found.subscriptions & scopes.keys():
                    if scopes[subscription].traits.get(ROLE) == SUBSCRIPTION:
                        covered = {**scopes[subscription].traits, COVERED_BY: found.path}
                        scopes[subscription] = msgspec.structs.replace(scopes[subscription], traits=covered)
        for account in self._settings.destination:
            # Destinations are observed whether or not their subscription is selected, visible or enabled.
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
        """Return the tenant of the subscriptions. Raises RunStopped if the credentials belong to another one."""
        tenants = Counter(str(one.get("tenantId", "")).lower() for one in shown)
        signed_in = self._settings.directory or self._run.calls(ARM_READ, self._clients.claims).get("tid", "").lower()
        if signed_in and shown and signed_in not in tenants:
            raise RunStopped(
                "wrong-tenant",
                f"the credentials belong to tenant {signed_in}, the subscriptions to {', '.join(sorted(tenants))}",
                "Correct AZURE_TENANT_ID, or deploy the function with an identity of the other tenant.",
            )
        if signed_in:
            return signed_in
        known = sorted(tenants.items(), key=lambda one: (-one[1], one[0]))
        if not known or not known[0][0]:
            raise RunStopped(
                "tenant-unknown", "the tenant could not be determined", "Set AZURE_TENANT_ID to the tenant's id."
            )
        return known[0][0]

    def _stopped(self, code: str, message: str, remedy: str) -> RunStopped:
        """Return the error that ends the run: a tenant without roles for the application cannot be entered either."""
        return Unreachable(code, message, ROLES_REMEDY) if self._settings.entry else RunStopped(code, message, remedy)

    def _subscriptions(
        self, shown: Iterable[Mapping[str, Any]], owner: str, selected: set[str] | None, requested: Sequence[str]
    ) -> Iterator[Scope]:
        settings = self._settings
        wanted = {one.lower() for one in requested}
        for one in shown:
            own = id_of(one)
            if own in settings.exclude or (selected is not None and own not in selected):
                continue
            if wanted and own not in wanted:
                continue
            state = str(one.get("state", ""))
            reason = "" if state in ACTIVE_STATES else state or "no state"
            tenant = str(one.get("tenantId", "")).lower()
            if tenant and tenant != owner:
                reason = f"in another tenant ({tenant})"
            yield Scope(
                own,
                str(one.get("displayName", "")),
                ScopeState.INACTIVE if reason else ScopeState.ACTIVE,
                reason,
                {ROLE: SUBSCRIPTION},
            )

    def _unseen(self, shown: Sequence[Mapping[str, Any]]) -> list[Problem]:
        """Return a problem for each subscription in INCLUDE_SUBSCRIPTIONS that Azure does not list."""
        visible = {id_of(one) for one in shown}
        remedy = "Correct INCLUDE_SUBSCRIPTIONS, or assign the function's role on the subscription."
        return [
            Problem(
                "subscription-not-visible",
                f"subscription {one} in INCLUDE_SUBSCRIPTIONS is not visible to the function",
                remedy,
                one,
            )
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
                remedy = "Correct the id, or assign the function's role on the subscription."
                problems.append(Problem("subscription-not-found", f"{one[:80]}: {error.message}", remedy, one[:80]))
        if ids and refused == len(ids):
            raise self._stopped("credentials", problems[0].message, CREDENTIALS_REMEDY)
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
            for one in pages_of(self._run, ARM_READ, lambda: descendants(group)):
                if str(one.get("type", "")).lower().endswith("/subscriptions"):
                    below.add(name_of(one, "a management group's descendants").lower())
        except CloudError as error:
            remedy = "Correct MANAGEMENT_GROUP, or assign Management Group Reader on it."
            return below, [Problem("management-group-unreadable", f"{group}: {error.message}", remedy)]
        return below, []


def id_of(subscription: Mapping[str, Any]) -> str:
    """Return a listed subscription's id in lower case; "", which is reported as invalid, if it has none."""
    found = subscription.get("subscriptionId")
    return found.lower() if isinstance(found, str) else ""
