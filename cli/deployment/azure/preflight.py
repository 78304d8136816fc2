"""Checks before a deployment on Azure: what would make it fail."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from typing import Any

from azure_function.settings import CLOUDS
from cli.deployment.azure.app import (
    NAME_VARIABLE,
    RESOURCES_API,
    SITES_API,
    TAG,
    TAGGED,
    app_settings,
    apps,
    apps_of_tenant,
    subscription_of,
)
from cli.deployment.azure.names import names
from cli.deployment.azure.rest import Rest
from cli.deployment.azure.session import MANAGEMENT_GROUPS, NO_REGION, SUBSCRIPTION_ID, Session
from cli.deployment.model import Finding, OperatorError, Problem
from shared.errors import NotFound

GROUPS_API = "2020-05-01"
STORAGE_API = "2023-05-01"
ROLES_API = "2022-04-01"
PROVIDERS = (
    "Microsoft.App",  # of a function in a network; "Flex Consumption plan", considerations
    "Microsoft.CostManagement",
    "Microsoft.CostManagementExports",
    "Microsoft.EventGrid",
    "Microsoft.Insights",
    "Microsoft.ManagedIdentity",
    "Microsoft.Network",
    "Microsoft.OperationalInsights",
    "Microsoft.PolicyInsights",
    "Microsoft.Storage",
    "Microsoft.Web",
)
# "Troubleshoot Azure RBAC limits": role assignments of a subscription.
ASSIGNMENTS = 4000
ROOM = 50  # the module itself needs about ten per destination
OLD_RUNBOOK = "Microsoft.Automation/automationAccounts"


def detected(session: Session, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the management group, unless subscriptions are listed, and the region of existing resources."""
    found: dict[str, Any] = {}
    ids = [one for one in session.subscriptions if SUBSCRIPTION_ID.fullmatch(one)]
    unknown = [one for one in ids if session.rest.get(f"/subscriptions/{one}", RESOURCES_API) is None]
    if unknown:
        raise OperatorError(
            *(
                Problem(
                    f"subscription {one} of include_subscriptions does not exist, or you may not see it",
                    "Take it out of include_subscriptions, or correct its id; `az account list --all` shows yours.",
                )
                for one in unknown
            )
        )
    if session.region != NO_REGION:
        found["location"] = session.region
    if session.subscriptions and not session.group:
        # As currently deployed, so that a missing variable changes nothing.
        found["include_subscriptions"] = list(session.subscriptions)
    if not given.get("include_subscriptions") and session.group:
        if session.rest.get(f"{MANAGEMENT_GROUPS}/{session.group}", GROUPS_API) is None:
            raise OperatorError(
                Problem(
                    f"management group {session.group} does not exist",
                    "Write --var management_group_id=NAME of an existing one, or list the subscriptions: "
                    "--var 'include_subscriptions=[\"ID\"]'.",
                )
            )
        found["management_group_id"] = session.group
    return found


def preflight(session: Session, given: Mapping[str, Any], terraform: bool = True) -> list[Finding]:
    """Return the checks; `ok` False stops the deployment. `terraform`: it runs programs that publish the package."""
    looks: list[Callable[[], list[Finding]]] = [
        lambda: [_publisher(session.rest)] if terraform else [],
        lambda: _cloud(session.rest),
        lambda: _group(session, given),
        lambda: _accounts(session, given),
        lambda: [_function(session, given)],
        lambda: _others(session, given),
        lambda: _elsewhere(session),
        lambda: [_region(session, given)],
        lambda: [_providers(session)],
        lambda: [_assignments(session, given)],
    ]
    found: list[Finding] = []
    for look in looks:
        try:
            found += look()
        except OperatorError as error:
            found.append(Finding("a precondition could not be checked", None, str(error), error.problems[0].remedy))
    return found


def _publisher(rest: Rest) -> Finding:
    what = "the Azure CLI and Python 3, which publish the package"
    lacking = [one for one in ("az", "python3") if not shutil.which(one)]
    if rest.loopback or not lacking:
        return Finding(what, True)
    remedy = "Install the Azure CLI and run az login." if "az" in lacking else "Install Python 3.11 or newer."
    return Finding(what, False, f"{' and '.join(lacking)} not on the PATH", remedy)


