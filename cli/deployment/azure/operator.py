"""The operator port on Azure."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from cli.deployment import model
from cli.deployment.azure import (
    adopt,
    backend,
    functions,
    invoke,
    logs,
    migrate,
    onboarding,
    preflight,
    remove,
    rights,
    stack,
    verify,
)
from cli.deployment.azure.app import NAME_VARIABLE
from cli.deployment.azure.session import Session, open_session
from cli.deployment.engine import Planning, StateEngine
from cli.deployment.log_lines import LogLine, LogSearch
from cli.deployment.operator import Tell
from shared.runtime.clock import Clock, SystemClock


class AzureOperator:
    """Implements `cli.deployment.operator.Operator`, signed in as azurerm is: by variables, or by az.

    The deployment is found by its tag in the chosen subscription, never through Terraform's state.
    """

    precious = frozenset({"azurerm_storage_account", "azurerm_storage_container"})
    alarm = "azurerm_monitor_scheduled_query_rules_alert_v2"
    confirm_emails = False
    secrets: Sequence[tuple[str, ...]] = ()

    def __init__(self, session: Session) -> None:
        self._session = session
        self._native = False

    @classmethod
    def open(
        cls, given: Mapping[str, Any], environment: Mapping[str, str] | None = None, clock: Clock | None = None
    ) -> Self:
        return cls(open_session(given, os.environ if environment is None else environment, clock or SystemClock()))

    @property
    def place(self) -> model.Place:
        return self._session.place

    def select(self, name: str) -> Self:
        return type(self)(replace(self._session, environment={**self._session.environment, NAME_VARIABLE: name}))

    def detected(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return preflight.detected(self._session, given)

    def rights(self) -> list[model.Finding]:
        return rights.rights(self._session)

    def surroundings(self, given: Mapping[str, Any]) -> list[model.Finding]:  # noqa: ARG002 - the port's signature
        return []

    def preflight(self, given: Mapping[str, Any]) -> list[model.Finding]:
        return preflight.preflight(self._session, given, terraform=not self._native)

    def providers(self) -> dict[str, Any]:
        # Signed in as this command is; keys of storage accounts are never asked for.
        return {
            "azurerm": {
                "subscription_id": self._session.subscription,
                "tenant_id": self._session.tenant,
                "storage_use_azuread": True,
                "resource_provider_registrations": "none",
                "resource_providers_to_register": list(preflight.PROVIDERS),
                "features": {"storage": {"data_plane_available": False}},
            },
            "azuread": {"tenant_id": self._session.tenant},
        }

    def module_providers(self) -> dict[str, str]:
        return {}

    def backend(self) -> model.Backend:
        return backend.backend(self._session)

    def backend_exists(self) -> bool:
        return backend.exists(self._session)

    def make_backend(self, tell: Tell) -> None:
        backend.make(self._session, tell)

    def adoptions(self, changes: Sequence[model.Change], tell: Tell) -> list[model.Adoption]:
        return list(adopt.adoptions(self._session, changes, tell))

    def invoke(self, payload: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
        return invoke.invoke(self._session, payload, tell)

    def round(self, tell: Tell) -> dict[str, Any]:
        return invoke.run_round(self._session, tell)

    def verify(self) -> list[model.Finding]:
        return verify.verify(self._session)

    def onboarding(self) -> dict[str, Any]:
        return onboarding.onboarding(self._session)

    def functions(self) -> list[model.Deployed]:
        return functions.functions(self._session)

    def deployed(self) -> dict[str, str] | None:
        return functions.environment_of(self._session)

    def logs(self, search: LogSearch) -> Iterator[LogLine]:
        return logs.logs(self._session, search)

    def stop_schedule(self, tell: Tell) -> None:
        remove.stop_schedule(self._session, tell)

    def clear(self, removal: model.Removal, tell: Tell) -> None:
        remove.clear(self._session, removal, tell)

    def clearing(self, removal: model.Removal) -> model.Clearing:
        return remove.clearing(self._session, removal)

    def native_engine(self) -> stack.AzureStack:
        self._native = True
        return stack.AzureStack(self._session)

    def to_native(self, wanted: Planning, terraform: StateEngine) -> None:
        migrate.to_native(self._session, self.native_engine(), wanted, terraform)

    def to_terraform(self, wanted: Planning, terraform: StateEngine) -> None:
        migrate.to_terraform(self._session, self.native_engine(), wanted, terraform)

    def held_by_native(self) -> bool:
        return stack.held(self._session)

    def held_by_terraform(self) -> bool:
        return backend.holds(self._session)

    def kept(self, removal: model.Removal) -> list[model.Kept]:
        return remove.kept(self._session, removal)
