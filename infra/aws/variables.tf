variable "environment" {
  description = "Which Tailpipe reads the exports: prod or uat."
  type        = string
  nullable    = false

  validation {
    condition     = contains(["prod", "uat"], var.environment)
    error_message = "Set environment to \"prod\" or \"uat\", as the onboarding by Tailpipe states."
  }
}

variable "package" {
  description = "Path of the zip that `tailpipe-exports package aws --out DIR` made."
  type        = string
  nullable    = false

  validation {
    condition     = endswith(var.package, ".zip") && fileexists(var.package)
    error_message = "Set package to the path of an existing zip: run `tailpipe-exports package aws --out dist` and write \"dist/tailpipe-exports-aws.zip\"."
  }
}

variable "external_id" {
  description = "The External ID that Tailpipe gave you. A caller must present it to assume the connector role."
  type        = string
  nullable    = false
  sensitive   = true

  validation {
    condition     = can(regex("^[\\w+=,.@:/-]{2,}$", var.external_id)) && length(var.external_id) <= 1224
    error_message = "Set external_id to the External ID that Tailpipe gave you: 2 to 1224 letters, digits or any of _+=,.@:/- without blanks."
  }
}

variable "external_id_previous" {
  description = "The previous External ID while you change it. It stays accepted until you set this to null again."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = var.external_id_previous == null || try(can(regex("^[\\w+=,.@:/-]{2,}$", var.external_id_previous)) && length(var.external_id_previous) <= 1224, false)
    error_message = "Set external_id_previous to the External ID that external_id held before, or to null."
  }
}

variable "tailpipe_principal_arn" {
  description = "The ARN of the role that Tailpipe reads as. Null: Tailpipe's own in partition aws; elsewhere there is no connector."
  type        = string
  default     = null

  validation {
    condition     = var.tailpipe_principal_arn == null || can(regex("^arn:aws[a-z-]*:iam::\\d{12}:(role|user)/[\\w+=,.@/-]+$", var.tailpipe_principal_arn))
    error_message = "Set tailpipe_principal_arn to the ARN of one role, such as \"arn:aws-us-gov:iam::111122223333:role/TailpipeConnector\", or to null."
  }
}

variable "account_kind" {
  description = "management: the organization's management account, with roles in the member accounts. standalone: this account alone, without roles in others; in a member account its own costs, in a management account those of the organization, also of one with consolidated billing only."
  type        = string
  default     = "management"
  nullable    = false

  validation {
    condition     = contains(["management", "standalone"], var.account_kind)
    error_message = "Set account_kind to \"management\", or to \"standalone\" for this account alone."
  }
}

variable "exports" {
  description = "The datasets to export: cur2 (cost and usage), focus (FOCUS 1.2), carbon (carbon emissions)."
  type        = list(string)
  default     = ["cur2"]
  nullable    = false

  validation {
    condition     = length(var.exports) > 0 && length(distinct(var.exports)) == length(var.exports) && length(setsubtract(var.exports, ["cur2", "focus", "carbon"])) == 0
    error_message = "Set exports to one or more of \"cur2\", \"focus\" and \"carbon\", each once."
  }
}

variable "schedule" {
  description = "When the function runs, as EventBridge Scheduler writes it: rate(…) or cron(…), in UTC."
  type        = string
  default     = "rate(1 hour)"
  nullable    = false

  validation {
    condition     = can(regex("^rate\\([1-9]\\d* (minute|hour|day)s?\\)$", var.schedule)) || can(regex("^cron\\(\\S+( \\S+){5}\\)$", var.schedule))
    error_message = "Set schedule to \"rate(1 hour)\" or the like, or to six cron fields, such as \"cron(15 * * * ? *)\"."
  }
}

variable "schedule_period_minutes" {
  description = "Minutes from one run to the next, for the alarm on missed runs. Null: read from a rate(…); a cron(…) needs it."
  type        = number
  default     = null

  validation {
    condition     = var.schedule_period_minutes == null || try(var.schedule_period_minutes >= 15 && var.schedule_period_minutes <= 1440 && floor(var.schedule_period_minutes) == var.schedule_period_minutes, false)
    error_message = "Set schedule_period_minutes to a whole number from 15 to 1440, or to null."
  }
}

variable "events" {
  description = "Whether a deleted export, a changed bucket, a lost member role or a new account starts a run within minutes. Needs a CloudTrail trail with management events."
  type        = bool
  default     = true
  nullable    = false
}

variable "delivery_events" {
  description = "Whether each delivery is announced within a minute: by an event on an SNS topic, and by a document of what changed beside the exports."
  type        = bool
  default     = false
  nullable    = false
}

