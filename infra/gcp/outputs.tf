output "function_name" {
  description = "Name of the function, and of the Cloud Run service under it."
  value       = google_cloudfunctions2_function.this.name
}

output "function_id" {
  description = "Resource id of the function."
  value       = google_cloudfunctions2_function.this.id
}

output "function_identity" {
  description = "E-mail of the service account that the function runs as."
  value       = google_service_account.function.email
}

output "destination" {
  description = "Where Google exports to and where the copies are: dataset, dataset_full_path, location, bucket, bucket_uri."
  value = {
    dataset           = google_bigquery_dataset.export.dataset_id
    dataset_full_path = "${var.project_id}.${google_bigquery_dataset.export.dataset_id}"
    location          = google_bigquery_dataset.export.location
    bucket            = google_storage_bucket.export.name
    bucket_uri        = google_storage_bucket.export.url
  }
}

output "state" {
  description = "Where the function's state and reports are: bucket, object, reports."
  value = {
    bucket  = google_storage_bucket.state.name
    object  = "known_billing_accounts.json"
    reports = "${google_storage_bucket.state.url}/runs/"
  }
}

output "schedule" {
  description = "When the function runs: job, expression, time_zone."
  value = {
    job        = google_cloud_scheduler_job.this.id
    expression = google_cloud_scheduler_job.this.schedule
    time_zone  = google_cloud_scheduler_job.this.time_zone
  }
}

output "delivery_topic" {
  description = "Full name of the Pub/Sub topic on which deliveries are published; null without delivery_events."
  value       = one([for topic in google_pubsub_topic.deliveries : topic.id])
}

output "fleet" {
  description = "What serves the tenants: registry, queue, job, and the service account that each tenant lets impersonate its own; null without fleet."
  value = !var.fleet ? null : {
    registry        = "${google_storage_bucket.registry["tenants"].url}/tenants.json"
    queue           = google_cloud_tasks_queue.tenants["tenants"].id
    job             = google_cloud_scheduler_job.tenants["tenants"].id
    service_account = google_service_account.function.email
  }
}

output "connector" {
  description = "The identity that Tailpipe reads the exports with: service_account, pool, provider, issuer, audience, tenant."
  value = {
    service_account = google_service_account.connector.email
    pool            = google_iam_workload_identity_pool.tailpipe.name
    provider        = google_iam_workload_identity_pool_provider.tailpipe.name
    issuer          = var.tailpipe_issuer
    audience        = var.tailpipe_audience
    tenant          = var.tailpipe_tenant
  }
}

output "logs" {
  description = "Where the function's log lines are: bucket, and the filter to read them."
  value = {
    bucket = google_logging_project_bucket_config.function.id
    filter = local.log_filter
  }
}

output "alarms" {
  description = "Names of the alarms."
  value       = [for policy in google_monitoring_alert_policy.this : policy.display_name]
}

output "granted" {
  description = "The grants of rights.yaml that this deployment makes, by holder: function, connector."
  value       = { for holder in keys(local.rights) : holder => [for grant in local.grants : grant.id if grant.holder == holder] }
}

output "settings" {
  description = "The function's environment."
  value       = local.settings
}

# The keys are a contract with Tailpipe's ingestion; what Terraform cannot know is left empty for the command to fill in.
output "onboarding" {
  description = "What Tailpipe needs to connect."
  value = {
    platform         = "gcp"
    organizationId   = var.organization_id
    billingAccountId = var.billing_accounts
    project = {
      id     = var.project_id
      number = data.google_project.this.number
      region = var.dataset_location
    }
    storage = {
      bucket          = google_storage_bucket.export.name
      bucketUri       = google_storage_bucket.export.url
      dataset         = google_bigquery_dataset.export.dataset_id
      datasetFullPath = "${var.project_id}.${google_bigquery_dataset.export.dataset_id}"
    }
    serviceAccount = {
      email   = google_service_account.connector.email
      keyFile = null
      projectRoles = sort(distinct([
        for grant in local.grants : grant.role
        if grant.holder == "connector" && contains(["project", "dataset", "export_bucket"], grant.scope)
      ]))
      organizationRoles = sort(distinct([
        for grant in local.grants : grant.role if grant.holder == "connector" && grant.scope == "organization"
      ]))
    }
    workloadIdentity = {
      enabled      = true
      poolName     = google_iam_workload_identity_pool.tailpipe.name
      providerName = google_iam_workload_identity_pool_provider.tailpipe.name
    }
    billingExport = {
      type         = "BigQuery"
      dataset      = google_bigquery_dataset.export.dataset_id
      accountCount = null
      tables       = []
    }
  }
}
