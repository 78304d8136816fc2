"""Reads the GCP function's settings from environment variables; reports every problem before any call is made."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from shared.parsing import parse_int
from shared.settings import EngineSettings, Reader, is_loopback

EXPORTS = ("standard", "detailed", "pricing", "focus")
COPIES = ("standard", "detailed", "off")

# The variables that override each service's endpoint are those of Google's own tools: the emulator variables of the
# client libraries, and gcloud's for the services without one.
ENDPOINTS = {
    "bigquery": "BIGQUERY_EMULATOR_HOST",
    "storage": "STORAGE_EMULATOR_HOST",
    "cloudbilling": "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBILLING",
    "cloudresourcemanager": "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER",
    "serviceusage": "CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEUSAGE",
    "secretmanager": "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER",
    "pubsub": "PUBSUB_EMULATOR_HOST",
}

METADATA = "GCE_METADATA_HOST"

ACCOUNT = r"[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}"
_ACCOUNT_HINT = "a billing account ID such as 012345-6789AB-CDEF01"
_PROJECT = r"[a-z][a-z0-9-]{4,28}[a-z0-9]"
_DATASET = r"[A-Za-z0-9_]{1,1024}"
_LOCATION = r"[A-Za-z]{2,}(-[a-z]+[0-9]+)?"
_BUCKET = r"[a-z0-9][a-z0-9_.-]{1,220}[a-z0-9]"
_ORGANIZATION = r"(organizations/)?\d{1,20}"
_SUBSCRIPTION = r"projects/[a-z0-9-]{1,30}/subscriptions/[A-Za-z][A-Za-z0-9._~+%-]{2,254}"
_TOPIC = r"projects/[a-z0-9-]{1,30}/topics/[A-Za-z][A-Za-z0-9._~+%-]{2,254}"
_NOTIFY = r"projects/[a-z0-9-]{1,30}/secrets/[A-Za-z0-9_-]{1,255}(/versions/(latest|[A-Za-z0-9_-]{1,63}))?"


# What each setting does; docs/settings.md is generated from this and from the code.
EFFECTS = {
    "GOOGLE_CLOUD_PROJECT": "The project of the dataset, the buckets and the function.",
    "ORGANIZATION": "Serve only billing accounts of this organization; empty: all that the function can see.",
    "BILLING_DATASET": "The dataset that Google exports to.",
    "DATASET_LOCATION": "Location in which the dataset is created; an existing dataset stays where it is.",
    "EXPORT_BUCKET": "The bucket of the copies; `{project}` is replaced by the project ID.",
    "STATE_BUCKET": "The bucket of the state and the reports; `{project}` is replaced by the project ID.",
    "EXPORTS": "The exports that every open billing account must have.",
    "COPY": "The exports whose partitions are copied to Parquet files; `off`: none.",
    "COPY_DAYS": "Number of days for which a partition is copied again when it changes; older ones are copied once.",
    "INCLUDE_ACCOUNTS": "Serve only these billing accounts; empty: all.",
    "EXCLUDE_ACCOUNTS": "Billing accounts that the function does not serve.",
    "RUN_SECONDS": "Seconds after which a run stops; default: the platform's CLOUD_RUN_TIMEOUT_SECONDS.",
    "NOTIFY_URL": "Name of the secret in Secret Manager that holds the webhook's URL; empty: no messages.",
    "EVENTS_SUBSCRIPTION": "Name of the Pub/Sub subscription that events are pulled from; empty: no events.",
    "DELTAS": "1: each copy is announced by a document of what changed, beside the copies.",
    "DELIVERY_TOPIC": "Name of the Pub/Sub topic on which these documents are published; empty: on none.",
    **{name: f"Endpoint of {service}, for local clouds." for service, name in ENDPOINTS.items()},
}


class GcpSettings(msgspec.Struct, frozen=True):
    """The settings of the GCP function.

    `organization` (``organizations/123``, or empty) limits the accounts to one parent. `location` is where the dataset
    is created; an existing dataset stays where it is. `exports` are the kinds that every open account must have, and
    `copy` those whose partitions are copied: again after each change in the last `copy_days` days, and once before.
    `seconds` is how long an invocation may take. `endpoints` maps a service to a loopback address. `notify_url` is the
    resource name of the secret that contains the webhook's URL, never the URL itself. `events_subscription` is the
    subscription that events are pulled from, or empty. `deltas`: deliveries are written as documents, and published on
    `delivery_topic` unless that is empty.
    """

    project: str
    organization: str
    dataset: str
    location: str
    bucket: str
    state_bucket: str
    exports: tuple[str, ...]
    copy: tuple[str, ...]
    copy_days: int
    include_accounts: tuple[str, ...]
    exclude_accounts: tuple[str, ...]
    seconds: int
    engine: EngineSettings
    endpoints: Mapping[str, str]
    notify_url: str = ""
    events_subscription: str = ""
    deltas: bool = False
    delivery_topic: str = ""

    @property
    def owner(self) -> str:
        """Return the owner of the state: the organization, or else the project, whose ID Google never reuses."""
        return self.organization or f"projects/{self.project}"


def read_settings(environment: Mapping[str, str]) -> GcpSettings:
    """Return the settings, without any call. Raises SettingsError, which names every problem."""
    reader = Reader(environment)
    project = reader.text("GOOGLE_CLOUD_PROJECT", None, _PROJECT, "a project ID (not the project number)")
    organization = reader.text("ORGANIZATION", "", _ORGANIZATION, "organizations/ followed by the organization number")
    copy = reader.choices("COPY", "standard,detailed", COPIES)
    reader.check(copy == ("off",) or "off" not in copy, "COPY", "'off' cannot be combined with other values")
    settings = GcpSettings(
        project=project,
        organization=f"organizations/{organization.removeprefix('organizations/')}" if organization else "",
        dataset=reader.text("BILLING_DATASET", "billing_export", _DATASET, "a dataset name: letters, digits, _"),
        location=reader.text("DATASET_LOCATION", "US", _LOCATION, "a BigQuery location such as US, EU or europe-west1"),
        bucket=_bucket(reader, "EXPORT_BUCKET", "tailpipe-billing-export-{project}", project),
        state_bucket=_bucket(reader, "STATE_BUCKET", "tailpipe-state-{project}", project),
        exports=reader.choices("EXPORTS", ",".join(EXPORTS), EXPORTS),
        copy=tuple(kind for kind in copy if kind != "off"),
        copy_days=reader.number("COPY_DAYS", 35, 1, 365),
        include_accounts=reader.items("INCLUDE_ACCOUNTS", "", ACCOUNT, _ACCOUNT_HINT),
        exclude_accounts=reader.items("EXCLUDE_ACCOUNTS", "", ACCOUNT, _ACCOUNT_HINT),
        seconds=_seconds(reader, environment),
        engine=reader.engine(call_budget=1),
        endpoints=_endpoints(reader, environment),
        # An operator may have entered the webhook's own address, which is a secret.
        notify_url=reader.text("NOTIFY_URL", "", _NOTIFY, "a secret's name: projects/…/secrets/…", secret=True),
        events_subscription=reader.text(
            "EVENTS_SUBSCRIPTION", "", _SUBSCRIPTION, "a subscription's name: projects/…/subscriptions/…"
        ),
        deltas=reader.number("DELTAS", 0, 0, 1) == 1,
        delivery_topic=reader.text("DELIVERY_TOPIC", "", _TOPIC, "a topic's name: projects/…/topics/…"),
    )
    both = sorted(set(settings.include_accounts) & set(settings.exclude_accounts))
    reader.check(not both, "EXCLUDE_ACCOUNTS", lambda: f"{', '.join(both)} is also in INCLUDE_ACCOUNTS")
    reader.check(
        settings.bucket != settings.state_bucket,
        "STATE_BUCKET",
        "must not equal EXPORT_BUCKET, which the connector reads",
    )
    missing = sorted(set(settings.copy) - set(settings.exports))
    reader.check(not missing, "COPY", lambda: f"{', '.join(missing)} is not in EXPORTS")
    reader.check(
        settings.deltas or not settings.delivery_topic,
        "DELIVERY_TOPIC",
        "deliveries are published only with DELTAS=1; set that too, or unset DELIVERY_TOPIC",
    )
    reader.check(
        bool(settings.copy) or not settings.deltas, "DELTAS", "deliveries are copies; set COPY to the exports to copy"
    )
    reader.finish()
    return settings


def _bucket(reader: Reader, name: str, default: str, project: str) -> str:
    value = reader.text(name, default).replace("{project}", project or "project")
    right = re.fullmatch(_BUCKET, value) is not None and ".." not in value
    reader.check(right, name, f"{value[:80]!r} is not a bucket name (it may contain {{project}})")
    return value


def _seconds(reader: Reader, environment: Mapping[str, str]) -> int:
    # Cloud Run sets this variable to the function's timeout; 300 s is the platform's default for a request.
    default = parse_int(environment.get("CLOUD_RUN_TIMEOUT_SECONDS", ""), 10, 3600) or 300
    return reader.number("RUN_SECONDS", default, 10, 3600)


def _endpoints(reader: Reader, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the overrides, each with its scheme and without a trailing slash, as the clients require.

    A metadata server is used only together with other overrides: without them Google's library finds it itself.
    """
    found = {service: url for service, name in ENDPOINTS.items() if (url := reader.endpoint(name))}
    metadata = environment.get(METADATA, "").strip()
    if found and metadata and is_loopback(metadata):
        found["metadata"] = metadata
    return {service: (url if "://" in url else f"http://{url}").rstrip("/") for service, url in found.items()}
