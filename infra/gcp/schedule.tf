resource "google_service_account" "scheduler" {
  project      = var.project_id
  account_id   = "tailpipe-scheduler"
  display_name = "Tailpipe Exports: the schedule"
  description  = "Calls the function, and may do nothing else. Holds no key."

  depends_on = [google_project_service.this, terraform_data.inputs]
}

# The only principal that this module lets call the function, on this one service.
resource "google_cloud_run_v2_service_iam_member" "scheduler" {
  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.this.name
  role     = "roles/run.invoker"
  member   = google_service_account.scheduler.member
}

resource "google_cloud_scheduler_job" "this" {
  project     = var.project_id
  region      = var.region
  name        = var.function_name
  description = "Runs ${var.function_name}, which keeps the billing exports alive"
  schedule    = var.schedule
  time_zone   = var.schedule_time_zone

  # As long as the function itself may take: a shorter deadline would call it again while it is still running.
  attempt_deadline = "${var.timeout_seconds}s"

  # Google's default is no retry.
  retry_config {
    retry_count          = 3
    min_backoff_duration = "60s"
    max_backoff_duration = "600s"
    max_doublings        = 3
  }

  http_target {
    http_method = "POST"
    # The service's own address: Google treats only calls to that one as internal.
    uri = google_cloudfunctions2_function.this.service_config[0].uri

    oidc_token {
      service_account_email = google_service_account.scheduler.email
      audience              = google_cloudfunctions2_function.this.service_config[0].uri
    }
  }

  depends_on = [google_cloud_run_v2_service_iam_member.scheduler]
}
