"""Evaluate an export's health from its status and its deliveries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from aws_lambda import manual_steps
from aws_lambda.clients import Clients
from aws_lambda.resources.bucket import Bucket
from aws_lambda.resources.deliveries import Delivered
from aws_lambda.targets import Dataset
from shared.errors import CloudError, clean
from shared.model import EscalationPolicy, Health, ManualStep, Present
from shared.parsing import parse_time
from shared.runtime.context import RunContext
from shared.staleness import stale_after
from shared.target_state import LONG_AGO, TargetState

FIRST_DELIVERY = timedelta(hours=24)  # "the first delivery can take up to 24 hours", Data Exports User Guide
REPAIR_SETTLES = timedelta(hours=26)  # exports are refreshed at least daily: by then a repair takes effect
EMPTY_TOLERATED = timedelta(days=3)  # a month that has just started may have no costs yet
MOST_REPAIRS = 3  # of one export within REPAIRS_COUNT; more indicate that another tool or person changes it back
REPAIRS_COUNT = timedelta(hours=24)
FAILURES_ESCALATION = EscalationPolicy(tries=3)
# Facts: the problems of earlier periods, by the period's folder, and the day of the last check.
EARLIER, EARLIER_ON = "earlier", "earlier_on"
TROUBLESHOOTING_URL = "https://docs.aws.amazon.com/cur/latest/userguide/dataexports-troubleshooting.html"


class ExportSnapshot(msgspec.Struct, frozen=True):
    """An export as GetExport returned it (name, ARN, ExportStatus), its dataset, and its remembered facts and state."""

    name: str
    arn: str
    status: Mapping[str, Any]
    dataset: Dataset
    facts: Mapping[str, Any]
    state: TargetState | None = None


class HealthEvaluator:
    """Evaluates status and deliveries of exports; reads the executions only of an overdue or unhealthy one."""

    def __init__(self, clients: Clients, run: RunContext, bucket: Bucket) -> None:
        self._clients = clients
        self._run = run
        self._bucket = bucket

    def evaluate(self, snapshot: ExportSnapshot, delivered: Delivered | None) -> Present:
        """Return the observation without managed fields; `delivered` is None if deliveries could not be listed."""
        if str(snapshot.status.get("StatusCode", "HEALTHY")) != "HEALTHY":
            return self._unhealthy(snapshot, delivered.at if delivered else None)
        seen = self._delivery(snapshot, delivered) if delivered else Present()
        # A healthy export's last repair is forgotten, so that a later incident gets its own repair.
        settled = {"repaired_at": ""} if snapshot.facts.get("repaired_at") else {}
        return msgspec.structs.replace(seen, facts={**settled, **seen.facts})

    def with_surroundings(
        self, snapshot: ExportSnapshot, observation: Present, drifted: Sequence[str], unread: CloudError | None
    ) -> Present:
        """Return the observation of an owned export with problems that its own status does not show.

        These are changes that revert each repair, the bucket's lifecycle rules and retention, and deliveries that could
        not be listed for the error `unread`. `drifted` are the managed fields that differ: they are repaired before
        other problems are reported.
        """
        harm, remembered = self._bucket.retention(snapshot.facts)
        observation = msgspec.structs.replace(observation, facts={**remembered, **observation.facts})
        repairs = self.repairs(snapshot.facts)
        if drifted and len(repairs) >= MOST_REPAIRS:
            manual_step = manual_steps.export_contested(snapshot.name, snapshot.arn, drifted, len(repairs))
            return _with_step(observation, Health.MANUAL, "export-contested", manual_step)
        if drifted or observation.health not in (Health.HEALTHY, Health.PENDING):
            return observation
        harm = self._bucket.harm or harm
        if harm is not None:
            return _with_step(observation, Health.MANUAL, *harm)
        if unread is not None:
            manual_step = manual_steps.deliveries_unread(
                self._bucket.name, snapshot.name, unread.message, unread.remedy
            )
            observation = _with_step(observation, Health.WAITING, "deliveries-unread", manual_step)
            return msgspec.structs.replace(observation, escalation=EscalationPolicy(tries=3))
        return observation

    def repairs(self, facts: Mapping[str, Any]) -> list[str]:
        """Return the times of the export's repairs within the last day, oldest first."""
        now, known = self._run.clock.now(), facts.get("repairs")
        times = known if isinstance(known, list) else []
        return [one for one in times if (at := parse_time(one)) is not None and now - at < REPAIRS_COUNT][
            -MOST_REPAIRS:
        ]

    def _unhealthy(self, snapshot: ExportSnapshot, delivered: datetime | None) -> Present:
        """Return the observation by words in AWS's reason, since AWS adds reasons without notice."""
        reason = clean(str(snapshot.status.get("StatusReason", ""))) or "no reason given"
        code = "unhealthy-" + reason.lower().replace("_", "-").replace(" ", "-")
        detail = f"AWS reports {snapshot.status.get('StatusCode')}: {reason}"
        seen, what = Present(code=code, detail=detail, delivered_at=delivered), f"export {snapshot.name}"
        words = set(reason.split("_"))
        if words & {"PERMISSION", "PERMISSIONS", "DENIED", "BUCKET", "KMS", "KEY"}:
            manual_step = manual_steps.bucket_permission(
                self._bucket.name, f"{what}: {detail}", self._bucket.suspects, self._bucket.key
            )
            return self._repairable(seen, snapshot, manual_step, lost=bool(self._bucket.statement_missing))
        if words & {"SCHEMA", "COLUMN", "COLUMNS", "QUERY"}:
            # Writing the export again selects the columns that the table has today.
            manual_step = manual_steps.export_recreate(
                f"{what} selects columns that its table no longer has: {detail}", snapshot.name, snapshot.arn
            )
            return self._repairable(seen, snapshot, manual_step, lost=False)
        if words & {"OWNER", "PAYER"}:
            manual_step = manual_steps.export_recreate(
                f"{what} belongs to a former management account and no longer delivers: {detail}",
                snapshot.name,
                snapshot.arn,
            )
        elif words & {"DEPRECATED", "TABLE"}:
            manual_step = manual_steps.export_recreate(
                f"{what} uses a table or feature that AWS has retired: {detail}", snapshot.name, snapshot.arn
            )
        elif words & {"SIZE", "LARGE", "LIMIT"}:
            manual_step = ManualStep(
                f"{what} exceeds the size that AWS delivers: {detail}",
                (f"{SUPPORT} {snapshot.arn}.",),
                TROUBLESHOOTING_URL,
            )
        else:
            last = self._last_execution(snapshot)
            manual_step = ManualStep(
                f"{what} repeatedly fails inside AWS: {detail}{last}",
                (f"{SUPPORT} {snapshot.arn}.",),
                TROUBLESHOOTING_URL,
            )
            return msgspec.structs.replace(
                seen,
                health=Health.WAITING,
                manual_step=manual_step,
                escalation=FAILURES_ESCALATION,
                detail=detail + last,
            )
        return msgspec.structs.replace(seen, health=Health.MANUAL, detail=manual_step.what, manual_step=manual_step)

    def _repairable(self, seen: Present, snapshot: ExportSnapshot, manual_step: ManualStep, *, lost: bool) -> Present:
        """Return the observation of a problem that one repair may fix; the next refresh shows whether it did."""
        repaired = parse_time(snapshot.facts.get("repaired_at"))
        if lost or repaired is None:
            return msgspec.structs.replace(seen, health=Health.BROKEN)
        if self._run.clock.now() - repaired < REPAIR_SETTLES:
            detail = (
                f"{seen.detail}; repaired {repaired:%Y-%m-%d %H:%M} UTC; the next refresh shows whether that helped"
            )
            return msgspec.structs.replace(seen, health=Health.WAITING, detail=detail)
        return msgspec.structs.replace(seen, health=Health.MANUAL, detail=manual_step.what, manual_step=manual_step)

    def _delivery(self, snapshot: ExportSnapshot, delivered: Delivered) -> Present:
        now = self._run.clock.now()
        seen = Present(delivered_at=delivered.at)
        begun = [parse_time(snapshot.status.get(name)) for name in ("CreatedAt", "LastUpdatedAt")]
        since = max((one for one in (*begun, delivered.at) if one), default=now)
        if now - since >= stale_after(snapshot.dataset.stale_after, self._run.settings, snapshot.state):
            last = self._last_execution(snapshot)
            last_time = f"since {delivered.at:%Y-%m-%d %H:%M} UTC" if delivered.at else "so far"
            what = f"AWS reports export {snapshot.name} as HEALTHY, but delivered nothing {last_time}{last}"
            return _manual(msgspec.structs.replace(seen, code="nothing-delivered"), what, snapshot)
        if delivered.at:
            return self._contents(snapshot, delivered, seen)
        late = now - since >= FIRST_DELIVERY
        code = "first-delivery-late" if late else "first-delivery"
        return msgspec.structs.replace(
            seen,
            health=Health.PENDING,
            code=code,
            detail=f"created or changed {since:%Y-%m-%d %H:%M} UTC",
            first_data=True,
        )

    def _contents(self, snapshot: ExportSnapshot, delivered: Delivered, seen: Present) -> Present:
        """Return the observation of the newest delivery by the files that its manifest lists.

        While a delivery overwrites the previous one, the old manifest lists files that no longer exist. Files that are
        still missing after a whole refresh become a manual step.
        """
        facts: dict[str, Any] = {"manifests": dict(delivered.compared), "empty_since": ""}
        earlier = {**snapshot.facts.get(EARLIER, {}), **delivered.older}
        if delivered.older:
            earlier = {folder: lacks for folder, lacks in sorted(earlier.items()) if lacks}
            facts |= {EARLIER: earlier, EARLIER_ON: f"{self._run.clock.now():%Y-%m-%d}"}
        lost = _lost(delivered)
        if lost:
            code, found = lost
            what = f"export {snapshot.name}: {found}"
            steps = (
                "Check CloudTrail data events and lifecycle rules: something deletes or overwrites objects.",
                f"{SUPPORT} {snapshot.arn}.",
            )
            return msgspec.structs.replace(
                seen,
                health=Health.WAITING,
                code=code,
                detail=what,
                manual_step=ManualStep(what, steps, TROUBLESHOOTING_URL),
                escalation=EscalationPolicy(longest=REPAIR_SETTLES),
            )
        if not delivered.empty:
            known = {name: snapshot.facts.get(name, type(fact)()) for name, fact in facts.items()}
            seen = msgspec.structs.replace(seen, facts={} if known == facts else facts)
            return self._with_earlier(seen, snapshot, earlier) if earlier else seen
        now = self._run.clock.now()
        begun = parse_time(snapshot.facts.get("empty_since")) or now
        what = (
            f"export {snapshot.name} has delivered no rows since {begun:%Y-%m-%d %H:%M} UTC: no files, or only headers"
        )
        seen = msgspec.structs.replace(
            seen, code="delivery-empty", detail=what, facts={**facts, "empty_since": begun.isoformat()}
        )
        if now - begun < EMPTY_TOLERATED:
            return msgspec.structs.replace(
                seen, health=Health.PENDING, escalation=EscalationPolicy(longest=EMPTY_TOLERATED)
            )
        steps = (
            "Check in Cost Explorer whether the account has costs this month; without costs, AWS delivers no rows.",
            f"If it has costs, {SUPPORT[0].lower()}{SUPPORT[1:]} {snapshot.arn}.",
        )
        return msgspec.structs.replace(
            seen, health=Health.MANUAL, manual_step=ManualStep(what, steps, TROUBLESHOOTING_URL)
        )

    def _with_earlier(self, seen: Present, snapshot: ExportSnapshot, earlier: Mapping[str, str]) -> Present:
        """Return the observation of an export whose earlier periods lack files: AWS does not deliver them again."""
        periods = [folder.removeprefix("BILLING_PERIOD=") for folder in earlier]
        folder, lacks = next(iter(earlier.items()))
        what = (
            f"export {snapshot.name}: files of {', '.join(periods[:6])} changed after they were delivered; "
            f"{folder}: {lacks}"
        )
        steps = (
            "Check CloudTrail data events and lifecycle rules for the cause, and restore the files from a copy.",
            f"Without a copy, request the periods from AWS again: {SUPPORT[0].lower()}{SUPPORT[1:]} {snapshot.arn}.",
            "If they were deleted on purpose, also delete their manifests below metadata/.",
        )
        manual_step = ManualStep(what, steps, TROUBLESHOOTING_URL)
        return msgspec.structs.replace(
            seen, health=Health.MANUAL, code="period-incomplete", detail=what, manual_step=manual_step
        )

    def _last_execution(self, snapshot: ExportSnapshot) -> str:
        """Return the result of the newest execution, or why it could not be read, as a clause for a message."""
        found: list[tuple[datetime, str]] = []
        token: dict[str, Any] = {}
        try:
            while True:
                page = self._run.calls(
                    "bcm-data-exports", self._clients.exports.list_executions, ExportArn=snapshot.arn, **token
                )
                for one in page.get("Executions", []):
                    status = one["ExecutionStatus"]
                    outcome = " ".join(filter(None, (status.get("StatusCode"), status.get("StatusReason"))))
                    found.append((parse_time(status.get("CreatedAt")) or LONG_AGO, outcome))
                if not page.get("NextToken"):
                    break
                token = {"NextToken": page["NextToken"]}
        except CloudError as error:
            what = f"the executions of export {snapshot.name} could not be read: {error.message}"
            self._run.log("warning", "detail-unread", code=error.code, reason=what)
            return f"; its executions could not be read ({error.code})"
        return f"; last execution: {max(found)[1]}" if found else "; it was never executed"


SUPPORT = "Open an AWS Support case for Data Exports with the last execution and the export's ARN"


def _lost(delivered: Delivered) -> tuple[str, str] | None:
    """Return code and description of a problem with the delivered files, None if they are complete."""
    if delivered.missing:
        example = ", ".join(delivered.missing[:3])
        return "delivery-incomplete", f"{len(delivered.missing)} files that manifests list are missing: {example}"
    if delivered.shorter:
        return "delivery-incomplete", f"files are smaller than when they were delivered: {'; '.join(delivered.shorter)}"
    if delivered.unreadable:
        return "manifest-unreadable", f"its newest manifest cannot be read: {delivered.unreadable}"
    return None


def _with_step(seen: Present, health: Health, code: str, manual_step: ManualStep) -> Present:
    return msgspec.structs.replace(seen, health=health, code=code, detail=manual_step.what, manual_step=manual_step)


def _manual(seen: Present, what: str, snapshot: ExportSnapshot) -> Present:
    manual_step = ManualStep(what, (f"{SUPPORT} {snapshot.arn}.",), TROUBLESHOOTING_URL)
    return msgspec.structs.replace(seen, health=Health.MANUAL, detail=what, manual_step=manual_step)
