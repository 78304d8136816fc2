"""Billing transfers and billing views: an account that receives the bills of other organizations sees their costs.

Sources: "Transfer billing management to external accounts" in the AWS Billing User Guide, the API references of AWS
Organizations and AWS Billing; results are validated against botocore's models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from localcloud.aws.errors import AwsError
from localcloud.aws.iam.caller import Caller, Handler
from localcloud.aws.pages import page
from localcloud.aws.partitions import Partition
from localcloud.aws.services.organization import Organization
from shared.runtime.clock import Clock

SERVICE = "billing"
_MAX_PAGE_SIZE = 100
_MAX_TRANSFERS_PAGE = 20
_TransferHandler = Callable[[Organization, dict[str, Any]], dict[str, Any]]


@dataclass
class Transfer:
    """The transfer of an organization's bills: `source` and `target` are the management accounts."""

    id: str
    name: str
    source: Organization
    target: Organization
    start: datetime
    status: str = "ACCEPTED"
    end: datetime | None = None


@dataclass
class View:
    """A billing view that `owner` sees; `source` is the management account whose costs it shows."""

    arn: str
    name: str
    kind: str
    owner: str
    source: str
    created: datetime
    reasons: list[str] = field(default_factory=list)

    @property
    def health(self) -> dict[str, Any]:
        if self.reasons:
            return {"statusCode": "UNHEALTHY", "statusReasons": self.reasons}
        return {"statusCode": "HEALTHY"}

    def listed(self) -> dict[str, Any]:
        """Return the view as ListBillingViews does."""
        return {
            "arn": self.arn,
            "name": self.name,
            "ownerAccountId": self.owner,
            "sourceAccountId": self.source,
            "billingViewType": self.kind,
            "healthStatus": self.health,
        }


# difference: AWS-25
class Billing:
    """Transfers and views of all accounts; `page_size` caps every page."""

    def __init__(self, clock: Clock, partition: Partition, page_size: int = _MAX_PAGE_SIZE) -> None:
        self._clock = clock
        self._partition = partition
        self._page_size = page_size
        self.transfers: list[Transfer] = []
        self._views: dict[str, View] = {}
        self.operations: dict[str, Handler] = {"ListBillingViews": self._list, "GetBillingView": self._get}
        self.of_organizations: dict[str, _TransferHandler] = {
            "ListInboundResponsibilityTransfers": self._inbound,
            "ListOutboundResponsibilityTransfers": self._outbound,
            "DescribeResponsibilityTransfer": self._describe,
        }

    def transfer(self, source: Organization, target: Organization, name: str) -> View:
        """Let `target` receive the bills of `source`, as after an accepted invitation; return its view of the costs."""
        number = len(self.transfers) + 1
        self.transfers.append(Transfer(f"rt-{number:010d}", name, source, target, self._clock.now()))
        arn = f"arn:{self._partition.name}:billing::{target.management}:billingview/billing-transfer-{number:010d}"
        view = View(arn, name, "BILLING_TRANSFER", target.management, source.management, self._clock.now())
        self._views[arn] = view
        return view

    def end(self, source: str) -> None:
        """End the transfer of an organization's bills: the view of its costs becomes unhealthy. Raises KeyError."""
        for transfer in self.transfers:
            if transfer.source.management == source and transfer.status == "ACCEPTED":
                transfer.status, transfer.end = "WITHDRAWN", self._clock.now()
                for view in self._views.values():
                    if view.source == source:
                        view.reasons = ["SOURCE_VIEW_ACCESS_DENIED"]
                return
        raise KeyError(f"account {source} transfers no bills")

    def set_health(self, arn: str, reasons: list[str]) -> None:
        """Make a view unhealthy for these reasons; healthy without any. Raises KeyError."""
        self._views[arn].reasons = reasons

    def view(self, account: str, arn: str) -> View:
        """Return a view that an account may export. Raises AwsError (AccessDeniedException) for any other."""
        found = self._primary(account) if arn.endswith("/primary") else self._views.get(arn)
        if found is None or found.arn != arn or found.owner != account:
            raise AwsError("AccessDeniedException", f"User is not authorized to access the billing view '{arn}'.", 403)
        return found

    def _primary(self, account: str) -> View:
        arn = f"arn:{self._partition.name}:billing::{account}:billingview/primary"
        return View(arn, "Primary View", "PRIMARY", account, account, self._clock.now())

    def _of(self, account: str) -> list[View]:
        return [self._primary(account), *(view for view in self._views.values() if view.owner == account)]

    def _list(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        kinds, arns = params.get("billingViewTypes"), params.get("arns")
        views = [
            view.listed()
            for view in self._of(caller.account)
            if (not kinds or view.kind in kinds)
            and (not arns or view.arn in arns)
            and params.get("ownerAccountId") in (None, view.owner)
            and params.get("sourceAccountId") in (None, view.source)
        ]
        size = min(self._page_size, _MAX_PAGE_SIZE)
        shown, token = page(SERVICE, views, params.get("nextToken"), params.get("maxResults"), size)
        return {"billingViews": shown, **({"nextToken": token} if token else {})}

    def _get(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        found = next((view for view in self._of(caller.account) if view.arn == params["arn"]), None)
        if found is None:
            extra = {"resourceId": params["arn"], "resourceType": "billingview"}
            raise AwsError("ResourceNotFoundException", "The billing view does not exist.", 400, extra)
        times = {"createdAt": found.created, "updatedAt": found.created}
        return {"billingView": found.listed() | times}

    def _inbound(self, organization: Organization, params: dict[str, Any]) -> dict[str, Any]:
        return self._transfers([one for one in self.transfers if one.target is organization], "inbound", params)

    def _outbound(self, organization: Organization, params: dict[str, Any]) -> dict[str, Any]:
        return self._transfers([one for one in self.transfers if one.source is organization], "outbound", params)

    def _transfers(self, found: list[Transfer], direction: str, params: dict[str, Any]) -> dict[str, Any]:
        wanted = [_shown(one, direction) for one in found if params.get("Id") in (None, one.id)]
        size = min(self._page_size, _MAX_TRANSFERS_PAGE)
        shown, token = page("organizations", wanted, params.get("NextToken"), params.get("MaxResults"), size)
        return {"ResponsibilityTransfers": shown, **({"NextToken": token} if token else {})}

    def _describe(self, organization: Organization, params: dict[str, Any]) -> dict[str, Any]:
        for one in self.transfers:
            if one.id == params["Id"] and organization in (one.source, one.target):
                return {"ResponsibilityTransfer": _shown(one, "inbound" if organization is one.target else "outbound")}
        raise AwsError("ResponsibilityTransferNotFoundException", "We can't find a transfer with this id.")


def _shown(transfer: Transfer, direction: str) -> dict[str, Any]:
    home = transfer.target if direction == "inbound" else transfer.source
    shown = {
        "Arn": home.arn("transfer", f"billing/{direction}/{transfer.id}"),
        "Name": transfer.name,
        "Id": transfer.id,
        "Type": "BILLING",
        "Status": transfer.status,
        "Source": _participant(transfer.source),
        "Target": _participant(transfer.target),
        "StartTimestamp": transfer.start,
    }
    return shown | ({"EndTimestamp": transfer.end} if transfer.end else {})


def _participant(organization: Organization) -> dict[str, Any]:
    account = organization.accounts[organization.management]
    return {"ManagementAccountId": account.id, "ManagementAccountEmail": account.email}
