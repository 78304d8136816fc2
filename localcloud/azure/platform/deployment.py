"""The state after a deployment: every resource that infra/azure manages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from localcloud.azure.iam.function_roles import function_roles
from localcloud.azure.iam.grants import RIGHTS, Grant, conditions_of, read_grants
from localcloud.azure.platform.resources_api import keep
from localcloud.azure.platform.sites import Site
from localcloud.azure.services.directory import DEPLOYED_PROVIDERS, made_up_id
from localcloud.azure.services.storage import StorageAccount
from localcloud.azure.state import World

CONTAINER = "dataexport"
STATE_CONTAINER = "tailpipe-state"
REGISTRY_CONTAINER = "tailpipe-registry"
NOTIFY_SECRET = "tailpipe-webhook"  # noqa: S105 - the name of a secret, not one
TAILPIPE_APP = "f5f07900-0484-4506-a34d-ec781138342a"  # Tailpipe's application in production
TAGS = {"managed-by": "tailpipe-exports"}
# Where the application of a deployment for several tenants has rights in a customer's tenant.
ONBOARDED = ("management_group", "destination_subscription", "destination", "delegation", "delivery_documents")


def deploy(
    world: World,
    principal: str,
    destinations: Sequence[StorageAccount],
    host: StorageAccount,
    settings: Mapping[str, str],
    identity_exports: bool,
    group: str = "",
    listed: Sequence[str] = (),
    rights: Path = RIGHTS,
) -> Site:
    """Create all resources of a deployment and return the function app.

    `principal` is the function app's identity and `settings` its app settings. `group` is the management group that it
    covers (default: the root group); `listed` are the subscriptions that it covers instead of a group; `rights` is the
    file with its rights.
    """
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
        modified=world.clock.now(),
    )
    world.sites[site.id.lower()] = site
    world.topic = f"{site.id.rsplit('/providers/', 1)[0]}/providers/Microsoft.EventGrid/topics/{site.name}"
    telemetry = _keep_companions(world, site)
    _storage(world, destinations, host, identity_exports)
    groups = f"/providers/Microsoft.Management/managementGroups/{group or world.tenant}"
    scopes = [f"/subscriptions/{one}" for one in listed] or [groups]
    _assign_roles(world, site, tailpipe, destinations, host, telemetry, identity_exports, scopes, rights)
    return site


def _assign_roles(
    world: World,
    site: Site,
    tailpipe: str,
    destinations: Sequence[StorageAccount],
    host: StorageAccount,
    telemetry: str,
    identity_exports: bool,
    scopes: Sequence[str],
    rights: Path,
) -> None:
    """Assign the roles of the Terraform module to the function and Tailpipe, at the same scopes."""
    accounts = [one.id for one in destinations]
    places = {
        "management_group": scopes,
        "destination_subscription": list(dict.fromkeys(f"/subscriptions/{one.subscription}" for one in destinations)),
        "destination": accounts,
        "delegation": accounts,
        "destination_container": [f"{one}/blobServices/default/containers/{CONTAINER}" for one in accounts],
        "state": [host.id],
        "telemetry": [telemetry],
        "notify_secret": [f"{world.vault}/secrets/{NOTIFY_SECRET}"],
        "activity_log": [world.activity_workspace],
        "delivery_documents": [f"{accounts[0]}/blobServices/default/containers/{CONTAINER}"],
        "delivery_topic": [world.topic],
    }
    conditions = conditions_of(
        identity_exports, scopes[0].startswith("/providers/"), notify=True, activity_log=True, deliveries=True
    )
    function_grants, connector_grants = (read_grants(who, conditions, rights) for who in ("function", "connector"))
    roles = function_roles(site.name, function_grants)
    world.rights.roles |= {role.id: role for role in roles.values()}
    conditioned = {grant.place: grant.condition for grant in function_grants}
    for place, role in roles.items():
        for where in places[place]:
            _assign(world, where, site.principal, role.id, conditioned[place])
    _assign_built_in(world, function_grants, site.principal, places)
    _assign_built_in(world, connector_grants, tailpipe, places)


def serve_tenants(world: World, site: Site, registry: StorageAccount, client: str, principal: str) -> None:
    """Add what a deployment with `fleet = true` has: the registry's container, an identity, and alarms.

    `client` and `principal` are the ids of the user-assigned identity that the tenants' applications trust; `registry`
    is the account with the tenant registry.
    """
    group = site.id.rsplit("/providers/", 1)[0]
    ids = {"clientId": client, "principalId": principal}
    body = {"location": site.location, "tags": dict(TAGS), "properties": {**ids, "tenantId": world.tenant}}
    where = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{site.name}-tenants"
    site.assigned[keep(world, where, body)["id"]] = ids
    for alarm in FLEET_ALARMS:
        rule = {"location": site.location, "tags": dict(TAGS)}
        keep(world, f"{group}/providers/Microsoft.Insights/scheduledQueryRules/{site.name}-{alarm}", rule)
    world.blobs.make_container(registry.name, REGISTRY_CONTAINER)


def fleet_settings(client: str, schedule: str) -> dict[str, str]:
    """Return the app settings of a deployment with `fleet = true`; see infra/azure/function.tf."""
    return {
        "ROUND_SCHEDULE": schedule,
        "ROUND_TENANTS": "20",
        "ROUND_SECONDS": "3000",
        "TENANTS_IDENTITY": client,
        "PYTHON_THREADPOOL_THREAD_COUNT": "12",
    }


def onboard(
    world: World,
    principal: str,
    account: StorageAccount,
    rights: Path = RIGHTS,
    identity_exports: bool = False,
    deliveries: bool = False,
) -> None:
    """Assign an application the roles of an invitation in a customer's tenant, and create the export container.

    The roles are those of the function in its own tenant, without state, telemetry and secrets.
    """
    root = f"/providers/Microsoft.Management/managementGroups/{world.tenant}"
    places = dict.fromkeys(ONBOARDED, account.id) | {
        "management_group": root,
        "destination_subscription": f"/subscriptions/{account.subscription}",
        "delivery_documents": f"{account.id}/blobServices/default/containers/{CONTAINER}",
    }
    conditions = conditions_of(identity_exports, deliveries=deliveries)
    grants = [one for one in read_grants("function", conditions, rights) if one.place in places]
    roles = function_roles("tenant", grants)
    world.rights.roles |= {role.id: role for role in roles.values()}
    conditioned = {grant.place: grant.condition for grant in grants}
    for place, role in roles.items():
        _assign(world, places[place], principal, role.id, conditioned[place])
    world.blobs.make_container(account.name, CONTAINER)
    account.tags, account.shared_key = dict(TAGS), not identity_exports
    registered = world.directory.get(account.subscription).registered
    registered.update({name.lower(): 0.0 for name in DEPLOYED_PROVIDERS})


def _assign_built_in(
    world: World, grants: Sequence[Grant], principal: str, places: Mapping[str, Sequence[str]]
) -> None:
    named = {role.name: role.id for role in world.rights.roles.values()}
    for grant in grants:
        for where in places[grant.scope] if grant.role else ():
            _assign(world, where, principal, named[grant.role])


def _assign(world: World, scope: str, principal: str, role: str, condition: str = "") -> None:
    identifier = made_up_id("assignment", scope.lower(), principal, role)
    world.rights.assign(scope, principal, role, identifier, condition=condition)


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


def _keep_companions(world: World, site: Site) -> str:
    """Store the resources that accompany a function app; return the ID of its Application Insights component."""
    group = site.id.rsplit("/providers/", 1)[0]
    body = {"location": site.location, "tags": dict(TAGS)}
    for kind, name in (
        ("Microsoft.Web/serverFarms", site.name),
        ("Microsoft.OperationalInsights/workspaces", site.name),
        ("Microsoft.Insights/actionGroups", site.name),
        ("Microsoft.Resources/deployments", site.name),
        *(("Microsoft.Insights/scheduledQueryRules", f"{site.name}-{alarm}") for alarm in ALARMS),
        # A workbook's name is a GUID, here derived from the subscription and the site.
        ("Microsoft.Insights/workbooks", str(uuid5(NAMESPACE_URL, f"{site.id.split('/')[2]}/{site.name}"))),
    ):
        keep(world, f"{group}/providers/{kind}/{name}", dict(body))
    # Azure creates these two automatically, a few minutes after the component.
    for kind, name in (
        ("Microsoft.AlertsManagement/smartDetectorAlertRules", f"Failure Anomalies - {site.name}"),
        ("Microsoft.Insights/actionGroups", "Application Insights Smart Detection"),
    ):
        keep(world, f"{group}/providers/{kind}/{name}", {"location": "global"})
    return str(keep(world, f"{group}/providers/Microsoft.Insights/components/{site.name}", dict(body))["id"])


ALARMS = ("no-success", "failed", "missing", "manual", "excluded", "events")
FLEET_ALARMS = ("failed-rounds", "late-rounds", "missed-rounds")
