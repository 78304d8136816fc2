"""The exports: looked at where needed, created in one call where Azure protects what exists, never taken away."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from azure_function import manual_steps
from azure_function.clients import ARM_READ, Clients
from azure_function.errors import (
    DESTINATION_UNREGISTERED,
    ETAG,
    NO_DATA_YET,
    PRECONDITION,
    SOURCE_UNREGISTERED,
    namespace_of,
)
from azure_function.resources.deliveries import Seen
from azure_function.resources.export_calls import ExportCalls, Put
from azure_function.resources.export_document import (
    Wanted,
    account_in,
    is_marked,
    normal,
    ownership,
)
from azure_function.resources.export_health import FRESH, Sight, judged, runs_of
from azure_function.resources.permissions import Permissions
from azure_function.resources.registration import Registration
from azure_function.settings import AzureSettings, Storage
from azure_function.targets import (
    EXPORTS_PROVIDER,
    RHYTHM,
    VERSIONS,
    account_of,
    place_of,
    version_order,
)
from shared.errors import CloudError, Denied, Manual, NotApplicable, NotFound, Permanent, Transient
from shared.model import Absent, Action, Health, Key, Observation, Ownership, Present, Target, Verb
from shared.parsing import mapping, parse_time
from shared.provider import Applied
from shared.runtime.context import RunContext
from shared.staleness import stale_after
from shared.target_state import TargetState

# "Supported Microsoft Azure offers", Cost Management: the quota ids of those that it never has data for.
WITHOUT_COSTS = frozenset({"Sponsored_2016-01-01", "AzureForStudents_2018-01-01", "DreamSpark_2015-02-01"})
UNSEEN = "create-refuses-overwrite"  # the proof of Absent where a refusal will tell if it was wrong


class Exports:
    """Observes and writes the export targets of one run."""

    def __init__(
        self,
        settings: AzureSettings,
        clients: Clients,
        run: RunContext,
        calls: ExportCalls,
        registration: Registration,
        permissions: Permissions,
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._calls = calls
        self._registration = registration
        self._permissions = permissions
        self._probing = threading.Lock()
        self._protected: bool | None = (
            None  # whether Azure refuses to overwrite without an eTag; None until it was seen
        )
        self.news: dict[Key, dict[str, Any]] = {}  # what this run has read in manifests, as facts
        self._to_write: dict[Key, Mapping[str, Any]] = {}  # live documents, until their repair has sent them back

    def observe(self, target: Target, seen: Seen) -> Observation:
        """Look at one export: one call, with its runs where deliveries do not show that it works. Raises CloudError."""
        fresh = seen.at is not None and self._run.clock.now() - seen.at < FRESH
        try:
            live = self._calls.get(target.key, runs=not fresh)
        except NotFound:
            return Absent(("get",), f"there is no export {target.key.name}")
        except Denied as denied:
            raise self._explained(denied, target.key, target.state) from denied
        return self._present(target, live, target.state, seen)

    def by_delivery(self, target: Target, seen: Seen) -> Present:
        """Return what a fresh delivery alone shows of an export; its configuration is not read."""
        entry = target.state
        facts = {**(entry.facts if entry else {}), **self.news.get(target.key, {})}
        path = place_of(target.key).path
        sight = Sight(target.key.name, (), facts, seen.at, seen.listed_at, None, *self._rhythm(entry), path)
        health = self._as_listed(judged(sight, self._run.clock.now()), sight)
        # Where it is delivered to is remembered, so that another account in the settings moves nothing that works.
        known = {} if seen.account in ("", facts.get("account")) else {"account": seen.account}
        found = {**health.facts, **self.news.get(target.key, {}), **known}
        return msgspec.structs.replace(health, verified=False, facts=found)

    def _as_listed(self, health: Present, sight: Sight) -> Present:
        """Return the health with the time that has passed since deliveries were listed: it is no silence."""
        ago = self._run.clock.now() - (sight.listed_at or self._run.clock.now())
        return msgspec.structs.replace(health, silent_after=sight.stale + ago) if ago else health

    def _rhythm(self, entry: TargetState | None) -> tuple[datetime | None, timedelta]:
        """Return when data last came, and how long after that the next is overdue."""
        return entry.delivered_at if entry else None, stale_after(RHYTHM, self._settings.engine, entry)

    def apply(self, action: Action) -> Applied:
        """Create, repair or adopt one export. Raises CloudError."""
        key, entry = action.target.key, action.target.state
        try:
            if action.verb is Verb.CREATE:
                return self._create(action, entry)
            live = self._to_write.pop(key, None)
            return self._repair(action, live or self._calls.get(key), entry)
        except Denied as denied:
            raise self._explained(denied, key, entry) from denied
        except NotFound as error:
            remedy = (
                "Nothing at first: the next run creates the export again. If it lasts, Azure's text names what is "
                "missing: the scope, the export or the storage account that it delivers to."
            )
            raise Transient("export-vanished", error.message, remedy, within_run=False) from error
        except Transient as error:
            self._register(error, key, account_of(key, entry, self._settings))
            self._check_offer(error, key)
            raise

    def _present(self, target: Target, live: Mapping[str, Any], entry: TargetState | None, seen: Seen) -> Present:
        news = self.news.get(target.key, {})
        facts = {**(entry.facts if entry else {}), **news}
        now, place = self._run.clock.now(), place_of(target.key)
        actual = normal(live, self._settings, now)
        if "identity" not in target.desired:
            actual.pop("identity")
        whose = ownership(live, actual, place, facts)
        if whose is Ownership.FOREIGN:
            manual_step = manual_steps.export_foreign(target.key, actual)
            return Present(
                actual, ownership=whose, code="export-foreign", detail=manual_step.what, manual_step=manual_step
            )
        sight = Sight(
            target.key.name,
            runs_of(live),
            facts,
            seen.at,
            seen.listed_at,
            _since(live, entry),
            *self._rhythm(entry),
            place.path,
        )
        health = self._as_listed(judged(sight, now), sight)
        account = account_in(live, self._settings)
        known: dict[str, Any] = {"account": account.name} if account and account.name != facts.get("account") else {}
        if "version" in target.desired and version_order(actual["version"]) > version_order(target.desired["version"]):
            # A person raised it, and is not put back.
            actual["version"] = target.desired["version"]
        types = place.dataset.types
        if actual["type"] in types and types.index(actual["type"]) < types.index(target.desired["type"]):
            # A preferred type that was refused once is accepted now: the agreement has changed, so it is kept.
            known["type"] = actual["type"]
            actual["type"] = target.desired["type"]
        drifted = any(actual.get(field) != value for field, value in target.desired.items())
        if whose is Ownership.OURS and not facts.get("ours") and not is_marked(live):
            known["ours"] = True
        if not drifted and whose is Ownership.UNMARKED:
            whose = Ownership.OURS  # as wanted in every field: there is nothing that adopting would change
        if health.health is Health.INACTIVE and (drifted or whose is Ownership.UNMARKED):
            health = Present(delivered_at=health.delivered_at)  # first it is made what it should be
        if drifted or health.health is Health.BROKEN:
            self._to_write[target.key] = live
        detail = _suspension(live) if "schedule" in target.desired and "Inactive" in str(actual["schedule"]) else ""
        return msgspec.structs.replace(
            health,
            actual=actual,
            ownership=whose,
            detail=detail or health.detail,
            facts={**health.facts, **news, **known},
        )

    def _create(self, action: Action, entry: TargetState | None) -> Applied:
        seen = action.observation
        proven = isinstance(seen, Absent) and UNSEEN not in seen.proof
        if proven:
            return self._create_now(action, entry)
        if not self._is_decided():
            with self._probing:
                if not self._is_decided():
                    return self._look_then_create(action, entry, probe=True)
        if self._protected:
            return self._create_now(action, entry)
        return self._look_then_create(action, entry, probe=False)

    def _is_decided(self) -> bool:
        return self._protected is not None

    def _look_then_create(self, action: Action, entry: TargetState | None, *, probe: bool) -> Applied:
        try:
            live = self._calls.get(action.target.key)
        except NotFound:
            return self._create_now(action, entry, probe=probe)
        return self._take_over(action, live, entry)

    def _create_now(self, action: Action, entry: TargetState | None, *, probe: bool = False) -> Applied:
        key = action.target.key
        account = account_of(key, entry, self._settings)
        try:
            put = self._calls.put(key, _wanted(action.target), account, None)
        except Permanent as error:
            if error.code != ETAG:
                raise
            # The refusal is the proof that it exists: it is looked at, adopted if ours, reported if foreign. It shows
            # as well what the probe is to show.
            self._protected = True
            return self._take_over(action, self._calls.get(key), entry)
        facts = self._facts(put, account, key, entry)
        if not put.created:
            # It existed, unseen, and Azure let it be overwritten: nothing more is created unseen in this run.
            self._protected = False
            return Applied(message=self._overwritten(key), facts=facts)
        if probe:
            self._probe(key, put, account)
        elif not self._is_decided() and self._probing.acquire(blocking=False):
            try:
                self._probe(key, put, account)
            finally:
                self._probing.release()
        return Applied(facts=facts)

    def _probe(self, key: Key, put: Put, account: Storage) -> None:
        """Send the export just made once more, without an eTag: a refusal shows that Azure protects what exists."""
        try:
            self._calls.put(key, put.taken, account, None)
        except Permanent as error:
            self._protected = error.code == ETAG
        except CloudError as error:
            # Nothing is known, and the next creation asks again.
            self._skip(error, "whether Azure refuses to overwrite an export that exists", key)
        else:
            self._protected = False

    def _take_over(self, action: Action, live: Mapping[str, Any], entry: TargetState | None) -> Applied:
        """An export of our name exists: adopt it, repaired where it differs. Raises Manual where it is foreign."""
        target = action.target
        seen = self._present(target, live, entry, Seen())
        self._to_write.pop(target.key, None)
        if seen.ownership is Ownership.FOREIGN and seen.manual_step:
            raise Manual(seen.code, seen.manual_step)
        facts = dict(seen.facts)
        if any(seen.actual.get(field) != value for field, value in target.desired.items()):
            applied = self._repair(action, live, entry)
            return Applied(message="it existed already and was repaired", facts={**facts, **applied.facts})
        return Applied(message="it existed already", facts=facts)

    def _repair(self, action: Action, live: Mapping[str, Any], entry: TargetState | None) -> Applied:
        key, facts = action.target.key, dict[str, Any]()
        seen = action.observation
        broken = isinstance(seen, Present) and seen.health is Health.BROKEN
        if action.changes or not broken:
            account = account_in(live, self._settings) or account_of(key, entry, self._settings)
            try:
                put = self._calls.put(key, _wanted(action.target), account, live)
            except Permanent as error:
                if error.code not in (ETAG, PRECONDITION):
                    raise
                # Somebody changed it in between: what is there now is read, and our fields are put into that.
                put = self._calls.put(key, _wanted(action.target), account, self._calls.get(key))
            facts = self._facts(put, account, key, entry)
        if broken:
            self._calls.execute(key)
            facts["executed_at"] = self._run.clock.now().isoformat()
        return Applied(facts=facts)

    def _facts(self, put: Put, account: Storage, key: Key, entry: TargetState | None) -> dict[str, Any]:
        """Return what to remember of a write: no more than what differs from what an export is by default."""
        facts: dict[str, Any] = {"account": account.name}
        if put.taken.kind != place_of(key).dataset.types[0] or (entry and entry.facts.get("type")):
            facts["type"] = put.taken.kind
        asked = self._settings.focus_version
        if put.taken.version and put.taken.version != asked:
            facts[VERSIONS] = {asked: put.taken.version}
        return facts | ({"executed_at": ""} if entry and entry.facts.get("executed_at") else {})

    def _explained(self, denied: Denied, key: Key, entry: TargetState | None) -> Denied:
        """Return the refusal as it is while rights may still be spreading, with its reason and step afterwards."""
        waiting = entry.waiting_since if entry else None
        if denied.escalation is None or waiting is None:
            return denied
        if not denied.escalation.exhausted(self._run.clock.now() - waiting, (entry.attempts if entry else 0) + 1):
            return denied
        return self._permissions.explained(denied, place_of(key), key.name)

    def _register(self, error: Transient, key: Key, account: Storage) -> None:
        """Ask for the registration that a refusal asks for. Raises Manual where the function may not."""
        if error.code == DESTINATION_UNREGISTERED:
            self._registration.register(account.subscription, EXPORTS_PROVIDER)
        elif error.code == SOURCE_UNREGISTERED and not key.scope.startswith("/"):
            self._registration.register(key.scope, namespace_of(error))

    def _check_offer(self, error: Transient, key: Key) -> None:
        """Look whether a subscription without cost data has an offer that never has any. Raises NotApplicable then."""
        if error.code != NO_DATA_YET or key.scope.startswith("/"):
            return
        get: Any = self._clients.subscriptions.subscriptions.get
        try:
            policies = mapping(self._run.calls(ARM_READ, get, key.scope).get("subscriptionPolicies"))
        except CloudError as failed:
            # The offer is only a hint: without it the wait for data goes on.
            self._skip(failed, "the offer of the subscription", key)
            return
        offer = str(policies.get("quotaId", ""))
        if offer in WITHOUT_COSTS:
            message = f"Cost Management does not support the offer {offer}: {error.message}"
            raise NotApplicable("offer-unsupported", message) from error

    def _skip(self, error: CloudError, what: str, key: Key) -> None:
        self._run.log("warning", "detail-unread", key, code=error.code, reason=f"not known: {what}: {error.message}")

    def _overwritten(self, key: Key) -> str:
        """Look at what a creation has overwritten, for the report."""
        message = f"export {key.name} existed unseen, and Azure overwrote it (200 instead of 201)"
        try:
            actual = normal(self._calls.get(key), self._settings, self._run.clock.now())
        except CloudError as error:
            return f"{message}; it could not be read since: {error.message}"
        return f"{message}; it now has type {actual['type']}, schedule {actual['schedule']}, folder {actual['folder']}"


def _wanted(target: Target) -> Wanted:
    return Wanted(str(target.desired["type"]), str(target.desired.get("version", "")))


def _since(live: Mapping[str, Any], entry: TargetState | None) -> datetime | None:
    """Return since when the export is as it is, by memory and by Azure."""
    system = live.get("systemData") or {}
    period = ((live.get("properties") or {}).get("schedule") or {}).get("recurrencePeriod") or {}
    times = [parse_time(system.get(name)) for name in ("createdAt", "lastModifiedAt")]
    times += [parse_time(period.get("from")), entry.applied_at if entry else None]
    return max((one for one in times if one is not None), default=None)


def _suspension(live: Mapping[str, Any]) -> str:
    context = (live.get("properties") or {}).get("systemSuspensionContext") or {}
    reason = context.get("suspensionReason") or context.get("suspensionCode")
    return f"its schedule is inactive; Azure suspended it: {reason}" if reason else ""
