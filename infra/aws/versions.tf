terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.75, < 7.0"

      # Organizations reports new accounts in one region of a partition only; `aws.home` is the provider of that region.
      configuration_aliases = [aws.home]
    }
  }
}
