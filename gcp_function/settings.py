"""Environment variables → the GCP function's settings, every problem named before any call is made."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from shared.parsing import parse_int
from shared.settings import EngineSettings, Reader, is_loopback

EXPORTS = ("standard", "detailed", "pricing", "focus")
COPIES = ("standard", "detailed", "off")

# Each service's override is the one that Google's own tools know: the emulator variables of the client libraries, and
# gcloud's for the services without one.
ENDPOINTS = {
    "bigquery": "BIGQUERY_EMULATOR_HOST",
    "storage": "STORAGE_EMULATOR_HOST",
    "cloudbilling": "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBILLING",
    "cloudresourcemanager": "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER",
    "serviceusage": "CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEUSAGE",
    "secretmanager": "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER",
}

METADATA = "GCE_METADATA_HOST"

ACCOUNT = r"[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}"
_ACCOUNT_HINT = "a billing account's id such as 012345-6789AB-CDEF01"
_PROJECT = r"[a-z][a-z0-9-]{4,28}[a-z0-9]"
_DATASET = r"[A-Za-z0-9_]{1,1024}"
_LOCATION = r"[A-Za-z]{2,}(-[a-z]+[0-9]+)?"
_BUCKET = r"[a-z0-9][a-z0-9_.-]{1,220}[a-z0-9]"
_ORGANIZATION = r"(organizations/)?\d{1,20}"
_NOTIFY = r"projects/[a-z0-9-]{1,30}/secrets/[A-Za-z0-9_-]{1,255}(/versions/(latest|[A-Za-z0-9_-]{1,63}))?"


# What each setting does; docs/settings.md is made from this and from what the code reads.
EFFECTS = {
    "GOOGLE_CLOUD_PROJECT": "The project that holds dataset, buckets and function.",
    "ORGANIZATION": "Only billing accounts of this organization; empty: all that the function sees.",
    "BILLING_DATASET": "The dataset that Google exports to.",
    "DATASET_LOCATION": "Where the dataset is created; one that exists elsewhere stays there.",
    "EXPORT_BUCKET": "The bucket that gets the copies; `{project}` is the project's id.",
    "STATE_BUCKET": "The bucket of state and reports; `{project}` is the project's id.",
    "EXPORTS": "The exports that every open billing account should have.",
    "COPY": "The exports whose partitions are copied to files; `off`: none.",
    "COPY_DAYS": "Days back for which a partition is copied again when it changes; older ones are copied once.",
    "INCLUDE_ACCOUNTS": "Only these billing accounts; empty: all.",
    "EXCLUDE_ACCOUNTS": "Billing accounts that the function does not serve.",
    "RUN_SECONDS": "Seconds after which a run ends its work; by default CLOUD_RUN_TIMEOUT_SECONDS of the platform.",
    "NOTIFY_URL": "The secret in Secret Manager that holds the webhook's address, by its name; empty: no messages.",
    **{name: f"Where {service} answers, for local clouds." for service, name in ENDPOINTS.items()},
}


class GcpSettings(msgspec.Struct, frozen=True):
    """What the GCP function can be told.

    `organization` (``organizations/123``, or empty) limits the accounts to one parent. `location` is where the dataset
    is created; one that exists elsewhere is respected. `exports` are the kinds that every open account is to have,
    `copy` those of which each partition gets its files, for the last `copy_days` days and once for older ones.
    `seconds` is how long an invocation may take. `endpoints` maps a service to a loopback address. `notify_url` is the
    resource name of the secret with the webhook's address, never the address itself.
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

    @property
    def owner(self) -> str:
        """Return whose memory this is: the organization, or the project, whose id is never given out again."""
        return self.organization or f"projects/{self.project}"


def read_settings(environment: Mapping[str, str]) -> GcpSettings:
    """Return the settings. Raises SettingsError that names every problem; makes no call."""
    reader = Reader(environment)
    project = reader.text("GOOGLE_CLOUD_PROJECT", None, _PROJECT, "a project's id (not its number)")
    organization = reader.text("ORGANIZATION", "", _ORGANIZATION, "organizations/ and the organization's number")
    copy = reader.choices("COPY", "standard,detailed", COPIES)
    reader.check(copy == ("off",) or "off" not in copy, "COPY", "'off' stands alone")
    settings = GcpSettings(
        project=project,
        organization=f"organizations/{organization.removeprefix('organizations/')}" if organization else "",
        dataset=reader.text("BILLING_DATASET", "billing_export", _DATASET, "a dataset's name: letters, digits, _"),
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
        # Somebody may have put the webhook's own address there, which is a secret.
        notify_url=reader.text("NOTIFY_URL", "", _NOTIFY, "a secret's name: projects/…/secrets/…", secret=True),
    )
    both = sorted(set(settings.include_accounts) & set(settings.exclude_accounts))
    reader.check(not both, "EXCLUDE_ACCOUNTS", lambda: f"{', '.join(both)} is in INCLUDE_ACCOUNTS too")
    reader.check(settings.bucket != settings.state_bucket, "STATE_BUCKET", "is EXPORT_BUCKET, which others read")
    missing = sorted(set(settings.copy) - set(settings.exports))
    reader.check(not missing, "COPY", lambda: f"{', '.join(missing)} is not in EXPORTS")
    reader.finish()
    return settings


def _bucket(reader: Reader, name: str, default: str, project: str) -> str:
    value = reader.text(name, default).replace("{project}", project or "project")
    right = re.fullmatch(_BUCKET, value) is not None and ".." not in value
    reader.check(right, name, f"{value[:80]!r} is not a bucket's name (it may hold {{project}})")
    return value


def _seconds(reader: Reader, environment: Mapping[str, str]) -> int:
    # Cloud Run tells its functions their timeout by this variable; 300 s is the platform's own default for a request.
    default = parse_int(environment.get("CLOUD_RUN_TIMEOUT_SECONDS", ""), 10, 3600) or 300
    return reader.number("RUN_SECONDS", default, 10, 3600)


def _endpoints(reader: Reader, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the overrides, each with its scheme and without a slash at its end, as the clients want them.

    A metadata server counts only beside other overrides: without them Google's own library looks for it.
    """
    found = {service: url for service, name in ENDPOINTS.items() if (url := reader.endpoint(name))}
    metadata = environment.get(METADATA, "").strip()
    if found and metadata and is_loopback(metadata):
        found["metadata"] = metadata
    return {service: (url if "://" in url else f"http://{url}").rstrip("/") for service, url in found.items()}
