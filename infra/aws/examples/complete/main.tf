# Selected accounts, a customer-managed key, a permissions boundary, all three datasets, alarms by e-mail, events of
# deliveries.
terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.75"
    }
  }
}

variable "external_id" {
  description = "The External ID that Tailpipe gave you."
  type        = string
  sensitive   = true
}

variable "external_id_previous" {
  description = "The External ID before, while it is being changed."
  type        = string
  default     = null
  sensitive   = true
}

variable "package" {
  description = "Path of the zip that `tailpipe-exports package aws --out DIR` made."
  type        = string
  default     = "../../../../dist/tailpipe-exports-aws.zip"
}

variable "kms_key_arn" {
  description = "A key of yours whose policy holds the statements of output kms_key_policy; null: encryption by S3 and CloudWatch Logs."
  type        = string
  default     = null
}

variable "permissions_boundary_arn" {
  description = "The boundary that your organization asks for on every role; null: none."
  type        = string
  default     = null
}

provider "aws" {
  region = "eu-west-1"
}

provider "aws" {
  alias  = "home"
  region = "us-east-1"
}

module "tailpipe_exports" {
  source = "../.."

  providers = {
    aws      = aws
    aws.home = aws.home
  }

  environment          = "prod"
  external_id          = var.external_id
  external_id_previous = var.external_id_previous
  package              = var.package

  exports  = ["cur2", "focus", "carbon"]
  schedule = "cron(15 * * * ? *)"
  # A cron expression does not say how often it fires.
  schedule_period_minutes = 60

  include_ous      = ["ou-ab12-cdefgh34"]
  exclude_accounts = ["111122223333"]
  # Another team activates it in this organization.
  organizations_access = "require"

  memory_mb   = 1024
  call_budget = 2000
  log_level   = "DEBUG"
  settings = {
    MAX_WRITES_PER_RUN = "500"
  }

  kms_key_arn              = var.kms_key_arn
  permissions_boundary_arn = var.permissions_boundary_arn
  keep_overwritten_days    = 7
  log_retention_days       = 365
  notification_emails      = ["platform@example.com"]
  delivery_events          = true

  tags = {
    team = "platform"
  }
}

output "onboarding" {
  description = "What Tailpipe needs to connect."
  value       = module.tailpipe_exports.onboarding
  sensitive   = true
}

output "kms_key_policy" {
  description = "The statements that the policy of kms_key_arn needs."
  value       = module.tailpipe_exports.kms_key_policy
}
