# Rounds over the tenants of the registry: Durable Functions in the same app, with their task hub in the function's own
# storage account. docs/fleet.md guides through it.

locals {
  registry_container = "tailpipe-registry"
  registry_id        = "${local.destinations[local.destination_name]}/blobServices/default/containers/${local.registry_container}"
}

# The registry says how to enter tenants. It is in the account whose blobs the function may only read, in a container that
# Tailpipe has no permission on.
resource "azurerm_storage_container" "registry" {
  #checkov:skip=CKV2_AZURE_21: Every read would be logged, at a price per line; a diagnostic setting of the operator's can do it where it is wanted.
  count = var.fleet ? 1 : 0

  name               = local.registry_container
  storage_account_id = azurerm_storage_account.destination[local.destination_name].id
}

resource "azurerm_role_assignment" "registry_writer" {
  for_each = merge([for one in local.grants.registry_writer : { for who in var.registry_writers : "${one.id}/${who}" => { role = one.role, principal = who } }]...)

  scope                = local.registry_id
  role_definition_name = each.value.role
  principal_id         = each.value.principal

  depends_on = [azurerm_storage_container.registry]
}

# The tenants' applications trust this identity. Entra ID supports no system-assigned identity for that ("Configure an
# application to trust a managed identity", Microsoft Learn).
resource "azurerm_user_assigned_identity" "tenants" {
  count = var.fleet ? 1 : 0

  name                = "${local.function_name}-tenants"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  tags                = local.tags
}
