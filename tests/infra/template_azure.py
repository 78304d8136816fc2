"""Compare what Terraform applies with what the templates deploy: resource by resource, attribute by attribute.

The templates are read as they are committed, and evaluated with the local Azure's own evaluator; how they were made is
not trusted. Every attribute that the module sets is compared, or listed here with the reason why it is not; so is every
property of the templates. What is listed and not there any more fails too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.deployment.terraform.variables import parsed
from localcloud.azure.iam.rights import ROLES
from localcloud.azure.templates.expansion import NESTED, Expansion, Place, expand
from tests.infra.planning import REPOSITORY
from tests.infra.standin.roots import Applied
from tests.infra.standin.values import PRINCIPAL, SUBSCRIPTION, TENANT
from tools import modules

Json = dict[str, Any]
INFRA = REPOSITORY / "infra" / "azure"
GROUP = "/providers/Microsoft.Management/managementGroups/contoso-root"
# Resources of the module that no template has, each with what takes its place.
WITHOUT_RESOURCE = {
    "azuread_service_principal.tailpipe": "A template adds no enterprise application; connectorObjectId names it.",
    "azurerm_management_group_policy_remediation.this": "It waits for an evaluation; one command makes it.",
    "azurerm_resource_provider_registration.this": "Azure registers what it deploys; one command registers more.",
    "terraform_data.checks": "The rules of the template refuse the same.",
    "terraform_data.identity": "A template reads the app's identity whenever it is deployed.",
    "terraform_data.kept_data": "A deployment in incremental mode deletes nothing.",
    "terraform_data.package": "onedeploy reads the package from packageUri.",
    "terraform_data.policy_evaluated": "No template waits; the command of the remediation does.",
}
# Resources of the templates that are not the module's.
WITHOUT_PAIR = {
    "Microsoft.Resources/deployments": "The parts of the templates; the app's own is compared.",
    "Microsoft.Storage/storageAccounts/blobServices": "Part of the accounts of the module, compared with them.",
    "Microsoft.Web/sites": "The module's own file, deployed by the deployment that is compared.",
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies": "publish.py sets them after each deployment.",
    "Microsoft.Web/sites/extensions": "publish.py publishes the package.",
    "Microsoft.Network/privateEndpoints/privateDnsZoneGroups": "Part of the module's endpoint, compared with it.",
}


class Body:
    """A resource of a template, which notes what was compared."""

    def __init__(self, id_: str, kind: str, scope: str, body: Json) -> None:
        self.id, self.kind, self.scope, self._body = id_, kind, scope, body
        self._taken: set[str] = set()

    def take(self, path: str, default: Any = None) -> Any:
        """Return a property, and note that it is compared."""
        self._taken.add(path)
        value: Any = self._body
        for part in path.split("."):
            if not isinstance(value, dict) or part not in value:
                return default
            value = value[part]
        return value

    def left(self) -> set[str]:
        """Return the properties that nothing compared."""
        return {
            path
            for path in _leaves(self._body)
            if not any(path == one or path.startswith(f"{one}.") for one in self._taken)
        }


def _leaves(value: Json, path: str = "") -> Iterator[str]:
    for name, one in value.items():
        where = f"{path}.{name}".lstrip(".")
        if isinstance(one, dict) and one:
            yield from _leaves(one, where)
        elif one is not None:
            yield where


@dataclass(frozen=True)
class Pair:
    """A resource of the module and its type in the templates.

    `view` returns the module's attributes from the template's resource. `attributes` are those that are not compared,
    `properties` those of the template, each with the reason. `key` finds the resource: the attribute that is its name,
    or a function of its values.
    """

    kind: str
    view: Callable[[Body], Json]
    attributes: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    key: Callable[[Json], str] = lambda values: str(values["name"])
    named: Callable[[Body], str] = lambda body: body.id.rsplit("/", 1)[-1]


def evaluated(applied: Applied, template: Json, group_template: Json, values: Json) -> list[Body]:
    """Return every resource that the template of the group deploys with the values of a deployment."""
    whole = json.loads(json.dumps(group_template))
    below = whole["resources"][0]["properties"]
    del below["templateLink"]
    below |= {"template": template, "expressionEvaluationOptions": {"scope": "inner"}}
    given = {name: {"value": value} for name, value in values.items()}
    return list(_Live(applied).bodies(expand(whole, given, Place("managementGroup", GROUP, TENANT))))


class _Live:
    """Answers reference() with what the stand-in for Terraform's provider assigns."""

    def __init__(self, applied: Applied) -> None:
        self._applied = applied
        self._outputs: dict[str, Json] = {}

    def bodies(self, expansion: Expansion) -> Iterator[Body]:
        for one in expansion.in_order():
            body = one.body(self.read)
            yield Body(one.id if one.known else f"{one.place.id}/?", one.type, one.place.id, body)
            if one.type.lower() == NESTED:
                properties = body["properties"]
                place = Place(one.place.kind, one.place.id, TENANT, "westeurope")
                inner = expand(properties["template"], properties.get("parameters") or {}, place)
                yield from self.bodies(inner)
                self._outputs[one.id.lower()] = inner.answered(self.read)

    def read(self, identifier: str, version: str, full: bool) -> Any:
        kind = identifier.lower().rsplit("/providers/", 1)[1].split("/")
        name, type_ = identifier.rsplit("/", 1)[1], f"{kind[0]}/{kind[1]}"
        if type_ == NESTED:
            return {"outputs": self._outputs[identifier.lower()]}
        answers: dict[str, Callable[[], Json]] = {
            "microsoft.insights/components": lambda: {
                "ConnectionString": self._applied.of("azurerm_application_insights")[0]["connection_string"]
            },
            "microsoft.storage/storageaccounts": lambda: {
                "primaryEndpoints": {"blob": f"https://{name}.blob.core.windows.net/"}
            },
            "microsoft.eventgrid/topics": lambda: {
                "endpoint": self._applied.of("azurerm_eventgrid_topic")[0]["endpoint"]
            },
            "microsoft.managedidentity/userassignedidentities": lambda: {
                "clientId": self._applied.of("azurerm_user_assigned_identity")[0]["client_id"]
            },
            "microsoft.web/sites": lambda: {
                "identity": {"principalId": PRINCIPAL},
                "defaultHostName": f"{name}.azurewebsites.net",
            },
            "microsoft.authorization/policyassignments": lambda: {
                "identity": {
                    "principalId": self._applied.of("azurerm_management_group_policy_assignment")[0]["identity"][0][
                        "principal_id"
                    ]
                }
            },
        }
        return answers[type_]()


