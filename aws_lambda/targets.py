"""Define the targets of each account, without any call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import msgspec

from aws_lambda.clients import EXPORT_REGIONS
from aws_lambda.scopes import DELEGATED, MANAGEMENT, MEMBER, STANDALONE, STANDING
from aws_lambda.settings import AwsSettings
from shared.model import Enumeration, Key, Kind, ManualStep, Scope, Stage, Target
from shared.monitor.months import Reach

BUCKET = Kind("bucket", Stage.DESTINATION)
SHARED_BUCKET = Kind("bucket", Stage.DESTINATION, writable=False)
BILLING_VIEW = Kind("billing-view", Stage.DESTINATION, writable=False)
EXPORT = Kind("export", Stage.EXPORT, grace=timedelta(minutes=5))
EXPORT_ELSEWHERE = Kind("export", Stage.EXPORT, writable=False)
ORGANIZATIONS_ACCESS = Kind("organizations-access", Stage.DESTINATION, writable=False, only_to_write=True)
STACKSET = Kind("stackset", Stage.DESTINATION, writable=False, only_to_write=True)
CONNECTOR_ROLE = Kind("connector-role", Stage.DESTINATION, writable=False)
MEMBER_ROLE = Kind("member-role", Stage.DERIVED, grace=timedelta(hours=1), batch_size=500)

ACCESS_NAME = "stacksets"
MANAGED_BY = "tailpipe:managed-by"
MANAGER = "tailpipe-exports"
ALL_COLUMNS = "all"
OUTPUT = "CUSTOM TEXT_OR_CSV GZIP OVERWRITE_REPORT"

# The remembered facts of targets, by name and type.
FACTS: Mapping[str, Any] = {
    "arn": str,
    "columns": list[str],
    "columns_at": str,
    "earlier": dict[str, str],
    "earlier_on": str,
    "empty_since": str,
    "failed_operation": str,
    "failures": int,
    "manifests": dict[str, str],
    "marked": str,
    "operation": str,
    "repaired_at": str,
    "repairs": list[str],
    "retention": str,
    "retention_at": str,
    "stackset": str,
}


class Dataset(msgspec.Struct, frozen=True):
    """An export's name, its table, the managed table properties, and how long without a delivery it becomes stale."""

    name: str
    table: str
    properties: Mapping[str, str] = {}
    stale_after: timedelta = timedelta(hours=48)
    monthly: bool = False


# Source: "Data Exports table dictionary", AWS Data Exports User Guide. Carbon data is published once a month.
DATASETS = {
    "cur2": Dataset(
        "tailpipe-dataexport",
        "COST_AND_USAGE_REPORT",
        {"INCLUDE_RESOURCES": "TRUE", "TIME_GRANULARITY": "HOURLY"},
    ),
    "focus": Dataset("tailpipe-dataexport-focus", "FOCUS_1_2_AWS", {"TIME_GRANULARITY": "HOURLY"}),
    "carbon": Dataset("tailpipe-dataexport-carbon", "CARBON_EMISSIONS", stale_after=timedelta(days=45), monthly=True),
}
BY_NAME = {dataset.name: dataset for dataset in DATASETS.values()}


def datasets_of(settings: AwsSettings) -> dict[str, Dataset]:
    """Return the datasets of the exports by name.

    The export of a billing view is named after the view, so that exports of several views in one account have different
    names, and a tenant with another id finds the same export.
    """
    chosen = [DATASETS[dataset] for dataset in settings.exports]
    if settings.billing_view:
        mark = hashlib.sha256(settings.billing_view.encode()).hexdigest()[:12]
        view = {"BILLING_VIEW_ARN": settings.billing_view}
        chosen = [
            msgspec.structs.replace(one, name=f"{one.name}-{mark}", properties={**one.properties, **view})
            for one in chosen
        ]
    return {one.name: one for one in chosen}


DEPLOY = "Apply the deployment again (infra/aws): it manages this resource and restores it."


