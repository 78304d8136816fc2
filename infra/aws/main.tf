data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

data "aws_region" "home" {
  provider = aws.home
}

data "aws_organizations_organization" "current" {
  count = local.management ? 1 : 0
}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id

  # Where a partition keeps its one export service and reports what happens in organizations.
  home_regions = {
    aws        = "us-east-1"
    aws-us-gov = "us-gov-west-1"
    aws-cn     = "cn-northwest-1"
    aws-eusc   = "eusc-de-east-1"
  }
  home = lookup(local.home_regions, local.partition, "none")

  principals = {
    prod = "arn:aws:iam::336268260260:role/TailpipeConnector-Prod"
    uat  = "arn:aws:iam::336268260260:role/TailpipeConnector-UAT"
  }
  # A role cannot trust a principal of another partition.
  principal = var.tailpipe_principal_arn != null ? var.tailpipe_principal_arn : local.partition == "aws" ? local.principals[var.environment] : ""

  management = var.account_kind == "management"
  connector  = local.principal != ""
  # In China, CloudFormation offers no service-managed StackSets.
  members = local.management && local.connector && local.partition != "aws-cn"

  organization = local.management ? data.aws_organizations_organization.current[0] : null
  selected     = length(var.include_accounts) + length(var.exclude_accounts) + length(var.include_ous) > 0

  bucket     = coalesce(var.bucket_name, "tailpipe-dataexport-${local.account}")
  bucket_arn = "arn:${local.partition}:s3:::${local.bucket}"

  tags = merge(var.tags, { managed-by = "tailpipe-exports" })

  # Minutes from one run to the next; null for a cron expression whose period is not given.
  rate = try(regex("^rate\\((\\d+) (minute|hour|day)s?\\)$", var.schedule), null)
  period_minutes = (
    var.schedule_period_minutes != null ? var.schedule_period_minutes
    : local.rate != null ? tonumber(local.rate[0]) * { minute = 1, hour = 60, day = 1440 }[local.rate[1]]
    : null
  )

  conditions = {
    management = local.management
    members    = local.members
    connector  = local.connector
    units      = local.management && length(var.include_ous) > 0
    carbon     = contains(var.exports, "carbon")
    kms        = var.kms_key_arn != null
    notify     = var.notify_secret != null
    fleet      = var.fleet
    events     = var.events
    deliveries = var.delivery_events
    # For the collector, which announces deliveries as the function does.
    deliveries_kms    = var.delivery_events && var.kms_key_arn != null
    deliveries_notify = var.delivery_events && var.notify_secret != null
    # China's IAM records in cn-north-1, where no rule is made.
    connector_events = local.connector && local.partition != "aws-cn"
  }
  # What the names in rights.yaml and events.json stand for.
  names = {
    partition      = local.partition
    account        = local.account
    region         = local.region
    home           = local.home
    bucket         = local.bucket
    prefix         = var.export_prefix
    function_name  = var.function_name
    stackset_name  = var.stackset_name
    connector_role = var.connector_role_name
    kms_key        = var.kms_key_arn != null ? var.kms_key_arn : ""
    dns_suffix     = data.aws_partition.current.dns_suffix
    failed_queue   = "${var.function_name}-failed"
    events_queue   = "${var.function_name}-events"
    deliveries     = "${var.function_name}-deliveries"
    notify_secret  = var.notify_secret != null ? var.notify_secret : ""
    tenant_role    = var.tenant_role_name
    rounds         = local.rounds_name
    tenant_prefix  = "${var.export_prefix}/PAYER/TENANT"
  }
  rights = yamldecode(templatefile("${path.module}/rights.yaml", local.names))
  grants = {
    for identity in ["collector", "connector", "function", "rounds", "tenant_connector"] : identity => [
      for grant in local.rights[identity] : grant if contains(keys(grant), "when") ? local.conditions[grant.when] : true
    ]
  }
  policies = {
    for identity, grants in merge(local.grants, local.tenant_grants) : identity => jsonencode({
      Version = "2012-10-17"
      Statement = [
        for grant in grants : merge(
          { Sid = grant.id, Effect = "Allow", Action = grant.actions, Resource = grant.resources },
          try({ Condition = grant.condition }, {}),
        )
      ]
    })
  }
}

