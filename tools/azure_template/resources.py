"""What lies in the resource group: storage, the function, its logs, alarms, workbook, topics and private endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tools.azure_template.expressions import DEPLOYMENT_SCHEMA, OF, STORAGE, Json, copies, existing, nested, template
from tools.azure_template.facts import Facts

_ACCOUNT = "Microsoft.Storage/storageAccounts"
_HERE: Json = {"location": f"[{OF}.location]", "tags": f"[{OF}.tags]"}
_HOST = f"resourceId('{_ACCOUNT}', {OF}.hostName)"
_EACH = f"{OF}.destinationNames[copyIndex()]"
_NAME = f"{OF}.functionName"
_WORKSPACE = f"resourceId('Microsoft.OperationalInsights/workspaces', {_NAME})"
_INSIGHTS = f"resourceId('Microsoft.Insights/components', {_NAME})"
_TOPIC = f"resourceId('Microsoft.EventGrid/topics', {_NAME})"
_IDENTITY = f"resourceId('Microsoft.ManagedIdentity/userAssignedIdentities', concat({_NAME}, '-tenants'))"
_WORKBOOK = f"concat('Tailpipe Exports: ', {_NAME})"
_DEPLOYED = f"resourceId('Microsoft.Resources/deployments', {_NAME})"
# The exceptions of the module, with its reasons.
_HOST_EXCEPTIONS = {
    "CKV_AZURE_59": "The function signs in by identity, keys are off and nothing is public; storageClosed lists networks",
    "CKV_AZURE_35": "storageClosed refuses networks that are not listed; without it the function is in no network",
    "CKV_AZURE_206": "Code can be published again and the state rebuilt, so replication is the operator's choice",
    "CKV_AZURE_36": "No trusted service has to reach code and state; bypass is off on purpose",
    "CKV_AZURE_43": "The name is an expression; the rules of the parameters keep it to Azure's form",
}
_DESTINATION_EXCEPTIONS = {
    "CKV_AZURE_59": "Cost Management comes from no fixed address; rights decide who reads, and nothing is public",
    "CKV_AZURE_35": "storageClosed refuses networks that are not listed; exports that write by key need an open account",
    "CKV_AZURE_206": "The data can be exported again, so replication is the operator's choice",
    "CKV_AZURE_43": "The name is an expression; the rules of the parameters keep it to Azure's form",
}


def _excepted(exceptions: dict[str, str]) -> Json:
    return {"metadata": {"checkov": [f"checkov:skip={check}: {why}" for check, why in exceptions.items()]}}


def resources(facts: Facts) -> Json:
    """Return the template of the resource group."""
    listed = [
        *_host(),
        *_destinations(),
        *_private_endpoints(),
        *_logs(),
        *_function(facts),
        *_alarms(facts),
        _workbook(),
        *_events(),
        {
            "condition": f"[{OF}.fleet]",
            "type": "Microsoft.ManagedIdentity/userAssignedIdentities",
            "apiVersion": "2023-01-31",
            "name": f"[concat({_NAME}, '-tenants')]",
            **_HERE,
        },
    ]
    return template(
        DEPLOYMENT_SCHEMA,
        {"deployment": {"type": "object"}},
        listed,
        variables=_variables(facts),
        outputs={
            "functionIdentity": {"type": "string", "value": f"[reference({_DEPLOYED}).outputs.principalId.value]"},
            "blobEndpoint": {
                "type": "string",
                "value": f"[reference(resourceId('{_ACCOUNT}', {OF}.destinationName), '{STORAGE}')"
                ".primaryEndpoints.blob]",
            },
            "deliveryTopic": {
                "type": "string",
                "value": f"[if({OF}.deliveryEvents, reference({_TOPIC}, '2022-06-15').endpoint, '')]",
            },
            "fleetIdentity": {
                "type": "string",
                "value": f"[if({OF}.fleet, reference({_IDENTITY}, '2023-01-31').clientId, '')]",
            },
        },
    )


def _variables(facts: Facts) -> Json:
    minutes = f"mul(3, {OF}.scheduleMinutes)"
    rounds = f"mul(3, {OF}.fleetMinutes)"

    archive = f"createObject('tierToArchive', createObject('daysAfterModificationGreaterThan', {OF}.archiveAfterDays))"
    tiers = (
        f"[union(createObject('tierToCool', createObject('daysAfterModificationGreaterThan', {OF}.coolAfterDays)), "
        f"if(equals({OF}.archiveAfterDays, 0), createObject(), {archive}))]"
    )

    def window(of: str) -> str:
        return f"if(lessOrEquals({of}, 180), 'PT3H', if(lessOrEquals({of}, 360), 'PT6H', if(lessOrEquals({of}, 1440), 'P1D', 'P2D')))"

    return {
        # Log alerts know these windows only, and look back two days at most.
        "silenceWindow": f"[{window(minutes)}]",
        "deliveriesWindow": f"[if(lessOrEquals({minutes}, 360), 'PT6H', variables('silenceWindow'))]",
        "roundsWindow": f"[{window(rounds)}]",
        "networks": {
            "defaultAction": f"[if({OF}.storageClosed, 'Deny', 'Allow')]",
            "virtualNetworkRules": f"[if({OF}.storageClosed, map({OF}.storageSubnets, lambda('one', createObject('id', lambdaVariables('one'), 'action', 'Allow'))), createArray())]",
        },
        "ipRules": f"[if({OF}.storageClosed, map({OF}.storageIpRules, lambda('one', createObject('value', lambdaVariables('one'), 'action', 'Allow'))), createArray())]",
        "endpointNames": f"[if(empty({OF}.privateEndpointSubnetId), createArray(), concat({OF}.destinationNames, createArray({OF}.hostName)))]",
        "registeredNames": f"[if(empty({OF}.privateDnsZoneId), createArray(), variables('endpointNames'))]",
        "systemTopicNames": f"[if({OF}.deliveryEvents, {OF}.destinationNames, createArray())]",
        "dataRule": _rule("delivered-data", f"[concat({OF}.containerName, '/tailpipe/')]", tiers),
        "deltaRule": _rule(
            "old-deltas",
            f"[concat({OF}.containerName, '/deltas/')]",
            {"delete": {"daysAfterModificationGreaterThan": f"[{OF}.deltaRetentionDays]"}},
        ),
        "runItems": _workbook_items(
            facts, ["Subscriptions", "Freshness lag in hours", "Manual steps", "Runs by status", "Calls by quota"]
        ),
        "tenantItems": _workbook_items(facts, ["Tenants by status", "Tenants of the last round"]),
        "workbook": {
            "$schema": "https://github.com/Microsoft/Application-Insights-Workbooks/blob/master/schema/workbook.json",
            "version": "Notebook/1.0",
            "items": f"[concat(variables('runItems'), if({OF}.fleet, variables('tenantItems'), createArray()))]",
            "fallbackResourceIds": [f"[{_INSIGHTS}]"],
        },
    }


def _account(name: str, keys: Any, networks: Any, **more: Any) -> Json:
    return {
        "type": _ACCOUNT,
        "apiVersion": STORAGE,
        "name": name,
        **_HERE,
        "kind": "StorageV2",
        "sku": {"name": f"[concat('Standard_', {OF}.replication)]"},
        "properties": {
            "minimumTlsVersion": "TLS1_2",
            "supportsHttpsTrafficOnly": True,
            "allowSharedKeyAccess": keys,
            "defaultToOAuthAuthentication": True,
            "allowBlobPublicAccess": False,
            "allowCrossTenantReplication": False,
            "isLocalUserEnabled": False,
            "networkAcls": networks,
            **more,
        },
    }


def _blobs(account: str, days: Json, **more: Any) -> Json:
    return {
        **more,
        "type": f"{_ACCOUNT}/blobServices",
        "apiVersion": STORAGE,
        "name": f"[concat({account}, '/default')]",
        "dependsOn": [f"[resourceId('{_ACCOUNT}', {account})]"],
        "properties": days,
    }


def _container(name: str, service: str, **more: Any) -> Json:
    return {
        **more,
        "type": f"{_ACCOUNT}/blobServices/containers",
        "apiVersion": STORAGE,
        "name": name,
        "dependsOn": [service],
        "properties": {"publicAccess": "None"},
    }


def _rule(name: str, prefix: str, base: Any) -> Json:
    return {
        "name": name,
        "enabled": True,
        "type": "Lifecycle",
        "definition": {"filters": {"blobTypes": ["blockBlob"], "prefixMatch": [prefix]}, "actions": {"baseBlob": base}},
    }


def _host() -> list[Json]:
    account = _account(
        f"[{OF}.hostName]",
        False,
        {
            "bypass": "None",
            "defaultAction": "[variables('networks').defaultAction]",
            "ipRules": [],
            "virtualNetworkRules": "[variables('networks').virtualNetworkRules]",
        },
    )
    service = f"[resourceId('{_ACCOUNT}/blobServices', {OF}.hostName, 'default')]"
    return [
        {**_excepted(_HOST_EXCEPTIONS), **account},
        _blobs(f"{OF}.hostName", {"deleteRetentionPolicy": {"enabled": True, "days": 14}}),
        *(
            _container(f"[concat({OF}.hostName, '/default/{container}')]", service)
            for container in ("tailpipe-state", "app-package")
        ),
        {
            "type": f"{_ACCOUNT}/managementPolicies",
            "apiVersion": STORAGE,
            "name": f"[concat({OF}.hostName, '/default')]",
            "dependsOn": [service],
            "properties": {
                "policy": {
                    "rules": [
                        _rule(
                            "old-reports",
                            "tailpipe-state/runs/",
                            {"delete": {"daysAfterModificationGreaterThan": 90}},
                        )
                    ]
                }
            },
        },
    ]


def _destinations() -> list[Json]:
    each = copies("destinations", f"{OF}.destinationNames")
    account = _account(
        f"[{_EACH}]",
        f"[not({OF}.exportIdentity)]",
        {
            "bypass": "AzureServices",
            "defaultAction": "[variables('networks').defaultAction]",
            "ipRules": "[variables('ipRules')]",
            "virtualNetworkRules": "[variables('networks').virtualNetworkRules]",
        },
        # Logged, never refused: Cost Management decides how it signs what it writes.
        sasPolicy={"sasExpirationPeriod": "01.00:00:00", "expirationAction": "Log"},
    )
    days = {"enabled": True, "days": 14}
    service = f"[resourceId('{_ACCOUNT}/blobServices', {_EACH}, 'default')]"
    rules = "createArray(variables('dataRule'), variables('deltaRule'))"
    return [
        {**_excepted(_DESTINATION_EXCEPTIONS), **account, **each},
        _blobs(
            _EACH,
            {"deleteRetentionPolicy": days, "containerDeleteRetentionPolicy": days},
            **copies("blobServices", f"{OF}.destinationNames"),
        ),
        _container(
            f"[concat({_EACH}, '/default/', {OF}.containerName)]",
            service,
            **copies("containers", f"{OF}.destinationNames"),
        ),
        _container(
            f"[concat({OF}.destinationName, '/default/tailpipe-registry')]",
            f"[resourceId('{_ACCOUNT}/blobServices', {OF}.destinationName, 'default')]",
            condition=f"[{OF}.fleet]",
        ),
        {
            **copies("policies", f"{OF}.destinationNames"),
            "type": f"{_ACCOUNT}/managementPolicies",
            "apiVersion": STORAGE,
            "name": f"[concat({_EACH}, '/default')]",
            "dependsOn": [service],
            "properties": {
                "policy": {
                    "rules": f"[if(and({OF}.deliveryEvents, equals(copyIndex(), 0)), {rules}, "
                    "createArray(variables('dataRule')))]"
                }
            },
        },
    ]


def _private_endpoints() -> list[Json]:
    name = "variables('endpointNames')[copyIndex()]"
    return [
        {
            **copies("privateEndpoints", "variables('endpointNames')"),
            "type": "Microsoft.Network/privateEndpoints",
            "apiVersion": "2024-01-01",
            "name": f"[concat({name}, '-blob')]",
            **_HERE,
            "dependsOn": [f"[resourceId('{_ACCOUNT}', {name})]"],
            "properties": {
                "subnet": {"id": f"[{OF}.privateEndpointSubnetId]"},
                "privateLinkServiceConnections": [
                    {
                        "name": "blob",
                        "properties": {
                            "privateLinkServiceId": f"[resourceId('{_ACCOUNT}', {name})]",
                            "groupIds": ["blob"],
                        },
                    }
                ],
            },
        },
        {
            **copies("privateDnsZoneGroups", "variables('registeredNames')"),
            "type": "Microsoft.Network/privateEndpoints/privateDnsZoneGroups",
            "apiVersion": "2024-01-01",
            "name": "[concat(variables('registeredNames')[copyIndex()], '-blob/blob')]",
            "dependsOn": ["privateEndpoints"],
            "properties": {
                "privateDnsZoneConfigs": [
                    {
                        # The zone's name, as the provider of Terraform names it.
                        "name": f"[last(split({OF}.privateDnsZoneId, '/'))]",
                        "properties": {"privateDnsZoneId": f"[{OF}.privateDnsZoneId]"},
                    }
                ]
            },
        },
    ]


def _logs() -> list[Json]:
    return [
        {
            "type": "Microsoft.OperationalInsights/workspaces",
            "apiVersion": "2023-09-01",
            "name": f"[{_NAME}]",
            **_HERE,
            "properties": {"sku": {"name": "PerGB2018"}, "retentionInDays": f"[{OF}.logRetentionDays]"},
        },
        {
            "type": "Microsoft.Insights/components",
            "apiVersion": "2020-02-02",
            "name": f"[{_NAME}]",
            **_HERE,
            "kind": "web",
            "dependsOn": [f"[{_WORKSPACE}]"],
            "properties": {
                "Application_Type": "web",
                "WorkspaceResourceId": f"[{_WORKSPACE}]",
                # The connection string alone does not permit writing; the function's identity does.
                "DisableLocalAuth": True,
            },
        },
    ]


def _function(facts: Facts) -> list[Json]:
    """Return plan and app; the app is the deployment that Terraform makes too, of the module's own file."""
    plan = f"resourceId('Microsoft.Web/serverfarms', {_NAME})"
    identities = f"[if({OF}.fleet, createObject({_IDENTITY}, createObject()), createObject())]"
    found = {
        "AzureWebJobsStorage__accountName": f"[{OF}.hostName]",
        "AzureWebJobsStorage__credential": "managedidentity",
        "APPLICATIONINSIGHTS_CONNECTION_STRING": f"[reference({_INSIGHTS}, '2020-02-02').ConnectionString]",
        "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": "Authorization=AAD",
    }
    pairs = ", ".join(f"'{name}', {_inside(value)}" for name, value in found.items())
    given = {
        "name": f"[{_NAME}]",
        "location": f"[{OF}.location]",
        "plan": f"[{plan}]",
        "code": f"[concat(reference({_HOST}, '{STORAGE}').primaryEndpoints.blob, 'app-package')]",
        "memory": f"[{OF}.memoryMb]",
        "subnet": f"[{OF}.functionSubnetId]",
        "tags": f"[{OF}.tags]",
        "identities": identities,
        # Azure names the topic's endpoint and the identity's client, so they are not known before these exist.
        "settings": "[map(items(union("
        + ", ".join(
            [
                f"createObject({pairs})",
                f"if({OF}.deliveryEvents, createObject('DELIVERY_TOPIC', "
                f"reference({_TOPIC}, '2022-06-15').endpoint), createObject())",
                f"if({OF}.fleet, createObject('TENANTS_IDENTITY', "
                f"reference({_IDENTITY}, '2023-01-31').clientId), createObject())",
                f"{OF}.ownSettings",
            ]
        )
        + ")), lambda('one', createObject('name', lambdaVariables('one').key, 'value', lambdaVariables('one').value)))]",
    }
    after = [
        f"[resourceId('{_ACCOUNT}/blobServices/containers', {OF}.hostName, 'default', 'app-package')]",
        f"[{_INSIGHTS}]",
        f"[{plan}]",
        f"[{_TOPIC}]",
        f"[{_IDENTITY}]",
    ]
    site = nested(f"[{_NAME}]", dict(facts.function), given, {"tags": f"[{OF}.tags]"}, after)
    return [
        {
            **_excepted(
                {
                    "CKV_AZURE_225": "Not every region has zones, and the next run makes up for a missed one",
                }
            ),
            "type": "Microsoft.Web/serverfarms",
            "apiVersion": "2024-04-01",
            "name": f"[{_NAME}]",
            **_HERE,
            "kind": "functionapp",
            "sku": {"name": "FC1", "tier": "FlexConsumption"},
            "properties": {"reserved": True},
        },
        site,
        # Publishing by user name and password is off: what publishes signs in by Microsoft Entra ID.
        *(
            {
                "type": "Microsoft.Web/sites/basicPublishingCredentialsPolicies",
                "apiVersion": "2024-04-01",
                "name": f"[concat({_NAME}, '/{kind}')]",
                "dependsOn": [f"[{_DEPLOYED}]"],
                "properties": {"allow": False},
            }
            for kind in ("scm", "ftp")
        ),
    ]


