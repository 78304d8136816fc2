locals {
  rights = yamldecode(templatefile("${path.module}/rights.yaml", {
    export_bucket   = local.export_bucket
    state_bucket    = local.state_bucket
    registry_bucket = local.registry_bucket
    project         = data.google_project.this.number
    notify_secret   = var.notify_secret == null ? "" : var.notify_secret
  }))

  # The conditions that a grant's `when` may name.
  met = {
    organization     = var.organization_id != null
    billing_accounts = length(var.billing_accounts) > 0
    focus            = contains(var.exports, "focus")
    notify           = var.notify_secret != null
    events           = var.events
    delivery_events  = var.delivery_events
    tenants          = var.fleet
  }

  members = {
    function  = google_service_account.function.member
    connector = google_service_account.connector.member
  }

  # What each scope of rights.yaml is bound on. One that is not here is an error, never a grant that stays unbound.
  bound_on = {
    project             = "project"
    export_bucket       = "project"
    state_bucket        = "project"
    registry_bucket     = "project"
    notify_secret       = "project"
    dataset             = "dataset"
    events_subscription = "subscription"
    delivery_topic      = "topic"
    tenants_queue       = "queue"
    tenants_caller      = "caller"
    organization        = "organization"
    billing_account     = "billing_account"
  }
  # Bound on the project, these would reach all its buckets or secrets without their condition, so it is required.
  conditional = ["export_bucket", "state_bucket", "registry_bucket", "notify_secret"]

  # "function/RunJobs" → who, what and where. A name in `when` that is not in `met` is an error, never a silent grant.
  grants = merge([
    for holder, grants in local.rights : {
      for grant in grants : "${holder}/${grant.id}" => {
        holder    = holder
        id        = grant.id
        why       = grant.why
        scope     = grant.scope
        role      = try(grant.role, null)
        actions   = try(grant.actions, [])
        condition = contains(local.conditional, grant.scope) ? [grant.condition] : try([grant.condition], [])
      } if try(grant.when, null) == null ? true : local.met[grant.when]
    }
  ]...)

  custom = { for key, grant in local.grants : key => grant if grant.role == null }

  on_project      = { for key, grant in local.grants : key => grant if local.bound_on[grant.scope] == "project" }
  on_dataset      = { for key, grant in local.grants : key => grant if local.bound_on[grant.scope] == "dataset" }
  on_subscription = { for key, grant in local.grants : key => grant if local.bound_on[grant.scope] == "subscription" }
  on_topic        = { for key, grant in local.grants : key => grant if local.bound_on[grant.scope] == "topic" }
  on_queue        = { for key, grant in local.grants : key => grant if local.bound_on[grant.scope] == "queue" }
  on_caller       = { for key, grant in local.grants : key => grant if local.bound_on[grant.scope] == "caller" }
  on_organization = { for key, grant in local.grants : key => grant if local.bound_on[grant.scope] == "organization" }
  on_accounts = merge([
    for key, grant in local.grants : {
      for account in var.billing_accounts : "${key}/${account}" => merge(grant, { grant = key, account = account })
    } if local.bound_on[grant.scope] == "billing_account"
  ]...)

  roles = {
    for key, grant in local.grants : key => grant.role == null ? google_project_iam_custom_role.this[key].name : grant.role
  }
}

resource "google_service_account" "function" {
  project      = var.project_id
  account_id   = "tailpipe-function"
  display_name = "Tailpipe Exports: the function"
  description  = "Keeps the billing exports alive. Holds no key."

  depends_on = [google_project_service.this, terraform_data.inputs]
}

# Google's predefined roles are far wider than what the function does.
resource "google_project_iam_custom_role" "this" {
  for_each = local.custom

  project     = var.project_id
  role_id     = "${var.custom_role_prefix}${each.value.id}"
  title       = "Tailpipe Exports: ${each.value.id}"
  description = each.value.why
  permissions = each.value.actions

  depends_on = [google_project_service.this, terraform_data.inputs]
}

resource "google_project_iam_member" "this" {
  for_each = local.on_project

  project = var.project_id
  role    = local.roles[each.key]
  member  = local.members[each.value.holder]

  dynamic "condition" {
    for_each = each.value.condition
    content {
      title       = condition.value.title
      description = each.value.why
      expression  = condition.value.expression
    }
  }
}

resource "google_bigquery_dataset_iam_member" "this" {
  for_each = local.on_dataset

  project    = var.project_id
  dataset_id = google_bigquery_dataset.export.dataset_id
  role       = local.roles[each.key]
  member     = local.members[each.value.holder]
}

resource "google_pubsub_subscription_iam_member" "this" {
  for_each = local.on_subscription

  project      = var.project_id
  subscription = google_pubsub_subscription.events["events"].name
  role         = local.roles[each.key]
  member       = local.members[each.value.holder]
}

resource "google_pubsub_topic_iam_member" "this" {
  for_each = local.on_topic

  project = var.project_id
  topic   = google_pubsub_topic.deliveries["deliveries"].name
  role    = local.roles[each.key]
  member  = local.members[each.value.holder]
}

resource "google_cloud_tasks_queue_iam_member" "this" {
  for_each = local.on_queue

  project  = var.project_id
  location = var.region
  name     = google_cloud_tasks_queue.tenants["tenants"].name
  role     = local.roles[each.key]
  member   = local.members[each.value.holder]
}

resource "google_service_account_iam_member" "this" {
  for_each = local.on_caller

  service_account_id = google_service_account.tenants["tenants"].name
  role               = local.roles[each.key]
  member             = local.members[each.value.holder]
}

resource "google_organization_iam_member" "this" {
  for_each = local.on_organization

  org_id = var.organization_id
  role   = local.roles[each.key]
  member = local.members[each.value.holder]
}

resource "google_billing_account_iam_member" "this" {
  for_each = local.on_accounts

  billing_account_id = each.value.account
  role               = local.roles[each.value.grant]
  member             = local.members[each.value.holder]
}