def parameters_of(arguments: Mapping[str, Any], applied: Applied) -> Json:
    """Return the parameters that mean the same as a module's arguments."""
    own = {"package", "source", "management_group_id"}  # the group is where the template is deployed
    first = {
        _camel(name): (0 if name == "archive_after_days" else "") if value is None else value
        for name, value in arguments.items()
        if name not in own
    }
    return {
        **first,
        "subscriptionId": SUBSCRIPTION,
        "connectorObjectId": applied.outputs["connector"]["object_id"],
        "functionsPublished": True,
    }


def arguments_of(example: str) -> Json:
    """Return the arguments of the module's call in an example."""
    text = (INFRA / "examples" / example / "main.tf").read_text(encoding="utf-8")
    arguments: Json = parsed(text)["module"][0]["tailpipe_exports"]
    return arguments


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def read(name: str) -> Json:
    """Return one of the committed templates."""
    document: Json = json.loads((INFRA / name).read_text(encoding="utf-8"))
    return document


def _common(body: Body) -> Json:
    """Return what most resources of the group have."""
    return {
        "name": body.id.rsplit("/", 1)[-1],
        "resource_group_name": body.id.split("/")[4],
        "location": body.take("location"),
        "tags": body.take("tags"),
    }


def _account(body: Body) -> Json:
    acls = "properties.networkAcls"
    tier, _, replication = str(body.take("sku.name")).partition("_")
    rules = {
        "default_action": body.take(f"{acls}.defaultAction"),
        "bypass": [body.take(f"{acls}.bypass")],
        "ip_rules": [one["value"] for one in body.take(f"{acls}.ipRules")] or None,
        "virtual_network_subnet_ids": [one["id"] for one in body.take(f"{acls}.virtualNetworkRules")] or None,
    }
    sas = body.take("properties.sasPolicy")
    return {
        **_common(body),
        "account_kind": body.take("kind"),
        "account_tier": tier,
        "account_replication_type": replication,
        "min_tls_version": body.take("properties.minimumTlsVersion"),
        "shared_access_key_enabled": body.take("properties.allowSharedKeyAccess"),
        "default_to_oauth_authentication": body.take("properties.defaultToOAuthAuthentication"),
        "allow_nested_items_to_be_public": body.take("properties.allowBlobPublicAccess"),
        "local_user_enabled": body.take("properties.isLocalUserEnabled"),
        "network_rules": [rules],
        "sas_policy": [{"expiration_period": sas["sasExpirationPeriod"], "expiration_action": sas["expirationAction"]}]
        if sas
        else [],
    }


