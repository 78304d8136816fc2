# The function's own storage: its code, its leases and its state. Tailpipe has no permission here, and there are no keys.
resource "azurerm_storage_account" "host" {
  #checkov:skip=CKV_AZURE_59: The function signs in by identity, keys are off and nothing is public; storage_closed lists networks.
  #checkov:skip=CKV_AZURE_35: storage_closed refuses networks that are not listed; without it the function is in no network of its own.
  #checkov:skip=CKV2_AZURE_33: The account holds code and state and opens to one identity only; private_endpoint_subnet_id adds an endpoint.
  #checkov:skip=CKV2_AZURE_1: Code can be published again and the state rebuilt; a customer key could only stop the function.
  #checkov:skip=CKV_AZURE_206: Code can be published again and the state rebuilt, so replication is the operator's choice.
  #checkov:skip=CKV_AZURE_33: Only the host's own identity uses the queues of a round; logging each of its reads has no use.
  name                     = local.host_name
  resource_group_name      = azurerm_resource_group.this.name
  location                 = azurerm_resource_group.this.location
  account_kind             = "StorageV2"
  account_tier             = "Standard"
  account_replication_type = var.replication
  min_tls_version          = "TLS1_2"
  tags                     = local.tags

  shared_access_key_enabled       = false
  default_to_oauth_authentication = true
  allow_nested_items_to_be_public = false
  local_user_enabled              = false

  network_rules {
    default_action             = var.storage_closed ? "Deny" : "Allow"
    bypass                     = ["None"]
    virtual_network_subnet_ids = var.storage_closed ? local.storage_subnets : []
  }

  blob_properties {
    delete_retention_policy {
      days = 14
    }
  }
}

resource "azurerm_storage_container" "host" {
  #checkov:skip=CKV2_AZURE_21: Only the function reads here; logging each of its reads has no use.
  for_each = toset([local.state_container, local.code_container])

  name               = each.key
  storage_account_id = azurerm_storage_account.host.id
}

resource "azurerm_storage_management_policy" "host" {
  storage_account_id = azurerm_storage_account.host.id

  rule {
    name    = "old-reports"
    enabled = true
    filters {
      blob_types   = ["blockBlob"]
      prefix_match = ["${local.state_container}/runs/"]
    }
    actions {
      base_blob {
        delete_after_days_since_modification_greater_than = 90
      }
    }
  }
}

resource "azurerm_log_analytics_workspace" "this" {
  name                = local.function_name
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  sku                 = "PerGB2018"
  retention_in_days   = var.log_retention_days
  tags                = local.tags
}

resource "azurerm_application_insights" "this" {
  name                = local.function_name
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  application_type    = "web"
  workspace_id        = azurerm_log_analytics_workspace.this.id
  tags                = local.tags

  # The connection string alone does not permit writing; the function's identity does.
  local_authentication_disabled = true
}

resource "azurerm_service_plan" "this" {
  #checkov:skip=CKV_AZURE_212: Flex Consumption starts an instance when the timer fires; the next run recovers from a failed one.
  #checkov:skip=CKV_AZURE_225: Not every region has zones, and the next run makes up for a missed one.
  name                = local.function_name
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  os_type             = "Linux"
  sku_name            = "FC1"
  tags                = local.tags
}

