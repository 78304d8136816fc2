# Whom the data is for, and what is deployed.

variable "environment" {
  description = "Which Tailpipe reads the exports: prod, or uat for Tailpipe's own tests."
  type        = string
  nullable    = false

  validation {
    condition     = contains(["prod", "uat"], var.environment)
    error_message = "Write environment = \"prod\" for Tailpipe, or \"uat\" for Tailpipe's test environment; there is no default."
  }
}

variable "package" {
  description = "Path of the zip that `tailpipe-exports package azure` makes."
  type        = string
  nullable    = false

  validation {
    condition     = endswith(var.package, ".zip") && fileexists(var.package)
    error_message = "Make the package with `tailpipe-exports package azure --out dist`, then write package = \"dist/tailpipe-exports-azure.zip\"."
  }
}

variable "location" {
  description = "Azure region of all resources, such as westeurope. It has to offer Flex Consumption."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]{3,40}$", var.location))
    error_message = "Write the region as Azure's short name, in small letters without blanks, such as location = \"westeurope\"."
  }

  validation {
    condition     = !can(regex("^(usgov|usdod|china)", var.location))
    error_message = "Write a region of the public cloud, such as location = \"westeurope\": Azure Government and Azure China are not supported, because Tailpipe's application exists in the public cloud's Microsoft Entra ID only."
  }
}

variable "resource_group_name" {
  description = "Name of the resource group that the module creates."
  type        = string
  default     = "tailpipe-dataexport"
  nullable    = false

  validation {
    condition     = can(regex("^[\\w().-]{0,89}[\\w()-]$", var.resource_group_name))
    error_message = "Write a resource group name of at most 90 letters, digits, underscores, dots, dashes or parentheses that does not end in a dot."
  }
}

variable "tags" {
  description = "Tags for everything that supports tags, in addition to `managed-by`."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = !contains(keys(var.tags), "managed-by") && length(var.tags) <= 49
    error_message = "Leave the tag managed-by out of tags (the module sets it) and give 49 at most."
  }
}

# Which subscriptions.

variable "management_group_id" {
  description = "Name of the management group whose subscriptions are exported (the tenant's id for all); null to list them in include_subscriptions."
  type        = string
  default     = null

  validation {
    condition     = var.management_group_id == null ? true : can(regex("^[\\w().-]{1,90}$", var.management_group_id))
    error_message = "Write the management group's name alone, such as \"contoso-root\" or the tenant's id, not its whole resource id."
  }
}

variable "include_subscriptions" {
  description = "Ids of the only subscriptions that are exported. Without management_group_id the function has permissions on these only."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for one in var.include_subscriptions : can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", one))])
    error_message = "Write subscription ids in small letters, such as \"00000000-0000-0000-0000-000000000000\", without /subscriptions/."
  }

  validation {
    condition     = length(distinct(var.include_subscriptions)) == length(var.include_subscriptions)
    error_message = "Name every subscription in include_subscriptions once."
  }
}

variable "exclude_subscriptions" {
  description = "Ids of subscriptions that are not exported."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for one in var.exclude_subscriptions : can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", one))])
    error_message = "Write subscription ids in small letters, such as \"00000000-0000-0000-0000-000000000000\", without /subscriptions/."
  }
}

# The exports and where they are delivered.

variable "exports" {
  description = "Datasets that are exported: actual, focus, amortized."
  type        = list(string)
  default     = ["actual"]
  nullable    = false

  validation {
    condition     = length(var.exports) > 0 && length(setsubtract(var.exports, ["actual", "focus", "amortized"])) == 0
    error_message = "Write at least one of \"actual\", \"focus\" and \"amortized\" in exports."
  }
}

variable "focus_version" {
  description = "Version of the dataset focus. If Cost Management does not offer it, the function uses the newest older version. A later version that a person chose on an export stays."
  type        = string
  default     = "1.2-preview"
  nullable    = false

  validation {
    condition     = can(regex("^\\d{1,2}\\.\\d{1,2}(r\\d{1,2})?(-preview(\\(v\\d{1,2}\\))?)?$", var.focus_version))
    error_message = "Write focus_version as Cost Management names it, such as \"1.2-preview\" or \"1.0r2\"."
  }
}

