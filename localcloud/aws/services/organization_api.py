"""The operations of AWS Organizations on accounts, units and administration."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from typing import Any

from localcloud.aws.errors import AwsError
from localcloud.aws.iam.caller import Caller, Handler
from localcloud.aws.pages import make_token, page, read_tokens
from localcloud.aws.partitions import Partition
from localcloud.aws.services.billing import Billing
from localcloud.aws.services.organization import Account, Organization, Unit
from localcloud.aws.services.organization_admin_api import administration
from shared.runtime.clock import Clock

SERVICE = "organizations"
_MAX_PAGE_SIZE = 20


class OrganizationsApi:
    """Maps operation names to handlers.

    `empty_every` N makes every Nth page of accounts, starting with the second, an empty page with a NextToken
    (0: none); `fields` selects which of an account's `state` and `status` are returned: "both", "state" or "status".
    """

    def __init__(
        self,
        clock: Clock,
        partition: Partition,
        billing: Billing,
        page_size: int = _MAX_PAGE_SIZE,
        empty_every: int = 3,
    ) -> None:
        self._clock = clock
        self._partition = partition
        self.organization: Organization | None = None  # the first that was created, which the control actions act on
        self.others: list[Organization] = []
        self._numbers = itertools.count()
        self.page_size = min(page_size, _MAX_PAGE_SIZE)
        self.empty_every = empty_every
        self.fields = "both"
        self.on_create: list[Callable[[Organization], None]] = []
        admin, member, anyone = self._management, self._reader, self._member
        self.operations: dict[str, Handler] = {
            "CreateOrganization": self._create_organization,
            "DescribeOrganization": anyone(self._describe_organization),
            "DeleteOrganization": admin(self._delete_organization),
            "ListAccounts": member(self._list_accounts),
            "ListAccountsForParent": member(self._list_accounts_for_parent),
            "DescribeAccount": member(self._describe_account),
            "CreateAccount": admin(self._create_account),
            "DescribeCreateAccountStatus": admin(self._create_status),
            "CloseAccount": admin(self._close),
            "MoveAccount": admin(self._move),
            "RemoveAccountFromOrganization": admin(self._remove),
            "ListRoots": member(self._roots),
            "CreateOrganizationalUnit": admin(self._create_unit),
            "DeleteOrganizationalUnit": admin(self._delete_unit),
            "ListOrganizationalUnitsForParent": member(self._list_units),
            "ListParents": member(self._parents),
        }
        for name, (handler, reads) in administration(clock, self._page).items():
            guard = member if reads else admin
            self.operations[name] = guard(_without_caller(handler))
        for name, transfers in billing.of_organizations.items():
            self.operations[name] = admin(_without_caller(transfers))

    def describe(self, organization: Organization, account: Account) -> dict[str, Any]:
        """Return an account in the shape of the API."""
        shown = {
            "Id": account.id,
            "Arn": organization.arn("account", account.id),
            "Email": account.email,
            "Name": account.name,
            "JoinedMethod": account.method,
            "JoinedTimestamp": account.joined,
        }
        if self.fields != "status":
            shown["State"] = account.state
        if self.fields != "state":
            shown["Status"] = account.status
        return shown

    def _page(self, items: list[Any], params: dict[str, Any]) -> tuple[list[Any], str | None]:
        return page(SERVICE, items, params.get("NextToken"), params.get("MaxResults"), self.page_size)

    def find(self, account: str) -> Organization | None:
        """Return the organization that an account belongs to, or None."""
        own = [self.organization] if self.organization else []
        return next((one for one in (*own, *self.others) if account in one.accounts), None)

    def create(self, management: str, feature_set: str = "ALL") -> Organization:
        """Create an organization. Raises AwsError if the account already belongs to one."""
        if self.find(management) is not None:
            raise AwsError("AlreadyInOrganizationException", "The account is already a member of an organization.")
        number = len(self.others) + 1 if self.organization else 0
        made = Organization(self._clock, self._partition, management, number, self._numbers)
        made.feature_set = feature_set
        if self.organization is None:
            self.organization = made
        else:
            self.others.append(made)
        for listener in self.on_create:
            listener(made)
        return made

    def _of(self, caller: Caller) -> Organization:
        organization = self.find(caller.account)
        if organization is None:
            raise AwsError("AWSOrganizationsNotInUseException", "Your account is not a member of an organization.", 404)
        return organization

    def _member(self, handler: Callable[[Organization, Caller, dict[str, Any]], dict[str, Any]]) -> Handler:
        return lambda caller, params: handler(self._of(caller), caller, params)

    def _reader(self, handler: Callable[[Organization, Caller, dict[str, Any]], dict[str, Any]]) -> Handler:
        def guarded(caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
            organization = self._of(caller)
            if caller.account != organization.management and caller.account not in organization.delegated:
                raise AwsError("AccessDeniedException", "You don't have permissions to access this resource.")
            return handler(organization, caller, params)

        return guarded

    def _management(self, handler: Callable[[Organization, Caller, dict[str, Any]], dict[str, Any]]) -> Handler:
        def guarded(caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
            organization = self._of(caller)
            if caller.account != organization.management:
                raise AwsError("AccessDeniedException", "You don't have permissions to access this resource.")
            return handler(organization, caller, params)

        return guarded

    def _create_organization(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        return _organization(self.create(caller.account, params.get("FeatureSet", "ALL")))

    def _describe_organization(self, org: Organization, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        return _organization(org)

    def _delete_organization(self, org: Organization, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        if len(org.accounts) > 1:
            raise AwsError(
                "OrganizationNotEmptyException",
                "To delete an organization you must first remove all members.",
            )
        self.others = [one for one in self.others if one is not org]
        self.organization = None if self.organization is org else self.organization
        return {}

    def _list_accounts(self, org: Organization, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        return self._account_page(org, org.listed(), params)

    def _list_accounts_for_parent(self, org: Organization, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        parent = org.unit(params["ParentId"], "ParentNotFoundException").id
        return self._account_page(org, [one for one in org.listed() if one.parent == parent], params)

    def _account_page(self, org: Organization, accounts: list[Account], params: dict[str, Any]) -> dict[str, Any]:
        start, number = read_tokens(SERVICE, params.get("NextToken"), 2)
        size = min(params.get("MaxResults") or self.page_size, self.page_size)
        if number and self.empty_every and number % self.empty_every == 1:
            return {"Accounts": [], "NextToken": make_token(start, number + 1)}
        result: dict[str, Any] = {"Accounts": [self.describe(org, one) for one in accounts[start : start + size]]}
        if start + size < len(accounts):
            result["NextToken"] = make_token(start + size, number + 1)
        return result

    def _describe_account(self, org: Organization, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        return {"Account": self.describe(org, org.account(params["AccountId"]))}

    def _create_account(self, org: Organization, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        now = self._clock.now()
        request: dict[str, Any] = {
            "Id": f"car-{uuid.uuid4().hex}",
            "AccountName": params["AccountName"],
            "State": "SUCCEEDED",
            "RequestedTimestamp": now,
            "CompletedTimestamp": now,
        }
        try:
            account = org.join(params["AccountName"], params["Email"])
        except AwsError as error:
            request |= {"State": "FAILED", "FailureReason": error.code}
        else:
            account.tags = {tag["Key"]: tag["Value"] for tag in params.get("Tags", [])}
            request["AccountId"] = account.id
        org.requests[request["Id"]] = request
        # AWS always returns IN_PROGRESS; callers poll for the outcome.
        shown = {key: request[key] for key in ("Id", "AccountName", "RequestedTimestamp")}
        return {"CreateAccountStatus": shown | {"State": "IN_PROGRESS"}}

    def _create_status(self, org: Organization, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        request = org.requests.get(params["CreateAccountRequestId"])
        if request is None:
            raise AwsError(
                "CreateAccountStatusNotFoundException", "We can't find a create account request with this id."
            )
        return {"CreateAccountStatus": request}

    def _close(self, org: Organization, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        org.close(params["AccountId"])
        return {}

    def _move(self, org: Organization, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        org.move(params["AccountId"], params["SourceParentId"], params["DestinationParentId"])
        return {}

    def _remove(self, org: Organization, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        org.remove(params["AccountId"])
        return {}

    def _roots(self, org: Organization, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        root = {
            "Id": org.root.id,
            "Arn": org.arn("root", org.root.id),
            "Name": org.root.name,
            "PolicyTypes": [],
        }
        return {"Roots": [root]}

    def _create_unit(self, org: Organization, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        unit = org.add_unit(params["ParentId"], params["Name"])
        unit.tags = {tag["Key"]: tag["Value"] for tag in params.get("Tags", [])}
        return {"OrganizationalUnit": _unit(org, unit)}

    def _delete_unit(self, org: Organization, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        unit = org.unit(params["OrganizationalUnitId"])
        occupied = [one.parent for one in org.units.values()] + [one.parent for one in org.listed()]
        if unit.id in occupied or unit is org.root:
            raise AwsError("OrganizationalUnitNotEmptyException", "The specified OU is not empty.")
        del org.units[unit.id]
        return {}

    def _list_units(self, org: Organization, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        parent = org.unit(params["ParentId"], "ParentNotFoundException").id
        shown, token = self._page([_unit(org, one) for one in org.units.values() if one.parent == parent], params)
        return {"OrganizationalUnits": shown, "NextToken": token}

    def _parents(self, org: Organization, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        child = params["ChildId"]
        if child not in org.accounts and child not in org.units:
            raise AwsError("ChildNotFoundException", "We can't find an OU or account with this id.")
        parent = org.accounts[child].parent if child in org.accounts else org.units[child].parent
        return {"Parents": [{"Id": parent, "Type": _kind(org, parent)}] if parent else []}


def _without_caller(
    handler: Callable[[Organization, dict[str, Any]], dict[str, Any]],
) -> Callable[[Organization, Caller, dict[str, Any]], dict[str, Any]]:
    return lambda org, _caller, params: handler(org, params)


def _kind(org: Organization, identity: str) -> str:
    return "ROOT" if identity == org.root.id else "ORGANIZATIONAL_UNIT"


def _unit(org: Organization, unit: Unit) -> dict[str, Any]:
    return {"Id": unit.id, "Arn": org.arn("ou", unit.id), "Name": unit.name}


def _organization(org: Organization) -> dict[str, Any]:
    manager = org.accounts[org.management]
    return {
        "Organization": {
            "Id": org.id,
            "Arn": org.arn("organization"),
            "FeatureSet": org.feature_set,
            "MasterAccountArn": org.arn("account", manager.id),
            "MasterAccountId": manager.id,
            "MasterAccountEmail": manager.email,
            # Policies require all features, as trusted access does.
            "AvailablePolicyTypes": [{"Type": "SERVICE_CONTROL_POLICY", "Status": "ENABLED"}]
            if org.feature_set == "ALL"
            else [],
        }
    }
