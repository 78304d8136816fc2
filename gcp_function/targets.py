"""What must exist, as pure data."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Mapping
from datetime import date, timedelta
from typing import Annotated, Any

import msgspec

from gcp_function.manual_steps import api_disabled, console_step
from gcp_function.scopes import MASTER, OUTSIDE, PROJECT, STANDING
from gcp_function.settings import GcpSettings
from shared.model import Enumeration, Key, Kind, Scope, ScopeState, Stage, Target
from shared.monitor.months import Reach
from shared.parsing import LARGEST

PROJECT_KIND = Kind("project", Stage.DESTINATION, writable=False)
API = Kind("api", Stage.DESTINATION, writable=False)
DATASET = Kind("dataset", Stage.DESTINATION)
LOCATION = Kind("location", Stage.DESTINATION, writable=False)
BUCKET = Kind("bucket", Stage.DESTINATION)
RETENTION = Kind("retention", Stage.DESTINATION, writable=False)
PRIVACY = Kind("privacy", Stage.DESTINATION, writable=False)
BILLING = Kind("billing", Stage.DESTINATION, writable=False)
# The checks of the dataset that determine whether Google can write to it, and whether its tables are kept.
REGION = Kind("region", Stage.DESTINATION, writable=False)
EXPIRATION = Kind("expiration", Stage.DESTINATION, writable=False)
ENCRYPTION = Kind("encryption", Stage.DESTINATION, writable=False)
WRITING = (REGION, EXPIRATION, ENCRYPTION)
# The checks of the bucket that determine whether copies can be replaced, and are kept as long as they are compared.
KEEPING = Kind("object-policy", Stage.DESTINATION, writable=False)
SOFT_DELETE = Kind("soft-delete", Stage.DESTINATION, writable=False)
ACCOUNT = Kind("account", Stage.DESTINATION, writable=False)
EXPORT = Kind("export", Stage.EXPORT, writable=False)
# This many partitions share one watermark query, and their extract jobs run in parallel. Every day adds a copy and
# removes one.
COPY = Kind("copy", Stage.DERIVED, batch_size=20, forget_after=timedelta(days=7))
HISTORY = Kind("history", Stage.DERIVED)

# cloudbilling to storage are used by the function, the others by the connector.
APIS = tuple(
    f"{name}.googleapis.com"
    for name in ("cloudbilling", "bigquery", "cloudresourcemanager", "storage", "iam", "monitoring", "compute")
)
BIGQUERY_API = "bigquery.googleapis.com"
RHYTHM = timedelta(hours=48)  # "no promise"; lags of 1.6 days occur for healthy exports
REACH = Reach()  # the previous month is delivered only when an export is enabled for the first time
MANAGED_BY = "managed-by"
MANAGER = "tailpipe-exports"

COLDER = "to colder tiers"
# Who may enable an export ("Set up Cloud Billing data export to BigQuery", Permissions required for this task).
USAGE_ROLES = "Billing Account Costs Manager (or Administrator) on the account and BigQuery User on the project"
PRICING_ROLES = (
    "Billing Account Administrator on the account, and BigQuery Admin and resourcemanager.projects.update (Editor) on "
    "the project"
)
EXPORT_PRINCIPAL = "billing-export-bigquery@system.gserviceaccount.com"
PRICING_PRINCIPAL = "cloud-account-pricing@cloud-account-pricing.iam.gserviceaccount.com"

# The remembered facts of targets, by name and type.
_COUNT = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
FACTS: Mapping[str, Any] = {
    "account": str,
    "done": str,
    "foreign": _COUNT,
    "fresh": str,
    "generation": _COUNT,
    "modified": _COUNT,
    "oldest_month": str,
    "pending_since": str,
    "read_on": str,
}


class Export(msgspec.Struct, frozen=True):
    """One kind of billing export: its name in the console, its table, and Google's writing principal.

    The table's name may contain the account's id. `roles` are what a person needs to enable it.
    """

    name: str
    title: str
    table: str
    principal: str = EXPORT_PRINCIPAL
    roles: str = USAGE_ROLES

    def table_of(self, account: str) -> str:
        """Return the table's name for an account."""
        return self.table.replace("{ID}", account.replace("-", "_"))

    @property
    def shared(self) -> bool:
        """Whether one table holds all accounts, so that its existence proves nothing about one of them."""
        return "{ID}" not in self.table


# Source: "Set up Cloud Billing data export to BigQuery", Cloud Billing documentation.
EXPORTS = {
    "standard": Export("standard", "Standard usage cost", "gcp_billing_export_v1_{ID}"),
    "detailed": Export("detailed", "Detailed usage cost", "gcp_billing_export_resource_v1_{ID}"),
    "pricing": Export("pricing", "Pricing", "cloud_pricing_export", PRICING_PRINCIPAL, PRICING_ROLES),
    "focus": Export("focus", "FOCUS usage cost", "gcp_billing_export_focus_{ID}"),
}
USAGE = ("standard", "detailed")
# The regions that Cloud Billing exports to, besides the multi-regions (same page, Limitations, as of April 2026).
EXPORT_LOCATIONS = frozenset(
    [
        *("US", "NORTHAMERICA-NORTHEAST1", "SOUTHAMERICA-EAST1", "US-CENTRAL1", "US-EAST1", "US-EAST4"),
        *("US-WEST1", "US-WEST2", "US-WEST3", "US-WEST4"),
        *("ASIA-EAST1", "ASIA-EAST2", "ASIA-NORTHEAST1", "ASIA-NORTHEAST2", "ASIA-NORTHEAST3", "ASIA-SOUTH1"),
        *("ASIA-SOUTHEAST1", "ASIA-SOUTHEAST2", "AUSTRALIA-SOUTHEAST1"),
        *("EU", "EUROPE-CENTRAL2", "EUROPE-NORTH1", "EUROPE-WEST1", "EUROPE-WEST2", "EUROPE-WEST3", "EUROPE-WEST4"),
        *("EUROPE-WEST6", "ME-CENTRAL1", "ME-CENTRAL2", "ME-WEST1"),
    ]
)
LINKED_DATASET = re.compile(r"gcp_billing_immutable_([0-9A-F]{6}_[0-9A-F]{6}_[0-9A-F]{6})_\w+")


