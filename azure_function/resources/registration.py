"""The registration of resource providers that exports require in the subscriptions of their destinations."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from azure_function.clients import ARM_READ, ARM_WRITE, Clients
from azure_function.errors import RIGHTS_REMEDY
from azure_function.targets import EXPORTS_PROVIDER, REGISTRATION
from shared.errors import CloudError, Denied, Manual
from shared.model import Absent, Action, Health, Key, ManualStep, Observation, Present, Result, Target
from shared.observe import as_bulk_observation
from shared.provider import Applied
from shared.resources import one_by_one
from shared.runtime.context import RunContext


class Registration:
    """Observes the registration of the exports service, and registers providers when an error requires it."""

    kinds = (REGISTRATION,)

    def __init__(self, clients: Clients, run: RunContext) -> None:
        self._clients = clients
        self._run = run
        self._lock = threading.Lock()
        self._asked: set[tuple[str, str]] = set()

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Read the registration in each destination's subscription."""
        return {target.key: self.observe(target) for target in targets}

    def observe(self, target: Target) -> Observation:
        """Read the registration of the exports service in a destination's subscription."""
        try:
            state = self._state(target.key.scope)
        except CloudError as error:
            return unseen(error, f"the registration of {EXPORTS_PROVIDER}")
        if state == "Registered":
            return Present()
        if state == "Registering":
            return Present(health=Health.PENDING, code="registering", detail="the registration is in progress")
        return Absent(("get",), f"{EXPORTS_PROVIDER} is {state or 'not registered'}")

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Register the exports service in each of these subscriptions."""
        return one_by_one(self._apply_one, actions)

    def _apply_one(self, action: Action) -> Applied:
        self.register(action.target.key.scope, EXPORTS_PROVIDER)
        return Applied(Result.PENDING, "the registration takes a few minutes")

    def register(self, subscription: str, namespace: str) -> None:
        """Register a provider, once in a run. Raises CloudError, and Manual if the permission is missing."""
        with self._lock:
            if (subscription, namespace) in self._asked:
                return
            self._asked.add((subscription, namespace))
        try:
            providers = self._clients.resources(subscription).providers
            self._run.calls(ARM_WRITE, providers.register, namespace)
        except Denied as denied:
            step = f"az provider register --namespace {namespace} --subscription {subscription}"
            manual_step = ManualStep(
                f"{namespace} must be registered in subscription {subscription}, and the function lacks the permission",
                (f"Run: {step}", RIGHTS_REMEDY),
                "https://learn.microsoft.com/azure/azure-resource-manager/management/resource-providers-and-types",
            )
            raise Manual("provider-unregistered", manual_step, denied.message) from denied

    def _state(self, subscription: str) -> str:
        provider = self._run.calls(ARM_READ, self._clients.resources(subscription).providers.get, EXPORTS_PROVIDER)
        return str(provider.registration_state or "")


def unseen(error: CloudError, what: str) -> Observation:
    """Return the observation after a failed read of `what`: never Absent."""
    manual_step = ManualStep(f"{what} cannot be read: {error.message}", (error.remedy or RIGHTS_REMEDY,))
    return as_bulk_observation(error, manual_step)
