"""Evaluate the health of a member role from the status of the stack instances that create it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from aws_lambda import manual_steps
from aws_lambda.errors import refusal_of
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import MEMBER_ROLE
from shared.errors import clean
from shared.model import EscalationPolicy, Health, Present, Target
from shared.target_state import TargetState

# Of several instances of an account, the best one counts: the role is global, so one healthy instance is enough.
PREFERRED = (Health.HEALTHY, Health.PENDING, Health.WAITING, Health.BROKEN, Health.MANUAL)
MOST_FAILURES = 3  # failed operations in an account before a manual step is reported
NEXT_TRY = timedelta(hours=24)  # after those, so that a fix by a person takes effect
REOPENING = timedelta(hours=6)  # how long StackSets may take to notice that an account is active again
OPERATION_LASTS = EscalationPolicy(longest=timedelta(hours=24))  # an operation over thousands of accounts takes hours


class RoleHealthEvaluator:
    """Evaluates the health of the member roles of active accounts.

    `has_ended` returns whether a StackSet operation is known to have ended.
    """

    def __init__(self, settings: AwsSettings, now: datetime, has_ended: Callable[[str], bool]) -> None:
        self._settings = settings
        self._now = now
        self._has_ended = has_ended

    def evaluate(self, target: Target, instances: Sequence[Mapping[str, Any]], *, requested: bool = False) -> Present:
        """Return the observation of a role from its account's instances as ListStackInstances returns them.

        A `requested` account is retried without waiting for NEXT_TRY.
        """
        found = [self._instance(target, instance, requested) for instance in instances]
        return min(found, key=lambda one: PREFERRED.index(one.health))

    def _instance(self, target: Target, instance: Mapping[str, Any], requested: bool) -> Present:
        state = target.state
        status = str(instance.get("Status", ""))
        detailed = str(instance.get("StackInstanceStatus", {}).get("DetailedStatus", ""))
        reason = clean(str(instance.get("StatusReason", "")), 300)
        seen = Present(code=f"instance-{(detailed or status).lower().replace('_', '-')}", detail=reason)
        account, role, stackset = target.key.scope, target.key.name, self._settings.stackset
        if "INOPERABLE" in (status, detailed) or detailed == "FAILED_IMPORT":
            manual_step = manual_steps.instance_stuck(stackset, account, str(instance.get("Region", "")), role, reason)
            return msgspec.structs.replace(seen, health=Health.MANUAL, manual_step=manual_step)
        if detailed in ("FAILED", "CANCELLED"):
            return self._failed(target, instance, requested, seen)
        if detailed == "SKIPPED_SUSPENDED_ACCOUNT":
            # The account is active again, but StackSets skips it until the instance is updated.
            updated = state is not None and self._within(state.applied_at, REOPENING)
            return msgspec.structs.replace(seen, health=Health.WAITING if updated else Health.BROKEN)
        if detailed in ("PENDING", "RUNNING"):
            if self._is_stranded(str(instance.get("LastOperationId", "")), state):
                what = "the instance waits for a StackSet operation that has already ended"
                return msgspec.structs.replace(seen, health=Health.BROKEN, code="instance-stranded", detail=what)
            return msgspec.structs.replace(seen, health=Health.PENDING, escalation=OPERATION_LASTS)
        if status == "OUTDATED":
            return msgspec.structs.replace(seen, health=Health.BROKEN, code="instance-outdated")
        if instance.get("DriftStatus") == "DRIFTED":
            manual_step = manual_steps.instance_drifted(stackset, account, str(instance.get("Region", "")), role)
            return Present(
                health=Health.MANUAL, code="instance-drifted", detail=manual_step.what, manual_step=manual_step
            )
        # The failures are reset, so that a later incident gets all its retries.
        return Present(facts={"failures": 0, "failed_operation": ""} if state and state.facts.get("failures") else {})

    def _failed(self, target: Target, instance: Mapping[str, Any], requested: bool, seen: Present) -> Present:
        """Return the observation of an instance whose last operation failed: a few retries, then one a day."""
        state = target.state
        operation, known = str(instance.get("LastOperationId", "")), state.facts if state else {}
        counted = known.get("failures")
        failures = counted if isinstance(counted, int) and 0 <= counted <= MOST_FAILURES else 0
        if operation != known.get("failed_operation"):
            failures = min(failures + 1, MOST_FAILURES)
        seen = msgspec.structs.replace(seen, facts={"failures": failures, "failed_operation": operation})
        reason, account, role = seen.detail, target.key.scope, target.key.name
        code, manual_step = seen.code, manual_steps.instance_failing(account, role, reason)
        if "already exists" in reason.lower() and role in reason:
            code, manual_step = "member-role-foreign", manual_steps.role_in_the_way(account, role, reason)
        elif refused := refusal_of(reason):
            what = f"the creation of role {role} in account {account}"
            code, manual_step = refused, manual_steps.refused(refused, what, reason)
        final = code != seen.code or failures >= MOST_FAILURES
        tried = (state.applied_at or state.since) if state else None
        if requested or not final or (tried is not None and not self._within(tried, NEXT_TRY)):
            return msgspec.structs.replace(seen, health=Health.BROKEN)
        return msgspec.structs.replace(seen, health=Health.MANUAL, code=code, manual_step=manual_step)

    def _is_stranded(self, operation: str, state: TargetState | None) -> bool:
        if operation:
            return self._has_ended(operation)
        return state is not None and state.state == "pending" and not self._within(state.since, MEMBER_ROLE.grace)

    def _within(self, moment: datetime | None, limit: timedelta) -> bool:
        return moment is not None and self._now - moment < limit
