# Events bring the function a run within minutes; the schedule finds the same later. Rules put what events.json lists
# into a queue; the collector merges a minute of them, and starts the function once for all. Of events whose other
# fields may hold the External ID (a trust policy, a StackSet's parameters), only the fields under `only` are put there.
locals {
  event_rules = {
    for name, rule in jsondecode(templatefile("${path.module}/events.json", local.names)) : name => rule
    if var.events && (rule.when == "" ? true : local.conditions[rule.when])
  }
  # One collector or none. Sets instead of counts, so that dependent resources are addressed by name.
  collectors   = toset(var.events || var.delivery_events ? ["events"] : [])
  event_queues = toset(var.events ? ["events"] : [])
  # Some services report in the partition's home region only; rules there forward to the function's region.
  forwarded_rules = { for name, rule in local.event_rules : name => rule if rule.home && local.region != local.home }
  forwarders      = toset(length(local.forwarded_rules) > 0 ? ["forward"] : [])

  events_name       = "${var.function_name}-events"
  collector_timeout = 60
}

# Up to 0.2.0, the rule for accounts stood alone. It keeps its name, so it may not be deleted beside its creation.
moved {
  from = aws_cloudwatch_event_rule.accounts["accounts"]
  to   = aws_cloudwatch_event_rule.events["accounts"]
}

moved {
  from = aws_cloudwatch_event_target.accounts["accounts"]
  to   = aws_cloudwatch_event_target.events["accounts"]
}

resource "aws_cloudwatch_event_rule" "events" {
  for_each = local.event_rules

  name          = "${var.function_name}-${each.key}"
  description   = each.value.why
  event_pattern = jsonencode(each.value.pattern)
  state         = "ENABLED"
  tags          = local.tags
}

resource "aws_cloudwatch_event_target" "events" {
  for_each = local.event_rules

  rule      = aws_cloudwatch_event_rule.events[each.key].name
  target_id = "queue"
  arn       = aws_sqs_queue.events["events"].arn

  # All paths exist in each event that the pattern matches: what becomes of one that does not is not documented well.
  dynamic "input_transformer" {
    for_each = each.value.only[*]
    content {
      input_paths    = input_transformer.value.paths
      input_template = input_transformer.value.template
    }
  }

  # AWS does not document whether a dead letter is the whole event, so events that may hold a secret have none.
  dynamic "dead_letter_config" {
    for_each = each.value.only == null ? ["failed"] : []
    content {
      arn = aws_sqs_queue.failed.arn
    }
  }

  # Until then, events that cannot be queued would be lost silently.
  depends_on = [aws_sqs_queue_policy.events, aws_sqs_queue_policy.failed]
}

resource "aws_sqs_queue" "events" {
  for_each = local.event_queues

  name                      = local.events_name
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
  # Six times the collector's timeout, as Lambda recommends for a queue that it reads.
  visibility_timeout_seconds = 6 * local.collector_timeout
  tags                       = local.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.failed.arn
    maxReceiveCount     = 5
  })
}

resource "aws_sqs_queue_policy" "events" {
  for_each = local.event_queues

  queue_url = aws_sqs_queue.events[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = aws_sqs_queue.events[each.key].arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "Events"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.events[each.key].arn
        Condition = { ArnEquals = { "aws:SourceArn" = [for rule in aws_cloudwatch_event_rule.events : rule.arn] } }
      },
    ]
  })
}

resource "aws_cloudwatch_log_group" "collector" {
  #checkov:skip=CKV_AWS_338: the operator chooses by log_retention_days; CloudTrail is the audit trail, not this log
  for_each = local.collectors

  name              = "/aws/lambda/${local.events_name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = local.tags
}

