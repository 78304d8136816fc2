"""What an export's status and deliveries say of its health, and a stack instance's status of the role it made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from aws_lambda import guides
from aws_lambda.clients import Clients
from aws_lambda.destination import Destination
from aws_lambda.errors import refusal_of
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import MEMBER_ROLE, Dataset
from shared.errors import CloudError, RunStopped
from shared.memory import Entry
from shared.model import Guide, Health, Patience, Present, Target
from shared.run import Run

# Which instance speaks for an account that has several: the role is global, so one that is well suffices.
PREFERRED = (Health.HEALTHY, Health.PENDING, Health.WAITING, Health.BROKEN, Health.MANUAL)
MOST_FAILURES = 3  # operations that fail in an account before a person is asked
NEXT_TRY = timedelta(hours=24)  # and how long until it is tried again, so that what a person cured is seen
REOPENING = timedelta(hours=6)  # how long StackSets may take to see that an account is active again
FIRST_DELIVERY = timedelta(hours=24)  # "the first delivery can take up to 24 hours", Data Exports User Guide
PERMISSION_SETTLES = timedelta(hours=26)  # exports are refreshed at least daily: by then a repair must show
FAILURES_BORNE = Patience(tries=3)
LONG_AGO = datetime.min.replace(tzinfo=UTC)
TROUBLE_URL = "https://docs.aws.amazon.com/cur/latest/userguide/dataexports-troubleshooting.html"


class Sight(msgspec.Struct, frozen=True):
    """An export as it was read: name, ARN, ExportStatus, its dataset, and what is remembered of it."""

    name: str
    arn: str
    status: Mapping[str, Any]
    dataset: Dataset
    facts: Mapping[str, Any]


class Judge:
    """Turns status and deliveries into health; reads executions only where something is overdue."""

    def __init__(self, clients: Clients, run: Run, destination: Destination) -> None:
        self._clients = clients
        self._run = run
        self._destination = destination

    def health(self, sight: Sight, delivered: datetime | None, known: bool) -> Present:
        """Return the health, without the managed fields. `known` is false where deliveries could not be listed."""
        if str(sight.status.get("StatusCode", "HEALTHY")) != "HEALTHY":
            return self._unhealthy(sight, delivered)
        # A new incident is to get its own repair: the last one is forgotten when all is well again.
        settled = {"permission_repaired_at": ""} if sight.facts.get("permission_repaired_at") else {}
        return msgspec.structs.replace(self._delivery(sight, delivered, known), facts=settled)

    def _unhealthy(self, sight: Sight, delivered: datetime | None) -> Present:
        reason = str(sight.status.get("StatusReason", "")) or "no reason given"
        code = "unhealthy-" + reason.lower().replace("_", "-").replace(" ", "-")
        detail = f"AWS says {sight.status.get('StatusCode')}: {reason}"
        seen = Present(code=code, detail=detail, delivered_at=delivered)
        if reason == "INSUFFICIENT_PERMISSION":
            return self._permission(seen, sight)
        if reason == "BILL_OWNER_CHANGED":
            step = "Delete the export on behalf of the new payer's owner; the next run creates it for the new payer."
            return _manual(seen, f"export {sight.name} belongs to a former payer: {detail}", step)
        if reason == "DEPRECATED":
            step = "Delete the export; the next run creates it from the table as it is today."
            return _manual(seen, f"export {sight.name} uses what AWS has retired: {detail}", step)
        last = self._last_execution(sight)
        guide = Guide(f"export {sight.name} keeps failing inside AWS: {detail}{last}", (SUPPORT,), TROUBLE_URL)
        return msgspec.structs.replace(
            seen, health=Health.WAITING, guide=guide, patience=FAILURES_BORNE, detail=detail + last
        )

    def _permission(self, seen: Present, sight: Sight) -> Present:
        repaired = moment(sight.facts.get("permission_repaired_at"))
        if self._destination.statement_missing or repaired is None:
            return msgspec.structs.replace(seen, health=Health.BROKEN)
        if self._run.clock.now() - repaired < PERMISSION_SETTLES:
            detail = f"{seen.detail}; repaired {repaired:%Y-%m-%d %H:%M} UTC, the next refresh will show it"
            return msgspec.structs.replace(seen, health=Health.WAITING, detail=detail)
        step = (
            "The own statement in the bucket's policy is there. Look for a Deny beside it, a resource control policy, "
            "or a KMS key that does not admit bcm-data-exports.amazonaws.com."
        )
        return _manual(seen, f"export {sight.name} may still not write: {seen.detail}", step)

    def _delivery(self, sight: Sight, delivered: datetime | None, known: bool) -> Present:
        now = self._run.clock.now()
        seen = Present(delivered_at=delivered)
        if not known:
            return seen
        begun = [moment(sight.status.get(name)) for name in ("CreatedAt", "LastUpdatedAt")]
        since = max((moment for moment in (*begun, delivered) if moment), default=now)
        if now - since >= sight.dataset.stale_after:
            last = self._last_execution(sight)
            since_text = f"since {delivered:%Y-%m-%d %H:%M} UTC" if delivered else "yet"
            what = f"export {sight.name} says HEALTHY, but nothing was delivered {since_text}{last}"
            return _manual(msgspec.structs.replace(seen, code="nothing-delivered"), what, SUPPORT)
        if delivered:
            return seen
        late = now - since >= FIRST_DELIVERY
        code = "first-delivery-late" if late else "first-delivery"
        return msgspec.structs.replace(
            seen,
            health=Health.PENDING,
            code=code,
            detail=f"created or changed {since:%Y-%m-%d %H:%M} UTC",
            first_data=True,
        )

    def _last_execution(self, sight: Sight) -> str:
        """Return what became of the newest execution, as the end of a sentence; empty where it cannot be read."""
        found: list[tuple[datetime, str]] = []
        token: dict[str, Any] = {}
        try:
            while True:
                page = self._run.calls(
                    "bcm-data-exports", self._clients.exports.list_executions, ExportArn=sight.arn, **token
                )
                for one in page.get("Executions", []):
                    status = one["ExecutionStatus"]
                    outcome = " ".join(filter(None, (status.get("StatusCode"), status.get("StatusReason"))))
                    found.append((moment(status.get("CreatedAt")) or LONG_AGO, outcome))
                if not page.get("NextToken"):
                    break
                token = {"NextToken": page["NextToken"]}
        except RunStopped:
            raise
        except CloudError:
            return ""
        return f"; last execution: {max(found)[1]}" if found else "; it was never executed"


SUPPORT = "Open an AWS Support case for Data Exports, naming the export's ARN and its last execution."


class RoleJudge:
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
        entry: Entry | None = None,
        *,
        asked_for: bool = False,
    ) -> Present:
        """Return what an account's instances, as they are listed, say of its role; the best of them speaks for it.

        `entry` is what is remembered of the role; an account that was `asked_for` need not wait for another try.
        """
        seen = [self._instance(target, instance, entry, asked_for) for instance in instances]
        return min(seen, key=lambda one: PREFERRED.index(one.health))

    def _instance(self, target: Target, instance: Mapping[str, Any], entry: Entry | None, asked_for: bool) -> Present:
        status = str(instance.get("Status", ""))
        detailed = str(instance.get("StackInstanceStatus", {}).get("DetailedStatus", ""))
        reason = str(instance.get("StatusReason", ""))[:300]
        seen = Present(code=f"instance-{(detailed or status).lower().replace('_', '-')}", detail=reason)
        account, role, stackset = target.key.scope, target.key.name, self._settings.stackset
        if "INOPERABLE" in (status, detailed) or detailed == "FAILED_IMPORT":
            guide = guides.instance_stuck(stackset, account, str(instance.get("Region", "")), role, reason)
            return msgspec.structs.replace(seen, health=Health.MANUAL, guide=guide)
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
            return msgspec.structs.replace(seen, health=Health.PENDING)
        if status == "OUTDATED":
            return msgspec.structs.replace(seen, health=Health.BROKEN, code="instance-outdated")
        if instance.get("DriftStatus") == "DRIFTED":
            guide = guides.instance_drifted(stackset, account, str(instance.get("Region", "")), role)
            return Present(health=Health.MANUAL, code="instance-drifted", detail=guide.what, guide=guide)
        # A new incident gets its own tries: the last one's are forgotten when all is well.
        return Present(facts={"failures": 0, "failed_operation": ""} if entry and entry.facts.get("failures") else {})

    def _failed(
        self, target: Target, instance: Mapping[str, Any], entry: Entry | None, asked_for: bool, seen: Present
    ) -> Present:
        """Judge an instance whose last operation failed: tried again a few times, then once a day."""
        operation, known = str(instance.get("LastOperationId", "")), entry.facts if entry else {}
        counted = known.get("failures")
        failures = counted if isinstance(counted, int) and 0 <= counted <= MOST_FAILURES else 0
        if operation != known.get("failed_operation"):
            failures = min(failures + 1, MOST_FAILURES)
        seen = msgspec.structs.replace(seen, facts={"failures": failures, "failed_operation": operation})
        reason, account, role = seen.detail, target.key.scope, target.key.name
        code, guide = seen.code, guides.instance_failing(account, role, reason)
        if "already exists" in reason.lower() and role in reason:
            code, guide = "member-role-foreign", guides.role_in_the_way(account, role, reason)
        elif refused := refusal_of(reason):
            code, guide = refused, guides.refused(refused, f"creating the role {role} in account {account}", reason)
        final = code != seen.code or failures >= MOST_FAILURES
        tried = (entry.applied_at or entry.since) if entry else None
        if asked_for or not final or (tried is not None and not self._within(tried, NEXT_TRY)):
            return msgspec.structs.replace(seen, health=Health.BROKEN)
        return msgspec.structs.replace(seen, health=Health.MANUAL, code=code, guide=guide)

    def _is_stranded(self, operation: str, entry: Entry | None) -> bool:
        if operation:
            return self._ended(operation)
        pending = entry is not None and entry.state == "pending"
        return pending and not self._within(entry.since if entry else None, MEMBER_ROLE.grace)

    def _within(self, moment: datetime | None, limit: timedelta) -> bool:
        return moment is not None and self._now - moment < limit


def _manual(seen: Present, what: str, step: str) -> Present:
    return msgspec.structs.replace(seen, health=Health.MANUAL, detail=what, guide=Guide(what, (step,), TROUBLE_URL))


def moment(value: Any) -> datetime | None:
    """Return a moment in UTC from what boto3 or memory gives; None for nothing."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value) if value else None
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
