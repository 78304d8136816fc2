"""Terraform for the commands: the module's variables, the root module around it, and the binary."""
