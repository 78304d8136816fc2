"""What an export's status and deliveries say of its health, and a stack instance's status of the role it made."""

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
REPAIR_SETTLES = timedelta(hours=26)  # exports are refreshed at least daily: by then a repair must show
EMPTY_TOLERATED = timedelta(days=3)  # a month that has just begun may have no costs yet
MOST_REPAIRS = 3  # of one export within REPAIRS_COUNT; after these, another tool or person sets it on purpose
REPAIRS_COUNT = timedelta(hours=24)
FAILURES_ESCALATION = EscalationPolicy(tries=3)
# Facts: what the files of earlier periods lack, by the period's folder, and the day on which one was last looked at.
EARLIER, EARLIER_ON = "earlier", "earlier_on"
TROUBLE_URL = "https://docs.aws.amazon.com/cur/latest/userguide/dataexports-troubleshooting.html"


class ExportSnapshot(msgspec.Struct, frozen=True):
    """An export as it was read: name, ARN, ExportStatus, its dataset, and what is remembered of it."""

    name: str
    arn: str
    status: Mapping[str, Any]
    dataset: Dataset
    facts: Mapping[str, Any]
    entry: TargetState | None = None


class HealthEvaluator:
    """Turns status and deliveries into health; reads executions only where something is overdue."""

    def __init__(self, clients: Clients, run: RunContext, bucket: Bucket) -> None:
        self._clients = clients
        self._run = run
        self._bucket = bucket

    def health(self, snapshot: ExportSnapshot, delivered: Delivered | None) -> Present:
        """Return the health, without the managed fields. `delivered` is None where deliveries could not be listed."""
        if str(snapshot.status.get("StatusCode", "HEALTHY")) != "HEALTHY":
            return self._unhealthy(snapshot, delivered.at if delivered else None)
        seen = self._delivery(snapshot, delivered) if delivered else Present()
        # A new incident is to get its own repair: the last one is forgotten when all is well again.
        settled = {"repaired_at": ""} if snapshot.facts.get("repaired_at") else {}
        return msgspec.structs.replace(seen, facts={**settled, **seen.facts})

    def despite_health(
        self, snapshot: ExportSnapshot, judged: Present, drifted: Sequence[str], unread: CloudError | None
    ) -> Present:
        """Return the health of an export of ours with what its own status does not say.

        `drifted` are the managed fields that differ: what the function can repair is repaired first, unless it is
        changed back each time. `unread` is why its deliveries could not be listed, if so.
        """
        harm, remembered = self._bucket.retention(snapshot.facts)
        judged = msgspec.structs.replace(judged, facts={**remembered, **judged.facts})
        repairs = self.repairs(snapshot.facts)
        if drifted and len(repairs) >= MOST_REPAIRS:
            manual_step = manual_steps.export_contested(snapshot.name, snapshot.arn, drifted, len(repairs))
            return _with_step(judged, Health.MANUAL, "export-contested", manual_step)
        if drifted or judged.health not in (Health.HEALTHY, Health.PENDING):
            return judged
        harm = self._bucket.harm or harm
        if harm is not None:
            return _with_step(judged, Health.MANUAL, *harm)
        if unread is not None:
            manual_step = manual_steps.deliveries_unread(
                self._bucket.name, snapshot.name, unread.message, unread.remedy
            )
            judged = _with_step(judged, Health.WAITING, "deliveries-unread", manual_step)
            return msgspec.structs.replace(judged, escalation=EscalationPolicy(tries=3))
        return judged

    def repairs(self, facts: Mapping[str, Any]) -> list[str]:
        """Return when the export was repaired within the last day, oldest first."""
        now, known = self._run.clock.now(), facts.get("repairs")
        times = known if isinstance(known, list) else []
        return [one for one in times if (at := parse_time(one)) is not None and now - at < REPAIRS_COUNT][
            -MOST_REPAIRS:
        ]

    def _unhealthy(self, snapshot: ExportSnapshot, delivered: datetime | None) -> Present:
        """HealthEvaluator by the words of AWS's reason, since new reasons come without notice."""
        reason = clean(str(snapshot.status.get("StatusReason", ""))) or "no reason given"
        code = "unhealthy-" + reason.lower().replace("_", "-").replace(" ", "-")
        detail = f"AWS says {snapshot.status.get('StatusCode')}: {reason}"
        seen, what = Present(code=code, detail=detail, delivered_at=delivered), f"export {snapshot.name}"
        words = set(reason.split("_"))
        if words & {"PERMISSION", "PERMISSIONS", "DENIED", "BUCKET", "KMS", "KEY"}:
            manual_step = manual_steps.bucket_permission(
                self._bucket.name, f"{what}: {detail}", self._bucket.suspects, self._bucket.key
            )
            return self._repairable(seen, snapshot, manual_step, lost=bool(self._bucket.statement_missing))
        if words & {"SCHEMA", "COLUMN", "COLUMNS", "QUERY"}:
            # Writing the export again asks for the table's columns as they are today.
            manual_step = manual_steps.export_recreate(
                f"{what} asks for what its table no longer has: {detail}", snapshot.name, snapshot.arn
            )
            return self._repairable(seen, snapshot, manual_step, lost=False)
        if words & {"OWNER", "PAYER"}:
            manual_step = manual_steps.export_recreate(
                f"{what} belongs to a former payer, and delivers nothing more: {detail}", snapshot.name, snapshot.arn
            )
        elif words & {"DEPRECATED", "TABLE"}:
            manual_step = manual_steps.export_recreate(
                f"{what} uses what AWS has retired: {detail}", snapshot.name, snapshot.arn
            )
        elif words & {"SIZE", "LARGE", "LIMIT"}:
            manual_step = ManualStep(
                f"{what} is too large for AWS to deliver: {detail}", (f"{SUPPORT} {snapshot.arn}.",), TROUBLE_URL
            )
        else:
            last = self._last_execution(snapshot)
            manual_step = ManualStep(
                f"{what} keeps failing inside AWS: {detail}{last}", (f"{SUPPORT} {snapshot.arn}.",), TROUBLE_URL
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
        """HealthEvaluator what writing the export again may cure: once, then the next refresh has to show it."""
        repaired = parse_time(snapshot.facts.get("repaired_at"))
        if lost or repaired is None:
            return msgspec.structs.replace(seen, health=Health.BROKEN)
        if self._run.clock.now() - repaired < REPAIR_SETTLES:
            detail = f"{seen.detail}; repaired {repaired:%Y-%m-%d %H:%M} UTC, the next refresh will show it"
            return msgspec.structs.replace(seen, health=Health.WAITING, detail=detail)
        return msgspec.structs.replace(seen, health=Health.MANUAL, detail=manual_step.what, manual_step=manual_step)

    def _delivery(self, snapshot: ExportSnapshot, delivered: Delivered) -> Present:
        now = self._run.clock.now()
        seen = Present(delivered_at=delivered.at)
        begun = [parse_time(snapshot.status.get(name)) for name in ("CreatedAt", "LastUpdatedAt")]
        since = max((one for one in (*begun, delivered.at) if one), default=now)
        if now - since >= stale_after(snapshot.dataset.stale_after, self._run.settings, snapshot.entry):
            last = self._last_execution(snapshot)
            since_text = f"since {delivered.at:%Y-%m-%d %H:%M} UTC" if delivered.at else "yet"
            what = f"export {snapshot.name} says HEALTHY, but nothing was delivered {since_text}{last}"
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
        """HealthEvaluator the newest delivery by the files that its manifest names.

        While a delivery overwrites the one before, the manifest of that one names files that are gone: only what a
        whole refresh later is still missing is a person's business.
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
                "See who or what deletes or writes objects in the bucket: CloudTrail data events, lifecycle rules.",
                f"{SUPPORT} {snapshot.arn}.",
            )
            return msgspec.structs.replace(
                seen,
                health=Health.WAITING,
                code=code,
                detail=what,
                manual_step=ManualStep(what, steps, TROUBLE_URL),
                escalation=EscalationPolicy(longest=REPAIR_SETTLES),
            )
        if not delivered.empty:
            known = {name: snapshot.facts.get(name, type(fact)()) for name, fact in facts.items()}
            seen = msgspec.structs.replace(seen, facts={} if known == facts else facts)
            return self._with_earlier(seen, snapshot, earlier) if earlier else seen
        now = self._run.clock.now()
        begun = parse_time(snapshot.facts.get("empty_since")) or now
        what = f"export {snapshot.name} delivers no rows since {begun:%Y-%m-%d %H:%M} UTC: no files, or headings alone"
        seen = msgspec.structs.replace(
            seen, code="delivery-empty", detail=what, facts={**facts, "empty_since": begun.isoformat()}
        )
        if now - begun < EMPTY_TOLERATED:
            return msgspec.structs.replace(
                seen, health=Health.PENDING, escalation=EscalationPolicy(longest=EMPTY_TOLERATED)
            )
        steps = (
            "See in Cost Explorer whether the account has costs this month; an account without any delivers no rows.",
            f"If it has, {SUPPORT[0].lower()}{SUPPORT[1:]} {snapshot.arn}.",
        )
        return msgspec.structs.replace(seen, health=Health.MANUAL, manual_step=ManualStep(what, steps, TROUBLE_URL))

    def _with_earlier(self, seen: Present, snapshot: ExportSnapshot, earlier: Mapping[str, str]) -> Present:
        """Return the observation of an export whose earlier periods lack files; AWS does not deliver those again."""
        periods = [folder.removeprefix("BILLING_PERIOD=") for folder in earlier]
        folder, lacks = next(iter(earlier.items()))
        what = (
            f"export {snapshot.name}: files of {', '.join(periods[:6])} changed after they were delivered; "
            f"{folder}: {lacks}"
        )
        steps = (
            "See who or what deleted or changed them: CloudTrail data events, lifecycle rules. Restore them by a copy.",
            f"Without one, ask AWS to deliver the periods again: {SUPPORT[0].lower()}{SUPPORT[1:]} {snapshot.arn}.",
            "If they are to go, delete their manifests below metadata/ as well: then nothing is missed.",
        )
        manual_step = ManualStep(what, steps, TROUBLE_URL)
        return msgspec.structs.replace(
            seen, health=Health.MANUAL, code="period-incomplete", detail=what, manual_step=manual_step
        )

    def _last_execution(self, snapshot: ExportSnapshot) -> str:
        """Return what became of the newest execution, or why it cannot be read, as the end of a sentence."""
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
            what = f"executions of export {snapshot.name}: {error.message}"
            self._run.log("warning", "detail-unread", code=error.code, reason=what)
            return f"; its executions could not be read ({error.code})"
        return f"; last execution: {max(found)[1]}" if found else "; it was never executed"


SUPPORT = "Open an AWS Support case for Data Exports, with the last execution and the export's ARN"


def _lost(delivered: Delivered) -> tuple[str, str] | None:
    """Return what is wrong with the delivered files, by code and in words; None where they are as they should be."""
    if delivered.missing:
        example = ", ".join(delivered.missing[:3])
        return "delivery-incomplete", f"{len(delivered.missing)} files that manifests name are missing: {example}"
    if delivered.shorter:
        return "delivery-incomplete", f"files have lost bytes since they were delivered: {'; '.join(delivered.shorter)}"
    if delivered.unreadable:
        return "manifest-unreadable", f"its newest manifest cannot be read: {delivered.unreadable}"
    return None


def _with_step(judged: Present, health: Health, code: str, manual_step: ManualStep) -> Present:
    return msgspec.structs.replace(judged, health=health, code=code, detail=manual_step.what, manual_step=manual_step)


def _manual(seen: Present, what: str, snapshot: ExportSnapshot) -> Present:
    manual_step = ManualStep(what, (f"{SUPPORT} {snapshot.arn}.",), TROUBLE_URL)
    return msgspec.structs.replace(seen, health=Health.MANUAL, detail=what, manual_step=manual_step)
