"""The template of a subscription: the resource group, what lies in it, and every right below the subscription."""

from __future__ import annotations

from typing import Any

from tools.azure_template import access
from tools.azure_template.expressions import (
    DEPLOYMENT_SCHEMA,
    OF,
    SUBSCRIPTION_SCHEMA,
    Json,
    copies,
    listed,
    nested,
    template,
)
from tools.azure_template.facts import OF_GROUP, Facts
from tools.azure_template.resources import resources

_GROUP: Json = {"resourceGroup": "[parameters('resourceGroupName')]"}
_WHOLE = "[variables('deployment')]"
_NAME = "variables('functionName')"
_PARTS = (
    "resourceId(subscription().subscriptionId, parameters('resourceGroupName'), 'Microsoft.Resources/deployments', "
)
_RESOURCES = f"{_PARTS}concat({_NAME}, '-resources'))"
_RIGHTS = f"{_PARTS}concat({_NAME}, '-access'))"
_IDENTITY = f"reference({_RESOURCES}).outputs.functionIdentity.value"
# Parameters that no variable of the module has.
OWN: Json = {
    "packageUri": {
        "type": "string",
        "defaultValue": "",
        "metadata": {
            "description": "HTTPS address of the zip that `tailpipe-exports package azure` makes, which Azure reads "
            "once. Empty: the package is published afterwards."
        },
    },
    "functionsPublished": {
        "type": "bool",
        "defaultValue": "[not(empty(parameters('packageUri')))]",
        "metadata": {
            "description": "Whether the app has its package. Event Grid's subscription of written deliveries needs the "
            "function that it calls."
        },
    },
    "existingNames": {
        "type": "object",
        "defaultValue": {},
        "metadata": {
            "description": "GUIDs that custom roles, role assignments and the workbook have already, for a deployment "
            "that Terraform made: by the title of the role or workbook, and by `SCOPE|ROLE|PRINCIPAL` of the "
            "assignment. `tailpipe-exports` fills it in. Empty: the GUIDs follow from what they are for."
        },
    },
}
# A rule is broken where its expression is true. Each belongs to a precondition of the module, in its order; None: it
# concerns the policy, which management-group.json makes.
RULES: tuple[str | None, ...] = (
    "and(empty(parameters('managementGroupId')), empty(parameters('includeSubscriptions')))",
    "not(empty(intersection(parameters('includeSubscriptions'), parameters('excludeSubscriptions'))))",
    "and(equals(variables('monitoringAccess'), 'management_group'), empty(parameters('managementGroupId')))",
    "and(equals(variables('monitoringAccess'), 'subscription'), and(empty(parameters('includeSubscriptions')), "
    "not(empty(parameters('managementGroupId')))))",
    None,
    None,
    "and(parameters('storageClosed'), not(parameters('exportIdentity')))",
    "and(parameters('storageClosed'), empty(parameters('functionSubnetId')))",
    "and(not(parameters('storageClosed')), not(and(empty(parameters('storageIpRules')), "
    "empty(parameters('storageSubnetIds')), empty(parameters('privateEndpointSubnetId')))))",
    "and(not(empty(parameters('privateDnsZoneId'))), empty(parameters('privateEndpointSubnetId')))",
    "and(parameters('fleet'), not(empty(parameters('privateEndpointSubnetId'))))",
    "and(not(parameters('fleet')), not(empty(parameters('registryWriters'))))",
    "equals(parameters('containerName'), 'tailpipe-registry')",
    "contains(parameters('settings'), 'AZURE_CLOUD')",
    "and(not(equals(parameters('archiveAfterDays'), 0)), "
    "less(parameters('archiveAfterDays'), add(parameters('coolAfterDays'), 30)))",
    "and(not(equals(parameters('archiveAfterDays'), 0)), not(contains(createArray('LRS', 'GRS'), "
    "parameters('replication'))))",
    "contains(variables('destinationNames'), variables('hostName'))",
    "not(empty(intersection(map(items(parameters('settings')), lambda('one', lambdaVariables('one').key)), "
    "map(items(variables('moduleSettings')), lambda('one', lambdaVariables('one').key)))))",
)
# Validations of single variables that no attribute of a parameter expresses. Patterns are the form's.
SINGLE = {
    "location": "not(equals(length(filter(createArray('usgov', 'usdod', 'china'), lambda('one', "
    "startsWith(parameters('location'), lambdaVariables('one'))))), 0))",
    "tags": "or(contains(parameters('tags'), 'managed-by'), greater(length(items(parameters('tags'))), 49))",
    "include_subscriptions": "not(equals(length(union(parameters('includeSubscriptions'), createArray())), "
    "length(parameters('includeSubscriptions'))))",
    "exports": "or(empty(parameters('exports')), not(empty(filter(parameters('exports'), lambda('one', "
    "not(contains(createArray('actual', 'focus', 'amortized'), lambdaVariables('one'))))))))",
    "container_name": "equals(parameters('containerName'), 'tailpipe-state')",
    "archive_after_days": "and(greater(parameters('archiveAfterDays'), 0), less(parameters('archiveAfterDays'), 60))",
    "settings": "or(contains(parameters('settings'), 'AZURE_CLIENT_SECRET'), contains(parameters('settings'), "
    "'ARM_TOKEN'), contains(parameters('settings'), 'BLOB_KEY'))",
}


