locals {
  # A function of the second generation logs as the Cloud Run service of its name.
  log_filter = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.function_name}\""

  # The runs that are counted, by the fields of their metrics line. A dry run writes no such line.
  run_counts = {
    # Runs for events or for certain scopes say nothing of the rest, nor of the schedule: they do not count as a success, and
    # a run of everything that was ok began no longer ago than it may take.
    ok       = { what = "Runs of everything that ended ok", filter = "jsonPayload.status=\"ok\" AND jsonPayload.seconds_since_last_success<=${var.timeout_seconds}" }
    covered  = { what = "Runs that found every scope covered", filter = "jsonPayload.covered>0 AND jsonPayload.missing=0" }
    missing  = { what = "Runs that found scopes not covered", filter = "jsonPayload.missing>0" }
    manual   = { what = "Runs that found a manual step waiting", filter = "jsonPayload.manual>0" }
    excluded = { what = "Runs that found a scope excluded for the first time", filter = "jsonPayload.newly_excluded>0" }
  }

  delivery_counts = var.delivery_events ? {
    announced   = { what = "Runs that left no delivery unannounced", filter = "jsonPayload.deliveries_unannounced=0" }
    unannounced = { what = "Runs that left deliveries unannounced", filter = "jsonPayload.deliveries_unannounced>0" }
  } : {}

  # By the line that each round writes at its end.
  round_counts = var.fleet ? {
    rounds        = { what = "Rounds that ended", filter = "jsonPayload.status:*" }
    rounds_failed = { what = "Rounds in which no tenant was covered", filter = "jsonPayload.status=\"failed\"" }
    rounds_late   = { what = "Rounds that ended before every tenant had a run", filter = "jsonPayload.tenants_not_run>0" }
  } : {}

  counted = {
    for name in concat(keys(local.run_counts), ["announced", "unannounced", "rounds", "rounds_failed", "rounds_late"]) :
    name => "logging_googleapis_com:user_tailpipe_exports_runs_${name}{monitored_resource=\"cloud_run_revision\"}"
  }
  answers = "run_googleapis_com:request_count{monitored_resource=\"cloud_run_revision\",service_name=\"${var.function_name}\",response_code_class=\"5xx\"}"

  # One schedule, in minutes; a third of what may pass without a success.
  interval = var.alarm_after_hours * 20
  day      = max(1440, local.interval)
  # Half of the six hours after which deliveries that are not announced raise an alarm, or a schedule if that is longer.
  delivery_window = max(180, local.interval)

  # PromQL, because the conditions of the older kind look back for a day at most and never fire for a series that never existed.
  # A metric without a series returns nothing. `vector(0)` turns that into zero where zero should raise the alarm.
  # The entry of docs/runbook.md that each alarm leads to.
  runbook = {
    no-success = "no-run-was-ok"
    failed     = "a-run-failed"
    missing    = "scopes-are-missing"
    manual     = "a-step-waits-for-you"
    excluded   = "a-scope-was-excluded"
    deliveries = "deliveries-are-not-announced"

    missed-rounds = "rounds-are-missing"
    failed-rounds = "a-round-failed"
    late-rounds   = "a-round-is-late"
  }

  alarms = {
    no-success = {
      title    = "no run succeeded for ${var.alarm_after_hours} hours"
      severity = "CRITICAL"
      query    = "(sum(increase(${local.counted.ok}[${local.interval}m])) or vector(0)) == 0"
      duration = local.interval * 2 * 60
      advice   = "See the newest report under gs://${local.state_bucket}/runs/ and its failures. Where there is none, see whether the schedule ${var.function_name} calls the function."
    }
    failed = {
      title    = "a run failed"
      severity = "ERROR"
      query    = "sum(increase(${local.answers}[${local.interval}m])) > 0"
      duration = 0
      advice   = "The run was unsafe, blind or broke off. Its report under gs://${local.state_bucket}/runs/ names every failure with its remedy."
    }
    missing = {
      # A day in which every run found something missing, seen for another day.
      title    = "a billing account has not been covered for two days"
      severity = "ERROR"
      query    = "(sum(increase(${local.counted.missing}[${local.day}m])) > 0) unless (sum(increase(${local.counted.covered}[${local.day}m])) > 0)"
      duration = 86400
      advice   = "See failures and manual in the newest report under gs://${local.state_bucket}/runs/."
    }
    manual = {
      title    = "a manual step is waiting"
      severity = "WARNING"
      query    = "sum(increase(${local.counted.manual}[${local.interval * 3}m])) > 0"
      duration = 0
      advice   = "The newest report under gs://${local.state_bucket}/runs/ lists each step under manual, with its link. Google offers no API to switch a billing export on."
    }
    excluded = {
      # Reported once: only the run that finds an account excluded for the first time counts it.
      title    = "Google refuses the export of a billing account"
      severity = "WARNING"
      query    = "sum(increase(${local.counted.excluded}[${local.interval}m])) > 0"
      duration = 0
      advice   = "The newest report under gs://${local.state_bucket}/runs/ counts the accounts by reason under excluded; the log has one event scope-excluded for each."
    }
  }

  round_window = max(180, 3 * var.fleet_minutes)

  # With fleet only.
  round_alarms = {
    missed-rounds = {
      title    = "no round over the tenants ended"
      severity = "CRITICAL"
      query    = "(sum(increase(${local.counted.rounds}[${local.round_window}m])) or vector(0)) == 0"
      duration = 0
      advice   = "See whether the schedule ${var.function_name}-tenants calls the function, and the queue of that name. The newest report is under gs://${local.state_bucket}/runs/rounds/."
    }
    failed-rounds = {
      title    = "a round over the tenants failed"
      severity = "ERROR"
      query    = "sum(increase(${local.counted.rounds_failed}[${local.round_window}m])) > 0"
      duration = 0
      advice   = "The newest report under gs://${local.state_bucket}/runs/rounds/ names each tenant with its failures and their remedies."
    }
    late-rounds = {
      title    = "a round ended before every tenant had a run"
      severity = "WARNING"
      query    = "sum(increase(${local.counted.rounds_late}[${local.round_window}m])) > 0"
      duration = 0
      advice   = "Raise fleet_concurrency or fleet_per_second, or let rounds begin less often. Tenants without a run are the first of the next round."
    }
  }

  # With delivery_events only.
  delivery_alarms = {
    deliveries = {
      # Three hours in which every run left some, seen for three more.
      title    = "deliveries were not announced for six hours"
      severity = "WARNING"
      query    = "(sum(increase(${local.counted.unannounced}[${local.delivery_window}m])) > 0) unless (sum(increase(${local.counted.announced}[${local.delivery_window}m])) > 0)"
      duration = local.delivery_window * 60
      advice   = "The log has an event delivery-unannounced with the reason. The documents below gs://${local.export_bucket}/deltas/ are complete once their copies are; only the topic lags behind."
    }
  }
}

