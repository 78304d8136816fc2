"""Parts of ARM templates that several of the templates use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tools.azure_template.facts import BUILT_IN

Json = dict[str, Any]
DEPLOYMENT_SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
SUBSCRIPTION_SCHEMA = "https://schema.management.azure.com/schemas/2018-05-01/subscriptionDeploymentTemplate.json#"
GROUP_SCHEMA = "https://schema.management.azure.com/schemas/2019-08-01/managementGroupDeploymentTemplate.json#"
DEPLOYMENTS, ROLES, STORAGE = "2022-09-01", "2022-04-01", "2023-05-01"
# The one parameter of the inner templates: every parameter, and the names that are made from them.
OF = "parameters('deployment')"


def template(schema: str, parameters: Json, resources: Sequence[Json], **parts: Any) -> Json:
    """Return a template; `parts` are its variables and outputs."""
    document: Json = {"$schema": schema, "contentVersion": "1.0.0.0", "parameters": parameters}
    if "variables" in parts:
        document["variables"] = parts["variables"]
    document["resources"] = list(resources)
    if "outputs" in parts:
        document["outputs"] = parts["outputs"]
    return document


def nested(
    name: str, inner: Json, parameters: Mapping[str, Any], at: Mapping[str, Any], after: Iterable[str] = (), **more: Any
) -> Json:
    """Return a deployment of an inner template that sees its own parameters only. `at` says where."""
    made: Json = {"type": "Microsoft.Resources/deployments", "apiVersion": DEPLOYMENTS, "name": name, **at, **more}
    if after := list(after):
        made["dependsOn"] = after
    made["properties"] = {
        "mode": "Incremental",
        "expressionEvaluationOptions": {"scope": "inner"},
        "parameters": {name: {"value": value} for name, value in parameters.items()},
        "template": inner,
    }
    return made


def copies(name: str, of: str) -> Json:
    """Return the copy element of a resource that exists once for each item of an array."""
    return {"copy": {"name": name, "count": f"[length({of})]"}}


def listed(actions: Sequence[tuple[str, str]]) -> Any:
    """Return an array of (item, condition): plain where no item has a condition, else an expression."""
    if not any(condition for _, condition in actions):
        return list(dict.fromkeys(item for item, _ in actions))
    groups: dict[str, list[str]] = {}
    for item, condition in actions:
        groups.setdefault(condition, []).append(item)
    parts = []
    for condition, items in groups.items():
        texts = ", ".join(f"'{one}'" for one in dict.fromkeys(items))
        array = f"createArray({texts})"
        parts.append(f"if({condition}, {array}, createArray())" if condition else array)
    return f"[union({', '.join(parts)})]"


def existing(key: str, otherwise: str, names: str = f"{OF}.existingNames") -> str:
    """Return the expression of a name: the one that the parameter existingNames has for a key, else another one.

    A role, an assignment and a workbook have a GUID as their name, and Azure refuses a second role of the same title
    (RoleDefinitionWithSameNameExists) and a second assignment of the same role (RoleAssignmentExists). The keys of an
    object are compared without regard to case ("Object functions for ARM templates", Microsoft Learn).
    """
    return f"if(contains({names}, {key}), {names}[{key}], {otherwise})"


def role(name: str, title: str, description: str, permissions: Json, scopes: Any, **more: Any) -> Json:
    """Return a custom role; `name` is the expression of its GUID, `title` that of its name in the tenant."""
    return {
        **more,
        "type": "Microsoft.Authorization/roleDefinitions",
        "apiVersion": ROLES,
        "name": f"[{name}]",
        "properties": {
            "roleName": title,
            "description": description,
            "type": "CustomRole",
            "permissions": [permissions],
            "assignableScopes": scopes,
        },
    }


def assignment(scope: str, guid: str, principal: str, **more: Any) -> Json:
    """Return the assignment of a role; all three are expressions, and an empty scope is the deployment's own.

    Its name follows from all three, so that the identity of a new app gets an assignment of its own: Azure changes the
    principal of none. An assignment that exists under another name keeps it.
    """
    where = scope or "variables('here')"
    role_id = definition_id(guid, more.pop("group", False))
    named = existing(f"concat({where}, '|', {guid}, '|', {principal})", f"guid({where}, {role_id}, {principal})")
    condition = more.pop("condition_of", None)
    made = {
        **more,
        "type": "Microsoft.Authorization/roleAssignments",
        "apiVersion": ROLES,
        "name": f"[{named}]",
        "properties": {
            "roleDefinitionId": f"[{role_id}]",
            "principalId": f"[{principal}]",
            "principalType": "ServicePrincipal",
        },
    }
    if scope:
        made["scope"] = f"[{scope}]"
    if condition:
        made["properties"] |= {"condition": condition["expression"], "conditionVersion": condition["version"]}
    return made


def definition_id(guid: str, group: bool = False) -> str:
    """Return the expression of a role's id, as Azure returns it in a subscription or in a management group."""
    function = "tenantResourceId" if group else "subscriptionResourceId"
    return f"{function}('Microsoft.Authorization/roleDefinitions', {guid})"


def built_in(name: str) -> str:
    """Return the expression of a built-in role's GUID."""
    return f"'{BUILT_IN[name]}'"
