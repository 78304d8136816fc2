"""Input that the Azure module accepts or refuses, and a part of each error message."""

from __future__ import annotations

from typing import Any

ONE, OTHER = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
GOOD: dict[str, Any] = {"environment": "prod", "location": "westeurope", "management_group_id": "contoso-root"}
ROOT: dict[str, Any] = {"provider": {"azurerm": {"features": {}}, "azuread": {}}}
ELSEWHERE = f"/subscriptions/{ONE}/resourceGroups/other/providers/Microsoft.Storage/storageAccounts/otherone"

SUBNET = f"/subscriptions/{ONE}/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/hub/subnets/one"
ZONES = f"/subscriptions/{ONE}/resourceGroups/net/providers/Microsoft.Network/privateDnsZones"
CLOSED = {"export_identity": True, "storage_closed": True, "function_subnet_id": SUBNET}

ACCEPTED: dict[str, dict[str, Any]] = {
    "defaults": {},
    "listed": {"management_group_id": None, "include_subscriptions": [ONE, OTHER]},
    "identities": {
        "export_identity": True,
        "destination_count": 3,
        "further_destinations": [ELSEWHERE],
        "monitoring_access": "none",
        "exports": ["focus", "amortized"],
        "settings": {"BACKFILL_MONTHS": "13"},
    },
    "policy": {
        "policy": "deploy",
        "storage_account_name": "a" * 24,
        "destination_count": 2,
        "notify_secret": f"/subscriptions/{ONE}/resourceGroups/g/providers/Microsoft.KeyVault/vaults/one/secrets/hook",
        "notify_digest": True,
        "publish_page": True,
    },
    "never_archived": {"archive_after_days": None, "replication": "ZRS"},
    "closed": {
        "export_identity": True,
        "storage_closed": True,
        "storage_ip_rules": ["203.0.113.7", "198.51.100.0/30"],
        "storage_subnet_ids": [SUBNET],
        "function_subnet_id": SUBNET,
    },
    "function_in_a_network": {"function_subnet_id": SUBNET},
    "fleet": {"fleet": True, "fleet_minutes": 30, "fleet_schedule": "0 */30 * * * *", "registry_writers": [ONE]},
    "subscriptions_of_a_group": {"include_subscriptions": [ONE], "monitoring_access": "subscription"},
}

# Variables without a default; Terraform itself reports that they are missing.
MISSING = ("environment", "package", "location")

# Validations of one variable: case → arguments, part of the message.
BY_VARIABLE: dict[str, tuple[dict[str, Any], str]] = {
    "environment": ({"environment": "dev"}, 'Write environment = "prod" for Tailpipe'),
    "package": ({"package": "no-such.zip"}, "Make the package with `tailpipe-exports package azure --out dist`"),
    "location": ({"location": "West Europe"}, "Write the region as Azure's short name"),
    "government": ({"location": "usgovvirginia"}, "Azure Government and Azure China are not supported"),
    "china": ({"location": "chinanorth3"}, "Azure Government and Azure China are not supported"),
    "storage_ip_rules": ({"storage_ip_rules": ["tailpipe"]}, "Write public IPv4 addresses"),
    "storage_ip_rules_narrow": ({"storage_ip_rules": ["203.0.113.7/32"]}, "ranges of /30 and wider"),
    "storage_subnet_ids": ({"storage_subnet_ids": ["default"]}, "in storage_subnet_ids"),
    "function_subnet_id": ({"function_subnet_id": "default"}, "as function_subnet_id"),
    "private_endpoint_subnet_id": ({"private_endpoint_subnet_id": "default"}, "as private_endpoint_subnet_id"),
    "private_dns_zone_id": (
        {"private_dns_zone_id": f"{ZONES}/privatelink.file.core.windows.net"},
        "the zone privatelink.blob.core.windows.net",
    ),
    "resource_group_name": ({"resource_group_name": "ends-in-a-dot."}, "Write a resource group name of at most 90"),
    "tags": ({"tags": {"managed-by": "me"}}, "Leave the tag managed-by out of tags"),
    "management_group_id": (
        {"management_group_id": "/providers/Microsoft.Management/managementGroups/contoso"},
        "Write the management group's name alone",
    ),
    "include_subscriptions": ({"include_subscriptions": [f"/subscriptions/{ONE}"]}, "without /subscriptions/"),
    "include_twice": ({"include_subscriptions": [ONE, ONE]}, "Name every subscription in include_subscriptions once"),
    "exclude_subscriptions": ({"exclude_subscriptions": ["Sandbox"]}, "Write subscription ids in small letters"),
    "exports": ({"exports": ["usage"]}, 'Write at least one of "actual", "focus" and "amortized"'),
    "no_exports": ({"exports": []}, 'Write at least one of "actual", "focus" and "amortized"'),
    "focus_version": ({"focus_version": "newest"}, "Write focus_version as Cost Management names it"),
    "export_format": ({"export_format": "json"}, 'Write export_format = "csv" or "parquet"'),
    "storage_account_name": ({"storage_account_name": "a" * 25}, "Write a storage account name of 3 to 24"),
    "storage_account_dash": ({"storage_account_name": "tail-pipe"}, "Write a storage account name of 3 to 24"),
    "host_storage_account_name": ({"host_storage_account_name": "ab"}, "Write a storage account name of 3 to 24"),
    "destination_count": ({"destination_count": 0}, "Write a whole destination_count from 1 to 20"),
    "further_destinations": ({"further_destinations": ["otherone"]}, "resource id"),
    "container_name": ({"container_name": "tailpipe-state"}, "Write a container name of 3 to 63"),
    "container_name_long": ({"container_name": "-".join("a" * 33)}, "Write a container name of 3 to 63"),
    "container_name_short": ({"container_name": "ab"}, "Write a container name of 3 to 63"),
    "replication": ({"replication": "RAGRS"}, 'Write replication = "LRS", "ZRS", "GRS" or "GZRS"'),
    "cool_after_days": ({"cool_after_days": 7}, "Write cool_after_days from 30 to 3650"),
    "archive_after_days": ({"archive_after_days": 7}, "Write archive_after_days from 60 to 36500"),
    "function_name": ({"function_name": "Tailpipe"}, "Write a function_name of 2 to 25 small letters"),
    "schedule": ({"schedule": "at 17 past each full hour"}, "Write schedule with six fields, seconds first"),
    "schedule_minutes": ({"schedule_minutes": 1}, "Write schedule_minutes from 5 to 1440"),
    "memory_mb": ({"memory_mb": 1024}, "Write memory_mb = 512, 2048 or 4096"),
    "timeout_seconds": ({"timeout_seconds": 300}, "Write timeout_seconds from 600 to 43200"),
    "call_budget": ({"call_budget": -1}, "Write call_budget from 0 (no limit) to 1000000"),
    "log_level": ({"log_level": "warning"}, 'Write log_level = "info" or "debug"'),
    "settings": ({"settings": {"ARM_TOKEN": "x"}}, "the function works with its own identity and holds no secret"),
    "monitoring_access": ({"monitoring_access": "all"}, 'Write monitoring_access = "management_group"'),
    "connector_object_id": ({"connector_object_id": "tailpipe"}, "Write the enterprise application's object id"),
    "policy": ({"policy": "deny"}, 'Write policy = "off", "audit" or "deploy"'),
    "notification_emails": ({"notification_emails": ["platform"]}, "Write every e-mail address once"),
    "activity_log_workspace_id": (
        {"activity_log_workspace_id": "my-workspace"},
        "Write the workspace's whole resource id",
    ),
    "notify_secret": (
        {"notify_secret": "https://hooks.slack.com/services/T0/B0/x"},
        "Never write the webhook's address itself",
    ),
    "fleet_schedule": ({"fleet_schedule": "hourly"}, "Write fleet_schedule with six fields, seconds first"),
    "fleet_minutes": ({"fleet_minutes": 5}, "Write fleet_minutes as whole minutes from 15 to 1440"),
    "fleet_concurrency": ({"fleet_concurrency": 0}, "Write a whole fleet_concurrency from 1 to 200"),
    "registry_writers": ({"registry_writers": ["ops@example.com"]}, "Write each object id in registry_writers once"),
    "delta_retention_days": ({"delta_retention_days": 0}, "Write delta_retention_days as whole days from 1 to 3650"),
    "log_retention_days": ({"log_retention_days": 7}, "Write log_retention_days from 30 to 730"),
    "register_providers": ({"register_providers": ["CostManagement"]}, "Write names of resource providers"),
}