def _inside(value: str) -> str:
    """Return a value as a part of an expression."""
    return value[1:-1] if value.startswith("[") else f"'{value}'"


def _alarms(facts: Facts) -> list[Json]:
    windows = {
        "${local.silence_window}": "[variables('silenceWindow')]",
        '${local.three_schedules <= 360 ? "PT6H" : local.silence_window}': "[variables('deliveriesWindow')]",
    }
    group = f"resourceId('Microsoft.Insights/actionGroups', {_NAME})"
    made: list[Json] = [
        {
            "type": "Microsoft.Insights/actionGroups",
            "apiVersion": "2023-01-01",
            "name": f"[{_NAME}]",
            "location": "Global",
            "tags": f"[{OF}.tags]",
            "properties": {
                "groupShortName": "tailpipe",
                "enabled": True,
                "emailReceivers": f"[map({OF}.notificationEmails, lambda('one', createObject('name', "
                "lambdaVariables('one'), 'emailAddress', lambdaVariables('one'), 'useCommonAlertSchema', true())))]",
            },
        }
    ]
    for alarm in facts.alarms:
        window = str(alarm["window"])
        title = f"Tailpipe Exports: {alarm['title']}"
        made.append(
            {
                **({"condition": f"[{OF}.{alarm['when']}]"} if alarm["when"] else {}),
                "type": "Microsoft.Insights/scheduledQueryRules",
                "apiVersion": "2023-12-01",
                "name": f"[concat({_NAME}, '-{alarm['name']}')]",
                **_HERE,
                "dependsOn": [f"[{_INSIGHTS}]", f"[{group}]"],
                "properties": {
                    "displayName": title,
                    "description": f"{title}. Runbook: docs/runbook.md#{alarm['runbook']}",
                    "enabled": True,
                    "scopes": [f"[{_INSIGHTS}]"],
                    "severity": alarm["severity"],
                    "windowSize": windows.get(window, "[variables('roundsWindow')]" if "$" in window else window),
                    "evaluationFrequency": alarm["every"],
                    "autoMitigate": True,
                    # The tables are empty until the function has run once, and Azure would refuse the query until then.
                    "skipQueryValidation": True,
                    "criteria": {
                        "allOf": [
                            {
                                "query": alarm["query"],
                                "timeAggregation": "Count",
                                "operator": alarm["operator"],
                                "threshold": alarm["threshold"],
                            }
                        ]
                    },
                    "actions": {"actionGroups": [f"[{group}]"]},
                },
            }
        )
    return made


