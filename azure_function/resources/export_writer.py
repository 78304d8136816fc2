"""Writes exports: created in one call if Azure protects existing ones, repaired in place, never deleted."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from azure_function.clients import ARM_READ, Clients
from azure_function.errors import (
    DESTINATION_UNREGISTERED,
    ETAG,
    NO_DATA_YET,
    PRECONDITION,
    SOURCE_UNREGISTERED,
    namespace_of,
)
from azure_function.resources.deliveries import LastDelivery
from azure_function.resources.export_calls import ExportCalls, WriteResult
from azure_function.resources.export_document import ExportVariant, account_in, normal_form
from azure_function.resources.export_reader import ExportReader
from azure_function.resources.permissions import Permissions
from azure_function.resources.registration import Registration
from azure_function.settings import AzureSettings, Storage
from azure_function.targets import EXPORTS_PROVIDER, VERSIONS, account_of, placement_of
from shared.errors import CloudError, Denied, Manual, NotApplicable, NotFound, Permanent, Transient
from shared.model import Absent, Action, Health, Key, Ownership, Present, Target, Verb
from shared.parsing import mapping
from shared.provider import Applied
from shared.runtime.context import RunContext
from shared.target_state import TargetState

# "Supported Microsoft Azure offers", Cost Management: the quota ids of offers that never have cost data.
WITHOUT_COSTS = frozenset({"Sponsored_2016-01-01", "AzureForStudents_2018-01-01", "DreamSpark_2015-02-01"})
UNSEEN = "create-refuses-overwrite"  # the proof of an Absent that Azure's refusal to overwrite would disprove


class ExportWriter:
    """Creates, repairs and adopts exports.

    An export that was not read is created only if Azure refuses to overwrite existing ones: the first creation of a run
    tests that by sending the new export once more, without an eTag.
    """

    def __init__(
        self,
        settings: AzureSettings,
        clients: Clients,
        run: RunContext,
        calls: ExportCalls,
        registration: Registration,
        permissions: Permissions,
        reader: ExportReader,
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._calls = calls
        self._registration = registration
        self._permissions = permissions
        self._reader = reader
        self._probing = threading.Lock()
        self._protected: bool | None = None  # whether Azure refuses to overwrite without an eTag; None: not known yet

    def write(self, action: Action) -> Applied:
        """Create, repair or adopt one export. Raises CloudError."""
        key, entry = action.target.key, action.target.state
        try:
            if action.verb is Verb.CREATE:
                return self._create(action, entry)
            live = self._reader.to_write.pop(key, None)
            return self._repair(action, live or self._calls.get(key), entry)
        except Denied as denied:
            raise self._permissions.explained(denied, key, entry) from denied
        except NotFound as error:
            remedy = (
                "Nothing at first: the next run recreates the export. If the error lasts, the message names what is "
                "missing: the scope, the export or the storage account that it delivers to."
            )
            raise Transient("export-vanished", error.message, remedy, within_run=False) from error
        except Transient as error:
            self._register(error, key, account_of(key, entry, self._settings))
            self._check_offer(error, key)
            raise

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
            # The error proves that the export exists. It also proves what the probe would test.
            self._protected = True
            return self._take_over(action, self._calls.get(key), entry)
        facts = self._facts(put, account, key, entry)
        if not put.created:
            # It existed, and Azure overwrote it: from now on, this run reads before it creates.
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

    def _probe(self, key: Key, put: WriteResult, account: Storage) -> None:
        """Send the new export again without an eTag: an error shows that Azure refuses to overwrite."""
        try:
            self._calls.put(key, put.accepted, account, None)
        except Permanent as error:
            self._protected = error.code == ETAG
        except CloudError as error:
            # The result is unknown, so the next creation probes again.
            self._skip(error, "whether Azure refuses to overwrite an existing export", key)
        else:
            self._protected = False

    def _take_over(self, action: Action, live: Mapping[str, Any], entry: TargetState | None) -> Applied:
        """Adopt an existing export with our name, and repair it if it differs. Raises Manual if it is foreign."""
        target = action.target
        seen = self._reader.compare(target, live, LastDelivery())
        self._reader.to_write.pop(target.key, None)
        if seen.ownership is Ownership.FOREIGN and seen.manual_step:
            raise Manual(seen.code, seen.manual_step)
        facts = dict(seen.facts)
        if any(seen.actual.get(field) != value for field, value in target.desired.items()):
            applied = self._repair(action, live, entry)
            return Applied(message="it already existed and was repaired", facts={**facts, **applied.facts})
        return Applied(message="it already existed", facts=facts)

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
                # It was changed in the meantime: read it again and put our fields into the new document.
                put = self._calls.put(key, _wanted(action.target), account, self._calls.get(key))
            facts = self._facts(put, account, key, entry)
        if broken:
            self._calls.execute(key)
            facts["executed_at"] = self._run.clock.now().isoformat()
        return Applied(facts=facts)

    def _facts(self, put: WriteResult, account: Storage, key: Key, entry: TargetState | None) -> dict[str, Any]:
        """Return the facts of a write that differ from the defaults of an export."""
        facts: dict[str, Any] = {"account": account.name}
        if put.accepted.kind != placement_of(key).dataset.types[0] or (entry and entry.facts.get("type")):
            facts["type"] = put.accepted.kind
        asked = self._settings.focus_version
        if put.accepted.version and put.accepted.version != asked:
            facts[VERSIONS] = {asked: put.accepted.version}
        return facts | ({"executed_at": ""} if entry and entry.facts.get("executed_at") else {})

    def _register(self, error: Transient, key: Key, account: Storage) -> None:
        """Register the resource provider that an error requires. Raises Manual if the function may not."""
        if error.code == DESTINATION_UNREGISTERED:
            self._registration.register(account.subscription, EXPORTS_PROVIDER)
        elif error.code == SOURCE_UNREGISTERED and not key.scope.startswith("/"):
            self._registration.register(key.scope, namespace_of(error))

    def _check_offer(self, error: Transient, key: Key) -> None:
        """Raise NotApplicable if a subscription without cost data has an offer that never has any."""
        if error.code != NO_DATA_YET or key.scope.startswith("/"):
            return
        get: Any = self._clients.subscriptions.subscriptions.get
        try:
            policies = mapping(self._run.calls(ARM_READ, get, key.scope).get("subscriptionPolicies"))
        except CloudError as failed:
            # The offer is only a hint; without it, the function continues to wait for data.
            self._skip(failed, "the offer of the subscription", key)
            return
        offer = str(policies.get("quotaId", ""))
        if offer in WITHOUT_COSTS:
            message = f"Cost Management does not support the offer {offer}: {error.message}"
            raise NotApplicable("offer-unsupported", message) from error

    def _skip(self, error: CloudError, what: str, key: Key) -> None:
        self._run.log(
            "warning", "detail-unread", key, code=error.code, reason=f"could not read {what}: {error.message}"
        )

    def _overwritten(self, key: Key) -> str:
        """Return a message for the report about an export that a creation overwrote."""
        message = f"export {key.name} existed, and Azure overwrote it (200 instead of 201)"
        try:
            actual = normal_form(self._calls.get(key), self._settings, self._run.clock.now())
        except CloudError as error:
            return f"{message}; reading it afterwards failed: {error.message}"
        return f"{message}; it now has type {actual['type']}, schedule {actual['schedule']}, folder {actual['folder']}"


def _wanted(target: Target) -> ExportVariant:
    return ExportVariant(str(target.desired["type"]), str(target.desired.get("version", "")))
