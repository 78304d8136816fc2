# No resource of the provider switches on StackSets' access to the organization, so the AWS CLI does. It is
# never switched off again on purpose: other StackSets of the organization depend on it.
resource "terraform_data" "organizations_access" {
  count = local.members && var.organizations_access == "activate" ? 1 : 0

  input = local.account
  # An organization trusts StackSets or does not: an account that manages another one than before asks again.
  triggers_replace = [local.organization.id]

  provisioner "local-exec" {
    interpreter = ["/bin/sh"]
    command     = "${path.module}/activate-organizations-access.sh"

    environment = {
      EXPECTED_ACCOUNT = local.account
      AWS_REGION       = local.region
      ALREADY          = contains(try(local.organization.aws_service_access_principals, []), "member.org.stacksets.cloudformation.amazonaws.com")
    }
  }

  depends_on = [terraform_data.inputs]
}

locals {
  # One rule or none. Sets instead of counts, so that dependent resources are addressed by name.
  account_rules   = toset(local.members && var.account_events ? ["accounts"] : [])
  forwarded_rules = toset([for rule in local.account_rules : rule if local.region != local.home])

  account_event_pattern = jsonencode({
    source      = ["aws.organizations"]
    detail-type = ["AWS API Call via CloudTrail", "AWS Service Event via CloudTrail"]
    detail = {
      eventSource = ["organizations.amazonaws.com"]
      eventName = [
        "AcceptHandshake",
        "AccountDepartedOrganization",
        "AccountJoinedOrganization",
        "CreateAccountResult",
        "MoveAccount",
      ]
    }
  })
}

resource "aws_cloudwatch_event_rule" "accounts" {
  for_each = local.account_rules

  name          = "${var.function_name}-accounts"
  description   = "An account was created, joined or moved: it gets its run at once."
  event_pattern = local.account_event_pattern
  state         = "ENABLED"
  tags          = local.tags
}

resource "aws_cloudwatch_event_target" "accounts" {
  for_each = local.account_rules

  rule      = aws_cloudwatch_event_rule.accounts[each.key].name
  target_id = "function"
  arn       = aws_lambda_function.this.arn

  dead_letter_config {
    arn = aws_sqs_queue.failed.arn
  }
}

resource "aws_lambda_permission" "accounts" {
  for_each = local.account_rules

  statement_id  = "AccountEvents"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.this.function_name
  principal     = "events.amazonaws.com"

  # The rule's ARN holds the account. With source_account in addition, EventBridge could not invoke the function at all.
  source_arn = aws_cloudwatch_event_rule.accounts[each.key].arn
}

# Organizations reports in the partition's home region only; a rule forwards the events to the function's region.
resource "aws_cloudwatch_event_rule" "home" {
  for_each = local.forwarded_rules
  provider = aws.home

  name          = "${var.function_name}-accounts"
  description   = "An account was created, joined or moved: passed on to ${local.region}."
  event_pattern = local.account_event_pattern
  state         = "ENABLED"
  tags          = local.tags
}

resource "aws_cloudwatch_event_target" "home" {
  for_each = local.forwarded_rules
  provider = aws.home

  rule      = aws_cloudwatch_event_rule.home[each.key].name
  target_id = "forward"
  arn       = "arn:${local.partition}:events:${local.region}:${local.account}:event-bus/default"
  role_arn  = aws_iam_role.forward[each.key].arn

  dead_letter_config {
    arn = aws_sqs_queue.home[each.key].arn
  }

  # Until then, events that cannot be forwarded would be lost silently.
  depends_on = [aws_sqs_queue_policy.home]
}

# A rule's dead letters go to a queue of its own region. No alarm watches this one: an event that is lost costs one
# period of the schedule, and the alarms' topic is in the function's region.
resource "aws_sqs_queue" "home" {
  for_each = local.forwarded_rules
  provider = aws.home

  name                      = "${var.function_name}-failed"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
  tags                      = local.tags
}

resource "aws_sqs_queue_policy" "home" {
  for_each = local.forwarded_rules
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
        Sid       = "AccountEvents"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.home[each.key].arn
        Condition = { ArnEquals = { "aws:SourceArn" = aws_cloudwatch_event_rule.home[each.key].arn } }
      },
    ]
  })
}

resource "aws_iam_role" "forward" {
  for_each = local.forwarded_rules

  name                 = "${var.function_name}-forward"
  description          = "Lets EventBridge pass account events on to ${local.region}."
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
        ArnEquals    = { "aws:SourceArn" = aws_cloudwatch_event_rule.home[each.key].arn }
      }
    }]
  })
}

resource "aws_iam_role_policy" "forward" {
  for_each = local.forwarded_rules

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
