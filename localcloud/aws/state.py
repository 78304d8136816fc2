"""The state of one local AWS, assembled from its services."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from localcloud.aws.arns import Arns, Where
from localcloud.aws.calls import CallLog
from localcloud.aws.faults import Attempt, Faults
from localcloud.aws.iam.caller import Handler
from localcloud.aws.iam.enforcement import Enforcement
from localcloud.aws.iam.member_roles import MemberRoles
from localcloud.aws.iam.sessions import Sessions
from localcloud.aws.iam.simulator import Simulator
from localcloud.aws.moto_gaps import corrected
from localcloud.aws.partitions import Partition
from localcloud.aws.platform.call_events import CallEvents
from localcloud.aws.platform.event_buses import EventBuses
from localcloud.aws.platform.event_sources import EventSources
from localcloud.aws.platform.organization_events import OrganizationEvents
from localcloud.aws.platform.schedules import Schedules
from localcloud.aws.platform.service_events import ServiceEvents
from localcloud.aws.platform.state_machines import StateMachines
from localcloud.aws.platform.state_machines_api import StateMachinesApi
from localcloud.aws.runtime.functions import Functions
from localcloud.aws.runtime.functions_api import LambdaApi
from localcloud.aws.services.billing import Billing
from localcloud.aws.services.buckets import Buckets
from localcloud.aws.services.export_deliveries import Deliveries
from localcloud.aws.services.exports import Exports
from localcloud.aws.services.exports_api import ExportsApi
from localcloud.aws.services.organization_api import OrganizationsApi
from localcloud.aws.services.s3_rules import S3Rules
from localcloud.aws.services.stackset_operations import Operations
from localcloud.aws.services.stacksets import StackSet
from localcloud.aws.services.stacksets_api import StackSetsApi
from localcloud.aws.stacks.api import StacksApi
from localcloud.aws.stacks.engine import Engine
from localcloud.aws.wire import AwsRequest
from shared.runtime.clock import Clock


@dataclass(frozen=True)
class Behavior:
    """Settings for behavior that varies on AWS. Seconds are on the local clock.

    `page_size` caps every page (below each API's own maximum); `empty_pages_every` N makes every Nth page of accounts
    empty, starting with the second (0: none).
    """

    page_size: int = 1000
    empty_pages_every: int = 3
    stackset_delay_s: float = 0
    policy_delay_s: float = 0
    close_delay_s: float = 0


class World:
    """The state of one local AWS. `lock` serializes the requests that moto does not answer."""

    def __init__(self, clock: Clock, partition: Partition, behavior: Behavior) -> None:
        self.clock = clock
        self.partition = partition
        self.behavior = behavior
        self.lock = threading.RLock()
        self.faults = Faults(clock)
        self.calls = CallLog()
        self.buckets = Buckets(clock, behavior.policy_delay_s)
        self.billing = Billing(clock, partition, behavior.page_size)
        self.exports = Exports(clock, partition, self.buckets, self.billing)
        self.deliveries = Deliveries(self.exports, clock)
        self.organizations = OrganizationsApi(
            clock, partition, self.billing, behavior.page_size, behavior.empty_pages_every
        )
        self.roles = MemberRoles(partition.name)
        self.s3 = S3Rules(self.buckets, partition.name, self.roles.exists, behavior.page_size)
        self.stacks = Operations(clock, self.roles, self.organizations.find, behavior.stackset_delay_s)
        self.organizations.on_create.append(self.stacks.attach)
        self.sessions = Sessions(clock, partition.name, self.roles, self.calls)
        self.functions = Functions(clock, self.sessions)
        self.lambda_api = LambdaApi(self.functions)
        self.enforcement = Enforcement(partition.name, self.buckets)
        self.simulator = Simulator(self.enforcement, self.faults)
        self.state_machines = StateMachines(clock, partition.name, self.sessions, self.enforcement, self.calls)
        self.schedules = Schedules(clock, self.sessions, self.functions, self.state_machines)
        self.buses = EventBuses(clock, self.sessions, self.functions, self.enforcement, self.calls)
        self.events = ServiceEvents(clock, self.buses, self.faults.events)
        self.organizations.on_create.append(OrganizationEvents(self.events).attach)
        self.call_events = CallEvents(partition, self.events)
        self.stacks.on_delete.append(self.call_events.instance_deleted)
        self.event_sources = EventSources(
            clock, self.sessions, self.functions, self.enforcement, self.calls, self.events.release
        )
        self.buses.on_message.append(self.event_sources.arrived)
        self.stack_engine = Engine(clock, partition.name, partition.dns, self.sessions)
        self._stacks_api = StacksApi(self.stack_engine, self.sessions, clock, partition.name)
        self.arns = Arns(partition, self.organizations.find, self._stack_set, self.buckets)
        self._handlers = {
            "bcm-data-exports": ExportsApi(self.exports, behavior.page_size).operations,
            "billing": self.billing.operations,
            "organizations": self.organizations.operations,
            "cloudformation": StackSetsApi(self.stacks, behavior.page_size).operations | self._stacks_api.operations,
            "events": self.buses.operations,
            "lambda": self.lambda_api.operations,
            "iam": self.simulator.operations,
            "stepfunctions": StateMachinesApi(self.state_machines).operations,
        }

    def _stack_set(self, where: Where, params: dict[str, Any]) -> StackSet | None:
        """Return the StackSet that a request names, or None if it does not exist."""
        organization = self.organizations.find(where.account)
        delegated = organization is not None and params.get("CallAs") == "DELEGATED_ADMIN"
        home = organization.management if organization is not None and delegated else where.account
        return self.stacks.stack_sets.get((home, where.region, str(params["StackSetName"]).partition(":")[0]))

    def handler(self, service: str, operation: str) -> Handler | None:
        """Return the handler of an operation, or None if moto handles it."""
        return self._handlers.get(service, {}).get(operation)

    def calls_back(self, service: str, operation: str) -> bool:
        """Return whether a handler calls this cloud itself, and must not be called with the lock held."""
        return service == "cloudformation" and operation in self._stacks_api.operations

    def corrected(self, aws_request: AwsRequest, attempt: Attempt) -> AbstractContextManager[None]:
        """Return a context in which moto answers a request, which corrects its differences from AWS."""
        return corrected(aws_request, attempt, self.lambda_api, self.event_sources)

    def owns(self, service: str) -> bool:
        """Return whether moto must not answer for this service, because the state is kept here."""
        return service in ("bcm-data-exports", "billing", "cloudformation", "organizations", "stepfunctions")
