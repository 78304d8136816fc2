"""Finds the resources of a plan that already exist, by their exact names in the project, and their import ids."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cli.deployment.gcp.rest import Google
from cli.deployment.gcp.session import Session
from cli.deployment.model import Adoption, Change
from gcp_function.targets import MANAGED_BY, MANAGER

_POOL = "projects/{project}/locations/global/workloadIdentityPools/{workload_identity_pool_id}"
# The API, version and full name for reading a resource; it is imported by the same name. Members of policies, APIs and
# objects are left out: creating an existing one changes nothing. Source: the "Import" section of each resource in the
# google provider's documentation.
NAMES: Mapping[str, tuple[str, str, str]] = {
    "google_artifact_registry_repository": (
        "artifactregistry",
        "v1",
        "projects/{project}/locations/{location}/repositories/{repository_id}",
    ),
    "google_bigquery_dataset": ("bigquery", "bigquery/v2", "projects/{project}/datasets/{dataset_id}"),
    "google_cloud_scheduler_job": ("cloudscheduler", "v1", "projects/{project}/locations/{region}/jobs/{name}"),
    "google_cloudfunctions2_function": (
        "cloudfunctions",
        "v2",
        "projects/{project}/locations/{location}/functions/{name}",
    ),
    "google_iam_workload_identity_pool": (
        "iam",
        "v1",
        _POOL,
    ),
    "google_iam_workload_identity_pool_provider": (
        "iam",
        "v1",
        f"{_POOL}/providers/{{workload_identity_pool_provider_id}}",
    ),
    "google_logging_project_bucket_config": (
        "logging",
        "v2",
        "projects/{project}/locations/{location}/buckets/{bucket_id}",
    ),
    "google_logging_project_sink": ("logging", "v2", "projects/{project}/sinks/{name}"),
    "google_cloud_tasks_queue": ("cloudtasks", "v2", "projects/{project}/locations/{location}/queues/{name}"),
    "google_pubsub_subscription": ("pubsub", "v1", "projects/{project}/subscriptions/{name}"),
    "google_pubsub_topic": ("pubsub", "v1", "projects/{project}/topics/{name}"),
    "google_project_iam_custom_role": ("iam", "v1", "projects/{project}/roles/{role_id}"),
    "google_service_account": (
        "iam",
        "v1",
        "projects/{project}/serviceAccounts/{account_id}@{project}.iam.gserviceaccount.com",
    ),
}
DASHBOARD = "google_monitoring_dashboard"
# Google generates their names: they are recognized by display name and our label, whose key stands last here, after the
# API's version and the collection.
LISTED = {
    "google_monitoring_alert_policy": ("v3", "alertPolicies", "userLabels"),
    DASHBOARD: ("v1", "dashboards", "labels"),
    "google_monitoring_notification_channel": ("v3", "notificationChannels", "userLabels"),
}
GONE = ("DELETED", "DELETE_REQUESTED")
Finder = Callable[[Session, Mapping[str, Any]], str | None]


def adoptions(session: Session, changes: Sequence[Change]) -> Iterator[Adoption]:
    """Yield the planned resources that already exist. Raises ReportedError."""
    listings: dict[str, list[dict[str, Any]]] = {}
    for change in changes:
        after = {
            "project": session.project,
            **{name: value for name, value in change.after.items() if value is not None},
        }
        found: str | None
        if change.type in LISTED:
            found = _listed(session, change.type, after, listings)
        elif change.type == "google_storage_bucket":
            found = _bucket(session, after)
        elif change.type == "google_logging_metric":
            # Imported by its bare name, in the provider's project.
            path = f"v2/projects/{session.project}/metrics/{after.get('name')}"
            found = str(after["name"]) if session.google.find("logging", path) is not None else None
        else:
            found = _named(session.google, change.type, after)
        if found is not None:
            yield Adoption(change.address, found, found)


def lives(document: Mapping[str, Any] | None) -> bool:
    """Return whether a read resource exists and is not being deleted."""
    if document is None or document.get("deleted"):
        return False
    return document.get("state") not in GONE and document.get("lifecycleState") not in GONE


def _named(google: Google, kind: str, after: Mapping[str, Any]) -> str | None:
    if kind not in NAMES:
        return None
    service, version, template = NAMES[kind]
    try:
        name = template.format(**after)
    except KeyError:  # the name is known only after the apply, so it cannot exist yet
        return None
    return name if lives(google.find(service, f"{version}/{name}")) else None


def _bucket(session: Session, after: Mapping[str, Any]) -> str | None:
    if "name" not in after:
        return None
    found = session.google.find("storage", f"storage/v1/b/{after['name']}")
    return f"{session.project}/{after['name']}" if found and str(found.get("projectNumber")) == session.number else None


def _listed(
    session: Session, kind: str, after: Mapping[str, Any], listings: dict[str, list[dict[str, Any]]]
) -> str | None:
    version, collection, labels = LISTED[kind]
    if kind not in listings:
        path = f"{version}/{session.parent}/{collection}"
        listings[kind] = list(session.google.pages("monitoring", path, collection))
    title = after.get("display_name") or _title_in(after.get("dashboard_json"))
    address = dict(after.get("labels") or {}).get("email_address")
    for one in listings[kind]:
        ours = one.get(labels, {}).get(MANAGED_BY) == MANAGER
        same = one.get("displayName") == title
        if ours and same and (address is None or one.get("labels", {}).get("email_address") == address):
            # By the project's id, as in the module: with its number, Terraform would replace the dashboard.
            name = str(one["name"]).rpartition("/")[2]
            return f"{session.parent}/{collection}/{name}" if kind == DASHBOARD else str(one["name"])
    return None


def _title_in(dashboard: str | None) -> str | None:
    """Return the display name in a planned dashboard; None if the plan does not know it yet."""
    return json.loads(dashboard).get("displayName") if dashboard else None
