"""Static checks of `infra/` in `make check`: Terraform, scanners, and rules that neither of them has."""