def _container(body: Body) -> Json:
    return {"name": body.id.rsplit("/", 1)[-1], "storage_account_id": body.id.partition("/blobServices/")[0]}


def _lifecycle(body: Body) -> Json:
    names = {
        "delete": "delete_after_days_since_modification_greater_than",
        "tierToCool": "tier_to_cool_after_days_since_modification_greater_than",
        "tierToArchive": "tier_to_archive_after_days_since_modification_greater_than",
    }
    rules = [
        {
            "name": one["name"],
            "enabled": one["enabled"],
            "filters": {
                "blob_types": one["definition"]["filters"]["blobTypes"],
                "prefix_match": one["definition"]["filters"]["prefixMatch"],
            },
            "base_blob": {
                names[action]: days["daysAfterModificationGreaterThan"]
                for action, days in one["definition"]["actions"]["baseBlob"].items()
            },
        }
        for one in body.take("properties.policy")["rules"]
    ]
    return {"storage_account_id": body.id.partition("/managementPolicies/")[0], "rule": rules}


def _role(body: Body) -> Json:
    [granted] = body.take("properties.permissions")
    return {
        "name": body.take("properties.roleName"),
        "description": body.take("properties.description"),
        "assignable_scopes": sorted(body.take("properties.assignableScopes")),
        "permissions": {
            "actions": sorted(granted["actions"]),
            "data_actions": sorted(granted["dataActions"]),
            "not": [*granted["notActions"], *granted["notDataActions"]],
        },
    }


def _assigned(body: Body) -> Json:
    return {
        "scope": body.scope,
        "role": str(body.take("properties.roleDefinitionId")).rsplit("/", 1)[-1],
        "principal_id": body.take("properties.principalId"),
        "principal_type": body.take("properties.principalType"),
        "condition": body.take("properties.condition"),
        "condition_version": body.take("properties.conditionVersion"),
    }


def _alarm(body: Body) -> Json:
    [criterion] = body.take("properties.criteria")["allOf"]
    return {
        **_common(body),
        "display_name": body.take("properties.displayName"),
        "description": body.take("properties.description"),
        "scopes": body.take("properties.scopes"),
        "severity": body.take("properties.severity"),
        "window_duration": body.take("properties.windowSize"),
        "evaluation_frequency": body.take("properties.evaluationFrequency"),
        "auto_mitigation_enabled": body.take("properties.autoMitigate"),
        "skip_query_validation": body.take("properties.skipQueryValidation"),
        "criteria": {
            "query": criterion["query"],
            "time_aggregation_method": criterion["timeAggregation"],
            "operator": criterion["operator"],
            "threshold": criterion["threshold"],
        },
        "action": [{"action_groups": body.take("properties.actions.actionGroups")}],
    }


def _workbook(body: Body) -> Json:
    return {
        **_common(body),
        "display_name": body.take("properties.displayName"),
        "source_id": body.take("properties.sourceId"),
        "data_json": json.loads(body.take("properties.serializedData")),
    }


