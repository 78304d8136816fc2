"""The steps that only a person can take: what is wrong, what to do, and where it is described.

The module is long because it is one list of texts: keeping them together keeps their wording alike.
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
REDIRECTED = "An export that is on already is redirected by that, without back data: only its first enabling has any."
NO_BACK_DATA = "Only the first enabling brings back data: what was missed since the last rows does not come again."
BILLING_URL = "https://console.cloud.google.com/billing/projects"
RETENTION_URL = "https://cloud.google.com/storage/docs/bucket-lock"
ACCESS_URL = "https://cloud.google.com/bigquery/docs/control-access-to-resources-iam"


def api_disabled(service: str, project: str = "") -> ManualStep:
    """Return the step that turns an API on; the function itself has no right to."""
    command = f"gcloud services enable {service}" + (f" --project {project}" if project else "")
    url = f"https://console.cloud.google.com/apis/library/{service}" + (f"?project={project}" if project else "")
    return ManualStep(
        f"{service} is not enabled" + (f" in project {project}" if project else ""),
        (f"Run: {command}", "It takes a few minutes to be in effect; the next runs go on by themselves."),
        url,
    )


def apis_unreadable(project: str, why: str) -> ManualStep:
    """Return what to do where the function may not see which APIs are on."""
    step = "Grant roles/serviceusage.serviceUsageViewer to the function's service account (the deployment does)."
    return ManualStep(f"whether the APIs of project {project} are on cannot be read: {why}", (step,))


def project_not_billed(said: str, project: str = "", state: str = "") -> ManualStep:
    """Return the step for a project that no open billing account pays for.

    `said` are Google's words, `project` its id or number, `state` what Google calls the account: ``closed``, ``absent``
    or ``delinquent``.
    """
    link = "gcloud billing projects link PROJECT --billing-account ACCOUNT".replace("PROJECT", project or "PROJECT")
    cure = {
        "closed": f"The linked billing account is closed: reopen it, or link an open one ({link}).",
        "delinquent": "Payment is overdue: a Billing Account Administrator settles it under Payment overview.",
    }.get(state, f"Link the project to an open billing account ({link}).")
    url = f"https://console.cloud.google.com/billing/linkedaccount?project={project}" if project else BILLING_URL
    loss = "Until then Google writes no billing data to the project and may delete what is in it."
    return ManualStep(f"the project is not billed: {said}", (cure, loss), url)


def quota_project_missing(service: str) -> ManualStep:
    """Return the step for user credentials without a quota project, whose calls count on gcloud's own project."""
    return ManualStep(
        f"the credentials have no quota project, so {service or 'the API'} counts the call on gcloud's own project",
        (
            "Run: gcloud auth application-default set-quota-project PROJECT (the project of this deployment).",
            "You need roles/serviceusage.serviceUsageConsumer on that project. No API has to be enabled.",
        ),
        "https://cloud.google.com/docs/authentication/adc-troubleshooting/user-creds",
    )


def quota_project_denied(said: str, project: str) -> ManualStep:
    """Return the step where the caller may not use the project that its calls are counted on."""
    return ManualStep(
        f"the calls may not be counted on project {project or 'in the message'}: {said}",
        (
            "Grant roles/serviceusage.serviceUsageConsumer on that project to the caller.",
            "Or choose another one: gcloud auth application-default set-quota-project PROJECT.",
        ),
        "https://cloud.google.com/docs/quotas/set-quota-project",
    )


def project_suspended(said: str, project: str) -> ManualStep:
    """Return the step where Google has suspended the project, for abuse or an unpaid bill.

    Source: "Project suspension guidelines", Google Cloud documentation.
    """
    return ManualStep(
        f"Google has suspended the project {project}".rstrip() + f": {said}",
        (
            "Open the link as an owner of the project: the notice there says why, and offers an appeal.",
            "Google also notifies the project's owners by mail. No IAM role helps here.",
        ),
        "https://console.cloud.google.com/appeal",
    )


def scopes_missing(said: str) -> ManualStep:
    """Return the step for a token that was issued for fewer OAuth scopes than the calls need."""
    return ManualStep(
        f"the credentials' token is not meant for this API: {said}",
        (
            "On a laptop run: gcloud auth application-default login --scopes=https://www.googleapis.com/auth/cloud-platform",
            "On a virtual machine set its access scopes to cloud-platform; functions on Cloud Run have that one.",
            "No IAM role helps here.",
        ),
        "https://cloud.google.com/docs/authentication/adc-troubleshooting/user-creds",
    )


