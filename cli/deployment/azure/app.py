"""The deployed function app: found by its tag in a subscription, with its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from azure_function.settings import Storage
from cli.deployment.azure.rest import Rest
from cli.deployment.model import OperatorError, Problem
from shared.errors import NotFound

RESOURCES_API = "2021-04-01"
SITES_API = "2024-04-01"
NAME_VARIABLE = "TAILPIPE_EXPORTS_FUNCTION_NAME"
TAG, TAGGED = "managed-by", "tailpipe-exports"
GRAPH_API = "2022-10-01"
# Azure Resource Graph covers all subscriptions that the caller may read in one call, with some minutes of delay.
QUERY = f"resources | where type =~ 'microsoft.web/sites' | where tags['{TAG}'] =~ '{TAGGED}' | project id, name"


@dataclass(frozen=True)
class FunctionApp:
    """The deployed function app; `settings` are its app settings, which are never shown as a whole."""

    site: Mapping[str, Any]
    settings: Mapping[str, str]

    @property
    def id(self) -> str:
        return str(self.site["id"])

    @property
    def name(self) -> str:
        return str(self.site["name"])

    @property
    def principal(self) -> str:
        return str((self.site.get("identity") or {}).get("principalId", ""))

    @property
    def container(self) -> str:
        return self.settings.get("DESTINATION_CONTAINER", "dataexport")

    @property
    def destinations(self) -> list[Storage]:
        return [Storage(one.strip()) for one in self.settings.get("DESTINATION", "").split(",") if one.strip()]

    @property
    def identity_exports(self) -> bool:
        return self.settings.get("EXPORT_IDENTITY") == "system"


def find(rest: Rest, subscription: str, environment: Mapping[str, str]) -> FunctionApp | None:
    """Return the function app of a subscription, or None. Raises OperatorError if it has several."""
    wanted = environment.get(NAME_VARIABLE, "").strip().lower()
    ours = [one for one in apps(rest, subscription) if wanted in ("", str(one["name"]).lower())]
    if len(ours) > 1:
        names = ", ".join(sorted(str(one["name"]) for one in ours))
        remedy = f"Choose one of them: --function NAME, or {NAME_VARIABLE}."
        raise OperatorError(Problem(f"several functions are deployed here: {names}", remedy))
    if not ours:
        return None
    site = rest.get(ours[0]["id"], SITES_API)
    if site is None:
        return None
    return FunctionApp(site, app_settings(rest, site))


def apps_of_tenant(rest: Rest) -> list[dict[str, Any]]:
    """Return id and name of our function apps in every subscription that the caller may read; none if denied.

    Resource Graph lists an app for some minutes after its deletion, so each one is read.
    """
    try:
        answer = rest.ask("POST", "/providers/Microsoft.ResourceGraph/resources", GRAPH_API, {"query": QUERY})
        listed = list(answer.get("data", ()))
        return [one for one in listed if rest.get(str(one["id"]), SITES_API) is not None]
    except (OperatorError, NotFound):
        return []


def subscription_of(app: Mapping[str, Any]) -> str:
    """Return the subscription that a function app is in."""
    return str(app["id"]).split("/")[2].lower()


def app_settings(rest: Rest, site: Mapping[str, Any]) -> dict[str, str]:
    """Return an app's settings. Raises OperatorError if they cannot be read: defaults would point elsewhere."""
    try:
        answer = rest.ask("POST", f"{site['id']}/config/appsettings/list", SITES_API)
        found = answer.get("properties") if isinstance(answer, dict) else None
        why = "" if isinstance(found, dict) and found else "Azure answers without any"
    except OperatorError as error:
        found, why = None, str(error)
    if not found:
        raise OperatorError(
            Problem(
                f"the settings of function app {site.get('name', '')} cannot be read: {why}",
                "Grant Microsoft.Web/sites/config/list/action on it (the role Website Contributor has it), and call"
                " again.",
            )
        )
    return {str(name): str(value) for name, value in found.items()}


def apps(rest: Rest, subscription: str) -> list[dict[str, Any]]:
    """Return our function apps in a subscription as listed."""
    wanted = "resourceType eq 'Microsoft.Web/sites'"
    listed = rest.pages(f"/subscriptions/{subscription}/resources", RESOURCES_API, _filter=wanted)
    return [one for one in listed if (one.get("tags") or {}).get(TAG) == TAGGED]
