"""What must exist in each account, by its standing in the organization: pure data."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from aws_lambda import targets
from aws_lambda.scopes import DELEGATED, MANAGEMENT, MEMBER, STANDALONE, STANDING
from aws_lambda.settings import AwsSettings, read_settings
from aws_lambda.targets import DATASETS, FACTS, datasets_of, targets_of
from shared.model import Enumeration, Key, Kind, Scope, Stage, Target

OWN, OTHER = "111122223333", "444455556666"
KMS_KEY = f"arn:aws:kms:us-east-1:{OWN}:key/12345678-1234-1234-1234-123456789012"
PRINCIPAL = "arn:aws:iam::999900001111:role/tailpipe"


def settings(**more: str) -> AwsSettings:
    """Return the settings of a function in us-east-1."""
    return read_settings({"AWS_REGION": "us-east-1", "TAILPIPE_PRINCIPAL_ARN": PRINCIPAL, **more})


def found(standing: str, other: str = MEMBER, **more: str) -> dict[Key, Target]:
    """Return the targets of the function's own account with this standing, and of another one."""
    scopes = (Scope(OWN, traits={STANDING: standing}), Scope(OTHER, traits={STANDING: other}))
    return {one.key: one for one in targets_of(Enumeration("o-1", scopes), settings(**more), OWN)}


def kinds(all_targets: dict[Key, Target], scope: str) -> list[str]:
    """Return the kinds of a scope's targets, in order."""
    return [key.kind for key in all_targets if key.scope == scope]


def test_kinds_keep_their_names_stages_and_rights() -> None:
    """State documents and reports name them; the function writes only the writable ones."""
    all_kinds = [one for one in vars(targets).values() if isinstance(one, Kind)]
    assert {one.name for one in all_kinds if one.writable} == {"bucket", "export", "member-role"}
    assert {one.name for one in all_kinds if not one.writable} == {
        *("bucket", "export", "billing-view", "organizations-access", "stackset", "connector-role"),
    }
    assert {one.name for one in all_kinds if one.stage is Stage.EXPORT} == {"export"}
    assert {one.name for one in all_kinds if one.stage is Stage.DERIVED} == {"member-role"}
    assert {one.name for one in all_kinds if one.only_to_write} == {"organizations-access", "stackset"}
    assert (targets.EXPORT.grace, targets.MEMBER_ROLE.grace) == (timedelta(minutes=5), timedelta(hours=1))
    assert targets.MEMBER_ROLE.batch_size == 500


def test_what_the_function_created_bears_its_tag() -> None:
    """Earlier versions wrote the same one: an export without it is not the function's."""
    assert (targets.MANAGED_BY, targets.MANAGER) == ("tailpipe:managed-by", "tailpipe-exports")
    assert targets.ACCESS_NAME == "stacksets"


def test_facts_keep_their_names() -> None:
    """State documents of earlier versions hold them."""
    assert set(FACTS) == {
        *("arn", "columns", "columns_at", "earlier", "earlier_on", "empty_since", "failed_operation", "failures"),
        *("manifests", "marked", "operation", "repaired_at", "repairs", "retention", "retention_at", "stackset"),
    }


def test_datasets_are_those_of_data_exports() -> None:
    """Source: "Data Exports table dictionary", AWS Data Exports User Guide."""
    assert {name: (one.name, one.table, dict(one.properties)) for name, one in DATASETS.items()} == {
        "cur2": (
            "tailpipe-dataexport",
            "COST_AND_USAGE_REPORT",
            {"INCLUDE_RESOURCES": "TRUE", "TIME_GRANULARITY": "HOURLY"},
        ),
        "focus": ("tailpipe-dataexport-focus", "FOCUS_1_2_AWS", {"TIME_GRANULARITY": "HOURLY"}),
        "carbon": ("tailpipe-dataexport-carbon", "CARBON_EMISSIONS", {}),
    }
    assert [name for name, one in DATASETS.items() if one.monthly] == ["carbon"]
    assert [one.stale_after for one in DATASETS.values()] == [timedelta(hours=48)] * 2 + [timedelta(days=45)]


