"""Input that the GCP module accepts or refuses, and a part of each error message."""

from __future__ import annotations

from typing import Any

ACCOUNT, OTHER = "012345-6789AB-CDEF01", "0A1B2C-3D4E5F-678901"
GOOD: dict[str, Any] = {
    "environment": "prod",
    "project_id": "tailpipe-dataexport",
    "organization_id": "123456789012",
    "tailpipe_tenant": "tenant-1",
    "tailpipe_issuer": "https://issuer.example.com",
    "tailpipe_audience": "https://audience.example.com",
}
ROOT: dict[str, Any] = {}

ACCEPTED: dict[str, dict[str, Any]] = {
    "defaults": {},
    "accounts": {
        "organization_id": None,
        "billing_accounts": [ACCOUNT, OTHER],
        "include_accounts": [ACCOUNT],
        "notify_secret": "tailpipe-webhook",
        "notify_digest": True,
        "publish_page": True,
        "events": False,
    },
    "region": {"dataset_location": "europe-west1"},
    "issuer": {"tailpipe_issuer": "https://id.example.com:8443/realms/Tailpipe_1/", "tailpipe_audience": "client@1"},
    "europe": {"region": "europe-west1", "dataset_location": "EU", "schedule": "15 */6 * * *", "alarm_after_hours": 18},
    "no_copies": {"exports": ["pricing"], "settings": {"COPY": "off"}},
    "deliveries": {"delivery_events": True, "delta_retention_days": 3650},
    "tenants": {
        "fleet": True,
        "fleet_concurrency": 999,
        "fleet_per_second": 500,
        "registry_writers": ["user:a@example.com", "serviceAccount:x@p.iam.gserviceaccount.com"],
    },
    "selected": {"include_accounts": [ACCOUNT], "exclude_accounts": [OTHER], "labels": {"team": "finops"}},
}

MISSING = ("environment", "package", "project_id", "tailpipe_tenant", "tailpipe_issuer", "tailpipe_audience")

