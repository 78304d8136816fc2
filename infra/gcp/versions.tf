terraform {
  # Infrastructure Manager, Google's own way to run Terraform, stops at 1.5.
  required_version = ">= 1.5"

  required_providers {
    google = {
      source = "hashicorp/google"
      # Before 7.45 any update of a dataset sends its access entries again: an older plan would take away the entry that
      # the console step has added.
      version = ">= 7.45, < 8.0"
    }
  }
}
