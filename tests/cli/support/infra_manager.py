"""A service account that deploys with Infrastructure Manager on the local Google Cloud, and a small module."""

from __future__ import annotations

from pathlib import Path

from localcloud.gcp.cloud import LocalGcp

MODULE = {
    "versions.tf": 'terraform {\n  required_version = ">= 1.5"\n}\n',
    "variables.tf": """\
variable "package" {
  type = string
  validation {
    condition     = fileexists(var.package)
    error_message = "The file does not exist."
  }
}

variable "text" {
  type    = string
  default = "one"
  validation {
    condition     = var.text != "wrong"
    error_message = "Write another text."
  }
}

variable "command" {
  type    = string
  default = "true"
}

variable "project_id" {
  type = string
}

variable "region" {
  type = string
}
""",
    "main.tf": """\
resource "terraform_data" "data" {
  input = "kept"
}

resource "terraform_data" "function" {
  input = { package = filesha256(var.package), text = var.text }
}

resource "terraform_data" "last" {
  triggers_replace = [var.command]
  depends_on       = [terraform_data.function]

  provisioner "local-exec" {
    command = var.command
  }
}

output "granted" {
  value = { function = ["RunJobs"] }
}

output "onboarding" {
  value = var.text
}
""",
}


def deployer(cloud: LocalGcp) -> str:
    """Create the account with the agent's role, and return its address."""
    account = cloud.deployment.account("deployer")
    cloud.world.platform.add(f"projects/{cloud.project}/serviceAccounts/{account}", {"email": account})
    cloud.world.iam.grant(account, "roles/config.agent", f"projects/{cloud.project}")
    return account


def small_module(folder: Path) -> Path:
    """Write a module that needs no provider, and return its folder."""
    folder.mkdir()
    for name, text in MODULE.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder
