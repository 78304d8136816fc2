"""The template of a management group: the template of the subscription, the rights in the group, and the policy."""

from __future__ import annotations

from tools.azure_template import access, subscription
from tools.azure_template.expressions import (
    DEPLOYMENT_SCHEMA,
    DEPLOYMENTS,
    GROUP_SCHEMA,
    OF,
    ROLES,
    SUBSCRIPTION_SCHEMA,
    Json,
    assignment,
    built_in,
    existing,
    listed,
    nested,
    role,
    template,
)
from tools.azure_template.facts import Facts

_DEPLOYED = (
    "subscriptionResourceId(parameters('subscriptionId'), 'Microsoft.Resources/deployments', variables('functionName'))"
)
_MADE = f"reference({_DEPLOYED}, '{DEPLOYMENTS}').outputs"
_ASSIGNED = (
    "extensionResourceId(managementGroup().id, 'Microsoft.Authorization/policyAssignments', 'deploy-cost-export-a')"
)
_POLICY_API = "2023-04-01"
_DEFINED = (
    "extensionResourceId(managementGroup().id, 'Microsoft.Authorization/policyDefinitions', 'deploy-cost-export')"
)
_GROUP_DEPLOYED = (
    "extensionResourceId(managementGroup().id, 'Microsoft.Resources/deployments', "
    "concat(variables('functionName'), '-group'))"
)
_TITLE = "Subscriptions deliver their cost data to Tailpipe"
_POLICY_ROLE = access.role_guid("policy_management_group")
_POLICY_DESCRIPTION = "What the policy deploy-cost-export does there, instead of Contributor."
_DEPLOYS = f"equals({OF}.policy, 'deploy')"


def management_group(facts: Facts) -> Json:
    """Return the template of a management group."""
    parameters: Json = {
        "subscriptionId": {
            "type": "string",
            "minLength": 36,
            "maxLength": 36,
            "metadata": {
                "description": "Id of the subscription that holds the function and the delivered data. It has to lie "
                "below this management group."
            },
        },
        **{name: dict(one) for name, one in subscription.parameters(facts).items() if name != "managementGroupId"},
        "policy": dict(facts.parameters["policy"].definition),
    }
    values = {
        name: {"value": f"[parameters('{name}')]"} for name in parameters if name not in ("subscriptionId", "policy")
    }
    below = {
        "type": "Microsoft.Resources/deployments",
        "apiVersion": DEPLOYMENTS,
        "name": "[variables('functionName')]",
        "condition": "[variables('accepted')]",
        "subscriptionId": "[parameters('subscriptionId')]",
        "location": "[parameters('location')]",
        "properties": {
            "mode": "Incremental",
            # Beside this template, wherever it was read from.
            "templateLink": {"relativePath": "template.json"},
            "parameters": {"managementGroupId": {"value": "[managementGroup().name]"}, **values},
        },
    }
    given = {"deployment": "[variables('deployment')]", "functionIdentity": f"[{_MADE}.functionIdentity.value]"}
    scope = {"scope": "[concat('Microsoft.Management/managementGroups/', managementGroup().name)]"}
    return template(
        GROUP_SCHEMA,
        parameters,
        [
            below,
            nested(
                "[concat(variables('functionName'), '-group')]",
                _in_group(facts),
                given,
                {**scope, "location": "[parameters('location')]"},
                [f"[{_DEPLOYED}]"],
            ),
            nested(
                "[concat(variables('functionName'), '-policy')]",
                _on_destination(facts),
                {
                    "deployment": "[variables('deployment')]",
                    "policyIdentity": f"[reference({_ASSIGNED}, '{_POLICY_API}', 'Full').identity.principalId]",
                },
                {
                    "subscriptionId": "[parameters('subscriptionId')]",
                    "resourceGroup": "[parameters('resourceGroupName')]",
                },
                [f"[{_GROUP_DEPLOYED}]"],
                condition="[equals(parameters('policy'), 'deploy')]",
            ),
        ],
        variables=_variables(facts),
        outputs={
            **{
                name: {"type": "string", "value": f"[{_MADE}.{name}.value]"}
                for name in ("functionName", "functionId", "functionIdentity", "deliveryTopic", "fleetIdentity")
            },
            "granted": {
                "type": "object",
                "value": f"[union({_MADE}.granted.value, createObject('policy', variables('grantedPolicy')))]",
            },
            "onboarding": {
                "type": "object",
                "value": f"[union({_MADE}.onboarding.value, createObject('automation', createObject("
                "'policyEnabled', not(equals(parameters('policy'), 'off')), 'runbookEnabled', false())))]",
            },
        },
    )