def _cloud(rest: Rest) -> list[Finding]:
    """Check that this is the public cloud: Tailpipe's application exists in its Microsoft Entra ID only."""
    if rest.settings.cloud == CLOUDS["public"]:
        return []
    detail = "Azure Government and Azure China are not supported: Tailpipe's application is in the public cloud only"
    return [Finding("the public cloud", False, detail, "Unset AZURE_CLOUD, and sign in to the public cloud.")]


def _group(session: Session, given: Mapping[str, Any]) -> list[Finding]:
    """Return what the resource group already holds: an earlier deployment, or resources of the older scripts."""
    wanted = names(session.subscription, given)
    path = f"{session.path}/resourceGroups/{wanted.group}"
    what = f"resource group {wanted.group}"
    group = session.rest.get(path, RESOURCES_API)
    if group is None:
        return [Finding(what, True, "does not exist yet")]
    there = list(session.rest.pages(f"{path}/resources", RESOURCES_API))
    kinds = {str(one["type"]).lower() for one in there}
    ours = (group.get("tags") or {}).get(TAG) == TAGGED
    location, asked = str(group.get("location", "")), given.get("location")
    if asked and location and asked != location:
        return [
            Finding(
                what,
                False,
                f"is in {location}, and a resource group cannot move to {asked}",
                f"Write --var location={location}, or --var resource_group_name=ANOTHER-NAME.",
            )
        ]
    if ours:
        state = "deployed already" if "microsoft.web/sites" in kinds else "left by an interrupted deployment"
        return [Finding(what, True, f"{state}, {len(there)} resources: existing ones are kept and adopted")]
    found = [Finding(what, True, f"exists with {len(there)} resources that this deployment did not create: adopted")]
    if OLD_RUNBOOK.lower() in kinds:
        accounts = [str(one["name"]) for one in there if str(one["type"]).lower() == OLD_RUNBOOK.lower()]
        found.append(
            Finding(
                f"automation account {', '.join(accounts)}",
                None,
                "the older runbook is still there; the function replaces it, and both can run side by side",
                f"Once the function works: az automation account delete --resource-group {wanted.group} "
                f"--name {accounts[0]}",
            )
        )
    return found


def _accounts(session: Session, given: Mapping[str, Any]) -> list[Finding]:
    wanted = names(session.subscription, given)
    found = []
    for number, name in enumerate((wanted.host, *wanted.accounts)):
        what = f"storage account name {name}"
        path = f"{session.path}/resourceGroups/{wanted.group}/providers/Microsoft.Storage/storageAccounts/{name}"
        body = {"name": name, "type": "Microsoft.Storage/storageAccounts"}
        answer = session.rest.ask(
            "POST", f"{session.path}/providers/Microsoft.Storage/checkNameAvailability", STORAGE_API, body
        )
        if answer.get("nameAvailable"):
            found.append(Finding(what, True, "is free"))
        elif answer.get("reason") == "AlreadyExists" and session.rest.get(path, STORAGE_API) is not None:
            found.append(Finding(what, True, f"is yours, in {wanted.group}: adopted"))
        else:
            variable = "host_storage_account_name" if number == 0 else "storage_account_name"
            found.append(
                Finding(
                    what,
                    False,
                    f"{answer.get('message') or 'is not available'} It is not in your resource group {wanted.group}.",
                    f"Write --var {variable}=ANOTHER-NAME: 3 to 24 small letters and digits, unique in all of Azure.",
                )
            )
    return found


def _function(session: Session, given: Mapping[str, Any]) -> Finding:
    wanted = names(session.subscription, given)
    what = f"function app name {wanted.function}"
    path = f"{session.path}/resourceGroups/{wanted.group}/providers/Microsoft.Web/sites/{wanted.function}"
    body = {"name": wanted.function, "type": "Site"}
    answer = session.rest.ask("POST", f"{session.path}/providers/Microsoft.Web/checkNameAvailability", SITES_API, body)
    if answer.get("nameAvailable"):
        return Finding(what, True, "is free")
    if session.rest.get(path, SITES_API) is not None:
        return Finding(what, True, "is yours and will be updated")
    message = str(answer.get("message") or "is not available")
    return Finding(what, False, message, "Write --var function_name=ANOTHER-NAME; it is unique in all of Azure.")