OF_ORGANIZATION = ["organizations-access", "stackset"]


@pytest.mark.parametrize(
    ("standing", "other", "own", "of_other"),
    [
        pytest.param(STANDALONE, MEMBER, ["bucket", "export", "connector-role"], ["member-role"], id="standalone"),
        pytest.param(
            MANAGEMENT,
            MEMBER,
            ["bucket", "export", "connector-role", *OF_ORGANIZATION],
            ["member-role"],
            id="management account",
        ),
        pytest.param(
            DELEGATED,
            MANAGEMENT,
            ["bucket", "connector-role", *OF_ORGANIZATION, "member-role"],
            ["export"],
            id="delegated administrator",
        ),
    ],
)
def test_account_has_the_targets_of_its_standing(
    standing: str, other: str, own: list[str], of_other: list[str]
) -> None:
    """The exports belong to the management account, and every other one gets a role."""
    all_targets = found(standing, other, EXPORTS="cur2")
    assert (kinds(all_targets, OWN), kinds(all_targets, OTHER)) == (own, of_other)


def test_member_rests_on_the_exports_of_the_organization() -> None:
    """They hold its costs; its role is written once the StackSet and the access of organizations are there."""
    all_targets = found(MANAGEMENT, EXPORTS="cur2,focus")
    (role,) = (one for one in all_targets.values() if one.key.scope == OTHER)
    assert [key.name for key in role.rests_on] == ["tailpipe-dataexport", "tailpipe-dataexport-focus"]
    assert [need.kind for need in role.needs] == ["stackset", "organizations-access"]
    assert [one.rests_on for one in all_targets.values() if one.key.scope == OWN] == [()] * 6
    alone = targets_of(Enumeration("o-1", (Scope(OTHER),)), settings(), OWN)
    assert [one.needs for one in alone] == [()]


def test_export_has_the_managed_fields() -> None:
    """Only these are compared, and the bucket is written first."""
    all_targets = found(MANAGEMENT, EXPORTS="cur2")
    (bucket,) = (key for key in all_targets if key.kind == "bucket")
    one = all_targets[Key(OWN, "export", "tailpipe-dataexport")]
    assert one.desired == {
        "table": "COST_AND_USAGE_REPORT",
        "columns": "all",
        "filter": "",
        "properties": {"INCLUDE_RESOURCES": "TRUE", "TIME_GRANULARITY": "HOURLY"},
        "bucket": bucket.name,
        "bucket-owner": OWN,
        "prefix": settings().prefix,
        "region": "us-east-1",
        "output": "CUSTOM TEXT_OR_CSV GZIP OVERWRITE_REPORT",
    }
    assert (one.needs, one.rhythm) == ((bucket,), timedelta(hours=48))


@pytest.mark.parametrize(("kms", "encryption"), [("", "AES256"), (KMS_KEY, "aws:kms {}")])
def test_bucket_has_the_managed_fields(kms: str, encryption: str) -> None:
    """The bucket of a delegated administrator takes no exports."""
    one = next(one for one in found(MANAGEMENT, KMS_KEY_ARN=kms).values() if one.key.kind == "bucket")
    assert one.desired["public-access"] == "blocked"
    assert one.desired["encryption"] == encryption.format(kms)
    assert one.desired["lifecycle"] == ["expire-run-reports", "exports-to-cheaper-tiers"]
    assert sorted(one.desired) == ["encryption", "export-statement", "lifecycle", "public-access", "tls-statement"]
    delegated = next(one for one in found(DELEGATED, MANAGEMENT).values() if one.key.kind == "bucket")
    assert "export-statement" not in delegated.desired


