# Sets every variable: the EU, named billing accounts instead of an organization, every six hours, alarms by e-mail.

terraform {
  required_version = ">= 1.5"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 7.45, < 8.0"
    }
  }
}

variable "project_id" {
  description = "Project to deploy into."
  type        = string
}

variable "tailpipe_tenant" {
  description = "Tenant value from Tailpipe's onboarding page."
  type        = string
}

variable "tailpipe_issuer" {
  description = "Issuer of Tailpipe's tokens, from Tailpipe's onboarding page."
  type        = string
}

variable "tailpipe_audience" {
  description = "Audience of Tailpipe's tokens, from Tailpipe's onboarding page."
  type        = string
}

provider "google" {
  project = var.project_id
  region  = "europe-west1"

  # Calls made with a person's credentials are counted against this project, in which the APIs are on.
  user_project_override = true
  billing_project       = var.project_id
}

module "tailpipe_exports" {
  source = "../.."

  environment       = "prod"
  package           = "${path.module}/../../../../dist/tailpipe-exports-gcp.zip"
  project_id        = var.project_id
  tailpipe_tenant   = var.tailpipe_tenant
  tailpipe_issuer   = var.tailpipe_issuer
  tailpipe_audience = var.tailpipe_audience
  check_issuer      = true

  billing_accounts = ["012345-6789AB-CDEF01", "0A1B2C-3D4E5F-678901"]
  # A sub-account of the first one, visible through it, which another deployment serves.
  exclude_accounts = ["FEDCBA-987654-321000"]
  exports          = ["standard", "detailed", "pricing"]

  region           = "europe-west1"
  dataset_location = "EU"
  dataset_id       = "billing_export"
  export_bucket    = "example-billing-export-eu"
  state_bucket     = "example-billing-state-eu"

  function_name      = "tailpipe-exports"
  schedule           = "15 */6 * * *"
  schedule_time_zone = "Europe/Berlin"
  memory_mb          = 1024
  timeout_seconds    = 900
  ingress            = "ALLOW_INTERNAL_ONLY"
  call_budget        = 10

  settings = {
    COPY                 = "detailed"
    COPY_DAYS            = "60"
    MAX_VANISHED_PERCENT = "20"
  }

  delivery_events      = true
  delta_retention_days = 60

  fleet             = true
  fleet_schedule    = "45 */6 * * *"
  fleet_minutes     = 360
  fleet_concurrency = 20
  fleet_per_second  = 0.5
  registry_writers  = ["group:finops@example.com"]

  log_level           = "DEBUG"
  log_retention_days  = 365
  alarm_after_hours   = 18
  notification_emails = ["cloud-team@example.com"]

  workload_identity_pool_id = "tailpipe-pool"
  custom_role_prefix        = "tailpipeExports"
  delete_data_on_destroy    = false

  labels = { cost-centre = "finops" }
}

output "onboarding" {
  description = "What Tailpipe needs to connect."
  value       = module.tailpipe_exports.onboarding
}
