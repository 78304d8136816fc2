"""Which accounts there are: a standalone account, or an organization seen from its management account or a delegate.

The state belongs to the function's own account, whose bucket holds it, and stays its own when the account creates,
joins or leaves an organization. Each scope's trait ``standing`` says what it is: MANAGEMENT, DELEGATED (the function's
own account, a delegated administrator), STANDALONE or MEMBER.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from aws_lambda.clients import Clients
from aws_lambda.errors import NOT_IN_ORGANIZATION
from aws_lambda.settings import AwsSettings
from shared.errors import CloudError, Denied, NotFound, Permanent, RunStopped
from shared.model import Enumeration, Problem, Scope, ScopeState
from shared.runtime.context import RunContext

STANDING = "standing"
MANAGEMENT = "management"
DELEGATED = "delegated"
STANDALONE = "standalone"
MEMBER = "member"

ASK_ONE_BY_ONE = 20  # up to so many requested accounts, DescribeAccount costs no more than the listing's pages
PAGE = 20  # the most that Organizations returns at once
QUOTA = "organizations"


class Scopes:
    """Lists the accounts as the function's own `account` may see them.

    After `enumerate`, `requested` holds the accounts that the request names, `management` the management account where
    it is listed, and `delegated` whether the function runs as a delegated administrator.
    """

    def __init__(self, settings: AwsSettings, account: str, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._account = account
        self._clients = clients
        self._run = run
        self.requested: frozenset[str] = frozenset()
        self.management = ""
        self.delegated = False

    def enumerate(self, requested: Sequence[str]) -> Enumeration:
        """Return the selected accounts, of all or of the requested ones.

        Raises RunStopped for a member account without delegated rights, and where neither the accounts nor the
        organization may be read; other CloudErrors where the listing failed.
        """
        found = self._enumerate(requested)
        self.requested = frozenset(requested)
        for scope in found.scopes:
            standing = scope.traits.get(STANDING)
            self.delegated = self.delegated or standing == DELEGATED
            self.management = scope.id if standing == MANAGEMENT else self.management
        return found

    def _enumerate(self, requested: Sequence[str]) -> Enumeration:
        if self._settings.account_kind == "standalone":
            return self._standalone(requested)
        try:
            if requested and len(requested) <= ASK_ONE_BY_ONE:
                accounts, problems = self._describe(requested)
            else:
                accounts, problems = list(self._pages("list_accounts", "Accounts")), []
        except Denied as denied:
            return self._refused(denied, requested)
        except Permanent as error:
            if error.code != NOT_IN_ORGANIZATION:
                raise
            return self._standalone(requested)
        return self._of_organization(accounts, problems, requested)

    def _of_organization(
        self, accounts: list[Mapping[str, Any]], problems: list[Problem], requested: Sequence[str]
    ) -> Enumeration:
        if not accounts:
            if requested:
                return Enumeration(self._account, (), complete=False, problems=tuple(problems))
            raise Permanent(
                "no-accounts",
                "ListAccounts returned no accounts, which is impossible in an organization; the result is ignored",
                "See whether a proxy or an endpoint policy answers in place of AWS Organizations, then run again.",
            )
        organization, management = _organization(str(accounts[0]["Arn"]))
        if all(str(account["Id"]) != self._account for account in accounts):
            # What members rest on is this account's, which is at work and so active: no call is needed to see it.
            accounts = [*accounts, {"Id": self._account}]
        selected, missing = self._selection()
        scopes = [
            scope_of(account, management, self._account)
            for account in accounts
            if self._wanted(str(account["Id"]), management, requested, selected)
        ]
        problems += missing
        seen = {str(account["Id"]) for account in accounts}
        strangers = () if requested else [one for one in self._settings.include_accounts if one not in seen]
        named = tuple(_outside(account, organization) for account in strangers)
        return Enumeration(
            self._account,
            tuple(sorted(scopes, key=lambda scope: scope.id)),
            # An account that is named and not there hides no other one: the listing is complete all the same.
            complete=not requested and not problems,
            problems=(*problems, *named),
            formerly=(organization,),
        )

    def _wanted(self, account: str, management: str, requested: Sequence[str], selected: set[str] | None) -> bool:
        # The export of the whole organization's costs is the management account's, and members rest on what is in the
        # function's own: no selection of members drops either.
        if account == self._account:
            return True
        if requested and account not in requested:
            return False
        if account == management:
            return True
        return account not in self._settings.exclude_accounts and (selected is None or account in selected)

    def _standalone(self, requested: Sequence[str]) -> Enumeration:
        foreign = [account for account in requested if account != self._account]
        return Enumeration(
            self._account,
            (Scope(id=self._account, traits={STANDING: STANDALONE}),),
            complete=not requested,
            problems=tuple(_not_there(account) for account in foreign),
        )

    def _refused(self, denied: Denied, requested: Sequence[str]) -> Enumeration:
        """Tell a member account, which is refused, from a management account that lacks the right to list."""
        try:
            organization = self._run.calls(QUOTA, self._clients.organizations.describe_organization)["Organization"]
        except Permanent as error:
            if error.code != NOT_IN_ORGANIZATION:
                raise
            return self._standalone(requested)
        except Denied as again:
            raise RunStopped(
                "organization-unreadable",
                f"neither the accounts nor the organization may be read: {again.message}",
                "Grant organizations:ListAccounts and organizations:DescribeOrganization.",
            ) from again
        management = str(organization.get("MasterAccountId", ""))
        if management != self._account:
            raise RunStopped(
                "member-account",
                f"account {self._account} is a member of organization {organization.get('Id')}: its export would hold "
                f"its own costs only. The management account is {management}",
                f"Deploy the function in management account {management} to export the costs of all accounts. To "
                'export the own costs of this account alone, set account_kind = "standalone" in the deployment '
                "(ACCOUNT_KIND=standalone on a laptop).",
            ) from denied
        return Enumeration(
            self._account,
            (Scope(id=self._account, traits={STANDING: MANAGEMENT}),),
            complete=False,
            problems=(
                Problem(
                    "accounts-not-listed",
                    f"the member accounts could not be listed: {denied.message}",
                    "Grant organizations:ListAccounts and organizations:DescribeAccount to the function's role.",
                ),
            ),
            formerly=(str(organization.get("Id", "")),),
        )

    def _describe(self, requested: Sequence[str]) -> tuple[list[Mapping[str, Any]], list[Problem]]:
        accounts: list[Mapping[str, Any]] = []
        problems: list[Problem] = []
        describe = self._clients.organizations.describe_account
        for account in requested:
            try:
                accounts.append(self._run.calls(QUOTA, describe, AccountId=account)["Account"])
            except NotFound:
                problems.append(_not_there(account))
            except Permanent as error:
                # An id that is none is that account's problem; what stops all of them is not.
                if error.code != "InvalidInputException":
                    raise
                problems.append(_not_there(account))
            self._run.heartbeat()
        return accounts, problems

    def _selection(self) -> tuple[set[str] | None, list[Problem]]:
        """Return the selected member accounts, None for all of them, and which OUs could not be walked."""
        included, parents = self._settings.include_accounts, self._settings.include_ous
        if not included and not parents:
            return None, []
        selected, problems = set(included), []
        for parent in parents:
            try:
                selected |= self._below(parent)
            except CloudError as error:
                problems.append(
                    Problem("ou-not-listed", f"{parent}: {error.message}", "Correct INCLUDE_OUS, or grant the right.")
                )
        return selected, problems

    def _below(self, parent: str) -> set[str]:
        found = {str(account["Id"]) for account in self._pages("list_accounts_for_parent", "Accounts", ParentId=parent)}
        for unit in self._pages("list_organizational_units_for_parent", "OrganizationalUnits", ParentId=parent):
            found |= self._below(str(unit["Id"]))
        return found

    def _pages(self, operation: str, member: str, **arguments: Any) -> Iterator[Mapping[str, Any]]:
        call: Callable[..., Mapping[str, Any]] = getattr(self._clients.organizations, operation)
        token: dict[str, Any] = {}
        while True:
            page = self._run.calls(QUOTA, call, MaxResults=PAGE, **arguments, **token)
            yield from page.get(member, [])
            self._run.heartbeat()
            # A page may be empty while more follow: only the missing token ends a listing.
            if not page.get("NextToken"):
                return
            token = {"NextToken": page["NextToken"]}


def scope_of(account: Mapping[str, Any], management: str, own: str) -> Scope:
    """Return the scope of an account as Organizations shows it; `own` is the function's own account."""
    # `Status` was retired for `State`; endpoints that lag behind answer with the older one only.
    state = str(account.get("State") or account.get("Status") or "ACTIVE")
    name = str(account["Id"])
    return Scope(
        id=name,
        name=str(account.get("Name", "")),
        state=ScopeState.ACTIVE if state == "ACTIVE" else ScopeState.INACTIVE,
        reason="" if state == "ACTIVE" else state,
        traits={STANDING: MANAGEMENT if name == management else DELEGATED if name == own else MEMBER},
    )


def _organization(arn: str) -> tuple[str, str]:
    """Return organization id and management account from ``arn:…:organizations::{management}:account/{org}/{id}``."""
    fields = arn.split(":")
    return fields[5].split("/")[1], fields[4]


def _outside(account: str, organization: str) -> Problem:
    return Problem(
        "account-outside",
        f"account {account} of INCLUDE_ACCOUNTS is not in organization {organization}: nothing is done for it",
        "Invite the account into the organization, deploy the function in its own organization, or take it out of "
        "INCLUDE_ACCOUNTS (include_accounts in the deployment).",
        account,
    )


def _not_there(account: str) -> Problem:
    return Problem(
        "account-not-found",
        f"account {account[:40]} is not one that this account can see",
        "Check the id; a closed account leaves the organization after 90 days.",
        account,
    )
