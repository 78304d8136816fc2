resource "aws_iam_role" "schedule" {
  name                 = "${var.function_name}-schedule"
  description          = "Lets the schedule start the function ${var.function_name}."
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags

  # Without the conditions, another account's schedule could use the role through the service.
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
          "aws:SourceArn"     = aws_scheduler_schedule_group.this.arn
        }
      }
    }]
  })
}

resource "aws_iam_role_policy" "schedule" {
  name = "start"
  role = aws_iam_role.schedule.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "StartFunction"
        Effect   = "Allow"
        Action   = "lambda:InvokeFunction"
        Resource = aws_lambda_function.this.arn
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

# Scheduler publishes dropped invocations per group, so the schedule has its own group.
resource "aws_scheduler_schedule_group" "this" {
  name = var.function_name
  tags = local.tags
}

resource "aws_scheduler_schedule" "this" {
  #checkov:skip=CKV_AWS_297: the schedule holds an expression and an empty input, nothing to protect

  name                = var.function_name
  description         = "Starts a full run of ${var.function_name}."
  group_name          = aws_scheduler_schedule_group.this.name
  schedule_expression = var.schedule

  # A few minutes of slack spread the calls of many deployments.
  flexible_time_window {
    mode                      = "FLEXIBLE"
    maximum_window_in_minutes = 5
  }

  target {
    arn      = aws_lambda_function.this.arn
    role_arn = aws_iam_role.schedule.arn
    # Marks the run as the schedule's: without it the function could not distinguish it from a manual call.
    input = jsonencode({ source = "aws.scheduler", "detail-type" = "Scheduled Event" })

    retry_policy {
      maximum_retry_attempts       = 10
      maximum_event_age_in_seconds = 3600
    }

    dead_letter_config {
      arn = aws_sqs_queue.failed.arn
    }
  }

  # The first run needs everything that it observes. A removal deletes the schedule first.
  depends_on = [
    aws_cloudformation_stack_set.members,
    aws_iam_role_policy.connector,
    aws_iam_role_policy.schedule,
    aws_lambda_function_event_invoke_config.this,
    aws_s3_bucket_lifecycle_configuration.exports,
    aws_s3_bucket_policy.exports,
    aws_s3_bucket_public_access_block.exports,
    aws_s3_bucket_server_side_encryption_configuration.exports,
  ]
}
