"""Lists the billing accounts, and the project that all of them depend on.

The project is a scope of its own: the dataset, the bucket and the APIs belong to it, not to an account. Each scope has
a trait ``standing``: PROJECT, ACCOUNT, SUB_ACCOUNT (whose trait ``master`` names its master account) or OUTSIDE, an
account of an organization other than the one in the settings, or of another tenant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gcp_function.claims import Claims, overlap
from gcp_function.clients import Clients
from gcp_function.refusals import CREDENTIALS_REMEDY, RIGHTS_REMEDY, UNAUTHORIZED
from gcp_function.settings import ACCOUNT, GcpSettings
from shared.errors import CloudError, Denied, Manual, NotFound, Permanent, RunStopped
from shared.model import Enumeration, Health, Observation, Present, Problem, Scope, ScopeState
from shared.runtime.context import RunContext

STANDING = "standing"
MASTER = "master"
PROJECT = "project"
ACCOUNT_STANDING = "account"
SUB_ACCOUNT = "sub-account"
OUTSIDE = "outside"

ASK_ONE_BY_ONE = 20  # requested accounts up to which one call each costs no more than the pages of the listing
PAGE = 100  # the most accounts that Cloud Billing returns in a page
QUOTA = "cloudbilling"
PREFIX = "billingAccounts/"


class Scopes:
    """Lists the billing accounts that the function's identity may see.

    `read_project` reads the project; it raises RunStopped if that is missing. `claims` are those of other tenants.
    """

    def __init__(
        self,
        settings: GcpSettings,
        clients: Clients,
        read_project: Callable[[], object],
        run: RunContext,
        claims: Claims,
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._read_project = read_project
        self._run = run
        self._claims = claims
        self._not_served: dict[str, Observation] = {}

    def enumerate(self, requested: Sequence[str]) -> Enumeration:
        """Return the project and the selected accounts, of all or of the requested ones.

        A listing that is empty or refused is incomplete, since a permission may be missing. Raises RunStopped if the
        project is missing or being deleted, and CloudError if the listing failed.
        """
        self._read_project()
        own = Scope(id=self._settings.project, name=self._settings.project, traits={STANDING: PROJECT}, counted=False)
        accounts = [one for one in requested if one != self._settings.project]
        try:
            if requested and len(accounts) <= ASK_ONE_BY_ONE:
                found, problems = self._one_by_one(accounts)
            else:
                found = list(self._pages())
                parents = _parents(found)
                inside = [one for one in found if not self._outside(one, parents)]
                problems = [] if inside else [self._nothing()]
        except (Denied, Manual) as refused:
            if refused.code == UNAUTHORIZED:
                # This does not concern one account only: the first call of every run is refused.
                raise RunStopped("credentials", refused.message, CREDENTIALS_REMEDY) from refused
            found, problems = [], [_refused(refused)]
        parents = _parents(found)
        scopes = [self._scope(one, parents) for one in found if self._wanted(_id(one), accounts)]
        return Enumeration(
            self._settings.owner,
            (own, *sorted(scopes, key=lambda scope: scope.id)),
            complete=not requested and not problems,
            problems=tuple(problems),
        )

    def outside(self, account: str) -> Observation:
        """Return why an enumerated account of another organization or tenant is not served."""
        return self._not_served[account]

    def _wanted(self, account: str, requested: Sequence[str]) -> bool:
        if requested and account not in requested:
            return False
        included = self._settings.include_accounts
        return account not in self._settings.exclude_accounts and (not included or account in included)

    def _scope(self, account: Mapping[str, Any], parents: Mapping[str, str]) -> Scope:
        master = str(account.get("masterBillingAccount") or "").removeprefix(PREFIX)
        is_open = bool(account.get("open"))  # the API omits it if it is false
        traits = {STANDING: SUB_ACCOUNT, MASTER: master} if master else {STANDING: ACCOUNT_STANDING}
        if why := self._outside(account, parents) or self._taken(account, parents):
            traits = {STANDING: OUTSIDE}
            self._not_served[_id(account)] = why
        return Scope(
            id=_id(account),
            name=str(account.get("displayName", "")),
            state=ScopeState.ACTIVE if is_open else ScopeState.INACTIVE,
            reason="" if is_open else "CLOSED",
            traits=traits,
        )

    def _pages(self) -> Iterator[Mapping[str, Any]]:
        parameters: dict[str, Any] = {"pageSize": PAGE}
        while True:
            page = self._run.calls(QUOTA, self._clients.get, QUOTA, "v1/billingAccounts", parameters)
            yield from page.get("billingAccounts", [])
            self._run.heartbeat()
            # A page may be short or empty while more follow: only a missing token ends a listing.
            if not page.get("nextPageToken"):
                return
            parameters["pageToken"] = page["nextPageToken"]

    def _outside(self, account: Mapping[str, Any], parents: Mapping[str, str]) -> Observation | None:
        """Return that an account is in another organization than the one in the settings, or None.

        The API's own filter by parent would silently omit accounts with another parent or none. An account without a
        parent, or below a master account that is not visible (a reseller's), shows no organization: it is visible
        because the function was granted access to it, so it is served. INCLUDE_ACCOUNTS overrides the organization.
        """
        wanted = self._settings.organization
        if not wanted or _id(account) in self._settings.include_accounts:
            return None
        parent = top_parent(account, parents)
        if not parent.startswith(("organizations/", "folders/")) or parent == wanted:
            return None
        detail = (
            f"account {_id(account)} belongs to {parent}, not to {wanted}; add it to INCLUDE_ACCOUNTS to serve it, or "
            "to EXCLUDE_ACCOUNTS to exclude it"
        )
        return Present(health=Health.INACTIVE, code="outside-organization", detail=detail)

    def _taken(self, account: Mapping[str, Any], parents: Mapping[str, str]) -> Observation | None:
        """Return that an account is another tenant's, or None."""
        identifier, named = _id(account), bool(self._settings.organization)
        if identifier in self._settings.include_accounts:
            return None
        other = self._claims.tenant_of(identifier, top_parent(account, parents), named=named)
        if not other:
            return None
        detail = overlap(identifier, self._settings.tenant, other)
        return Present(health=Health.INACTIVE, code="other-tenant", detail=detail)

    def _one_by_one(self, requested: Sequence[str]) -> tuple[list[Mapping[str, Any]], list[Problem]]:
        found: list[Mapping[str, Any]] = []
        problems: list[Problem] = []
        for account in requested:
            if not re.fullmatch(ACCOUNT, account):
                problems.append(_malformed(account))
                continue
            try:
                found.append(self._run.calls(QUOTA, self._clients.get, QUOTA, f"v1/{PREFIX}{account}"))
            except (Denied, NotFound, Permanent) as error:
                problems.append(_not_there(account, error))
            self._run.heartbeat()
        return found, problems

    def _nothing(self) -> Problem:
        where = f" below {self._settings.organization}" if self._settings.organization else ""
        return Problem(
            "no-billing-accounts",
            f"the function can see no billing account{where}, which indicates a missing permission",
            "Grant the function's service account roles/billing.viewer on the organization, or on each account.",
        )


def _parents(accounts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return each account's parent, by full name."""
    return {str(one.get("name")): str(one.get("parent") or "") for one in accounts}


def top_parent(account: Mapping[str, Any], parents: Mapping[str, str]) -> str:
    """Return the organization that an account is in, or its master account; "" if it is not visible.

    `parents` are those of all visible accounts, by full name.
    """
    master = str(account.get("masterBillingAccount") or "")
    return parents.get(master, "") if master else str(account.get("parent") or "")


def _id(account: Mapping[str, Any]) -> str:
    return str(account.get("name", "")).removeprefix(PREFIX)


def _refused(error: CloudError) -> Problem:
    return Problem(
        "accounts-not-listed",
        f"cannot list the billing accounts: {error.message}",
        error.remedy or RIGHTS_REMEDY,
    )


def _malformed(account: str) -> Problem:
    return Problem(
        "account-malformed",
        f"{account[:40]!r} is not a billing account ID",
        "Write it as three groups of six uppercase hexadecimal digits, such as 012345-6789AB-CDEF01.",
        account[:40],
    )


def _not_there(account: str, error: CloudError) -> Problem:
    return Problem(
        "account-not-found",
        f"the function cannot see account {account}: {error.message}",
        "Check the ID, and that the function's service account has roles/billing.viewer on the account.",
        account,
    )
