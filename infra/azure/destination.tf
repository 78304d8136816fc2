# The accounts that exports are delivered to and Tailpipe reads.
resource "azurerm_storage_account" "destination" {
  #checkov:skip=CKV_AZURE_59: Cost Management comes from no fixed address; rights decide who reads, nothing is public, and storage_closed lists networks.
  #checkov:skip=CKV_AZURE_35: storage_closed refuses networks that are not listed; exports that write by key need an open account.
  #checkov:skip=CKV2_AZURE_33: Cost Management delivers to the public endpoint; private_endpoint_subnet_id adds a private one for those who read.
  #checkov:skip=CKV2_AZURE_40: export_identity switches keys off; without it Cost Management writes by key and refuses an account that has none.
  #checkov:skip=CKV2_AZURE_41: It has the policy; the check reads no account whose keys hang on a variable.
  #checkov:skip=CKV2_AZURE_1: The data can be exported again; a customer key would be one more thing that can stop every export.
  #checkov:skip=CKV_AZURE_206: The data can be exported again, so replication is the operator's choice, by the variable of that name.
  #checkov:skip=CKV_AZURE_33: It has no queue; only blobs are written here.
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

  # Exports with an identity are a trusted service, which "AzureServices" lets in; allowed_copy_scope stays unset, which is
  # "From any storage account": both are what Cost Management asks for of a closed account.
  network_rules {
    default_action             = var.storage_closed ? "Deny" : "Allow"
    bypass                     = ["AzureServices"]
    ip_rules                   = var.storage_closed ? var.storage_ip_rules : []
    virtual_network_subnet_ids = var.storage_closed ? local.storage_subnets : []
  }

  sas_policy {
    expiration_period = "01.00:00:00"
    # Logged, never refused: Cost Management decides how it signs what it writes.
    expiration_action = "Log"
  }

  blob_properties {
    delete_retention_policy {
      days = 14
    }
    container_delete_retention_policy {
      days = 14
    }
  }
}

resource "azurerm_private_endpoint" "storage" {
  for_each = local.private_endpoints

  name                = "${each.key}-blob"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  subnet_id           = var.private_endpoint_subnet_id
  tags                = local.tags

  private_service_connection {
    name                           = "blob"
    private_connection_resource_id = each.value
    subresource_names              = ["blob"]
    is_manual_connection           = false
  }

  dynamic "private_dns_zone_group" {
    for_each = var.private_dns_zone_id == null ? [] : [var.private_dns_zone_id]
    content {
      name                 = "blob"
      private_dns_zone_ids = [private_dns_zone_group.value]
    }
  }

  depends_on = [azurerm_storage_account.destination, azurerm_storage_account.host]
}

resource "azurerm_storage_container" "destination" {
  #checkov:skip=CKV2_AZURE_21: Every read would be logged, at a price per line; a diagnostic setting of the operator's can do it where it is wanted.
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

  dynamic "rule" {
    for_each = var.delivery_events && each.key == local.destination_name ? [var.delta_retention_days] : []
    content {
      name    = "old-deltas"
      enabled = true
      filters {
        blob_types   = ["blockBlob"]
        prefix_match = ["${var.container_name}/deltas/"]
      }
      actions {
        base_blob {
          delete_after_days_since_modification_greater_than = rule.value
        }
      }
    }
  }
}

# Terraform deletes a container or an account with all that is in it. This blocks both, and every change that would
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