variable "export_format" {
  description = "Format of the exports: csv (gzip) or parquet (snappy)."
  type        = string
  default     = "csv"
  nullable    = false

  validation {
    condition     = contains(["csv", "parquet"], var.export_format)
    error_message = "Write export_format = \"csv\" or \"parquet\"."
  }
}

variable "export_identity" {
  description = "Whether every export writes with its own identity. On: the destination accepts no keys, and the function may assign exports their role there. Off: exports write by key."
  type        = bool
  default     = false
  nullable    = false
}

variable "storage_account_name" {
  description = "Name of the first destination storage account; null for tailpipedataexport and the last 6 characters of the subscription's id."
  type        = string
  default     = null

  validation {
    condition     = var.storage_account_name == null ? true : can(regex("^[a-z0-9]{3,24}$", var.storage_account_name))
    error_message = "Write a storage account name of 3 to 24 small letters and digits, unique in all of Azure; longer names and dashes are refused by Azure."
  }
}

variable "host_storage_account_name" {
  description = "Name of the function's own storage account; null for tailpipehost and the last 6 characters of the subscription's id."
  type        = string
  default     = null

  validation {
    condition     = var.host_storage_account_name == null ? true : can(regex("^[a-z0-9]{3,24}$", var.host_storage_account_name))
    error_message = "Write a storage account name of 3 to 24 small letters and digits, unique in all of Azure; longer names and dashes are refused by Azure."
  }
}

variable "destination_count" {
  description = "Number of storage accounts that the exports are distributed over. A working export stays in its account when you add more."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.destination_count >= 1 && var.destination_count <= 20 && floor(var.destination_count) == var.destination_count
    error_message = "Write a whole destination_count from 1 to 20; put more accounts into another subscription, and their ids into further_destinations."
  }
}

variable "further_destinations" {
  description = "Resource ids of storage accounts, with their container, that you created elsewhere and that exports use too. The module assigns the permissions on them."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for one in var.further_destinations : can(regex("^/subscriptions/[0-9a-fA-F-]{36}/resourceGroups/[\\w.()-]{1,90}/providers/Microsoft[.]Storage/storageAccounts/[a-z0-9]{3,24}$", one))])
    error_message = "Write whole resource ids, /subscriptions/…/resourceGroups/…/providers/Microsoft.Storage/storageAccounts/…, in further_destinations."
  }
}

variable "container_name" {
  description = "Container that the exports are delivered to."
  type        = string
  default     = "dataexport"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9](-?[a-z0-9])+$", var.container_name)) && length(var.container_name) >= 3 && length(var.container_name) <= 63 && var.container_name != "tailpipe-state"
    error_message = "Write a container name of 3 to 63 small letters, digits and single dashes, other than tailpipe-state."
  }
}

variable "replication" {
  description = "Redundancy of the storage accounts: LRS, ZRS, GRS or GZRS."
  type        = string
  default     = "LRS"
  nullable    = false

  validation {
    condition     = contains(["LRS", "ZRS", "GRS", "GZRS"], var.replication)
    error_message = "Write replication = \"LRS\", \"ZRS\", \"GRS\" or \"GZRS\"."
  }
}

variable "cool_after_days" {
  description = "Days after which delivered data moves to the cool tier."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.cool_after_days >= 30 && var.cool_after_days <= 3650
    error_message = "Write cool_after_days from 30 to 3650."
  }
}

variable "archive_after_days" {
  description = "Days after which delivered data moves to the archive tier, where it has to be rehydrated before it is read; null for never."
  type        = number
  default     = 400

  validation {
    condition     = var.archive_after_days == null ? true : var.archive_after_days >= 60 && var.archive_after_days <= 36500
    error_message = "Write archive_after_days from 60 to 36500, or null so that nothing is archived."
  }
}

variable "delete_data_on_destroy" {
  description = "Whether `terraform destroy` may delete the delivered data."
  type        = bool
  default     = false
  nullable    = false
}

# Closed networks. docs/azure.md says which combinations deliver.

variable "storage_closed" {
  description = "Whether the module's storage accounts refuse every network that is not listed. Exports have access as a trusted service, with their own identities; the function through function_subnet_id; Tailpipe through an address in storage_ip_rules."
  type        = bool
  default     = false
  nullable    = false
}

