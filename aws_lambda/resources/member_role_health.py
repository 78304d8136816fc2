"""What the status of an account's stack instances says of the member role that they make."""

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

# Which instance speaks for an account that has several: the role is global, so one that is well suffices.
PREFERRED = (Health.HEALTHY, Health.PENDING, Health.WAITING, Health.BROKEN, Health.MANUAL)
MOST_FAILURES = 3  # operations that fail in an account before a person is asked
NEXT_TRY = timedelta(hours=24)  # and how long until it is tried again, so that what a person cured is seen
REOPENING = timedelta(hours=6)  # how long StackSets may take to see that an account is active again
OPERATION_LASTS = EscalationPolicy(longest=timedelta(hours=24))  # an operation over thousands of accounts takes hours


class RoleHealthEvaluator:
    """Turns the status of an account's stack instances into the health of its member role.

    `ended` says whether an operation is known to be over. Only accounts that are active are judged.
    """

    def __init__(self, settings: AwsSettings, now: datetime, ended: Callable[[str], bool]) -> None:
        self._settings = settings
        self._now = now
        self._ended = ended

    def best(
        self,
        target: Target,
        instances: Sequence[Mapping[str, Any]],
        entry: TargetState | None = None,
        *,
        asked_for: bool = False,
    ) -> Present:
        """Return what an account's instances, as they are listed, say of its role; the best of them speaks for it.

        `entry` is what is remembered of the role; an account that was `asked_for` need not wait for another try.
        """
        seen = [self._instance(target, instance, entry, asked_for) for instance in instances]
        return min(seen, key=lambda one: PREFERRED.index(one.health))

    def _instance(
        self, target: Target, instance: Mapping[str, Any], entry: TargetState | None, asked_for: bool
    ) -> Present:
        status = str(instance.get("Status", ""))
        detailed = str(instance.get("StackInstanceStatus", {}).get("DetailedStatus", ""))
        reason = clean(str(instance.get("StatusReason", "")), 300)
        seen = Present(code=f"instance-{(detailed or status).lower().replace('_', '-')}", detail=reason)
        account, role, stackset = target.key.scope, target.key.name, self._settings.stackset
        if "INOPERABLE" in (status, detailed) or detailed == "FAILED_IMPORT":
            manual_step = manual_steps.instance_stuck(stackset, account, str(instance.get("Region", "")), role, reason)
            return msgspec.structs.replace(seen, health=Health.MANUAL, manual_step=manual_step)
        if detailed in ("FAILED", "CANCELLED"):
            return self._failed(target, instance, entry, asked_for, seen)
        if detailed == "SKIPPED_SUSPENDED_ACCOUNT":
            # The account is active again, and StackSets skips it until the instance is updated.
            lately = entry is not None and self._within(entry.applied_at, REOPENING)
            return msgspec.structs.replace(seen, health=Health.WAITING if lately else Health.BROKEN)
        if detailed in ("PENDING", "RUNNING"):
            if self._is_stranded(str(instance.get("LastOperationId", "")), entry):
                what = "the instance waits for a StackSet operation that has ended without it"
                return msgspec.structs.replace(seen, health=Health.BROKEN, code="instance-stranded", detail=what)
            return msgspec.structs.replace(seen, health=Health.PENDING, escalation=OPERATION_LASTS)
        if status == "OUTDATED":
            return msgspec.structs.replace(seen, health=Health.BROKEN, code="instance-outdated")
        if instance.get("DriftStatus") == "DRIFTED":
            manual_step = manual_steps.instance_drifted(stackset, account, str(instance.get("Region", "")), role)
            return Present(
                health=Health.MANUAL, code="instance-drifted", detail=manual_step.what, manual_step=manual_step
            )
        # A new incident gets its own tries: the last one's are forgotten when all is well.
        return Present(facts={"failures": 0, "failed_operation": ""} if entry and entry.facts.get("failures") else {})

    def _failed(
        self, target: Target, instance: Mapping[str, Any], entry: TargetState | None, asked_for: bool, seen: Present
    ) -> Present:
        """Judge an instance whose last operation failed: tried again a few times, then once a day."""
        operation, known = str(instance.get("LastOperationId", "")), entry.facts if entry else {}
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
            code, manual_step = (
                refused,
                manual_steps.refused(refused, f"creating the role {role} in account {account}", reason),
            )
        final = code != seen.code or failures >= MOST_FAILURES
        tried = (entry.applied_at or entry.since) if entry else None
        if asked_for or not final or (tried is not None and not self._within(tried, NEXT_TRY)):
            return msgspec.structs.replace(seen, health=Health.BROKEN)
        return msgspec.structs.replace(seen, health=Health.MANUAL, code=code, manual_step=manual_step)

    def _is_stranded(self, operation: str, entry: TargetState | None) -> bool:
        if operation:
            return self._ended(operation)
        pending = entry is not None and entry.state == "pending"
        return pending and not self._within(entry.since if entry else None, MEMBER_ROLE.grace)

    def _within(self, moment: datetime | None, limit: timedelta) -> bool:
        return moment is not None and self._now - moment < limit
