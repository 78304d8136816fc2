# An organization's management account, with all defaults.
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

variable "package" {
  description = "Path of the zip that `tailpipe-exports package aws --out DIR` made."
  type        = string
  default     = "../../../../dist/tailpipe-exports-aws.zip"
}

# The region of the function and the bucket.
provider "aws" {
  region = "eu-west-1"
}

# Where the partition reports new accounts.
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

  environment = "prod"
  external_id = var.external_id
  package     = var.package
}

output "onboarding" {
  description = "What Tailpipe needs to connect."
  value       = module.tailpipe_exports.onboarding
  sensitive   = true
}
