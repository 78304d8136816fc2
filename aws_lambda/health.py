"""What an export's own status and its deliveries say of its health."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from aws_lambda.clients import Clients
from aws_lambda.destination import Destination
from aws_lambda.targets import Dataset
from shared.errors import CloudError, RunStopped
from shared.model import Guide, Health, Patience, Present
from shared.run import Run

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
            seen, health=Health.PENDING, code=code, detail=f"created or changed {since:%Y-%m-%d %H:%M} UTC"
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
