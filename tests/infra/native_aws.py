"""Sets of variables under which the Terraform module and the CloudFormation template are compared."""

from __future__ import annotations

from typing import Any

from tests.canaries import EXTERNAL_ID

UNIT, MEMBER = "ou-ab12-cdefgh34", "210000000001"
PREVIOUS = f"{EXTERNAL_ID}-before"

# Each set is one call of the module; names differ, since all are in one account.
SETS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "home": {
        "account_kind": "standalone",
        "events": False,
        "reserved_concurrency": -1,
        "exports": ["focus"],
        "schedule": "rate(1 day)",
    },
    "everything": {
        "environment": "uat",
        "external_id_previous": PREVIOUS,
        "exports": ["cur2", "focus", "carbon"],
        "schedule": "rate(6 hours)",
        "delivery_events": True,
        "delta_retention_days": 3,
        "include_ous": [UNIT],
        "exclude_accounts": [MEMBER],
        "auto_deployment": False,
        "memory_mb": 1024,
        "timeout_seconds": 600,
        "call_budget": 100,
        "log_level": "DEBUG",
        "settings": {"MAX_WRITES_PER_RUN": "7", "STALE_MIN_HOURS": "30"},
        "export_prefix": "finops/exports",
        "keep_overwritten_days": 14,
        "kms_key_arn": "arn:aws:kms:eu-west-1:111122223333:key/11111111-2222-3333-4444-555555555555",
        "permissions_boundary_arn": "arn:aws:iam::111122223333:policy/boundary",
        "member_role_name": "tailpipe-member",
        "log_retention_days": 365,
        "notification_emails": ["platform@example.com", "finops@example.com"],
        "notify_secret": "arn:aws:secretsmanager:eu-west-1:111122223333:secret:webhook-AbCdEf",
        "notify_digest": True,
        "publish_page": True,
        "tags": {"team": "platform"},
        "dashboard": True,
    },
    "deliveries": {
        "events": False,
        "delivery_events": True,
        "include_accounts": [MEMBER],
        "schedule": "cron(15 */2 * * ? *)",
        "schedule_period_minutes": 120,
        "tailpipe_principal_arn": "arn:aws:iam::111122223333:role/Reader",
    },
}
# The region of each set's function; eu-west-1 unless listed.
REGIONS = {"home": "us-east-1"}
HOME = "us-east-1"


def given(name: str) -> dict[str, Any]:
    """Return the module's variables of a set, without the package."""
    named = (
        {}
        if name == "defaults"
        else {
            "function_name": f"tailpipe-{name}",
            "bucket_name": f"exports-{name}",
            "stackset_name": f"Tailpipe-{name}",
            "connector_role_name": f"tailpipe-connector-{name}",
        }
    )
    return {"environment": "prod", "external_id": EXTERNAL_ID, **named, **SETS[name]}
