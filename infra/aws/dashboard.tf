locals {
  # What a run publishes (shared/metrics.py), under CloudWatch's names of it. The maximum counts: a run for a single
  # account reports less than a whole one.
  own_metrics = { for name in ["Covered", "Missing", "Excluded", "Manual", "FreshnessLagHours", "Degraded"] : name =>
    [local.namespace, name, "service", local.service.service, { stat = "Maximum" }]
  }

  # The calls by quota stand in the line of the metrics, and cost nothing more there.
  quotas = ["bcm-data-exports", "billing", "cloudformation", "iam", "organizations", "s3", "secretsmanager", "sns", "sts"]

  dashboard_widgets = [
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
  ]

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
      [{
        type   = "log"
        x      = 0
        y      = 12
        width  = 24
        height = 6
        properties = {
          title  = "Calls by quota"
          region = local.region
          view   = "bar"
          query  = local.calls_query
        }
      }],
    )
  })
}
