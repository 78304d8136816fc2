locals {
  rights = yamldecode(templatefile("${path.module}/rights.yaml", {
    blob_data_contributor = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
  }))

  # What `when` in rights.yaml means.
  conditions = {
    always                 = true
    management_group       = local.has_group
    export_key             = !var.export_identity
    export_identity        = var.export_identity
    monitoring             = local.monitoring_access != "none"
    notify                 = var.notify_secret != null
    activity_log           = var.events && var.activity_log_workspace_id != null
    deliveries             = var.delivery_events
    fleet                  = var.fleet
    policy_deploy          = var.policy == "deploy"
    policy_deploy_key      = var.policy == "deploy" && !var.export_identity
    policy_deploy_identity = var.policy == "deploy" && var.export_identity
  }
  grants           = { for who, listed in local.rights : who => [for one in listed : one if local.conditions[try(one.when, "always")]] }
  delegation       = { for one in local.rights.function : one.id => one.condition if can(one.condition) }["GiveExportsTheirRole"]
  function_actions = { for scope in local.custom_scopes : scope => [for one in local.grants.function : one if one.scope == scope && !can(one.role) && !can(one.condition)] }
  # Taken from the grants, so that an unknown scope is an error and never a silently missing assignment.
  custom_scopes = distinct([for one in local.grants.function : one.scope if !can(one.role) && !can(one.condition)])

  activity_logs = var.activity_log_workspace_id == null ? [] : [var.activity_log_workspace_id]

  # One custom role a scope, and one for what has a condition: a condition belongs to an assignment and covers all of it.
  roles = merge(
    { for scope, grants in local.function_actions : scope => {
      actions      = distinct(flatten([for one in grants : try(one.actions, [])]))
      data_actions = distinct(flatten([for one in grants : try(one.data_actions, [])]))
    } },
    { for role, one in local.conditioned : role => { actions = try(one.actions, []), data_actions = try(one.data_actions, []) } },
  )
  conditioned = { for one in local.grants.function : one.scope == "destination" ? "delegation" : one.scope => one if can(one.condition) }
  role_scopes = {
    management_group         = local.scopes
    destination_subscription = [for one in local.destination_subscriptions : "/subscriptions/${one}"]
    destination              = local.destination_groups
    delegation               = local.destination_groups
    activity_log             = [for one in local.activity_logs : split("/providers/", one)[0]]
    delivery_documents       = [local.group_id]
  }
  role_titles = {
    management_group         = "exports"
    destination_subscription = "registration"
    destination              = "destination"
    delegation               = "role of exports"
    activity_log             = "activity log"
    delivery_documents       = "deliveries"
  }

  # scope of the role → the ids it is assigned at, by a name that is known before anything exists
  assigned_at = {
    management_group         = { for one in local.scopes : reverse(split("/", one))[0] => one }
    destination_subscription = { for one in local.destination_subscriptions : one => "/subscriptions/${one}" }
    destination              = local.destinations
    delegation               = local.destinations
    activity_log             = { for one in local.activity_logs : reverse(split("/", one))[0] => one }
    delivery_documents       = { (local.destination_name) = "${local.destinations[local.destination_name]}/blobServices/default/containers/${var.container_name}" }
  }
  assignments = merge([for role in keys(local.roles) : {
    for name, scope in local.assigned_at[role] : "${role}/${name}" => { role = role, scope = scope }
  }]...)

  own_scopes = {
    state     = azurerm_storage_account.host.id
    telemetry = azurerm_application_insights.this.id

    notify_secret  = var.notify_secret
    delivery_topic = one(azurerm_eventgrid_topic.deliveries[*].id)
  }
}

# In the assignments below, an import of existing ones does not know the app's identity before `terraform_data.identity`
# is created, and an unknown principal would replace them. A recreated app replaces them.

# Custom roles with data actions cannot be made at a management group, so what concerns storage is made at its resource group.
resource "azurerm_role_definition" "function" {
  for_each = local.roles

  name              = "Tailpipe Exports, ${local.role_titles[each.key]} (${local.function_name})"
  description       = "What the function ${local.function_name} does there, and nothing more."
  scope             = local.role_scopes[each.key][0]
  assignable_scopes = local.role_scopes[each.key]

  permissions {
    actions      = each.value.actions
    data_actions = each.value.data_actions
  }

  depends_on = [azurerm_resource_group.this, terraform_data.checks]
}

resource "azurerm_role_assignment" "function" {
  for_each = local.assignments

  scope              = each.value.scope
  role_definition_id = azurerm_role_definition.function[each.value.role].role_definition_resource_id
  principal_id       = terraform_data.identity.output
  principal_type     = "ServicePrincipal"
  condition          = try(local.conditioned[each.value.role].condition.expression, null)
  condition_version  = try(local.conditioned[each.value.role].condition.version, null)

  lifecycle {
    ignore_changes       = [principal_id]
    replace_triggered_by = [terraform_data.identity]
  }

  depends_on = [azurerm_storage_account.destination, azurerm_storage_container.destination]
}

resource "azurerm_role_assignment" "function_data" {
  for_each = { for one in local.grants.function : one.id => one if can(one.role) }

  scope                = local.own_scopes[each.value.scope]
  role_definition_name = each.value.role
  principal_id         = terraform_data.identity.output
  principal_type       = "ServicePrincipal"

  lifecycle {
    ignore_changes       = [principal_id]
    replace_triggered_by = [terraform_data.identity]
  }
}