def targets_of(enumeration: Enumeration, settings: AwsSettings, account: str) -> list[Target]:
    """Return the targets of all scopes; `account` is the function's own.

    The organization's exports contain the costs of all its accounts, so every member rests on them.
    """
    found = [target for scope in enumeration.scopes for target in _of_scope(scope, settings, account)]
    keys = {target.key for target in found}
    exports = tuple(target.key for target in found if target.kind.name == EXPORT.name)
    # A run limited to some accounts has no targets outside them, so needs outside them are dropped.
    return [
        msgspec.structs.replace(
            target,
            needs=tuple(need for need in target.needs if need in keys),
            rests_on=exports if target.kind == MEMBER_ROLE else (),
        )
        for target in found
    ]


def _of_scope(scope: Scope, settings: AwsSettings, account: str) -> Iterable[Target]:
    standing = scope.traits.get(STANDING, MEMBER)
    if scope.id != account:
        if standing == MANAGEMENT:
            yield from _exports_elsewhere(scope, settings, account)
        else:
            yield _member_role(scope.id, settings, account)
        return
    yield (
        _shared_bucket(account, settings)
        if settings.shared_bucket
        else _bucket(account, settings, exporting=standing != DELEGATED)
    )
    if settings.billing_view:
        yield _billing_view(account, settings)
    if standing in (MANAGEMENT, STANDALONE):
        yield from (_export(account, dataset, settings) for dataset in datasets_of(settings).values())
    yield _connector_role(account, settings, standing)
    if standing != STANDALONE:
        yield _organizations_access(account, settings)
        yield _stackset(account, settings)
    if standing == DELEGATED:
        yield _member_role(account, settings, account)


TLS_SID = "TailpipeTlsOnly"
EXPORTS_SID = "TailpipeDataExports"
TENANTS_SID = "TailpipeTenantExports"
VIEWS_URL = "https://docs.aws.amazon.com/cost-management/latest/userguide/billing-view.html"
# Exports overwrite the current and the previous month; after 90 days files no longer change. Both storage classes allow
# immediate reads, which the connector needs, and by default S3 moves no objects below 128 KB to them.
TIERS = (("STANDARD_IA", 90), ("GLACIER_IR", 365))
RUNS_KEPT_DAYS = 90
# AWS Support delivers earlier months on request. AWS documents no limit: it decides case by case.
REACH = Reach(months=36)


def own_statements(account: str, settings: AwsSettings, exporting: bool = True) -> dict[str, dict[str, Any]]:
    """Return the function's bucket policy statements by Sid, in normal form.

    Source: "Setting up an Amazon S3 bucket for data exports", AWS Data Exports User Guide. The grant covers the whole
    bucket because the service writes its test object at the root.
    """
    arn = f"arn:{settings.partition}:s3:::{settings.bucket_of(account)}"
    statements: dict[str, dict[str, Any]] = {
        TLS_SID: {
            "Sid": TLS_SID,
            "Effect": "Deny",
            "Principal": {"AWS": ["*"]},
            "Action": ["s3:*"],
            "Resource": [arn, f"{arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": ["false"]}},
        }
    }
    home = EXPORT_REGIONS.get(settings.partition)
    if exporting and home:
        of_account = f"{home}:{account}"
        statements[EXPORTS_SID] = {
            "Sid": EXPORTS_SID,
            "Effect": "Allow",
            "Principal": {"Service": export_principals(settings.partition)},
            "Action": ["s3:GetBucketPolicy", "s3:PutObject"],
            "Resource": [arn, f"{arn}/*"],
            "Condition": {
                "ArnLike": {
                    "aws:SourceArn": [
                        f"arn:{settings.partition}:bcm-data-exports:{of_account}:export/*",
                        f"arn:{settings.partition}:cur:{of_account}:definition/*",
                    ]
                },
                "StringEquals": {"aws:SourceAccount": [account]},
            },
        }
    return statements


# The object that the service writes at the bucket's root to test its permission when an export is created.
TEST_OBJECT = "aws-programmatic-access-test-object"


