locals {
  # What a run logs (shared/metrics.py): each figure becomes a distribution, whose mean over one run is the figure itself.
  # The lag is a metric without the dashboard too: it is how late the export is, which no other metric says.
  dashboard_figures = {
    covered  = "Billing accounts that are covered"
    missing  = "Billing accounts that lack their export"
    excluded = "Billing accounts whose export Google refuses"
    manual   = "Billing accounts with a manual step"
  }
  quotas = ["bigquery", "bigquery-extract", "bigquery-query", "cloudbilling", "cloudresourcemanager", "cloudtasks", "iamcredentials", "pubsub", "secretmanager", "serviceusage", "storage"]

  measured = merge(
    { freshness_lag_hours = { what = "Hours since the last new data of the billing account that waits longest", field = "freshness_lag_hours" } },
    { for name, what in local.dashboard_figures : name => { what = what, field = name } if var.dashboard },
    { for quota in local.quotas : "calls_${replace(quota, "-", "_")}" => {
      what  = "Calls of a run on the quota ${quota}"
      field = "calls_by_quota.\"${quota}\""
    } if var.dashboard },
  )

  # The mean of what the runs of one interval measured.
  mean = { for name in keys(local.measured) : name => join(" / ", [
    for part in ["sum", "count"] :
    "sum(increase(logging_googleapis_com:user_tailpipe_exports_${name}_${part}{monitored_resource=\"cloud_run_revision\"}[${local.interval}m]))"
  ]) }

  dashboard_tiles = !var.dashboard ? [] : [
    { title = "Billing accounts", queries = { for name in ["covered", "missing", "excluded"] : name => local.mean[name] } },
    { title = "Freshness lag in hours", queries = { freshness_lag_hours = local.mean["freshness_lag_hours"] } },
    { title = "Manual steps", queries = { manual = local.mean["manual"] } },
    {
      title = "Runs that were ok, and answers of failed ones"
      queries = {
        ok     = "sum(increase(${local.counted.ok}[${local.interval}m]))"
        failed = "sum(increase(${local.answers}[${local.interval}m]))"
      }
    },
    {
      title = "Calls by quota"
      queries = { for quota in local.quotas : quota =>
        local.mean["calls_${replace(quota, "-", "_")}"]
      }
    },
  ]
}

# Tenants, by the line that the end of each round writes for each of them. The label `group` of the registry groups them.
locals {
  tenant_lines = "${local.log_filter} AND jsonPayload.event=\"tenant-row\""
  tenant_round = "increase(logging_googleapis_com:user_tailpipe_exports_tenants{monitored_resource=\"cloud_run_revision\"}[${var.fleet_minutes}m])"

  tenant_widgets = [for widget in [
    jsonencode({
      title = "Tenants by status"
      xyChart = {
        dataSets = [{
          plotType        = "STACKED_BAR"
          timeSeriesQuery = { prometheusQuery = "sum by (status) (${local.tenant_round})" }
        }]
      }
    }),
    jsonencode({
      title = "Tenants of the last round"
      timeSeriesTable = {
        dataSets = [{ timeSeriesQuery = { prometheusQuery = "sum by (tenant_group, tenant, status) (${local.tenant_round}) > 0" } }]
      }
    }),
    jsonencode({
      title     = "Tenants that are not ok"
      logsPanel = { filter = "${local.tenant_lines} AND jsonPayload.status!=\"ok\"", resourceNames = ["projects/${var.project_id}"] }
    }),
  ] : widget if var.dashboard && var.fleet]
}

resource "google_logging_metric" "tenants" {
  count = var.dashboard && var.fleet ? 1 : 0

  project     = var.project_id
  name        = "tailpipe_exports_tenants"
  description = "Tenants of rounds, by their status"
  filter      = local.tenant_lines
  label_extractors = {
    tenant       = "EXTRACT(jsonPayload.tenant)"
    status       = "EXTRACT(jsonPayload.status)"
    tenant_group = "EXTRACT(jsonPayload.labels.group)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
    dynamic "labels" {
      for_each = ["tenant", "status", "tenant_group"]
      content {
        key        = labels.value
        value_type = "STRING"
      }
    }
  }

  depends_on = [google_project_service.this, terraform_data.inputs]
}

resource "google_logging_metric" "measured" {
  for_each = local.measured

  project         = var.project_id
  name            = "tailpipe_exports_${each.key}"
  description     = each.value.what
  filter          = "${local.log_filter} AND jsonPayload.event=\"figures\""
  value_extractor = "EXTRACT(jsonPayload.${each.value.field})"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = "1"
  }

  depends_on = [google_project_service.this, terraform_data.inputs]
}

resource "google_monitoring_dashboard" "this" {
  count = var.dashboard ? 1 : 0

  project = var.project_id
  dashboard_json = jsonencode({
    displayName = "Tailpipe Exports: ${var.function_name}"
    labels      = local.labels
    mosaicLayout = {
      columns = 48
      tiles = [for place, widget in concat([for tile in local.dashboard_tiles : jsonencode({
        title = tile.title
        xyChart = {
          dataSets = [for legend, query in tile.queries : {
            plotType        = "LINE"
            legendTemplate  = legend
            timeSeriesQuery = { prometheusQuery = query }
          }]
        }
        })], local.tenant_widgets) : {
        xPos   = place % 2 * 24
        yPos   = floor(place / 2) * 16
        width  = 24
        height = 16
        widget = jsondecode(widget)
      }]
    }
  })

  depends_on = [google_logging_metric.measured, google_logging_metric.runs, google_logging_metric.tenants]
}
