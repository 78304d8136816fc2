# A large tenant: exports with identities spread over two accounts, three datasets, the policy as a second check.

terraform {
  required_version = ">= 1.5.0"
}

provider "azurerm" {
  subscription_id = var.subscription_id

  # Never request keys of storage accounts.
  storage_use_azuread = true

  # Registered providers stay registered; Terraform's default list is not used.
  resource_provider_registrations = "none"
  resource_providers_to_register = [
    "Microsoft.App",
    "Microsoft.CostManagement",
    "Microsoft.CostManagementExports",
    "Microsoft.EventGrid",
    "Microsoft.Insights",
    "Microsoft.ManagedIdentity",
    "Microsoft.Network",
    "Microsoft.OperationalInsights",
    "Microsoft.PolicyInsights",
    "Microsoft.Storage",
    "Microsoft.Web",
  ]

  features {
    # Everything is created through Resource Manager, so the operator needs no permission on data.
    storage {
      data_plane_available = false
    }
  }
}

provider "azuread" {}

variable "subscription_id" {
  description = "The subscription that holds the function and the delivered data."
  type        = string
}

variable "management_group_id" {
  description = "The management group whose subscriptions are exported; the tenant's id for all of them."
  type        = string
}

module "tailpipe_exports" {
  source = "../.."

  environment         = "prod"
  location            = "westeurope"
  resource_group_name = "platform-tailpipe"
  package             = "${path.root}/../../../../dist/tailpipe-exports-azure.zip"
  tags                = { owner = "platform", cost-center = "1234" }

  management_group_id   = var.management_group_id
  exclude_subscriptions = ["00000000-0000-0000-0000-00000000abcd"]
  monitoring_access     = "management_group"

  exports            = ["actual", "focus", "amortized"]
  export_format      = "parquet"
  export_identity    = true
  destination_count  = 2
  replication        = "ZRS"
  cool_after_days    = 60
  archive_after_days = null

  schedule         = "0 5 */2 * * *"
  schedule_minutes = 120
  call_budget      = 2000
  timeout_seconds  = 6600
  memory_mb        = 4096
  settings         = { BACKFILL_MONTHS = "13" }

  policy = "audit"

  notification_emails = ["platform@example.com"]
  log_retention_days  = 180
}

output "function_name" {
  value = module.tailpipe_exports.function_name
}

output "onboarding" {
  value = module.tailpipe_exports.onboarding
}