def test_lifecycle_moves_exports_and_expires_reports() -> None:
    """Both storage classes allow immediate reads, and the reports are not the customer's data."""
    rules = targets.lifecycle_rules(settings())
    assert {name: rule["ID"] for name, rule in rules.items()} == {name: name for name in rules}
    exports, reports = rules["exports-to-cheaper-tiers"], rules["expire-run-reports"]
    assert (exports["Status"], exports["Filter"]) == ("Enabled", {"Prefix": f"{settings().prefix}/"})
    assert exports["Transitions"] == [
        {"Days": 90, "StorageClass": "STANDARD_IA"},
        {"Days": 365, "StorageClass": "GLACIER_IR"},
    ]
    assert (reports["Status"], reports["Filter"], reports["Expiration"]) == (
        "Enabled",
        {"Prefix": "runs/"},
        {"Days": 90},
    )


def test_bucket_of_a_tenant_expires_no_reports() -> None:
    """Its reports are in the bucket of the function's own account."""
    assert set(targets.lifecycle_rules(msgspec.structs.replace(settings(), tenant="acme"))) == {
        "exports-to-cheaper-tiers"
    }


def test_own_statements_are_those_of_the_user_guide() -> None:
    """Source: "Setting up an Amazon S3 bucket for data exports", AWS Data Exports User Guide."""
    made = settings()
    arn = f"arn:aws:s3:::{made.bucket_of(OWN)}"
    assert targets.own_statements(OWN, made) == {
        "TailpipeTlsOnly": {
            "Sid": "TailpipeTlsOnly",
            "Effect": "Deny",
            "Principal": {"AWS": ["*"]},
            "Action": ["s3:*"],
            "Resource": [arn, f"{arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": ["false"]}},
        },
        "TailpipeDataExports": {
            "Sid": "TailpipeDataExports",
            "Effect": "Allow",
            "Principal": {"Service": ["bcm-data-exports.amazonaws.com", "billingreports.amazonaws.com"]},
            "Action": ["s3:GetBucketPolicy", "s3:PutObject"],
            "Resource": [arn, f"{arn}/*"],
            "Condition": {
                "ArnLike": {
                    "aws:SourceArn": [
                        f"arn:aws:bcm-data-exports:us-east-1:{OWN}:export/*",
                        f"arn:aws:cur:us-east-1:{OWN}:definition/*",
                    ]
                },
                "StringEquals": {"aws:SourceAccount": [OWN]},
            },
        },
    }
    assert list(targets.own_statements(OWN, made, exporting=False)) == ["TailpipeTlsOnly"]


def test_statement_of_tenants_lets_each_account_write_below_its_own_folder() -> None:
    """No account may overwrite the data of another."""
    made = settings()
    assert targets.tenant_statement("shared", [OTHER, OWN, OTHER], made) == {
        "Sid": "TailpipeTenantExports",
        "Effect": "Allow",
        "Principal": {"Service": ["bcm-data-exports.amazonaws.com"]},
        "Action": ["s3:PutObject"],
        "Resource": [
            "arn:aws:s3:::shared/aws-programmatic-access-test-object",
            f"arn:aws:s3:::shared/{made.prefix}/${{aws:SourceAccount}}/*",
        ],
        "Condition": {
            "ArnLike": {"aws:SourceArn": ["arn:aws:bcm-data-exports:us-east-1:*:export/*"]},
            "StringEquals": {"aws:SourceAccount": [OWN, OTHER]},
        },
    }


@pytest.mark.parametrize(
    ("partition", "older"), [("aws", True), ("aws-cn", True), ("aws-us-gov", False), ("aws-eusc", False)]
)
def test_older_principal_is_named_where_the_older_service_is(partition: str, older: bool) -> None:
    """S3 refuses a policy that names a principal that does not exist."""
    principals = targets.export_principals(partition)
    assert principals[0] == "bcm-data-exports.amazonaws.com"
    assert principals[1:] == (["billingreports.amazonaws.com"] if older else [])


def test_export_of_a_billing_view_is_named_after_the_view() -> None:
    """Exports of several views in one account have different names, and the same view always the same."""
    view = f"arn:aws:billing::{OWN}:billingview/custom-1"
    made = [
        datasets_of(msgspec.structs.replace(settings(EXPORTS="cur2"), billing_view=one))
        for one in (view, view, f"{view}2")
    ]
    (name, one), (_, same), (_, other) = (next(iter(found.items())) for found in made)
    assert name == one.name == same.name != other.name
    assert one.name.startswith("tailpipe-dataexport-")
    assert len(one.name.rpartition("-")[2]) == 12
    assert one.properties["BILLING_VIEW_ARN"] == view
    assert one.properties["TIME_GRANULARITY"] == "HOURLY"


