"""Values that Azure and Google assign, in their documented form: ids, addresses, principals."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

SUBSCRIPTION = "11111111-2222-3333-4444-5555553b4f2a"
TENANT = "44444444-2222-3333-4444-555555555555"
PRINCIPAL = "33333333-3333-3333-3333-333333333333"
PROJECT_NUMBER = "123456789012"

_ASSIGNMENTS = "providers/Microsoft.Authorization"


def _group(planned: Mapping[str, Any]) -> str:
    return f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{planned['resource_group_name']}"


def _email(planned: Mapping[str, Any]) -> str:
    return f"{planned['account_id']}@{planned['project']}.iam.gserviceaccount.com"


def _pool(planned: Mapping[str, Any]) -> str:
    pool = planned["workload_identity_pool_id"]
    return f"projects/{PROJECT_NUMBER}/locations/global/workloadIdentityPools/{pool}"


# By type and attribute, computed from the planned resource. Any other string is `<type>.<attribute>`.
_ASSIGNED: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "azurerm_client_config.subscription_id": lambda _: SUBSCRIPTION,
    "azurerm_client_config.tenant_id": lambda _: TENANT,
    "azurerm_resource_group.id": lambda one: f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{one['name']}",
    "azurerm_storage_account.id": lambda one: (
        f"{_group(one)}/providers/Microsoft.Storage/storageAccounts/{one['name']}"
    ),
    "azurerm_storage_account.primary_blob_endpoint": lambda one: f"https://{one['name']}.blob.core.windows.net/",
    "azurerm_storage_container.id": lambda one: (
        f"{one['storage_account_id']}/blobServices/default/containers/{one['name']}"
    ),
    "azurerm_role_definition.role_definition_resource_id": lambda one: (
        f"{one['scope']}/{_ASSIGNMENTS}/roleDefinitions/{uuid.uuid5(uuid.NAMESPACE_URL, one['name'])}"
    ),
    "azurerm_resource_group_template_deployment.output_content": lambda _: json.dumps(
        {"principalId": {"type": "String", "value": PRINCIPAL}}
    ),
    "azurerm_eventgrid_topic.id": lambda one: f"{_group(one)}/providers/Microsoft.EventGrid/topics/{one['name']}",
    "azurerm_eventgrid_topic.endpoint": lambda one: (
        f"https://{one['name']}.{one['location']}-1.eventgrid.azure.net/api/events"
    ),
    "azurerm_user_assigned_identity.id": lambda one: (
        f"{_group(one)}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{one['name']}"
    ),
    "azurerm_user_assigned_identity.client_id": lambda one: str(uuid.uuid5(uuid.NAMESPACE_URL, one["name"])),
    "azurerm_policy_definition.id": lambda one: (
        f"{one['management_group_id']}/{_ASSIGNMENTS}/policyDefinitions/{one['name']}"
    ),
    "azuread_service_principal.object_id": lambda one: str(uuid.uuid5(uuid.NAMESPACE_URL, one["client_id"])),
    "google_project.number": lambda _: PROJECT_NUMBER,
    "google_service_account.email": _email,
    "google_service_account.member": lambda one: f"serviceAccount:{_email(one)}",
    "google_service_account.name": lambda one: f"projects/{one['project']}/serviceAccounts/{_email(one)}",
    "google_storage_bucket.url": lambda one: f"gs://{one['name']}",
    "google_project_iam_custom_role.name": lambda one: f"projects/{one['project']}/roles/{one['role_id']}",
    "google_iam_workload_identity_pool.name": _pool,
    "google_iam_workload_identity_pool_provider.name": lambda one: (
        f"{_pool(one)}/providers/{one['workload_identity_pool_provider_id']}"
    ),
    "google_cloudfunctions2_function.uri": lambda one: f"https://{one['name']}-{PROJECT_NUMBER}.run.app",
}
_EMPTY: dict[str, Any] = {"number": 0, "bool": False, "map": {}, "list": [], "set": []}


def assigned(type_name: str, attribute: str, kind: Any, planned: Mapping[str, Any]) -> Any:
    """Return the value that a cloud would assign to an attribute of a planned resource."""
    by_name = _ASSIGNED.get(f"{type_name}.{attribute}")
    if by_name is not None:
        return by_name(planned)
    return _EMPTY.get(kind if isinstance(kind, str) else kind[0], f"{type_name}.{attribute}")
