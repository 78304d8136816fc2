# Deliveries are announced: a topic for those who read the data, and an event of each written manifest for the function.
resource "azurerm_eventgrid_topic" "deliveries" {
  #checkov:skip=CKV_AZURE_193: Subscribers are anywhere; keys are off, and only an identity with a role may publish.
  #checkov:skip=CKV_AZURE_191: The topic pushes to its subscribers by no identity of its own; an operator's subscription may add one.
  count = var.delivery_events ? 1 : 0

  name                = local.function_name
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  input_schema        = "CloudEventSchemaV1_0"
  local_auth_enabled  = false
  tags                = local.tags
}

# An account has one system topic at most; those of further_destinations are announced by the next run.
resource "azurerm_eventgrid_system_topic" "destination" {
  for_each = var.delivery_events ? azurerm_storage_account.destination : {}

  name                = each.key
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  source_resource_id  = each.value.id
  topic_type          = "Microsoft.Storage.StorageAccounts"
  tags                = local.tags
}

resource "azurerm_eventgrid_system_topic_event_subscription" "manifests" {
  for_each = azurerm_eventgrid_system_topic.destination

  name                  = "tailpipe-manifests"
  system_topic          = each.value.name
  resource_group_name   = azurerm_resource_group.this.name
  event_delivery_schema = "EventGridSchema"
  included_event_types  = ["Microsoft.Storage.BlobCreated"]

  subject_filter {
    subject_begins_with = "/blobServices/default/containers/${var.container_name}/blobs/tailpipe/"
    subject_ends_with   = "/manifest.json"
    case_sensitive      = true
  }

  azure_function_endpoint {
    function_id = "${local.function_id}/functions/delivery_event"
  }

  # A run announces what is dropped, so there is no dead-letter queue.
  retry_policy {
    max_delivery_attempts = 5
    event_time_to_live    = 60
  }

  # Event Grid looks for the function, which is there once its package is.
  depends_on = [terraform_data.package]
}
