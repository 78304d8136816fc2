locals {
  services = toset([
    for name in [
      # What the function asks, and looks after in every run.
      "bigquery", "cloudbilling", "cloudresourcemanager", "serviceusage", "storage",
      # What the connector signs in by and reads through.
      "compute", "iam", "iamcredentials", "monitoring", "sts",
      # What the function is built, run, called and watched by.
      "artifactregistry", "cloudbuild", "cloudfunctions", "cloudscheduler", "logging", "run",
      # What Google's console step asks for before it exports prices.
      "bigquerydatatransfer",
    ] : "${name}.googleapis.com"
  ])
}

# The provider waits until Google has carried out the switch, and tries again what Google throttles or finds busy. That an
# API is on can take minutes more to be known everywhere; an apply that is refused for that is simply applied again.
resource "google_project_service" "this" {
  for_each = local.services

  project = var.project_id
  service = each.key

  # Others in the project may rely on it: what was switched on stays on.
  disable_on_destroy = false

  timeouts {
    create = "20m"
    read   = "10m"
  }
}