def subscription(facts: Facts) -> Json:
    """Return the template of a subscription."""
    return template(
        SUBSCRIPTION_SCHEMA,
        parameters(facts),
        [
            {
                "condition": "[variables('accepted')]",
                "type": "Microsoft.Resources/resourceGroups",
                "apiVersion": "2022-09-01",
                "name": "[parameters('resourceGroupName')]",
                "location": "[parameters('location')]",
                "tags": "[variables('tags')]",
            },
            nested(
                f"[concat({_NAME}, '-resources')]",
                resources(facts),
                {"deployment": _WHOLE},
                _GROUP,
                ["[subscriptionResourceId('Microsoft.Resources/resourceGroups', parameters('resourceGroupName'))]"],
            ),
            *_rights(facts),
            _package(),
        ],
        variables=_variables(facts),
        outputs=_outputs(facts),
    )


def parameters(facts: Facts) -> Json:
    """Return the parameters of the template of a subscription."""
    return {one.name: dict(one.definition) for one in facts.parameters.values() if one.variable not in OF_GROUP} | OWN


def _variables(facts: Facts) -> Json:
    account = "concat(variables('groupId'), '/providers/Microsoft.Storage/storageAccounts/', lambdaVariables('one'))"
    number = "concat(variables('furtherName'), padLeft(string(lambdaVariables('number')), 2, '0'))"
    group = "first(split(lambdaVariables('one'), '/providers/'))"
    owner = "toLower(split(lambdaVariables('one'), '/')[2])"
    storage = "parameters('storageAccountName')"
    refused = [
        {"broken": f"[{rule}]", "message": message} for rule, message in zip(RULES, facts.refusals, strict=True) if rule
    ]
    single = [{"broken": f"[{rule}]", "message": facts.parameters[name].message} for name, rule in SINGLE.items()]
    return {
        "suffix": "[substring(subscription().subscriptionId, 30, 6)]",
        "functionName": "[concat(parameters('functionName'), '-', variables('suffix'))]",
        "groupId": "[concat(subscription().id, '/resourceGroups/', parameters('resourceGroupName'))]",
        "functionId": f"[concat(variables('groupId'), '/providers/Microsoft.Web/sites/', {_NAME})]",
        "tags": "[union(parameters('tags'), createObject('managed-by', 'tailpipe-exports'))]",
        "hostName": _or("hostStorageAccountName", "concat('tailpipehost', variables('suffix'))"),
        "destinationName": _or("storageAccountName", "concat('tailpipedataexport', variables('suffix'))"),
        # A name has at most 24 characters, and the first one may use all of them.
        "furtherName": f"[if(empty({storage}), concat('tailpipeexport', variables('suffix')), take({storage}, 22))]",
        "destinationNames": "[concat(createArray(variables('destinationName')), map(range(2, "
        f"sub(parameters('destinationCount'), 1)), lambda('number', {number})))]",
        "ownDestinations": f"[map(variables('destinationNames'), lambda('one', {account}))]",
        "destinations": "[concat(variables('ownDestinations'), parameters('furtherDestinations'))]",
        "destinationGroups": f"[union(map(variables('destinations'), lambda('one', {group})), createArray())]",
        "destinationOwners": f"[union(map(variables('destinations'), lambda('one', {owner})), createArray())]",
        "listed": "[empty(parameters('managementGroupId'))]",
        "monitoringAccess": "[if(empty(parameters('monitoringAccess')), if(variables('listed'), 'subscription', "
        "'management_group'), parameters('monitoringAccess'))]",
        "kept": "[if(variables('listed'), parameters('includeSubscriptions'), createArray())]",
        "monitored": "[if(equals(variables('monitoringAccess'), 'subscription'), parameters('includeSubscriptions'), "
        "createArray())]",
        "subscriptions": "[union(variables('destinationOwners'), variables('kept'), variables('monitored'))]",
        # Without private endpoints the function has access through the service endpoint of its subnet.
        "storageSubnets": "[union(parameters('storageSubnetIds'), if(and(empty(parameters('privateEndpointSubnetId')), "
        "not(empty(parameters('functionSubnetId')))), createArray(parameters('functionSubnetId')), createArray()))]",
        "notifyParts": "[split(parameters('notifySecret'), '/')]",
        "moduleSettings": _settings(),
        "ownSettings": "[union(if(parameters('fleet'), createObject('PYTHON_THREADPOOL_THREAD_COUNT', '12'), "
        "createObject()), variables('hostSettings'), toObject(filter(items(variables('moduleSettings')), "
        "lambda('one', not(empty(lambdaVariables('one').value)))), lambda('one', lambdaVariables('one').key), "
        "lambda('one', lambdaVariables('one').value)), parameters('settings'))]",
        "hostSettings": {
            "AzureFunctionsJobHost__functionTimeout": "[concat(padLeft(string(div(parameters('timeoutSeconds'), "
            "3600)), 2, '0'), ':', padLeft(string(div(mod(parameters('timeoutSeconds'), 3600), 60)), 2, '0'), ':', "
            "padLeft(string(mod(parameters('timeoutSeconds'), 60)), 2, '0'))]",
            "AzureFunctionsJobHost__logging__logLevel__default": "[if(equals(parameters('logLevel'), 'debug'), "
            "'Debug', 'Information')]",
        },
        "applications": dict(facts.applications),
        "rules": [*refused, *single],
        "broken": "[filter(variables('rules'), lambda('rule', lambdaVariables('rule').broken))]",
        "accepted": "[if(empty(variables('broken')), true(), fail(first(variables('broken')).message))]",
        "deployment": {
            **{one: f"[parameters('{one}')]" for one in parameters(facts) if one not in ("tags", "settings", "monitoringAccess", "functionName")},
            **{
                one: f"[variables('{one}')]"
                for one in (
                    "functionName", "functionId", "groupId", "tags", "hostName", "destinationName",
                    "destinationNames", "destinationGroups", "storageSubnets", "monitoringAccess", "ownSettings",
                )
            },
            "destinationSubscriptions": "[map(variables('destinationOwners'), lambda('one', concat('/subscriptions/', "
            "lambdaVariables('one'))))]",
            "keptScopes": "[map(variables('kept'), lambda('one', concat('/subscriptions/', lambdaVariables('one'))))]",
            "roles": access.role_guids(facts.role_titles),
            "readsActivityLog": "[and(parameters('events'), not(empty(parameters('activityLogWorkspaceId'))))]",
        },
    }  # fmt: skip