def _workbook() -> Json:
    return {
        "condition": f"[{OF}.dashboard]",
        "type": "Microsoft.Insights/workbooks",
        "apiVersion": "2023-06-01",
        # The name of a workbook is a GUID. This one follows from what it is for.
        "name": "[" + existing(_WORKBOOK, f"guid({_INSIGHTS})") + "]",
        **_HERE,
        "kind": "shared",
        "dependsOn": [f"[{_INSIGHTS}]"],
        "properties": {
            "displayName": f"[{_WORKBOOK}]",
            "category": "workbook",
            # Azure returns it in lower case, and compares it so.
            "sourceId": f"[toLower({_INSIGHTS})]",
            "serializedData": "[string(variables('workbook'))]",
        },
    }


_VISUALIZATIONS = {
    "Runs by status": "barchart",
    "Calls by quota": "barchart",
    "Tenants by status": "barchart",
    "Tenants of the last round": "table",
}


def _workbook_items(facts: Facts, titles: Sequence[str]) -> list[Json]:
    """Return the charts of the workbook with these titles."""
    return [
        {
            "type": 3,
            "name": title,
            "content": {
                "version": "KqlItem/1.0",
                "title": title,
                "query": facts.queries[title],
                "queryType": 0,
                "resourceType": "microsoft.insights/components",
                "size": 0,
                "timeContext": {"durationMs": 604800000},
                "visualization": _VISUALIZATIONS.get(title, "timechart"),
            },
        }
        for title in titles
    ]


def _events() -> list[Json]:
    name = "variables('systemTopicNames')[copyIndex()]"
    return [
        {
            **_excepted(
                {
                    "CKV_AZURE_191": "The topic pushes to its subscribers by no identity of its own; theirs may add one",
                    "CKV_AZURE_193": "Subscribers are anywhere; keys are off, and only an identity with a role may publish",
                }
            ),
            "condition": f"[{OF}.deliveryEvents]",
            "type": "Microsoft.EventGrid/topics",
            "apiVersion": "2022-06-15",
            "name": f"[{_NAME}]",
            **_HERE,
            "properties": {"inputSchema": "CloudEventSchemaV1_0", "disableLocalAuth": True},
        },
        # An account has one system topic at most; those of furtherDestinations are announced by the next run.
        {
            **copies("systemTopics", "variables('systemTopicNames')"),
            "type": "Microsoft.EventGrid/systemTopics",
            "apiVersion": "2022-06-15",
            "name": f"[{name}]",
            **_HERE,
            "dependsOn": ["destinations"],
            "properties": {
                "source": f"[resourceId('{_ACCOUNT}', {name})]",
                "topicType": "Microsoft.Storage.StorageAccounts",
            },
        },
    ]
