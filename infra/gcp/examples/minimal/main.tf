# The smallest deployment: an organization's billing accounts, hourly, with all defaults.

terraform {
  required_version = ">= 1.5"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 7.45, < 8.0"
    }
  }
}

variable "project_id" {
  description = "Project to deploy into."
  type        = string
}

variable "organization_id" {
  description = "Number of the organization."
  type        = string
}

variable "tailpipe_tenant" {
  description = "Tenant value from Tailpipe's onboarding page."
  type        = string
}

variable "tailpipe_issuer" {
  description = "Issuer of Tailpipe's tokens, from Tailpipe's onboarding page."
  type        = string
}

variable "tailpipe_audience" {
  description = "Audience of Tailpipe's tokens, from Tailpipe's onboarding page."
  type        = string
}

provider "google" {
  project = var.project_id

  # Calls made with a person's credentials are counted against this project, in which the APIs are on.
  user_project_override = true
  billing_project       = var.project_id
}

module "tailpipe_exports" {
  source = "../.."

  environment       = "prod"
  package           = "${path.module}/../../../../dist/tailpipe-exports-gcp.zip"
  project_id        = var.project_id
  organization_id   = var.organization_id
  tailpipe_tenant   = var.tailpipe_tenant
  tailpipe_issuer   = var.tailpipe_issuer
  tailpipe_audience = var.tailpipe_audience
}

output "onboarding" {
  description = "What Tailpipe needs to connect."
  value       = module.tailpipe_exports.onboarding
}
