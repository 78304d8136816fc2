"""What the tenant registry may say about a tenant of Google Cloud, and the settings that each field sets.

A tenant is an organization, or a group of billing accounts such as a reseller's customer. A run enters it as a service
account of the tenant, which the function's own account may impersonate: the tenant grants
roles/iam.serviceAccountTokenCreator on it, and takes it away again, without any key ("Create short-lived credentials
for a service account", IAM documentation). Calls count against the quotas of that account's project.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from gcp_function.claims import PREFIX, named_accounts, organization_of
from gcp_function.settings import (
    ACCOUNT,
    BUCKET,
    DATASET,
    LOCATION,
    ORGANIZATION,
    PROJECT,
    SERVICE_ACCOUNT,
    read_settings,
)
from shared.errors import SettingsError
from shared.tenants.registry import Extent, Field, Rules, Tenant, environment_of

ENTRY = {
    "service_account": Field(
        "ENTRY_SERVICE_ACCOUNT",
        SERVICE_ACCOUNT,
        "the address of a service account of the tenant (NAME@PROJECT.iam.gserviceaccount.com)",
        required=True,
    ),
    "organization": Field("ORGANIZATION", ORGANIZATION, "organizations/ followed by the organization number"),
    "billing_accounts": Field(
        "INCLUDE_ACCOUNTS", f"{ACCOUNT}(,{ACCOUNT})*", "billing account IDs, separated by commas"
    ),
}
DESTINATION = {
    "project": Field("GOOGLE_CLOUD_PROJECT", PROJECT, "the ID of a project of the tenant", required=True),
    "dataset": Field("BILLING_DATASET", DATASET, "a dataset name: letters, digits, _"),
    "bucket": Field("EXPORT_BUCKET", BUCKET, "a bucket's name"),
    "location": Field("DATASET_LOCATION", LOCATION, "a BigQuery location such as US, EU or europe-west1"),
}
# What an entry may override. Endpoints, credentials, and where state, reports and messages go are the deployment's.
OVERRIDES = frozenset(
    {
        "CALLS_AT_ONCE",
        "CALL_BUDGET",
        "COPY",
        "COPY_DAYS",
        "DELTAS",
        "EXCLUDE_ACCOUNTS",
        "EXPORTS",
        "MAX_VANISHED_PERCENT",
        "MAX_WRITES_PER_RUN",
        "STALE_MAX_HOURS",
        "STALE_MIN_HOURS",
    }
)
# They select accounts of the deployment's own organization, name its events, or are a topic that its readers share.
OWN = frozenset({"DELIVERY_TOPIC", "EVENTS_SUBSCRIPTION", "EXCLUDE_ACCOUNTS"})


def _identity(tenant: Tenant) -> str:
    """Return what only one tenant may enter: an organization as a whole, or else the service account of a group."""
    organization = organization_of(tenant)
    if organization and not named_accounts(tenant):
        return f"organization {organization.removeprefix(PREFIX)}"
    return tenant.entry["service_account"]


def _extent(tenant: Tenant) -> Extent | None:
    """Return the organization that an entry names, and which of its billing accounts it serves."""
    organization, named = organization_of(tenant), named_accounts(tenant)
    left_out = re.split(r"[,\s]+", tenant.settings.get("EXCLUDE_ACCOUNTS", ""))
    whole = f"organization {organization.removeprefix(PREFIX)}"
    return Extent(whole, frozenset(named) if named else None, frozenset(left_out)) if organization else None


def _exclusive(tenant: Tenant) -> Mapping[str, str]:
    """Return the destination, which one run keeps, and the billing accounts, which Google exports to one dataset."""
    project = tenant.destination["project"]
    dataset = tenant.destination.get("dataset", "billing_export")
    bucket = tenant.destination.get("bucket", f"tailpipe-billing-export-{project}").replace("{project}", project)
    return {
        f"dataset {project}.{dataset}": "each tenant needs a dataset of its own",
        f"bucket {bucket}": "each tenant needs a bucket of its own, or one would replace the other's copies",
        **{
            f"billing account {one}": "Google exports a billing account to one dataset only"
            for one in named_accounts(tenant)
        },
    }


def _further(tenant: Tenant) -> Iterator[str]:
    """Yield what is wrong with the values of an entry together, which only the settings' own checks know."""
    base = {"HOME_PROJECT": "home-project", "STATE_BUCKET": "home-state", "REGISTRY_BUCKET": "home-registry"}
    try:
        read_settings(environment_of(tenant, base, RULES))
    except SettingsError as error:
        yield from error.problems


RULES = Rules(
    cloud="gcp",
    entry=ENTRY,
    destination=DESTINATION,
    settings=OVERRIDES,
    own=OWN,
    identity=_identity,
    unique=("service_account",),
    further=_further,
    exclusive=_exclusive,
    extent=_extent,
    extent_advice="leave these billing accounts out of the whole with EXCLUDE_ACCOUNTS, or keep one of the entries",
)