variable "delta_retention_days" {
  description = "Days for which the documents of what changed are kept; the newest of each period stays."
  type        = number
  default     = 35
  nullable    = false

  validation {
    condition     = var.delta_retention_days >= 1 && var.delta_retention_days <= 3650 && floor(var.delta_retention_days) == var.delta_retention_days
    error_message = "Set delta_retention_days to a whole number from 1 to 3650."
  }
}

variable "fleet" {
  description = "Whether this deployment also serves the tenants of the registry, in rounds that AWS Step Functions run."
  type        = bool
  default     = false
  nullable    = false
}

variable "fleet_schedule" {
  description = "When a round over the tenants starts, as EventBridge Scheduler writes it. A round that is still in progress is not overtaken."
  type        = string
  default     = "rate(1 hour)"
  nullable    = false

  validation {
    condition     = can(regex("^rate\\([1-9]\\d* (minute|hour|day)s?\\)$", var.fleet_schedule)) || can(regex("^cron\\(\\S+( \\S+){5}\\)$", var.fleet_schedule))
    error_message = "Set fleet_schedule to \"rate(1 hour)\" or the like, or to six cron fields, such as \"cron(30 * * * ? *)\"."
  }
}

variable "fleet_concurrency" {
  description = "How many tenants are served at once, at most. Lambda reserves as many executions, and two more."
  type        = number
  default     = 40
  nullable    = false

  validation {
    condition     = var.fleet_concurrency >= 1 && var.fleet_concurrency <= 900 && floor(var.fleet_concurrency) == var.fleet_concurrency
    error_message = "Set fleet_concurrency to a whole number from 1 to 900."
  }
}

variable "fleet_tolerated_percent" {
  description = "The share of tenants, in percent, whose call of the function may fail before the round stops. Tenants that cannot be entered are no failed calls."
  type        = number
  default     = 50
  nullable    = false

  validation {
    condition     = var.fleet_tolerated_percent >= 0 && var.fleet_tolerated_percent <= 100
    error_message = "Set fleet_tolerated_percent to a number from 0 to 100."
  }
}

variable "tenant_role_name" {
  description = "The name of the role that the function assumes in each tenant's account."
  type        = string
  default     = "tailpipe-exports-tenant"
  nullable    = false

  validation {
    condition     = can(regex("^[\\w+=,.@-]{1,64}$", var.tenant_role_name))
    error_message = "Set tenant_role_name to at most 64 letters, digits or any of _+=,.@-."
  }
}

variable "tenant_connectors" {
  description = "The tenants whose exports in this bucket Tailpipe reads by a role of their own, by tenant id: payer is the account of the exports, external_id the External ID that Tailpipe gave for this tenant."
  type = map(object({
    payer       = string
    external_id = string
  }))
  default   = {}
  nullable  = false
  sensitive = true

  validation {
    condition     = alltrue([for tenant in keys(var.tenant_connectors) : can(regex("^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$", tenant))])
    error_message = "Set the keys of tenant_connectors to ids of tenants in the registry: 1 to 40 of a-z, 0-9 and -, no - at either end."
  }

  validation {
    condition     = alltrue([for one in values(var.tenant_connectors) : can(regex("^\\d{12}$", one.payer))])
    error_message = "Set payer in tenant_connectors to the account id of the tenant's exports, which has 12 digits."
  }

  validation {
    condition     = alltrue([for one in values(var.tenant_connectors) : can(regex("^[\\w+=,.@:/-]{2,}$", one.external_id)) && length(one.external_id) <= 1224])
    error_message = "Set external_id in tenant_connectors to the External ID that Tailpipe gave you for the tenant: 2 to 1224 letters, digits or any of _+=,.@:/- without blanks."
  }

  validation {
    condition     = length(distinct([for one in values(var.tenant_connectors) : one.external_id])) == length(var.tenant_connectors)
    error_message = "Set external_id in tenant_connectors to another External ID for each tenant, since a shared one would open the files of several."
  }
}

variable "registry_writers" {
  description = "The ARNs of the only roles and users that may write the tenant registry. Empty: everyone with rights on the bucket except the roles of this module."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.registry_writers : can(regex("^arn:aws[a-z-]*:iam::\\d{12}:(role|user)/[\\w+=,.@/-]+$", arn))])
    error_message = "Set registry_writers to ARNs of roles or users, such as \"arn:aws:iam::111122223333:role/platform\"."
  }
}

