"""The manual steps: what is wrong, what a person has to do, and a link.

The module is long because it is one list of texts: keeping them together keeps their wording consistent.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from shared.model import ManualStep

CONSOLE = "https://console.cloud.google.com/billing/{account}/export/bigquery"
SUPPORT = "https://cloud.google.com/billing/docs/how-to/export-data-bigquery-setup"
REGIONS_URL = "https://cloud.google.com/bigquery/docs/exporting-data#data-locations"
REGION_URL = SUPPORT + "#limitations"
LOCATION_URL = "https://cloud.google.com/billing/docs/how-to/export-data-bigquery-setup#create-bq-dataset"
LIFECYCLE_URL = "https://console.cloud.google.com/storage/browser/{bucket};tab=lifecycle"
PUBLIC_URL = "https://cloud.google.com/storage/docs/using-public-access-prevention"
NAMING_URL = "https://cloud.google.com/storage/docs/buckets#naming"
REDIRECTED = "This redirects an export that is already enabled. Google backfills data only when it is first enabled."
NO_BACK_DATA = "Google backfills data only when an export is first enabled: rows missed since the last ones are lost."
BILLING_URL = "https://console.cloud.google.com/billing/projects"
RETENTION_URL = "https://cloud.google.com/storage/docs/bucket-lock"
ACCESS_URL = "https://cloud.google.com/bigquery/docs/control-access-to-resources-iam"


def api_disabled(service: str, project: str = "") -> ManualStep:
    """Return the step that enables an API, which the function has no permission to do."""
    command = f"gcloud services enable {service}" + (f" --project {project}" if project else "")
    url = f"https://console.cloud.google.com/apis/library/{service}" + (f"?project={project}" if project else "")
    return ManualStep(
        f"{service} is not enabled" + (f" in project {project}" if project else ""),
        (f"Run: {command}", "It takes a few minutes to take effect; later runs then continue without further steps."),
        url,
    )


def apis_unreadable(project: str, why: str) -> ManualStep:
    """Return the step for a function that may not read which APIs are enabled."""
    step = "Grant roles/serviceusage.serviceUsageViewer to the function's service account (the deployment does)."
    return ManualStep(f"cannot read which APIs are enabled in project {project}: {why}", (step,))


def project_not_billed(message: str, project: str = "", state: str = "") -> ManualStep:
    """Return the step for a project without an open billing account.

    `message` is Google's, `project` the project's id or number, `state` Google's name for the account's state:
    ``closed``, ``absent`` or ``delinquent``.
    """
    link = "gcloud billing projects link PROJECT --billing-account ACCOUNT".replace("PROJECT", project or "PROJECT")
    fix = {
        "closed": f"The linked billing account is closed: reopen it, or link an open one ({link}).",
        "delinquent": "A payment is overdue: have a Billing Account Administrator settle it under Payment overview.",
    }.get(state, f"Link the project to an open billing account ({link}).")
    url = f"https://console.cloud.google.com/billing/linkedaccount?project={project}" if project else BILLING_URL
    loss = "Until then Google writes no billing data to the project and may delete its resources."
    return ManualStep(f"the project has no open billing account: {message}", (fix, loss), url)


def quota_project_missing(service: str) -> ManualStep:
    """Return the step for user credentials without a quota project: gcloud's own project is charged for their calls."""
    return ManualStep(
        f"the credentials have no quota project, so {service or 'the API'} charges the call to gcloud's own project",
        (
            "Run: gcloud auth application-default set-quota-project PROJECT (the project of this deployment).",
            "You need roles/serviceusage.serviceUsageConsumer on that project. You do not have to enable an API.",
        ),
        "https://cloud.google.com/docs/authentication/adc-troubleshooting/user-creds",
    )


