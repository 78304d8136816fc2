"""Rights: custom roles and role assignments of the function, Tailpipe and the writers of the registry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tools.azure_template.expressions import (
    DEPLOYMENT_SCHEMA,
    OF,
    SUBSCRIPTION_SCHEMA,
    Json,
    assignment,
    built_in,
    copies,
    existing,
    listed,
    role,
    template,
)
from tools.azure_template.facts import Facts

Grant = Mapping[str, Any]
# What the title of each custom role begins with; the function's name ends it.
TITLE = "Tailpipe Exports, "
WHO = "parameters('functionIdentity')"
PRINCIPAL: Json = {"deployment": {"type": "object"}, "functionIdentity": {"type": "string"}}
_ACCOUNT = "Microsoft.Storage/storageAccounts"
# What `when` in rights.yaml means; "" is always, None depends on the template.
CONDITIONS = {
    "export_key": f"not({OF}.exportIdentity)",
    "export_identity": f"{OF}.exportIdentity",
    "monitoring": f"not(equals({OF}.monitoringAccess, 'none'))",
    "notify": f"not(empty({OF}.notifySecret))",
    "activity_log": f"{OF}.readsActivityLog",
    "deliveries": f"{OF}.deliveryEvents",
    "fleet": f"{OF}.fleet",
}


def place(grant: Grant) -> str:
    """Return the role of a grant, as identity.tf names it: its scope, or a role of its own under a condition."""
    return "delegation" if grant.get("condition") and grant["scope"] == "destination" else str(grant["scope"])


def permissions(grants: Sequence[Grant], at: str, group: bool = False) -> Json:
    """Return the permissions of the custom role at a place. `group`: the function keeps a management group."""
    actions: list[tuple[str, str]] = []
    data: list[tuple[str, str]] = []
    for grant in grants:
        when = grant.get("when", "")
        if "role" in grant or place(grant) != at or (when == "management_group" and not group):
            continue
        # The condition of a role of its own is that of the role, which is there or not.
        condition = "" if grant.get("condition") else CONDITIONS.get(when, "")
        if at == "activity_log":
            condition = ""
        actions += [(one, condition) for one in grant.get("actions", ())]
        data += [(one, condition) for one in grant.get("data_actions", ())]
    return {"actions": listed(actions), "notActions": [], "dataActions": listed(data), "notDataActions": []}


def role_guid(at: str) -> str:
    """Return the expression of a custom role's GUID."""
    return f"{OF}.roles.{at}"


def role_guids(titles: Mapping[str, str]) -> Json:
    """Return the variable with the GUIDs of the custom roles with these titles, by place."""
    return {
        at: "["
        + existing(
            f"concat('{TITLE}{title} (', variables('functionName'), ')')",
            f"guid(variables('functionId'), '{at}')",
            "parameters('existingNames')",
        )
        + "]"
        for at, title in titles.items()
    }


def made_here(at: str) -> str:
    """Return what an assignment depends on: the role as the resource of this template."""
    return f"[resourceId('Microsoft.Authorization/roleDefinitions', {role_guid(at)})]"


def custom_role(facts: Facts, at: str, scopes: Any, group: bool = False, **more: Any) -> Json:
    """Return the function's custom role at a place."""
    return role(
        role_guid(at),
        f"[concat('{TITLE}{facts.role_titles[at]} (', {OF}.functionName, ')')]",
        f"[concat('What the function ', {OF}.functionName, ' does there, and nothing more.')]",
        permissions(facts.rights["function"], at, group),
        scopes,
        **more,
    )


def condition_of(facts: Facts, at: str) -> Mapping[str, str]:
    """Return the condition of the grant that has a role of its own."""
    return next(one["condition"] for one in facts.rights["function"] if place(one) == at and "condition" in one)