def _elsewhere(session: Session) -> list[Finding]:
    """Look for a deployment in another subscription: both would redirect the exports of shared subscriptions."""
    return [
        _other_deployment(session, one)
        for one in apps_of_tenant(session.rest)
        if subscription_of(one) != session.subscription
    ]


def _other_deployment(session: Session, app: Mapping[str, Any]) -> Finding:
    subscription = subscription_of(app)
    what = f"function app {app['name']} in subscription {subscription}"
    remedy = (
        f"Bring that one up to date instead: AZURE_SUBSCRIPTION_ID={subscription}; or destroy it first; or give each "
        "subscriptions or a management group of its own: --var include_subscriptions, --var management_group_id."
    )
    try:
        settings = app_settings(session.rest, app)
    except OperatorError as error:
        return Finding(what, None, f"is another deployment, and what it exports is not known: {error}", remedy)
    group = settings.get("MANAGEMENT_GROUP", "").lower()
    listed = {one.strip().lower() for one in settings.get("INCLUDE_SUBSCRIPTIONS", "").split(",") if one.strip()}
    both = sorted(listed & {one.lower() for one in session.subscriptions})
    whole = session.tenant in (group, session.group.lower())
    if whole or both or (group and group == session.group.lower()):
        shared = ", ".join(both) if both else "subscriptions"
        return Finding(what, False, f"exports {shared} of this one too: each would redirect the other's", remedy)
    if group and session.group:
        return Finding(
            what, None, f"exports below management group {group}: see that no subscription is in both", remedy
        )
    return Finding(what, True, "exports other subscriptions")


def _others(session: Session, given: Mapping[str, Any]) -> list[Finding]:
    """Check that the subscription has no other deployment: both would redirect each other's exports."""
    wanted = names(session.subscription, given).function.lower()
    return [
        Finding(
            f"function app {one['name']}",
            False,
            "is another deployment in this subscription, and would redirect the exports of this one at every run",
            f"Keep its name ({NAME_VARIABLE}={one['name']} and --var function_name), or destroy it first.",
        )
        for one in apps(session.rest, session.subscription)
        if str(one["name"]).lower() != wanted
    ]


def _region(session: Session, given: Mapping[str, Any]) -> Finding:
    """Check that the region offers the function's hosting plan ("Web Apps - List Geo Regions")."""
    asked = str(given.get("location", ""))
    what = f"Flex Consumption in {asked}"
    listed = session.rest.pages(f"{session.path}/providers/Microsoft.Web/geoRegions", SITES_API, sku="FlexConsumption")
    offered = sorted({str(one.get("name", "")).replace(" ", "").lower() for one in listed})
    if not offered:
        return Finding(what, None, "Azure lists no region that offers it")
    if asked in offered:
        return Finding(what, True, "is offered")
    return Finding(what, False, "is not offered there", f"Write --var location= one of {', '.join(offered)}.")


def _providers(session: Session) -> Finding:
    what = "resource providers"
    missing = []
    for name in PROVIDERS:
        try:
            state = (session.rest.get(f"{session.path}/providers/{name}", RESOURCES_API) or {}).get("registrationState")
        except OperatorError as error:
            return Finding(what, None, str(error), error.problems[0].remedy)
        if state != "Registered":
            missing.append(name)
    if not missing:
        return Finding(what, True, "all registered")
    return Finding(what, True, f"the deployment registers {', '.join(missing)}, which takes some minutes")


def _assignments(session: Session, given: Mapping[str, Any]) -> Finding:
    """Count role assignments: Azure limits them, and every export with an identity needs one."""
    what = "room for role assignments"
    path = f"{session.path}/providers/Microsoft.Authorization/roleAssignments"
    try:
        held = sum(
            str(one["properties"].get("scope", "")).lower().startswith(session.path)
            for one in session.rest.pages(path, ROLES_API)
        )
    except (NotFound, OperatorError) as error:
        return Finding(what, None, f"they could not be counted: {error}")
    left = ASSIGNMENTS - held
    if left < ROOM:
        return Finding(
            what,
            False,
            f"{held} of {ASSIGNMENTS} are used in subscription {session.subscription}",
            "Remove unused assignments there, or set AZURE_SUBSCRIPTION_ID to another subscription.",
        )
    detail = f"{held} of {ASSIGNMENTS} are used"
    if given.get("export_identity"):
        detail += f"; every export takes one, so that {left - ROOM} exports fit"
    return Finding(what, True, detail)
