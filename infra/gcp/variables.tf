variable "environment" {
  description = "Which Tailpipe reads the exports: prod, or uat for tests agreed with Tailpipe."
  type        = string
  nullable    = false

  validation {
    condition     = contains(["prod", "uat"], var.environment)
    error_message = "Write environment = \"prod\", or \"uat\" for a test that Tailpipe has agreed to."
  }
}

variable "package" {
  description = "Path of the function's zip, made by `tailpipe-exports package gcp`."
  type        = string
  nullable    = false

  validation {
    condition     = fileexists(var.package)
    error_message = "The file does not exist: run `tailpipe-exports package gcp --out dist` and write package = \"dist/tailpipe-exports-gcp.zip\"."
  }
}

variable "project_id" {
  description = "Id of the project that contains dataset, buckets and function. A project has one deployment."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "Write the project's id, such as tailpipe-dataexport, not its number or its display name."
  }
}

variable "tailpipe_tenant" {
  description = "Your tenant's value at Tailpipe, from the onboarding page: only tokens that carry it are admitted."
  type        = string
  nullable    = false

  validation {
    # It stands in a CEL expression and in a principal's path, so anything that could end either is refused.
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,126}$", var.tailpipe_tenant))
    error_message = "Write tailpipe_tenant as Tailpipe's onboarding page shows it: letters, digits, dots, dashes and underscores only, never a wildcard."
  }
}

variable "tailpipe_issuer" {
  description = "Issuer of Tailpipe's tokens, from the onboarding page. Every matching token that this issuer signs is admitted, so it has no default."
  type        = string
  nullable    = false

  validation {
    condition = can(regex("^https://([a-z0-9]([a-z0-9-]*[a-z0-9])?[.])+[a-z]([a-z0-9-]*[a-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?$", var.tailpipe_issuer)) && !can(
      regex("[.](local|localhost|localdomain|internal|intranet|lan|home|corp)(:[0-9]+)?(/|$)", var.tailpipe_issuer)
    )
    error_message = "Write tailpipe_issuer as Tailpipe's onboarding page shows it: an https address with a public name, without query, user or address in numbers."
  }
}

variable "tailpipe_audience" {
  description = "Audience of Tailpipe's tokens, from the onboarding page; tokens for another audience are refused."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9:/._~@-]{0,255}$", var.tailpipe_audience))
    error_message = "Write tailpipe_audience as Tailpipe's onboarding page shows it, with at most 256 characters and never a wildcard."
  }
}

variable "check_issuer" {
  description = "Whether an apply reads {issuer}/.well-known/openid-configuration and compares the issuer in it. Use false only if the machine that applies can reach Google only."
  type        = bool
  default     = true
  nullable    = false
}

variable "organization_id" {
  description = "Number of the organization whose billing accounts the function serves; null if you set billing_accounts instead."
  type        = string
  default     = null

  validation {
    condition     = var.organization_id == null || can(regex("^[0-9]{1,20}$", var.organization_id))
    error_message = "Write the organization's number alone, such as \"123456789012\", as `gcloud organizations list` shows it."
  }
}

variable "billing_accounts" {
  description = "Billing accounts that the function serves, if you cannot grant a permission on the organization. Each gets its own binding."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for account in var.billing_accounts : can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", account))])
    error_message = "Write each billing account as three groups of six hexadecimal digits in capitals, such as \"012345-6789AB-CDEF01\"."
  }
}

variable "include_accounts" {
  description = "The only billing accounts that the function serves; empty: all that it can see."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for account in var.include_accounts : can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", account))])
    error_message = "Write each billing account as three groups of six hexadecimal digits in capitals, such as \"012345-6789AB-CDEF01\"."
  }
}

variable "exclude_accounts" {
  description = "Billing accounts that the function does not serve."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for account in var.exclude_accounts : can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", account))])
    error_message = "Write each billing account as three groups of six hexadecimal digits in capitals, such as \"012345-6789AB-CDEF01\"."
  }
}

variable "exports" {
  description = "Kinds of billing export that every open account should have: standard, detailed, pricing, focus."
  type        = list(string)
  default     = ["standard", "detailed", "pricing", "focus"]
  nullable    = false

  validation {
    condition = length(var.exports) > 0 && length(distinct(var.exports)) == length(var.exports) && alltrue([
      for kind in var.exports : contains(["standard", "detailed", "pricing", "focus"], kind)
    ])
    error_message = "List at least one of \"standard\", \"detailed\", \"pricing\" and \"focus\", each once."
  }
}