resource "google_logging_project_bucket_config" "function" {
  project        = var.project_id
  location       = var.region
  bucket_id      = var.function_name
  description    = "Log lines of the function ${var.function_name}"
  retention_days = var.log_retention_days

  depends_on = [google_project_service.this, terraform_data.inputs]
}

# Within one project a sink needs no identity and no right to write to a log bucket.
resource "google_logging_project_sink" "function" {
  project                = var.project_id
  name                   = var.function_name
  description            = "Keeps the lines of the function for ${var.log_retention_days} days"
  destination            = "logging.googleapis.com/${google_logging_project_bucket_config.function.id}"
  filter                 = "${local.log_filter} AND severity>=${var.log_level}"
  unique_writer_identity = true
}

resource "google_logging_metric" "runs" {
  for_each = merge(local.run_counts, local.delivery_counts, local.round_counts)

  project     = var.project_id
  name        = "tailpipe_exports_runs_${each.key}"
  description = each.value.what
  filter      = "${local.log_filter} AND jsonPayload.event=\"${startswith(each.key, "rounds") ? "round-figures" : "figures"}\" AND ${each.value.filter}"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
  }

  depends_on = [google_project_service.this, terraform_data.inputs]
}

resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.notification_emails)

  project      = var.project_id
  type         = "email"
  display_name = "Tailpipe Exports: ${each.key}"
  labels       = { email_address = each.key }
  user_labels  = local.labels

  depends_on = [google_project_service.this, terraform_data.inputs]
}

resource "google_monitoring_alert_policy" "this" {
  for_each = merge(
    local.alarms,
    var.delivery_events ? local.delivery_alarms : {},
    var.fleet ? local.round_alarms : {},
  )

  project               = var.project_id
  display_name          = "${var.function_name}: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.name]
  user_labels           = local.labels

  conditions {
    display_name = each.value.title

    condition_prometheus_query_language {
      query               = each.value.query
      duration            = "${each.value.duration}s"
      evaluation_interval = "300s"

      # A count exists once its first line was written, and the alarms are made before the first run.
      disable_metric_validation = true
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "${each.value.advice}\n\nRunbook: docs/runbook.md#${local.runbook[each.key]}"
  }

  depends_on = [google_logging_metric.runs]
}
