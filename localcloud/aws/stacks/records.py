"""The records of stacks: resources, events, change sets, drift."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from localcloud.aws.arns import Where

IN_PROGRESS = "_IN_PROGRESS"
REVIEW = "REVIEW_IN_PROGRESS"
# A stack in these states can be changed. Source: "Understand CloudFormation stack creation events and status codes".
UPDATABLE = frozenset(
    {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"}
)


@dataclass
class Resource:
    """A resource of a stack. `props` are its properties as they were evaluated for the last change."""

    logical: str
    type: str
    status: str
    at: datetime
    physical: str = ""
    reason: str = ""
    props: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    deletion: str = "Delete"
    drift: str = "NOT_CHECKED"
    drift_at: datetime | None = None
    differences: list[dict[str, str]] = field(default_factory=list)
    actual: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """One transition of a resource or of the stack itself."""

    id: str
    at: datetime
    logical: str
    physical: str
    type: str
    status: str
    reason: str


@dataclass(frozen=True)
class Template:
    """A template with the values of its parameters."""

    body: str
    document: dict[str, Any]
    values: dict[str, str]

    def resource(self, logical: str) -> dict[str, Any]:
        found: dict[str, Any] = self.document["Resources"][logical]
        return found


@dataclass(frozen=True)
class Change:
    """What a change set would do to one resource. `names` are the changed properties, `fixed` those that replace it."""

    action: str
    logical: str
    type: str
    physical: str = ""
    names: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()


@dataclass
class ChangeSet:
    """A change set of a stack."""

    id: str
    name: str
    type: str
    created: datetime
    template: Template
    tags: dict[str, str]
    capabilities: list[str]
    role: str
    key: str
    description: str
    changes: list[Change]
    imports: dict[str, str]  # physical ids by logical id
    on_failure: str
    status: str = "CREATE_COMPLETE"
    reason: str = ""
    execution: str = "AVAILABLE"


@dataclass
class Stack:
    """A stack; `where` is its account and region."""

    id: str
    name: str
    where: Where
    template: Template
    status: str
    created: datetime
    tags: dict[str, str]
    capabilities: list[str]
    role: str
    key: str  # the access key of the caller of the last operation
    description: str = ""
    reason: str = ""
    updated: datetime | None = None
    deleted: datetime | None = None
    protected: bool = False
    disable_rollback: bool = False
    timeout_minutes: int | None = None
    resources: dict[str, Resource] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    change_sets: dict[str, ChangeSet] = field(default_factory=dict)
    outputs: list[dict[str, str]] = field(default_factory=list)
    drift: str = "NOT_CHECKED"
    drift_at: datetime | None = None

    @property
    def busy(self) -> bool:
        return self.status.endswith(IN_PROGRESS) and self.status != REVIEW

    def mark(self, now: datetime, status: str, reason: str = "") -> None:
        """Change the stack's status, with an event."""
        self.status, self.reason = status, reason
        self._event(now, self.name, self.id, "AWS::CloudFormation::Stack", status, reason)

    def mark_resource(self, now: datetime, resource: Resource, status: str, reason: str = "") -> None:
        """Change a resource's status, with an event."""
        resource.status, resource.reason, resource.at = status, reason, now
        self._event(now, resource.logical, resource.physical, resource.type, status, reason)

    def _event(self, now: datetime, logical: str, physical: str, kind: str, status: str, reason: str) -> None:
        self.events.append(Event(str(uuid.uuid4()), now, logical, physical, kind, status, reason))


@dataclass
class Drift:
    """A detection of drift."""

    id: str
    stack: Stack
    at: datetime
    status: str = "DETECTION_IN_PROGRESS"
    reason: str = ""