def _app(body: Body) -> Json:
    """Return the deployment of the app: the module's own file, with its parameters."""
    given = {name: one["value"] for name, one in body.take("properties.parameters").items()}
    given["settings"] = {one["name"]: one["value"] for one in given["settings"]}
    return {
        "name": body.id.rsplit("/", 1)[-1],
        "resource_group_name": body.id.split("/")[4],
        "deployment_mode": body.take("properties.mode"),
        "tags": body.take("tags"),
        "template_content": body.take("properties.template"),
        "parameters_content": given,
    }


def _subscribed(body: Body) -> Json:
    chosen, to = "properties.filter", "properties.destination"
    assert body.take(f"{to}.endpointType") == "AzureFunction"
    return {
        "name": body.id.rsplit("/", 1)[-1],
        "system_topic": body.id.split("/systemTopics/")[1].partition("/")[0],
        "resource_group_name": body.id.split("/")[4],
        "event_delivery_schema": body.take("properties.eventDeliverySchema"),
        "included_event_types": body.take(f"{chosen}.includedEventTypes"),
        "subject_filter": {
            "subject_begins_with": body.take(f"{chosen}.subjectBeginsWith"),
            "subject_ends_with": body.take(f"{chosen}.subjectEndsWith"),
            "case_sensitive": body.take(f"{chosen}.isSubjectCaseSensitive"),
        },
        "azure_function_endpoint": body.take(f"{to}.properties.resourceId"),
        "retry_policy": {
            "max_delivery_attempts": body.take("properties.retryPolicy.maxDeliveryAttempts"),
            "event_time_to_live": body.take("properties.retryPolicy.eventTimeToLiveInMinutes"),
        },
    }


def _endpoint(body: Body) -> Json:
    [connection] = body.take("properties.privateLinkServiceConnections")
    return {
        **_common(body),
        "subnet_id": body.take("properties.subnet.id"),
        "private_service_connection": {
            "name": connection["name"],
            "private_connection_resource_id": connection["properties"]["privateLinkServiceId"],
            "subresource_names": connection["properties"]["groupIds"],
        },
    }


def _defined(body: Body) -> Json:
    return {
        "name": body.id.rsplit("/", 1)[-1],
        "management_group_id": body.scope,
        "display_name": body.take("properties.displayName"),
        "description": body.take("properties.description"),
        "policy_type": body.take("properties.policyType"),
        "mode": body.take("properties.mode"),
        "metadata": body.take("properties.metadata"),
        "parameters": body.take("properties.parameters"),
        "policy_rule": _without_roles(body.take("properties.policyRule")),
    }


def _without_roles(rule: Json) -> Json:
    """Return a policy's rule without the GUID of its role, which each engine chooses."""
    copied: Json = json.loads(json.dumps(rule))
    if "roleDefinitionIds" in copied["then"]["details"]:
        copied["then"]["details"]["roleDefinitionIds"] = len(copied["then"]["details"]["roleDefinitionIds"])
    return copied


def _assigned_policy(body: Body) -> Json:
    parameters = body.take("properties.parameters")
    identity = body.take("identity.type")
    return {
        "name": body.id.rsplit("/", 1)[-1],
        "management_group_id": body.scope,
        "display_name": body.take("properties.displayName"),
        "policy_definition_id": body.take("properties.policyDefinitionId"),
        "location": body.take("location"),
        "not_scopes": body.take("properties.notScopes") or None,
        "parameters": {**parameters, "accounts": {"value": sorted(parameters["accounts"]["value"])}},
        "identity": [identity] if identity != "None" else [],
    }


