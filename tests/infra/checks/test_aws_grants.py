"""What infra/aws grants beside rights.yaml: each action that a module's file writes out, and no other way to grant."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tools import modules

ACTION = re.compile(r'"((?!aws:|arn:)[a-z][a-z0-9-]*:(?:[A-Z]\w*\*?|\*))\\?"')
CONDITIONS = {"sts:ExternalId"}  # a condition's key, in the form of an action
# Where each is used: "The schedule", "The bucket policy" and so on in docs/aws.md.
WRITTEN = {
    "aws_iam_role.collector": {"sts:AssumeRole"},
    "aws_iam_role.connector": {"sts:AssumeRole"},
    "aws_iam_role.function": {"sts:AssumeRole"},
    "aws_iam_role.schedule": {"sts:AssumeRole"},
    "aws_iam_role.forward": {"sts:AssumeRole"},
    "aws_iam_role_policy.schedule": {"lambda:InvokeFunction", "sqs:SendMessage"},
    "aws_iam_role_policy.forward": {"events:PutEvents"},
    "aws_sns_topic_policy.alarms": {"sns:Publish"},
    # The wildcards stand in a Deny: nothing without TLS.
    "aws_sqs_queue_policy.events": {"sqs:*", "sqs:SendMessage"},
    "aws_sqs_queue_policy.failed": {"sqs:*", "sqs:SendMessage"},
    "aws_sqs_queue_policy.home": {"sqs:*", "sqs:SendMessage"},
    "local.own_statements": {"s3:*", "s3:GetBucketPolicy", "s3:PutObject"},
    # For the key's owner to add, if a key is given.
    "output.kms_key_policy": {
        "kms:Decrypt",
        "kms:DescribeKey",
        "kms:Encrypt",
        "kms:GenerateDataKey",
        "kms:GenerateDataKey*",
        "kms:ReEncrypt*",
    },
}
TAKES_AWAY = {"aws_iam_role_policies_exclusive", "aws_iam_role_policy_attachments_exclusive"}
# Ways to grant that take the name or ARN of a policy, and so write out no action.
BY_NAME = re.compile(
    r"aws_iam_(policy|role_policy_attachment|policy_attachment|user|group|access_key)\w*|aws_kms_grant"
)


def written(read: modules.Module) -> dict[str, set[str]]:
    """Return the actions that a module's resources, locals and outputs write out, by their address."""
    places = {
        **read.resources,
        **{f"local.{name}": value for name, value in read.locals.items()},
        **{f"output.{name}": body["value"] for name, body in read.outputs.items()},
    }
    found = {address: set(ACTION.findall(json.dumps(value))) - CONDITIONS for address, value in places.items()}
    return {address: actions for address, actions in found.items() if actions}


def by_name(read: modules.Module) -> list[str]:
    """Return the resources that grant what a policy of some name says."""
    kinds = {name: name.partition(".")[0] for name in read.resources}
    return [name for name, kind in kinds.items() if BY_NAME.fullmatch(kind) and kind not in TAKES_AWAY]


def test_nothing_is_granted_beside_the_rights_but_what_is_listed(repository: Path) -> None:
    """Schedule, events, queue, topic, bucket and key: each action that the module writes out is listed here."""
    read = modules.read(repository / "infra" / "aws")
    assert written(read) == WRITTEN
    assert by_name(read) == []
    policies = {name for name in read.resources if name.startswith("aws_iam_role_policy.")}
    assert policies == {
        f"aws_iam_role_policy.{one}" for one in ("collector", "connector", "forward", "function", "schedule")
    }
    for holder in ("function", "connector", "collector"):
        assert read.resources[f"aws_iam_role_policy.{holder}"]["policy"] == f"${{local.policies.{holder}}}"


def test_a_grant_that_is_added_by_hand_is_found(tmp_path: Path) -> None:
    """An action in a policy, and a policy that is attached by its name, are found with their address."""
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
    assert written(read) == {"aws_iam_role_policy.schedule": {"lambda:InvokeFunction", "lambda:*"}}
    assert by_name(read) == ["aws_iam_role_policy_attachment.more"]
