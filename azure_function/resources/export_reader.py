"""Reads one export: its live document, its runs and its deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from azure_function import manual_steps
from azure_function.resources.deliveries import LastDelivery
from azure_function.resources.evidence import Evidence
from azure_function.resources.export_calls import ExportCalls
from azure_function.resources.export_document import account_in, is_marked, normal_form, ownership
from azure_function.resources.export_health import FRESH, ExportSnapshot, evaluate_health, runs_of
from azure_function.resources.permissions import Permissions
from azure_function.settings import AzureSettings
from azure_function.targets import FAR, RHYTHM, placement_of, version_order
from shared.errors import Denied, NotFound
from shared.model import Absent, Health, Key, Observation, Ownership, Present, Target
from shared.parsing import parse_time
from shared.runtime.context import RunContext
from shared.staleness import stale_after
from shared.target_state import TargetState


class ExportReader:
    """Reads exports from Cost Management and compares them with what is desired.

    `to_write` holds the live documents of exports that have to be repaired, until the repair has sent them back.
    """

    def __init__(
        self,
        settings: AzureSettings,
        run: RunContext,
        calls: ExportCalls,
        permissions: Permissions,
        evidence: Evidence,
    ) -> None:
        self._settings = settings
        self._run = run
        self._calls = calls
        self._permissions = permissions
        self._evidence = evidence
        self.to_write: dict[Key, Mapping[str, Any]] = {}

    def read(self, target: Target) -> Observation:
        """Read one export in one call, with its runs if deliveries do not show that it works. Raises CloudError."""
        seen = self._evidence.seen(target)
        fresh = seen.at is not None and self._run.clock.now() - seen.at < FRESH
        try:
            live = self._calls.get(target.key, runs=not fresh)
        except NotFound:
            return Absent(("get",), f"there is no export {target.key.name}")
        except Denied as denied:
            raise self._permissions.explained(denied, target.key, target.state) from denied
        return self.compare(target, live, seen)

    def by_delivery(self, target: Target, seen: LastDelivery) -> Present:
        """Return the observation of an export with a fresh delivery, without reading its configuration."""
        entry = target.state
        facts = {**(entry.facts if entry else {}), **self._evidence.facts.get(target.key, {})}
        path = placement_of(target.key).path
        snapshot = ExportSnapshot(target.key.name, (), facts, seen.at, seen.listed_at, None, *self._rhythm(entry), path)
        health = self._with_listing_age(evaluate_health(snapshot, self._run.clock.now()), snapshot)
        # The account is remembered, so that a change of the settings does not move working exports.
        known = {} if seen.account in ("", facts.get("account")) else {"account": seen.account}
        found = {**health.facts, **self._evidence.facts.get(target.key, {}), **known}
        periods = self._evidence.periods(target)
        return msgspec.structs.replace(health, verified=False, facts=found, periods=periods)

    def compare(self, target: Target, live: Mapping[str, Any], seen: LastDelivery) -> Present:
        """Compare an export's live document with the desired fields; `seen` is the evidence from its deliveries."""
        entry = target.state
        news = self._evidence.facts.get(target.key, {})
        facts = {**(entry.facts if entry else {}), **news}
        now, placement = self._run.clock.now(), placement_of(target.key)
        actual = normal_form(live, self._settings, now)
        if "identity" not in target.desired:
            actual.pop("identity")
        whose = ownership(live, actual, placement, facts)
        if whose is Ownership.FOREIGN:
            manual_step = manual_steps.export_foreign(target.key, actual)
            return Present(
                actual, ownership=whose, code="export-foreign", detail=manual_step.what, manual_step=manual_step
            )
        snapshot = ExportSnapshot(
            target.key.name,
            runs_of(live),
            facts,
            seen.at,
            seen.listed_at,
            _since(live, entry),
            *self._rhythm(entry),
            placement.path,
        )
        health = self._with_listing_age(evaluate_health(snapshot, now), snapshot)
        account = account_in(live, self._settings)
        known: dict[str, Any] = {"account": account.name} if account and account.name != facts.get("account") else {}
        if "version" in target.desired and version_order(actual["version"]) > version_order(target.desired["version"]):
            # A person raised the version; it is kept.
            actual["version"] = target.desired["version"]
        types = placement.dataset.types
        if actual["type"] in types and types.index(actual["type"]) < types.index(target.desired["type"]):
            # A preferred type that was refused before is accepted now, so the agreement has changed; it is kept.
            known["type"] = actual["type"]
            actual["type"] = target.desired["type"]
        drifted = any(actual.get(field) != value for field, value in target.desired.items())
        if whose is Ownership.OURS and not facts.get("ours") and not is_marked(live):
            known["ours"] = True
        if not drifted and whose is Ownership.UNMARKED:
            whose = Ownership.OURS  # every field is as desired, so adopting it would change nothing
        if health.health is Health.INACTIVE and (drifted or whose is Ownership.UNMARKED):
            health = Present(delivered_at=health.delivered_at)  # it is repaired first
        if drifted or health.health is Health.BROKEN:
            self.to_write[target.key] = live
        detail = _suspension(live) if "schedule" in target.desired and "Inactive" in str(actual["schedule"]) else ""
        return msgspec.structs.replace(
            health,
            actual=actual,
            ownership=whose,
            detail=detail or health.detail,
            periods=self._evidence.periods(target),
            facts={**health.facts, **news, **known},
            ends=None if actual["until"] == FAR else parse_time(actual["until"]),
        )

    def _with_listing_age(self, health: Present, snapshot: ExportSnapshot) -> Present:
        """Return the health, with the time since the last listing added to the time that silence is allowed."""
        ago = self._run.clock.now() - (snapshot.listed_at or self._run.clock.now())
        return msgspec.structs.replace(health, silent_after=snapshot.stale + ago) if ago else health

    def _rhythm(self, entry: TargetState | None) -> tuple[datetime | None, timedelta]:
        """Return when data last arrived, and how long after that the next delivery is overdue."""
        return entry.delivered_at if entry else None, stale_after(RHYTHM, self._settings.engine, entry)


def _since(live: Mapping[str, Any], entry: TargetState | None) -> datetime | None:
    """Return when the export was last changed, by the state and by Azure."""
    system = live.get("systemData") or {}
    period = ((live.get("properties") or {}).get("schedule") or {}).get("recurrencePeriod") or {}
    times = [parse_time(system.get(name)) for name in ("createdAt", "lastModifiedAt")]
    times += [parse_time(period.get("from")), entry.applied_at if entry else None]
    return max((one for one in times if one is not None), default=None)


def _suspension(live: Mapping[str, Any]) -> str:
    context = (live.get("properties") or {}).get("systemSuspensionContext") or {}
    reason = context.get("suspensionReason") or context.get("suspensionCode")
    return f"its schedule is inactive; Azure suspended it: {reason}" if reason else ""