def _or(parameter: str, otherwise: str) -> str:
    return f"[if(empty(parameters('{parameter}')), {otherwise}, parameters('{parameter}'))]"


def _only(when: str, value: str) -> str:
    return f"[if({when}, {value}, '')]"


def _settings() -> Json:
    """Return what the function itself reads (azure_function/settings.py); empty ones are left out later."""
    return {
        "DESTINATION": "[join(variables('destinations'), ',')]",
        "DESTINATION_CONTAINER": "[parameters('containerName')]",
        "EXPORTS": "[join(parameters('exports'), ',')]",
        "EXPORT_FORMAT": "[parameters('exportFormat')]",
        "FOCUS_VERSION": "[parameters('focusVersion')]",
        "EXPORT_IDENTITY": "[if(parameters('exportIdentity'), 'system', 'none')]",
        "EXPORT_LOCATION": "[parameters('location')]",
        "MANAGEMENT_GROUP": "[parameters('managementGroupId')]",
        "INCLUDE_SUBSCRIPTIONS": "[join(parameters('includeSubscriptions'), ',')]",
        "EXCLUDE_SUBSCRIPTIONS": "[join(parameters('excludeSubscriptions'), ',')]",
        "AZURE_TENANT_ID": "[tenant().tenantId]",
        "STATE_ACCOUNT": "[variables('hostName')]",
        "CALL_BUDGET": "[string(parameters('callBudget'))]",
        "RUN_SECONDS": "[string(sub(parameters('timeoutSeconds'), 300))]",
        "SCHEDULE": "[parameters('schedule')]",
        # At minutes that end in 4 and 9: the default schedule begins at minute 17, and a run in progress refuses another.
        "EVENT_SCHEDULE": _only("parameters('events')", "'0 4-59/5 * * * *'"),
        "ACTIVITY_LOG_WORKSPACE": _only("parameters('events')", "parameters('activityLogWorkspaceId')"),
        "DELTAS": _only("parameters('deliveryEvents')", "'1'"),
        "NOTIFY_URL": "[if(empty(parameters('notifySecret')), '', concat('https://', variables('notifyParts')[8], "
        "'.vault.azure.net/secrets/', variables('notifyParts')[10]))]",
        "NOTIFY_DIGEST": _only("parameters('notifyDigest')", "'weekly'"),
        "PUBLISH_PAGE": _only("parameters('publishPage')", "'1'"),
        "ROUND_SCHEDULE": _only("parameters('fleet')", "parameters('fleetSchedule')"),
        "ROUND_TENANTS": _only("parameters('fleet')", "string(parameters('fleetConcurrency'))"),
        "ROUND_SECONDS": _only("parameters('fleet')", "string(sub(mul(parameters('fleetMinutes'), 60), 600))"),
    }


