"""Terraform as the commands use it: the module's variables, the root module around it, and the binary itself."""