def perimeter_refused(identifier: str, service: str) -> ManualStep:
    """Return the step where VPC Service Controls refuses a call; `identifier` names the refusal in Google's logs."""
    query = f"?uniqueIdentifier={identifier}" if identifier else ""
    return ManualStep(
        f"VPC Service Controls refuses {service or 'the call'}"
        + (f" (vpcServiceControlsUniqueIdentifier {identifier})" if identifier else ""),
        (
            "Open the link as an administrator of the perimeter: it shows which rule refuses this call.",
            "Add an ingress or egress rule, or an access level, for the function's service account and this service.",
            "No IAM role helps here.",
        ),
        f"https://console.cloud.google.com/security/service-perimeter/troubleshoot-landing{query}",
    )


def organization_policy(constraint: str, said: str) -> ManualStep:
    """Return the step where a constraint of the organization forbids the write."""
    return ManualStep(
        f"the organization policy {constraint or 'named in the message'} forbids it: {said}",
        (
            "Choose settings that the policy allows (for example DATASET_LOCATION for gcp.resourceLocations).",
            "Or ask an Organization Policy Administrator for an exception for this project.",
        ),
        "https://console.cloud.google.com/iam-admin/orgpolicies",
    )


def key_unusable(said: str) -> ManualStep:
    """Return the step where a customer-managed key cannot be used."""
    return ManualStep(
        f"a customer-managed encryption key cannot be used: {said}",
        (
            "See that the key is enabled, and in the location of the dataset or bucket.",
            "Grant roles/cloudkms.cryptoKeyEncrypterDecrypter on it to the service agent named in the message.",
        ),
        "https://cloud.google.com/storage/docs/encryption/using-customer-managed-keys",
    )


def payer_unreadable(project: str, why: str) -> ManualStep:
    """Return what to do where it cannot be read which account pays for the project."""
    step = "Grant resourcemanager.projects.get on the project to the function's service account (the deployment does)."
    return ManualStep(f"which billing account pays for project {project} cannot be read: {why}", (step,))


def retention_blocks(said: str, bucket: str = "") -> ManualStep:
    """Return the step where a bucket's retention policy keeps objects from being replaced."""
    name = bucket or "BUCKET"
    return ManualStep(
        f"a retention policy keeps objects from being replaced: {said}",
        (
            f"If it is not locked, run: gcloud storage buckets update gs://{name} --clear-retention-period",
            f"Or let replaced objects stay as versions: gcloud storage buckets update gs://{name} --versioning",
            "If the organization requires it (storage.retentionPolicySeconds), ask for an exception for this project.",
        ),
        RETENTION_URL,
    )


def soft_delete_on(bucket: str, kept: timedelta) -> ManualStep:
    """Return the step where a bucket keeps what was deleted, which Google advises against for export buckets."""
    return ManualStep(
        f"bucket {bucket} keeps deleted objects for {kept.total_seconds() / 86400:g} days: every superseded copy is "
        "billed that much longer",
        (f"Run: gcloud storage buckets update gs://{bucket} --clear-soft-delete", "Or apply the deployment again."),
        "https://cloud.google.com/storage/docs/soft-delete",
    )


def object_held(said: str, bucket: str = "") -> ManualStep:
    """Return the step where a hold keeps objects from being replaced."""
    name = bucket or "BUCKET"
    return ManualStep(
        f"a hold keeps objects from being replaced: {said}",
        (
            f"Switch the default hold off: gcloud storage buckets update gs://{name} --no-default-event-based-hold.",
            f"Release the objects: gcloud storage objects update gs://{name}/** --no-event-based-hold",
            "Objects under a temporary hold: the same with --no-temporary-hold.",
        ),
        "https://cloud.google.com/storage/docs/holding-objects",
    )


def requester_pays(said: str) -> ManualStep:
    """Return the step where a bucket charges its readers."""
    step = "Switch it off: gcloud storage buckets update gs://BUCKET --no-requester-pays."
    return ManualStep(
        f"the bucket is set to requester pays: {said}", (step,), "https://cloud.google.com/storage/docs/requester-pays"
    )


def right_missing(why: str, remedy: str) -> ManualStep:
    """Return what to do where a write is refused."""
    return ManualStep(f"a right is missing: {why}", (remedy,))


def unreadable(what: str, why: str, remedy: str) -> ManualStep:
    """Return what to do where a read of `what` is refused."""
    return ManualStep(f"{what} cannot be read: {why}", (remedy,))