def _rights(facts: Facts) -> list[Json]:
    given: Json = {"deployment": _WHOLE, "functionIdentity": f"[{_IDENTITY}]"}
    after = [f"[{_RESOURCES}]"]
    each = "variables('subscriptions')[copyIndex()]"
    further = "parameters('furtherDestinations')[copyIndex()]"
    # A custom role is made in a scope that it can be assigned in.
    roles = "subscriptionResourceId({}, 'Microsoft.Resources/deployments', concat(variables('functionName'), '{}'))"
    first = "if(empty(variables('kept')), subscription().subscriptionId, first(variables('kept')))"
    return [
        nested(
            f"[concat({_NAME}, '-registration')]",
            _role(access.custom_role(facts, "destination_subscription", f"[{OF}.destinationSubscriptions]")),
            {"deployment": _WHOLE},
            {"location": "[parameters('location')]"},
            after,
        ),
        nested(
            f"[concat({_NAME}, '-exports')]",
            _role(access.custom_role(facts, "management_group", f"[{OF}.keptScopes]")),
            {"deployment": _WHOLE},
            {"subscriptionId": f"[{first}]", "location": "[parameters('location')]"},
            after,
            condition="[not(empty(variables('kept')))]",
        ),
        nested(f"[concat({_NAME}, '-access')]", access.access(facts), given, _GROUP, after),
        nested(
            f"[concat({_NAME}, '-access-', copyIndex())]",
            access.in_subscription(facts),
            {
                **given,
                "holdsDestination": f"[contains(variables('destinationOwners'), {each})]",
                "isKept": f"[contains(variables('kept'), {each})]",
                "isMonitored": f"[contains(variables('monitored'), {each})]",
            },
            {"subscriptionId": f"[{each}]", "location": "[parameters('location')]"},
            [
                f"[{roles.format('subscription().subscriptionId', '-registration')}]",
                f"[{roles.format(first, '-exports')}]",
            ],
            **copies("subscriptionAccess", "variables('subscriptions')"),
        ),
        nested(
            f"[concat({_NAME}, '-destination-', copyIndex())]",
            access.further_account(facts),
            {**given, "account": f"[{further}]"},
            {"subscriptionId": f"[split({further}, '/')[2]]", "resourceGroup": f"[split({further}, '/')[4]]"},
            [f"[{_RIGHTS}]"],
            **copies("destinationAccess", "parameters('furtherDestinations')"),
        ),
        _elsewhere(
            "activity-log", access.activity_log(facts), "activityLogWorkspaceId", "variables('deployment').readsActivityLog",
            given, after,
        ),
        _elsewhere(
            "notify", access.notify_secret(facts), "notifySecret", "not(empty(parameters('notifySecret')))", given, after
        ),
    ]  # fmt: skip