locals {
  # What the function itself reads (azure_function/settings.py); empty ones are left out.
  own_settings = { for name, value in {
    DESTINATION           = join(",", concat([for one in local.destination_names : local.destinations[one]], var.further_destinations))
    DESTINATION_CONTAINER = var.container_name
    EXPORTS               = join(",", var.exports)
    EXPORT_FORMAT         = var.export_format
    FOCUS_VERSION         = var.focus_version
    EXPORT_IDENTITY       = var.export_identity ? "system" : "none"
    EXPORT_LOCATION       = var.location
    MANAGEMENT_GROUP      = var.management_group_id == null ? "" : var.management_group_id
    INCLUDE_SUBSCRIPTIONS = join(",", var.include_subscriptions)
    EXCLUDE_SUBSCRIPTIONS = join(",", var.exclude_subscriptions)
    AZURE_TENANT_ID       = local.tenant_id
    STATE_ACCOUNT         = local.host_name
    CALL_BUDGET           = tostring(var.call_budget)
    RUN_SECONDS           = tostring(var.timeout_seconds - 300)
    SCHEDULE              = var.schedule
    # At minutes that end in 4 and 9: the default schedule begins at minute 17, and a run in progress refuses another.
    EVENT_SCHEDULE         = var.events ? "0 4-59/5 * * * *" : ""
    ACTIVITY_LOG_WORKSPACE = var.events && var.activity_log_workspace_id != null ? var.activity_log_workspace_id : ""
    DELTAS                 = var.delivery_events ? "1" : ""
    NOTIFY_URL             = var.notify_secret == null ? "" : replace(var.notify_secret, "/^.*[/]vaults[/]([^/]+)[/]secrets[/]([^/]+)$/", "https://$1.vault.azure.net/secrets/$2")
    NOTIFY_DIGEST          = var.notify_digest ? "weekly" : ""
    PUBLISH_PAGE           = var.publish_page ? "1" : ""
    ROUND_SCHEDULE         = var.fleet ? var.fleet_schedule : ""
    ROUND_TENANTS          = var.fleet ? tostring(var.fleet_concurrency) : ""
    ROUND_SECONDS          = var.fleet ? tostring(var.fleet_minutes * 60 - 600) : ""
  } : name => value if value != "" }
  # Azure names the topic's endpoint, so it is not known before the topic exists.
  topic_setting = var.delivery_events ? { DELIVERY_TOPIC = azurerm_eventgrid_topic.deliveries[0].endpoint } : {}
  # As is the identity that tenants' applications trust.
  fleet_setting = var.fleet ? { TENANTS_IDENTITY = azurerm_user_assigned_identity.tenants[0].client_id } : {}
  # Threads of the worker: for as many tenants as run at once in an instance (host.json), and for other functions.
  fleet_host   = var.fleet ? { PYTHON_THREADPOOL_THREAD_COUNT = "12" } : {}
  app_settings = merge(local.host_settings, local.fleet_host, local.own_settings, local.topic_setting, local.fleet_setting, var.settings)

  # What the Functions host reads. AzureWebJobsStorage is missing on purpose: with it the host ignores the identity.
  host_settings = {
    AzureWebJobsStorage__accountName                  = azurerm_storage_account.host.name
    AzureWebJobsStorage__credential                   = "managedidentity"
    APPLICATIONINSIGHTS_CONNECTION_STRING             = azurerm_application_insights.this.connection_string
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING         = "Authorization=AAD"
    AzureFunctionsJobHost__functionTimeout            = format("%02d:%02d:%02d", floor(var.timeout_seconds / 3600), floor(var.timeout_seconds % 3600 / 60), var.timeout_seconds % 60)
    AzureFunctionsJobHost__logging__logLevel__default = var.log_level == "debug" ? "Debug" : "Information"
  }
}

# The app is made from Azure's own template, not from azurerm_function_app_flex_consumption: that resource adds an
# AzureWebJobsStorage with an empty key, with which no host starts that works by identity, and it uploads the code to an
# address that Flex Consumption does not have. Both are known and open issues of the provider.
resource "azurerm_resource_group_template_deployment" "function" {
  name                = local.function_name
  resource_group_name = azurerm_resource_group.this.name
  deployment_mode     = "Incremental"
  tags                = local.tags

  template_content = file("${path.module}/function.arm.json")
  parameters_content = jsonencode({
    name     = { value = local.function_name }
    location = { value = azurerm_resource_group.this.location }
    plan     = { value = azurerm_service_plan.this.id }
    code     = { value = "${azurerm_storage_account.host.primary_blob_endpoint}${azurerm_storage_container.host[local.code_container].name}" }
    memory   = { value = var.memory_mb }
    subnet   = { value = var.function_subnet_id == null ? "" : var.function_subnet_id }
    tags     = { value = local.tags }
    # Beside its own: the one that tenants' applications trust.
    identities = { value = var.fleet ? { (azurerm_user_assigned_identity.tenants[0].id) = {} } : {} }
    settings   = { value = [for name, value in local.app_settings : { name = name, value = value }] }
  })

  lifecycle {
    # Azure removes an empty plan with its last app: a deleted app is detected by its missing plan, and created again.
    replace_triggered_by = [azurerm_service_plan.this.id]
  }

  depends_on = [terraform_data.checks]
}

# The template's outputs are unknown whenever a setting changes, and assignments of an unknown principal would be
# removed and created again. The app's identity lives as long as the app, so it is remembered for that long.
resource "terraform_data" "identity" {
  input            = jsondecode(azurerm_resource_group_template_deployment.function.output_content).principalId.value
  triggers_replace = azurerm_resource_group_template_deployment.function.id

  lifecycle {
    ignore_changes = [input]
  }
}

# The code is uploaded when the app has its permissions and can reach the storage, because the app stores it.
resource "terraform_data" "package" {
  triggers_replace = {
    app     = terraform_data.identity.output
    package = filesha256(var.package)
    # Without these settings Azure lists fewer functions.
    events     = lookup(local.app_settings, "EVENT_SCHEDULE", "") != ""
    deliveries = lookup(local.app_settings, "DELTAS", "") == "1"
    rounds     = lookup(local.app_settings, "ROUND_SCHEDULE", "") != ""
  }

  provisioner "local-exec" {
    command = "python3 ${path.module}/publish.py"
    environment = {
      SUBSCRIPTION   = local.subscription_id
      RESOURCE_GROUP = azurerm_resource_group.this.name
      FUNCTION_NAME  = local.function_name
      PACKAGE        = var.package
      EVENT_SCHEDULE = lookup(local.app_settings, "EVENT_SCHEDULE", "")
      DELTAS         = lookup(local.app_settings, "DELTAS", "")
      ROUND_SCHEDULE = lookup(local.app_settings, "ROUND_SCHEDULE", "")
    }
  }

  depends_on = [azurerm_private_endpoint.storage, azurerm_role_assignment.function, azurerm_role_assignment.function_data]
}