def _variables(facts: Facts) -> Json:
    group = (
        "concat('/subscriptions/', parameters('subscriptionId'), '/resourceGroups/', parameters('resourceGroupName'))"
    )
    storage = "parameters('storageAccountName')"
    number = "concat(variables('furtherName'), padLeft(string(lambdaVariables('number')), 2, '0'))"
    account = "concat(variables('groupId'), '/providers/Microsoft.Storage/storageAccounts/', lambdaVariables('one'))"
    policy = {
        "policy_deploy": "",
        "policy_deploy_key": "not(parameters('exportIdentity'))",
        "policy_deploy_identity": "parameters('exportIdentity')",
    }
    granted = listed([(one["id"], policy[one["when"]]) for one in facts.rights["policy"]])[1:-1]
    names = ("functionName", "functionId", "groupId", "destination", "destinations", "monitoringAccess")
    parameters = (
        "policy",
        "exportIdentity",
        "exportFormat",
        "containerName",
        "location",
        "connectorObjectId",
        "excludeSubscriptions",
        "existingNames",
    )
    rule = "and(equals(parameters('policy'), 'deploy'), not(contains(parameters('exports'), 'actual')))"
    return {
        "suffix": "[substring(parameters('subscriptionId'), 30, 6)]",
        "functionName": "[concat(parameters('functionName'), '-', variables('suffix'))]",
        "groupId": f"[{group}]",
        "functionId": "[concat(variables('groupId'), '/providers/Microsoft.Web/sites/', variables('functionName'))]",
        "furtherName": f"[if(empty({storage}), concat('tailpipeexport', variables('suffix')), take({storage}, 22))]",
        "destinationName": f"[if(empty({storage}), concat('tailpipedataexport', variables('suffix')), {storage})]",
        "destinationNames": "[concat(createArray(variables('destinationName')), map(range(2, "
        f"sub(parameters('destinationCount'), 1)), lambda('number', {number})))]",
        "destinations": f"[concat(map(variables('destinationNames'), lambda('one', {account})), "
        "parameters('furtherDestinations'))]",
        "destination": "[first(variables('destinations'))]",
        "monitoringAccess": "[if(empty(parameters('monitoringAccess')), 'management_group', "
        "parameters('monitoringAccess'))]",
        "rules": [{"broken": f"[{rule}]", "message": facts.refusals[5]}],
        "broken": "[filter(variables('rules'), lambda('rule', lambdaVariables('rule').broken))]",
        "accepted": "[if(empty(variables('broken')), true(), fail(first(variables('broken')).message))]",
        "grantedPolicy": f"[if(equals(parameters('policy'), 'deploy'), {granted}, createArray())]",
        "deployment": {
            **{name: f"[parameters('{name}')]" for name in parameters},
            **{name: f"[variables('{name}')]" for name in names},
            "roles": access.role_guids(
                {"management_group": facts.role_titles["management_group"]}
                | {f"policy_{at}": f"policy {facts.role_titles[at]}" for at in ("management_group", "destination")}
            ),
        },
    }


