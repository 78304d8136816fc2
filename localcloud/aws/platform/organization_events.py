"""Events that Organizations sends through CloudTrail, on the default bus of the partition's home region.

Only an account with a trail has them on AWS. An invited account's own call AcceptHandshake is in that account's trail;
the management account's has the membership event. Sources: "Logging API calls with AWS CloudTrail for AWS
Organizations" in the Organizations User Guide, and the API reference of AcceptHandshake and CloseAccount.
"""

from __future__ import annotations

import uuid
from typing import Any

from localcloud.aws.arns import Where
from localcloud.aws.platform.service_events import CALL, OF_SERVICE, ServiceEvents
from localcloud.aws.services.organization import Account, Organization

SOURCE = "aws.organizations"
# The events of calls, which have their parameters; all others are the service's own.
_CALLS = ("CloseAccount", "MoveAccount")


class OrganizationEvents:
    """Follows an organization, and sends an event for each account that joins, moves, is closed or leaves."""

    def __init__(self, events: ServiceEvents) -> None:
        self._events = events

    def attach(self, organization: Organization) -> None:
        organization.on_event.append(lambda name, account, about: self._send(organization, name, account, about))

    # difference: AWS-18
    def _send(self, organization: Organization, name: str, account: Account, about: dict[str, str]) -> None:
        where = Where(organization.management, organization.partition.home)
        detail = self._events.trail(organization.management, where.region, SOURCE, name)
        of_service = name not in _CALLS
        if of_service:
            detail["eventType"] = "AwsServiceEvent"
            detail["serviceEventDetails"] = _details(name, account, about, detail["eventTime"])
        else:
            detail["requestParameters"] = {"accountId": account.id, **about}
        self._events.send(where, SOURCE, OF_SERVICE if of_service else CALL, detail)


# difference: AWS-12
def _details(name: str, account: Account, about: dict[str, str], now: str) -> dict[str, Any]:
    status = {"state": "SUCCEEDED", "accountId": account.id, "requestedTimestamp": now, "completedTimestamp": now}
    if name == "CreateAccountResult":
        # CloudTrail hides the account's name.
        return {"createAccountStatus": {"id": f"car-{uuid.uuid4().hex}", "accountName": "****"} | status}
    return {"closeAccountStatus": status} if name == "CloseAccountResult" else {"accountId": account.id, **about}
