"""The steps that only a person can take, as operators read them: what is wrong, what to do, where it is described."""

from __future__ import annotations

from datetime import datetime

from shared.model import Guide

CONSOLE = "https://console.cloud.google.com/billing/{account}/export/bigquery"
SUPPORT = "https://cloud.google.com/billing/docs/how-to/export-data-bigquery-setup"
REGIONS_URL = "https://cloud.google.com/bigquery/docs/exporting-data#data-locations"
LOCATION_URL = "https://cloud.google.com/billing/docs/how-to/export-data-bigquery-setup#create-bq-dataset"
LIFECYCLE_URL = "https://console.cloud.google.com/storage/browser/{bucket};tab=lifecycle"
PUBLIC_URL = "https://cloud.google.com/storage/docs/using-public-access-prevention"
NAMING_URL = "https://cloud.google.com/storage/docs/buckets#naming"
ACCESS_URL = "https://cloud.google.com/bigquery/docs/control-access-to-resources-iam"


def api_disabled(service: str, project: str = "") -> Guide:
    """Return the step that turns an API on; the function itself has no right to."""
    command = f"gcloud services enable {service}" + (f" --project {project}" if project else "")
    url = f"https://console.cloud.google.com/apis/library/{service}" + (f"?project={project}" if project else "")
    return Guide(
        f"{service} is not enabled" + (f" in project {project}" if project else ""),
        (f"Run: {command}", "It takes a few minutes to be in effect; the next runs go on by themselves."),
        url,
    )


def apis_unreadable(project: str, why: str) -> Guide:
    """Return what to do where the function may not see which APIs are on."""
    step = "Grant roles/serviceusage.serviceUsageViewer to the function's service account (the deployment does)."
    return Guide(f"whether the APIs of project {project} are on cannot be read: {why}", (step,))


def project_not_billed(said: str, project: str = "") -> Guide:
    """Return what to do where nobody pays for the project; `project` is its id or number, `said` Google's words."""
    step = "Link the project to an open billing account: BigQuery and Cloud Storage write nothing without one."
    url = f"https://console.cloud.google.com/billing/linkedaccount?project={project}" if project else ""
    return Guide(f"the project is not billed: {said}", (step,), url)


def right_missing(why: str, remedy: str) -> Guide:
    """Return what to do where a write is refused."""
    return Guide(f"a right is missing: {why}", (remedy,))


def unreadable(what: str, why: str, remedy: str) -> Guide:
    """Return what to do where a read of `what` is refused."""
    return Guide(f"{what} cannot be read: {why}", (remedy,))


def dataset_elsewhere(dataset: str, place: str, wanted: str, note: str) -> Guide:
    """Return what to do where the dataset is not in the location of the settings."""
    return Guide(
        f"dataset {dataset} is in {place}, not in {wanted} as wanted; it is used as it is.{note}",
        (
            f"Keep it there: set DATASET_LOCATION to {place}.",
            "Or choose another dataset: set BILLING_DATASET, and take the console step again for each account.",
        ),
        LOCATION_URL,
    )


def entries_unreadable(account: str, kind: str, dataset: str, right: str) -> Guide:
    """Return what to do where the dataset's access entries are hidden from the function."""
    return Guide(
        f"whether the {kind} export of account {account} is switched on cannot be seen: the access entries of "
        f"dataset {dataset} may not be read",
        (
            f"Grant {right} on the dataset to the function's service account (the deployment does).",
            "The role roles/bigquery.metadataViewer holds it.",
        ),
        ACCESS_URL,
    )


def bucket_name_taken(bucket: str) -> Guide:
    """Return what to do where the bucket's name is another project's."""
    return Guide(
        f"the bucket name {bucket} is taken by another project; nothing was written to it",
        ("Set EXPORT_BUCKET to a free name and deploy again.",),
        NAMING_URL,
    )


def bucket_elsewhere(bucket: str, place: str, dataset: str, location: str | None) -> Guide:
    """Return what to do where BigQuery cannot write from the dataset's location to the bucket's."""
    return Guide(
        f"bucket {bucket} is in {place}, dataset {dataset} in {location}: BigQuery cannot write from one to the other",
        (
            f"Set EXPORT_BUCKET to a free name: the function creates that bucket in {location}.",
            "Files that are in the old bucket stay where they are.",
        ),
        REGIONS_URL,
    )


def locations_differ(said: str) -> Guide:
    """Return what to do where BigQuery itself refused the two locations; `said` are its words."""
    step = "Set EXPORT_BUCKET to a name that is free: the function creates that bucket in the dataset's location."
    return Guide(f"dataset and bucket are in different locations: {said}", (step,))


def bucket_open(bucket: str) -> Guide:
    """Return what to do where nothing but its policies keeps the public out of the bucket."""
    return Guide(
        f"public access prevention of bucket {bucket} is not enforced",
        (
            f"Run: gcloud storage buckets update gs://{bucket} --public-access-prevention",
            "Or apply the deployment again. The function itself holds no right over the bucket's policies.",
        ),
        PUBLIC_URL,
    )


def copies_deleted(bucket: str, days: int) -> Guide:
    """Return what to do where a lifecycle rule of somebody else deletes copies."""
    return Guide(
        f"a lifecycle rule of bucket {bucket} deletes copies after {days} days; "
        "they are not made again once they are that old",
        ("Remove the rule with action Delete, unless the copies are meant to go.",),
        LIFECYCLE_URL.format(bucket=bucket),
    )


def console_step(account: str, title: str, project: str, dataset: str, what: str = "") -> Guide:
    """Return the step that no API can take: switching one kind of export on for one account.

    `title` is what the console calls that kind; `what` says what is wrong where it is more than that.
    """
    missing = f'the billing export "{title}" of account {account} is not switched on'
    return Guide(
        what or f"{missing} for dataset {project}.{dataset}",
        (
            "Open the link as a Billing Account Administrator of that account (Google offers no API for this step).",
            f'On the tab BigQuery export, under "{title}", choose Edit settings (or Enable).',
            f"Project: {project}. Dataset: {dataset}. Then Save.",
            "Nothing else: the next runs notice it by themselves; the first rows take hours.",
        ),
        CONSOLE.format(account=account),
    )


def schema_surprising(account: str, dataset: str, table: str, why: str) -> Guide:
    """Return what to do with a table that has not the published schema."""
    return Guide(
        f"table {table} of account {account} has not Google's schema, so it can be neither watched nor copied: {why}",
        (
            f"See what {dataset}.{table} is; move it away if it is not the billing export's own.",
            "The export then makes its table anew.",
        ),
        SUPPORT,
    )


def export_stale(account: str, kind: str, dataset: str, principal: str, fresh: datetime, since: str) -> Guide:
    """Return what to do where rows have stopped coming; `since` ends the sentence, `principal` is Google's export."""
    return Guide(
        f"the {kind} export of account {account} is stale: its newest rows are of {fresh:%Y-%m-%d %H:%M} UTC{since}",
        (
            "See in the console whether the export is still switched on, and whether the account has any usage.",
            f"See that dataset {dataset} still admits {principal} as an owner.",
            "Saving the export settings again restores that entry, without which nothing is written.",
        ),
        CONSOLE.format(account=account),
    )


def manifest_foreign(bucket: str, name: str) -> Guide:
    """Return what to do where somebody else's object has a manifest's name."""
    return Guide(
        f"gs://{bucket}/{name} is not a manifest of this function; it was left alone, and that day is not copied",
        ("See whose it is, and move it away: the next run then makes the copy.",),
        f"https://console.cloud.google.com/storage/browser/_details/{bucket}/{name}",
    )
