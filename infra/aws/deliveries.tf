# Deliveries are announced to who reads them: S3 reports each new manifest, the collector stores a document of what
# changed beside the exports, and publishes it. Runs announce what no event named.
locals {
  announcers      = toset(var.delivery_events ? ["deliveries"] : [])
  deliveries_name = "${var.function_name}-deliveries"
}

resource "aws_sns_topic" "deliveries" {
  #checkov:skip=CKV_AWS_26: events hold names and figures only, and a key of AWS would keep other accounts from subscribing
  for_each = local.announcers

  # A FIFO topic keeps the order of each period's deliveries.
  name       = "${local.deliveries_name}.fifo"
  fifo_topic = true
  tags       = local.tags
}

resource "aws_sns_topic_policy" "deliveries" {
  for_each = local.announcers

  arn = aws_sns_topic.deliveries[each.key].arn

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.deliveries[each.key].arn
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}

resource "aws_s3_bucket_notification" "deliveries" {
  for_each = local.announcers

  bucket      = aws_s3_bucket.exports.id
  eventbridge = true
}

resource "aws_cloudwatch_event_rule" "deliveries" {
  for_each = local.announcers

  name          = local.deliveries_name
  description   = "An export was delivered: its manifest was written."
  event_pattern = jsonencode(jsondecode(templatefile("${path.module}/deliveries.json", local.names)))
  state         = "ENABLED"
  tags          = local.tags
}

resource "aws_cloudwatch_event_target" "deliveries" {
  for_each = local.announcers

  rule      = aws_cloudwatch_event_rule.deliveries[each.key].name
  target_id = "queue"
  arn       = aws_sqs_queue.deliveries[each.key].arn

  dead_letter_config {
    arn = aws_sqs_queue.failed.arn
  }

  # Until then, events that cannot be queued would be lost silently.
  depends_on = [aws_sqs_queue_policy.deliveries, aws_sqs_queue_policy.failed]
}

resource "aws_sqs_queue" "deliveries" {
  for_each = local.announcers

  name                       = local.deliveries_name
  message_retention_seconds  = 1209600
  sqs_managed_sse_enabled    = true
  visibility_timeout_seconds = 6 * local.collector_timeout
  tags                       = local.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.failed.arn
    maxReceiveCount     = 5
  })
}

resource "aws_sqs_queue_policy" "deliveries" {
  for_each = local.announcers

  queue_url = aws_sqs_queue.deliveries[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = aws_sqs_queue.deliveries[each.key].arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "Events"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.deliveries[each.key].arn
        Condition = { ArnEquals = { "aws:SourceArn" = aws_cloudwatch_event_rule.deliveries[each.key].arn } }
      },
    ]
  })
}

resource "aws_lambda_event_source_mapping" "deliveries" {
  for_each = local.announcers

  event_source_arn = aws_sqs_queue.deliveries[each.key].arn
  function_name    = aws_lambda_function.collector["events"].arn
  # Exports are delivered one after another; what comes within seconds is announced together.
  batch_size                         = 100
  maximum_batching_window_in_seconds = 5

  scaling_config {
    maximum_concurrency = 2
  }
}