def tenant_statement(bucket: str, accounts: Iterable[str], settings: AwsSettings) -> dict[str, Any]:
    """Return the bucket policy statement that lets exports of other accounts deliver, in normal form.

    Each account may write below ``PREFIX/ACCOUNT/`` only, so that none overwrites the data of another. The accounts are
    listed once, and not in each ARN as well, so that about 1,200 of them fit in a policy. `settings` are those of the
    deployment. Source: "Setting up an Amazon S3 bucket for data exports", AWS Data Exports User Guide.
    """
    arn = f"arn:{settings.partition}:s3:::{bucket}"
    home = EXPORT_REGIONS.get(settings.partition, settings.region)
    return {
        "Sid": TENANTS_SID,
        "Effect": "Allow",
        "Principal": {"Service": ["bcm-data-exports.amazonaws.com"]},
        "Action": ["s3:PutObject"],
        "Resource": sorted([f"{arn}/{TEST_OBJECT}", f"{arn}/{settings.prefix}/${{aws:SourceAccount}}/*"]),
        "Condition": {
            "ArnLike": {"aws:SourceArn": [f"arn:{settings.partition}:bcm-data-exports:{home}:*:export/*"]},
            "StringEquals": {"aws:SourceAccount": sorted(set(accounts))},
        },
    }


def export_principals(partition: str) -> list[str]:
    """Return the service principals that deliver exports.

    They end in amazonaws.com in every partition. S3 rejects a policy that names a nonexistent principal, so the older
    principal is included only in partitions with the older service (botocore's endpoints of ``cur``).
    """
    older = ["billingreports.amazonaws.com"] if partition in ("aws", "aws-cn") else []
    return ["bcm-data-exports.amazonaws.com", *older]


def lifecycle_rules(settings: AwsSettings) -> dict[str, dict[str, Any]]:
    """Return the function's lifecycle rules by id, as S3 expects them."""
    rules: dict[str, dict[str, Any]] = {
        "exports-to-cheaper-tiers": {
            "ID": "exports-to-cheaper-tiers",
            "Status": "Enabled",
            "Filter": {"Prefix": f"{settings.prefix}/"},
            "Transitions": [{"Days": days, "StorageClass": storage} for storage, days in TIERS],
        },
        "expire-run-reports": {
            "ID": "expire-run-reports",
            "Status": "Enabled",
            "Filter": {"Prefix": "runs/"},
            "Expiration": {"Days": RUNS_KEPT_DAYS},
        },
    }
    if settings.tenant:  # its reports are not in its bucket
        del rules["expire-run-reports"]
    return rules


def bucket_key(account: str, settings: AwsSettings) -> Key:
    """Return the key of the bucket's target."""
    return Key(account, BUCKET.name, settings.bucket_of(account))


def stackset_key(account: str, settings: AwsSettings) -> Key:
    """Return the key of the StackSet's target."""
    return Key(account, STACKSET.name, settings.stackset)


def billing_view_key(account: str, settings: AwsSettings) -> Key:
    """Return the key of the billing view's target."""
    return Key(account, BILLING_VIEW.name, settings.billing_view.partition("billingview/")[2])


def _billing_view(account: str, settings: AwsSettings) -> Target:
    manual_step = ManualStep(
        f"account {account} sees no billing view {settings.billing_view}",
        (
            "Compare the ARN with aws billing list-billing-views in this account.",
            "If the billing transfer has ended, remove the tenant from the registry; its delivered data stays.",
        ),
        VIEWS_URL,
    )
    return Target(billing_view_key(account, settings), BILLING_VIEW, manual_step=manual_step)


def _shared_bucket(account: str, settings: AwsSettings) -> Target:
    bucket = settings.bucket_of(account)
    manual_step = ManualStep(
        f"the policy of bucket {bucket} does not let exports of account {account} deliver below {settings.prefix}/",
        (
            "Start a round, whose first step grants it to all registered payers: tailpipe-exports invoke aws --all",
            f"If it persists, the event tenant-grants-failed says why statement {TENANTS_SID} was not written.",
        ),
        "https://docs.aws.amazon.com/cur/latest/userguide/dataexports-s3-bucket.html",
    )
    return Target(bucket_key(account, settings), SHARED_BUCKET, {"grant": account}, manual_step=manual_step)


def _bucket(account: str, settings: AwsSettings, exporting: bool) -> Target:
    statements = own_statements(account, settings, exporting)
    desired: dict[str, Any] = {
        "public-access": "blocked",
        "encryption": f"aws:kms {settings.kms_key}" if settings.kms_key else "AES256",
        "lifecycle": sorted(lifecycle_rules(settings)),
        "tls-statement": statements[TLS_SID],
    }
    if EXPORTS_SID in statements:
        desired["export-statement"] = statements[EXPORTS_SID]
    return Target(bucket_key(account, settings), BUCKET, desired)


