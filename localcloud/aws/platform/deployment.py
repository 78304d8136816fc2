"""Create what a deployment creates: everything that Terraform owns, and nothing that the function owns.

As with infrastructure code, SDK clients create it through the API of the local cloud.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from localcloud.aws.iam.grants import policy
from localcloud.aws.partitions import Partition

PREFIX = "dataexport"
STACK_SET = "Tailpipe-CloudWatch-Child-StackSet"
CONNECTOR_ROLE = "tailpipe-connector-role"
MEMBER_ROLE = "tailpipe-child-connector"
FUNCTION = "tailpipe-exports"
ROUNDS = f"{FUNCTION}-rounds"
TENANT_ROLE = "tailpipe-exports-tenant"
TLS_SID = "TailpipeTlsOnly"
EXPORTS_SID = "TailpipeDataExports"
_TAILPIPE = "336268260260"

Clients = Callable[[str, str | None], Any]


@dataclass(frozen=True)
class Deployment:
    """The settings of a deployment; `region` is its bucket's region.

    `deliveries` are announced or not; with `fleet` it serves the tenants of a registry in rounds.
    """

    account: str
    partition: Partition
    region: str
    standalone: bool
    external_id: str  # never shown
    salt: bytes
    deliveries: bool = False
    fleet: bool = False

    @classmethod
    def fresh(
        cls,
        account: str,
        partition: Partition,
        region: str,
        *,
        standalone: bool = False,
        deliveries: bool = False,
        fleet: bool = False,
    ) -> Deployment:
        """Return a deployment with a random External ID."""
        external_id, salt = secrets.token_urlsafe(24), secrets.token_bytes(16)
        return cls(account, partition, region, standalone, external_id, salt, deliveries, fleet)

    def __repr__(self) -> str:
        return f"Deployment({self.account}, {self.region})"

    @property
    def bucket(self) -> str:
        return f"tailpipe-dataexport-{self.account}"

    @property
    def principal(self) -> str:
        return f"arn:{self.partition.name}:iam::{_TAILPIPE}:role/TailpipeConnector-Prod"

    @property
    def external_id_hash(self) -> str:
        """`<salt hex>:<hex of sha256(salt + External ID)>`."""
        digest = hashlib.sha256(self.salt + self.external_id.encode()).hexdigest()
        return f"{self.salt.hex()}:{digest}"

    def names(self, kms_key: str = "", notify_secret: str = "") -> dict[str, str]:
        """Return the values of the placeholders in rights.yaml."""
        return {
            "partition": self.partition.name,
            "account": self.account,
            "region": self.region,
            "home": self.partition.home,
            "bucket": self.bucket,
            "prefix": PREFIX,
            "function_name": FUNCTION,
            "stackset_name": STACK_SET,
            "connector_role": CONNECTOR_ROLE,
            "kms_key": kms_key,
            "dns_suffix": self.partition.dns,
            "failed_queue": f"{FUNCTION}-failed",
            "events_queue": f"{FUNCTION}-events",
            "deliveries": f"{FUNCTION}-deliveries",
            "notify_secret": notify_secret,
            "tenant_role": TENANT_ROLE,
            "rounds": ROUNDS,
            "tenant_prefix": f"{PREFIX}/PAYER/TENANT",
        }

    def settings(self) -> dict[str, str]:
        """Return the function's settings."""
        return {
            **({"ACCOUNT_KIND": "standalone"} if self.standalone else {}),
            "BUCKET_NAME": self.bucket,
            "BUCKET_REGION": self.region,
            "EXPORTS": "cur2",
            "STACKSET_NAME": STACK_SET,
            "CONNECTOR_ROLE_NAME": CONNECTOR_ROLE,
            "MEMBER_ROLE_NAME": MEMBER_ROLE,
            "TAILPIPE_PRINCIPAL_ARN": self.principal,
            "EXTERNAL_ID_HASH": self.external_id_hash,
            **({"DELTAS": "1", "DELIVERY_TOPIC": self.delivery_topic} if self.deliveries else {}),
        }

    @property
    def delivery_topic(self) -> str:
        """Return the ARN of the topic on which deliveries are published."""
        return f"arn:{self.partition.name}:sns:{self.region}:{self.account}:{FUNCTION}-deliveries.fifo"

    def bucket_policy(self) -> dict[str, Any]:
        arn = f"arn:{self.partition.name}:s3:::{self.bucket}"
        own = f"{self.partition.home}:{self.account}"
        # The service of the legacy Cost and Usage Reports, which exists only in these partitions, may deliver too.
        legacy = ["billingreports.amazonaws.com"] if self.partition.name in ("aws", "aws-cn") else []
        return {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": TLS_SID,
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "s3:*",
                    "Resource": [arn, f"{arn}/*"],
                    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                },
                {
                    "Sid": EXPORTS_SID,
                    "Effect": "Allow",
                    "Principal": {"Service": ["bcm-data-exports.amazonaws.com", *legacy]},
                    "Action": ["s3:PutObject", "s3:GetBucketPolicy"],
                    "Resource": [arn, f"{arn}/*"],
                    "Condition": {
                        "StringEquals": {"aws:SourceAccount": self.account},
                        "ArnLike": {
                            "aws:SourceArn": [
                                f"arn:{self.partition.name}:bcm-data-exports:{own}:export/*",
                                f"arn:{self.partition.name}:cur:{own}:definition/*",
                            ]
                        },
                    },
                },
            ],
        }

    def trust(self, external_id: Any = None) -> dict[str, Any]:
        """Return the trust policy of both roles; `external_id` may be a template's reference."""
        return {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": self.principal},
                    "Action": "sts:AssumeRole",
                    "Condition": {"StringEquals": {"sts:ExternalId": external_id or self.external_id}},
                }
            ],
        }

    def member_template(self) -> dict[str, Any]:
        return {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Description": "Read-only metrics access for Tailpipe",
            "Parameters": {"ExternalId": {"Type": "String", "NoEcho": True}},
            "Resources": {
                "TailpipeCloudWatchRole": {
                    "Type": "AWS::IAM::Role",
                    "Properties": {
                        "RoleName": MEMBER_ROLE,
                        "AssumeRolePolicyDocument": self.trust({"Ref": "ExternalId"}),
                        "Policies": [_metrics_policy()],
                        "Tags": [{"Key": "managed-by", "Value": "tailpipe-exports"}],
                    },
                }
            },
        }

    def make_bucket(self, clients: Clients) -> None:
        s3 = clients("s3", self.account)
        where: dict[str, Any] = {"Bucket": self.bucket}
        if self.region != "us-east-1":
            where["CreateBucketConfiguration"] = {"LocationConstraint": self.region}
        s3.create_bucket(**where)
        flags = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        s3.put_public_access_block(Bucket=self.bucket, PublicAccessBlockConfiguration=dict.fromkeys(flags, True))
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        s3.put_bucket_encryption(Bucket=self.bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
        s3.put_bucket_policy(Bucket=self.bucket, Policy=json.dumps(self.bucket_policy()))
        s3.put_bucket_lifecycle_configuration(Bucket=self.bucket, LifecycleConfiguration=_lifecycle())

    def make_connector_role(self, clients: Clients) -> None:
        iam = clients("iam", self.account)
        iam.create_role(
            RoleName=CONNECTOR_ROLE,
            AssumeRolePolicyDocument=json.dumps(self.trust()),
            Tags=[{"Key": "managed-by", "Value": "tailpipe-exports"}],
        )
        document = policy("connector", self.names(), {"connector"})
        iam.put_role_policy(RoleName=CONNECTOR_ROLE, PolicyName="tailpipe-read", PolicyDocument=document)

    def make_stack_set(self, clients: Clients, management: str) -> None:
        cloudformation = clients("cloudformation", management)
        cloudformation.activate_organizations_access()
        cloudformation.create_stack_set(
            StackSetName=STACK_SET,
            Description="The role with which Tailpipe reads metrics in member accounts",
            TemplateBody=json.dumps(self.member_template()),
            Parameters=[{"ParameterKey": "ExternalId", "ParameterValue": self.external_id}],
            Capabilities=["CAPABILITY_NAMED_IAM"],
            PermissionModel="SERVICE_MANAGED",
            AutoDeployment={"Enabled": True, "RetainStacksOnAccountRemoval": False},
            ManagedExecution={"Active": True},
            Tags=[{"Key": "managed-by", "Value": "tailpipe-exports"}],
        )


def _metrics_policy() -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": "cloudwatch:GetMetricStatistics", "Resource": "*"}
    document = {"Version": "2012-10-17", "Statement": [statement]}
    return {"PolicyName": "tailpipe-metrics", "PolicyDocument": document}


def _lifecycle() -> dict[str, Any]:
    return {
        "Rules": [
            {
                "ID": "exports-to-cheaper-tiers",
                "Status": "Enabled",
                "Filter": {"Prefix": f"{PREFIX}/"},
                "Transitions": [
                    {"Days": 90, "StorageClass": "STANDARD_IA"},
                    {"Days": 365, "StorageClass": "GLACIER_IR"},
                ],
            },
            {
                "ID": "expire-run-reports",
                "Status": "Enabled",
                "Filter": {"Prefix": "runs/"},
                "Expiration": {"Days": 90},
            },
        ]
    }
