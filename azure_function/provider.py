"""Implements the engine's provider port for Azure: scopes, targets, and the registry of resources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from azure_function.clients import Clients
from azure_function.resource_graph import subscription_labels
from azure_function.resources.backfill import Backfill
from azure_function.resources.billing_overlap import BillingOverlap
from azure_function.resources.container import Container
from azure_function.resources.deliveries import Deliveries
from azure_function.resources.evidence import Evidence
from azure_function.resources.export_calls import ExportCalls
from azure_function.resources.export_reader import ExportReader
from azure_function.resources.export_writer import ExportWriter
from azure_function.resources.exports import Exports
from azure_function.resources.manifests import Manifests
from azure_function.resources.other_exports import OtherExports
from azure_function.resources.permissions import Permissions
from azure_function.resources.registration import Registration
from azure_function.scopes import STATE, Scopes
from azure_function.settings import AzureSettings
from azure_function.targets import FACTS, targets_of
from shared.errors import CloudError
from shared.model import Action, Enumeration, Key, Observation, Target
from shared.provider import Applied, KnownStates
from shared.resources import Registry
from shared.runtime.context import RunContext


class AzureCloud:
    """Azure in one run, seen from the function's own tenant."""

    name = "azure"
    facts = FACTS

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._settings, self._clients, self._run = settings, clients, run
        self._scopes = Scopes(settings, clients, run)
        self._overlap = BillingOverlap(self._scopes)
        deliveries = Deliveries(settings, clients, run)
        self._evidence = Evidence(settings, run, deliveries, Manifests(settings, clients, run))
        calls = ExportCalls(settings, clients, run)
        permissions = Permissions(settings, clients, run)
        registration = Registration(clients, run)
        reader = ExportReader(settings, run, calls, permissions, self._evidence)
        writer = ExportWriter(settings, clients, run, calls, registration, permissions, reader)
        self._container = Container(settings, clients, run, deliveries, self._evidence)
        others = OtherExports(settings, run, calls, deliveries)
        exports = Exports(run, self._evidence, self._overlap, others, reader, writer)
        # The containers come after the exports, because a failed listing of an export's folder concerns its container.
        self._resources = Registry(
            [
                exports,
                registration,
                self._container,
                Backfill(settings, run, calls, deliveries, self._overlap, exports),
            ],
            run.heartbeat,
        )

    def enumerate(self, scopes: Sequence[str]) -> Enumeration:
        """List the subscriptions and billing scopes; see `Scopes.enumerate`."""
        self._evidence.limited = bool(scopes)
        found = self._scopes.enumerate(scopes)
        self._container.states = {one.id: one.traits[STATE] for one in found.scopes if STATE in one.traits}
        return found if scopes else self._labeled(found)

    def _labeled(self, found: Enumeration) -> Enumeration:
        """Return the enumeration with the labels of Resource Graph; without them, and logged, if it cannot be read."""
        try:
            labels = subscription_labels(self._settings, self._clients, self._run, found.owner)
        except CloudError as error:
            reason = f"could not read the labels of subscriptions: {error.message}"
            self._run.log("warning", "detail-unread", code=error.code, reason=reason)
            return found
        labeled = (msgspec.structs.replace(one, labels=labels.get(one.id)) for one in found.scopes)
        return msgspec.structs.replace(found, scopes=tuple(labeled))

    def targets(self, enumeration: Enumeration, known: KnownStates) -> Sequence[Target]:
        """Return what must exist."""
        self._evidence.remember(known)
        self._overlap.remember(known)
        return targets_of(enumeration, self._settings, known)

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Observe in the order of the resources; see `Registry.observe_bulk`."""
        return self._resources.observe_bulk(targets)

    def observe(self, target: Target) -> Observation:
        """Read one target's configuration."""
        return self._resources.observe(target)

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Apply actions of one kind and verb."""
        return self._resources.apply(actions)
