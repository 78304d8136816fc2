"""Checks of the Terraform modules in `infra/` and of their fit with the functions."""