def copy_key(account: str, kind: str, day: str) -> Key:
    """Return the key of one partition's copy; `day` is ``YYYY-MM-DD``. All accounts share the texts of its name."""
    return Key(account, COPY.name, sys.intern(f"{kind}/{day}"))


def copy_parts(key: Key) -> tuple[str, str]:
    """Return kind and day of a copy's key."""
    kind, _, day = key.name.partition("/")
    return kind, day


def window(settings: GcpSettings, today: date) -> list[str]:
    """Return the days whose partitions are targets of their own, the oldest first, today included."""
    return [(today - timedelta(days=age)).isoformat() for age in range(settings.copy_days - 1, -1, -1)]


def dataset_key(settings: GcpSettings) -> Key:
    """Return the key of the dataset's target."""
    return Key(settings.project, DATASET.name, settings.dataset)


def billing_key(settings: GcpSettings) -> Key:
    """Return the key of the target for the project's open billing account."""
    return Key(settings.project, BILLING.name, settings.project)


def bucket_key(settings: GcpSettings) -> Key:
    """Return the key of the bucket's target."""
    return Key(settings.project, BUCKET.name, settings.bucket)


def targets_of(enumeration: Enumeration, settings: GcpSettings, today: date) -> list[Target]:
    """Return the targets of the project and of every account; copies only of the open ones."""
    days = window(settings, today)
    found: list[Target] = []
    accounts = {one.id for one in enumeration.scopes if one.state is ScopeState.ACTIVE}
    for scope in enumeration.scopes:
        if scope.traits.get(STANDING) == PROJECT:
            found += _of_project(settings)
        elif scope.traits.get(STANDING) == OUTSIDE:
            found.append(Target(Key(scope.id, ACCOUNT.name, scope.id), ACCOUNT))
        else:
            found += _of_account(scope, settings, days, accounts)
    return found


def _of_project(settings: GcpSettings) -> Iterable[Target]:
    project = settings.project
    yield Target(Key(project, PROJECT_KIND.name, project), PROJECT_KIND, {"state": "ACTIVE"})
    yield Target(billing_key(settings), BILLING)
    for name in APIS:
        yield Target(Key(project, API.name, name), API, manual_step=api_disabled(name, project))
    yield Target(dataset_key(settings), DATASET)
    yield Target(
        Key(project, LOCATION.name, settings.dataset),
        LOCATION,
        {"location": settings.location.upper()},
    )
    yield Target(
        bucket_key(settings),
        BUCKET,
        {
            "uniform-access": True,
            "lifecycle": COLDER,
        },
    )
    yield Target(Key(project, PRIVACY.name, settings.bucket), PRIVACY)
    for kind in WRITING:
        yield Target(Key(project, kind.name, settings.dataset), kind)
    if settings.copy:
        yield Target(Key(project, RETENTION.name, settings.bucket), RETENTION)
        yield Target(Key(project, KEEPING.name, settings.bucket), KEEPING)
        yield Target(Key(project, SOFT_DELETE.name, settings.bucket), SOFT_DELETE)


def _of_account(scope: Scope, settings: GcpSettings, days: list[str], accounts: Collection[str]) -> Iterable[Target]:
    project = Key(settings.project, PROJECT_KIND.name, settings.project)
    own = (project, Key(settings.project, API.name, BIGQUERY_API))
    held = (*own, dataset_key(settings), *(Key(settings.project, one.name, settings.dataset) for one in WRITING))
    master = scope.traits.get(MASTER, "")
    for kind in settings.exports:
        export = EXPORTS[kind]
        manual_step = console_step(scope.id, export.title, export.roles, settings.project, settings.dataset)
        # A sub-account's costs are in its master's export too, so it needs none of its own.
        above = (Key(master, EXPORT.name, kind),) if master in accounts and kind in USAGE else ()
        # FOCUS data is in a dataset of Google's.
        rests_on = (*(own if kind == "focus" else (*held, billing_key(settings))), *above)
        yield Target(
            Key(scope.id, EXPORT.name, kind), EXPORT, manual_step=manual_step, rests_on=rests_on, rhythm=RHYTHM
        )
    if scope.state is not ScopeState.ACTIVE:
        return
    needs, kept = (bucket_key(settings),), (Key(settings.project, KEEPING.name, settings.bucket),)
    for kind in settings.copy:
        yield Target(Key(scope.id, HISTORY.name, kind), HISTORY, needs=needs, rests_on=kept)
        for day in days:
            yield Target(copy_key(scope.id, kind, day), COPY, needs=needs, rests_on=kept)
