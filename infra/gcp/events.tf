# Changes in the project and in the billing accounts notify the function within a minute, through Cloud Audit Logs and
# Pub/Sub; without it a change is seen by the next run of the schedule.
locals {
  # One of each or none. Sets instead of counts, so that dependent resources are addressed by name.
  events        = toset(var.events ? ["events"] : [])
  events_name   = "${var.function_name}-events"
  events_filter = templatefile("${path.module}/events.filter", { function = google_service_account.function.email })

  # Whose audit logs are sent on: the project's always, and those of the organization or of the named billing accounts.
  organization_events = toset([for name in local.events : name if var.organization_id != null])
  account_events      = toset([for account in var.billing_accounts : account if var.events])

  event_writers = merge(
    { for name, sink in google_logging_project_sink.events : "project" => sink.writer_identity },
    { for name, sink in google_logging_organization_sink.events : "organization" => sink.writer_identity },
    { for account, sink in google_logging_billing_account_sink.events : account => sink.writer_identity },
  )
}

resource "google_pubsub_topic" "events" {
  #checkov:skip=CKV_GCP_83: audit logs hold names and no content, and Google encrypts them with its own key
  for_each = local.events

  project = var.project_id
  name    = local.events_name
  labels  = local.labels

  depends_on = [google_project_service.this, terraform_data.inputs]
}

# The function pulls what waits here in one go, however much it is.
resource "google_pubsub_subscription" "events" {
  for_each = local.events

  project = var.project_id
  name    = local.events_name
  topic   = google_pubsub_topic.events[each.key].id
  labels  = local.labels

  # A run of the schedule has looked at everything by then.
  message_retention_duration = "3600s"
  # The longest that Pub/Sub allows: what a longer run holds is pulled again, which is harmless.
  ack_deadline_seconds = 600

  # By default, Pub/Sub deletes a subscription that has no activity for 31 days.
  expiration_policy {
    ttl = ""
  }
}

# Each push says only that something waits; one that is refused, since a run is under way, comes again.
resource "google_pubsub_subscription" "push" {
  for_each = local.events

  project = var.project_id
  name    = "${local.events_name}-push"
  topic   = google_pubsub_topic.events[each.key].id
  labels  = local.labels

  message_retention_duration = "3600s"
  ack_deadline_seconds       = 600

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "60s"
  }

  expiration_policy {
    ttl = ""
  }

  push_config {
    # The service's own address: Google treats only calls to that one as internal.
    push_endpoint = google_cloudfunctions2_function.this.service_config[0].uri

    oidc_token {
      service_account_email = google_service_account.events[each.key].email
      audience              = google_cloudfunctions2_function.this.service_config[0].uri
    }
  }

  depends_on = [google_cloud_run_v2_service_iam_member.events]
}

resource "google_service_account" "events" {
  for_each = local.events

  project      = var.project_id
  account_id   = "tailpipe-events"
  display_name = "Tailpipe Exports: the events"
  description  = "Calls the function when something changed, and may do nothing else. Holds no key."

  depends_on = [google_project_service.this, terraform_data.inputs]
}

resource "google_cloud_run_v2_service_iam_member" "events" {
  for_each = local.events

  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.this.name
  role     = "roles/run.invoker"
  member   = google_service_account.events[each.key].member
}

resource "google_logging_project_sink" "events" {
  for_each = local.events

  project                = var.project_id
  name                   = local.events_name
  description            = "Sends changes of what ${var.function_name} keeps to it"
  destination            = "pubsub.googleapis.com/${google_pubsub_topic.events[each.key].id}"
  filter                 = local.events_filter
  unique_writer_identity = true
}

resource "google_logging_organization_sink" "events" {
  for_each = local.organization_events

  org_id           = var.organization_id
  name             = local.events_name
  description      = "Sends new and closed billing accounts to ${var.function_name}"
  destination      = "pubsub.googleapis.com/${google_pubsub_topic.events[each.key].id}"
  filter           = "protoPayload.serviceName=\"cloudbilling.googleapis.com\" AND ${local.events_filter}"
  include_children = false
}

resource "google_logging_billing_account_sink" "events" {
  for_each = local.account_events

  billing_account = each.key
  name            = local.events_name
  description     = "Sends changes of this billing account to ${var.function_name}"
  destination     = "pubsub.googleapis.com/${google_pubsub_topic.events["events"].id}"
  filter          = local.events_filter
}

resource "google_pubsub_topic_iam_member" "events" {
  for_each = local.event_writers

  project = var.project_id
  topic   = google_pubsub_topic.events["events"].name
  role    = "roles/pubsub.publisher"
  member  = each.value
}