# No concurrency is reserved: a throttled queue would send its messages to the dead letters.
resource "aws_lambda_function" "collector" {
  #checkov:skip=CKV_AWS_115: the event source mapping limits its concurrency; a reservation would throttle the queue
  #checkov:skip=CKV_AWS_116: the queue keeps a batch that fails, and moves it to its dead letters
  #checkov:skip=CKV_AWS_117: it talks to AWS's public interfaces only; in a VPC it would need a way out and gain nothing
  #checkov:skip=CKV_AWS_272: the operator builds the zip from source and its hash is in the plan; a signing profile would be theirs
  #checkov:skip=CKV_AWS_173: the environment holds names only; Lambda encrypts it with its own key
  #checkov:skip=CKV_AWS_50: its few calls are logged where they fail, and the role stays without a right to write traces
  for_each = local.collectors

  function_name    = local.events_name
  description      = "Merges events for ${var.function_name}, and announces deliveries."
  role             = aws_iam_role.collector[each.key].arn
  handler          = "aws_lambda.collector.handler"
  runtime          = "python3.13"
  architectures    = ["arm64"]
  filename         = var.package
  source_code_hash = filebase64sha256(var.package)
  memory_size      = 256
  timeout          = local.collector_timeout
  tags             = local.tags

  environment {
    variables = merge(
      {
        BUCKET_NAME          = local.bucket
        EXPORTS              = join(",", var.exports)
        STACKSET_NAME        = var.stackset_name
        CONNECTOR_ROLE_NAME  = var.connector_role_name
        FUNCTION_NAME        = aws_lambda_function.this.function_name
        FUNCTION_ROLE_ARN    = aws_iam_role.function.arn
        POWERTOOLS_LOG_LEVEL = var.log_level
      },
      # What is announced, and where, as the function has it.
      { for name, value in local.own_settings : name => value if var.delivery_events && contains(local.announcing, name) },
    )
  }

  depends_on = [aws_cloudwatch_log_group.collector, aws_iam_role_policy.collector]
}

resource "aws_lambda_event_source_mapping" "events" {
  for_each = local.event_queues

  event_source_arn = aws_sqs_queue.events[each.key].arn
  function_name    = aws_lambda_function.collector[each.key].arn
  # As many as Lambda takes into one batch, collected for as long as two runs for events are apart.
  batch_size                         = 10000
  maximum_batching_window_in_seconds = 60

  scaling_config {
    maximum_concurrency = 2
  }
}

resource "aws_iam_role" "collector" {
  for_each = local.collectors

  name                 = local.events_name
  description          = "Merges events for ${var.function_name}, and announces deliveries."
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Lambda"
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "collector" {
  for_each = local.collectors

  name   = "collect"
  role   = aws_iam_role.collector[each.key].id
  policy = local.policies.collector
}

resource "aws_cloudwatch_event_rule" "home" {
  for_each = local.forwarded_rules
  provider = aws.home

  name          = "${var.function_name}-${each.key}"
  description   = "${each.value.why} Passed on to ${local.region}."
  event_pattern = jsonencode(each.value.pattern)
  state         = "ENABLED"
  tags          = local.tags
}

resource "aws_cloudwatch_event_target" "home" {
  for_each = local.forwarded_rules
  provider = aws.home

  rule      = aws_cloudwatch_event_rule.home[each.key].name
  target_id = "forward"
  arn       = "arn:${local.partition}:events:${local.region}:${local.account}:event-bus/default"
  role_arn  = aws_iam_role.forward["forward"].arn

  # A forwarded event is whole.
  dynamic "dead_letter_config" {
    for_each = each.value.only == null ? ["failed"] : []
    content {
      arn = aws_sqs_queue.home["forward"].arn
    }
  }

  # Until then, events that cannot be forwarded would be lost silently.
  depends_on = [aws_sqs_queue_policy.home]
}

# A rule's dead letters go to a queue of its own region. No alarm watches this one: an event that is lost costs one
# period of the schedule, and the alarms' topic is in the function's region.
resource "aws_sqs_queue" "home" {
  for_each = local.forwarders
  provider = aws.home

  name                      = "${var.function_name}-failed"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
  tags                      = local.tags
}

resource "aws_sqs_queue_policy" "home" {
  for_each = local.forwarders
  provider = aws.home

  queue_url = aws_sqs_queue.home[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = aws_sqs_queue.home[each.key].arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "Events"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.home[each.key].arn
        Condition = { ArnEquals = { "aws:SourceArn" = [for rule in aws_cloudwatch_event_rule.home : rule.arn] } }
      },
    ]
  })
}

# Up to 0.2.0, the instances had the name of the only rule that was passed on.
moved {
  from = aws_iam_role.forward["accounts"]
  to   = aws_iam_role.forward["forward"]
}

moved {
  from = aws_iam_role_policy.forward["accounts"]
  to   = aws_iam_role_policy.forward["forward"]
}

resource "aws_iam_role" "forward" {
  for_each = local.forwarders

  name                 = "${var.function_name}-forward"
  description          = "Lets EventBridge pass events on to ${local.region}."
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "EventBridge"
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account }
        ArnEquals    = { "aws:SourceArn" = [for rule in aws_cloudwatch_event_rule.home : rule.arn] }
      }
    }]
  })
}

resource "aws_iam_role_policy" "forward" {
  for_each = local.forwarders

  name = "forward"
  role = aws_iam_role.forward[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "PassOn"
      Effect   = "Allow"
      Action   = "events:PutEvents"
      Resource = "arn:${local.partition}:events:${local.region}:${local.account}:event-bus/default"
    }]
  })
}
