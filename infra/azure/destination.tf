# The accounts that exports are delivered to and Tailpipe reads.
resource "azurerm_storage_account" "destination" {
  for_each = toset(local.destination_names)

  name                     = each.key
  resource_group_name      = azurerm_resource_group.this.name
  location                 = azurerm_resource_group.this.location
  account_kind             = "StorageV2"
  account_tier             = "Standard"
  account_replication_type = var.replication
  min_tls_version          = "TLS1_2"
  tags                     = local.tags

  # An export without an identity of its own writes by key, and Cost Management refuses it where keys are off.
  shared_access_key_enabled       = !var.export_identity
  default_to_oauth_authentication = true
  allow_nested_items_to_be_public = false
  local_user_enabled              = false
  # No firewall: the exports service comes from no fixed address, and passes one only with identities.

  blob_properties {
    delete_retention_policy {
      days = 14
    }
    container_delete_retention_policy {
      days = 14
    }
  }
}

resource "azurerm_storage_container" "destination" {
  for_each = azurerm_storage_account.destination

  name               = var.container_name
  storage_account_id = each.value.id
}

resource "azurerm_storage_management_policy" "destination" {
  for_each = azurerm_storage_account.destination

  storage_account_id = each.value.id

  rule {
    name    = "delivered-data"
    enabled = true
    filters {
      blob_types   = ["blockBlob"]
      prefix_match = ["${var.container_name}/tailpipe/"]
    }
    actions {
      base_blob {
        tier_to_cool_after_days_since_modification_greater_than    = var.cool_after_days
        tier_to_archive_after_days_since_modification_greater_than = var.archive_after_days
      }
    }
  }
}

# Terraform deletes a container or an account with all that is in it. This stands in the way of both, and of whatever would
# replace them; `prevent_destroy` takes no variable.
resource "terraform_data" "kept_data" {
  for_each = azurerm_storage_container.destination

  triggers_replace = [each.value.id, each.value.storage_account_id]
  input = {
    container = each.value.id
    delete    = var.delete_data_on_destroy
  }

  provisioner "local-exec" {
    when    = destroy
    command = self.input.delete ? "true" : "echo 'The cost data in ${self.input.container} is kept: apply delete_data_on_destroy = true first, or take it out of the state.' >&2; exit 1"
  }
}
