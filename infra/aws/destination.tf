# Every run verifies this bucket and repairs what exports need, by the same statement ids and rule ids. The definitions
# here and in aws_lambda/resources/bucket_policy.py must stay equal.
resource "aws_s3_bucket" "exports" {
  #checkov:skip=CKV_AWS_18: CloudTrail's data events show who reads; access logs would need a second bucket
  #checkov:skip=CKV2_AWS_62: the operator chooses by delivery_events; without it the function lists deliveries
  #checkov:skip=CKV_AWS_144: AWS delivers the current months again every day, and the state can be lost without harm

  bucket        = local.bucket
  force_destroy = var.delete_data_on_destroy
  tags          = local.tags
}

resource "aws_s3_bucket_public_access_block" "exports" {
  bucket = aws_s3_bucket.exports.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "exports" {
  bucket = aws_s3_bucket.exports.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "exports" {
  bucket = aws_s3_bucket.exports.id

  rule {
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn != null ? "aws:kms" : "AES256"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

# Off by default: each day's delivery overwrites the month's files, so versions would multiply what is stored, and
# only the operator may delete.
resource "aws_s3_bucket_versioning" "exports" {
  count  = var.keep_overwritten_days > 0 ? 1 : 0
  bucket = aws_s3_bucket.exports.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "exports" {
  #checkov:skip=CKV_AWS_300: the first rule ends incomplete uploads; checkov does not see it beside a dynamic rule
  bucket = aws_s3_bucket.exports.id

  # The function's own rules are last, where a repair puts them, so that Terraform sees no difference after a repair.
  rule {
    id     = "abort-incomplete-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  # Also without versions: it removes older versions that are left from before.
  rule {
    id     = "expire-overwritten"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = max(1, var.keep_overwritten_days)
    }

    expiration {
      expired_object_delete_marker = true
    }
  }

  dynamic "rule" {
    for_each = local.announcers
    content {
      id     = "expire-deltas"
      status = "Enabled"

      filter {
        prefix = "${var.export_prefix}/deltas/"
      }

      expiration {
        days = var.delta_retention_days
      }
    }
  }

  rule {
    id     = "exports-to-cheaper-tiers"
    status = "Enabled"

    filter {
      prefix = "${var.export_prefix}/"
    }

    transition {
      days          = 90
      storage_class = "STANDARD_IA"
    }

    transition {
      days          = 365
      storage_class = "GLACIER_IR"
    }
  }

  rule {
    id     = "expire-run-reports"
    status = "Enabled"

    filter {
      prefix = "runs/"
    }

    expiration {
      days = 90
    }
  }

  depends_on = [aws_s3_bucket_versioning.exports]
}

locals {
  # The older service delivers too where it exists; S3 refuses a policy that names a principal which does not.
  export_principals = concat(
    ["bcm-data-exports.amazonaws.com"],
    contains(["aws", "aws-cn"], local.partition) ? ["billingreports.amazonaws.com"] : [],
  )
  own_statements = [
    {
      Sid       = "TailpipeTlsOnly"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = "s3:*"
      Resource  = [local.bucket_arn, "${local.bucket_arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    },
    {
      Sid       = "TailpipeDataExports"
      Effect    = "Allow"
      Principal = { Service = local.export_principals }
      Action    = ["s3:GetBucketPolicy", "s3:PutObject"]
      # The whole bucket, because the service writes a test object at its root.
      Resource = [local.bucket_arn, "${local.bucket_arn}/*"]
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account }
        ArnLike = {
          "aws:SourceArn" = [
            "arn:${local.partition}:bcm-data-exports:${local.home}:${local.account}:export/*",
            "arn:${local.partition}:cur:${local.home}:${local.account}:definition/*",
          ]
        }
      }
    },
  ]
  registry_files = { TailpipeRegistry = "tenants.json", TailpipeTenantRole = "tenant-role.yaml" }
  # Whoever deploys writes the template, in the list or not.
  registry_writers = { TailpipeRegistry = var.registry_writers, TailpipeTenantRole = [] }
  # The function has no right to write the registry. This also holds where another policy grants one by mistake.
  # Nor may the template of a tenant's role be changed, by which tenants let the function in.
  registry_statements = [for sid, file in var.fleet ? local.registry_files : {} : {
    Sid       = sid
    Effect    = "Deny"
    Principal = { AWS = "*" }
    Action    = ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObject"]
    Resource  = ["${local.bucket_arn}/registry/${file}"]
    Condition = {
      for operator, roles in {
        ArnNotLike = local.registry_writers[sid]
        ArnLike    = length(local.registry_writers[sid]) > 0 ? [] : local.own_roles
      } : operator => { "aws:PrincipalArn" = roles } if length(roles) > 0
    }
  }]
  # The function keeps this statement, which lists the payers in the registry. Terraform writes it back as it is, and
  # drops it without `fleet`. A data source cannot read it, since it would fail while there is no bucket or no policy. The
  # bucket's attribute is deprecated as an argument; a plain reference would warn about that in each plan.
  tenant_statements = flatten([
    for policy in var.fleet ? [lookup(aws_s3_bucket.exports, "policy", "")] : [] : [
      for statement in try(flatten([jsondecode(policy).Statement]), []) :
      statement if try(statement.Sid, "") == "TailpipeTenantExports"
    ]
  ])
  own_roles = [
    for name in [var.function_name, local.events_name, local.rounds_name, var.connector_role_name] :
    "arn:${local.partition}:iam::${local.account}:role/${name}"
  ]
  further_statements = var.extra_bucket_policy == null ? [] : flatten([jsondecode(var.extra_bucket_policy).Statement])
}

resource "aws_s3_bucket_policy" "exports" {
  bucket = aws_s3_bucket.exports.id

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = concat(local.further_statements, local.registry_statements, local.own_statements, local.tenant_statements)
  })

  # S3 takes no two changes of access at once.
  depends_on = [aws_s3_bucket_public_access_block.exports, aws_s3_bucket_ownership_controls.exports]
}
