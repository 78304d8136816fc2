resource "google_storage_bucket" "source" {
  #checkov:skip=CKV_GCP_62: It holds the function's zip only; Cloud Audit Logs show access.
  #checkov:skip=CKV_GCP_78: The zip's name is its hash, so no version is ever overwritten.
  project                     = var.project_id
  name                        = local.source_bucket
  location                    = var.region
  labels                      = local.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  depends_on = [google_project_service.this, terraform_data.inputs]
}

resource "google_storage_bucket_object" "package" {
  bucket = google_storage_bucket.source.name
  name   = "${var.function_name}-${filesha256(var.package)}.zip"
  source = var.package

  lifecycle {
    # The function names the old zip until it has the new one.
    create_before_destroy = true
  }
}

resource "google_artifact_registry_repository" "images" {
  #checkov:skip=CKV_GCP_84: The images hold this project's public source and its dependencies, and no secret.
  project       = var.project_id
  location      = var.region
  repository_id = var.function_name
  format        = "DOCKER"
  description   = "Images that Cloud Build makes of the function"
  labels        = local.labels

  cleanup_policies {
    id     = "keep-newest"
    action = "KEEP"
    most_recent_versions {
      keep_count = 3
    }
  }

  cleanup_policies {
    id     = "delete-older"
    action = "DELETE"
    condition {
      tag_state  = "ANY"
      older_than = "2592000s"
    }
  }

  depends_on = [google_project_service.this, terraform_data.inputs]
}

# The default account of builds is an editor or has no permission, depending on the project's age. Neither is suitable.
resource "google_service_account" "build" {
  project      = var.project_id
  account_id   = "tailpipe-build"
  display_name = "Tailpipe Exports: the function's build"
  description  = "Builds the function's image when it is deployed. Holds no key."

  depends_on = [google_project_service.this, terraform_data.inputs]
}

resource "google_project_iam_member" "build_logs" {
  project = var.project_id
  role    = "roles/logging.logWriter"
  member  = google_service_account.build.member
}

resource "google_project_iam_member" "build_source" {
  project = var.project_id
  role    = "roles/storage.objectViewer"
  member  = google_service_account.build.member

  condition {
    title       = "function-source"
    description = "The zip, and the bucket that Cloud Run functions copies it to; not the exports beside them."
    expression = join(" || ", [
      "resource.name.startsWith(\"projects/_/buckets/${local.source_bucket}/\")",
      "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-${data.google_project.this.number}-${var.region}\")",
    ])
  }
}

resource "google_artifact_registry_repository_iam_member" "build_images" {
  project    = var.project_id
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.build.member
}

resource "google_cloudfunctions2_function" "this" {
  project     = var.project_id
  location    = var.region
  name        = var.function_name
  description = "Keeps the billing exports that Tailpipe reads alive"
  labels      = local.labels

  build_config {
    runtime           = "python312"
    entry_point       = "reconcile"
    docker_repository = google_artifact_registry_repository.images.id
    service_account   = google_service_account.build.name

    source {
      storage_source {
        bucket = google_storage_bucket.source.name
        object = google_storage_bucket_object.package.name
      }
    }
  }

  service_config {
    service_account_email = google_service_account.function.email
    environment_variables = local.settings
    available_memory      = "${var.memory_mb}Mi"
    available_cpu         = "1"
    timeout_seconds       = var.timeout_seconds
    ingress_settings      = var.ingress

    # One run at a time: two would do no harm, but the second would only find the first one's lock. With tenants, one run
    # of each of them, and one for the deployment's own cloud.
    max_instance_count               = var.fleet ? var.fleet_concurrency + 1 : 1
    max_instance_request_concurrency = 1
    min_instance_count               = 0
    all_traffic_on_latest_revision   = true
  }

  depends_on = [
    google_project_service.this,
    # The build, and then the first run, need their rights.
    google_project_iam_member.build_logs,
    google_project_iam_member.build_source,
    google_artifact_registry_repository_iam_member.build_images,
    google_project_iam_member.this,
    google_bigquery_dataset_iam_member.this,
    # If these were missing, the function would create them without the settings that only the deployment knows.
    google_storage_bucket.export,
    google_storage_bucket.state,
    # Its lines are kept and counted from the first one on.
    google_logging_project_sink.function,
    google_logging_metric.runs,
  ]
}