def _in_group(facts: Facts) -> Json:
    """Return the template of what lies in the group: the function's role, Tailpipe's access, and the policy."""
    monitoring = next(one for one in facts.rights["connector"] if one["scope"] == "management_group")
    identity = f"reference({_ASSIGNED}, '{_POLICY_API}', 'Full').identity.principalId"
    here = ["[managementGroup().id]"]

    def made_here(name: str) -> str:
        return f"[extensionResourceId(managementGroup().id, 'Microsoft.Authorization/roleDefinitions', {name})]"

    return template(
        GROUP_SCHEMA,
        dict(access.PRINCIPAL),
        [
            access.custom_role(facts, "management_group", here, group=True),
            assignment(
                "",
                access.role_guid("management_group"),
                access.WHO,
                group=True,
                dependsOn=[made_here(access.role_guid("management_group"))],
            ),
            assignment(
                "",
                built_in(monitoring["role"]),
                f"{OF}.connectorObjectId",
                group=True,
                condition=f"[equals({OF}.monitoringAccess, 'management_group')]",
            ),
            role(
                _POLICY_ROLE,
                f"[concat('{access.TITLE}policy {facts.role_titles['management_group']} (', {OF}.functionName, ')')]",
                _POLICY_DESCRIPTION,
                policy_permissions(facts, "management_group"),
                here,
                condition=f"[{_DEPLOYS}]",
            ),
            _definition(),
            _assignment(),
            {
                "condition": f"[{_DEPLOYS}]",
                "type": "Microsoft.Authorization/roleAssignments",
                "apiVersion": ROLES,
                # The identity is not known before the policy's assignment, and its name may not need it.
                "name": "["
                + existing(
                    f"concat(variables('here'), '|', {_POLICY_ROLE}, '|policy')", f"guid({_ASSIGNED}, {_POLICY_ROLE})"
                )
                + "]",
                "dependsOn": [f"[{_ASSIGNED}]", made_here(_POLICY_ROLE)],
                "properties": {
                    "roleDefinitionId": f"[tenantResourceId('Microsoft.Authorization/roleDefinitions', {_POLICY_ROLE})]",
                    "principalId": f"[{identity}]",
                    "principalType": "ServicePrincipal",
                },
            },
        ],
        variables={
            "here": "[managementGroup().id]",
            "exportName": "[[concat('TailpipeDataExport-', substring(subscription().subscriptionId, 30, 6))]",
            **_policy_deployment(),
        },
    )


def policy_permissions(facts: Facts, at: str) -> Json:
    """Return the permissions of the policy's role at a scope."""
    conditions = {"policy_deploy_key": f"not({OF}.exportIdentity)", "policy_deploy_identity": f"{OF}.exportIdentity"}
    actions = [
        (action, conditions.get(one["when"], ""))
        for one in facts.rights["policy"]
        if one["scope"] == at
        for action in one["actions"]
    ]
    return {"actions": listed(actions), "notActions": [], "dataActions": [], "notDataActions": []}


def _definition() -> Json:
    details = (
        "[union(createObject('type', 'Microsoft.CostManagement/exports', 'name', variables('exportName'), "
        "'existenceScope', 'subscription', 'existenceCondition', variables('existence')), "
        f"if({_DEPLOYS}, createObject('deploymentScope', 'subscription', 'roleDefinitionIds', createArray("
        f"tenantResourceId('Microsoft.Authorization/roleDefinitions', {_POLICY_ROLE})), 'deployment', "
        "variables('policyDeployment')), createObject()))]"
    )
    return {
        "condition": f"[not(equals({OF}.policy, 'off'))]",
        "type": "Microsoft.Authorization/policyDefinitions",
        "apiVersion": _POLICY_API,
        "name": "deploy-cost-export",
        "dependsOn": [
            f"[extensionResourceId(managementGroup().id, 'Microsoft.Authorization/roleDefinitions', {_POLICY_ROLE})]"
        ],
        "properties": {
            "displayName": _TITLE,
            "description": f"[concat('Reports subscriptions without Tailpipe''s cost export', if({_DEPLOYS}, "
            "', and creates it', ''), '.')]",
            "policyType": "Custom",
            "mode": "All",
            "metadata": {"category": "Cost Management"},
            "parameters": {
                "storage": {
                    "type": "String",
                    "metadata": {
                        "displayName": "Storage account",
                        "description": "Resource id of the storage account that takes new exports",
                    },
                },
                "accounts": {
                    "type": "Array",
                    "metadata": {
                        "displayName": "Storage accounts",
                        "description": "Resource ids of all storage accounts that exports may deliver to",
                    },
                },
            },
            "policyRule": {
                "if": {"field": "type", "equals": "Microsoft.Resources/subscriptions"},
                "then": {
                    "effect": f"[if({_DEPLOYS}, 'deployIfNotExists', 'auditIfNotExists')]",
                    "details": details,
                },
            },
        },
    }


def _assignment() -> Json:
    return {
        "condition": f"[not(equals({OF}.policy, 'off'))]",
        "type": "Microsoft.Authorization/policyAssignments",
        "apiVersion": _POLICY_API,
        "name": "deploy-cost-export-a",  # 24 characters are all that Azure allows here
        "location": f"[{OF}.location]",
        # An audit changes nothing and needs no identity.
        "identity": {"type": f"[if({_DEPLOYS}, 'SystemAssigned', 'None')]"},
        "dependsOn": [f"[{_DEFINED}]"],
        "properties": {
            "displayName": _TITLE,
            "policyDefinitionId": f"[{_DEFINED}]",
            "notScopes": f"[map({OF}.excludeSubscriptions, lambda('one', concat('/subscriptions/', "
            "lambdaVariables('one'))))]",
            "parameters": {
                "storage": {"value": f"[{OF}.destination]"},
                "accounts": {"value": f"[{OF}.destinations]"},
            },
        },
    }


