# Optional, in addition to the function, for tenants that govern by Azure Policy: it reports subscriptions without an export, or
# creates it too. It never repairs one, and it creates the dataset `actual` only. The function does both, and treats the
# policy's exports as its own, because they have the same name, folder and shape.

locals {
  policy_types = { audit = "auditIfNotExists", deploy = "deployIfNotExists" }
  # 36 characters are a subscription's id, so its last 6 begin at 30.
  export_name = "[concat('TailpipeDataExport-', substring(subscription().subscriptionId, 30, 6))]"

  # azure_function/resources/export_document.py in ARM's words.
  export_resource = merge({
    type       = "Microsoft.CostManagement/exports"
    apiVersion = "2025-03-01"
    name       = "[parameters('name')]"
    properties = {
      definition            = { type = "ActualCost", timeframe = "MonthToDate", dataSet = { granularity = "Daily" } }
      schedule              = { status = "Active", recurrence = "Daily", recurrencePeriod = { from = "[parameters('from')]", to = "2099-12-31T00:00:00Z" } }
      format                = var.export_format == "parquet" ? "Parquet" : "Csv"
      compressionMode       = var.export_format == "parquet" ? "snappy" : "gzip"
      partitionData         = true
      dataOverwriteBehavior = "OverwritePreviousReport"
      exportDescription     = "Cost data for Tailpipe, kept by tailpipe-exports"
      deliveryInfo = { destination = {
        type           = "AzureBlob"
        resourceId     = "[parameters('storage')]"
        container      = var.container_name
        rootFolderPath = "[concat('tailpipe/subscriptions/', subscription().subscriptionId)]"
      } }
    }
    },
    var.export_identity ? { identity = { type = "SystemAssigned" }, location = var.location } : null,
  )

  policy_deployment = {
    location = var.location
    properties = {
      mode = "incremental"
      parameters = {
        name    = { value = local.export_name }
        storage = { value = "[parameters('storage')]" }
      }
      template = {
        "$schema"      = "https://schema.management.azure.com/schemas/2018-05-01/subscriptionDeploymentTemplate.json#"
        contentVersion = "1.0.0.0"
        parameters = {
          name    = { type = "string" }
          storage = { type = "string" }
          # An export's start has to lie in the future, and only a parameter's default may ask for the time.
          from = { type = "string", defaultValue = "[dateTimeAdd(utcNow('u'), 'PT25H', 'yyyy-MM-ddT00:00:00Z')]" }
        }
        resources = [local.export_resource]
      }
    }
  }

  # An export of our name that is switched off, or that delivers elsewhere, is not compliant. Any account of
  # ours is accepted: the function distributes exports over them.
  policy_existence = { allOf = [
    { field = "Microsoft.CostManagement/exports/schedule.status", equals = "Active" },
    { field = "Microsoft.CostManagement/exports/deliveryInfo.destination.resourceId", in = "[parameters('accounts')]" },
  ] }

  policy_details = merge({
    type               = "Microsoft.CostManagement/exports"
    name               = local.export_name
    existenceScope     = "subscription"
    existenceCondition = local.policy_existence
    },
    var.policy == "deploy" ? {
      deploymentScope   = "subscription"
      roleDefinitionIds = [azurerm_role_definition.policy["management_group"].role_definition_resource_id]
      deployment        = local.policy_deployment
    } : null,
  )

  policy_roles = {
    management_group = {
      actions = distinct(flatten([for one in local.grants.policy : one.actions if one.scope == "management_group"]))
      scopes  = local.scopes
    }
    destination = {
      actions = distinct(flatten([for one in local.grants.policy : one.actions if one.scope == "destination"]))
      scopes  = [local.group_id]
    }
  }
  policy_assignments = var.policy == "deploy" ? {
    management_group = local.management_group
    # All of the policy's exports go to the first account: it cannot see which one has room.
    destination = local.destinations[local.destination_name]
  } : {}
}

