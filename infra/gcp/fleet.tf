# Rounds over the tenants of a registry: Cloud Scheduler begins one, the function enqueues a task for each tenant, and a
# queue calls the function for it. What the tenants' own clouds allow is theirs; the registry is written by operators.
locals {
  tenants       = toset(var.fleet ? ["tenants"] : [])
  tenants_name  = "${var.function_name}-tenants"
  tenants_queue = "projects/${var.project_id}/locations/${var.region}/queues/${local.tenants_name}"
  # The deterministic address of the function's Cloud Run service ("Invoke with an HTTPS request", Cloud Run): the one that
  # is known before the function exists. It is an accepted audience, like the address with a hash.
  tenants_url = "https://${var.function_name}-${data.google_project.this.number}.${var.region}.run.app"

  # The last tasks of a round are done before the next one begins.
  round_seconds = (var.fleet_minutes - 10) * 60

  tenants_settings = !var.fleet ? {} : {
    HOME_PROJECT          = var.project_id
    REGISTRY_BUCKET       = local.registry_bucket
    TENANTS_QUEUE         = local.tenants_queue
    TENANTS_CALLER        = google_service_account.tenants["tenants"].email
    TENANTS_URL           = local.tenants_url
    TENANTS_ROUND_SECONDS = tostring(local.round_seconds)
  }
}

# The function reads this bucket and never writes it.
resource "google_storage_bucket" "registry" {
  #checkov:skip=CKV_GCP_62: It holds the tenant registry only; Cloud Audit Logs show access.
  for_each = local.tenants

  project                     = var.project_id
  name                        = local.registry_bucket
  location                    = var.dataset_location
  labels                      = local.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = var.delete_data_on_destroy

  # Earlier registries: who could enter what, and when.
  versioning {
    enabled = true
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = 400
    }
  }

  depends_on = [google_project_service.this, terraform_data.inputs]
}

resource "google_storage_bucket_iam_member" "registry" {
  for_each = var.fleet ? toset(var.registry_writers) : toset([])

  bucket = google_storage_bucket.registry["tenants"].name
  role   = "roles/storage.objectUser"
  member = each.key
}

resource "google_service_account" "tenants" {
  for_each = local.tenants

  project      = var.project_id
  account_id   = "tailpipe-tenants"
  display_name = "Tailpipe Exports: the rounds of tenants"
  description  = "Calls the function to begin a round and for each tenant, and may do nothing else. Holds no key."

  depends_on = [google_project_service.this, terraform_data.inputs]
}

resource "google_cloud_run_v2_service_iam_member" "tenants" {
  for_each = local.tenants

  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.this.name
  role     = "roles/run.invoker"
  member   = google_service_account.tenants[each.key].member
}

# At most so many tenants at once, and so many calls a second; a task that got no answer, or found another run of its
# tenant in progress, comes again. A tenant that fails is no failed task: that is in its row.
resource "google_cloud_tasks_queue" "tenants" {
  for_each = local.tenants

  project  = var.project_id
  location = var.region
  name     = local.tenants_name

  rate_limits {
    max_concurrent_dispatches = var.fleet_concurrency
    max_dispatches_per_second = var.fleet_per_second
  }

  # The lock of a run that was killed expires after five minutes; after the end of the round, tasks do nothing.
  retry_config {
    max_attempts       = 8
    max_retry_duration = "${local.round_seconds}s"
    min_backoff        = "60s"
    max_backoff        = "300s"
    max_doublings      = 2
  }

  stackdriver_logging_config {
    sampling_ratio = 1.0
  }

  depends_on = [google_project_service.this, terraform_data.inputs]
}

resource "google_cloud_scheduler_job" "tenants" {
  for_each = local.tenants

  project          = var.project_id
  region           = var.region
  name             = local.tenants_name
  description      = "Begins the rounds of ${var.function_name} over its tenants"
  schedule         = var.fleet_schedule
  time_zone        = var.schedule_time_zone
  attempt_deadline = "${var.timeout_seconds}s"

  # A repeated call has the same schedule time, and therefore continues the same round.
  retry_config {
    retry_count          = 3
    min_backoff_duration = "60s"
    max_backoff_duration = "600s"
    max_doublings        = 3
  }

  http_target {
    http_method = "POST"
    uri         = google_cloudfunctions2_function.this.service_config[0].uri
    body        = base64encode(jsonencode({ round = { step = "begin" } }))
    headers     = { "Content-Type" = "application/json" }

    oidc_token {
      service_account_email = google_service_account.tenants[each.key].email
      audience              = google_cloudfunctions2_function.this.service_config[0].uri
    }
  }

  depends_on = [google_cloud_run_v2_service_iam_member.tenants, google_cloud_tasks_queue.tenants]
}