_PLAN = {
    "kind": "The kind of a plan for Linux functions.",
    "sku.tier": "The tier of FC1.",
    "properties.reserved": "os_type",
}
_OWN_GUID = "Each engine chooses the GUID of a role."
_BLOBS = {"blob_properties": "Part of another resource, blobServices, compared below."}
_ACCOUNT_PROPERTIES = {
    "properties.supportsHttpsTrafficOnly": "The provider's default, which Azure's own has not been in all versions.",
    "properties.allowCrossTenantReplication": "The provider's default.",
}
PAIRS: Mapping[str, Pair] = {
    "azurerm_resource_group.this": Pair(
        "Microsoft.Resources/resourceGroups",
        lambda body: {
            "name": body.id.rsplit("/", 1)[-1],
            "location": body.take("location"),
            "tags": body.take("tags"),
        },
    ),
    "azurerm_storage_account.host": Pair("Microsoft.Storage/storageAccounts", _account, _BLOBS, _ACCOUNT_PROPERTIES),
    "azurerm_storage_account.destination": Pair(
        "Microsoft.Storage/storageAccounts", _account, _BLOBS, _ACCOUNT_PROPERTIES
    ),
    **{
        f"azurerm_storage_container.{name}": Pair(
            "Microsoft.Storage/storageAccounts/blobServices/containers",
            _container,
            properties={"properties.publicAccess": "The provider's default: nothing is public."},
            key=lambda values: f"{values['storage_account_id']}/blobServices/default/containers/{values['name']}",
            named=lambda body: body.id,
        )
        for name in ("host", "destination", "registry")
    },
    **{
        f"azurerm_storage_management_policy.{name}": Pair(
            "Microsoft.Storage/storageAccounts/managementPolicies",
            _lifecycle,
            key=lambda values: str(values["storage_account_id"]),
            named=lambda body: body.id.partition("/managementPolicies/")[0],
        )
        for name in ("host", "destination")
    },
    "azurerm_log_analytics_workspace.this": Pair(
        "Microsoft.OperationalInsights/workspaces",
        lambda body: {
            **_common(body),
            "sku": body.take("properties.sku.name"),
            "retention_in_days": body.take("properties.retentionInDays"),
        },
    ),
    "azurerm_application_insights.this": Pair(
        "Microsoft.Insights/components",
        lambda body: {
            **_common(body),
            "application_type": body.take("properties.Application_Type"),
            "workspace_id": str(body.take("properties.WorkspaceResourceId")).rsplit("/", 1)[-1],
            "local_authentication_disabled": body.take("properties.DisableLocalAuth"),
        },
        properties={"kind": "The kind of an application of the type web."},
    ),
    "azurerm_service_plan.this": Pair(
        "Microsoft.Web/serverfarms",
        lambda body: {
            **_common(body),
            "os_type": "Linux" if body.take("properties.reserved") else "Windows",
            "sku_name": body.take("sku.name"),
        },
        properties=_PLAN,
    ),
    "azurerm_resource_group_template_deployment.function": Pair(
        "Microsoft.Resources/deployments",
        _app,
        key=lambda values: f"{values['resource_group_name']}/{values['name']}",
        named=lambda body: f"{body.id.split('/')[4]}/{body.id.rsplit('/', 1)[-1]}",
    ),
    "azurerm_monitor_action_group.this": Pair(
        "Microsoft.Insights/actionGroups",
        lambda body: {
            "name": body.id.rsplit("/", 1)[-1],
            "resource_group_name": body.id.split("/")[4],
            "tags": body.take("tags"),
            "short_name": body.take("properties.groupShortName"),
            "email_receiver": sorted(one["emailAddress"] for one in body.take("properties.emailReceivers")),
        },
        properties={"location": "Action groups are global.", "properties.enabled": "The provider's default."},
    ),
    "azurerm_monitor_scheduled_query_rules_alert_v2.this": Pair(
        "Microsoft.Insights/scheduledQueryRules",
        _alarm,
        properties={"properties.enabled": "The provider's default."},
    ),
    "azurerm_application_insights_workbook.this": Pair(
        "Microsoft.Insights/workbooks",
        _workbook,
        {"name": "guid() of templates and uuidv5() of Terraform have different name spaces."},
        {"kind": "The provider's default.", "properties.category": "The provider's default."},
        key=lambda values: str(values["display_name"]),
        named=lambda body: str(body.take("properties.displayName")),
    ),
    "azurerm_eventgrid_topic.deliveries": Pair(
        "Microsoft.EventGrid/topics",
        lambda body: {
            **_common(body),
            "input_schema": body.take("properties.inputSchema"),
            "local_auth_enabled": not body.take("properties.disableLocalAuth"),
        },
    ),
    "azurerm_eventgrid_system_topic.destination": Pair(
        "Microsoft.EventGrid/systemTopics",
        lambda body: {
            **_common(body),
            "source_resource_id": body.take("properties.source"),
            "topic_type": body.take("properties.topicType"),
        },
    ),
    "azurerm_eventgrid_system_topic_event_subscription.manifests": Pair(
        "Microsoft.EventGrid/systemTopics/eventSubscriptions",
        _subscribed,
        properties={
            "properties.destination.properties.maxEventsPerBatch": "The default of Event Grid.",
            "properties.destination.properties.preferredBatchSizeInKilobytes": "The default of Event Grid.",
        },
        key=lambda values: str(values["system_topic"]),
        named=lambda body: body.id.split("/systemTopics/")[1].partition("/")[0],
    ),
    "azurerm_user_assigned_identity.tenants": Pair("Microsoft.ManagedIdentity/userAssignedIdentities", _common),
    "azurerm_private_endpoint.storage": Pair(
        "Microsoft.Network/privateEndpoints",
        _endpoint,
        {"private_dns_zone_group": "Part of another resource, privateDnsZoneGroups, compared below."},
    ),
    **{
        f"azurerm_role_definition.{name}": Pair(
            "Microsoft.Authorization/roleDefinitions",
            _role,
            {"scope": _OWN_GUID},
            {"properties.type": "Every role of the module is a custom one."},
            named=lambda body: str(body.take("properties.roleName")),
        )
        for name in ("function", "policy")
    },
    **{
        f"azurerm_role_assignment.{name}": Pair(
            "Microsoft.Authorization/roleAssignments",
            _assigned,
            {"role_definition_id": "Compared as `role`.", "role_definition_name": "Compared as `role`."},
            key=lambda values: f"{values['scope']} {values['role']} {values['principal_id']}".lower(),
            named=lambda body: " ".join(map(str, list(_assigned(body).values())[:3])).lower(),
        )
        for name in ("function", "function_data", "connector", "registry_writer", "policy")
    },
    "azurerm_policy_definition.this": Pair("Microsoft.Authorization/policyDefinitions", _defined),
    "azurerm_management_group_policy_assignment.this": Pair(
        "Microsoft.Authorization/policyAssignments", _assigned_policy
    ),
}


