"""Events that Organizations sends through CloudTrail, on the default bus of the partition's home region.

Only an account with a trail has them on AWS. An invited account's own call AcceptHandshake is in that account's trail;
the management account's has the membership event. Sources: "Logging AWS Organizations API calls with AWS CloudTrail" in
the Organizations User Guide, and the API reference of AcceptHandshake.
"""

from __future__ import annotations

import uuid
from typing import Any

from localcloud.aws.arns import Where
from localcloud.aws.platform.service_events import CALL, OF_SERVICE, ServiceEvents
from localcloud.aws.services.organization import Account, Organization

SOURCE = "aws.organizations"


class OrganizationEvents:
    """Follows an organization and sends an event for each account that is created, joins, moves or leaves."""

    def __init__(self, events: ServiceEvents) -> None:
        self._events = events

    def attach(self, organization: Organization) -> None:
        organization.on_event.append(lambda name, account, about: self._send(organization, name, account, about))

    # difference: AWS-18
    def _send(self, organization: Organization, name: str, account: Account, about: dict[str, str]) -> None:
        where = Where(organization.management, organization.partition.home)
        of_service = name != "MoveAccount"
        detail = self._events.trail(organization.management, where.region, SOURCE, name)
        if of_service:
            detail["eventType"] = "AwsServiceEvent"
            now = detail["eventTime"]
            created = name == "CreateAccountResult"
            detail["serviceEventDetails"] = _created(account, now) if created else {"accountId": account.id, **about}
        else:
            parents = {"sourceParentId": about["source"], "destinationParentId": about["target"]}
            detail["requestParameters"] = {"accountId": account.id, **parents}
        self._events.send(where, SOURCE, OF_SERVICE if of_service else CALL, detail)


# difference: AWS-12
def _created(account: Account, now: str) -> dict[str, Any]:
    # CloudTrail hides the account's name.
    status = {"id": f"car-{uuid.uuid4().hex}", "state": "SUCCEEDED", "accountName": "****", "accountId": account.id}
    return {"createAccountStatus": status | {"requestedTimestamp": now, "completedTimestamp": now}}