def dataset_elsewhere(dataset: str, place: str, wanted: str, note: str) -> ManualStep:
    """Return what to do where the dataset is not in the location of the settings."""
    return ManualStep(
        f"dataset {dataset} is in {place}, not in {wanted} as wanted; it is used as it is.{note}",
        (
            f"Keep it there: set DATASET_LOCATION to {place}.",
            "Or choose another dataset: set BILLING_DATASET, and take the console step again for each account.",
            REDIRECTED,
        ),
        LOCATION_URL,
    )


def entries_unreadable(account: str, kind: str, dataset: str, right: str) -> ManualStep:
    """Return what to do where the dataset's access entries are hidden from the function."""
    return ManualStep(
        f"whether the {kind} export of account {account} is switched on cannot be seen: the access entries of "
        f"dataset {dataset} may not be read",
        (
            f"Grant {right} on the dataset to the function's service account (the deployment does).",
            "The role roles/bigquery.metadataViewer holds it.",
        ),
        ACCESS_URL,
    )


def tables_expire(project: str, dataset: str, after: timedelta) -> ManualStep:
    """Return the step where BigQuery deletes what is exported to a dataset after some time."""
    return ManualStep(
        f"dataset {dataset} deletes its tables or their partitions after {after.total_seconds() / 86400:g} days; "
        "Google exports deleted billing data no second time",
        (
            f"Run: bq update --default_table_expiration 0 --default_partition_expiration 0 {project}:{dataset}",
            f"Each table there: bq update --expiration 0 --time_partitioning_expiration 0 {project}:{dataset}.TABLE",
            "In the BigQuery sandbox (60 days) link the project to an open billing account first.",
        ),
        SUPPORT,
    )


def region_unsupported(dataset: str, place: str) -> ManualStep:
    """Return the step where Cloud Billing does not export to the dataset's region."""
    return ManualStep(
        f"Cloud Billing exports to no dataset in {place}, where {dataset} is or is wanted: the console refuses it",
        (
            "Set DATASET_LOCATION to US or EU (or a region that the link lists), and BILLING_DATASET to a new name.",
            "Deploy again, then take the console step for each account.",
            REDIRECTED,
        ),
        REGION_URL,
    )


def key_blocks_export(project: str, dataset: str, key: str) -> ManualStep:
    """Return the step where a customer-managed key keeps Google from writing to the dataset."""
    return ManualStep(
        f"dataset {dataset} encrypts new tables with the customer-managed key {key}, and no billing data arrive",
        (
            f"Take the key away: bq update --default_kms_key '' {project}:{dataset}",
            "If the organization requires keys (gcp.restrictNonCmekServices), ask for an exception for this project.",
        ),
        SUPPORT,
    )


def rows_hidden(project: str, dataset: str, table: str, why: str) -> ManualStep:
    """Return the step where row access policies hide a table's rows from the function."""
    name = f"{project}:{dataset}.{table}"
    return ManualStep(
        f"row access policies hide rows of table {dataset}.{table} from the function: {why}",
        (
            f"See the policies: bq ls --row_access_policies {name}",
            "Drop them, or grant FILTER USING (TRUE) to the function's service account and the connector.",
            "Google's writer billing-export-bigquery@system.gserviceaccount.com needs the same grant.",
        ),
        "https://cloud.google.com/bigquery/docs/managing-row-level-security",
    )


def bucket_name_taken(bucket: str) -> ManualStep:
    """Return what to do where the bucket's name is another project's."""
    return ManualStep(
        f"the bucket name {bucket} is taken by another project; nothing was written to it",
        ("Set EXPORT_BUCKET to a free name and deploy again.",),
        NAMING_URL,
    )


def bucket_elsewhere(bucket: str, place: str, dataset: str, location: str | None) -> ManualStep:
    """Return what to do where BigQuery cannot write from the dataset's location to the bucket's."""
    return ManualStep(
        f"bucket {bucket} is in {place}, dataset {dataset} in {location}: BigQuery cannot write from one to the other",
        (
            f"Set EXPORT_BUCKET to a free name: the function creates that bucket in {location}.",
            "Files that are in the old bucket stay where they are.",
        ),
        REGIONS_URL,
    )


def locations_differ(said: str) -> ManualStep:
    """Return what to do where BigQuery itself refused the two locations; `said` are its words."""
    step = "Set EXPORT_BUCKET to a name that is free: the function creates that bucket in the dataset's location."
    return ManualStep(f"dataset and bucket are in different locations: {said}", (step,))


def bucket_open(bucket: str) -> ManualStep:
    """Return what to do where nothing but its policies keeps the public out of the bucket."""
    return ManualStep(
        f"public access prevention of bucket {bucket} is not enforced",
        (
            f"Run: gcloud storage buckets update gs://{bucket} --public-access-prevention",
            "Or apply the deployment again. The function itself holds no right over the bucket's policies.",
        ),
        PUBLIC_URL,
    )