def quota_project_denied(message: str, project: str) -> ManualStep:
    """Return the step for a caller that may not use its quota project."""
    return ManualStep(
        f"the caller may not use project {project or 'in the message'} as its quota project: {message}",
        (
            "Grant the caller roles/serviceusage.serviceUsageConsumer on that project.",
            "Or choose another quota project: gcloud auth application-default set-quota-project PROJECT.",
        ),
        "https://cloud.google.com/docs/quotas/set-quota-project",
    )


def project_suspended(message: str, project: str) -> ManualStep:
    """Return the step for a project that Google has suspended, for abuse or an unpaid bill.

    Source: "Project suspension guidelines", Google Cloud documentation.
    """
    return ManualStep(
        f"Google has suspended project {project}".rstrip() + f": {message}",
        (
            "Open the link as an owner of the project: the notice states the reason and how to appeal.",
            "Google also notifies the project's owners by email. No IAM role resolves this.",
        ),
        "https://console.cloud.google.com/appeal",
    )


def scopes_missing(message: str) -> ManualStep:
    """Return the step for a token that was issued for fewer OAuth scopes than the calls need."""
    return ManualStep(
        f"the credentials' token lacks the OAuth scope for this API: {message}",
        (
            "On a laptop run: gcloud auth application-default login --scopes=https://www.googleapis.com/auth/cloud-platform",
            "On a virtual machine, set its access scopes to cloud-platform; functions on Cloud Run already have it.",
            "No IAM role resolves this.",
        ),
        "https://cloud.google.com/docs/authentication/adc-troubleshooting/user-creds",
    )


def perimeter_refused(identifier: str, service: str) -> ManualStep:
    """Return the step for a call that VPC Service Controls denies; `identifier` names the denial in Google's logs."""
    query = f"?uniqueIdentifier={identifier}" if identifier else ""
    return ManualStep(
        f"VPC Service Controls denies {service or 'the call'}"
        + (f" (vpcServiceControlsUniqueIdentifier {identifier})" if identifier else ""),
        (
            "Open the link as an administrator of the perimeter: it shows which rule denies this call.",
            "Add an ingress or egress rule, or an access level, for the function's service account and this service.",
            "No IAM role resolves this.",
        ),
        f"https://console.cloud.google.com/security/service-perimeter/troubleshoot-landing{query}",
    )


def organization_policy(constraint: str, message: str) -> ManualStep:
    """Return the step for a write that an organization policy forbids."""
    return ManualStep(
        f"organization policy {constraint or '(named in the message)'} forbids the write: {message}",
        (
            "Choose settings that the policy allows (for example DATASET_LOCATION for gcp.resourceLocations).",
            "Or ask an Organization Policy Administrator for an exception for this project.",
        ),
        "https://console.cloud.google.com/iam-admin/orgpolicies",
    )


def key_unusable(message: str) -> ManualStep:
    """Return the step for a customer-managed key that cannot be used."""
    return ManualStep(
        f"a customer-managed encryption key cannot be used: {message}",
        (
            "Check that the key is enabled and in the location of the dataset or bucket.",
            "Grant the service agent named in the message roles/cloudkms.cryptoKeyEncrypterDecrypter on the key.",
        ),
        "https://cloud.google.com/storage/docs/encryption/using-customer-managed-keys",
    )


def payer_unreadable(project: str, why: str) -> ManualStep:
    """Return the step for a function that may not read the project's billing account."""
    step = "Grant resourcemanager.projects.get on the project to the function's service account (the deployment does)."
    return ManualStep(f"cannot read which billing account project {project} is linked to: {why}", (step,))


def retention_blocks(message: str, bucket: str = "") -> ManualStep:
    """Return the step for a bucket whose retention policy prevents objects from being replaced."""
    name = bucket or "BUCKET"
    return ManualStep(
        f"a retention policy prevents objects from being replaced: {message}",
        (
            f"If the policy is not locked, run: gcloud storage buckets update gs://{name} --clear-retention-period",
            f"Or keep replaced objects as noncurrent versions: gcloud storage buckets update gs://{name} --versioning",
            "If the organization requires it (storage.retentionPolicySeconds), request an exception for this project.",
        ),
        RETENTION_URL,
    )


