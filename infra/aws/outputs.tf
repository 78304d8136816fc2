output "function_name" {
  description = "The function's name."
  value       = aws_lambda_function.this.function_name
}

output "function_id" {
  description = "The function's ARN."
  value       = aws_lambda_function.this.arn
}

output "function_identity" {
  description = "The ARN of the role that the function runs as."
  value       = aws_iam_role.function.arn
}

output "destination" {
  description = "Where exports are delivered: bucket, arn, region, prefix."
  value = {
    bucket = aws_s3_bucket.exports.bucket
    arn    = aws_s3_bucket.exports.arn
    region = local.region
    prefix = var.export_prefix
  }
}

output "state" {
  description = "Where the function stores its state and its reports: bucket, key, reports."
  value = {
    bucket  = aws_s3_bucket.exports.bucket
    key     = "state/known_accounts.json"
    reports = "runs/"
  }
}

output "schedule" {
  description = "What starts the function: name, group, expression, role."
  value = {
    name       = aws_scheduler_schedule.this.name
    group      = aws_scheduler_schedule_group.this.name
    expression = aws_scheduler_schedule.this.schedule_expression
    role       = aws_iam_role.schedule.arn
  }
}

output "connector" {
  description = "The roles that Tailpipe reads with: role_name, role_arn, principal, member_role_name, stackset_name; null without such roles."
  value = local.connector ? {
    role_name        = aws_iam_role.connector[0].name
    role_arn         = aws_iam_role.connector[0].arn
    principal        = local.principal
    member_role_name = local.members ? var.member_role_name : null
    stackset_name    = local.members ? aws_cloudformation_stack_set.members[0].name : null
  } : null
}

output "tenant_connectors" {
  description = "By tenant id, the role that Tailpipe reads this tenant's exports with, and where they are: role_arn, bucket, region, prefix."
  value = {
    for tenant, role in aws_iam_role.tenant_connector : tenant => {
      role_arn = role.arn
      bucket   = aws_s3_bucket.exports.bucket
      region   = local.region
      prefix   = local.tenant_prefixes[tenant]
    }
  }
}

output "logs" {
  description = "The log group that holds the function's log."
  value       = aws_cloudwatch_log_group.function.name
}

output "failed_events" {
  description = "The URL of the queue that keeps the events of failed and undelivered runs."
  value       = aws_sqs_queue.failed.url
}

output "notifications" {
  description = "The ARN of the topic that the alarms publish to."
  value       = aws_sns_topic.alarms.arn
}

output "delivery_topic" {
  description = "The ARN of the FIFO topic on which deliveries are published; null without delivery_events."
  value       = one([for topic in aws_sns_topic.deliveries : topic.arn])
}

output "rounds" {
  description = "What starts the rounds over the tenants: state_machine (its ARN), schedule, group, reports; null without fleet."
  value = one([for key, machine in aws_sfn_state_machine.rounds : {
    state_machine = machine.arn
    schedule      = aws_scheduler_schedule.rounds[key].name
    group         = aws_scheduler_schedule_group.rounds[key].name
    reports       = "runs/rounds/"
  }])
}

output "alarms" {
  description = "The names of the alarms."
  value       = sort([for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_name])
}

output "granted" {
  description = "The grants of rights.yaml that this deployment makes, by holder: collector, connector, function, rounds, tenant_connector."
  value = {
    for identity, grants in local.grants : identity => [for grant in grants : grant.id]
    if { collector = var.events || var.delivery_events, connector = local.connector, function = true, rounds = var.fleet, tenant_connector = length(local.tenant_connectors) > 0 }[identity]
  }
}

output "settings" {
  description = "The function's environment; sensitive, since it holds the External ID's salted hash."
  value       = local.settings
  sensitive   = true
}

output "kms_key_policy" {
  description = "The statements that the policy of a customer-managed key needs, as a JSON list."
  value = jsonencode([
    {
      Sid       = "TailpipeDataExports"
      Effect    = "Allow"
      Principal = { Service = local.export_principals }
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = "*"
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    },
    {
      Sid       = "TailpipeLog"
      Effect    = "Allow"
      Principal = { Service = "logs.${local.region}.${data.aws_partition.current.dns_suffix}" }
      Action    = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
      Resource  = "*"
      Condition = {
        ArnEquals = { "kms:EncryptionContext:aws:logs:arn" = "arn:${local.partition}:logs:${local.region}:${local.account}:log-group:/aws/lambda/${var.function_name}" }
      }
    },
  ])
}

output "onboarding" {
  description = "What Tailpipe needs to connect; sensitive, since it holds the External ID."
  sensitive   = true
  value = {
    awsAccountNumber    = local.account
    region              = local.region
    isManagementAccount = local.management
    organizationRootId  = try(local.organization.roots[0].id, null)
    tailpipe = {
      externalId       = var.external_id
      connectorRoleArn = local.connector ? local.principal : null
    }
    costExport = {
      name     = "tailpipe-dataexport"
      s3Bucket = aws_s3_bucket.exports.bucket
      s3Prefix = var.export_prefix
      # The function makes the export; `tailpipe-exports` fills its ARN in.
      exportArn = null
      bcmRegion = local.home
    }
    iamRole = {
      name = try(aws_iam_role.connector[0].name, null)
      arn  = try(aws_iam_role.connector[0].arn, null)
    }
    childAccounts = {
      configured       = local.members
      count            = null
      allAccounts      = local.members && !local.selected
      selectedAccounts = var.include_accounts
      childRoleName    = local.members ? var.member_role_name : null
      stackSetName     = local.members ? var.stackset_name : null
    }
  }
}
