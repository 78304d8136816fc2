locals {
  namespace = "TailpipeExports"
  service   = { service = "tailpipe-exports" }
  own       = { FunctionName = var.function_name }

  # The function publishes metrics once a run, so no period is shorter than that. From one hour on, CloudWatch looks
  # back up to seven days; below that, only one.
  run_seconds = coalesce(local.period_minutes, 60) * 60
  period      = max(3600, local.run_seconds)
  two_days    = ceil(172800 / local.period)

  # The entry of docs/runbook.md that each alarm leads to.
  runbook = {
    missed-runs      = "scheduled-runs-are-missing"
    failed-runs      = "a-run-failed"
    lasting-failures = "something-keeps-failing"
    no-success       = "no-run-was-ok"
    missing-scopes   = "scopes-are-missing"
    manual-steps     = "a-step-waits-for-you"
    newly-excluded   = "a-scope-was-excluded"
    failed-events    = "events-lie-in-the-queue"
    deliveries       = "deliveries-are-not-announced"
    dropped-starts   = "scheduled-runs-are-missing"
    missed-rounds    = "rounds-are-missing"
    failed-rounds    = "a-round-failed"
    late-rounds      = "a-round-is-late"
  }

  # Six hours, in periods.
  six_hours = ceil(21600 / local.period)

  delivery_alarms = {
    deliveries = {
      description = "For six hours some delivery could not be announced: see delivery-unannounced in the log, and whether its manifest is complete."
      namespace   = local.namespace
      metric      = "DeliveriesUnannounced"
      dimensions  = local.service
      statistic   = "Minimum"
      operator    = "GreaterThanThreshold"
      threshold   = 0
      period      = local.period
      periods     = local.six_hours
      missing     = "ignore"
    }
  }
  alarms = {
    missed-runs = {
      # Not the function's own invocations, which events and people start too. Runs that are started and do not take place
      # end in the queue of failed events.
      description = "The schedule started nothing three times in a row: see whether it is enabled and exists."
      namespace   = "AWS/Scheduler"
      metric      = "InvocationAttemptCount"
      dimensions  = { ScheduleGroup = aws_scheduler_schedule_group.this.name }
      statistic   = "Sum"
      operator    = "LessThanThreshold"
      threshold   = 1
      period      = local.run_seconds
      periods     = 3
      # Scheduler sends nothing where it starts nothing: the missing data is what this alarm detects.
      missing = "breaching"
    }
    failed-runs = {
      description = "A run failed: the log says why under level ERROR, and the queue ${var.function_name}-failed keeps its event."
      namespace   = "AWS/Lambda"
      metric      = "Errors"
      dimensions  = local.own
      statistic   = "Sum"
      operator    = "GreaterThanThreshold"
      threshold   = 0
      period      = local.period
      periods     = 1
      missing     = "notBreaching"
    }
    lasting-failures = {
      description = "Three periods in a row had a run in which something failed: see failures in the newest report below runs/."
      namespace   = local.namespace
      metric      = "Degraded"
      dimensions  = local.service
      statistic   = "Maximum"
      operator    = "GreaterThanThreshold"
      threshold   = 0
      period      = local.period
      periods     = 3
      missing     = "ignore"
    }
    no-success = {
      description = "No run of everything was wholly well for two days: see failures in the newest report below runs/."
      namespace   = local.namespace
      metric      = "SecondsSinceLastSuccess"
      dimensions  = local.service
      statistic   = "Maximum"
      operator    = "GreaterThanThreshold"
      threshold   = 172800
      period      = local.period
      periods     = 1
      # Before the first success the metric does not exist. That is not an alarm: failures have their own.
      missing = "ignore"
    }
    missing-scopes = {
      description = "For two days some account lacks what it should have: see failures and manual in the newest report below runs/."
      namespace   = local.namespace
      metric      = "Missing"
      dimensions  = local.service
      # A run for a single account may report 0 in between, so the maximum of a period counts.
      statistic = "Maximum"
      operator  = "GreaterThanThreshold"
      threshold = 0
      period    = local.period
      periods   = local.two_days
      missing   = "ignore"
    }
    manual-steps = {
      description = "Something waits for a person: see manual in the newest report below runs/, which holds the steps."
      namespace   = local.namespace
      metric      = "Manual"
      dimensions  = local.service
      statistic   = "Maximum"
      operator    = "GreaterThanThreshold"
      threshold   = 0
      period      = local.period
      periods     = 1
      missing     = "ignore"
    }
    newly-excluded = {
      # Reported once: the next run counts no scope as new, and the alarm ends.
      description = "AWS refuses the export of an account that was served before: see excluded in the newest report below runs/."
      namespace   = local.namespace
      metric      = "NewlyExcluded"
      dimensions  = local.service
      statistic   = "Maximum"
      operator    = "GreaterThanThreshold"
      threshold   = 0
      period      = local.period
      periods     = 1
      missing     = "ignore"
    }
    failed-events = {
      description = "Events lie in the queue ${var.function_name}-failed: read the reason in them, then purge the queue."
      namespace   = "AWS/SQS"
      metric      = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = aws_sqs_queue.failed.name }
      statistic   = "Maximum"
      operator    = "GreaterThanThreshold"
      threshold   = 0
      period      = 300
      periods     = 1
      missing     = "notBreaching"
    }
    dropped-starts = {
      description = "EventBridge Scheduler gave up starting the function: look at the schedule's role and at the function's state."
      namespace   = "AWS/Scheduler"
      metric      = "InvocationDroppedCount"
      dimensions  = { ScheduleGroup = aws_scheduler_schedule_group.this.name }
      statistic   = "Sum"
      operator    = "GreaterThanThreshold"
      threshold   = 0
      period      = 3600
      periods     = 1
      missing     = "notBreaching"
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = merge(local.alarms, var.delivery_events ? local.delivery_alarms : {}, var.fleet ? local.round_alarms : {})

  alarm_name          = "${var.function_name}-${each.key}"
  alarm_description   = "${each.value.description} Runbook: docs/runbook.md#${local.runbook[each.key]}"
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  comparison_operator = each.value.operator
  threshold           = each.value.threshold
  period              = each.value.period
  evaluation_periods  = each.value.periods
  treat_missing_data  = each.value.missing
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = local.tags
}

resource "aws_sns_topic" "alarms" {
  #checkov:skip=CKV_AWS_26: alarms hold names and figures only, and the AWS-managed key would keep CloudWatch from publishing

  name = "${var.function_name}-alarms"
  tags = local.tags
}

resource "aws_sns_topic_policy" "alarms" {
  arn = aws_sns_topic.alarms.arn

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Alarms"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.alarms.arn
        Condition = {
          StringEquals = { "aws:SourceAccount" = local.account }
          ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:cloudwatch:${local.region}:${local.account}:alarm:${var.function_name}-*" }
        }
      },
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.alarms.arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}

resource "aws_sns_topic_subscription" "emails" {
  for_each = toset(var.notification_emails)

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.value
}
