# The project's number, which Google's own names of buckets and pools are made of.
data "google_project" "this" {
  project_id = var.project_id
}

locals {
  labels = merge(var.labels, { managed-by = "tailpipe-exports" })

  export_bucket   = coalesce(var.export_bucket, "tailpipe-billing-export-${var.project_id}")
  state_bucket    = coalesce(var.state_bucket, "tailpipe-state-${var.project_id}")
  registry_bucket = "tailpipe-tenants-${var.project_id}"
  source_bucket   = "tailpipe-source-${var.project_id}"

  # What is copied unless COPY says otherwise: the kinds with usage in them, as far as they are exported at all.
  copied = [for kind in ["standard", "detailed"] : kind if contains(var.exports, kind)]
  copy   = try(var.settings["COPY"], length(local.copied) > 0 ? join(",", local.copied) : "off")

  # The function's environment: every name here is read by its settings module.
  settings = merge(
    {
      GOOGLE_CLOUD_PROJECT = var.project_id
      BILLING_DATASET      = var.dataset_id
      DATASET_LOCATION     = var.dataset_location
      EXPORT_BUCKET        = local.export_bucket
      STATE_BUCKET         = local.state_bucket
      EXPORTS              = join(",", var.exports)
      COPY                 = local.copy
      CALL_BUDGET          = tostring(var.call_budget)
      # What a cold start takes counts against the platform's limit, and the run must end before that does.
      RUN_SECONDS = tostring(var.timeout_seconds - 30)
    },
    var.organization_id == null ? {} : { ORGANIZATION = "organizations/${var.organization_id}" },
    var.notify_secret == null ? {} : { NOTIFY_URL = "projects/${var.project_id}/secrets/${var.notify_secret}" },
    var.events ? { EVENTS_SUBSCRIPTION = "projects/${var.project_id}/subscriptions/${local.events_name}" } : {},
    var.delivery_events ? { DELTAS = "1", DELIVERY_TOPIC = "projects/${var.project_id}/topics/${local.deliveries_name}" } : {},
    var.notify_digest ? { NOTIFY_DIGEST = "weekly" } : {},
    var.publish_page ? { PUBLISH_PAGE = "1" } : {},
    length(var.include_accounts) == 0 ? {} : { INCLUDE_ACCOUNTS = join(",", var.include_accounts) },
    length(var.exclude_accounts) == 0 ? {} : { EXCLUDE_ACCOUNTS = join(",", var.exclude_accounts) },
    local.tenants_settings,
    var.settings,
  )
}

# Refuses combinations that no single variable's validation can detect, before anything is created.
resource "terraform_data" "inputs" {
  input = var.environment

  lifecycle {
    precondition {
      condition     = (var.organization_id != null) != (length(var.billing_accounts) > 0)
      error_message = "Set organization_id, which covers all billing accounts of the organization, or list billing_accounts instead; to select among an organization's accounts use include_accounts."
    }
    precondition {
      condition     = length(setintersection(var.include_accounts, var.exclude_accounts)) == 0
      error_message = "Take ${join(", ", setintersection(var.include_accounts, var.exclude_accounts))} out of include_accounts or out of exclude_accounts: it is in both."
    }
    precondition {
      condition     = length(var.billing_accounts) == 0 || length(setsubtract(var.include_accounts, var.billing_accounts)) == 0
      error_message = "Add ${join(", ", setsubtract(var.include_accounts, var.billing_accounts))} to billing_accounts: the function sees no other accounts."
    }
    precondition {
      condition     = length(distinct([local.export_bucket, local.state_bucket, local.source_bucket, local.registry_bucket])) == 4
      error_message = "Give export_bucket and state_bucket two different names, neither of them ${local.source_bucket} or ${local.registry_bucket}: Tailpipe reads the one and must not read the other."
    }
    precondition {
      condition = local.copy == "off" || alltrue([
        for kind in split(",", local.copy) :
        contains(["standard", "detailed"], trimspace(kind)) && contains(var.exports, trimspace(kind))
      ])
      error_message = "Write COPY in settings as \"off\", or as a list of \"standard\" and \"detailed\" that are in exports too."
    }
    precondition {
      condition     = !var.delivery_events || local.copy != "off"
      error_message = "Set COPY in settings to the exports to copy, or delivery_events to false: what is announced are finished copies."
    }
  }
}
