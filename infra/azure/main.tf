data "azurerm_client_config" "current" {}

locals {
  subscription_id = data.azurerm_client_config.current.subscription_id
  tenant_id       = data.azurerm_client_config.current.tenant_id
  # The earlier scripts distinguished deployments in the same way, so the storage account keeps its name.
  suffix = substr(local.subscription_id, -6, 6)
  tags   = merge(var.tags, { managed-by = "tailpipe-exports" })

  # Ids are put together here, so that a plan shows the function's settings whole before anything exists.
  subscription    = "/subscriptions/${local.subscription_id}"
  group_id        = "${local.subscription}/resourceGroups/${var.resource_group_name}"
  function_name   = "${var.function_name}-${local.suffix}"
  function_id     = "${local.group_id}/providers/Microsoft.Web/sites/${local.function_name}"
  host_name       = coalesce(var.host_storage_account_name, "tailpipehost${local.suffix}")
  state_container = "tailpipe-state"
  code_container  = "app-package"

  destination_name = coalesce(var.storage_account_name, "tailpipedataexport${local.suffix}")
  # A name has at most 24 characters, and the first one may use all of them.
  further_name = var.storage_account_name == null ? "tailpipeexport${local.suffix}" : substr(var.storage_account_name, 0, min(22, length(var.storage_account_name)))
  destination_names = concat(
    [local.destination_name],
    [for number in range(2, var.destination_count + 1) : format("%s%02d", local.further_name, number)],
  )

  # Account names are unique in all of Azure.
  destinations = merge(
    { for one in local.destination_names : one => "${local.group_id}/providers/Microsoft.Storage/storageAccounts/${one}" },
    { for one in var.further_destinations : reverse(split("/", one))[0] => one },
  )
  destination_groups        = distinct([for one in values(local.destinations) : regex("^(.+)/providers/", one)[0]])
  destination_subscriptions = distinct([for one in values(local.destinations) : lower(split("/", one)[2])])

  # Private endpoints by the account's name; the module does not close the accounts of further_destinations.
  private_endpoints = var.private_endpoint_subnet_id == null ? {} : merge(
    { for one in local.destination_names : one => local.destinations[one] },
    { (local.host_name) = "${local.group_id}/providers/Microsoft.Storage/storageAccounts/${local.host_name}" },
  )
  # Without private endpoints the function has access through the service endpoint of its subnet.
  storage_subnets = distinct(concat(var.storage_subnet_ids, var.private_endpoint_subnet_id == null && var.function_subnet_id != null ? [var.function_subnet_id] : []))

  management_group = var.management_group_id == null ? "" : "/providers/Microsoft.Management/managementGroups/${var.management_group_id}"
  # Where the function may see subscriptions and write exports.
  scopes = var.management_group_id == null ? [for one in var.include_subscriptions : "/subscriptions/${one}"] : [local.management_group]

  has_group         = var.management_group_id != null
  monitoring_access = coalesce(var.monitoring_access, local.has_group ? "management_group" : "subscription")
}

resource "azurerm_resource_group" "this" {
  name     = var.resource_group_name
  location = var.location
  tags     = local.tags
}

# Exports need Microsoft.CostManagementExports in the destination's subscription. The provider block of the examples
# registers it with all others, including those that are registered already; the function reports it where it is missing.
# No role names the action of that registration, which may not be among Azure's published operations: a custom role with an
# action that Azure does not know is refused.
resource "azurerm_resource_provider_registration" "this" {
  for_each = var.register_providers

  name = each.key
}

