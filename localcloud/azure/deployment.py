"""What a deployment leaves in the tenant: everything that infra/azure owns, in the state after it was applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from localcloud.azure.directory import DEPLOYED_PROVIDERS, made_up_id
from localcloud.azure.function_roles import function_roles
from localcloud.azure.resources import keep
from localcloud.azure.rights import BLOB_DATA_OWNER, BLOB_DATA_READER, METRICS_PUBLISHER, MONITORING_READER
from localcloud.azure.sites import Site
from localcloud.azure.storage import StorageAccount
from localcloud.azure.world import World

CONTAINER = "dataexport"
STATE_CONTAINER = "tailpipe-state"
TAILPIPE_APP = "f5f07900-0484-4506-a34d-ec781138342a"  # Tailpipe's application in production
TAGS = {"managed-by": "tailpipe-exports"}


def deploy(
    world: World,
    principal: str,
    destinations: Sequence[StorageAccount],
    host: StorageAccount,
    settings: Mapping[str, str],
    identity_exports: bool,
) -> Site:
    """Make it all, and return the function app; `principal` is its identity, `settings` its app settings."""
    tailpipe = world.service_principals[TAILPIPE_APP] = made_up_id("Tailpipe's enterprise application")
    site = Site(
        name=f"tailpipe-exports-{host.subscription[-6:]}",
        subscription=host.subscription,
        group=host.group,
        location=host.location,
        principal=principal,
        settings={
            **settings,
            "AzureWebJobsStorage__accountName": host.name,
            "AzureWebJobsStorage__credential": "managedidentity",
        },
        tags=dict(TAGS),
    )
    world.sites[site.id.lower()] = site
    telemetry = _keep_beside(world, site)
    _storage(world, destinations, host, identity_exports)
    root = f"/providers/Microsoft.Management/managementGroups/{world.tenant}"
    roles = function_roles(site.name, identity_exports)
    world.rights.roles |= {role.id: role for role in roles.values()}
    scopes = {
        "management_group": [root],
        "destination_subscription": list(dict.fromkeys(f"/subscriptions/{one.subscription}" for one in destinations)),
        "destination": [one.id for one in destinations],
        "delegation": [one.id for one in destinations],
    }
    for scope, role in roles.items():
        for where in scopes[scope]:
            _assign(world, where, principal, role.id)
    _assign(world, host.id, principal, BLOB_DATA_OWNER)
    _assign(world, telemetry, principal, METRICS_PUBLISHER)
    for one in destinations:
        _assign(world, f"{one.id}/blobServices/default/containers/{CONTAINER}", tailpipe, BLOB_DATA_READER)
    _assign(world, root, tailpipe, MONITORING_READER)
    return site


def _assign(world: World, scope: str, principal: str, role: str) -> None:
    world.rights.assign(scope, principal, role, made_up_id("assignment", scope.lower(), principal, role))


def _storage(
    world: World, destinations: Sequence[StorageAccount], host: StorageAccount, identity_exports: bool
) -> None:
    for account in (*destinations, host):
        account.tags = dict(TAGS)
        account.lifecycle = {"policy": {"rules": []}}
        world.group_tags[(account.subscription, account.group)] = dict(TAGS)
    world.blobs.make_container(host.name, STATE_CONTAINER)
    host.shared_key = False
    for account in destinations:
        world.blobs.make_container(account.name, CONTAINER)
        account.shared_key = not identity_exports
        owner = world.directory.get(account.subscription)
        owner.registered.update({name.lower(): 0.0 for name in DEPLOYED_PROVIDERS})


def _keep_beside(world: World, site: Site) -> str:
    """Keep what a function app needs around it; return the id of its Application Insights."""
    group = site.id.rsplit("/providers/", 1)[0]
    body = {"location": site.location, "tags": dict(TAGS)}
    for kind, name in (
        ("Microsoft.Web/serverFarms", site.name),
        ("Microsoft.OperationalInsights/workspaces", site.name),
        ("Microsoft.Insights/actionGroups", site.name),
        ("Microsoft.Resources/deployments", site.name),
        *(("Microsoft.Insights/scheduledQueryRules", f"{site.name}-{alarm}") for alarm in ALARMS),
    ):
        keep(world, f"{group}/providers/{kind}/{name}", dict(body))
    # Azure makes these two by itself, some minutes after the component.
    for kind, name in (
        ("Microsoft.AlertsManagement/smartDetectorAlertRules", f"Failure Anomalies - {site.name}"),
        ("Microsoft.Insights/actionGroups", "Application Insights Smart Detection"),
    ):
        keep(world, f"{group}/providers/{kind}/{name}", {"location": "global"})
    return str(keep(world, f"{group}/providers/Microsoft.Insights/components/{site.name}", dict(body))["id"])


ALARMS = ("no-success", "failed", "missing", "manual")