variable "storage_ip_rules" {
  description = "Public IPv4 addresses or ranges (CIDR) that storage_closed admits, Tailpipe's included."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for one in var.storage_ip_rules : can(cidrnetmask(strcontains(one, "/") ? one : "${one}/32")) && !can(regex("/3[12]$", one))])
    error_message = "Write public IPv4 addresses (\"203.0.113.7\") or ranges of /30 and wider (\"203.0.113.0/24\") in storage_ip_rules; Azure Storage takes no /31 and /32."
  }
}

variable "storage_subnet_ids" {
  description = "Ids of further subnets that storage_closed admits. Each needs the service endpoint Microsoft.Storage."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for one in var.storage_subnet_ids : can(regex("/subnets/[^/]+$", one))])
    error_message = "Write whole resource ids, /subscriptions/…/virtualNetworks/…/subnets/…, in storage_subnet_ids."
  }
}

variable "function_subnet_id" {
  description = "Id of the subnet that the function sends its calls through. It has to be delegated to Microsoft.App/environments and, without private endpoints, needs the service endpoint Microsoft.Storage. Null: the function is in no network."
  type        = string
  default     = null

  validation {
    condition     = var.function_subnet_id == null ? true : can(regex("/subnets/[^/]+$", var.function_subnet_id))
    error_message = "Write the subnet's whole resource id, /subscriptions/…/virtualNetworks/…/subnets/…, as function_subnet_id."
  }
}

variable "private_endpoint_subnet_id" {
  description = "Id of the subnet in which each of the module's storage accounts gets a private endpoint for blobs; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.private_endpoint_subnet_id == null ? true : can(regex("/subnets/[^/]+$", var.private_endpoint_subnet_id))
    error_message = "Write the subnet's whole resource id, /subscriptions/…/virtualNetworks/…/subnets/…, as private_endpoint_subnet_id."
  }
}

variable "private_dns_zone_id" {
  description = "Id of the private DNS zone privatelink.blob.core.windows.net, in which the module registers the private endpoints; null if something else registers them."
  type        = string
  default     = null

  validation {
    condition     = var.private_dns_zone_id == null ? true : can(regex("/privateDnsZones/privatelink[.]blob[.]core[.]windows[.]net$", var.private_dns_zone_id))
    error_message = "Write the whole resource id of the zone privatelink.blob.core.windows.net, /subscriptions/…/privateDnsZones/privatelink.blob.core.windows.net, as private_dns_zone_id."
  }
}

# The function.

variable "function_name" {
  description = "First part of the function app's name; the last 6 characters of the subscription's id follow."
  type        = string
  default     = "tailpipe-exports"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,24}$", var.function_name))
    error_message = "Write a function_name of 2 to 25 small letters, digits and dashes: 32 characters in all are what Functions tells apart."
  }
}

variable "schedule" {
  description = "When the function runs: an NCRONTAB expression with six fields, seconds first, in UTC."
  type        = string
  default     = "0 17 * * * *"
  nullable    = false

  validation {
    condition     = can(regex("^([0-9*,/-]+ ){4}[0-9A-Za-z*,/-]+ [0-9A-Za-z*,/-]+$", var.schedule))
    error_message = "Write schedule with six fields, seconds first, such as \"0 17 * * * *\" for every hour at minute 17."
  }
}

variable "schedule_minutes" {
  description = "Minutes between two runs of `schedule`, for the alarm on missing runs."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.schedule_minutes >= 5 && var.schedule_minutes <= 1440
    error_message = "Write schedule_minutes from 5 to 1440, as long as two runs of schedule are apart."
  }
}

variable "events" {
  description = "Whether the function looks for changes every five minutes between two runs of `schedule`, and runs at once for what they concern."
  type        = bool
  default     = true
  nullable    = false
}

