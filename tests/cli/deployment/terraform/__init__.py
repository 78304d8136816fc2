"""Terraform as the commands use it."""
