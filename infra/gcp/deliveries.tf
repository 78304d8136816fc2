# Each finished copy is announced: by a document beside the copies, which the connector can read, and on this topic.
# Subscriptions are the readers' own; they can be in other projects.
locals {
  deliveries      = toset(var.delivery_events ? ["deliveries"] : [])
  deliveries_name = "${var.function_name}-deliveries"
}

resource "google_pubsub_topic" "deliveries" {
  #checkov:skip=CKV_GCP_83: events hold names of files and no cost data, and Google encrypts them with its own key
  for_each = local.deliveries

  project = var.project_id
  name    = local.deliveries_name
  labels  = local.labels

  # Order per key holds for messages that are stored in one region.
  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }

  depends_on = [google_project_service.this, terraform_data.inputs]
}
