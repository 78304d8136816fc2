# With `fleet`, one deployment serves the tenants of the registry: a schedule starts a round, whose state machine calls the
# function once for each due tenant. docs/decisions/0010-aws-rounds-by-step-functions.md says why it is built this way.
locals {
  fleets      = toset(var.fleet ? ["rounds"] : [])
  rounds_name = "${var.function_name}-rounds"
  rounds_arn  = "arn:${local.partition}:states:${local.region}:${local.account}:stateMachine:${local.rounds_name}"

  fleet_rate = try(regex("^rate\\((\\d+) (minute|hour|day)s?\\)$", var.fleet_schedule), null)
  # Seconds from one round to the next; an hour is assumed for a cron expression.
  round_seconds = local.fleet_rate == null ? 3600 : tonumber(local.fleet_rate[0]) * { minute = 60, hour = 3600, day = 86400 }[local.fleet_rate[1]]
  round_period  = min(86400, max(3600, local.round_seconds))

  round_alarms = {
    missed-rounds = {
      description = "The schedule started no round over the tenants three times in a row: see whether it is enabled and exists."
      namespace   = "AWS/Scheduler"
      metric      = "InvocationAttemptCount"
      dimensions  = { ScheduleGroup = local.rounds_name }
      statistic   = "Sum"
      operator    = "LessThanThreshold"
      threshold   = 1
      period      = local.round_period
      periods     = 3
      missing     = "breaching"
    }
    failed-rounds = {
      description = "A round over the tenants failed: its execution says why; redrive it once the cause is cured."
      namespace   = "AWS/States"
      metric      = "ExecutionsFailed"
      dimensions  = { StateMachineArn = local.rounds_arn }
      statistic   = "Sum"
      operator    = "GreaterThanThreshold"
      threshold   = 0
      period      = local.round_period
      periods     = 1
      missing     = "notBreaching"
    }
    late-rounds = {
      description = "A round took longer than the time until the next one: raise fleet_concurrency, or start rounds less often."
      namespace   = "AWS/States"
      metric      = "ExecutionTime"
      dimensions  = { StateMachineArn = local.rounds_arn }
      statistic   = "Maximum"
      operator    = "GreaterThanThreshold"
      # In milliseconds.
      threshold = 1000 * local.round_seconds
      period    = local.round_period
      periods   = 1
      missing   = "notBreaching"
    }
  }
}

resource "aws_sfn_state_machine" "rounds" {
  #checkov:skip=CKV_AWS_284: each run counts its calls in its report, and the role stays without a right to write traces
  #checkov:skip=CKV_AWS_285: a standard workflow keeps its history for 90 days; a log of its own would need rights on all log deliveries
  for_each = local.fleets

  name     = local.rounds_name
  role_arn = aws_iam_role.rounds[each.key].arn
  type     = "STANDARD"
  tags     = local.tags

  definition = templatefile("${path.module}/rounds.asl.json", {
    partition         = local.partition
    function_name     = var.function_name
    function_arn      = aws_lambda_function.this.arn
    bucket            = local.bucket
    concurrency       = var.fleet_concurrency
    tolerated_percent = var.fleet_tolerated_percent
    task_seconds      = var.timeout_seconds + 60
  })

  # A Distributed Map starts its children with the role.
  depends_on = [aws_iam_role_policy.rounds]
}

resource "aws_iam_role" "rounds" {
  for_each = local.fleets

  name                 = local.rounds_name
  description          = "Lets the rounds of ${var.function_name} call it for each tenant."
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "StepFunctions"
      Effect    = "Allow"
      Principal = { Service = "states.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account }
        ArnLike      = { "aws:SourceArn" = local.rounds_arn }
      }
    }]
  })
}

resource "aws_iam_role_policy" "rounds" {
  for_each = local.fleets

  name   = "rounds"
  role   = aws_iam_role.rounds[each.key].id
  policy = local.policies.rounds
}

resource "aws_iam_role_policies_exclusive" "rounds" {
  for_each = local.fleets

  role_name    = aws_iam_role.rounds[each.key].name
  policy_names = [aws_iam_role_policy.rounds[each.key].name]
}

resource "aws_iam_role_policy_attachments_exclusive" "rounds" {
  for_each = local.fleets

  role_name   = aws_iam_role.rounds[each.key].name
  policy_arns = []
}

# A group of its own: the alarm on missed runs counts what the other one starts.
resource "aws_scheduler_schedule_group" "rounds" {
  for_each = local.fleets

  name = local.rounds_name
  tags = local.tags
}

resource "aws_scheduler_schedule" "rounds" {
  #checkov:skip=CKV_AWS_297: the schedule holds an expression and an empty input, nothing to protect
  for_each = local.fleets

  name                = local.rounds_name
  description         = "Starts a round of ${var.function_name} over its tenants."
  group_name          = aws_scheduler_schedule_group.rounds[each.key].name
  schedule_expression = var.fleet_schedule

  flexible_time_window {
    mode                      = "FLEXIBLE"
    maximum_window_in_minutes = 5
  }

  target {
    arn      = aws_sfn_state_machine.rounds[each.key].arn
    role_arn = aws_iam_role.round_schedule[each.key].arn
    input    = jsonencode({ source = "aws.scheduler" })

    retry_policy {
      maximum_retry_attempts       = 10
      maximum_event_age_in_seconds = 3600
    }

    dead_letter_config {
      arn = aws_sqs_queue.failed.arn
    }
  }

  depends_on = [aws_iam_role_policy.round_schedule, aws_s3_bucket_policy.exports]
}

resource "aws_iam_role" "round_schedule" {
  for_each = local.fleets

  name                 = "${local.rounds_name}-schedule"
  description          = "Lets the schedule start the rounds of ${var.function_name}."
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Scheduler"
      Effect    = "Allow"
      Principal = { Service = "scheduler.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = {
          "aws:SourceAccount" = local.account
          "aws:SourceArn"     = aws_scheduler_schedule_group.rounds[each.key].arn
        }
      }
    }]
  })
}

resource "aws_iam_role_policy" "round_schedule" {
  for_each = local.fleets

  name = "start"
  role = aws_iam_role.round_schedule[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "StartRound"
        Effect   = "Allow"
        Action   = "states:StartExecution"
        Resource = local.rounds_arn
      },
      {
        Sid      = "KeepUndelivered"
        Effect   = "Allow"
        Action   = "sqs:SendMessage"
        Resource = aws_sqs_queue.failed.arn
      },
    ]
  })
}

# The template that the link of an invitation opens (tailpipe-exports tenants invite). It is no secret. With the
# customer's key, operators and readers of the template would need rights on the key.
resource "aws_s3_object" "tenant_role" {
  for_each = local.fleets

  bucket                 = aws_s3_bucket.exports.id
  key                    = "registry/tenant-role.yaml"
  content                = file("${path.module}/tenant-role.yaml")
  content_type           = "text/yaml"
  etag                   = filemd5("${path.module}/tenant-role.yaml")
  server_side_encryption = "AES256"

  # An object has at most ten tags, fewer than `tags` and the provider's defaults may have.
  override_provider {
    default_tags {
      tags = {}
    }
  }

  depends_on = [aws_s3_bucket_public_access_block.exports]
}
