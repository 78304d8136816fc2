"""The deployed functions on Azure, and the selected one."""

from __future__ import annotations

from cli.deployment.azure.app import (
    SITES_API,
    FunctionApp,
    app_settings,
    apps,
    apps_of_tenant,
    find,
    subscription_of,
)
from cli.deployment.azure.session import Session
from cli.deployment.model import Deployed, OperatorError, Problem


def functions(session: Session) -> list[Deployed]:
    """Return our function apps in the chosen subscription."""
    found = []
    for one in apps(session.rest, session.subscription):
        site = session.rest.get(one["id"], SITES_API) or {}
        changed = str((site.get("properties") or {}).get("lastModifiedTimeUtc", ""))
        settings = app_settings(session.rest, site) if site else {}
        hidden = {
            name: "it refers to a secret of a key vault, which Key Vault Secrets User may read"
            for name, value in settings.items()
            if value.lstrip().startswith("@Microsoft.KeyVault(")
        }
        version = f"changed {changed[:16]} UTC" if changed else "of unknown age"
        region = {"REGION_NAME": str(site.get("location", ""))}
        group = str(one["id"]).split("/")[4]
        title = f"resource group {group}, function app {one['name']}"
        found.append(Deployed(str(one["name"]), title, version, region, hidden))
    return found


def deployed(session: Session) -> FunctionApp | None:
    """Return the function app, None if nothing is deployed. Raises OperatorError if there are several."""
    return find(session.rest, session.subscription, session.environment)


def environment_of(session: Session) -> dict[str, str] | None:
    """Return the function app's settings, None if nothing is deployed. Raises OperatorError."""
    found = deployed(session)
    return dict(found.settings) if found else None


def require(session: Session) -> FunctionApp:
    """Return the function app. Raises OperatorError if nothing is deployed."""
    found = deployed(session)
    if found is None:
        elsewhere = [f"{one['name']} in subscription {subscription_of(one)}" for one in apps_of_tenant(session.rest)]
        seen = f"; this tenant has function app {', '.join(sorted(elsewhere))}" if elsewhere else ""
        raise OperatorError(
            Problem(
                f"no function is deployed in subscription {session.subscription}{seen}",
                "Set AZURE_SUBSCRIPTION_ID to the subscription that holds it, "
                "or deploy it: `tailpipe-exports deploy azure`.",
            )
        )
    return found