# Preconditions on several variables.
COMBINATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "fleet_behind_private_endpoints": (
        CLOSED | {"private_endpoint_subnet_id": SUBNET, "fleet": True},
        "Write fleet = false together with private_endpoint_subnet_id",
    ),
    "writers_without_registry": ({"registry_writers": [ONE]}, "Write fleet = true together with registry_writers"),
    "registry_as_destination": (
        {"container_name": "tailpipe-registry"},
        "Write another container_name than tailpipe-registry",
    ),
    "no_scope": ({"management_group_id": None}, "Write management_group_id (the tenant's id for all subscriptions)"),
    "in_and_out": (
        {"include_subscriptions": [ONE], "exclude_subscriptions": [ONE]},
        f"Take out of exclude_subscriptions what include_subscriptions names too: {ONE}.",
    ),
    "monitoring_without_group": (
        {"management_group_id": None, "include_subscriptions": [ONE], "monitoring_access": "management_group"},
        'Write management_group_id together with monitoring_access = "management_group"',
    ),
    "monitoring_without_list": (
        {"monitoring_access": "subscription"},
        'List the subscriptions in include_subscriptions together with monitoring_access = "subscription"',
    ),
    "policy_without_group": (
        {"management_group_id": None, "include_subscriptions": [ONE], "policy": "audit"},
        'Write management_group_id together with policy = "audit"',
    ),
    "policy_without_actual": (
        {"policy": "deploy", "exports": ["focus"]},
        'Put "actual" into exports together with policy',
    ),
    "archived_too_soon": ({"archive_after_days": 80}, "at least 30 days above cool_after_days"),
    "no_archive_there": ({"replication": "ZRS"}, 'Write archive_after_days = null together with replication = "ZRS"'),
    "one_account_for_both": (
        {"storage_account_name": "same", "host_storage_account_name": "same"},
        "Give host_storage_account_name another name than the destination's",
    ),
    "closed_without_identity": (
        CLOSED | {"export_identity": False},
        "Write export_identity = true together with storage_closed = true",
    ),
    "closed_without_subnet": (
        CLOSED | {"function_subnet_id": None},
        "Write function_subnet_id together with storage_closed = true",
    ),
    "open_with_rules": (
        {"storage_ip_rules": ["203.0.113.7"]},
        "Write storage_closed = true together with storage_ip_rules",
    ),
    "zone_without_endpoints": (
        CLOSED | {"private_dns_zone_id": f"{ZONES}/privatelink.blob.core.windows.net"},
        "Write private_endpoint_subnet_id together with private_dns_zone_id",
    ),
    "another_cloud": ({"settings": {"AZURE_CLOUD": "usgov"}}, "Leave AZURE_CLOUD out of settings"),
    "settings_of_the_module": ({"settings": {"EXPORTS": "focus"}}, "Leave EXPORTS out of settings"),
}
