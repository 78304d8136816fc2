# All subscriptions below one management group, with the defaults.

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
  management_group_id = var.management_group_id
  package             = "${path.root}/../../../../dist/tailpipe-exports-azure.zip"
}

output "function_name" {
  value = module.tailpipe_exports.function_name
}

output "onboarding" {
  value = module.tailpipe_exports.onboarding
}