def _block(value: Any) -> Any:
    """Return the one item of a block, without what it does not set."""
    [one] = value
    return {name: inner for name, inner in one.items() if inner not in (None, [], "")}


def _of_module(applied: Applied, address: str, values: Json, roles: Mapping[str, str]) -> Json:
    """Return the attributes of a resource of the module in the form of its view."""
    made = dict(values)
    kind = address.partition(".")[0]
    if kind == "azurerm_storage_account":
        rules = made["network_rules"][0]
        names = ("default_action", "bypass", "ip_rules", "virtual_network_subnet_ids")
        made["network_rules"] = [{name: rules.get(name) or None for name in names}]
    elif kind == "azurerm_storage_management_policy":
        made["rule"] = [
            {
                "name": one["name"],
                "enabled": one["enabled"],
                "filters": {name: one["filters"][0][name] for name in ("blob_types", "prefix_match")},
                "base_blob": {
                    name: days
                    for name, days in one["actions"][0]["base_blob"][0].items()
                    if days and name.endswith("_since_modification_greater_than")
                },
            }
            for one in made["rule"]
        ]
    elif kind == "azurerm_role_definition":
        granted = made["permissions"][0]
        made["assignable_scopes"] = sorted(made["assignable_scopes"])
        made["permissions"] = {
            "actions": sorted(granted["actions"] or ()),
            "data_actions": sorted(granted["data_actions"] or ()),
            "not": [*(granted["not_actions"] or ()), *(granted["not_data_actions"] or ())],
        }
    elif kind == "azurerm_application_insights":
        made["workspace_id"] = applied.of("azurerm_log_analytics_workspace")[0]["name"]
    elif kind == "azurerm_monitor_scheduled_query_rules_alert_v2":
        made["criteria"] = {
            name: made["criteria"][0][name] for name in ("query", "time_aggregation_method", "operator", "threshold")
        }
        group = applied.of("azurerm_monitor_action_group")[0]
        base = applied.outputs["function_id"].partition("/providers/")[0]
        made["action"] = [{"action_groups": [f"{base}/providers/Microsoft.Insights/actionGroups/{group['name']}"]}]
        made["scopes"] = [f"{base}/providers/Microsoft.Insights/components/{group['name']}"]
    elif kind == "azurerm_application_insights_workbook":
        base = applied.outputs["function_id"].partition("/providers/")[0]
        insights = f"{base}/providers/Microsoft.Insights/components/{applied.outputs['function_name']}"
        made["data_json"] = {**json.loads(made["data_json"]), "fallbackResourceIds": [insights]}
        made["source_id"] = insights.lower()
    elif kind == "azurerm_monitor_action_group":
        made["email_receiver"] = sorted(one["email_address"] for one in made["email_receiver"])
    elif kind == "azurerm_resource_group_template_deployment":
        given = {name: one["value"] for name, one in json.loads(made["parameters_content"]).items()}
        given["settings"] = {one["name"]: one["value"] for one in given["settings"]}
        given["plan"] = applied.outputs["function_id"].replace("/sites/", "/serverfarms/")
        made["parameters_content"], made["template_content"] = given, json.loads(made["template_content"])
    elif kind == "azurerm_eventgrid_system_topic_event_subscription":
        made["subject_filter"] = _block(made["subject_filter"])
        made["azure_function_endpoint"] = made["azure_function_endpoint"][0]["function_id"]
        made["retry_policy"] = _block(made["retry_policy"])
    elif kind == "azurerm_private_endpoint":
        connection = made["private_service_connection"][0]
        made["private_service_connection"] = {
            name: connection[name] for name in ("name", "private_connection_resource_id", "subresource_names")
        }
    elif kind == "azurerm_policy_definition":
        made["metadata"], made["parameters"] = json.loads(made["metadata"]), json.loads(made["parameters"])
        made["policy_rule"] = _without_roles(json.loads(made["policy_rule"]))
    elif kind == "azurerm_management_group_policy_assignment":
        parameters = json.loads(made["parameters"])
        parameters["accounts"]["value"] = sorted(parameters["accounts"]["value"])
        made["parameters"], made["not_scopes"] = parameters, made["not_scopes"] or None
        made["identity"] = [one["type"] for one in made["identity"]]
        made["policy_definition_id"] = applied.of("azurerm_policy_definition")[0]["id"]
    elif kind == "azurerm_role_assignment":
        made["role"] = _role_of(made, roles)
        # The stand-in gives these two no id of Azure's form.
        base = applied.outputs["function_id"].partition("/providers/")[0]
        if made["scope"] == "azurerm_application_insights.id":
            made["scope"] = f"{base}/providers/Microsoft.Insights/components/{applied.outputs['function_name']}"
        conditioned = "(" in str(made["condition"])
        for name in ("condition", "condition_version"):
            made[name] = made[name] if conditioned else None
    return made


