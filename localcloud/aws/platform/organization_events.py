"""Events that Organizations sends through CloudTrail to the default bus in the partition's home region.

On AWS, only accounts with a trail receive them. An invited account's AcceptHandshake call is in its own trail; the
management account's trail has AccountJoinedOrganization instead. Sources: "Logging API calls with AWS CloudTrail
for AWS Organizations" in the Organizations User Guide, and the API reference of AcceptHandshake and CloseAccount.
"""

from __future__ import annotations

import uuid
from typing import Any

from localcloud.aws.arns import Where
from localcloud.aws.platform.service_events import API_CALL, SERVICE_EVENT, ServiceEvents
from localcloud.aws.services.organization import Account, Organization

SOURCE = "aws.organizations"
# The events of API calls, which hold the parameters; the service sends all others itself.
_CALLS = ("CloseAccount", "MoveAccount")


class OrganizationEvents:
    """Sends an event for each account that is created, joins, moves, is closed or leaves."""

    def __init__(self, events: ServiceEvents) -> None:
        self._events = events

    def attach(self, organization: Organization) -> None:
        organization.on_event.append(lambda name, account, details: self._send(organization, name, account, details))

    # difference: AWS-18
    def _send(self, organization: Organization, name: str, account: Account, details: dict[str, str]) -> None:
        where = Where(organization.management, organization.partition.home)
        detail = self._events.cloudtrail_record(organization.management, where.region, SOURCE, name)
        is_service_event = name not in _CALLS
        if is_service_event:
            detail["eventType"] = "AwsServiceEvent"
            detail["serviceEventDetails"] = _details(name, account, details, detail["eventTime"])
        else:
            detail["requestParameters"] = {"accountId": account.id, **details}
        self._events.send(where, SOURCE, SERVICE_EVENT if is_service_event else API_CALL, detail)


# difference: AWS-12
def _details(name: str, account: Account, details: dict[str, str], now: str) -> dict[str, Any]:
    status = {"state": "SUCCEEDED", "accountId": account.id, "requestedTimestamp": now, "completedTimestamp": now}
    if name == "CreateAccountResult":
        # CloudTrail hides the account's name.
        return {"createAccountStatus": {"id": f"car-{uuid.uuid4().hex}", "accountName": "****"} | status}
    return {"closeAccountStatus": status} if name == "CloseAccountResult" else {"accountId": account.id, **details}