# Refuses combinations that no single variable's validation can detect, before anything is created.
resource "terraform_data" "inputs" {
  lifecycle {
    precondition {
      condition     = contains(keys(local.home_regions), local.partition)
      error_message = "Deploy in a partition that has BCM Data Exports (${join(", ", keys(local.home_regions))}); ${local.partition} does not have it."
    }
    precondition {
      # In a partition without exports the message above is sufficient.
      condition     = !contains(keys(local.home_regions), local.partition) || data.aws_region.home.id == local.home
      error_message = "Set the region of the provider passed as aws.home to ${local.home}, where partition ${local.partition} reports new accounts; it is ${data.aws_region.home.id}."
    }
    precondition {
      condition     = local.organization == null || try(local.organization.master_account_id, "") == local.account
      error_message = "Deploy with credentials of the management account ${try(local.organization.master_account_id, "")}, since account ${local.account} is a member of its organization, or set account_kind = \"standalone\" to export this account's own costs only."
    }
    precondition {
      condition     = var.account_kind == "management" || !local.selected
      error_message = "Remove include_accounts, exclude_accounts and include_ous, since a standalone account has no members, or set account_kind = \"management\"."
    }
    precondition {
      condition     = !local.members || try(local.organization.feature_set, "ALL") == "ALL"
      error_message = "Set account_kind = \"standalone\" to export all costs without roles in member accounts, or run `aws organizations enable-all-features` and let every invited account approve, since the organization has consolidated billing only and StackSets need all features."
    }
    precondition {
      condition     = !(var.auto_deployment == true && local.selected)
      error_message = "Set auto_deployment to false or remove the selection of accounts, since CloudFormation would deploy to every account that joins, selected or not."
    }
    precondition {
      condition     = length(setintersection(var.include_accounts, var.exclude_accounts)) == 0
      error_message = "Remove ${join(", ", setintersection(var.include_accounts, var.exclude_accounts))} from include_accounts or from exclude_accounts."
    }
    precondition {
      condition     = var.tailpipe_principal_arn == null || split(":", coalesce(var.tailpipe_principal_arn, ":"))[1] == local.partition
      error_message = "Set tailpipe_principal_arn to a principal of partition ${local.partition}, since a role cannot trust one of another partition."
    }
    precondition {
      condition     = var.kms_key_arn == null || (split(":", coalesce(var.kms_key_arn, ":::"))[1] == local.partition && split(":", coalesce(var.kms_key_arn, ":::"))[3] == local.region)
      error_message = "Set kms_key_arn to a key in ${local.region}, the region of the bucket."
    }
    precondition {
      condition     = var.notify_secret == null || split(":", coalesce(var.notify_secret, ":"))[1] == local.partition
      error_message = "Set notify_secret to a secret of partition ${local.partition}."
    }
    precondition {
      condition     = local.connector || length(local.tenant_connectors) == 0
      error_message = "Set tailpipe_principal_arn to the role that Tailpipe reads as, since partition ${local.partition} has no principal of its own, or remove tenant_connectors."
    }
    precondition {
      condition     = nonsensitive(alltrue([for one in values(var.tenant_connectors) : !contains(local.external_ids, one.external_id)]))
      error_message = "Set in tenant_connectors an External ID of its own for each tenant, not that of external_id or external_id_previous, which opens the whole prefix."
    }
    precondition {
      condition     = try(local.period_minutes >= 15 && local.period_minutes <= 1440, false)
      error_message = "Set schedule to a rate from 15 minutes to one day, or for a cron expression set schedule_period_minutes to the minutes between two runs, so that missed runs are noticed."
    }
    precondition {
      condition     = !local.members || var.organizations_access == "activate" || contains(try(local.organization.aws_service_access_principals, []), "member.org.stacksets.cloudformation.amazonaws.com")
      error_message = "Run `aws cloudformation activate-organizations-access` in the management account, or set organizations_access = \"activate\" to have it run."
    }
  }
}