def soft_delete_on(bucket: str, kept: timedelta) -> ManualStep:
    """Return the step for a bucket with soft delete, which Google advises against for export buckets."""
    return ManualStep(
        f"bucket {bucket} keeps deleted objects for {kept.total_seconds() / 86400:g} days, so every superseded "
        "copy is billed for that much longer",
        (f"Run: gcloud storage buckets update gs://{bucket} --clear-soft-delete", "Or apply the deployment again."),
        "https://cloud.google.com/storage/docs/soft-delete",
    )


def object_held(message: str, bucket: str = "") -> ManualStep:
    """Return the step for a bucket in which a hold prevents objects from being replaced."""
    name = bucket or "BUCKET"
    return ManualStep(
        f"a hold prevents objects from being replaced: {message}",
        (
            f"Disable the default hold: gcloud storage buckets update gs://{name} --no-default-event-based-hold.",
            f"Release the objects: gcloud storage objects update gs://{name}/** --no-event-based-hold",
            "For objects under a temporary hold, run the same with --no-temporary-hold.",
        ),
        "https://cloud.google.com/storage/docs/holding-objects",
    )


def requester_pays(message: str) -> ManualStep:
    """Return the step for a bucket that charges its readers."""
    step = "Disable requester pays: gcloud storage buckets update gs://BUCKET --no-requester-pays."
    return ManualStep(
        f"requester pays is enabled on the bucket: {message}",
        (step,),
        "https://cloud.google.com/storage/docs/requester-pays",
    )


def right_missing(why: str, remedy: str) -> ManualStep:
    """Return the step for a write that is refused for a missing permission."""
    return ManualStep(f"a permission is missing: {why}", (remedy,))


def unreadable(what: str, why: str, remedy: str) -> ManualStep:
    """Return the step for a read of `what` that is refused."""
    return ManualStep(f"{what} cannot be read: {why}", (remedy,))


def dataset_elsewhere(dataset: str, place: str, wanted: str, note: str) -> ManualStep:
    """Return the step for a dataset that is not in the location of the settings."""
    return ManualStep(
        f"dataset {dataset} is in {place}, not in {wanted} as DATASET_LOCATION says; it is used where it is.{note}",
        (
            f"To keep it there, set DATASET_LOCATION to {place}.",
            "Or set BILLING_DATASET to another dataset, and enable each account's exports again in the console.",
            REDIRECTED,
        ),
        LOCATION_URL,
    )


def entries_unreadable(account: str, kind: str, dataset: str, right: str) -> ManualStep:
    """Return the step for a function that may not read the dataset's access entries."""
    return ManualStep(
        f"cannot determine whether the {kind} export of account {account} is enabled: the access entries of "
        f"dataset {dataset} may not be read",
        (
            f"Grant {right} on the dataset to the function's service account (the deployment does).",
            "The role roles/bigquery.metadataViewer contains it.",
        ),
        ACCESS_URL,
    )


def tables_expire(project: str, dataset: str, after: timedelta) -> ManualStep:
    """Return the step for a dataset whose tables or partitions expire."""
    return ManualStep(
        f"tables or partitions of dataset {dataset} expire after {after.total_seconds() / 86400:g} days; Google does "
        "not export deleted billing data again",
        (
            f"Run: bq update --default_table_expiration 0 --default_partition_expiration 0 {project}:{dataset}",
            f"For each table: bq update --expiration 0 --time_partitioning_expiration 0 {project}:{dataset}.TABLE",
            "In the BigQuery sandbox (60 days), link the project to an open billing account first.",
        ),
        SUPPORT,
    )


