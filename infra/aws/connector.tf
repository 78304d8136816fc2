# The role that Tailpipe assumes in this account; rights.yaml lists what it may read.
resource "aws_iam_role" "connector" {
  count = local.connector ? 1 : 0

  name                 = var.connector_role_name
  description          = "Lets Tailpipe read the delivered cost exports and CloudWatch metrics."
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Tailpipe"
      Effect    = "Allow"
      Principal = { AWS = local.principal }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "sts:ExternalId" = local.external_ids } }
    }]
  })
}

resource "aws_iam_role_policy" "connector" {
  count = local.connector ? 1 : 0

  name   = "tailpipe-read"
  role   = aws_iam_role.connector[0].id
  policy = local.policies.connector
}

# Removes every other policy of the role, including those of an earlier deployment.
resource "aws_iam_role_policies_exclusive" "connector" {
  count = local.connector ? 1 : 0

  role_name    = aws_iam_role.connector[0].name
  policy_names = [aws_iam_role_policy.connector[0].name]
}

resource "aws_iam_role_policy_attachments_exclusive" "connector" {
  count = local.connector ? 1 : 0

  role_name   = aws_iam_role.connector[0].name
  policy_arns = []
}

# Tailpipe reads the exports of a tenant in this bucket by a role of the tenant's own, which sees no other tenant's files,
# and no metrics of this account.
locals {
  tenant_connectors = { for tenant in nonsensitive(keys(var.tenant_connectors)) : tenant => "${var.connector_role_name}-${tenant}" }
  tenant_prefixes   = nonsensitive({ for tenant, one in var.tenant_connectors : tenant => "${var.export_prefix}/${one.payer}/${tenant}" })
  tenant_grants = {
    for tenant, prefix in local.tenant_prefixes : "tenant_connector/${tenant}" => [
      for grant in yamldecode(templatefile("${path.module}/rights.yaml", merge(local.names, { tenant_prefix = prefix }))).tenant_connector :
      grant if contains(keys(grant), "when") ? local.conditions[grant.when] : true
    ]
  }
}

resource "aws_iam_role" "tenant_connector" {
  for_each = local.tenant_connectors

  name                 = each.value
  description          = "Lets Tailpipe read the delivered cost exports of tenant ${each.key}."
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Tailpipe"
      Effect    = "Allow"
      Principal = { AWS = local.principal }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "sts:ExternalId" = var.tenant_connectors[each.key].external_id } }
    }]
  })

  lifecycle {
    # Here and not with the others: the provider refuses the name in its own words wherever this does not stop it.
    precondition {
      condition     = length(each.value) <= 64
      error_message = "Set connector_role_name to fewer characters, since the role of a tenant in tenant_connectors is named after it, with - and the tenant's id, and a name has at most 64."
    }
  }
}

resource "aws_iam_role_policy" "tenant_connector" {
  for_each = local.tenant_connectors

  name   = "tailpipe-read"
  role   = aws_iam_role.tenant_connector[each.key].id
  policy = local.policies["tenant_connector/${each.key}"]
}

resource "aws_iam_role_policies_exclusive" "tenant_connector" {
  for_each = local.tenant_connectors

  role_name    = aws_iam_role.tenant_connector[each.key].name
  policy_names = [aws_iam_role_policy.tenant_connector[each.key].name]
}

resource "aws_iam_role_policy_attachments_exclusive" "tenant_connector" {
  for_each = local.tenant_connectors

  role_name   = aws_iam_role.tenant_connector[each.key].name
  policy_arns = []
}

# The same trust in every member account, with metrics only. Its instances are the function's: it gives the role to
# accounts that have none and repairs it, so none are declared here.
resource "aws_cloudformation_stack_set" "members" {
  count = local.members ? 1 : 0

  name             = var.stackset_name
  description      = "The role with which Tailpipe reads metrics in member accounts."
  permission_model = "SERVICE_MANAGED"
  capabilities     = ["CAPABILITY_NAMED_IAM"]
  template_body    = file("${path.module}/child-connector.yaml")
  tags             = local.tags

  parameters = {
    ExternalId         = var.external_id
    ExternalIdPrevious = var.external_id_previous == null ? "" : var.external_id_previous
    PrincipalArn       = local.principal
    RoleName           = var.member_role_name
  }

  # CloudFormation would also create the role in accounts that are not selected.
  auto_deployment {
    enabled                          = var.auto_deployment == null ? !local.selected : var.auto_deployment
    retain_stacks_on_account_removal = false
  }

  # Operations of function and Terraform queue up instead of refusing each other.
  managed_execution {
    active = true
  }

  # An account that fails must not block a new template or External ID for the others.
  operation_preferences {
    failure_tolerance_percentage = 100
    max_concurrent_percentage    = 100
    region_concurrency_type      = "PARALLEL"
  }

  # A change goes through all member accounts.
  timeouts {
    update = "4h"
  }

  depends_on = [terraform_data.organizations_access]

  lifecycle {
    # CloudFormation sets it for service-managed StackSets.
    ignore_changes = [administration_role_arn]
  }
}