def _role_of(values: Json, roles: Mapping[str, str]) -> str:
    """Return a role by the name that both engines give it."""
    built_in = {one.name: one.id for one in ROLES}
    name = values.get("role_definition_name") or ""
    return built_in[name] if name in built_in else roles[values["role_definition_id"]]


def differences(
    applied: Applied, bodies: Sequence[Body], folder: Path = INFRA, resources: Sequence[Json] | None = None
) -> list[str]:
    """Return every difference between a deployment of Terraform and one of the templates, as a sentence."""
    module = modules.read(folder)
    found: list[str] = []
    unpaired = set(module.resources) - set(PAIRS) - set(WITHOUT_RESOURCE)
    found += [f"{one} of the module has no pair in the templates" for one in sorted(unpaired)]
    gone = (set(PAIRS) | set(WITHOUT_RESOURCE)) - set(module.resources)
    found += [f"{one} is not in the module any more" for one in sorted(gone)]
    titles = {one["role_definition_resource_id"]: one["name"] for one in applied.of("azurerm_role_definition")}
    titled = {
        _guid(one): str(one.take("properties.roleName")) for one in bodies if one.kind.endswith("/roleDefinitions")
    }
    left = {id(one): one for one in bodies if one.kind not in WITHOUT_PAIR}
    for values in resources or applied.resources:
        address = f"{values['type']}.{values['name']}"
        if address in WITHOUT_RESOURCE:
            continue
        pair = PAIRS[address]
        given = _of_module(applied, address, values["values"], titles)
        key = pair.key(given).lower()
        match = next((one for one in bodies if one.kind == pair.kind and _named(pair, one, titled) == key), None)
        if match is None:
            found.append(f"{address} {key} is not in the templates")
            continue
        left.pop(id(match), None)
        view = pair.view(match)
        if "role" in view:
            view["role"] = titled.get(view["role"], view["role"])
        for name in _set_by(module, address):
            if name in pair.attributes:
                continue
            if name not in view:
                found.append(f"{address}.{name} is neither compared nor listed")
            elif _plain(view[name]) != _plain(given.get(name)):
                found.append(f"{address} {key}: {name} is {given.get(name)!r}, in the templates {view[name]!r}")
        if "role" in view and view["role"].lower() != given["role"].lower():
            found.append(f"{address} {key}: role is {given['role']}, in the templates {view['role']}")
        found += [f"{address} {key}: {one}" for one in _parts(address, given, match, bodies)]
        more = match.left() - set(pair.properties) if address not in _WHOLE else set()
        found += [f"{pair.kind} {key}: {one} is neither compared nor listed" for one in sorted(more)]
    found += [f"{one.kind} {one.id} is not in the module" for one in left.values()]
    return found


