"""What the `azurerm` provider sends to Azure for each resource of the module, sent to a local Azure.

Each body is the one of the provider's create function, with the properties that it always sends. Source:
https://github.com/hashicorp/terraform-provider-azurerm, internal/services/*, commit 69697b7f.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.rights import ROLES
from tests.infra.standin.arm import Arm
from tests.infra.standin.wire import is_unknown

Json = dict[str, Any]
_STORAGE, _ROLES, _WEB, _DEPLOYMENTS = "2023-05-01", "2022-04-01", "2024-04-01", "2022-09-01"
_AUTHORIZATION = "providers/Microsoft.Authorization"


class AzureRm:
    """Carries out resources of `azurerm` and `azuread` in a local Azure, as its operator.

    Raises KeyError for a type that it does not know, and Refused for what the local Azure refuses: the apply fails.
    """

    def __init__(self, azure: LocalAzure, tailpipe: str) -> None:
        self._azure, self._arm, self._tailpipe = azure, Arm(azure), tailpipe
        self.subscription = azure.subscription_ids[0]

    def __call__(self, kind: str, values: Json) -> Mapping[str, Any]:
        """Create a resource or read a data source; return what Azure assigned, by attribute."""
        found: Mapping[str, Any] = getattr(self, f"_{kind.replace('data.', 'read_')}")(_given(values))
        return found

    def _put(self, path: str, version: str, body: Json) -> Json:
        made: Json = self._arm.ask("PUT", path, version, body)
        return {"id": path, **(made.get("properties") or {}), "document": made}

    def _in_group(self, values: Json, kind: str, version: str, body: Json, location: bool = True) -> Json:
        where = f"/subscriptions/{self.subscription}/resourceGroups/{values['resource_group_name']}"
        own = {"location": values["location"]} if location else {}
        return self._put(
            f"{where}/providers/{kind}/{values['name']}", version, {**own, "tags": values["tags"] or {}, **body}
        )

    def _read_azurerm_client_config(self, _: Json) -> Json:
        return {"subscription_id": self.subscription, "tenant_id": self._azure.tenant}

    def _azuread_service_principal(self, values: Json) -> Json:
        self._azure.world.service_principals[values["client_id"]] = self._tailpipe
        return {"object_id": self._tailpipe}

    def _azurerm_resource_group(self, values: Json) -> Json:
        where = f"/subscriptions/{self.subscription}/resourceGroups/{values['name']}"
        return self._put(where, _DEPLOYMENTS, {"location": values["location"], "tags": values["tags"] or {}})

    def _azurerm_storage_account(self, values: Json) -> Json:
        [rules] = values["network_rules"]
        properties: Json = {
            "accessTier": "Hot",
            "allowBlobPublicAccess": values["allow_nested_items_to_be_public"],
            "allowCrossTenantReplication": False,
            "allowSharedKeyAccess": values["shared_access_key_enabled"],
            "dnsEndpointType": "Standard",
            "defaultToOAuthAuthentication": values["default_to_oauth_authentication"],
            "encryption": {
                "keySource": "Microsoft.Storage",
                "services": {"queue": {"keyType": "Service"}, "table": {"keyType": "Service"}},
            },
            "supportsHttpsTrafficOnly": True,
            "isNfsV3Enabled": False,
            "isHnsEnabled": False,
            "isLocalUserEnabled": values["local_user_enabled"],
            "isSftpEnabled": False,
            "minimumTlsVersion": values["min_tls_version"],
            "networkAcls": {
                "defaultAction": rules["default_action"],
                "bypass": ", ".join(rules["bypass"]),
                "ipRules": [{"value": one, "action": "Allow"} for one in rules["ip_rules"] or ()],
                "virtualNetworkRules": [
                    {"id": one, "action": "Allow"} for one in rules["virtual_network_subnet_ids"] or ()
                ],
            },
            "publicNetworkAccess": "Enabled",
        }
        for sas in values["sas_policy"] or ():
            properties["sasPolicy"] = {
                "expirationAction": sas["expiration_action"],
                "sasExpirationPeriod": sas["expiration_period"],
            }
        sku = {"name": f"{values['account_tier']}_{values['account_replication_type']}", "tier": values["account_tier"]}
        body = {"kind": values["account_kind"], "sku": sku, "properties": properties}
        made = self._in_group(values, "Microsoft.Storage/storageAccounts", _STORAGE, body)
        [blobs] = values["blob_properties"]
        service: Json = {
            "cors": {"corsRules": []},
            "isVersioningEnabled": False,
            "lastAccessTimeTrackingPolicy": {"enable": False},
            "changeFeed": {"enabled": False},
            "restorePolicy": {"enabled": False},
        }
        for block, name in (
            ("delete_retention_policy", "deleteRetentionPolicy"),
            ("container_delete_retention_policy", "containerDeleteRetentionPolicy"),
        ):
            kept = blobs[block] or ()
            service[name] = {"enabled": True, "days": kept[0]["days"]} if kept else {"enabled": False}
        service["deleteRetentionPolicy"]["allowPermanentDelete"] = False
        self._put(f"{made['id']}/blobServices/default", _STORAGE, {"properties": service})
        return {**made, "primary_blob_endpoint": made["primaryEndpoints"]["blob"]}

    def _azurerm_storage_container(self, values: Json) -> Json:
        where = f"{values['storage_account_id']}/blobServices/default/containers/{values['name']}"
        return self._put(where, _STORAGE, {"properties": {"publicAccess": "None", "metadata": {}}})

    def _azurerm_storage_management_policy(self, values: Json) -> Json:
        names = {
            "delete": "delete_after_days_since_modification_greater_than",
            "tierToCool": "tier_to_cool_after_days_since_modification_greater_than",
            "tierToArchive": "tier_to_archive_after_days_since_modification_greater_than",
        }
        rules = []
        for rule in values["rule"]:
            [filters], [actions] = rule["filters"], rule["actions"]
            [base] = actions["base_blob"]
            days = {action: base[name] for action, name in names.items() if base[name] is not None}
            rules.append(
                {
                    "name": rule["name"],
                    "enabled": rule["enabled"],
                    "type": "Lifecycle",
                    "definition": {
                        "filters": {"prefixMatch": filters["prefix_match"], "blobTypes": filters["blob_types"]},
                        "actions": {
                            "baseBlob": {
                                action: {"daysAfterModificationGreaterThan": one} for action, one in days.items()
                            }
                        },
                    },
                }
            )
        where = f"{values['storage_account_id']}/managementPolicies/default"
        return self._put(where, _STORAGE, {"properties": {"policy": {"rules": rules}}})

    def _azurerm_log_analytics_workspace(self, values: Json) -> Json:
        properties = {
            "sku": {"name": values["sku"]},
            "publicNetworkAccessForIngestion": "Enabled",
            "publicNetworkAccessForQuery": "Enabled",
            "retentionInDays": values["retention_in_days"],
            "features": {"enableLogAccessUsingOnlyResourcePermissions": True, "disableLocalAuth": False},
        }
        return self._in_group(
            values, "Microsoft.OperationalInsights/workspaces", "2023-09-01", {"properties": properties}
        )

    def _azurerm_application_insights(self, values: Json) -> Json:
        properties = {
            "ApplicationId": values["name"],
            "Application_Type": values["application_type"],
            "SamplingPercentage": 100,
            "RetentionInDays": 90,
            "DisableIpMasking": False,
            "DisableLocalAuth": values["local_authentication_disabled"],
            "publicNetworkAccessForIngestion": "Enabled",
            "publicNetworkAccessForQuery": "Enabled",
            "ForceCustomerStorageForProfiler": False,
            "WorkspaceResourceId": values["workspace_id"],
        }
        body = {"kind": values["application_type"], "properties": properties}
        made = self._in_group(values, "Microsoft.Insights/components", "2020-02-02", body)
        return {**made, "connection_string": made["ConnectionString"]}

    def _azurerm_service_plan(self, values: Json) -> Json:
        properties = {
            "perSiteScaling": False,
            "reserved": values["os_type"] == "Linux",
            "hyperV": False,
            "elasticScaleEnabled": False,
            "zoneRedundant": False,
        }
        body = {"sku": {"name": values["sku_name"]}, "properties": properties}
        return self._in_group(values, "Microsoft.Web/serverfarms", _WEB, body)

    def _azurerm_resource_group_template_deployment(self, values: Json) -> Json:
        properties = {
            "mode": values["deployment_mode"],
            "template": json.loads(values["template_content"]),
            "parameters": json.loads(values["parameters_content"]),
        }
        kind = "Microsoft.Resources/deployments"
        made = self._in_group(values, kind, _DEPLOYMENTS, {"properties": properties}, location=False)
        found = self._arm.ask("GET", made["id"], _DEPLOYMENTS)["properties"]
        return {**made, "output_content": json.dumps(found["outputs"])}

    def _azurerm_monitor_action_group(self, values: Json) -> Json:
        emails = [
            {
                "name": one["name"],
                "emailAddress": one["email_address"],
                "useCommonAlertSchema": one["use_common_alert_schema"],
            }
            for one in values["email_receiver"] or ()
        ]
        others = ("azureAppPush", "itsm", "sms", "webhook", "automationRunbook", "voice", "logicApp", "azureFunction",
                  "armRole", "eventHub")  # fmt: skip
        properties = {
            "groupShortName": values["short_name"],
            "enabled": True,
            "emailReceivers": emails,
            **{f"{one}Receivers": [] for one in others},
        }
        body = {"location": "global", "properties": properties}
        return self._in_group(values, "Microsoft.Insights/actionGroups", "2023-01-01", body, location=False)

    def _azurerm_monitor_scheduled_query_rules_alert_v2(self, values: Json) -> Json:
        [criteria], [action] = values["criteria"], values["action"]
        condition = {
            "operator": criteria["operator"],
            "threshold": criteria["threshold"],
            "timeAggregation": criteria["time_aggregation_method"],
            "dimensions": [],
            "query": criteria["query"],
        }
        properties = {
            "autoMitigate": values["auto_mitigation_enabled"],
            "checkWorkspaceAlertsStorageConfigured": False,
            "enabled": True,
            "scopes": values["scopes"],
            "severity": values["severity"],
            "skipQueryValidation": values["skip_query_validation"],
            "targetResourceTypes": [],
            "actions": {"actionGroups": action["action_groups"], "customProperties": {}, "actionProperties": {}},
            "criteria": {"allOf": [condition]},
            "description": values["description"],
            "displayName": values["display_name"],
            "evaluationFrequency": values["evaluation_frequency"],
            "windowSize": values["window_duration"],
        }
        body = {"kind": "LogAlert", "properties": properties}
        return self._in_group(values, "Microsoft.Insights/scheduledQueryRules", "2023-12-01", body)

    def _azurerm_application_insights_workbook(self, values: Json) -> Json:
        properties = {
            "category": "workbook",
            "displayName": values["display_name"],
            "serializedData": values["data_json"],
            "sourceId": values["source_id"],
        }
        body = {"kind": "shared", "properties": properties}
        return self._in_group(values, "Microsoft.Insights/workbooks", "2023-06-01", body)

    def _azurerm_eventgrid_topic(self, values: Json) -> Json:
        properties = {
            "inputSchema": values["input_schema"],
            "publicNetworkAccess": "Enabled",
            "inboundIpRules": [],
            "disableLocalAuth": not values["local_auth_enabled"],
        }
        return self._in_group(values, "Microsoft.EventGrid/topics", "2022-06-15", {"properties": properties})

    def _azurerm_eventgrid_system_topic(self, values: Json) -> Json:
        properties = {"source": values["source_resource_id"], "topicType": values["topic_type"]}
        return self._in_group(values, "Microsoft.EventGrid/systemTopics", "2022-06-15", {"properties": properties})

    def _azurerm_eventgrid_system_topic_event_subscription(self, values: Json) -> Json:
        [subject], [retries] = values["subject_filter"], values["retry_policy"]
        [function] = values["azure_function_endpoint"]
        properties = {
            "filter": {
                "enableAdvancedFilteringOnArrays": False,
                "includedEventTypes": values["included_event_types"],
                "subjectBeginsWith": subject["subject_begins_with"],
                "subjectEndsWith": subject["subject_ends_with"],
                "isSubjectCaseSensitive": subject["case_sensitive"],
            },
            "retryPolicy": {
                "maxDeliveryAttempts": retries["max_delivery_attempts"],
                "eventTimeToLiveInMinutes": retries["event_time_to_live"],
            },
            "labels": [],
            "eventDeliverySchema": values["event_delivery_schema"],
            "destination": {
                "endpointType": "AzureFunction",
                "properties": {"resourceId": function["function_id"]},
            },
        }
        where = f"/subscriptions/{self.subscription}/resourceGroups/{values['resource_group_name']}"
        topic = f"{where}/providers/Microsoft.EventGrid/systemTopics/{values['system_topic']}"
        return self._put(f"{topic}/eventSubscriptions/{values['name']}", "2022-06-15", {"properties": properties})

    def _azurerm_user_assigned_identity(self, values: Json) -> Json:
        kind = "Microsoft.ManagedIdentity/userAssignedIdentities"
        made = self._in_group(values, kind, "2023-01-31", {"properties": {}})
        return {**made, "client_id": made["clientId"], "principal_id": made["principalId"]}

    def _azurerm_role_definition(self, values: Json) -> Json:
        [granted] = values["permissions"]
        permissions = {
            "actions": granted["actions"] or [],
            "dataActions": granted["data_actions"] or [],
            "notActions": granted["not_actions"] or [],
            "notDataActions": granted["not_data_actions"] or [],
        }
        properties = {
            "roleName": values["name"],
            "description": values["description"],
            "type": "CustomRole",
            "permissions": [permissions],
            "assignableScopes": values["assignable_scopes"],
        }
        identifier = uuid5(NAMESPACE_URL, values["name"])
        where = f"{values['scope']}/{_AUTHORIZATION}/roleDefinitions/{identifier}"
        made = self._put(where, _ROLES, {"properties": properties})
        return {**made, "role_definition_resource_id": made["document"]["id"]}

    def _azurerm_role_assignment(self, values: Json) -> Json:
        named = {one.name: f"/{_AUTHORIZATION}/roleDefinitions/{one.id}" for one in ROLES}
        role = values["role_definition_id"] or named[values["role_definition_name"]]
        properties = {
            "roleDefinitionId": role,
            "principalId": values["principal_id"],
            "principalType": values["principal_type"],
            "description": "",
        }
        if values["condition"]:
            version = values["condition_version"] or "2.0"
            properties |= {"condition": values["condition"], "conditionVersion": version}
        identifier = uuid5(NAMESPACE_URL, f"{values['scope']} {role} {values['principal_id']}")
        return self._put(
            f"{values['scope']}/{_AUTHORIZATION}/roleAssignments/{identifier}", _ROLES, {"properties": properties}
        )

    def _azurerm_private_endpoint(self, values: Json) -> Json:
        [connection] = values["private_service_connection"]
        properties = {
            "privateLinkServiceConnections": [
                {
                    "name": connection["name"],
                    "properties": {
                        "privateLinkServiceId": connection["private_connection_resource_id"],
                        "groupIds": connection["subresource_names"],
                    },
                }
            ],
            "manualPrivateLinkServiceConnections": [],
            "subnet": {"id": values["subnet_id"]},
            "ipConfigurations": [],
            "customNetworkInterfaceName": "",
        }
        body = {"properties": properties}
        made = self._in_group(values, "Microsoft.Network/privateEndpoints", "2024-01-01", body)
        for group in values["private_dns_zone_group"] or ():
            zones = [
                {"name": one.rsplit("/", 1)[-1], "properties": {"privateDnsZoneId": one}}
                for one in group["private_dns_zone_ids"]
            ]
            where = f"{made['id']}/privateDnsZoneGroups/{group['name']}"
            self._put(where, "2024-01-01", {"properties": {"privateDnsZoneConfigs": zones}})
        return made

    def _azurerm_policy_definition(self, values: Json) -> Json:
        properties = {
            "policyType": values["policy_type"],
            "mode": values["mode"],
            "displayName": values["display_name"],
            "description": values["description"],
            "policyRule": json.loads(values["policy_rule"]),
            "metadata": json.loads(values["metadata"]),
            "parameters": json.loads(values["parameters"]),
        }
        where = f"{values['management_group_id']}/{_AUTHORIZATION}/policyDefinitions/{values['name']}"
        return self._put(where, "2023-04-01", {"properties": properties})

    def _azurerm_management_group_policy_assignment(self, values: Json) -> Json:
        properties = {
            "policyDefinitionId": values["policy_definition_id"],
            "displayName": values["display_name"],
            "scope": values["management_group_id"],
            "enforcementMode": "Default",
            "parameters": json.loads(values["parameters"]),
            **({"notScopes": values["not_scopes"]} if values["not_scopes"] else {}),
        }
        [identity] = [{"identity": {"type": one["type"]}} for one in values["identity"] or ()] or [{}]
        where = f"{values['management_group_id']}/{_AUTHORIZATION}/policyAssignments/{values['name']}"
        made = self._put(where, "2023-04-01", {"location": values["location"], **identity, "properties": properties})
        return {**made, "principal_id": (made["document"].get("identity") or {}).get("principalId")}

    def _azurerm_management_group_policy_remediation(self, values: Json) -> Json:
        where = f"{values['management_group_id']}/providers/Microsoft.PolicyInsights/remediations/{values['name']}"
        return self._put(
            where, "2021-10-01", {"properties": {"policyAssignmentId": values["policy_assignment_id"], "filters": {}}}
        )


def _given(value: Any) -> Any:
    """Return values without those that are not known: the module does not set them."""
    if is_unknown(value):
        return None
    if isinstance(value, dict):
        return {name: _given(one) for name, one in value.items()}
    return [_given(one) for one in value] if isinstance(value, list) else value
