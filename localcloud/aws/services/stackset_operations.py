"""StackSet operations: queued, running on the local clock, then applied account by account and region by region."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from localcloud.aws.errors import AwsError
from localcloud.aws.iam.member_roles import MemberRoles
from localcloud.aws.services.organization import Account, Organization
from localcloud.aws.services.stacksets import Instance, Operation, Place, Result, StackSet
from shared.runtime.clock import Clock

TOLERANCE = "Cancelled since failure tolerance has exceeded"
_SUSPENDED = "The operation was skipped because the account is suspended"


@dataclass
class _Failure:
    reason: str
    left: int | None


# difference: AWS-4
class Operations:
    """All StackSets (by home and name) and the engine that runs their operations.

    `organization_of` returns the organization that an account belongs to. `delay_s` is the duration of an operation;
    with 0, it finishes before the response to its request.
    """

    def __init__(
        self,
        clock: Clock,
        roles: MemberRoles,
        organization_of: Callable[[str], Organization | None],
        delay_s: float = 0,
    ) -> None:
        self._clock = clock
        self.organization_of = organization_of
        self.roles = roles
        self.delay_s = delay_s
        self.stack_sets: dict[tuple[str, str, str], StackSet] = {}
        self._failures: dict[str, _Failure] = {}
        self.on_delete: list[Callable[[StackSet, Instance], None]] = []
        self.rejected: set[str] = set()  # requests that name one of these accounts are invalid

    def attach(self, organization: Organization) -> None:
        """Auto-deploy to the accounts of a new organization, once trusted access is enabled."""
        organization.on_join.append(self._joined)
        organization.on_leave.append(self._left)

    def allow_access(self, organization: Organization, service: str) -> None:
        """Enable trusted access to the organization for StackSets, whose service principal is `service`."""
        organization.stacksets_access = "ENABLED"
        organization.trusted.setdefault(service, self._clock.now())

    def withdraw_access(self, organization: Organization, service: str) -> None:
        organization.stacksets_access = "DISABLED"
        organization.trusted.pop(service, None)

    def inject_failure(self, account: str, reason: str, times: int | None = 1) -> None:
        """Make the next `times` operations (None: all) fail in this account."""
        self._failures[account] = _Failure(reason, times)

    def submit(
        self,
        stack_set: StackSet,
        action: str,
        places: dict[Place, str],
        preferences: dict[str, Any] | None = None,
        targets: dict[str, Any] | None = None,
        identity: str | None = None,
        retain: bool = False,
    ) -> Operation:
        """Start or queue an operation on `places` (place to targeted unit). Raises AwsError.

        Without managed execution, a second operation is refused; with it, one on the same places is queued.
        """
        self.check_idle(stack_set)
        identity = identity or str(uuid.uuid4())
        if identity in stack_set.operations:
            raise AwsError("OperationIdAlreadyExistsException", f"Operation {identity} already exists", 409)
        results = {place: Result(unit) for place, unit in places.items()}
        if action == "DETECT_DRIFT" and any(one.action == action for one in stack_set.active()):
            raise AwsError("OperationInProgressException", f"Drift detection of {stack_set.name} is in progress", 409)
        operation = Operation(identity, action, self._clock.now(), results, preferences or {}, targets or {}, retain)
        stack_set.operations[identity] = operation
        stack_set.unfinished.append(operation)
        for (account, region), result in results.items() if action != "DETECT_DRIFT" else ():
            self._mark_pending(stack_set, operation, account, region, result.unit)
        self._start(stack_set, operation, self._clock.now())
        self.settle()
        return operation

    def check_idle(self, stack_set: StackSet) -> None:
        """Raise AwsError (OperationInProgressException) if an operation runs and managed execution is off."""
        self.settle()
        running = stack_set.active()
        if running and not stack_set.managed_execution:
            message = f"Another Operation on StackSet {stack_set.arn} is in progress: {running[0].id}"
            raise AwsError("OperationInProgressException", message, 409)

    def stop(self, stack_set: StackSet, identity: str) -> None:
        """Stop an operation that has not ended, and cancel its remaining places."""
        operation = stack_set.operation(identity)
        if operation.status not in ("RUNNING", "QUEUED"):
            raise AwsError("InvalidOperationException", f"Operation {identity} is not in progress", 400)
        for place, result in operation.results.items():
            self._cancel(stack_set, place, result, "Cancelled because the operation was stopped")
        operation.status, operation.ended = "STOPPED", self._clock.now()
        self.settle()

    def settle(self) -> None:
        """Start and finish the operations that are due on the local clock."""
        now = self._clock.now()
        for stack_set in self.stack_sets.values():
            progressed = True
            while progressed:
                progressed = False
                for operation in stack_set.active():
                    if operation.due is None:
                        self._start(stack_set, operation, now)
                    if operation.due is not None and operation.due <= now:
                        self._finish(stack_set, operation, operation.due)
                        progressed = True

    def _start(self, stack_set: StackSet, operation: Operation, now: datetime) -> None:
        for other in stack_set.active():
            if other is operation:
                break
            if other.results.keys() & operation.results.keys() or not (other.results and operation.results):
                return
        operation.status = "RUNNING"
        operation.due = now + timedelta(seconds=self.delay_s)
        for place, result in operation.results.items():
            result.status = "RUNNING"
            instance = stack_set.instances.get(place)
            if instance is not None and instance.status != "INOPERABLE" and operation.action != "DETECT_DRIFT":
                instance.detailed = "RUNNING"

    def _mark_pending(self, stack_set: StackSet, operation: Operation, account: str, region: str, unit: str) -> None:
        place = (account, region)
        instance = stack_set.instances.get(place)
        if instance is None:
            instance = Instance(account, region, unit, stack_set.stack_id(account, region))
            stack_set.instances[place] = instance
        if instance.status != "INOPERABLE":
            instance.status, instance.detailed, instance.reason = "OUTDATED", "PENDING", ""
        instance.operation = operation.id

    def _finish(self, stack_set: StackSet, operation: Operation, when: datetime) -> None:
        tolerance_exceeded = False
        by_region: dict[str, list[Place]] = {}
        for place in operation.results:
            by_region.setdefault(place[1], []).append(place)
        for places in by_region.values():
            tolerance, failures = operation.tolerance(len(places)), 0
            for place in places:
                result = operation.results[place]
                if tolerance_exceeded:
                    self._cancel(stack_set, place, result, TOLERANCE)
                    continue
                self._apply(stack_set, operation, place, result)
                failures += result.status == "FAILED"
                tolerance_exceeded = failures > tolerance
        operation.status, operation.ended = ("FAILED" if tolerance_exceeded else "SUCCEEDED"), when

    def _apply(self, stack_set: StackSet, operation: Operation, place: Place, result: Result) -> None:
        instance = stack_set.instances.get(place)
        if instance is None:
            result.status = "SUCCEEDED"
            return
        if operation.action == "DELETE":
            self._delete(stack_set, operation, instance, result)
            return
        if operation.action == "DETECT_DRIFT":
            drifted = self.roles.drifted(instance.account, (stack_set.id, instance.region))
            instance.drift, result.status = ("DRIFTED" if drifted else "IN_SYNC"), "SUCCEEDED"
            return
        if instance.status == "INOPERABLE":
            result.status, result.reason = "FAILED", "The stack instance is inoperable"
            return
        if self._suspended(place[0]):
            instance.detailed, instance.reason = "SKIPPED_SUSPENDED_ACCOUNT", _SUSPENDED
            result.status, result.reason = "SUCCEEDED", _SUSPENDED
            return
        reason = self._take_failure(place[0])
        if reason is None:
            stack, region = (stack_set.id, place[1]), place[1]
            reason = self.roles.deploy(place[0], stack, lambda account: stack_set.render(account, region))
        if reason is not None:
            instance.status, instance.detailed, instance.reason = "OUTDATED", "FAILED", reason
            result.status, result.reason = "FAILED", reason
            return
        instance.status, instance.detailed, instance.reason = "CURRENT", "SUCCEEDED", ""
        result.status = "SUCCEEDED"

    def _delete(self, stack_set: StackSet, operation: Operation, instance: Instance, result: Result) -> None:
        place, stack = (instance.account, instance.region), (stack_set.id, instance.region)
        reason = None if operation.retain else self._take_failure(instance.account)
        if reason is not None or (instance.status == "INOPERABLE" and not operation.retain):
            reason = reason or "The stack could not be deleted"
            instance.status, instance.detailed, instance.reason = "INOPERABLE", "INOPERABLE", reason
            result.status, result.reason = "FAILED", reason
            return
        if operation.retain:
            self.roles.delete_keeping_roles(instance.account, stack)
        else:
            self.roles.remove(instance.account, stack)
        del stack_set.instances[place]
        result.status = "SUCCEEDED"
        for listener in self.on_delete:
            listener(stack_set, instance)
        remaining = {one.unit for one in stack_set.instances.values()}
        if not stack_set.instances:
            stack_set.units, stack_set.regions = [], []
        elif instance.unit not in remaining and instance.unit in stack_set.units:
            stack_set.units.remove(instance.unit)

    def _cancel(self, stack_set: StackSet, place: Place, result: Result, reason: str) -> None:
        result.status, result.reason = "CANCELLED", reason
        instance = stack_set.instances.get(place)
        if instance is not None and instance.status != "INOPERABLE":
            instance.detailed, instance.reason = "CANCELLED", reason

    def _take_failure(self, account: str) -> str | None:
        failure = self._failures.get(account)
        if failure is None or failure.left == 0:
            return None
        if failure.left is not None:
            failure.left -= 1
        return failure.reason

    def _suspended(self, account: str) -> bool:
        organization = self.organization_of(account)
        return organization is not None and organization.accounts[account].suspended

    def _joined(self, account: Account) -> None:
        for stack_set in self._auto_deployed():
            unit = self._unit_for(stack_set, account)
            places = {(account.id, region): unit for region in stack_set.regions if unit}
            fresh = {place: unit for place, unit in places.items() if unit and place not in stack_set.instances}
            if fresh:
                self._auto_deploy(stack_set, "CREATE", fresh)

    def _left(self, account: Account, source: str) -> None:
        for stack_set in self._auto_deployed():
            if self._unit_for(stack_set, account):
                continue
            places = {place: instance.unit for place, instance in stack_set.instances.items() if place[0] == account.id}
            if places:
                self._auto_deploy(stack_set, "DELETE", places)

    def _auto_deploy(self, stack_set: StackSet, action: str, places: dict[Place, str]) -> None:
        # Auto-deployment ignores operation preferences and is queued instead of refused.
        managed, stack_set.managed_execution = stack_set.managed_execution, True
        try:
            self.submit(stack_set, action, places, {}, {}, None, stack_set.retain)
        finally:
            stack_set.managed_execution = managed

    def _auto_deployed(self) -> list[StackSet]:
        found = ((one, self.organization_of(one.home[0])) for one in self.stack_sets.values() if one.auto)
        return [one for one, organization in found if organization and organization.stacksets_access == "ENABLED"]

    def _unit_for(self, stack_set: StackSet, account: Account) -> str | None:
        """Return the targeted unit of a StackSet that holds an account of its organization, or None."""
        organization = self.organization_of(stack_set.home[0])
        if organization is None or account.id == organization.management or account.id not in organization.accounts:
            return None
        return next((one for one in organization.lineage(account.parent) if one in stack_set.units), None)