def _export(account: str, dataset: Dataset, settings: AwsSettings) -> Target:
    return Target(
        Key(account, EXPORT.name, dataset.name),
        EXPORT,
        {
            "table": dataset.table,
            "columns": ALL_COLUMNS,
            "filter": "",
            "properties": dict(dataset.properties),
            "bucket": settings.bucket_of(account),
            "bucket-owner": settings.owner_of_bucket(account),
            "prefix": settings.prefix,
            "region": settings.bucket_region,
            "output": OUTPUT,
        },
        needs=(
            bucket_key(account, settings),
            *([billing_view_key(account, settings)] if settings.billing_view else []),
        ),
        rhythm=dataset.stale_after,
    )


def _exports_elsewhere(scope: Scope, settings: AwsSettings, account: str) -> Iterable[Target]:
    for name in datasets_of(settings):
        manual_step = ManualStep(
            f"the export {name} belongs to management account {scope.id}; an export in the delegated administrator "
            f"account {account} would contain only that account's costs",
            (
                (
                    f"Deploy the function in management account {scope.id} instead, where it manages the export and "
                    f"the member roles. Remove it from this account first: tailpipe-exports destroy aws"
                ),
            ),
            "https://docs.aws.amazon.com/cur/latest/userguide/dataexports-organizations.html",
        )
        yield Target(Key(scope.id, EXPORT.name, name), EXPORT_ELSEWHERE, manual_step=manual_step)


def _connector_role(account: str, settings: AwsSettings, standing: str) -> Target:
    skip = _without_principal(settings)
    if standing == DELEGATED:
        skip = "the connector role belongs to the management account, which has the export"
    if settings.shared_bucket:
        skip = skip or "the connector of a shared bucket is in the account of the deployment, which owns the bucket"
    name = settings.connector_role
    return Target(
        Key(account, CONNECTOR_ROLE.name, name),
        CONNECTOR_ROLE,
        {"principal": [settings.principal], "external-id": "as agreed" if settings.external_id_hash else "required"},
        skip=skip,
        manual_step=ManualStep(
            f"the trust policy of role {name} does not match the configured principal and External ID",
            (
                DEPLOY,
                (
                    f"Or correct it manually with aws iam update-assume-role-policy --role-name {name}: allow "
                    f"sts:AssumeRole to {settings.principal} with the condition StringEquals sts:ExternalId and the "
                    "agreed External ID."
                ),
            ),
            "https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_common-scenarios_third-party.html",
        ),
    )


def _without_principal(settings: AwsSettings) -> str:
    """Return why roles are skipped without a configured principal; "" with one."""
    if settings.principal:
        return ""
    if settings.tenant:
        return (
            f"the entry of tenant {settings.tenant} sets no TAILPIPE_PRINCIPAL_ARN, so that its accounts get no roles"
        )
    return (
        f"TAILPIPE_PRINCIPAL_ARN is not set, and a role in partition {settings.partition} cannot trust Tailpipe's "
        "principal in partition aws"
    )


def _organizations_access(account: str, settings: AwsSettings) -> Target:
    return Target(
        Key(account, ORGANIZATIONS_ACCESS.name, ACCESS_NAME),
        ORGANIZATIONS_ACCESS,
        {"status": "ENABLED"},
        skip=_without_principal(settings),
    )


def _stackset(account: str, settings: AwsSettings) -> Target:
    manual_step = ManualStep(
        f"StackSet {settings.stackset} does not exist in region {settings.region}, so member accounts get no role",
        (DEPLOY, "Or set STACKSET_NAME to the name of the deployed StackSet."),
        "https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stacksets-orgs-associate-stackset-with-org.html",
    )
    return Target(stackset_key(account, settings), STACKSET, manual_step=manual_step, skip=_without_principal(settings))


def _member_role(scope: str, settings: AwsSettings, account: str) -> Target:
    return Target(
        Key(scope, MEMBER_ROLE.name, settings.member_role),
        MEMBER_ROLE,
        needs=(stackset_key(account, settings), Key(account, ORGANIZATIONS_ACCESS.name, ACCESS_NAME)),
        skip=_without_principal(settings),
    )