BY_VARIABLE: dict[str, tuple[dict[str, Any], str]] = {
    "environment": ({"environment": "dev"}, 'Write environment = "prod", or "uat"'),
    "package": ({"package": "no-such.zip"}, "run `tailpipe-exports package gcp --out dist`"),
    "project_id": ({"project_id": "123456789012"}, "Write the project's id, such as tailpipe-dataexport"),
    "tailpipe_tenant": ({"tailpipe_tenant": "*"}, "never a wildcard"),
    "tenant_that_ends_the_condition": ({"tailpipe_tenant": "a' || true || '"}, "never a wildcard"),
    **{
        f"issuer_{number}": ({"tailpipe_issuer": issuer}, "an https address with a public name")
        for number, issuer in enumerate(
            [
                "http://issuer.example.com",
                "issuer.example.com",
                "https://localhost",
                "https://10.0.0.1",
                "https://169.254.169.254/x",
                "https://[fd00::1]",
                "https://metadata.google.internal",
                "https://user@issuer.example.com",
                "https://issuer.example.com/?a=b",
                "https://issuer.example.com/#a",
                "",
            ]
        )
    },
    "audience": ({"tailpipe_audience": "*"}, "never a wildcard"),
    "no_audience": ({"tailpipe_audience": ""}, "Write tailpipe_audience"),
    "organization_id": ({"organization_id": "organizations/1"}, "Write the organization's number alone"),
    "billing_accounts": (
        {"organization_id": None, "billing_accounts": ["billingAccounts/1"]},
        "Write each billing account as three groups of six",
    ),
    "include_accounts": ({"include_accounts": ["x"]}, "Write each billing account as three groups of six"),
    "exclude_accounts": ({"exclude_accounts": [ACCOUNT.lower()]}, "Write each billing account as three groups of six"),
    "exports": ({"exports": ["usage"]}, 'List at least one of "standard", "detailed", "pricing" and "focus"'),
    "exports_twice": ({"exports": ["focus", "focus"]}, "each once"),
    "region": ({"region": "EU"}, "the multi-region goes into dataset_location"),
    "dataset_location": ({"dataset_location": "europe-southwest1"}, 'Write dataset_location = "US" or "EU"'),
    "dataset_id": ({"dataset_id": "billing-export"}, "Write the dataset's name with letters, digits and underscores"),
    "export_bucket": ({"export_bucket": "Exports"}, "Write a bucket's name of 3 to 63 lower-case letters"),
    "state_bucket": ({"state_bucket": "x"}, "Write a bucket's name of 3 to 63 lower-case letters"),
    "schedule": ({"schedule": "every hour"}, "five fields"),
    "schedule_time_zone": ({"schedule_time_zone": "CET+1"}, "tz database"),
    "function_name": ({"function_name": "Tailpipe"}, "Write the function's name with 2 to 49"),
    "memory_mb": ({"memory_mb": 8192}, "Write memory_mb as a whole number from 256 to 4096"),
    "timeout_seconds": ({"timeout_seconds": 3600}, "Write timeout_seconds as a whole number from 60 to 1800"),
    "ingress": ({"ingress": "all"}, 'Write ingress = "ALLOW_INTERNAL_ONLY"'),
    "call_budget": ({"call_budget": 0.5}, "Write call_budget as a whole number"),
    "delta_retention_days": ({"delta_retention_days": 0}, "Write delta_retention_days as a whole number of days"),
    "fleet_schedule": ({"fleet_schedule": "hourly"}, "Write fleet_schedule as unix-cron"),
    "fleet_minutes": ({"fleet_minutes": 19}, "Write fleet_minutes as a whole number"),
    "fleet_concurrency": ({"fleet_concurrency": 1000}, "Write fleet_concurrency as a whole number from 1 to 999"),
    "fleet_per_second": ({"fleet_per_second": 501}, "Write fleet_per_second as a number above 0"),
    "registry_writers": ({"registry_writers": ["allUsers"]}, "Write each of registry_writers as user:, group:"),
    "log_level": ({"log_level": "debug"}, 'Write log_level = "DEBUG"'),
    "log_retention_days": ({"log_retention_days": 0}, "Write log_retention_days as a whole number from 1 to 3650"),
    "settings": ({"settings": {"EXPORTS": "focus"}}, "everything else has a variable of its own"),
    "alarm_after_hours": ({"alarm_after_hours": 0}, "Write alarm_after_hours as a whole number from 1 to 168"),
    "notification_emails": ({"notification_emails": ["team"]}, "Write each of notification_emails as an address"),
    "notify_secret": (
        {"notify_secret": "https://hooks.slack.com/services/T0/B0/x"},
        "Never write the webhook's address itself",
    ),
    "workload_identity_pool_id": ({"workload_identity_pool_id": "gcp-pool"}, "not beginning with gcp-"),
    "custom_role_prefix": ({"custom_role_prefix": "tail-pipe"}, "Write custom_role_prefix with 1 to 40"),
    "labels": ({"labels": {"managed-by": "me"}}, "managed-by is the module's own"),
}

COMBINATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no_scope": ({"organization_id": None}, "Set organization_id, which covers all billing accounts"),
    "both_scopes": ({"billing_accounts": [ACCOUNT]}, "Set organization_id, which covers all billing accounts"),
    "in_and_out": (
        {"include_accounts": [ACCOUNT], "exclude_accounts": [ACCOUNT]},
        f"Take {ACCOUNT} out of include_accounts or out of exclude_accounts",
    ),
    "not_among_the_accounts": (
        {"organization_id": None, "billing_accounts": [ACCOUNT], "include_accounts": [OTHER]},
        f"Add {OTHER} to billing_accounts",
    ),
    "one_bucket_for_both": (
        {"export_bucket": "the-same", "state_bucket": "the-same"},
        "Give export_bucket and state_bucket two different names",
    ),
    "deliveries_without_copies": (
        {"delivery_events": True, "settings": {"COPY": "off"}},
        "Set COPY in settings to the exports to copy, or delivery_events to false",
    ),
    "copy_of_nothing": ({"settings": {"COPY": "focus"}}, 'Write COPY in settings as "off"'),
}
