"""The Azure side of the engine's port: who looks at and writes which kind of target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import msgspec

from azure_function.clients import Clients
from azure_function.resources.backfill import Backfill
from azure_function.resources.container import Container
from azure_function.resources.deliveries import LISTING, Deliveries, Delivery, Progress, Seen, progress_of
from azure_function.resources.export_calls import ExportCalls
from azure_function.resources.export_health import FRESH, LOST, MANIFEST_READ, SIZED, news
from azure_function.resources.exports import UNSEEN, Exports
from azure_function.resources.manifests import Content, Manifests
from azure_function.resources.permissions import Permissions
from azure_function.resources.registration import Registration
from azure_function.scopes import STATE, Scopes
from azure_function.settings import AzureSettings
from azure_function.targets import (
    BACKFILL,
    CONTAINER,
    EXPORT,
    FACTS,
    REGISTRATION,
    container_key,
    place_of,
    targets_of,
)
from shared.errors import CloudError, NotFound
from shared.model import Absent, Action, Enumeration, Key, Observation, Present, Target, Unknown
from shared.observe import as_observation
from shared.parsing import parse_time
from shared.provider import Applied, KnownStates
from shared.runtime.context import RunContext
from shared.runtime.pool import each

BILLING_HIDDEN = Unknown(
    "billing-unseen",
    "whether a billing scope's export holds its costs could not be seen in this run",
    remedy="Nothing at first: the next run looks again. If it stays, see what the report says of the billing scopes.",
)
FIRST_DAYS = timedelta(days=4)  # so long an export without a delivery is looked for in its own folder in every run
CANARIES = 3  # so many looks at unseen exports show whether exports can be read at all


class AzureCloud:
    """One run's view of a tenant."""

    name = "azure"
    facts = FACTS

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._run = run
        self._progress: dict[Key, Progress | None] = {}  # how far earlier runs came with the listing of each container
        self._billed = False  # whether earlier runs know an export of a billing scope
        self._limited = False  # to the scopes that the request names
        self._scopes = Scopes(settings, clients, run)
        self._containers = Container(settings, clients, run)
        self._registration = Registration(clients, run)
        self._deliveries = Deliveries(settings, clients, run)
        self._rounds: dict[Key, Progress] = {}  # how far the listing of each container has come
        self._manifests = Manifests(settings, clients, run)
        calls = ExportCalls(settings, clients, run)
        permissions = Permissions(settings, clients, run)
        self._exports = Exports(settings, clients, run, calls, self._registration, permissions)
        self._backfill = Backfill(settings, run, calls, self._deliveries)

    def enumerate(self, scopes: Sequence[str]) -> Enumeration:
        """List the subscriptions and billing scopes; see `Scopes.enumerate`."""
        self._limited = bool(scopes)
        found = self._scopes.enumerate(scopes)
        self._containers.states = {one.id: one.traits[STATE] for one in found.scopes if STATE in one.traits}
        return found

    def targets(self, enumeration: Enumeration, known: KnownStates) -> Sequence[Target]:
        """Return what must exist."""
        keys = [container_key(account, self._settings) for account in self._settings.destination]
        self._progress = {key: progress_of(known.state_of(key)) for key in keys}
        self._billed = any(
            state.present and key.scope.startswith("/")
            for kind in (EXPORT, BACKFILL)
            for key, state in known.states_of(kind.name)
        )
        return targets_of(enumeration, self._settings, known)

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """List what was delivered, then look at the destination; exports with fresh deliveries live.

        An export that memory does not know and that has delivered nothing counts as absent without a look, once a look
        at one of them has shown that exports can be read: the creation's refusal shows where that is wrong.
        """
        exports = [target for target in targets if target.kind.name == EXPORT.name]
        backfills = [target for target in targets if target.kind.name == BACKFILL.name]
        self._list([*exports, *backfills])
        self._read_manifests(exports)
        seen: dict[Key, Observation] = {}
        for target in targets:
            if target.kind.name == CONTAINER.name:
                seen[target.key] = self._container(target)
            elif target.kind.name == REGISTRATION.name:
                seen[target.key] = self._registration.observe(target)
        hidden = {target.key: BILLING_HIDDEN for target in (*exports, *backfills) if self._may_be_billed(target)}
        unseen: list[Target] = []
        for target in exports:
            if target.key in hidden:
                continue
            found = self._delivered(target)
            if found is not None:
                seen[target.key] = found
            elif self._is_new(target):
                unseen.append(target)
        seen.update(self._new(unseen))
        seen.update(self._backfill.observe_bulk([one for one in backfills if one.key not in hidden], exports))
        return seen | hidden

    def _may_be_billed(self, target: Target) -> bool:
        """Return whether a subscription's costs may be in a billing scope's export that this run could not see.

        Otherwise one odd answer would have every subscription of a billing scope exported a second time.
        """
        known = target.state is not None and target.state.present
        return self._billed and self._scopes.billing_unseen and not target.key.scope.startswith("/") and not known

    def observe(self, target: Target) -> Observation:
        """Read one target's configuration."""
        if target.kind.name == EXPORT.name:
            return self._exports.observe(target, self._seen(target))
        if target.kind.name == REGISTRATION.name:
            return self._registration.observe(target)
        if target.kind.name == CONTAINER.name:
            return self._container(target)
        return self._backfill.observe_bulk([target])[target.key]

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Write the targets, one by one: no call of Azure takes several."""
        return [self._apply_one(action) for action in actions]

    def _apply_one(self, action: Action) -> Applied | CloudError:
        try:
            if action.target.kind.name == EXPORT.name:
                return self._exports.apply(action)
            if action.target.kind.name == BACKFILL.name:
                return self._backfill.apply(action)
            if action.target.kind.name == REGISTRATION.name:
                return self._registration.apply(action)
            return self._containers.apply(action)
        except CloudError as error:
            return error

    def _list(self, targets: Sequence[Target]) -> None:
        """List the next part of each export container, and the folders of what was asked for or is new.

        Where memory does not know how far the listing has come, the whole container is listed.
        """
        if not self._limited:
            for account in self._settings.destination:
                key = container_key(account, self._settings)
                progress = self._deliveries.go_on(account, self._progress.get(key))
                if progress is not None:
                    self._rounds[key] = progress
        folders = [(place_of(one.key).folder, one.key.name) for one in targets if self._limited or self._is_sought(one)]
        due = [one for one in dict.fromkeys(folders) if not self._deliveries.is_listed(*one)]
        may_begin = lambda: self._run.deadline.allows(0)  # noqa: E731 - a name for the condition reads better
        for _ in each(due, lambda one: self._deliveries.read(*one), self._settings.engine.workers, may_begin):
            self._run.heartbeat()

    def _is_sought(self, target: Target) -> bool:
        """Return whether an export is to be looked for now: it may have to be made, or its first data to come."""
        entry = target.state
        if target.kind.name != EXPORT.name or target.skip or self._waits(target):
            return False
        if entry is None or not entry.present:
            return entry is None or entry.delivered_at is None
        created = entry.created_at
        return entry.delivered_at is None and created is not None and self._run.clock.now() - created < FIRST_DAYS

    def _container(self, target: Target) -> Observation:
        found = self._containers.observe(target, self._deliveries)
        progress = self._rounds.get(target.key)
        if isinstance(found, Present) and progress is not None:
            return msgspec.structs.replace(found, facts={LISTING: msgspec.to_builtins(progress)})
        return found

    def _seen(self, target: Target) -> Seen:
        """Return what is known of an export's deliveries: as listed in this run, or as remembered since it last was."""
        place = (place_of(target.key).folder, target.key.name)
        delivery, listed_at = self._deliveries.of(*place), self._deliveries.listed_at(*place)
        if delivery is not None:
            return Seen(delivery.at, delivery.account, listed_at)
        if listed_at is None or self._deliveries.is_listed(*place):
            return Seen(None, "", listed_at)
        entry = target.state
        known = (entry.delivered_at, parse_time(entry.facts.get(MANIFEST_READ))) if entry else ()
        return Seen(max((one for one in known if one is not None), default=None), "", listed_at)

    def _delivered(self, target: Target) -> Present | None:
        """Return what deliveries show of an export where the last one was fresh when it was listed; else None."""
        seen, entry = self._seen(target), target.state
        as_of = self._run.clock.now() if seen.account else seen.listed_at
        if seen.at is None or as_of is None or as_of - seen.at >= FRESH:
            return None
        if not seen.account and (entry is None or not entry.present):
            return None
        return self._exports.by_delivery(target, seen)

    def _read_manifests(self, exports: Sequence[Target]) -> None:
        """Read the manifests that came since the last look, within the call budget; those not read longest first."""
        due: list[tuple[str, Target, Delivery, bool]] = []
        for target in exports:
            delivery = self._deliveries.of(place_of(target.key).folder, target.key.name)
            entry = target.state
            facts = entry.facts if entry else {}
            read = str(facts.get(MANIFEST_READ) or "")
            if delivery is not None and read != delivery.written.isoformat():
                due.append((read, target, delivery, bool(facts.get(SIZED))))
        due.sort(key=lambda one: (one[0], one[1].key))
        chosen = due[: self._settings.engine.call_budget or None]

        def read_one(one: tuple[str, Target, Delivery, bool]) -> Content | None:
            return self._manifests.content(one[2], sized=one[3])

        may_begin = lambda: self._run.deadline.allows(0)  # noqa: E731 - a name for the condition reads better
        for (_, target, delivery, _), content in each(chosen, read_one, self._settings.engine.workers, may_begin):
            self._run.heartbeat()
            if content is not None:
                entry = target.state
                self._exports.news[target.key] = news(delivery.written, content, entry.facts if entry else {})
        self._read_bare(exports)
        for code, (count, example) in sorted(self._manifests.unread.items()):
            reason = f"not known: what {count} manifests say, for example {example}"
            self._run.log("warning", "detail-unread", code=code, reason=reason)

    def _read_bare(self, exports: Sequence[Target]) -> None:
        """Read the manifests of earlier months beside which nothing lies: do they list files?"""
        left = self._settings.engine.call_budget or None
        for target in exports:
            delivery = self._deliveries.of(place_of(target.key).folder, target.key.name)
            entry = target.state
            known = entry.facts.get(LOST) or {} if entry else {}
            if delivery is None or not (delivery.bare or known):
                continue
            lost: dict[str, str] = {}
            for month, manifest in delivery.bare.items():
                if left == 0 or not self._run.deadline.allows(0):
                    lost |= {month: known[month]} if month in known else {}
                    continue
                left = left and left - 1
                found = self._manifests.content(msgspec.structs.replace(delivery, manifest=manifest), sized=False)
                wrong = found.wrong if found is not None else known.get(month, "")
                lost |= {month: wrong} if wrong else {}
            if lost != known:
                self._exports.news[target.key] = {**self._exports.news.get(target.key, {}), LOST: lost}

    def _is_new(self, target: Target) -> bool:
        """Return whether nothing hints at the export: no delivery, no memory of it, and no account left unlisted."""
        entry = target.state
        if self._deliveries.failed and not self._only_missing():
            return False
        known = entry is not None and (entry.present or entry.delivered_at is not None)
        return not known and self._deliveries.of(place_of(target.key).folder, target.key.name) is None

    def _only_missing(self) -> bool:
        return all(isinstance(error, NotFound) for error in self._deliveries.failed.values())

    def _new(self, unseen: Sequence[Target]) -> dict[Key, Observation]:
        """Look at the first of the unseen exports; the others are absent unless a refusal shows otherwise."""
        seen: dict[Key, Observation] = {}
        due = [target for target in unseen if not self._waits(target)]
        for target in due[:: max(1, len(due) // CANARIES)][:CANARIES]:
            try:
                seen[target.key] = self._exports.observe(target, self._seen(target))
            except CloudError as error:
                seen[target.key] = as_observation(error)
                continue
            detail = "no delivery and no memory of it"
            return {one.key: seen.get(one.key, Absent((UNSEEN,), detail)) for one in unseen}
        return seen

    def _waits(self, target: Target) -> bool:
        entry = target.state
        return entry is not None and entry.not_before is not None and entry.not_before > self._run.clock.now()
