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
    "cloudtasks": "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDTASKS",
    "iamcredentials": "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS",
}

METADATA = "GCE_METADATA_HOST"

ACCOUNT = r"[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}"
_ACCOUNT_HINT = "a billing account ID such as 012345-6789AB-CDEF01"
PROJECT = r"[a-z][a-z0-9-]{4,28}[a-z0-9]"
DATASET = r"[A-Za-z0-9_]{1,1024}"
LOCATION = r"[A-Za-z]{2,}(-[a-z]+[0-9]+)?"
BUCKET = r"[a-z0-9][a-z0-9_.-]{1,220}[a-z0-9]"
ORGANIZATION = r"(organizations/)?\d{1,20}"
SERVICE_ACCOUNT = r"[a-z0-9][a-z0-9-]{4,28}[a-z0-9]@[a-z][a-z0-9-]{4,28}[a-z0-9]\.iam\.gserviceaccount\.com"
TENANT_ID = r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?"
_QUEUE = r"projects/[a-z0-9-]{1,30}/locations/[a-z0-9-]{1,40}/queues/[A-Za-z0-9-]{1,100}"
_ADDRESS = r"https://[a-z0-9.-]{1,200}|http://127\.0\.0\.1:\d{1,5}"
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
    "REGISTRY_BUCKET": "The bucket of the tenant registry; `{project}` is replaced by the project ID.",
    "TENANTS_QUEUE": "Name of the Cloud Tasks queue of rounds; empty: no rounds.",
    "TENANTS_CALLER": "The service account as which the queue calls the function.",
    "TENANTS_URL": "The function's own address, which the queue calls.",
    "TENANTS_ROUND_SECONDS": "Seconds after which a round ends, and its tasks do nothing any more.",
    "HOME_PROJECT": "The project of the deployment in a tenant's run; empty: `GOOGLE_CLOUD_PROJECT`.",
    "TENANT": "The tenant of a run, set from the tenant registry; empty: the deployment's own cloud.",
    "ENTRY_SERVICE_ACCOUNT": "The tenant's service account that a tenant's run impersonates.",
    **{name: f"Endpoint of {service}, for local clouds." for service, name in ENDPOINTS.items()},
}


class RoundSettings(msgspec.Struct, frozen=True):
    """How rounds are run: the full name of the queue, the account and the address of its calls, and their end."""

    queue: str
    caller: str
    url: str
    seconds: int


class GcpSettings(msgspec.Struct, frozen=True):
    """The settings of the GCP function.

    `organization` (``organizations/123``, or empty) limits the accounts to one parent. `location` is where the dataset
    is created; an existing dataset stays where it is. `exports` are the kinds that every open account must have, and
    `copy` those whose partitions are copied: again after each change in the last `copy_days` days, and once before.
    `seconds` is how long an invocation may take. `endpoints` maps a service to a loopback address. `notify_url` is the
    resource name of the secret that contains the webhook's URL, never the URL itself. `events_subscription` is the
    subscription that events are pulled from, or empty. `deltas`: deliveries are written as documents, and published on
    `delivery_topic` unless that is empty. In a tenant's run, `tenant` is its id and `service_account` what the run
    impersonates; `home_project` is the deployment's project, where `state_bucket` and `registry_bucket` are. `rounds`
    is None where no queue is deployed.
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
    tenant: str = ""
    service_account: str = ""
    home_project: str = ""
    registry_bucket: str = ""
    rounds: RoundSettings | None = None

    def at_home(self) -> GcpSettings:
        """Return the settings of the deployment's own calls in a tenant's run: its project, and no tenant."""
        return msgspec.structs.replace(self, project=self.home_project or self.project, tenant="", service_account="")

    @property
    def owner(self) -> str:
        """Return the owner of the state: the organization, or else the project, whose ID Google never reuses."""
        return self.organization or f"projects/{self.project}"


def read_settings(environment: Mapping[str, str]) -> GcpSettings:
    """Return the settings, without any call. Raises SettingsError, which names every problem."""
    reader = Reader(environment)
    project = reader.text("GOOGLE_CLOUD_PROJECT", None, PROJECT, "a project ID (not the project number)")
    home = reader.text("HOME_PROJECT", project, PROJECT, "a project ID (not the project number)")
    organization = reader.text("ORGANIZATION", "", ORGANIZATION, "organizations/ followed by the organization number")
    copy = reader.choices("COPY", "standard,detailed", COPIES)
    reader.check(copy == ("off",) or "off" not in copy, "COPY", "'off' cannot be combined with other values")
    settings = GcpSettings(
        project=project,
        organization=f"organizations/{organization.removeprefix('organizations/')}" if organization else "",
        dataset=reader.text("BILLING_DATASET", "billing_export", DATASET, "a dataset name: letters, digits, _"),
        location=reader.text("DATASET_LOCATION", "US", LOCATION, "a BigQuery location such as US, EU or europe-west1"),
        bucket=_bucket(reader, "EXPORT_BUCKET", "tailpipe-billing-export-{project}", project),
        state_bucket=_bucket(reader, "STATE_BUCKET", "tailpipe-state-{project}", home),
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
        tenant=reader.text("TENANT", "", TENANT_ID, "the id of a tenant"),
        service_account=reader.text("ENTRY_SERVICE_ACCOUNT", "", SERVICE_ACCOUNT, "a service account's address"),
        home_project=home,
        registry_bucket=_bucket(reader, "REGISTRY_BUCKET", "tailpipe-tenants-{project}", home),
        rounds=_rounds(reader),
    )
    reader.check(
        not settings.tenant or home != project,
        "GOOGLE_CLOUD_PROJECT",
        lambda: f"{project} is the project of the deployment, which its runs without a tenant keep; name the tenant's",
    )
    reader.check(
        not settings.tenant or bool(settings.service_account), "ENTRY_SERVICE_ACCOUNT", "is required for a tenant"
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


def _rounds(reader: Reader) -> RoundSettings | None:
    queue = reader.text("TENANTS_QUEUE", "", _QUEUE, "a queue's name: projects/…/locations/…/queues/…")
    caller = reader.text("TENANTS_CALLER", "", SERVICE_ACCOUNT, "a service account's address")
    url = reader.text("TENANTS_URL", "", _ADDRESS, "the function's https address")
    seconds = reader.number("TENANTS_ROUND_SECONDS", 3300, 300, 86_400)
    for name, value in (("TENANTS_CALLER", caller), ("TENANTS_URL", url)):
        reader.check(bool(value) == bool(queue), name, "TENANTS_QUEUE, TENANTS_CALLER and TENANTS_URL belong together")
    return RoundSettings(queue, caller, url.rstrip("/"), seconds) if queue else None


def _bucket(reader: Reader, name: str, default: str, project: str) -> str:
    value = reader.text(name, default).replace("{project}", project or "project")
    right = re.fullmatch(BUCKET, value) is not None and ".." not in value
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