def _policy_deployment() -> Json:
    """Return what the policy deploys in a subscription: azure_function/resources/export_document.py in ARM's words.

    A text that begins with two brackets is left to the policy, which evaluates it where it acts.
    """
    parquet = f"equals({OF}.exportFormat, 'parquet')"
    export = {
        "type": "Microsoft.CostManagement/exports",
        "apiVersion": "2025-03-01",
        "name": "[[parameters('name')]",
        "properties": {
            "definition": {"type": "ActualCost", "timeframe": "MonthToDate", "dataSet": {"granularity": "Daily"}},
            "schedule": {
                "status": "Active",
                "recurrence": "Daily",
                "recurrencePeriod": {"from": "[[parameters('from')]", "to": "2099-12-31T00:00:00Z"},
            },
            "format": f"[if({parquet}, 'Parquet', 'Csv')]",
            "compressionMode": f"[if({parquet}, 'snappy', 'gzip')]",
            "partitionData": True,
            "dataOverwriteBehavior": "OverwritePreviousReport",
            "exportDescription": "Cost data for Tailpipe, kept by tailpipe-exports",
            "deliveryInfo": {
                "destination": {
                    "type": "AzureBlob",
                    "resourceId": "[[parameters('storage')]",
                    "container": f"[{OF}.containerName]",
                    "rootFolderPath": "[[concat('tailpipe/subscriptions/', subscription().subscriptionId)]",
                }
            },
        },
    }
    of_identity = (
        f"if({OF}.exportIdentity, createObject('identity', createObject('type', 'SystemAssigned'), "
        f"'location', {OF}.location), createObject())"
    )
    return {
        "existence": {
            "allOf": [
                {"field": "Microsoft.CostManagement/exports/schedule.status", "equals": "Active"},
                {
                    "field": "Microsoft.CostManagement/exports/deliveryInfo.destination.resourceId",
                    "in": "[[parameters('accounts')]",
                },
            ]
        },
        "export": export,
        "policyDeployment": {
            "location": f"[{OF}.location]",
            "properties": {
                "mode": "incremental",
                "parameters": {
                    "name": {"value": "[variables('exportName')]"},
                    "storage": {"value": "[[parameters('storage')]"},
                },
                "template": {
                    "$schema": SUBSCRIPTION_SCHEMA,
                    "contentVersion": "1.0.0.0",
                    "parameters": {
                        "name": {"type": "string"},
                        "storage": {"type": "string"},
                        # An export's start has to lie in the future, and only a parameter's default may ask for the time.
                        "from": {
                            "type": "string",
                            "defaultValue": "[[dateTimeAdd(utcNow('u'), 'PT25H', 'yyyy-MM-ddT00:00:00Z')]",
                        },
                    },
                    "resources": [f"[union(variables('export'), {of_identity})]"],
                },
            },
        },
    }


def _on_destination(facts: Facts) -> Json:
    """Return the template of the policy's right on the first destination account, in its resource group."""
    name = access.role_guid("policy_destination")
    where = f"{OF}.destination"
    conditioned = next(one["condition"] for one in facts.rights["policy"] if "condition" in one)
    made = assignment(
        where,
        name,
        "parameters('policyIdentity')",
        dependsOn=[f"[resourceId('Microsoft.Authorization/roleDefinitions', {name})]"],
    )
    made["properties"] |= {
        "condition": f"[if({OF}.exportIdentity, variables('condition'), null())]",
        "conditionVersion": f"[if({OF}.exportIdentity, '{conditioned['version']}', null())]",
    }
    return template(
        DEPLOYMENT_SCHEMA,
        {"deployment": {"type": "object"}, "policyIdentity": {"type": "string"}},
        [
            role(
                name,
                f"[concat('{access.TITLE}policy {facts.role_titles['destination']} (', {OF}.functionName, ')')]",
                _POLICY_DESCRIPTION,
                policy_permissions(facts, "destination"),
                [f"[{OF}.groupId]"],
            ),
            made,
        ],
        variables={"condition": conditioned["expression"]},
    )
