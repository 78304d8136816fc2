output "function_name" {
  description = "Name of the function app."
  value       = local.function_name
}

output "function_id" {
  description = "Resource id of the function app."
  value       = local.function_id
}

output "function_identity" {
  description = "Object id of the function's identity, for the assignment of a billing role."
  value       = terraform_data.identity.output
}

output "destination" {
  description = "Where exports are delivered: accounts (name to resource id), container, whether exports have identities."
  value = {
    accounts  = local.destinations
    container = var.container_name
    identity  = var.export_identity
  }
}

output "state" {
  description = "Where the function keeps its state: account, container, blob."
  value = {
    account   = azurerm_storage_account.host.name
    container = azurerm_storage_container.host[local.state_container].name
    blob      = "known_subscriptions.json"
  }
}

output "schedule" {
  description = "When the function runs: expression, and minutes between two runs."
  value = {
    expression = var.schedule
    minutes    = var.schedule_minutes
  }
}

output "connector" {
  description = "Tailpipe's application: app_id, object_id, and the scopes it may read."
  value = {
    app_id    = local.tailpipe_app_id
    object_id = local.tailpipe_object_id
    scopes    = [for one in local.connector_assignments : one.scope]
  }
}

output "logs" {
  description = "Where logs are: Application Insights, the workspace behind it, and a query of the last runs."
  value = {
    application_insights = azurerm_application_insights.this.id
    workspace            = azurerm_log_analytics_workspace.this.id
    query                = local.figures
  }
}

output "delivery_topic" {
  description = "Resource id of the Event Grid topic that deliveries are published to; null without delivery_events."
  value       = one(azurerm_eventgrid_topic.deliveries[*].id)
}

output "fleet" {
  description = "What serves the tenants: registry (the container's id), identity (the client id that tenants' applications trust), schedule; null without fleet."
  value = var.fleet ? {
    registry = local.registry_id
    identity = azurerm_user_assigned_identity.tenants[0].client_id
    schedule = var.fleet_schedule
  } : null
}

output "alarms" {
  description = "Names of the alarms."
  value       = [for one in azurerm_monitor_scheduled_query_rules_alert_v2.this : one.name]
}

output "granted" {
  description = "The grants of rights.yaml that this deployment makes, by holder: function, registry_writer, connector, policy."
  value       = { for who, grants in local.grants : who => [for one in grants : one.id] }
}

output "settings" {
  description = "The function's settings."
  value       = merge(local.own_settings, local.topic_setting, local.fleet_setting, var.settings)
}

output "onboarding" {
  description = "What Tailpipe needs to connect; paths.subscriptions and costExports are filled in by the command."
  value = {
    tenantId = local.tenant_id
    tailpipe = {
      appId                    = local.tailpipe_app_id
      servicePrincipalObjectId = local.tailpipe_object_id
    }
    monitoringAccess = {
      mode              = { management_group = "managementGroup", subscription = "perSubscription", none = "none" }[local.monitoring_access]
      managementGroupId = local.monitoring_access == "management_group" ? var.management_group_id : null
      subscriptions     = local.monitoring_access == "subscription" ? var.include_subscriptions : []
    }
    storage = {
      subscriptionId    = local.subscription_id
      resourceGroup     = azurerm_resource_group.this.name
      accountName       = local.destination_name
      accountResourceId = local.destinations[local.destination_name]
      container         = var.container_name
      paths             = { billing = "tailpipe/billing", subscriptions = [] }
      blobEndpoint      = azurerm_storage_account.destination[local.destination_name].primary_blob_endpoint
    }
    costExports = { billing = null, perSubscription = [] }
    automation  = { policyEnabled = var.policy != "off", runbookEnabled = false }
  }
}