resource "azurerm_role_definition" "policy" {
  for_each = { for name, role in local.policy_roles : name => role if var.policy == "deploy" }

  name              = "Tailpipe Exports, policy ${local.role_titles[each.key]} (${local.function_name})"
  description       = "What the policy deploy-cost-export does there, instead of Contributor."
  scope             = each.value.scopes[0]
  assignable_scopes = each.value.scopes

  permissions {
    actions = each.value.actions
  }

  depends_on = [azurerm_resource_group.this, terraform_data.checks]
}

resource "azurerm_policy_definition" "this" {
  for_each = toset(var.policy == "off" ? [] : ["deploy-cost-export"])

  name                = each.key
  display_name        = "Subscriptions deliver their cost data to Tailpipe"
  description         = "Reports subscriptions without Tailpipe's cost export${var.policy == "deploy" ? ", and creates it" : ""}."
  policy_type         = "Custom"
  mode                = "All"
  management_group_id = local.management_group
  metadata            = jsonencode({ category = "Cost Management" })
  parameters = jsonencode({
    storage  = { type = "String", metadata = { displayName = "Storage account", description = "Resource id of the storage account that takes new exports" } }
    accounts = { type = "Array", metadata = { displayName = "Storage accounts", description = "Resource ids of all storage accounts that exports may deliver to" } }
  })
  policy_rule = jsonencode({
    "if" = { field = "type", equals = "Microsoft.Resources/subscriptions" }
    then = { effect = local.policy_types[var.policy], details = local.policy_details }
  })

  depends_on = [terraform_data.checks]
}

resource "azurerm_management_group_policy_assignment" "this" {
  for_each = azurerm_policy_definition.this

  name                 = "deploy-cost-export-a" # 24 characters are all that Azure allows here
  display_name         = each.value.display_name
  management_group_id  = local.management_group
  policy_definition_id = each.value.id
  location             = var.location
  not_scopes           = [for one in var.exclude_subscriptions : "/subscriptions/${one}"]
  parameters = jsonencode({
    storage  = { value = local.destinations[local.destination_name] }
    accounts = { value = values(local.destinations) }
  })

  # An audit changes nothing and needs no identity.
  dynamic "identity" {
    for_each = var.policy == "deploy" ? ["SystemAssigned"] : []
    content {
      type = identity.value
    }
  }

  depends_on = [azurerm_storage_container.destination]
}

resource "azurerm_role_assignment" "policy" {
  for_each = local.policy_assignments

  scope              = each.value
  role_definition_id = azurerm_role_definition.policy[each.key].role_definition_resource_id
  principal_id       = azurerm_management_group_policy_assignment.this["deploy-cost-export"].identity[0].principal_id
  principal_type     = "ServicePrincipal"
  condition          = each.key == "destination" && var.export_identity ? local.delegation.expression : null
  condition_version  = each.key == "destination" && var.export_identity ? local.delegation.version : null
}

# A remediation acts on what an evaluation has found, and Azure evaluates a new assignment within half an hour or so: one
# that starts before finds nothing. At a management group an evaluation cannot be asked for.
resource "terraform_data" "policy_evaluated" {
  for_each = { for name, one in azurerm_management_group_policy_assignment.this : name => one if var.policy == "deploy" }

  triggers_replace = [each.value.id, sha256(azurerm_policy_definition.this[each.key].policy_rule)]

  provisioner "local-exec" {
    command     = "python3 ${path.module}/policy_evaluated.py"
    environment = { MANAGEMENT_GROUP = local.management_group, ASSIGNMENT = each.value.id }
  }

  depends_on = [azurerm_role_assignment.policy]
}

# A policy acts on subscriptions that are made or changed; this makes it act on those that were there before.
resource "azurerm_management_group_policy_remediation" "this" {
  for_each = { for name, one in azurerm_management_group_policy_assignment.this : name => one if var.policy == "deploy" }

  name                 = "deploy-cost-export-r"
  management_group_id  = local.management_group
  policy_assignment_id = each.value.id

  depends_on = [azurerm_role_assignment.policy, terraform_data.policy_evaluated]
}