variable "activity_log_workspace_id" {
  description = "Resource id of the Log Analytics workspace that holds the activity logs of all subscriptions, from which the function learns of changed and deleted exports; null for none. The module assigns the permission to read this one table."
  type        = string
  default     = null

  validation {
    condition     = var.activity_log_workspace_id == null ? true : can(regex("^/subscriptions/[0-9a-fA-F-]{36}/resource[gG]roups/[\\w.()-]{1,90}/providers/Microsoft[.]OperationalInsights/workspaces/[A-Za-z0-9][A-Za-z0-9-]{3,62}$", var.activity_log_workspace_id))
    error_message = "Write the workspace's whole resource id, /subscriptions/…/resourceGroups/…/providers/Microsoft.OperationalInsights/workspaces/…, as activity_log_workspace_id."
  }
}

variable "delivery_events" {
  description = "Whether deliveries are announced to those who read the data: a document of what changed beside the data, and an event on an Event Grid topic."
  type        = bool
  default     = false
  nullable    = false
}

variable "delta_retention_days" {
  description = "Days after which the documents of past deliveries are deleted, with `delivery_events`. A reader that was away for longer reads the newest delivery whole."
  type        = number
  default     = 35
  nullable    = false

  validation {
    condition     = var.delta_retention_days >= 1 && var.delta_retention_days <= 3650 && floor(var.delta_retention_days) == var.delta_retention_days
    error_message = "Write delta_retention_days as whole days from 1 to 3650."
  }
}

# Tenants. docs/fleet.md guides through it.

variable "fleet" {
  description = "Whether this deployment also serves the tenants of the registry, in rounds that Durable Functions run in the same app."
  type        = bool
  default     = false
  nullable    = false
}

variable "fleet_schedule" {
  description = "When a round over the tenants starts, as an NCRONTAB expression with seconds. A round that is still in progress is not overtaken."
  type        = string
  default     = "0 47 * * * *"
  nullable    = false

  validation {
    condition     = length(split(" ", var.fleet_schedule)) == 6
    error_message = "Write fleet_schedule with six fields, seconds first, such as \"0 47 * * * *\"."
  }
}

variable "fleet_minutes" {
  description = "Minutes between two rounds of `fleet_schedule`. A round ends ten minutes before the next one; what is left waits for that."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.fleet_minutes >= 15 && var.fleet_minutes <= 1440 && floor(var.fleet_minutes) == var.fleet_minutes
    error_message = "Write fleet_minutes as whole minutes from 15 to 1440, as long as two rounds of fleet_schedule are apart."
  }
}

variable "fleet_concurrency" {
  description = "How many tenants are served at once, at most."
  type        = number
  default     = 20
  nullable    = false

  validation {
    condition     = var.fleet_concurrency >= 1 && var.fleet_concurrency <= 200 && floor(var.fleet_concurrency) == var.fleet_concurrency
    error_message = "Write a whole fleet_concurrency from 1 to 200."
  }
}

variable "registry_writers" {
  description = "Object ids of the users, groups or service principals that may write the tenant registry. Without them, only who has such a role already may."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for one in var.registry_writers : can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", one))]) && length(distinct(var.registry_writers)) == length(var.registry_writers)
    error_message = "Write each object id in registry_writers once, in small letters, such as \"00000000-0000-0000-0000-000000000000\"."
  }
}

variable "memory_mb" {
  description = "Memory of an instance in MB: 512, 2048 or 4096."
  type        = number
  default     = 2048
  nullable    = false

  validation {
    condition     = contains([512, 2048, 4096], var.memory_mb)
    error_message = "Write memory_mb = 512, 2048 or 4096, the sizes of Flex Consumption."
  }
}

variable "timeout_seconds" {
  description = "Longest duration of a run in seconds. The function ends its work five minutes earlier."
  type        = number
  default     = 7200
  nullable    = false

  validation {
    condition     = var.timeout_seconds >= 600 && var.timeout_seconds <= 43200
    error_message = "Write timeout_seconds from 600 to 43200."
  }
}

variable "call_budget" {
  description = "Maximum number of exports that a run reads in Cost Management; 0 for no limit."
  type        = number
  default     = 1000
  nullable    = false

  validation {
    condition     = var.call_budget >= 0 && var.call_budget <= 1000000
    error_message = "Write call_budget from 0 (no limit) to 1000000."
  }
}

