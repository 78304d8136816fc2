locals {
  # What a run publishes (shared/metrics.py), under CloudWatch's names of it. The maximum counts: a run for a single
  # account reports less than a whole one.
  own_metrics = { for name in ["Covered", "Missing", "Excluded", "Manual", "FreshnessLagHours", "Degraded"] : name =>
    [local.namespace, name, "service", local.service.service, { stat = "Maximum" }]
  }

  # The calls by quota stand in the line of the metrics, and cost nothing more there.
  quotas = ["bcm-data-exports", "billing", "cloudformation", "iam", "organizations", "s3", "secretsmanager", "sns", "sts"]

  dashboard_widgets = concat([
    {
      title   = "Accounts"
      metrics = [for name in ["Covered", "Missing", "Excluded"] : local.own_metrics[name]]
    },
    {
      title   = "Freshness lag in hours"
      metrics = [local.own_metrics["FreshnessLagHours"]]
    },
    {
      title   = "Manual steps"
      metrics = [local.own_metrics["Manual"]]
    },
    {
      title = "Runs, failed and degraded ones"
      metrics = [
        ["AWS/Lambda", "Invocations", "FunctionName", var.function_name, { stat = "Sum" }],
        ["AWS/Lambda", "Errors", "FunctionName", var.function_name, { stat = "Sum" }],
        local.own_metrics["Degraded"],
      ]
    },
  ], [for metrics in [local.tenant_metrics] : { title = "Tenants by status", metrics = metrics } if var.fleet])

  tenant_metrics = [for name in ["Ok", "Degraded", "Failed", "Unreachable", "Refused", "NotRun"] :
    [local.namespace, "Tenants${name}", "service", local.service.service, { stat = "Maximum" }]
  ]
  # By the lines of each round's end. The label `group` of the registry groups the tenants.
  tenants_query = join(" | ", [
    "SOURCE '${aws_cloudwatch_log_group.function.name}'",
    "filter event = 'tenant-row'",
    "stats latest(`labels.group`) as label_group, latest(status) as last_status, latest(code) as last_code, latest(covered) as scopes_covered, latest(active) as scopes_active, latest(duration_s) as seconds by tenant",
    "sort label_group, tenant",
  ])
  log_widgets = concat(
    [{ title = "Calls by quota", view = "bar", query = local.calls_query }],
    [for query in [local.tenants_query] : { title = "Tenants of the last round", view = "table", query = query } if var.fleet],
  )

  calls_query = join(" | ", [
    "SOURCE '${aws_cloudwatch_log_group.function.name}'",
    "filter ispresent(_aws.Timestamp)",
    "stats ${join(", ", [for quota in local.quotas : "sum(`calls_by_quota.${quota}`) as `${quota}`"])} by bin(${max(60, local.run_seconds / 60)}m)",
  ])
}

resource "aws_cloudwatch_dashboard" "this" {
  count = var.dashboard ? 1 : 0

  dashboard_name = var.function_name
  dashboard_body = jsonencode({
    widgets = concat(
      [for place, widget in local.dashboard_widgets : {
        type   = "metric"
        x      = place % 2 * 12
        y      = floor(place / 2) * 6
        width  = 12
        height = 6
        properties = merge(widget, {
          region = local.region
          view   = "timeSeries"
          period = local.period
          yAxis  = { left = { min = 0 } }
        })
      }],
      [for place, widget in local.log_widgets : {
        type       = "log"
        x          = 0
        y          = ceil(length(local.dashboard_widgets) / 2) * 6 + place * 6
        width      = 24
        height     = 6
        properties = merge(widget, { region = local.region })
      }],
    )
  })
}