def copies_deleted(bucket: str, days: int) -> ManualStep:
    """Return what to do where another owner's lifecycle rule deletes copies."""
    return ManualStep(
        f"a lifecycle rule of bucket {bucket} deletes copies after {days} days; "
        "they are not made again once they are that old",
        ("Remove the rule with action Delete, unless the copies are meant to go.",),
        LIFECYCLE_URL.format(bucket=bucket),
    )


def console_step(
    account: str, title: str, roles: str, project: str, dataset: str, what: str = "", elsewhere: str = ""
) -> ManualStep:
    """Return the step that no API can take: switching one kind of export on for one account.

    `title` is what the console calls that kind, `roles` what the person needs; `what` says what is wrong where it is
    more than that, and `elsewhere` names a dataset to which the account exports already.
    """
    missing = f'the billing export "{title}" of account {account} is not switched on'
    if elsewhere:
        return ManualStep(
            f'the billing export "{title}" of account {account} goes to dataset {elsewhere} of project {project}',
            (
                f"To keep that export and its history, set BILLING_DATASET to {elsewhere} and deploy again.",
                f"Or redirect it with the roles {roles}: open the link, Edit settings, dataset {dataset}, Save.",
                f"A redirected export brings no back data: {elsewhere} ends there, and {dataset} begins on that day.",
                "Only the first enabling of an export brings back data.",
            ),
            CONSOLE.format(account=account),
        )
    return ManualStep(
        what or f"{missing} for dataset {project}.{dataset}",
        (
            f"Open the link with the roles {roles}. Google offers no API for this step.",
            f'On the tab BigQuery export, find "{title}".',
            "An export that already goes elsewhere would be redirected, without back data.",
            "To keep such an export, set BILLING_DATASET to its dataset instead.",
            f"Otherwise choose Edit settings (or Enable). Project: {project}. Dataset: {dataset}. Then Save.",
            "The next runs notice it; the first rows take hours.",
            "Back data (from the start of the previous month) come only when an export is enabled for the first time.",
            "They come only to a dataset in the US or EU multi-region.",
        ),
        CONSOLE.format(account=account),
    )


def schema_unexpected(account: str, dataset: str, table: str, why: str) -> ManualStep:
    """Return what to do with a table that has not the published schema."""
    return ManualStep(
        f"table {table} of account {account} has not Google's schema, so it can be neither watched nor copied: {why}",
        (
            f"See what {dataset}.{table} is; move it away if it is not the billing export's own.",
            "The export then makes its table anew.",
        ),
        SUPPORT,
    )


def export_stale(
    account: str, kind: str, dataset: str, principal: str, roles: str, fresh: datetime, since: str
) -> ManualStep:
    """Return what to do where rows have stopped coming.

    `since` ends the sentence, `principal` is Google's export, `roles` are what the person needs.
    """
    return ManualStep(
        f"the {kind} export of account {account} is stale: its newest rows are of {fresh:%Y-%m-%d %H:%M} UTC{since}",
        _look_at_export(dataset, principal, roles),
        CONSOLE.format(account=account),
    )


def delivered_once(
    account: str, kind: str, dataset: str, principal: str, roles: str, fresh: datetime, since: str
) -> ManualStep:
    """Return what to do where rows came on a single day and none since: billed monthly, or broken after a first day."""
    return ManualStep(
        f"the {kind} export of account {account} delivered on one day, {fresh:%Y-%m-%d} UTC, and never again{since}",
        (
            "If the account is billed once a month (Workspace, support, marketplace) do nothing: new rows close it.",
            *_look_at_export(dataset, principal, roles),
        ),
        CONSOLE.format(account=account),
    )


def _look_at_export(dataset: str, principal: str, roles: str) -> tuple[str, ...]:
    return (
        f"Open the link with the roles {roles}.",
        "See whether the export is still switched on and goes to this dataset, and whether the account has any usage.",
        f"See that dataset {dataset} still admits {principal} as an owner.",
        "If that entry is gone, add it again, or disable and enable the export: without it nothing is written.",
        NO_BACK_DATA,
    )


def manifest_foreign(bucket: str, name: str) -> ManualStep:
    """Return what to do where another owner's object has a manifest's name."""
    return ManualStep(
        f"gs://{bucket}/{name} is not a manifest of this function; it was left alone, and that day is not copied",
        ("See whose it is, and move it away: the next run then makes the copy.",),
        f"https://console.cloud.google.com/storage/browser/_details/{bucket}/{name}",
    )