variable "region" {
  description = "Region of the function, its schedule and its logs."
  type        = string
  default     = "us-central1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "Write one region that has Cloud Run functions and Cloud Scheduler, such as \"us-central1\" or \"europe-west1\"; the multi-region goes into dataset_location."
  }
}

variable "dataset_location" {
  description = "Location of dataset and buckets: US, EU, or a region that Cloud Billing exports to. It cannot be changed later, and only US and EU get the costs since the start of the previous month."
  type        = string
  default     = "US"
  nullable    = false

  validation {
    # "Set up Cloud Billing data export to BigQuery", Limitations; an existing dataset is adopted in any of them.
    condition = contains([
      "US", "EU",
      "asia-east1", "asia-east2", "asia-northeast1", "asia-northeast2",
      "asia-northeast3", "asia-south1", "asia-southeast1", "asia-southeast2",
      "australia-southeast1",
      "europe-central2", "europe-north1", "europe-west1", "europe-west2",
      "europe-west3", "europe-west4", "europe-west6",
      "me-central1", "me-central2", "me-west1",
      "northamerica-northeast1",
      "southamerica-east1",
      "us-central1", "us-east1", "us-east4", "us-west1",
      "us-west2", "us-west3", "us-west4",
    ], var.dataset_location)
    error_message = "Write dataset_location = \"US\" or \"EU\", or a region that Cloud Billing exports to, such as \"europe-west1\". A region gets no costs from before the export is switched on."
  }
}

variable "dataset_id" {
  description = "Name of the dataset that Google exports to."
  type        = string
  default     = "billing_export"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_]+$", var.dataset_id)) && length(var.dataset_id) <= 1024
    error_message = "Write the dataset's name with letters, digits and underscores only, such as billing_export."
  }
}

variable "export_bucket" {
  description = "Name of the bucket of the copies; null: tailpipe-billing-export-{project_id}."
  type        = string
  default     = null

  validation {
    condition     = var.export_bucket == null || can(regex("^[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]$", var.export_bucket))
    error_message = "Write a bucket's name of 3 to 63 lower-case letters, digits, dashes and underscores, or leave it out."
  }
}

variable "state_bucket" {
  description = "Name of the bucket of the function's state and reports; null: tailpipe-state-{project_id}."
  type        = string
  default     = null

  validation {
    condition     = var.state_bucket == null || can(regex("^[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]$", var.state_bucket))
    error_message = "Write a bucket's name of 3 to 63 lower-case letters, digits, dashes and underscores, or leave it out."
  }
}

variable "schedule" {
  description = "When the function runs, as a unix-cron expression of five fields."
  type        = string
  default     = "0 * * * *"
  nullable    = false

  validation {
    condition     = can(regex("^[0-9*/,-]+( +[0-9A-Za-z*/,-]+){4}$", var.schedule))
    error_message = "Write the schedule as unix-cron with five fields, such as \"0 * * * *\" for every hour."
  }
}

variable "schedule_time_zone" {
  description = "Time zone of the schedule, by its name in the tz database."
  type        = string
  default     = "Etc/UTC"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z]+(/[A-Za-z0-9_+-]+)*$", var.schedule_time_zone))
    error_message = "Write a name of the tz database, such as \"Etc/UTC\" or \"Europe/Berlin\"."
  }
}

variable "function_name" {
  description = "Name of the function, its schedule, image repository and log bucket."
  type        = string
  default     = "tailpipe-exports"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,47}[a-z0-9]$", var.function_name))
    error_message = "Write the function's name with 2 to 49 lower-case letters, digits and dashes, beginning with a letter."
  }
}

variable "memory_mb" {
  description = "Memory of the function in MiB."
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = var.memory_mb >= 256 && var.memory_mb <= 4096 && floor(var.memory_mb) == var.memory_mb
    error_message = "Write memory_mb as a whole number from 256 to 4096, the most that one processor may have."
  }
}

variable "timeout_seconds" {
  description = "Longest duration of a run in seconds; the next run continues."
  type        = number
  default     = 1800
  nullable    = false

  validation {
    condition     = var.timeout_seconds >= 60 && var.timeout_seconds <= 1800 && floor(var.timeout_seconds) == var.timeout_seconds
    error_message = "Write timeout_seconds as a whole number from 60 to 1800: Cloud Scheduler waits no longer for an answer and would call again."
  }
}

