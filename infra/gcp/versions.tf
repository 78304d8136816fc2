terraform {
  # Infrastructure Manager, Google's own way to run Terraform, stops at 1.5.
  required_version = ">= 1.5"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.50"
    }
  }
}
