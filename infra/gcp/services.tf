locals {
  # The function reads the webhook's address there.
  secret_services = var.notify_secret == null ? [] : ["secretmanager"]
  tenant_services = var.fleet ? ["cloudtasks"] : []
  event_services  = var.events || var.delivery_events ? ["pubsub"] : []

  services = toset([
    for name in concat(local.secret_services, local.event_services, local.tenant_services, [
      # The function calls these and verifies them in every run.
      "bigquery", "cloudbilling", "cloudresourcemanager", "serviceusage", "storage",
      # The connector signs in and reads through these.
      "compute", "iam", "iamcredentials", "monitoring", "sts",
      # These build, run, call and monitor the function.
      "artifactregistry", "cloudbuild", "cloudfunctions", "cloudscheduler", "logging", "run",
      # Google's console step requires this before it exports prices.
      "bigquerydatatransfer",
    ]) : "${name}.googleapis.com"
  ])
}

# The provider waits until Google has carried out the switch, and tries again what Google throttles or finds busy. That an
# API is on can take minutes more to be known everywhere; an apply that is refused for that is simply applied again.
resource "google_project_service" "this" {
  for_each = local.services

  project = var.project_id
  service = each.key

  # Others in the project may depend on it, so an enabled API stays enabled.
  disable_on_destroy = false

  timeouts {
    create = "20m"
    read   = "10m"
  }
}
