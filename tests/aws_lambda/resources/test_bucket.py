"""The export bucket is created completely and repaired field by field; everything of the customer's is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aws_lambda.resources.bucket import Bucket
from localcloud.aws.cloud import LocalAws
from shared.model import Result, Verb
from tests.aws_lambda.support import DAY, EXPORT, HOUR, Lines, action, local_aws, messages, outcome, run, verbs

FOREIGN = {
    "Sid": "Auditors",
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::210000000000:root"},
    "Action": "s3:GetObject",
    "Resource": "arn:aws:s3:::tailpipe-dataexport-111122223333/*",
    "Condition": {"StringEquals": {"aws:PrincipalTag/team": "audit"}},
}


def policy(cloud: LocalAws) -> dict[str, Any]:
    """Return the stored bucket policy."""
    text = cloud.client("s3").get_bucket_policy(Bucket=cloud.deployment.bucket)["Policy"]
    document: dict[str, Any] = json.loads(text)
    return document


def put_policy(cloud: LocalAws, document: Any) -> None:
    """Store a bucket policy as a customer would."""
    cloud.client("s3").put_bucket_policy(Bucket=cloud.deployment.bucket, Policy=json.dumps(document))


def test_missing_bucket_is_created_with_all_settings() -> None:
    """Public access is blocked, encryption is set, and both statements and both lifecycle rules exist."""
    with local_aws(accounts=2) as cloud:
        bucket = cloud.deployment.bucket
        cloud.client("s3").delete_bucket(Bucket=bucket)
        finished = run(cloud)
        assert outcome(finished, "bucket").action.verb is Verb.CREATE
        assert finished.report["status"] == "ok"
        s3 = cloud.client("s3")
        assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] == "eu-west-1"
        assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
        assert {one["Sid"] for one in policy(cloud)["Statement"]} == {"TailpipeTlsOnly", "TailpipeDataExports"}
        assert len(s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]) == 2
        assert set(verbs(run(cloud))) == {"KEEP"}


def test_bucket_in_us_east_1_is_created_without_location_constraint() -> None:
    """S3 rejects a LocationConstraint for this region."""
    with local_aws(accounts=1, kind="standalone", region="us-east-1") as cloud:
        cloud.client("s3").delete_bucket(Bucket=cloud.deployment.bucket)
        assert outcome(run(cloud), "bucket").result is Result.DONE


def test_policy_merge_keeps_customer_statements(aws: LocalAws) -> None:
    """Only the function's Sids are replaced; other statements and elements keep their order."""
    put_policy(aws, {"Version": "2012-10-17", "Id": "customer", "Statement": [FOREIGN]})
    finished = run(aws)
    assert action(finished, "bucket").verb is Verb.REPAIR
    document = policy(aws)
    assert document["Id"] == "customer"
    assert document["Statement"][0] == FOREIGN
    assert [one["Sid"] for one in document["Statement"][1:]] == ["TailpipeTlsOnly", "TailpipeDataExports"]


def test_policy_merge_keeps_a_single_statement_object(aws: LocalAws) -> None:
    """A policy may have one statement object in place of a list."""
    put_policy(aws, {"Version": "2012-10-17", "Statement": FOREIGN})
    run(aws)
    assert FOREIGN in policy(aws)["Statement"]
    assert len(policy(aws)["Statement"]) == 3


def test_narrowed_statement_of_the_function_is_restored(covered: LocalAws) -> None:
    """With a grant on the prefix only, the service could not write its test object at the root."""
    document = policy(covered)
    for statement in document["Statement"]:
        if statement["Sid"] == "TailpipeDataExports":
            statement["Resource"] = "arn:aws:s3:::tailpipe-dataexport-111122223333/dataexport/*"
    put_policy(covered, document)
    assert action(run(covered), "bucket").changes == ("export-statement",)
    assert set(verbs(run(covered))) == {"KEEP"}