variable "ingress" {
  description = "Who reaches the function's address: ALLOW_INTERNAL_ONLY (Cloud Scheduler of this project), or ALLOW_ALL. Both admit only a token with run.invoker."
  type        = string
  default     = "ALLOW_INTERNAL_ONLY"
  nullable    = false

  validation {
    condition     = contains(["ALLOW_INTERNAL_ONLY", "ALLOW_ALL"], var.ingress)
    error_message = "Write ingress = \"ALLOW_INTERNAL_ONLY\", or \"ALLOW_ALL\" to call the function from outside the project."
  }
}

variable "call_budget" {
  description = "Maximum number of single reads in a run; 0 is no limit. Everything else is read in bulk."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.call_budget >= 0 && var.call_budget <= 1000000 && floor(var.call_budget) == var.call_budget
    error_message = "Write call_budget as a whole number from 0 (no cap) to 1000000."
  }
}

variable "log_level" {
  description = "Lowest severity of the lines that the function's log bucket keeps: DEBUG, INFO, WARNING or ERROR."
  type        = string
  default     = "INFO"
  nullable    = false

  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.log_level)
    error_message = "Write log_level = \"DEBUG\", \"INFO\", \"WARNING\" or \"ERROR\"."
  }
}

variable "log_retention_days" {
  description = "Days that the function's log bucket keeps its lines."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.log_retention_days >= 1 && var.log_retention_days <= 3650 && floor(var.log_retention_days) == var.log_retention_days
    error_message = "Write log_retention_days as a whole number from 1 to 3650."
  }
}

variable "settings" {
  description = "Further settings of the function, by their names: COPY, COPY_DAYS, MAX_VANISHED_PERCENT, MAX_WRITES_PER_RUN, CALLS_AT_ONCE, STALE_MIN_HOURS, STALE_MAX_HOURS."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition = alltrue([
      for name in keys(var.settings) :
      contains(["COPY", "COPY_DAYS", "MAX_VANISHED_PERCENT", "MAX_WRITES_PER_RUN", "CALLS_AT_ONCE", "STALE_MIN_HOURS", "STALE_MAX_HOURS"], name)
    ])
    error_message = "settings takes COPY, COPY_DAYS, MAX_VANISHED_PERCENT, MAX_WRITES_PER_RUN, CALLS_AT_ONCE, STALE_MIN_HOURS and STALE_MAX_HOURS only; everything else has a variable of its own."
  }
}

variable "alarm_after_hours" {
  description = "Hours without a successful run that raise the alarm: three times the schedule's interval."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = var.alarm_after_hours >= 1 && var.alarm_after_hours <= 168 && floor(var.alarm_after_hours) == var.alarm_after_hours
    error_message = "Write alarm_after_hours as a whole number from 1 to 168: 3 for an hourly schedule, 72 for a daily one."
  }
}

variable "notification_emails" {
  description = "Addresses that alarms notify; none: alarms are incidents in the console only."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.notification_emails : can(regex("^[^@[:space:]]+@[^@[:space:]]+[.][^@[:space:]]+$", address))])
    error_message = "Write each of notification_emails as an address, such as \"cloud-team@example.com\"."
  }
}

variable "notify_secret" {
  description = "The secret in the project's Secret Manager, by its name alone, that holds the address of a webhook for messages: Slack, a Teams workflow or any HTTPS endpoint. Null: no messages."
  type        = string
  default     = null

  validation {
    condition     = var.notify_secret == null ? true : can(regex("^[A-Za-z0-9_-]{1,255}$", var.notify_secret))
    error_message = "Write the secret's name without its project, such as tailpipe-webhook, or null. Never write the webhook's address itself."
  }
}

variable "delivery_events" {
  description = "Whether each finished copy is announced: by a document of what changed, beside the copies, and by an event on a Pub/Sub topic."
  type        = bool
  default     = false
  nullable    = false
}