def _role(one: Json) -> Json:
    return template(SUBSCRIPTION_SCHEMA, {"deployment": {"type": "object"}}, [one])


def _elsewhere(name: str, inner: Json, parameter: str, when: str, given: Json, after: list[str]) -> Json:
    """Return the deployment into the resource group of what a parameter names; without it, nothing is deployed."""
    own = {"2": "subscription().subscriptionId", "4": "parameters('resourceGroupName')"}

    def part(index: str) -> str:
        return f"[if(empty(parameters('{parameter}')), {own[index]}, split(parameters('{parameter}'), '/')[{index}])]"

    place = {"subscriptionId": part("2"), "resourceGroup": part("4")}
    return nested(f"[concat({_NAME}, '-{name}')]", inner, given, place, after, condition=f"[{when}]")


def _package() -> Json:
    """Return the deployment of the package, and of Event Grid's subscriptions, which need its functions."""
    of = "parameters('deployment')"
    package = f"resourceId('Microsoft.Web/sites/extensions', {of}.functionName, 'onedeploy')"
    function = f"concat({of}.functionId, '/functions/delivery_event')"
    topics = f"if(and({of}.deliveryEvents, {of}.functionsPublished), {of}.destinationNames, createArray())"
    inner = template(
        DEPLOYMENT_SCHEMA,
        {"deployment": {"type": "object"}},
        [
            {
                "condition": f"[not(empty({of}.packageUri))]",
                "type": "Microsoft.Web/sites/extensions",
                "apiVersion": "2024-04-01",
                "name": f"[concat({of}.functionName, '/onedeploy')]",
                "properties": {"packageUri": f"[{of}.packageUri]", "remoteBuild": False},
            },
            {
                **copies("manifests", "variables('topics')"),
                "type": "Microsoft.EventGrid/systemTopics/eventSubscriptions",
                "apiVersion": "2022-06-15",
                "name": "[concat(variables('topics')[copyIndex()], '/tailpipe-manifests')]",
                # Event Grid looks for the function, which is there once its package is.
                "dependsOn": [f"[{package}]"],
                "properties": {
                    "eventDeliverySchema": "EventGridSchema",
                    "destination": {
                        "endpointType": "AzureFunction",
                        "properties": {
                            "resourceId": f"[{function}]",
                            "maxEventsPerBatch": 1,
                            "preferredBatchSizeInKilobytes": 64,
                        },
                    },
                    "filter": {
                        "includedEventTypes": ["Microsoft.Storage.BlobCreated"],
                        "subjectBeginsWith": f"[concat('/blobServices/default/containers/', {of}.containerName, "
                        "'/blobs/tailpipe/')]",
                        "subjectEndsWith": "/manifest.json",
                        "isSubjectCaseSensitive": True,
                    },
                    # A run announces what is dropped, so there is no dead-letter queue.
                    "retryPolicy": {"maxDeliveryAttempts": 5, "eventTimeToLiveInMinutes": 60},
                },
            },
        ],
        variables={"topics": f"[{topics}]"},
    )
    return nested(f"[concat({_NAME}, '-package')]", inner, {"deployment": _WHOLE}, _GROUP, [f"[{_RIGHTS}]"])


