# Tailpipe acts as this account, with tokens of its own issuer that Google exchanges; there is no key to leak or rotate.
resource "google_service_account" "connector" {
  project      = var.project_id
  account_id   = "tailpipe-connector"
  display_name = "Tailpipe Exports: the connector"
  description  = "What Tailpipe reads the exports as, by workload identity. Holds no key."

  depends_on = [google_project_service.this, terraform_data.inputs]
}

resource "google_iam_workload_identity_pool" "tailpipe" {
  project                   = var.project_id
  workload_identity_pool_id = var.workload_identity_pool_id
  display_name              = "Tailpipe"
  description               = "Identities of Tailpipe that may read the exports"

  depends_on = [google_project_service.this, terraform_data.inputs]
}

# Google admits every token that this issuer signs, so its name is verified first. No data source reads an address without
# following redirects, which is why this is a script.
resource "terraform_data" "issuer" {
  count = var.check_issuer ? 1 : 0

  triggers_replace = [var.tailpipe_issuer]

  provisioner "local-exec" {
    command     = "sh ${path.module}/check-issuer.sh"
    environment = { ISSUER = var.tailpipe_issuer }
  }
}

resource "google_iam_workload_identity_pool_provider" "tailpipe" {
  project                            = var.project_id
  workload_identity_pool_id          = google_iam_workload_identity_pool.tailpipe.workload_identity_pool_id
  workload_identity_pool_provider_id = "tailpipe-provider"
  display_name                       = "Tailpipe"
  description                        = "Tokens of Tailpipe (${var.environment}) for one tenant"

  attribute_mapping = {
    "google.subject"   = "assertion.sub"
    "attribute.tenant" = "assertion.tenant_id"
  }

  # Without it Google would admit every token of the issuer: those of all of Tailpipe's customers.
  attribute_condition = "assertion.tenant_id == '${var.tailpipe_tenant}'"

  oidc {
    issuer_uri        = var.tailpipe_issuer
    allowed_audiences = [var.tailpipe_audience]
  }

  depends_on = [terraform_data.issuer]
}

resource "google_service_account_iam_member" "connector" {
  service_account_id = google_service_account.connector.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.tailpipe.name}/attribute.tenant/${var.tailpipe_tenant}"
}
