"""The checks of `infra/`: what Terraform would say, what the house asks, and what the vendors' schemas allow."""