def access(facts: Facts) -> Json:
    """Return the template of the rights in the resource group: on its accounts, telemetry, topic and containers."""
    first = f"resourceId('{_ACCOUNT}', {OF}.destinationName)"
    scopes = {
        "state": f"resourceId('{_ACCOUNT}', {OF}.hostName)",
        "telemetry": f"resourceId('Microsoft.Insights/components', {OF}.functionName)",
        "delivery_topic": f"resourceId('Microsoft.EventGrid/topics', {OF}.functionName)",
    }
    documents = f"concat({first}, '/blobServices/default/containers/', {OF}.containerName)"
    registry = f"concat({first}, '/blobServices/default/containers/tailpipe-registry')"
    each = f"resourceId('{_ACCOUNT}', {OF}.destinationNames[copyIndex()])"
    found: list[Json] = [
        custom_role(facts, "destination", f"[{OF}.destinationGroups]"),
        custom_role(facts, "delegation", f"[{OF}.destinationGroups]", condition=f"[{OF}.exportIdentity]"),
        custom_role(facts, "delivery_documents", [f"[{OF}.groupId]"], condition=f"[{OF}.deliveryEvents]"),
        *on_account(facts, each, f"{OF}.destinationNames"),
        assignment(
            documents,
            role_guid("delivery_documents"),
            WHO,
            condition=f"[{OF}.deliveryEvents]",
            dependsOn=[made_here("delivery_documents")],
            condition_of=condition_of(facts, "delivery_documents"),
        ),
        *(
            assignment(scopes[grant["scope"]], built_in(grant["role"]), WHO, **_when(grant))
            for grant in facts.rights["function"]
            if grant.get("role") and grant["scope"] in scopes
        ),
    ]
    for grant in facts.rights["registry_writer"]:
        writer = f"{OF}.registryWriters[copyIndex()]"
        made = assignment(registry, built_in(grant["role"]), writer, **copies("writers", f"{OF}.registryWriters"))
        del made["properties"]["principalType"]  # users, groups or service principals
        found.append(made)
    return template(DEPLOYMENT_SCHEMA, PRINCIPAL, found)


def _when(grant: Grant) -> Json:
    return {"condition": f"[{CONDITIONS[grant['when']]}]"} if grant.get("when") else {}


def on_account(facts: Facts, account: str, of: str) -> Iterator[Json]:
    """Yield the assignments on each destination account: the function's two roles, and Tailpipe's on the container."""
    own = {"dependsOn": [made_here("destination")]} if of.endswith("Names") else {}
    delegated = {"dependsOn": [made_here("delegation")]} if own else {}
    yield assignment(account, role_guid("destination"), WHO, **copies("destinationAssignments", of), **own)
    yield assignment(
        account,
        role_guid("delegation"),
        WHO,
        condition=f"[{OF}.exportIdentity]",
        **copies("delegationAssignments", of),
        **delegated,
        condition_of=condition_of(facts, "delegation"),
    )
    container = f"concat({account}, '/blobServices/default/containers/', {OF}.containerName)"
    for grant in facts.rights["connector"]:
        if grant["scope"] == "destination_container":
            yield assignment(container, built_in(grant["role"]), f"{OF}.connectorObjectId", **copies("readers", of))


def further_account(facts: Facts) -> Json:
    """Return the template of the rights on one account elsewhere, in its resource group."""
    made = []
    for one in on_account(facts, "parameters('account')", "parameters('account')"):
        one.pop("copy", None)
        made.append(one)
    return template(DEPLOYMENT_SCHEMA, {**PRINCIPAL, "account": {"type": "string"}}, made)


def in_subscription(facts: Facts) -> Json:
    """Return the template of the rights on one subscription: of a destination, or one whose exports are kept."""
    monitoring = next(one for one in facts.rights["connector"] if one["scope"] == "management_group")
    return template(
        SUBSCRIPTION_SCHEMA,
        {
            **PRINCIPAL,
            "holdsDestination": {"type": "bool"},
            "isKept": {"type": "bool"},
            "isMonitored": {"type": "bool"},
        },
        [
            assignment(
                "",
                role_guid("destination_subscription"),
                WHO,
                condition="[parameters('holdsDestination')]",
            ),
            assignment("", role_guid("management_group"), WHO, condition="[parameters('isKept')]"),
            assignment(
                "",
                built_in(monitoring["role"]),
                f"{OF}.connectorObjectId",
                condition="[parameters('isMonitored')]",
            ),
        ],
        variables={"here": "[subscription().id]"},
    )


def activity_log(facts: Facts) -> Json:
    """Return the template of the right on the workspace with the activity logs, in its resource group."""
    return template(
        DEPLOYMENT_SCHEMA,
        PRINCIPAL,
        [
            custom_role(facts, "activity_log", [f"[first(split({OF}.activityLogWorkspaceId, '/providers/'))]"]),
            assignment(
                f"{OF}.activityLogWorkspaceId",
                role_guid("activity_log"),
                WHO,
                dependsOn=[made_here("activity_log")],
            ),
        ],
    )


def notify_secret(facts: Facts) -> Json:
    """Return the template of the right on the webhook's secret, in its vault's resource group."""
    grant = next(one for one in facts.rights["function"] if one["scope"] == "notify_secret")
    return template(DEPLOYMENT_SCHEMA, PRINCIPAL, [assignment(f"{OF}.notifySecret", built_in(grant["role"]), WHO)])