@pytest.mark.parametrize("field", ["public-access", "encryption", "lifecycle"])
def test_each_removed_setting_is_restored(covered: LocalAws, field: str) -> None:
    """Only the fields that differ are written."""
    s3, bucket = covered.client("s3"), covered.deployment.bucket
    if field == "public-access":
        s3.delete_public_access_block(Bucket=bucket)
    elif field == "encryption":
        s3.delete_bucket_encryption(Bucket=bucket)
    else:
        s3.delete_bucket_lifecycle(Bucket=bucket)
    repaired = action(run(covered), "bucket")
    assert (repaired.verb, repaired.changes) == (Verb.REPAIR, (field,))
    assert set(verbs(run(covered))) == {"KEEP"}


def test_customer_lifecycle_rules_are_kept(covered: LocalAws) -> None:
    """Rules are merged by their id."""
    s3, bucket = covered.client("s3"), covered.deployment.bucket
    rule = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "other/"}, "Expiration": {"Days": 5}}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    run(covered)
    rules = {one["ID"]: one for one in s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]}
    assert set(rules) == {"theirs", "exports-to-cheaper-tiers", "expire-run-reports"}
    assert rules["theirs"]["Expiration"]["Days"] == 5


def test_stricter_encryption_is_not_drift(covered: LocalAws) -> None:
    """A customer's own KMS key is kept."""
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "alias/theirs"}}
    covered.client("s3").put_bucket_encryption(
        Bucket=covered.deployment.bucket, ServerSideEncryptionConfiguration={"Rules": [rule]}
    )
    assert action(run(covered), "bucket").verb is Verb.KEEP


def test_configured_key_encrypts_the_bucket(covered: LocalAws) -> None:
    """The bucket's default encryption uses KMS_KEY_ARN."""
    key = "arn:aws:kms:eu-west-1:111122223333:key/0b1c"
    assert action(run(covered, KMS_KEY_ARN=key), "bucket").changes == ("encryption",)
    answer = covered.client("s3").get_bucket_encryption(Bucket=covered.deployment.bucket)
    default = answer["ServerSideEncryptionConfiguration"]["Rules"][0]["ApplyServerSideEncryptionByDefault"]
    assert default == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}


def test_bucket_of_another_account_is_never_written() -> None:
    """Neither state nor policy is written to it, and the message names the setting to change."""
    name = "tailpipe-somebody-elses"
    with local_aws(accounts=2) as cloud:
        other = cloud.client("s3", account="210000000000")
        other.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        finished = run(cloud, BUCKET_NAME=name)
        assert finished.report["status"] == "failed"
        assert "BUCKET_NAME" in messages(finished)
        assert "Contents" not in other.list_objects_v2(Bucket=name)
        assert EXPORT_OPERATIONS.isdisjoint(call.operation for call in cloud.calls.select())


EXPORT_OPERATIONS = {"CreateExport", "PutBucketPolicy", "PutPublicAccessBlock", "PutBucketEncryption"}


def test_bucket_name_taken_at_creation_is_reported(aws: LocalAws) -> None:
    """The name was taken between observation and creation: a manual step is reported, and no export is created."""
    aws.client("s3").delete_bucket(Bucket=aws.deployment.bucket)
    aws.faults.add("s3", "CreateBucket", "BucketAlreadyExists", status=409)
    finished = run(aws)
    taken = outcome(finished, "bucket")
    assert (taken.result, taken.code) == (Result.MANUAL, "bucket-name-taken")
    assert outcome(finished, "export").result is Result.BLOCKED


def test_unconditional_deny_of_the_customer_is_reported_and_kept(covered: LocalAws) -> None:
    """The function does not loosen a customer's policy; it names the blocking statement."""
    document = policy(covered)
    service = {"Service": "bcm-data-exports.amazonaws.com"}
    deny = {**FOREIGN, "Sid": "Freeze", "Effect": "Deny", "Principal": service, "Action": "s3:Put*"}
    del deny["Condition"]
    document["Statement"].append(deny)
    put_policy(covered, document)
    finished = run(covered)
    assert action(finished, "bucket").reason == "policy-denies"
    assert "Freeze" in messages(finished)
    assert deny in policy(covered)["Statement"]


