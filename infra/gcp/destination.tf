resource "google_bigquery_dataset" "export" {
  #checkov:skip=CKV_GCP_81: Google's billing export writes here under its own identity; a customer key would stop it wherever that identity was not let in.
  project                    = var.project_id
  dataset_id                 = var.dataset_id
  location                   = var.dataset_location
  description                = "Cloud Billing export; Google's own access entry is needed for it"
  labels                     = local.labels
  delete_contents_on_destroy = var.delete_data_on_destroy

  lifecycle {
    # Switching the export on adds Google's own entry here. This module cannot list it, so it only adds
    # bindings of single members; an `access` block would take that entry away and end the export.
    ignore_changes = [access]
  }

  depends_on = [google_project_service.this, terraform_data.inputs]
}

# The values must equal those in gcp_function/resources/bucket.py, which the function compares and creates; otherwise
# each would revert the other.
resource "google_storage_bucket" "export" {
  #checkov:skip=CKV_GCP_62: Cloud Audit Logs show access; usage logs would be a second bucket with the same facts hours later.
  #checkov:skip=CKV_GCP_78: Every copy has a name of its own and is never overwritten; soft delete brings back what was deleted.
  project                     = var.project_id
  name                        = local.export_bucket
  location                    = var.dataset_location
  labels                      = local.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = var.delete_data_on_destroy

  # A partition is restated for about a month; after 90 days its copy no longer changes. Manifests stay in the first tier.
  lifecycle_rule {
    action {
      type          = "SetStorageClass"
      storage_class = "NEARLINE"
    }
    condition {
      age            = 90
      matches_suffix = [".parquet"]
    }
  }

  lifecycle_rule {
    action {
      type          = "SetStorageClass"
      storage_class = "COLDLINE"
    }
    condition {
      age            = 365
      matches_suffix = [".parquet"]
    }
  }

  # Documents of deliveries; what each series looks like now lies below deliveries/ and is kept.
  dynamic "lifecycle_rule" {
    for_each = local.deliveries
    content {
      action {
        type = "Delete"
      }
      condition {
        age            = var.delta_retention_days
        matches_prefix = ["deltas/"]
      }
    }
  }

  # Google advises it off for export buckets: superseded copies would be billed for a week after they are deleted.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  depends_on = [google_project_service.this, terraform_data.inputs]
}

# Apart from the copies, because the connector reads those and must not read this.
resource "google_storage_bucket" "state" {
  #checkov:skip=CKV_GCP_62: Cloud Audit Logs show access; only the function writes here.
  #checkov:skip=CKV_GCP_78: The state is memory, rebuilt from what is really there; soft delete brings back a version where one is wanted.
  project                     = var.project_id
  name                        = local.state_bucket
  location                    = var.dataset_location
  labels                      = local.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # It contains no data that cannot be derived: a new deployment reads the cloud again.
  force_destroy = true

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 90
      matches_prefix = ["runs/"]
    }
  }

  soft_delete_policy {
    retention_duration_seconds = 604800
  }

  depends_on = [google_project_service.this, terraform_data.inputs]
}
