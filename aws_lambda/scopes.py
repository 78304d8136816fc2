"""List the accounts: a standalone account, or an organization seen from its management or delegated account.

The state belongs to the function's own account, whose bucket stores it, even after the account creates, joins or leaves
an organization. Each scope has a trait ``standing``: MANAGEMENT, DELEGATED (the function's own account, if it is a
delegated administrator), STANDALONE or MEMBER.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

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

ASK_ONE_BY_ONE = 20  # up to this many requested accounts, DescribeAccount takes no more calls than the listing
PAGE = 20  # the maximum page size of Organizations
QUOTA = "organizations"
# "Closing an AWS account": for 90 days the account is kept, and support reopens it; then it is gone for good.
REOPENABLE = timedelta(days=90)
CLOSED = frozenset({"SUSPENDED", "PENDING_CLOSURE", "CLOSED"})


class Scopes:
    """Lists the accounts that the function's own `account` can see.

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
        """Return the selected accounts, or those of them that are requested.

        Raises RunStopped in a member account that is not a delegated administrator, and where neither the accounts nor
        the organization can be read; CloudError where the listing fails.
        """
        found = self._enumerate(requested)
        if self._settings.billing_view:
            # The costs are another payer's: one account exports the views of several, each below a prefix of its own.
            found = msgspec.structs.replace(found, owner=self._settings.billing_view, formerly=())
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
                "Check whether a proxy or another server answers in place of AWS Organizations, then run again.",
            )
        organization, management = _organization(str(accounts[0]["Arn"]))
        if all(str(account["Id"]) != self._account for account in accounts):
            # Members depend on resources in this account. It is active, since the function runs in it.
            accounts = [*accounts, {"Id": self._account}]
        selected, missing = self._selection()
        scopes = [
            scope_of(account, management, self._account)
            for account in accounts
            if self._wanted(str(account["Id"]), management, requested, selected)
        ]
        problems += missing
        seen = {str(account["Id"]) for account in accounts}
        outsiders = () if requested else [one for one in self._settings.include_accounts if one not in seen]
        named = tuple(_outside(account, organization) for account in outsiders)
        return Enumeration(
            self._account,
            tuple(sorted(scopes, key=lambda scope: scope.id)),
            # A configured account outside the organization does not make the listing incomplete.
            complete=not requested and not problems,
            problems=(*problems, *named),
            formerly=(organization,),
        )

    def _wanted(self, account: str, management: str, requested: Sequence[str], selected: set[str] | None) -> bool:
        # The management account has the export of the whole organization's costs, and members depend on resources in
        # the function's own account: the selection of members never removes these two.
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
        """Return the enumeration after a denied listing: the account is a member, or lacks the permission.

        Raises RunStopped in a member account and where the organization cannot be read either, CloudError.
        """
        try:
            organization = self._run.calls(QUOTA, self._clients.organizations.describe_organization)["Organization"]
        except Permanent as error:
            if error.code != NOT_IN_ORGANIZATION:
                raise
            return self._standalone(requested)
        except Denied as again:
            raise RunStopped(
                "organization-unreadable",
                f"neither the accounts nor the organization can be read: {again.message}",
                "Grant organizations:ListAccounts and organizations:DescribeOrganization.",
            ) from again
        management = str(organization.get("MasterAccountId", ""))
        if management != self._account:
            raise RunStopped(
                "member-account",
                f"account {self._account} is a member of organization {organization.get('Id')}: its export would "
                f"contain only its own costs. The management account is {management}",
                f"Deploy the function in management account {management} to export the costs of all accounts. To "
                'export only the costs of this account, set account_kind = "standalone" in the deployment '
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
                # An invalid id is a problem of that account only; other errors would stop all of them.
                if error.code != "InvalidInputException":
                    raise
                problems.append(_not_there(account))
            self._run.heartbeat()
        return accounts, problems

    def _selection(self) -> tuple[set[str] | None, list[Problem]]:
        """Return the selected member accounts (None for all), and a problem for each OU that could not be listed."""
        included, parents = self._settings.include_accounts, self._settings.include_ous
        if not included and not parents:
            return None, []
        selected, problems = set(included), []
        for parent in parents:
            try:
                selected |= self._below(parent)
            except CloudError as error:
                problems.append(
                    Problem(
                        "ou-not-listed",
                        f"the accounts of {parent} (INCLUDE_OUS) could not be listed: {error.message}",
                        "Correct INCLUDE_OUS, or grant the permission in the message to the function's role.",
                    )
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
            # A page may be empty although more follow: only a missing token ends the listing.
            if not page.get("NextToken"):
                return
            token = {"NextToken": page["NextToken"]}


def scope_of(account: Mapping[str, Any], management: str, own: str) -> Scope:
    """Return the scope of an account as Organizations returns it; `own` is the function's account."""
    # `State` replaces `Status`; endpoints without the change return only `Status`.
    state = str(account.get("State") or account.get("Status") or "ACTIVE")
    name = str(account["Id"])
    return Scope(
        id=name,
        name=str(account.get("Name", "")),
        state=ScopeState.ACTIVE if state == "ACTIVE" else ScopeState.INACTIVE,
        reason="" if state == "ACTIVE" else state,
        traits={STANDING: MANAGEMENT if name == management else DELEGATED if name == own else MEMBER},
        restorable=REOPENABLE if state in CLOSED else None,
    )


def _organization(arn: str) -> tuple[str, str]:
    """Return the organization id and management account of ``arn:…:organizations::{management}:account/{org}/{id}``."""
    fields = arn.split(":")
    return fields[5].split("/")[1], fields[4]


def _outside(account: str, organization: str) -> Problem:
    return Problem(
        "account-outside",
        f"account {account} in INCLUDE_ACCOUNTS is not in organization {organization} and is ignored",
        "Invite the account into the organization, deploy the function in the account's own organization, or remove it "
        "from INCLUDE_ACCOUNTS (include_accounts in the deployment).",
        account,
    )


def _not_there(account: str) -> Problem:
    return Problem(
        "account-not-found",
        f"account {account[:40]} was not found in this organization",
        "Check the id. A closed account is removed from the organization after 90 days.",
        account,
    )
