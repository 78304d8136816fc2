"""The operator's commands on Azure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from cli.deployment.azure import backend, remove
from cli.deployment.azure.adopt import Adopter
from cli.deployment.azure.invoke import FunctionCaller
from cli.deployment.azure.names import names
from cli.deployment.azure.onboarding import onboarding
from cli.deployment.azure.preflight import PROVIDERS, look_ahead
from cli.deployment.azure.rest import Rest
from cli.deployment.azure.rights import look_at_rights
from cli.deployment.azure.scopes import settings_of
from cli.deployment.azure.session import (
    MANAGEMENT_GROUPS,
    NAME_VARIABLE,
    RESOURCES_API,
    Deployment,
    Where,
    find,
    functions,
    look,
    require,
)
from cli.deployment.azure.verify import verify
from cli.deployment.model import (
    CHOSEN,
    Adoption,
    Backend,
    Change,
    Clearing,
    Deployed,
    Fault,
    Finding,
    Kept,
    OperatorError,
    Place,
    Removal,
)
from cli.deployment.operator import Tell
from cli.deployment.output import number_of, some
from shared.runtime.clock import Clock, SystemClock

GROUPS_API = "2020-05-01"
NO_REGION = "not chosen yet"


class AzureOperator:
    """Azure, with the caller's own sign-in: a service principal's variables, else what azure-identity finds (az login).

    What is deployed is found by its tag in the chosen subscription, never through Terraform's state.
    """

    precious = frozenset({"azurerm_storage_account", "azurerm_storage_container"})
    alarm = "azurerm_monitor_scheduled_query_rules_alert_v2"
    confirm_emails = False
    secrets: Sequence[tuple[str, ...]] = ()

    def __init__(self, environment: Mapping[str, str] | None = None, clock: Clock | None = None) -> None:
        self._environment = dict(os.environ if environment is None else environment)
        self._rest = Rest(self._environment, clock or SystemClock())
        self._seen: Where | None = None

    def place(self, given: Mapping[str, Any]) -> Place:
        """Say in which tenant and subscription the caller is, and for which management group."""
        # Not the module's variable `function_name`, which is only the beginning of an app's name.
        if given.get(CHOSEN):
            self._environment[NAME_VARIABLE] = str(given[CHOSEN])
        where, subscription = look(self._rest, given, self._environment)
        self._seen = where
        offer = str((subscription.get("subscriptionPolicies") or {}).get("quotaId", ""))
        details = {"subscription": f"{subscription.get('displayName', '')} ({where.subscription}, {offer})"}
        if where.group:
            root = " (the whole tenant)" if where.group.lower() == where.tenant else ""
            details["exports below management group"] = f"{where.group}{root}"
        else:
            details["exports of"] = f"{number_of(where.subscriptions, 'subscription')}: {some(where.subscriptions)}"
        return Place("azure", where.tenant, "tenant", where.caller_name, self._region(where, given), details)

    def detected(self, place: Place, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the management group, unless subscriptions are listed, and the region of what is there already."""
        found: dict[str, Any] = {}
        if place.region != NO_REGION:
            found["location"] = place.region
        if self._where.subscriptions and not self._where.group:
            # As the deployment that is there has it: nothing changes for want of a variable.
            found["include_subscriptions"] = list(self._where.subscriptions)
        if not given.get("include_subscriptions") and self._where.group:
            if self._rest.get(f"{MANAGEMENT_GROUPS}/{self._where.group}", GROUPS_API) is None:
                raise OperatorError(
                    Fault(
                        f"there is no management group {self._where.group}",
                        "Write --var management_group_id=NAME of one that is there, or list the subscriptions: "
                        "--var 'include_subscriptions=[\"ID\"]'.",
                    )
                )
            found["management_group_id"] = self._where.group
        return found

    def rights(self, place: Place) -> list[Finding]:  # noqa: ARG002 - the port's signature
        """Look at each right of operator.yaml."""
        return look_at_rights(self._rest, self._where)

    def surroundings(self, place: Place, given: Mapping[str, Any]) -> list[Finding]:  # noqa: ARG002 - the port's signature
        return []

    def preflight(self, place: Place, given: Mapping[str, Any]) -> list[Finding]:  # noqa: ARG002 - the port's signature
        """Look at names, the resource group, providers and the room for role assignments."""
        return look_ahead(self._rest, self._where, given)

    def providers(self, place: Place) -> dict[str, Any]:  # noqa: ARG002 - the port's signature
        """Return azurerm and azuread, signed in as this command is; keys of storage accounts are never asked for."""
        return {
            "azurerm": {
                "subscription_id": self._where.subscription,
                "tenant_id": self._where.tenant,
                "storage_use_azuread": True,
                "resource_provider_registrations": "none",
                "resource_providers_to_register": list(PROVIDERS),
                "features": {"storage": {"data_plane_available": False}},
            },
            "azuread": {"tenant_id": self._where.tenant},
        }

    def module_providers(self) -> dict[str, str]:
        """Return none: the module takes the default ones."""
        return {}

    def backend(self, place: Place) -> Backend:  # noqa: ARG002 - the port's signature
        """Return the container of the state's own storage account."""
        return backend.backend(self._where)

    def backend_exists(self, place: Place) -> bool:  # noqa: ARG002 - the port's signature
        """Whether that container is there."""
        return backend.exists(self._rest, self._where)

    def make_backend(self, place: Place, tell: Tell) -> None:
        """Make it, in the deployment's region."""
        backend.make(self._rest, self._where, place.region, tell)

    def adoptions(self, place: Place, changes: Sequence[Change], tell: Tell) -> list[Adoption]:  # noqa: ARG002 - the port's signature
        """Return the resources that exist already."""
        deployed = find(self._rest, self._where.subscription, self._environment)
        return list(Adopter(self._rest, self._where, deployed, changes).adoptions(tell))

    def invoke(self, place: Place, payload: Mapping[str, Any], tell: Tell) -> dict[str, Any]:  # noqa: ARG002 - the port's signature
        """Call the function over HTTP with its key."""
        return FunctionCaller(self._rest, self._deployment()).run(payload, tell)

    def verify(self, place: Place) -> list[Finding]:  # noqa: ARG002 - the port's signature
        """Look at schedule, function, destination and Tailpipe's access."""
        return verify(self._rest, self._where, self._deployment())

    def onboarding(self, place: Place) -> dict[str, Any]:  # noqa: ARG002 - the port's signature
        """Return what Tailpipe needs to connect."""
        return onboarding(self._rest, self._where, self._deployment())

    def functions(self, place: Place) -> list[Deployed]:  # noqa: ARG002 - the port's signature
        """Return the function apps of ours in the chosen subscription."""
        return functions(self._rest, self._where.subscription)

    def deployed(self, place: Place) -> dict[str, str] | None:  # noqa: ARG002 - the port's signature
        """Return the function app's settings."""
        found = find(self._rest, self._where.subscription, self._environment)
        return dict(found.settings) if found else None

    def stop_schedule(self, place: Place, tell: Tell) -> None:  # noqa: ARG002 - the port's signature
        """Disable the timer."""
        found = find(self._rest, self._where.subscription, self._environment)
        if found is None:
            tell("no function is there any more")
            return
        remove.stop(self._rest, found, tell)

    def clear(self, place: Place, removal: Removal, tell: Tell) -> None:  # noqa: ARG002 - the port's signature
        """Delete our exports and the delivered data, as far as asked for."""
        found = find(self._rest, self._where.subscription, self._environment)
        if removal.delete_exports:
            remove.delete_exports(self._rest, self._where, settings_of(self._rest, self._where, found), tell)
        if found:
            remove.delete_generated(self._rest, found, tell)
            if removal.delete_data:
                remove.delete_data(self._rest, found, tell)

    def clearing(self, place: Place, removal: Removal) -> Clearing:  # noqa: ARG002 - the port's signature
        """Return what would be deleted; exports are read one scope after another only where they would be deleted."""
        found = find(self._rest, self._where.subscription, self._environment)
        settings = settings_of(self._rest, self._where, found) if removal.delete_exports else None
        return remove.clearing(self._rest, self._where, found, settings, removal)

    def kept(self, place: Place, removal: Removal) -> list[Kept]:  # noqa: ARG002 - the port's signature
        """Return what stays."""
        found = find(self._rest, self._where.subscription, self._environment)
        if removal.delete_exports:
            settings_of(self._rest, self._where, found)  # refuses settings that cannot be read
        return remove.kept(found, removal)

    @property
    def _where(self) -> Where:
        if self._seen is None:
            raise AssertionError("place comes first: it says where everything else is")
        return self._seen

    def _deployment(self) -> Deployment:
        return require(self._rest, self._where, self._environment)

    def _region(self, where: Where, given: Mapping[str, Any]) -> str:
        """Return the region as given, else that of the resource group that is there already."""
        told = given.get("location") or self._environment.get("TF_VAR_location")
        if told:
            return str(told)
        group = self._rest.get(f"{where.path}/resourceGroups/{names(where, given).group}", RESOURCES_API)
        return str((group or {}).get("location") or NO_REGION)
