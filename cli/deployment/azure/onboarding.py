"""What Tailpipe needs to connect to Azure, read from the live cloud: the keys are those of the earlier scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from azure_function.scopes import BILLING, ROLE
from azure_function.settings import AzureSettings
from azure_function.targets import ROOT, export_name
from cli.deployment.azure.app import RESOURCES_API
from cli.deployment.azure.connector import MANAGEMENT_GROUP, connector
from cli.deployment.azure.functions import require
from cli.deployment.azure.preflight import STORAGE_API
from cli.deployment.azure.rest import Rest
from cli.deployment.azure.scopes import exports_of, scopes, settings_of
from cli.deployment.azure.session import MANAGEMENT_GROUPS, Session
from cli.deployment.output import number_of, some
from cli.terminal.console import err, say
from shared.errors import ReportedError
from shared.model import Scope

AUTHORIZATION_API = "2023-04-01"
READ_AT_MOST = 1000  # exports are read one subscription after another at 193 per minute: five minutes
POLICY = "deploy-cost-export-a"


def onboarding(session: Session) -> dict[str, Any]:
    """Return the document. Exports beyond the first thousand scopes are listed without being read, with type null."""
    deployed = require(session)
    settings = settings_of(session, deployed)  # raises for settings that cannot be read
    seen = connector(session, deployed)
    first = settings.destination[0]
    account = session.rest.get(first.id, STORAGE_API) or {}
    listed, unseen = scopes(session.rest, settings)
    for problem in unseen:
        say(err(), f"some scopes could not be read: {problem}")
    subscriptions = [one for one in listed if one.traits.get(ROLE) != BILLING]
    billing = [one for one in listed if one.traits.get(ROLE) == BILLING]
    per_subscription = _exports(session.rest, settings, subscriptions)
    groups = [one for one in seen.monitored() if one.lower().startswith(MANAGEMENT_GROUP)]
    single = [one.split("/")[2] for one in seen.monitored() if one.lower().startswith("/subscriptions/")]
    return {
        "tenantId": session.tenant,
        "tailpipe": {"appId": seen.app or None, "servicePrincipalObjectId": seen.principal or None},
        "monitoringAccess": {
            "mode": "managementGroup" if groups else "perSubscription" if single else "none",
            "managementGroupId": groups[0].rsplit("/", 1)[1] if groups else None,
            "subscriptions": [] if groups else single,
        },
        "storage": {
            "subscriptionId": first.subscription,
            "resourceGroup": first.id.split("/")[4],
            "accountName": first.name,
            "accountResourceId": first.id,
            "container": deployed.container,
            "paths": {
                "billing": f"{ROOT}/billing",
                "subscriptions": [f"{ROOT}/subscriptions/{one.id}" for one in subscriptions],
            },
            "blobEndpoint": ((account.get("properties") or {}).get("primaryEndpoints") or {}).get("blob"),
        },
        "costExports": {
            "billing": [
                {"scope": one["subscriptionId"], "name": one["name"], "type": one["type"]}
                for one in _exports(session.rest, settings, billing)
            ]
            or None,
            "perSubscription": per_subscription,
        },
        "automation": {"policyEnabled": _policy(session), "runbookEnabled": _runbook(session)},
    }


def _exports(rest: Rest, settings: AzureSettings, listed: list[Scope]) -> list[dict[str, Any]]:
    """Return the existing exports with our names; beyond READ_AT_MOST scopes, the expected ones."""
    found: list[dict[str, Any]] = []
    unread: dict[str, list[str]] = {}
    for scope, live in exports_of(rest, listed[:READ_AT_MOST]):
        wanted = {export_name(scope, dataset) for dataset in settings.exports}
        if isinstance(live, ReportedError):
            unread.setdefault(live.message, []).append(scope.id)
            continue
        found += [
            {"subscriptionId": scope.id, "name": one["name"], "type": _type(one)}
            for one in live
            if one["name"] in wanted
        ]
    for why, ids in unread.items():
        say(err(), f"the exports of {number_of(ids, 'scope')} could not be read ({some(ids)}): {why}")
    for scope in listed[READ_AT_MOST:]:
        names = [export_name(scope, dataset) for dataset in settings.exports]
        found += [{"subscriptionId": scope.id, "name": name, "type": None} for name in names]
    if len(listed) > READ_AT_MOST:
        say(err(), f"{len(listed) - READ_AT_MOST:,} further scopes have their exports' names without their types")
    return found


def _type(export: Mapping[str, Any]) -> str | None:
    definition = (export.get("properties") or {}).get("definition") or {}
    return str(definition["type"]) if definition.get("type") else None


def _policy(session: Session) -> bool:
    if not session.group:
        return False
    path = f"{MANAGEMENT_GROUPS}/{session.group}/providers/Microsoft.Authorization/policyAssignments/{POLICY}"
    return session.rest.get(path, AUTHORIZATION_API) is not None


def _runbook(session: Session) -> bool:
    wanted = "resourceType eq 'Microsoft.Automation/automationAccounts'"
    found = session.rest.pages(f"{session.path}/resources", RESOURCES_API, _filter=wanted)
    return any("tailpipe" in str(one["name"]).lower() for one in found)
