"""The state of service-managed StackSets: their instances and operations."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from localcloud.aws.errors import AwsError, invalid
from localcloud.aws.services import stackset_template
from localcloud.aws.services.stackset_template import Role, TemplateError

SERVICE = "cloudformation"
Place = tuple[str, str]  # account, region
ACTIVE = ("RUNNING", "QUEUED", "STOPPING")


@dataclass
class Instance:
    """A stack in one account and region."""

    account: str
    region: str
    unit: str
    stack_id: str
    status: str = "OUTDATED"
    detailed: str = "PENDING"
    reason: str = ""
    operation: str = ""
    drift: str = "NOT_CHECKED"


@dataclass
class Result:
    """The result of an operation in one place."""

    unit: str
    status: str = "PENDING"
    reason: str = ""


@dataclass
class Operation:
    """An operation on a StackSet. `due` is when it finishes, None while it is queued."""

    id: str
    action: str
    created: datetime
    results: dict[Place, Result]
    preferences: dict[str, Any]
    targets: dict[str, Any]
    retain: bool = False
    status: str = "QUEUED"
    due: datetime | None = None
    ended: datetime | None = None

    @property
    def failed(self) -> int:
        return sum(result.status == "FAILED" for result in self.results.values())

    def tolerance(self, accounts: int) -> int:
        """Return how many accounts of a region may fail before the operation stops."""
        share = self.preferences.get("FailureTolerancePercentage")
        if share is not None:
            return accounts * int(share) // 100
        return int(self.preferences.get("FailureToleranceCount", 0))


@dataclass
class StackSet:
    """A StackSet; `home` is its administrator account and region."""

    id: str
    name: str
    home: Place
    partition: str
    body: str
    given: dict[str, str]
    description: str
    tags: dict[str, str]
    capabilities: list[str]
    auto: bool
    retain: bool
    managed_execution: bool
    permissions: str = "SERVICE_MANAGED"
    instances: dict[Place, Instance] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    unfinished: list[Operation] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    regions: list[str] = field(default_factory=list)
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        return f"arn:{self.partition}:cloudformation:{self.home[1]}:{self.home[0]}:stackset/{self.id}"

    @property
    def types(self) -> tuple[str, ...]:
        """The resource types of the template, such as AWS::IAM::Role."""
        return tuple(sorted({str(one.get("Type", "")) for one in self.document.get("Resources", {}).values()}))

    def load(self) -> None:
        """Parse and render the template. Raises AwsError (ValidationError)."""
        try:
            self.document = stackset_template.read(self.body)
            stackset_template.parameters(self.document, self.given)
            self.render(self.home[0], self.home[1])
        except TemplateError as error:
            raise invalid(SERVICE, str(error)) from error
        if stackset_template.needs_named_iam(self.document) and "CAPABILITY_NAMED_IAM" not in self.capabilities:
            raise AwsError("InsufficientCapabilitiesException", "Requires capabilities : [CAPABILITY_NAMED_IAM]", 400)

    def render(self, account: str, region: str) -> list[Role]:
        """Return the roles of this StackSet's stack in an account and region."""
        pseudo = {
            "AWS::AccountId": account,
            "AWS::Region": region,
            "AWS::Partition": self.partition,
            "AWS::StackName": f"StackSet-{self.name}-{self.id.rpartition(':')[2]}",
            "AWS::StackId": self.stack_id(account, region),
        }
        made = stackset_template.roles(self.document, self.given, pseudo)
        for role in made:
            role.tags.update(self.tags)
        return made

    def shown_parameters(self) -> list[dict[str, str]]:
        """Return the parameters as described by the API; NoEcho parameters are masked."""
        declared = self.document.get("Parameters", {})
        return [
            {
                "ParameterKey": name,
                "ParameterValue": "****" if str(declared[name].get("NoEcho", "")).lower() == "true" else value,
            }
            for name, value in stackset_template.parameters(self.document, self.given).items()
        ]

    def stack_id(self, account: str, region: str) -> str:
        identity = self.id.rpartition(":")[2]
        stack = f"StackSet-{self.name}-{identity}"
        own = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.id}/{account}/{region}")
        return f"arn:{self.partition}:cloudformation:{region}:{account}:stack/{stack}/{own}"

    def active(self) -> list[Operation]:
        """Return the operations that have not ended, oldest first."""
        self.unfinished = [operation for operation in self.unfinished if operation.status in ACTIVE]
        return list(self.unfinished)

    def instance(self, place: Place) -> Instance:
        """Return an instance. Raises AwsError (StackInstanceNotFoundException)."""
        if place not in self.instances:
            message = f"Stack instance for stack set {self.id}, account {place[0]} and region {place[1]} not found"
            raise AwsError("StackInstanceNotFoundException", message, 404)
        return self.instances[place]

    def operation(self, identity: str) -> Operation:
        """Return an operation. Raises AwsError (OperationNotFoundException)."""
        if identity not in self.operations:
            message = f"Operation {identity} not found for stack set {self.id}"
            raise AwsError("OperationNotFoundException", message, 404)
        return self.operations[identity]

    def mark_outdated(self, places: Iterable[Place] | None = None) -> None:
        """Mark all instances, or those in `places`, as OUTDATED."""
        for place in self.instances if places is None else places:
            if place in self.instances and self.instances[place].status != "INOPERABLE":
                self.instances[place].status = "OUTDATED"