def _outputs(facts: Facts) -> Json:
    """Return the module's outputs that a person, Tailpipe or the other template needs."""
    made = f"reference({_RESOURCES}).outputs"
    containers = "concat('/blobServices/default/containers/', parameters('containerName'))"
    values: dict[str, tuple[str, Any]] = {
        "functionName": ("string", f"[{_NAME}]"),
        "functionId": ("string", "[variables('functionId')]"),
        "functionIdentity": ("string", f"[{made}.functionIdentity.value]"),
        "destinations": ("array", "[variables('destinations')]"),
        "containers": (
            "array",
            f"[map(variables('destinations'), lambda('one', concat(lambdaVariables('one'), {containers})))]",
        ),
        "deliveryTopic": (
            "string",
            "[if(parameters('deliveryEvents'), concat(variables('groupId'), "
            f"'/providers/Microsoft.EventGrid/topics/', {_NAME}), '')]",
        ),
        "fleetIdentity": ("string", f"[{made}.fleetIdentity.value]"),
        "granted": ("object", _granted(facts)),
        "onboarding": (
            "object",
            {
                "tenantId": "[tenant().tenantId]",
                "tailpipe": {
                    "appId": "[variables('applications')[parameters('environment')]]",
                    "servicePrincipalObjectId": "[parameters('connectorObjectId')]",
                },
                "monitoringAccess": {
                    "mode": "[createObject('management_group', 'managementGroup', 'subscription', 'perSubscription', "
                    "'none', 'none')[variables('monitoringAccess')]]",
                    "managementGroupId": "[if(equals(variables('monitoringAccess'), 'management_group'), "
                    "parameters('managementGroupId'), null())]",
                    "subscriptions": "[variables('monitored')]",
                },
                "storage": {
                    "subscriptionId": "[subscription().subscriptionId]",
                    "resourceGroup": "[parameters('resourceGroupName')]",
                    "accountName": "[variables('destinationName')]",
                    "accountResourceId": "[first(variables('destinations'))]",
                    "container": "[parameters('containerName')]",
                    "paths": {"billing": "tailpipe/billing", "subscriptions": []},
                    "blobEndpoint": f"[{made}.blobEndpoint.value]",
                },
                "costExports": {"billing": "[null()]", "perSubscription": []},
                "automation": {"policyEnabled": False, "runbookEnabled": False},
            },
        ),
    }
    return {name: {"type": kind, "value": value} for name, (kind, value) in values.items()}


def _granted(facts: Facts) -> Json:
    """Return the ids of the grants of rights.yaml that a deployment makes, by holder."""
    conditions = {
        **{
            name: text.replace("parameters('deployment')", "variables('deployment')")
            for name, text in access.CONDITIONS.items()
        },
        "management_group": "not(variables('listed'))",
    }
    return {
        holder: listed([(one["id"], conditions[one["when"]] if "when" in one else "") for one in grants])
        for holder, grants in facts.rights.items()
        if holder != "policy"
    }