variable "include_accounts" {
  description = "Member accounts that get the connector role. If include_ous is empty too: all."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.include_accounts : can(regex("^\\d{12}$", id))])
    error_message = "Set include_accounts to account ids of 12 digits, in quotes."
  }
}

variable "exclude_accounts" {
  description = "Member accounts that get no connector role."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.exclude_accounts : can(regex("^\\d{12}$", id))])
    error_message = "Set exclude_accounts to account ids of 12 digits, in quotes."
  }
}

variable "include_ous" {
  description = "Organizational units (or the root) whose accounts, at any depth, get the connector role."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.include_ous : can(regex("^(r-[a-z0-9]{4,32}|ou-[a-z0-9]{4,32}-[a-z0-9]{8,32})$", id))])
    error_message = "Set include_ous to ids of organizational units, such as \"ou-ab12-cdefgh34\"."
  }
}

variable "auto_deployment" {
  description = "Whether CloudFormation itself gives the connector role to accounts that join. Null: yes, unless accounts are selected."
  type        = bool
  default     = null
}

variable "organizations_access" {
  description = "activate: switch on StackSets' access to the organization (runs the AWS CLI). require: refuse where it is off."
  type        = string
  default     = "activate"
  nullable    = false

  validation {
    condition     = contains(["activate", "require"], var.organizations_access)
    error_message = "Set organizations_access to \"activate\", or to \"require\" if you switch it on yourself."
  }
}

variable "function_name" {
  description = "The function's name; the names of queue, topic, schedule, alarms and roles derive from it."
  type        = string
  default     = "tailpipe-exports"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9-]{0,47}$", var.function_name))
    error_message = "Set function_name to at most 48 letters, digits and hyphens, a letter first."
  }
}

variable "memory_mb" {
  description = "The function's memory in MB; its share of a CPU grows with it."
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = var.memory_mb >= 256 && var.memory_mb <= 10240 && floor(var.memory_mb) == var.memory_mb
    error_message = "Set memory_mb to a whole number from 256 to 10240."
  }
}

variable "timeout_seconds" {
  description = "Longest duration of a run in seconds; the next run does what is left."
  type        = number
  default     = 900
  nullable    = false

  validation {
    condition     = var.timeout_seconds >= 60 && var.timeout_seconds <= 900 && floor(var.timeout_seconds) == var.timeout_seconds
    error_message = "Set timeout_seconds to a whole number from 60 to 900, which is Lambda's most."
  }
}

variable "reserved_concurrency" {
  description = "1: runs never overlap. -1: none reserved, for accounts whose Lambda quota leaves nothing to reserve."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = contains([1, -1], var.reserved_concurrency)
    error_message = "Set reserved_concurrency to 1, or to -1 where the account's Lambda quota is too small to reserve any."
  }
}

variable "call_budget" {
  description = "Maximum number of control-plane reads in a run; 0: no limit."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.call_budget >= 0 && var.call_budget <= 1000000 && floor(var.call_budget) == var.call_budget
    error_message = "Set call_budget to a whole number from 0 (no limit) to 1000000."
  }
}

variable "log_level" {
  description = "The least severe level that is logged: DEBUG, INFO, WARNING or ERROR."
  type        = string
  default     = "INFO"
  nullable    = false

  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.log_level)
    error_message = "Set log_level to \"DEBUG\", \"INFO\", \"WARNING\" or \"ERROR\"."
  }
}

variable "settings" {
  description = "Further settings of the function: MAX_VANISHED_PERCENT, MAX_WRITES_PER_RUN, CALLS_AT_ONCE, STALE_MIN_HOURS, STALE_MAX_HOURS."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setsubtract(keys(var.settings), ["MAX_VANISHED_PERCENT", "MAX_WRITES_PER_RUN", "CALLS_AT_ONCE", "STALE_MIN_HOURS", "STALE_MAX_HOURS"])) == 0
    error_message = "Set in settings only MAX_VANISHED_PERCENT, MAX_WRITES_PER_RUN, CALLS_AT_ONCE, STALE_MIN_HOURS and STALE_MAX_HOURS; everything else has a variable of its own."
  }
}

variable "bucket_name" {
  description = "The export bucket's name. Null: tailpipe-dataexport-{account id}, the name that Tailpipe expects by default."
  type        = string
  default     = null

  validation {
    condition     = var.bucket_name == null || (can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket_name)))
    error_message = "Set bucket_name to 3 to 63 lower-case letters, digits and hyphens, or to null."
  }
}