def region_unsupported(dataset: str, place: str) -> ManualStep:
    """Return the step for a dataset in a region to which Cloud Billing does not export."""
    return ManualStep(
        f"Cloud Billing does not export to datasets in {place}, the location of {dataset}: the console rejects it",
        (
            "Set DATASET_LOCATION to US or EU (or a region listed under the link), and BILLING_DATASET to a new name.",
            "Deploy again, then enable each account's exports in the console.",
            REDIRECTED,
        ),
        REGION_URL,
    )


def key_blocks_export(project: str, dataset: str, key: str) -> ManualStep:
    """Return the step for a dataset whose customer-managed key prevents Google from writing to it."""
    return ManualStep(
        f"dataset {dataset} encrypts new tables with the customer-managed key {key}, and no billing data arrives",
        (
            f"Remove the default key: bq update --default_kms_key '' {project}:{dataset}",
            "If the organization requires keys (gcp.restrictNonCmekServices), request an exception for this project.",
        ),
        SUPPORT,
    )


def rows_hidden(project: str, dataset: str, table: str, why: str) -> ManualStep:
    """Return the step for a table whose row access policies hide rows from the function."""
    name = f"{project}:{dataset}.{table}"
    return ManualStep(
        f"row access policies hide rows of table {dataset}.{table} from the function: {why}",
        (
            f"List the policies: bq ls --row_access_policies {name}",
            "Drop them, or add a policy with FILTER USING (TRUE) for the function's service account and the connector.",
            "Add the same policy for Google's writer, billing-export-bigquery@system.gserviceaccount.com.",
        ),
        "https://cloud.google.com/bigquery/docs/managing-row-level-security",
    )


def bucket_name_taken(bucket: str) -> ManualStep:
    """Return the step for a bucket name that another project has taken."""
    return ManualStep(
        f"bucket name {bucket} is taken by another project; nothing was written to that bucket",
        ("Set EXPORT_BUCKET to an unused name and deploy again.",),
        NAMING_URL,
    )


def bucket_elsewhere(bucket: str, place: str, dataset: str, location: str | None) -> ManualStep:
    """Return the step for a bucket in a location that BigQuery cannot extract the dataset to."""
    return ManualStep(
        f"bucket {bucket} is in {place}, but dataset {dataset} in {location}, from which BigQuery cannot extract to it",
        (
            f"Set EXPORT_BUCKET to an unused name: the function creates that bucket in {location}.",
            "Files in the old bucket are not moved.",
        ),
        REGIONS_URL,
    )


def locations_differ(message: str) -> ManualStep:
    """Return the step for locations that BigQuery itself refused; `message` is its message."""
    step = "Set EXPORT_BUCKET to an unused name: the function creates that bucket in the dataset's location."
    return ManualStep(f"the dataset and the bucket are in different locations: {message}", (step,))


def bucket_open(bucket: str) -> ManualStep:
    """Return the step for a bucket that an IAM policy could make public."""
    return ManualStep(
        f"public access prevention is not enforced on bucket {bucket}",
        (
            f"Run: gcloud storage buckets update gs://{bucket} --public-access-prevention",
            "Or apply the deployment again. The function has no permission to change the bucket's policies.",
        ),
        PUBLIC_URL,
    )


def copies_deleted(bucket: str, days: int) -> ManualStep:
    """Return the step for a bucket with a lifecycle rule that deletes copies."""
    return ManualStep(
        f"a lifecycle rule of bucket {bucket} deletes copies after {days} days; "
        "the function does not create copies again that are older than that",
        ("Remove the rule with action Delete, unless the copies are meant to be deleted.",),
        LIFECYCLE_URL.format(bucket=bucket),
    )


