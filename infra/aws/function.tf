locals {
  # The function compares External IDs without holding one: it gets salted hashes, each "salt:sha256(salt + id)" in
  # hexadecimal. Terraform cannot hash raw bytes, so the salt's bytes are 32 letters and digits.
  salt       = replace(terraform_data.salt.output, "-", "")
  hex_digits = { a = "61", b = "62", c = "63", d = "64", e = "65", f = "66" }
  salt_hex   = join("", [for letter in split("", local.salt) : lookup(local.hex_digits, letter, "3${letter}")])
  external_ids = concat(
    [var.external_id],
    var.external_id_previous == null ? [] : [var.external_id_previous],
  )

  own_settings = {
    ACCOUNT_KIND           = var.account_kind
    BUCKET_NAME            = local.bucket
    BUCKET_REGION          = local.region
    EXPORT_PREFIX          = var.export_prefix
    EXPORTS                = join(",", var.exports)
    INCLUDE_ACCOUNTS       = join(",", var.include_accounts)
    EXCLUDE_ACCOUNTS       = join(",", var.exclude_accounts)
    INCLUDE_OUS            = join(",", var.include_ous)
    STACKSET_NAME          = var.stackset_name
    MEMBER_ROLE_NAME       = var.member_role_name
    CONNECTOR_ROLE_NAME    = var.connector_role_name
    TAILPIPE_ENVIRONMENT   = var.environment
    TAILPIPE_PRINCIPAL_ARN = local.principal
    EXTERNAL_ID_HASH       = join(",", [for id in local.external_ids : "${local.salt_hex}:${sha256("${local.salt}${id}")}"])
    KMS_KEY_ARN            = var.kms_key_arn == null ? "" : var.kms_key_arn
    CALL_BUDGET            = tostring(var.call_budget)
    NOTIFY_URL             = var.notify_secret == null ? "" : var.notify_secret
    NOTIFY_DIGEST          = var.notify_digest ? "weekly" : "off"
    PUBLISH_PAGE           = var.publish_page ? "1" : "0"
    DELTAS                 = var.delivery_events ? "1" : "0"
    DELIVERY_TOPIC         = var.delivery_events ? aws_sns_topic.deliveries["deliveries"].arn : ""
    POWERTOOLS_LOG_LEVEL   = var.log_level
  }
  # A reservation caps the tenants that are served at once. Two more calls may run: one for this deployment itself, and
  # the beginning or the end of a round.
  reserved_concurrency = var.fleet && var.reserved_concurrency > 0 ? var.fleet_concurrency + 2 : var.reserved_concurrency

  # The settings that the function and the collector need to announce deliveries.
  announcing = ["BUCKET_REGION", "EXPORT_PREFIX", "DELTAS", "DELIVERY_TOPIC", "NOTIFY_URL"]
  settings   = merge(var.settings, local.own_settings)
}

# One random salt for the deployment's life; a new one with each plan would change the function each time.
resource "terraform_data" "salt" {
  input = uuid()

  lifecycle {
    ignore_changes = [input]
  }
}

# Created here and not by Lambda, so that it has a retention and is removed with the rest.
resource "aws_cloudwatch_log_group" "function" {
  #checkov:skip=CKV_AWS_338: the operator chooses by log_retention_days; CloudTrail is the audit trail, not this log

  name              = "/aws/lambda/${var.function_name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = local.tags
}

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_116: failed events go to the queue by the on-failure destination, which keeps the reason too
  #checkov:skip=CKV_AWS_117: it talks to AWS's public interfaces only; in a VPC it would need a way out and gain nothing
  #checkov:skip=CKV_AWS_272: the operator builds the zip from source and its hash is in the plan; a signing profile would be theirs
  #checkov:skip=CKV_AWS_173: the environment holds no secret, only a salted hash; Lambda encrypts it with its own key
  #checkov:skip=CKV_AWS_50: each run counts its calls in its report, and the role stays without a right to write traces

  function_name    = var.function_name
  description      = "Keeps Tailpipe's cost exports alive."
  role             = aws_iam_role.function.arn
  handler          = "aws_lambda.handler.handler"
  runtime          = "python3.13"
  architectures    = ["arm64"]
  filename         = var.package
  source_code_hash = filebase64sha256(var.package)
  memory_size      = var.memory_mb
  timeout          = var.timeout_seconds
  tags             = local.tags

  # Two runs at once do no harm, but cost calls. An event that arrives during a run waits in Lambda's queue, or is
  # refused by the lease of the run in progress where tenants are served too.
  reserved_concurrent_executions = local.reserved_concurrency

  environment {
    variables = local.settings
  }

  depends_on = [
    aws_cloudwatch_log_group.function,
    aws_iam_role_policy.function,
    terraform_data.inputs,
  ]
}

# A queue and not the topic takes failed events: it keeps them, with the reason, until a person has read them.
resource "aws_sqs_queue" "failed" {
  name                      = "${var.function_name}-failed"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
  tags                      = local.tags
}

resource "aws_sqs_queue_policy" "failed" {
  queue_url = aws_sqs_queue.failed.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = aws_sqs_queue.failed.arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }],
      [for collector in local.collectors : {
        Sid       = "Events"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.failed.arn
        Condition = {
          ArnEquals = {
            "aws:SourceArn" = concat(
              [for rule in aws_cloudwatch_event_rule.events : rule.arn],
              [for rule in aws_cloudwatch_event_rule.deliveries : rule.arn],
            )
          }
        }
      }],
    )
  })
}

resource "aws_lambda_function_event_invoke_config" "this" {
  function_name = aws_lambda_function.this.function_name

  # One retry helps against a crash; the next scheduled run handles what a second attempt cannot correct.
  maximum_retry_attempts       = 1
  maximum_event_age_in_seconds = 3600

  destination_config {
    on_failure {
      destination = aws_sqs_queue.failed.arn
    }
  }
}