def _parts(address: str, given: Json, body: Body, bodies: Sequence[Body]) -> Iterator[str]:
    """Yield the differences of what is a block in the module and another resource in the templates."""
    if address.startswith("azurerm_storage_account."):
        [service] = [one for one in bodies if one.id == f"{body.id}/blobServices/default"]
        [blobs] = given["blob_properties"]
        for block, name in (
            ("delete_retention_policy", "deleteRetentionPolicy"),
            ("container_delete_retention_policy", "containerDeleteRetentionPolicy"),
        ):
            kept = {"enabled": True, "days": blobs[block][0]["days"]} if blobs.get(block) else None
            if service.take(f"properties.{name}") != kept:
                yield f"{block} is {kept}, in the templates {service.take(f'properties.{name}')}"
        yield from (f"{one} of blobServices is not compared" for one in service.left())
    elif address == "azurerm_private_endpoint.storage":
        zones = [one for one in bodies if one.id == f"{body.id}/privateDnsZoneGroups/blob"]
        found = [
            one["properties"]["privateDnsZoneId"]
            for zone in zones
            for one in zone.take("properties.privateDnsZoneConfigs")
        ]
        wanted = [zone for one in given["private_dns_zone_group"] for zone in one["private_dns_zone_ids"]]
        if found != wanted:
            yield f"private_dns_zone_group is {wanted}, in the templates {found}"


# Its properties are the file of the module, and the expression of the templates.
_WHOLE = ("azurerm_resource_group_template_deployment.function",)
_META = {"for_each", "count", "depends_on", "lifecycle", "provisioner", "dynamic"}


def _set_by(module: modules.Module, address: str) -> list[str]:
    """Return the attributes and blocks that the module sets in a resource."""
    body = module.resources[address]
    dynamic = body.get("dynamic") or ()
    blocks = [name for one in (dynamic if isinstance(dynamic, list) else [dynamic]) for name in one]
    return [name for name in [*body, *blocks] if name not in _META and not name.startswith("__")]


def _named(pair: Pair, body: Body, titled: Mapping[str, str]) -> str:
    name = pair.named(body)
    for guid, title in titled.items():
        name = name.replace(guid, title.lower())
    return name.lower()


def _guid(body: Body) -> str:
    return body.id.rsplit("/", 1)[-1]


def _plain(value: Any) -> Any:
    """Return a value without what Azure does not tell apart: sets in order, and nothing as null."""
    if isinstance(value, list):
        return sorted((_plain(one) for one in value), key=repr) or None
    if isinstance(value, dict):
        return {name: _plain(value[name]) for name in sorted(value)}
    return value