# Stops a plan at combinations that no single variable's validation can detect.
resource "terraform_data" "checks" {
  lifecycle {
    precondition {
      condition     = local.has_group || length(var.include_subscriptions) > 0
      error_message = "Write management_group_id (the tenant's id for all subscriptions), or list the subscriptions in include_subscriptions."
    }
    precondition {
      condition     = length(setintersection(var.include_subscriptions, var.exclude_subscriptions)) == 0
      error_message = "Take out of exclude_subscriptions what include_subscriptions names too: ${join(", ", setintersection(var.include_subscriptions, var.exclude_subscriptions))}."
    }
    precondition {
      condition     = local.monitoring_access != "management_group" || local.has_group
      error_message = "Write management_group_id together with monitoring_access = \"management_group\", or choose \"subscription\" or \"none\"."
    }
    precondition {
      condition     = local.monitoring_access != "subscription" || length(var.include_subscriptions) > 0 || !local.has_group
      error_message = "List the subscriptions in include_subscriptions together with monitoring_access = \"subscription\", or choose \"management_group\" or \"none\"."
    }
    precondition {
      condition     = var.policy == "off" || local.has_group
      error_message = "Write management_group_id together with policy = \"${var.policy}\", because the policy is assigned there, or write policy = \"off\"."
    }
    precondition {
      condition     = var.policy != "deploy" || contains(var.exports, "actual")
      error_message = "Put \"actual\" into exports together with policy = \"deploy\", because the policy creates that dataset, or write policy = \"audit\" or \"off\"."
    }
    precondition {
      condition     = !var.storage_closed || var.export_identity
      error_message = "Write export_identity = true together with storage_closed = true: a closed account refuses exports that write by key."
    }
    precondition {
      condition     = !var.storage_closed || var.function_subnet_id != null
      error_message = "Write function_subnet_id together with storage_closed = true: the function reads what was delivered, and its code and state are in an account that is closed too."
    }
    precondition {
      condition     = var.storage_closed || length(var.storage_ip_rules) + length(var.storage_subnet_ids) == 0 && var.private_endpoint_subnet_id == null
      error_message = "Write storage_closed = true together with storage_ip_rules, storage_subnet_ids and private_endpoint_subnet_id, or leave them out: an open account admits every network."
    }
    precondition {
      condition     = var.private_dns_zone_id == null || var.private_endpoint_subnet_id != null
      error_message = "Write private_endpoint_subnet_id together with private_dns_zone_id, because only private endpoints are registered there."
    }
    precondition {
      condition     = !var.fleet || var.private_endpoint_subnet_id == null
      error_message = "Write fleet = false together with private_endpoint_subnet_id, or leave private_endpoint_subnet_id out and admit the function by function_subnet_id alone: Durable Functions need queues and tables of the function's account, for which the module makes no private endpoints."
    }
    precondition {
      condition     = var.fleet || length(var.registry_writers) == 0
      error_message = "Write fleet = true together with registry_writers, or leave them out: without it there is no registry."
    }
    precondition {
      condition     = var.container_name != local.registry_container
      error_message = "Write another container_name than ${local.registry_container}, which holds the tenant registry."
    }
    precondition {
      condition     = !contains(keys(var.settings), "AZURE_CLOUD")
      error_message = "Leave AZURE_CLOUD out of settings: this module deploys to the public cloud only."
    }
    precondition {
      condition     = var.archive_after_days == null ? true : var.archive_after_days >= var.cool_after_days + 30
      error_message = "Write archive_after_days at least 30 days above cool_after_days, or null: Azure charges 30 days of the cool tier in any case."
    }
    precondition {
      condition     = var.archive_after_days == null || contains(["LRS", "GRS"], var.replication)
      error_message = "Write archive_after_days = null together with replication = \"${var.replication}\", whose accounts have no archive tier, or choose \"LRS\" or \"GRS\"."
    }
    precondition {
      condition     = !contains(local.destination_names, local.host_name)
      error_message = "Give host_storage_account_name another name than the destination's: the function's storage takes no keys and holds its state."
    }
    precondition {
      condition     = length(setintersection(keys(var.settings), keys(local.own_settings))) == 0
      error_message = "Leave ${join(", ", setintersection(keys(var.settings), keys(local.own_settings)))} out of settings: the module sets it from its own variables."
    }
  }
}