variable "log_level" {
  description = "Log level of the function's host: info, or debug for an investigation. Alarms need at least info."
  type        = string
  default     = "info"
  nullable    = false

  validation {
    condition     = contains(["info", "debug"], var.log_level)
    error_message = "Write log_level = \"info\" or \"debug\"; the alarms read the lines of level info."
  }
}

variable "settings" {
  description = "Further settings of the function, such as BACKFILL_MONTHS or BILLING_SCOPES. Settings that the module sets are refused."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setintersection(keys(var.settings), ["AZURE_CLIENT_SECRET", "ARM_TOKEN", "BLOB_KEY"])) == 0
    error_message = "Leave AZURE_CLIENT_SECRET, ARM_TOKEN and BLOB_KEY out of settings: the function works with its own identity and holds no secret."
  }
}

# Tailpipe's access.

variable "monitoring_access" {
  description = "Where Tailpipe gets Monitoring Reader: management_group, subscription (those of include_subscriptions) or none; null for management_group if you set one, else subscription."
  type        = string
  default     = null

  validation {
    condition     = var.monitoring_access == null ? true : contains(["management_group", "subscription", "none"], var.monitoring_access)
    error_message = "Write monitoring_access = \"management_group\", \"subscription\" or \"none\"."
  }
}

variable "connector_object_id" {
  description = "Object id of Tailpipe's enterprise application, if the tenant already has it and should keep it; null to let the module add it."
  type        = string
  default     = null

  validation {
    condition     = var.connector_object_id == null ? true : can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", var.connector_object_id))
    error_message = "Write the enterprise application's object id (not its application id), in small letters, or null."
  }
}

# Azure Policy.

variable "policy" {
  description = "Azure Policy beside the function: off, audit (report subscriptions without an export) or deploy (create it as well)."
  type        = string
  default     = "off"
  nullable    = false

  validation {
    condition     = contains(["off", "audit", "deploy"], var.policy)
    error_message = "Write policy = \"off\", \"audit\" or \"deploy\"."
  }
}

# What is watched, and what is registered.

variable "notification_emails" {
  description = "Addresses that alarms notify."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for one in var.notification_emails : can(regex("^[^@\\s]+@[^@\\s]+[.][^@\\s]+$", one))]) && length(distinct(var.notification_emails)) == length(var.notification_emails)
    error_message = "Write every e-mail address once, such as notification_emails = [\"platform@example.com\"]."
  }
}

variable "notify_secret" {
  description = "The secret in Key Vault, by its resource id (/subscriptions/…/vaults/NAME/secrets/NAME), that holds the address of a webhook for messages: Slack, a Teams workflow or any HTTPS endpoint. The vault works with Azure roles. Null: no messages."
  type        = string
  default     = null

  validation {
    condition     = var.notify_secret == null ? true : can(regex("^/subscriptions/[0-9a-f-]{36}/resourceGroups/[^/]+/providers/Microsoft[.]KeyVault/vaults/[A-Za-z0-9-]{3,24}/secrets/[A-Za-z0-9-]{1,127}$", var.notify_secret))
    error_message = "Write the secret's resource id (/subscriptions/…/providers/Microsoft.KeyVault/vaults/NAME/secrets/NAME), or null. Never write the webhook's address itself."
  }
}

variable "notify_digest" {
  description = "Whether the webhook also gets a summary in the first run of each week."
  type        = bool
  default     = false
  nullable    = false
}

variable "publish_page" {
  description = "Whether each run writes the status page beside the state, where Tailpipe's connector cannot read."
  type        = bool
  default     = false
  nullable    = false
}

variable "log_retention_days" {
  description = "Days that logs are kept."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.log_retention_days >= 30 && var.log_retention_days <= 730
    error_message = "Write log_retention_days from 30 to 730."
  }
}

variable "register_providers" {
  description = "Resource providers that the module registers, if you cannot list them in the provider block. Import one that is already registered."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for one in var.register_providers : can(regex("^Microsoft[.][A-Za-z]+$", one))])
    error_message = "Write names of resource providers such as \"Microsoft.CostManagementExports\"."
  }
}

variable "dashboard" {
  description = "Makes an Azure Workbook with coverage, freshness, runs and calls. Workbooks are free."
  type        = bool
  default     = true
  nullable    = false
}