def console_step(
    account: str, title: str, roles: str, project: str, dataset: str, what: str = "", elsewhere: str = ""
) -> ManualStep:
    """Return the step that enables one kind of export for one account, for which Google has no API.

    `title` is the console's name for that kind, and `roles` are those that the person needs. `what` replaces the
    description of the problem. `elsewhere` is a dataset to which the account already exports.
    """
    missing = f'the billing export "{title}" of account {account} is not enabled'
    if elsewhere:
        return ManualStep(
            f'the billing export "{title}" of account {account} goes to dataset {elsewhere} of project {project}',
            (
                f"To keep that export and its history, set BILLING_DATASET to {elsewhere} and deploy again.",
                f"Or redirect it with the roles {roles}: open the link, choose Edit settings, dataset {dataset}, Save.",
                f"A redirected export is not backfilled: {elsewhere} ends on that day, and {dataset} begins.",
                "Google backfills data only when an export is first enabled.",
            ),
            CONSOLE.format(account=account),
        )
    return ManualStep(
        what or f"{missing} for dataset {project}.{dataset}",
        (
            f"Open the link with the roles {roles}. Google offers no API for this step.",
            f'On the tab BigQuery export, find "{title}".',
            "If the export already goes to another dataset, this redirects it, without a backfill.",
            "To keep such an export, set BILLING_DATASET to its dataset instead.",
            f"Otherwise choose Edit settings (or Enable). Project: {project}. Dataset: {dataset}. Then Save.",
            "The next run detects the change; the first rows take hours to arrive.",
            "Google backfills data, from the start of the previous month, only when an export is first enabled.",
            "It does so only for datasets in the US or EU multi-region.",
        ),
        CONSOLE.format(account=account),
    )


def schema_unexpected(account: str, dataset: str, table: str, why: str) -> ManualStep:
    """Return the step for a table that does not match Google's published schema."""
    return ManualStep(
        f"table {table} of account {account} does not match Google's published schema, so it cannot be monitored or "
        f"copied: {why}",
        (
            f"Check what {dataset}.{table} is; rename it if the billing export did not create it.",
            "The export then creates its table again.",
        ),
        SUPPORT,
    )


def export_stale(
    account: str, kind: str, dataset: str, principal: str, roles: str, fresh: datetime, since: str
) -> ManualStep:
    """Return the step for an export whose rows have stopped arriving.

    `since` ends the sentence, `principal` is Google's writer, and `roles` are those that the person needs.
    """
    return ManualStep(
        f"the {kind} export of account {account} is stale: its newest rows are from {fresh:%Y-%m-%d %H:%M} UTC{since}",
        _check_export(dataset, principal, roles),
        CONSOLE.format(account=account),
    )


def delivered_once(
    account: str, kind: str, dataset: str, principal: str, roles: str, fresh: datetime, since: str
) -> ManualStep:
    """Return the step for an export whose rows arrived on a single day: it is billed monthly, or it stopped."""
    return ManualStep(
        f"the {kind} export of account {account} delivered on one day, {fresh:%Y-%m-%d} UTC, and not since{since}",
        (
            "If the account is billed monthly (Workspace, support, marketplace), do nothing: new rows close this step.",
            *_check_export(dataset, principal, roles),
        ),
        CONSOLE.format(account=account),
    )


def _check_export(dataset: str, principal: str, roles: str) -> tuple[str, ...]:
    return (
        f"Open the link with the roles {roles}.",
        "Check that the export is still enabled and goes to this dataset, and whether the account has any usage.",
        f"Check that {principal} is still an owner of dataset {dataset}.",
        "If that access entry is missing, add it, or disable and enable the export: without it Google cannot write.",
        NO_BACK_DATA,
    )


def manifest_foreign(bucket: str, name: str) -> ManualStep:
    """Return the step for an object that has a manifest's name but is not ours."""
    return ManualStep(
        f"gs://{bucket}/{name} is not a manifest of this function; it was left unchanged, and that day is not copied",
        ("Find out who owns the object, and rename it: the next run then creates the copy.",),
        f"https://console.cloud.google.com/storage/browser/_details/{bucket}/{name}",
    )
