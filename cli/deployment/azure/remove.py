"""The steps of a removal outside Terraform: stop the timer, delete our exports and the delivered data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from azure_function.resources.export_document import account_in, is_marked
from azure_function.settings import AzureSettings
from cli.deployment.azure.app import RESOURCES_API, SITES_API, FunctionApp
from cli.deployment.azure.functions import deployed
from cli.deployment.azure.preflight import STORAGE_API
from cli.deployment.azure.rest import Rest, remedy_of
from cli.deployment.azure.scopes import exports_of, path_of, scopes, settings_of
from cli.deployment.azure.session import Session
from cli.deployment.azure.verify import TIMER
from cli.deployment.model import Clearing, Kept, OperatorError, Problem, Removal
from cli.deployment.operator import Tell
from cli.deployment.output import number_of, some
from shared.errors import NotFound, ReportedError

DISABLED = {f"AzureWebJobs.{name}.Disabled": "true" for name in (TIMER, "rounds_timer")}
SHOWN_EVERY = 100  # scopes
PROBLEMS_SHOWN = 5
FIX_AND_REPEAT = "Fix it and call the same command again."
ANOMALY_RULES = "microsoft.alertsmanagement/smartdetectoralertrules"
ACTION_GROUPS = "microsoft.insights/actiongroups"
SMART_DETECTION = "application insights smart detection"
GENERATED = {ANOMALY_RULES: "2021-04-01", ACTION_GROUPS: "2023-01-01"}
DATA = (
    "azurerm_storage_account.destination",
    "azurerm_storage_container.destination",
    "azurerm_storage_container.registry",
    "azurerm_storage_management_policy.destination",
    "azurerm_resource_group.this",
    "terraform_data.kept_data",
)
IDENTITY = ("azuread_service_principal.tailpipe", "azurerm_role_assignment.connector")


def stop_schedule(session: Session, tell: Tell) -> None:
    """Disable the timer by a setting, which the next `tailpipe-exports deploy azure` removes.

    New settings restart the app, so that a run in progress ends too; the state's lock then expires.
    """
    found = deployed(session)
    if found is None:
        tell("no function is deployed")
        return
    if DISABLED.items() <= found.settings.items():
        tell("the schedule is stopped already")
        return
    body = {"properties": {**found.settings, **DISABLED}}
    session.rest.ask("PUT", f"{found.id}/config/appsettings", SITES_API, body)
    tell("the schedule is stopped")


def clear(session: Session, removal: Removal, tell: Tell) -> None:
    """Delete our exports and the delivered data as requested."""
    app = deployed(session)
    if removal.delete_exports:
        delete_exports(session, settings_of(session, app), tell)
    if app:
        delete_generated(session.rest, app, tell)
        if removal.delete_data:
            delete_data(session.rest, app, tell)


def clearing(session: Session, removal: Removal) -> Clearing:
    """Return what the removal would delete outside Terraform, and what would be kept. Only reads.

    Exports are read, one scope after another, only if they would be deleted.
    """
    app = deployed(session)
    settings = settings_of(session, app) if removal.delete_exports else None
    deletes, keeps = [], []
    if settings is None:
        keeps.append("every export, left delivering")
    else:
        listed, unseen = scopes(session.rest, settings)
        keeps += [f"what is in scopes that could not be seen: {one}" for one in unseen]
        found = []
        for scope, live in exports_of(session.rest, listed):
            if isinstance(live, ReportedError):
                keeps.append(f"the exports of {scope.id}, which cannot be read: {live.message}")
                continue
            ours = [one for one in live if is_marked(one) and _delivers_here(one, session, settings)]
            found += [f"{one['name']} of {scope.id}" for one in ours]
        if found:
            deletes.append(f"{number_of(found, 'export')}: {some(found)}")
    if app and removal.delete_data:
        deletes += [
            f"all data in container {app.container} of {account.name}, permanently"
            for account in app.destinations
            if session.rest.get(f"{account.id}/blobServices/default/containers/{app.container}", STORAGE_API)
            is not None
        ]
    return Clearing(deletes, keeps)


def delete_exports(session: Session, settings: AzureSettings, tell: Tell) -> None:
    """Delete every export that is marked as ours and delivers to this deployment; skip missing ones.

    Raises OperatorError for scopes whose exports could not be read or deleted, when all others are done.
    """
    listed, unseen = scopes(session.rest, settings)
    tell(f"looking for our exports in {len(listed):,} scopes, 193 calls a minute")
    problems = [
        Problem(f"some scopes could not be read: {one}", "Fix it and call the same command again.") for one in unseen
    ]
    deleted = 0
    for number, (scope, live) in enumerate(exports_of(session.rest, listed), 1):
        if isinstance(live, ReportedError):
            problems.append(Problem(f"{scope.id}: {live.message}", FIX_AND_REPEAT))
            continue
        for export in live:
            if not is_marked(export) or not _delivers_here(export, session, settings):
                continue
            try:
                session.rest.cost(session.rest.clients.cost.exports.delete, path_of(scope), export["name"])
            except NotFound:
                continue
            except ReportedError as error:
                problems.append(
                    Problem(f"{scope.id}: {export['name']} was not deleted: {error.message}", remedy_of(error))
                )
            else:
                deleted += 1
        if number % SHOWN_EVERY == 0:
            tell(f"{number:,} of {len(listed):,} scopes, {deleted:,} exports deleted")
    tell(f"{deleted:,} exports deleted")
    if problems:
        more = [Problem(f"and {len(problems) - PROBLEMS_SHOWN} more")] if len(problems) > PROBLEMS_SHOWN else []
        raise OperatorError(*problems[:PROBLEMS_SHOWN], *more)


def _delivers_here(export: Mapping[str, Any], session: Session, settings: AzureSettings) -> bool:
    """Return whether an export delivers to this deployment: another one in the tenant uses the same mark."""
    if account_in(export, settings) is not None:
        return True
    target = ((export.get("properties") or {}).get("deliveryInfo") or {}).get("destination") or {}
    # Its settings may already be deleted; a deployment's accounts are in its own subscription.
    return str(target.get("resourceId", "")).lower().startswith(f"{session.path}/")


def delete_generated(rest: Rest, deployed: FunctionApp, tell: Tell) -> None:
    """Delete what Azure created along with Application Insights: Terraform does not manage it, and it prevents the
    deletion of the resource group.
    """
    group = deployed.id.rpartition("/providers/")[0]
    there = list(rest.pages(f"{group}/resources", RESOURCES_API))
    components = [one for one in there if str(one["type"]).lower() == "microsoft.insights/components"]
    for one in there:
        kind, name = str(one["type"]).lower(), str(one["name"]).lower()
        rule = kind == ANOMALY_RULES and name == f"failure anomalies - {deployed.name}".lower()
        # Other components in an adopted group share this one.
        shared = kind == ACTION_GROUPS and name == SMART_DETECTION and len(components) <= 1
        if rule or shared:
            rest.ask("DELETE", quote(str(one["id"]), safe="/"), GENERATED[kind])
            tell(f"{one['name']} is deleted, which Azure had created")


def delete_data(rest: Rest, deployed: FunctionApp, tell: Tell) -> None:
    """Delete the containers that exports are delivered to."""
    for account in deployed.destinations:
        path = f"{account.id}/blobServices/default/containers/{deployed.container}"
        if rest.get(path, STORAGE_API) is None:
            continue
        rest.ask("DELETE", path, STORAGE_API)
        tell(f"the data in {account.name} is deleted")


def kept(session: Session, removal: Removal) -> list[Kept]:
    """Return what is kept, by the addresses of infra/azure."""
    app = deployed(session)
    if removal.delete_exports:
        settings_of(session, app)  # raises for settings that cannot be read
    stays = [
        # Removing a registration would remove it for everything in the subscription.
        Kept("registrations of resource providers", ("azurerm_resource_provider_registration.this",))
    ]
    if not removal.delete_data:
        accounts = ", ".join(one.name for one in app.destinations) if app else "its storage accounts"
        stays.append(Kept(f"the delivered data in {accounts}, and their resource group", DATA))
    if removal.keep_identity:
        stays.append(Kept("Tailpipe's application and what it may read", IDENTITY))
    return stays
