locals {
  # Public contract: Tailpipe's applications, one an environment.
  tailpipe_app_id = {
    prod = "f5f07900-0484-4506-a34d-ec781138342a"
    uat  = "071b0391-48e8-483c-b652-a8a6cd43a018"
  }[var.environment]
  tailpipe_object_id = var.connector_object_id == null ? azuread_service_principal.tailpipe["tailpipe"].object_id : var.connector_object_id

  monitored = {
    management_group = local.has_group ? { (reverse(split("/", local.management_group))[0]) = local.management_group } : {}
    subscription     = { for one in var.include_subscriptions : one => "/subscriptions/${one}" }
    none             = {}
  }[local.monitoring_access]
  connector_scopes = {
    destination_container = { for name, id in local.destinations : name => "${id}/blobServices/default/containers/${var.container_name}" }
    management_group      = local.monitored
  }
  connector_assignments = merge([for one in local.grants.connector : {
    for name, scope in local.connector_scopes[one.scope] : "${one.id}/${name}" => { role = one.role, scope = scope }
  }]...)
}

# Tailpipe's enterprise application. One that an older deployment added is adopted.
resource "azuread_service_principal" "tailpipe" {
  for_each = toset(var.connector_object_id == null ? ["tailpipe"] : [])

  client_id    = local.tailpipe_app_id
  use_existing = true
}

resource "azurerm_role_assignment" "connector" {
  for_each = local.connector_assignments

  scope                = each.value.scope
  role_definition_name = each.value.role
  principal_id         = local.tailpipe_object_id
  principal_type       = "ServicePrincipal"

  depends_on = [azurerm_storage_container.destination, terraform_data.checks]
}