variable "export_prefix" {
  description = "The prefix below which exports are delivered and the connector reads."
  type        = string
  default     = "dataexport"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", var.export_prefix)) && length(var.export_prefix) <= 256 && !contains(["state", "runs"], split("/", var.export_prefix)[0])
    error_message = "Set export_prefix to letters, digits and any of _.- between single slashes, none at either end, and not below state/ or runs/, which are the function's own."
  }
}

variable "extra_bucket_policy" {
  description = "A policy document in JSON whose statements are added to the bucket's policy."
  type        = string
  default     = null

  validation {
    condition     = var.extra_bucket_policy == null || can(jsondecode(var.extra_bucket_policy).Statement)
    error_message = "Set extra_bucket_policy to a policy document in JSON, such as data.aws_iam_policy_document.mine.json."
  }
}

variable "keep_overwritten_days" {
  description = "Days for which overwritten and deleted files are kept as older versions; 0: the bucket is not versioned."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.keep_overwritten_days >= 0 && var.keep_overwritten_days <= 365 && floor(var.keep_overwritten_days) == var.keep_overwritten_days
    error_message = "Set keep_overwritten_days to a whole number from 0 (no versions) to 365."
  }
}

variable "delete_data_on_destroy" {
  description = "Whether `terraform destroy` deletes the bucket with all cost data; false: it stops at a bucket that holds any."
  type        = bool
  default     = false
  nullable    = false
}

variable "kms_key_arn" {
  description = "A customer-managed KMS key for the bucket and the log group. Its policy needs the statements of output kms_key_policy."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:\\d{12}:key/[A-Za-z0-9-]+$", var.kms_key_arn))
    error_message = "Set kms_key_arn to the ARN of a key (…:key/…, not an alias), or to null."
  }
}

variable "permissions_boundary_arn" {
  description = "A permissions boundary for every role of this module in this account."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex("^arn:aws[a-z-]*:iam::(\\d{12}|aws):policy/[\\w+=,.@/-]+$", var.permissions_boundary_arn))
    error_message = "Set permissions_boundary_arn to the ARN of a managed policy, or to null."
  }
}

variable "stackset_name" {
  description = "The name of the StackSet that makes the connector role in member accounts."
  type        = string
  default     = "Tailpipe-CloudWatch-Child-StackSet"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9-]{0,127}$", var.stackset_name))
    error_message = "Set stackset_name to at most 128 letters, digits and hyphens, a letter first."
  }
}

variable "connector_role_name" {
  description = "The name of the role that Tailpipe assumes in this account."
  type        = string
  default     = "tailpipe-connector-role"
  nullable    = false

  validation {
    condition     = can(regex("^[\\w+=,.@-]{1,64}$", var.connector_role_name))
    error_message = "Set connector_role_name to at most 64 letters, digits or any of _+=,.@-."
  }
}

variable "member_role_name" {
  description = "The name of the role that Tailpipe assumes in member accounts."
  type        = string
  default     = "tailpipe-child-connector"
  nullable    = false

  validation {
    condition     = can(regex("^[\\w+=,.@-]{1,64}$", var.member_role_name))
    error_message = "Set member_role_name to at most 64 letters, digits or any of _+=,.@-."
  }
}

variable "log_retention_days" {
  description = "Days for which the function's log is kept."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "Set log_retention_days to a number that CloudWatch Logs offers, such as 30, 90 or 365."
  }
}

variable "notification_emails" {
  description = "Addresses that alarms notify. Each has to confirm the mail that AWS sends."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.notification_emails : can(regex("^[^@\\s]+@[^@\\s]+$", address))])
    error_message = "Set notification_emails to e-mail addresses, such as [\"platform@example.com\"]."
  }
}

variable "notify_secret" {
  description = "The secret in Secrets Manager, by its ARN, that holds the address of a webhook for messages: Slack, a Teams workflow or any HTTPS endpoint. Null: no messages."
  type        = string
  default     = null

  validation {
    condition     = var.notify_secret == null || can(regex("^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\\d{12}:secret:[\\w/+=.@-]+-[A-Za-z0-9]{6}$", var.notify_secret))
    error_message = "Set notify_secret to the secret's whole ARN, with the six characters at its end, or to null. Never write the webhook's address itself."
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

variable "tags" {
  description = "Tags for everything that supports tags, in addition to managed-by."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = !contains(keys(var.tags), "managed-by") && alltrue([for key in keys(var.tags) : !startswith(key, "aws:")])
    error_message = "Set tags without \"managed-by\", which the module sets itself, and without names that begin with \"aws:\"."
  }
}

variable "dashboard" {
  description = "Makes a CloudWatch dashboard. An account has three without charge; each further one costs $3 a month, which is more than most runs."
  type        = bool
  default     = false
  nullable    = false
}
