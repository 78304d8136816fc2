"""What `make check` holds `infra/` to: Terraform, the scanners, and the few rules that neither knows."""