def test_export_of_a_billing_view_needs_the_view() -> None:
    """Without one, the export needs the bucket alone."""
    view = msgspec.structs.replace(settings(EXPORTS="cur2"), billing_view=f"arn:aws:billing::{OWN}:billingview/c-1")
    scopes = Enumeration("o-1", (Scope(OWN, traits={STANDING: MANAGEMENT}),))
    (export,) = (one for one in targets_of(scopes, view, OWN) if one.key.kind == "export")
    assert [(need.kind, need.name) for need in export.needs][1:] == [("billing-view", "c-1")]
    (missing,) = (one for one in targets_of(scopes, view, OWN) if one.key.kind == "billing-view")
    assert missing.manual_step is not None
    assert missing.manual_step.url == "https://docs.aws.amazon.com/cost-management/latest/userguide/billing-view.html"
    (export,) = (one for one in found(MANAGEMENT, EXPORTS="cur2").values() if one.key.kind == "export")
    assert [need.kind for need in export.needs] == ["bucket"]


def test_manual_steps_link_to_the_documentation() -> None:
    """The pages of what a person has to set up."""
    pages = "https://docs.aws.amazon.com"
    shared = msgspec.structs.replace(settings(), shared_bucket=True)
    made = [*found(MANAGEMENT).values(), *found(DELEGATED, MANAGEMENT).values()]
    made += targets_of(Enumeration("o-1", (Scope(OWN, traits={STANDING: MANAGEMENT}),)), shared, OWN)
    assert {one.manual_step.url.removeprefix(pages) for one in made if one.manual_step and one.manual_step.url} == {
        "/cur/latest/userguide/dataexports-s3-bucket.html",
        "/cur/latest/userguide/dataexports-organizations.html",
        "/IAM/latest/UserGuide/id_roles_common-scenarios_third-party.html",
        "/AWSCloudFormation/latest/UserGuide/stacksets-orgs-associate-stackset-with-org.html",
    }


def test_roles_are_skipped_without_a_principal() -> None:
    """The reason names the setting, and the exports are made all the same."""
    china = {"AWS_REGION": "cn-north-1", "TAILPIPE_PRINCIPAL_ARN": ""}
    skipped = {key.kind: one.skip for key, one in found(MANAGEMENT, **china).items() if one.skip}
    assert sorted(skipped) == ["connector-role", "member-role", "organizations-access", "stackset"]
    assert all("TAILPIPE_PRINCIPAL_ARN is not set, and a role in partition aws-cn" in why for why in skipped.values())
    tenant = msgspec.structs.replace(settings(), principal="", tenant="acme")
    made = targets_of(Enumeration("o-1", (Scope(OWN, traits={STANDING: MANAGEMENT}),)), tenant, OWN)
    assert {one.skip for one in made if one.key.kind == "stackset"} == {
        "the entry of tenant acme sets no TAILPIPE_PRINCIPAL_ARN, so that its accounts get no roles"
    }


def test_connector_role_trusts_the_principal_with_the_external_id() -> None:
    """A delegated administrator has none: the management account has the export."""
    role = next(one for one in found(MANAGEMENT).values() if one.key.kind == "connector-role")
    assert role.desired == {"principal": [PRINCIPAL], "external-id": "required"}
    assert role.skip == ""
    agreed = found(MANAGEMENT, EXTERNAL_ID_HASH="ab" * 8 + ":" + "cd" * 32)
    role = next(one for one in agreed.values() if one.key.kind == "connector-role")
    assert role.desired["external-id"] == "as agreed"
    delegated = next(one for one in found(DELEGATED, MANAGEMENT).values() if one.key.kind == "connector-role")
    assert "management account" in delegated.skip
