"""Events that Organizations sends through CloudTrail, on the default bus of the partition's home region.

They come at once here, after minutes on AWS, and only there where CloudTrail has a trail. An invited account's own call
AcceptHandshake is in that account's trail; the management account's has the membership event. Sources: "Logging AWS
Organizations API calls with AWS CloudTrail" in the Organizations User Guide, and the API reference of AcceptHandshake.
"""

from __future__ import annotations

import uuid
from typing import Any

from localcloud.aws.arns import Where
from localcloud.aws.platform.event_buses import EventBuses
from localcloud.aws.services.organization import Account, Organization
from shared.runtime.clock import Clock

SOURCE = "aws.organizations"


# difference: AWS-2
class OrganizationEvents:
    """Follows an organization and puts an event on the bus for each account that is created, joins, moves or leaves."""

    def __init__(self, clock: Clock, buses: EventBuses) -> None:
        self._clock = clock
        self._buses = buses

    def attach(self, organization: Organization) -> None:
        organization.on_event.append(lambda name, account, about: self._tell(organization, name, account, about))

    # difference: AWS-18
    def _tell(self, organization: Organization, name: str, account: Account, about: dict[str, str]) -> None:
        now = f"{self._clock.now():%Y-%m-%dT%H:%M:%SZ}"
        where = Where(organization.management, organization.partition.home)
        of_service = name != "MoveAccount"
        detail = {
            "eventVersion": "1.08",
            "userIdentity": {"accountId": organization.management},
            "eventTime": now,
            "eventSource": "organizations.amazonaws.com",
            "eventName": name,
            "awsRegion": where.region,
            "requestParameters": None,
            "responseElements": None,
            "eventID": str(uuid.uuid4()),
            "readOnly": False,
            "eventType": "AwsServiceEvent" if of_service else "AwsApiCall",
            "recipientAccountId": organization.management,
        }
        if name == "CreateAccountResult":
            detail["serviceEventDetails"] = _created(account, now)
        elif of_service:
            detail["serviceEventDetails"] = {"accountId": account.id, **about}
        else:
            parents = {"sourceParentId": about["source"], "destinationParentId": about["target"]}
            detail["requestParameters"] = {"accountId": account.id, **parents}
        kind = "AWS Service Event via CloudTrail" if of_service else "AWS API Call via CloudTrail"
        self._buses.route(where, self._buses.event(where, SOURCE, kind, detail))


# difference: AWS-12
def _created(account: Account, now: str) -> dict[str, Any]:
    # CloudTrail hides the account's name.
    status = {"id": f"car-{uuid.uuid4().hex}", "state": "SUCCEEDED", "accountName": "****", "accountId": account.id}
    return {"createAccountStatus": status | {"requestedTimestamp": now, "completedTimestamp": now}}