def test_bucket_without_read_permission_is_unknown(covered: LocalAws) -> None:
    """Nothing is written, and the missing permission is named."""
    covered.deny("s3:GetBucketPolicy")
    finished = run(covered)
    assert action(finished, "bucket").verb is Verb.DEFER
    assert covered.calls.count("s3", "PutBucketPolicy") == 0
    assert "s3:GetBucketPolicy" in action(finished, "bucket").detail


@pytest.mark.parametrize("text", ["[]", '{"Statement": ["x"]}', "[" * 100_000])
def test_invalid_policy_is_not_changed(covered: LocalAws, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that cannot be parsed cannot be merged: it is reported and not overwritten."""
    monkeypatch.setattr(Bucket, "_policy", lambda _self: text)
    finished = run(covered)
    assert action(finished, "bucket").reason == "policy-unreadable"
    assert covered.calls.count("s3", "PutBucketPolicy") == 0


def add_rule(cloud: LocalAws, rule: dict[str, Any]) -> None:
    """Add a lifecycle rule as a customer would."""
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    s3.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": [*rules, {"ID": "corp", "Status": "Enabled", **rule}]}
    )


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (
            {"Filter": {"Prefix": ""}, "Transitions": [{"Days": 1, "StorageClass": "DEEP_ARCHIVE"}]},
            "lifecycle-archives",
        ),
        ({"Filter": {"Prefix": "dataexport/"}, "Expiration": {"Days": 3}}, "lifecycle-expires"),
    ],
)
def test_rule_that_removes_recent_exports_is_reported(covered: LocalAws, rule: dict[str, Any], code: str) -> None:
    """No account is covered while a customer's rule archives or deletes exports within days."""
    add_rule(covered, rule)
    finished = run(covered)
    found = outcome(finished, "export")
    assert (found.result, found.code) == (Result.MANUAL, code)
    assert "corp" in messages(finished)
    assert finished.report["scopes"]["covered"] == 0
    rules = covered.client("s3").get_bucket_lifecycle_configuration(Bucket=covered.deployment.bucket)["Rules"]
    assert "corp" in {one["ID"] for one in rules}


def test_harmful_rule_does_not_prevent_repairs(covered: LocalAws) -> None:
    """The deleted export is created and the removed statement restored all the same."""
    add_rule(covered, {"Filter": {"Prefix": "dataexport/"}, "Expiration": {"Days": 3}})
    covered.delete_export(EXPORT)
    covered.remove_bucket_policy_statement("TailpipeDataExports")
    covered.advance(HOUR)
    finished = run(covered)
    assert outcome(finished, "export").result is Result.DONE
    assert outcome(finished, "bucket").result is Result.DONE


@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
def test_default_retention_is_reported_until_it_is_removed(covered: LocalAws, mode: str) -> None:
    """Every delivery leaves versions that cannot be removed; the report has both remedies until then."""
    covered.retain_bucket(days=30, mode=mode)
    covered.advance(DAY + HOUR)
    covered.deliver()
    finished = run(covered)
    found = outcome(finished, "export")
    assert (found.result, found.code) == (Result.MANUAL, "bucket-retention")
    assert f"30 days in mode {mode}" in messages(finished)
    assert "put-object-lock-configuration" in messages(finished)
    assert finished.report["scopes"]["covered"] == 0
    covered.retain_bucket(days=0)
    covered.advance(HOUR)
    finished = run(covered)
    assert outcome(finished, "export").result is Result.UNCHANGED, "Object Lock alone keeps nothing"
    assert finished.report["scopes"]["covered"] == 4


def test_retention_does_not_prevent_repairs(covered: LocalAws) -> None:
    """A removed statement is restored, and an export whose query was changed is repaired."""
    covered.retain_bucket(days=30)
    exports = covered.client("bcm-data-exports")
    arn = exports.list_exports()["Exports"][0]["ExportArn"]
    export = exports.get_export(ExportArn=arn)["Export"]
    export["DataQuery"] = {"QueryStatement": "SELECT bill_bill_type FROM COST_AND_USAGE_REPORT"}
    exports.update_export(ExportArn=arn, Export={name: one for name, one in export.items() if name != "ExportArn"})
    covered.remove_bucket_policy_statement("TailpipeDataExports")
    covered.advance(DAY + HOUR)
    finished = run(covered)
    assert outcome(finished, "bucket").result is Result.DONE
    assert outcome(finished, "export").result is Result.DONE


def test_unreadable_retention_is_logged_and_ignored(covered: LocalAws) -> None:
    """Deployments of earlier versions lack the permission: their exports stay covered, and the log names it."""
    covered.deny("s3:GetBucketObjectLockConfiguration")
    covered.advance(DAY + HOUR)
    covered.deliver()
    lines = Lines()
    assert run(covered, sink=lines).report["scopes"]["covered"] == 4
    (said,) = [fields for _, event, fields in lines.lines if event == "detail-unread"]
    assert "Object Lock" in said["reason"]
    assert said["code"] == "access-denied"


def test_deleted_principal_is_named_with_its_statement(covered: LocalAws) -> None:
    """S3 rejects a policy that names a deleted user; following the reported step fixes it."""
    document = policy(covered)
    gone = {**FOREIGN, "Sid": "Finance", "Principal": {"AWS": "AIDACKCEVSQ6C2EXAMPLE"}}
    document["Statement"] = [one for one in document["Statement"] if one["Sid"] != "TailpipeDataExports"] + [gone]
    covered.world.buckets.set_policy(covered.deployment.bucket, json.dumps(document).encode())
    covered.deliver()
    finished = run(covered)
    refused = outcome(finished, "bucket")
    assert (refused.result, refused.code) == (Result.MANUAL, "policy-refused")
    steps = next(one["steps"] for one in finished.report["manual"] if one["code"] == "policy-refused")
    assert "Finance" in steps[0]
    assert "AIDACKCEVSQ6C2EXAMPLE" in steps[0]
    assert all(one["remedy"] for one in finished.report["failures"])
    document["Statement"] = [one for one in document["Statement"] if one["Sid"] != "Finance"]
    put_policy(covered, document)
    covered.advance(DAY)
    assert outcome(run(covered), "bucket").result is Result.DONE


def test_policy_that_would_be_too_large_is_not_changed(covered: LocalAws) -> None:
    """S3 accepts 20 KB: the message has the resulting size, and nothing is sent."""
    document = {"Version": "2012-10-17", "Statement": [{**FOREIGN, "Sid": "x" * 20_000}]}
    put_policy(covered, document)
    covered.calls.clear()
    finished = run(covered)
    full = outcome(finished, "bucket")
    assert (full.result, full.code) == (Result.MANUAL, "policy-too-large")
    assert "20480" in messages(finished)
    assert covered.calls.count("s3", "PutBucketPolicy") == 0


def test_possible_causes_of_denied_deliveries_are_named(covered: LocalAws) -> None:
    """A Deny with a condition and a customer's KMS key may block the service, so both are reported."""
    document = policy(covered)
    encrypted = {"StringNotEquals": {"s3:x-amz-server-side-encryption": "aws:kms"}}
    deny = {**FOREIGN, "Sid": "OnlyKms", "Effect": "Deny", "Action": "s3:PutObject"}
    deny["Principal"] = {"Service": "bcm-data-exports.amazonaws.com"}
    document["Statement"].append({**deny, "Condition": encrypted})
    put_policy(covered, document)
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "alias/theirs"}}
    covered.client("s3").put_bucket_encryption(
        Bucket=covered.deployment.bucket, ServerSideEncryptionConfiguration={"Rules": [rule]}
    )
    assert action(run(covered), "bucket").verb is Verb.KEEP
    covered.set_export_health(EXPORT, "INSUFFICIENT_PERMISSION")
    run(covered)
    covered.advance(DAY + 3 * HOUR)
    finished = run(covered)
    (step,) = (one for one in finished.report["manual"] if one["code"] == "bucket-permission")
    assert "OnlyKms" in step["steps"][0]
    assert "alias/theirs" in step["steps"][1]
    assert "RESOURCE_CONTROL_POLICY" in step["steps"][2]