variable "delta_retention_days" {
  description = "Days after which the documents of deliveries are deleted; a reader that was away for longer starts from the newest one, which is kept."
  type        = number
  default     = 35
  nullable    = false

  validation {
    condition     = var.delta_retention_days >= 1 && var.delta_retention_days <= 3650 && floor(var.delta_retention_days) == var.delta_retention_days
    error_message = "Write delta_retention_days as a whole number of days from 1 to 3650."
  }
}

variable "events" {
  description = "Whether changes reach the function through Cloud Audit Logs and Pub/Sub, so that it heals them within minutes instead of at its next run."
  type        = bool
  default     = true
  nullable    = false
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

variable "workload_identity_pool_id" {
  description = "Id of the workload identity pool. Google keeps a deleted pool's id for 30 days: choose another one to deploy again within that time."
  type        = string
  default     = "tailpipe-pool"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9-]{4,32}$", var.workload_identity_pool_id)) && !startswith(var.workload_identity_pool_id, "gcp-")
    error_message = "Write the pool's id with 4 to 32 lower-case letters, digits and dashes, not beginning with gcp-."
  }
}

variable "custom_role_prefix" {
  description = "Prefix of the ids of the function's custom roles. Google keeps a deleted role's id for up to 37 days: choose another one to deploy again within that time."
  type        = string
  default     = "tailpipeExports"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.]{1,40}$", var.custom_role_prefix))
    error_message = "Write custom_role_prefix with 1 to 40 letters, digits, underscores and dots."
  }
}

variable "delete_data_on_destroy" {
  description = "Whether terraform destroy may delete the exported data: the dataset with its tables and the bucket with its copies."
  type        = bool
  default     = false
  nullable    = false
}

variable "labels" {
  description = "Labels for everything that supports labels, in addition to managed-by."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition = !contains(keys(var.labels), "managed-by") && alltrue([
      for name, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", name)) && can(regex("^[a-z0-9_-]{0,63}$", value))
    ])
    error_message = "Write names and values of labels with lower-case letters, digits, dashes and underscores, names beginning with a letter; managed-by is the module's own."
  }
}

variable "dashboard" {
  description = "Makes a Cloud Monitoring dashboard and the log-based metrics it shows. Dashboards are free, and so are 150 MiB of metrics a month."
  type        = bool
  default     = true
  nullable    = false
}

variable "fleet" {
  description = "Whether this deployment also serves the tenants of the registry, in rounds that Cloud Tasks runs."
  type        = bool
  default     = false
  nullable    = false
}

variable "fleet_schedule" {
  description = "When a round over the tenants starts, as a unix-cron expression of five fields."
  type        = string
  default     = "30 * * * *"
  nullable    = false

  validation {
    condition     = can(regex("^[0-9*/,-]+( +[0-9A-Za-z*/,-]+){4}$", var.fleet_schedule))
    error_message = "Write fleet_schedule as unix-cron with five fields, such as \"30 * * * *\" for every hour."
  }
}

variable "fleet_minutes" {
  description = "Minutes between two rounds of `fleet_schedule`. A round ends ten minutes before the next one; what is left waits for that."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.fleet_minutes >= 20 && var.fleet_minutes <= 1440 && floor(var.fleet_minutes) == var.fleet_minutes
    error_message = "Write fleet_minutes as a whole number of minutes from 20 to 1440."
  }
}

variable "fleet_concurrency" {
  description = "How many tenants are served at once, at most: the queue's concurrent dispatches, and as many instances of the function."
  type        = number
  default     = 50
  nullable    = false

  validation {
    condition     = var.fleet_concurrency >= 1 && var.fleet_concurrency <= 999 && floor(var.fleet_concurrency) == var.fleet_concurrency
    error_message = "Write fleet_concurrency as a whole number from 1 to 999."
  }
}

variable "fleet_per_second" {
  description = "How many tenants are begun in a second, at most: the queue's rate of dispatches."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.fleet_per_second > 0 && var.fleet_per_second <= 500
    error_message = "Write fleet_per_second as a number above 0 and up to 500, the most that Cloud Tasks allows."
  }
}

variable "registry_writers" {
  description = "Who may write the tenant registry, as members: user:, group: or serviceAccount: with an address. None: only who may write all of the project's buckets."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for member in var.registry_writers : can(regex("^(user|group|serviceAccount):[^@[:space:]]+@[^@[:space:]]+$", member))])
    error_message = "Write each of registry_writers as user:, group: or serviceAccount: with an address, such as \"group:finops@example.com\"."
  }
}
