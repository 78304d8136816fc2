"""Input that the AWS module accepts or refuses, and a part of each error message."""

from __future__ import annotations

from typing import Any

from tests.canaries import EXTERNAL_ID

MEMBER, OTHER = "210000000001", "210000000002"
UNIT = "ou-ab12-cdefgh34"
PROVIDERS = {"aws": "aws", "aws.home": "aws.home"}
GOOD: dict[str, Any] = {"environment": "prod", "external_id": EXTERNAL_ID, "providers": PROVIDERS}
READ = {"payer": "444455556666", "external_id": "one"}
KEY = "arn:aws:kms:eu-west-1:111122223333:key/11111111-2222-3333-4444-555555555555"


def root(member: str) -> dict[str, Any]:
    """Return the provider configurations that the cases use; `member` is a member account of the organization.

    The local AWS reads the account id from the access key.
    """
    return {
        "provider": {
            "aws": [
                {"region": "eu-west-1"},
                {"alias": "home", "region": "us-east-1"},
                {"alias": "member", "region": "eu-west-1", "access_key": f"AKIALOCA{member}", "secret_key": "none"},
                {"alias": "china", "region": "cn-north-1"},
                {"alias": "china_home", "region": "cn-northwest-1"},
                {"alias": "secret", "region": "us-iso-east-1"},
            ]
        }
    }


ACCEPTED: dict[str, dict[str, Any]] = {
    "defaults": {},
    "standalone": {"account_kind": "standalone"},
    "selected": {"include_ous": [UNIT], "exclude_accounts": [MEMBER], "auto_deployment": False},
    "key": {
        "kms_key_arn": KEY,
        "exports": ["cur2", "focus", "carbon"],
        "schedule": "cron(15 * * * ? *)",
        "schedule_period_minutes": 60,
    },
    "messages": {
        "notify_secret": "arn:aws:secretsmanager:eu-west-1:111122223333:secret:webhook-AbCdEf",
        "notify_digest": True,
        "publish_page": True,
        "delivery_events": True,
        "events": False,
        "delta_retention_days": 3650,
    },
    "tenants": {
        "fleet": True,
        "kms_key_arn": KEY,
        "tenant_connectors": {"acme": READ, "bolt": {**READ, "external_id": "two"}},
    },
    "china": {"providers": {"aws": "aws.china", "aws.home": "aws.china_home"}, "bucket_name": "elsewhere"},
}

MISSING = ("environment", "external_id", "package")

BY_VARIABLE: dict[str, tuple[dict[str, Any], str]] = {
    "environment": ({"environment": "dev"}, 'Set environment to "prod" or "uat"'),
    "delta_retention_days": ({"delta_retention_days": 0}, "Set delta_retention_days to a whole number from 1"),
    "package": ({"package": "no-such.zip"}, "run `tailpipe-exports package aws --out dist`"),
    "external_id": ({"external_id": "two words"}, "Set external_id to the External ID that Tailpipe gave you"),
    "no_external_id": ({"external_id": ""}, "Set external_id to the External ID that Tailpipe gave you"),
    "external_id_previous": ({"external_id_previous": "x"}, "Set external_id_previous to the External ID"),
    "tailpipe_principal_arn": ({"tailpipe_principal_arn": "*"}, "Set tailpipe_principal_arn to the ARN of one role"),
    "account_kind": ({"account_kind": "member"}, 'Set account_kind to "management", or to "standalone"'),
    "exports": ({"exports": ["cur1"]}, 'Set exports to one or more of "cur2", "focus" and "carbon"'),
    "schedule": ({"schedule": "0 * * * *"}, 'Set schedule to "rate(1 hour)" or the like'),
    "schedule_period_minutes": ({"schedule_period_minutes": 5}, "Set schedule_period_minutes to a whole number"),
    "include_accounts": ({"include_accounts": ["1"]}, "Set include_accounts to account ids of 12 digits"),
    "exclude_accounts": ({"exclude_accounts": ["sandbox"]}, "Set exclude_accounts to account ids of 12 digits"),
    "include_ous": ({"include_ous": ["Sandbox"]}, "Set include_ous to ids of organizational units"),
    "organizations_access": ({"organizations_access": "off"}, 'Set organizations_access to "activate"'),
    "function_name": ({"function_name": "a b"}, "Set function_name to at most 48 letters"),
    "memory_mb": ({"memory_mb": 128}, "Set memory_mb to a whole number from 256 to 10240"),
    "timeout_seconds": ({"timeout_seconds": 3600}, "Set timeout_seconds to a whole number from 60 to 900"),
    "reserved_concurrency": ({"reserved_concurrency": 0}, "Set reserved_concurrency to 1, or to -1"),
    "call_budget": ({"call_budget": -1}, "Set call_budget to a whole number from 0 (no limit)"),
    "log_level": ({"log_level": "info"}, 'Set log_level to "DEBUG", "INFO", "WARNING" or "ERROR"'),
    "settings": ({"settings": {"EXPORTS": "focus"}}, "everything else has a variable of its own"),
    "bucket_name": ({"bucket_name": "Exports"}, "Set bucket_name to 3 to 63 lower-case letters"),
    "export_prefix": ({"export_prefix": "state/exports"}, "not below state/ or runs/"),
    "extra_bucket_policy": ({"extra_bucket_policy": "{}"}, "Set extra_bucket_policy to a policy document in JSON"),
    "keep_overwritten_days": ({"keep_overwritten_days": 999}, "Set keep_overwritten_days to a whole number from 0"),
    "notify_secret": (
        {"notify_secret": "https://hooks.slack.com/services/T0/B0/x"},
        "Never write the webhook's address itself",
    ),
    "kms_key_arn": ({"kms_key_arn": "alias/exports"}, "Set kms_key_arn to the ARN of a key"),
    "permissions_boundary_arn": ({"permissions_boundary_arn": "boundary"}, "to the ARN of a managed policy"),
    "stackset_name": ({"stackset_name": "1"}, "Set stackset_name to at most 128 letters"),
    "connector_role_name": ({"connector_role_name": "a/b"}, "Set connector_role_name to at most 64 letters"),
    "member_role_name": ({"member_role_name": ""}, "Set member_role_name to at most 64 letters"),
    "log_retention_days": (
        {"log_retention_days": 42},
        "Set log_retention_days to a number that CloudWatch Logs offers",
    ),
    "notification_emails": ({"notification_emails": ["team"]}, "Set notification_emails to e-mail addresses"),
    "tags": ({"tags": {"aws:team": "x"}}, 'Set tags without "managed-by"'),
    "fleet_schedule": ({"fleet_schedule": "hourly"}, 'Set fleet_schedule to "rate(1 hour)" or the like'),
    "fleet_concurrency": ({"fleet_concurrency": 901}, "Set fleet_concurrency to a whole number from 1 to 900"),
    "fleet_tolerated_percent": ({"fleet_tolerated_percent": 101}, "Set fleet_tolerated_percent to a number from 0"),
    "tenant_role_name": ({"tenant_role_name": "a/b"}, "Set tenant_role_name to at most 64 letters"),
    "registry_writers": ({"registry_writers": ["platform"]}, "Set registry_writers to ARNs of roles or users"),
    "tenant_id": ({"tenant_connectors": {"Acme": READ}}, "Set the keys of tenant_connectors to ids of tenants"),
    "tenant_payer": ({"tenant_connectors": {"acme": READ | {"payer": "1"}}}, "Set payer in tenant_connectors"),
    "tenant_external_id": (
        {"tenant_connectors": {"acme": READ | {"external_id": "two words"}}},
        "Set external_id in tenant_connectors to the External ID",
    ),
    "shared_external_id": (
        {"tenant_connectors": {"acme": READ, "bolt": READ}},
        "to another External ID for each tenant",
    ),
}

COMBINATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "partition_without_exports": (
        {"account_kind": "standalone", "providers": {"aws": "aws.secret", "aws.home": "aws.secret"}},
        "Deploy in a partition that has BCM Data Exports",
    ),
    "home_in_another_region": (
        {"providers": {"aws": "aws", "aws.home": "aws"}},
        "Set the region of the provider passed as aws.home to us-east-1",
    ),
    "home_in_another_partition": (
        {"providers": {"aws": "aws", "aws.home": "aws.china_home"}},
        "Set the region of the provider passed as aws.home to us-east-1",
    ),
    "member_account": (
        {"providers": {"aws": "aws.member", "aws.home": "aws.home"}},
        "Deploy with credentials of the management account 111122223333",
    ),
    "selection_without_members": (
        {"account_kind": "standalone", "include_accounts": [MEMBER]},
        "Remove include_accounts, exclude_accounts and include_ous",
    ),
    "selection_beside_auto_deployment": (
        {"auto_deployment": True, "include_accounts": [MEMBER]},
        "Set auto_deployment to false or remove the selection of accounts",
    ),
    "in_and_out": (
        {"include_accounts": [MEMBER, OTHER], "exclude_accounts": [MEMBER]},
        f"Remove {MEMBER} from include_accounts or from exclude_accounts",
    ),
    "principal_of_another_partition": (
        {"tailpipe_principal_arn": "arn:aws-cn:iam::111122223333:role/Connector"},
        "Set tailpipe_principal_arn to a principal of partition aws",
    ),
    "key_in_another_region": (
        {"kms_key_arn": KEY.replace("eu-west-1", "us-east-1")},
        "Set kms_key_arn to a key in eu-west-1",
    ),
    "secret_of_another_partition": (
        {"notify_secret": "arn:aws-cn:secretsmanager:cn-north-1:111122223333:secret:webhook-AbCdEf"},
        "Set notify_secret to a secret of partition aws",
    ),
    "connectors_without_principal": (
        {
            "providers": {"aws": "aws.china", "aws.home": "aws.china_home"},
            "account_kind": "standalone",
            "tenant_connectors": {"acme": READ},
        },
        "Set tailpipe_principal_arn to the role that Tailpipe reads as, since partition aws-cn",
    ),
    "role_of_a_tenant_too_long": (
        {"connector_role_name": "c" * 60, "tenant_connectors": {"acme": READ}},
        "Set connector_role_name to fewer characters",
    ),
    "external_id_of_the_deployment": (
        {"tenant_connectors": {"acme": READ | {"external_id": EXTERNAL_ID}}},
        "Set in tenant_connectors an External ID of its own for each tenant",
    ),
    "cron_without_period": ({"schedule": "cron(15 * * * ? *)"}, "set schedule_period_minutes to the minutes between"),
    "rate_that_is_no_alarm": ({"schedule": "rate(2 days)"}, "Set schedule to a rate from 15 minutes to one day"),
    "access_not_switched_on": ({"organizations_access": "require"}, "aws cloudformation activate-organizations-access"),
}
