"""The permissions that infra/aws grants in addition to rights.yaml, each listed here."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tools import modules

ACTION = re.compile(r'"((?!aws:|arn:)[a-z][a-z0-9-]*:(?:[A-Z]\w*\*?|\*))\\?"')
CONDITIONS = {"sts:ExternalId"}  # a condition key, which looks like an action
# docs/aws.md explains each of them ("The schedule", "The bucket policy", …).
LISTED = {
    "aws_iam_role.collector": {"sts:AssumeRole"},
    "aws_iam_role.connector": {"sts:AssumeRole"},
    "aws_iam_role.function": {"sts:AssumeRole"},
    "aws_iam_role.schedule": {"sts:AssumeRole"},
    "aws_iam_role.forward": {"sts:AssumeRole"},
    "aws_iam_role.round_schedule": {"sts:AssumeRole"},
    "aws_iam_role.rounds": {"sts:AssumeRole"},
    "aws_iam_role.tenant_connector": {"sts:AssumeRole"},
    "aws_iam_role_policy.schedule": {"lambda:InvokeFunction", "sqs:SendMessage"},
    "aws_iam_role_policy.forward": {"events:PutEvents"},
    "aws_iam_role_policy.round_schedule": {"states:StartExecution", "sqs:SendMessage"},
    "aws_sns_topic_policy.alarms": {"sns:Publish"},
    "aws_sns_topic_policy.deliveries": {"sns:Publish"},
    # The wildcards are in a Deny statement, which requires TLS.
    "aws_sqs_queue_policy.deliveries": {"sqs:*", "sqs:SendMessage"},
    "aws_sqs_queue_policy.events": {"sqs:*", "sqs:SendMessage"},
    "aws_sqs_queue_policy.failed": {"sqs:*", "sqs:SendMessage"},
    "aws_sqs_queue_policy.home": {"sqs:*", "sqs:SendMessage"},
    # These are in a Deny statement.
    "local.registry_statements": {"s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObject"},
    "local.own_statements": {"s3:*", "s3:GetBucketPolicy", "s3:PutObject"},
    # The key's owner adds these, if a key is given.
    "output.kms_key_policy": {
        "kms:Decrypt",
        "kms:DescribeKey",
        "kms:Encrypt",
        "kms:GenerateDataKey",
        "kms:GenerateDataKey*",
        "kms:ReEncrypt*",
    },
}
EXCLUSIVE = {"aws_iam_role_policies_exclusive", "aws_iam_role_policy_attachments_exclusive"}
# Resources that grant permissions through a policy's name or ARN, without listing actions.
ATTACHMENT = re.compile(
    r"aws_iam_(policy|role_policy_attachment|policy_attachment|user|group|access_key)\w*|aws_kms_grant"
)


def explicit_actions(read: modules.Module) -> dict[str, set[str]]:
    """Return the actions in a module's resources, locals and outputs, by address."""
    values = {
        **read.resources,
        **{f"local.{name}": value for name, value in read.locals.items()},
        **{f"output.{name}": body["value"] for name, body in read.outputs.items()},
    }
    found = {address: set(ACTION.findall(json.dumps(value))) - CONDITIONS for address, value in values.items()}
    return {address: actions for address, actions in found.items() if actions}


def attached_policies(read: modules.Module) -> list[str]:
    """Return the resources that grant permissions through an existing policy."""
    kinds = {name: name.partition(".")[0] for name in read.resources}
    return [name for name, kind in kinds.items() if ATTACHMENT.fullmatch(kind) and kind not in EXCLUSIVE]


def test_additional_permissions_are_listed(repository: Path) -> None:
    """The list covers the schedule, events, queues, topic, bucket and key; no existing policy is attached."""
    read = modules.read(repository / "infra" / "aws")
    assert explicit_actions(read) == LISTED
    assert attached_policies(read) == []
    policies = {name for name in read.resources if name.startswith("aws_iam_role_policy.")}
    others = ("forward", "schedule", "round_schedule")
    holders = ("function", "connector", "collector", "rounds")
    assert policies == {f"aws_iam_role_policy.{one}" for one in (*others, *holders, "tenant_connector")}
    for holder in holders:
        assert read.resources[f"aws_iam_role_policy.{holder}"]["policy"] == f"${{local.policies.{holder}}}"
    of_tenant = read.resources["aws_iam_role_policy.tenant_connector"]["policy"]
    assert of_tenant == '${local.policies["tenant_connector/${each.key}"]}'


def test_additional_grant_is_detected(tmp_path: Path) -> None:
    """An action in a policy and an attached policy are reported with their address."""
    (tmp_path / "main.tf").write_text(
        """
        resource "aws_iam_role_policy" "schedule" {
          policy = jsonencode({ Statement = [{ Action = ["lambda:InvokeFunction", "lambda:*"] }] })
        }
        resource "aws_iam_role_policy_attachment" "more" {
          policy_arn = "arn:aws:iam::aws:policy/ReadOnlyAccess"
        }
        """,
        encoding="utf-8",
    )
    read = modules.read(tmp_path)
    assert explicit_actions(read) == {"aws_iam_role_policy.schedule": {"lambda:InvokeFunction", "lambda:*"}}
    assert attached_policies(read) == ["aws_iam_role_policy_attachment.more"]
