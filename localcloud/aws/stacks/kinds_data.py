"""Resource types of storage, queues, topics and logs.

The module is over 350 lines because each type lists the properties that it understands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from localcloud.aws.stacks.kinds import (
    Context,
    Kind,
    Props,
    ResourceError,
    existing,
    fit,
    retag,
    tag_list,
    tags_of,
    text,
)

_LIFECYCLE = {
    "Id": "ID",
    "Status": "Status",
    "AbortIncompleteMultipartUpload": "AbortIncompleteMultipartUpload",
    "NoncurrentVersionExpiration": "NoncurrentVersionExpiration",
}


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a lifecycle rule as S3's API has it."""
    made: dict[str, Any] = {"Filter": {"Prefix": str(rule.get("Prefix", ""))}}
    expiration: dict[str, Any] = {}
    for key, value in rule.items():
        if key in _LIFECYCLE:
            made[_LIFECYCLE[key]] = value
        elif key == "ExpirationInDays":
            expiration["Days"] = value
        elif key == "ExpiredObjectDeleteMarker":
            expiration["ExpiredObjectDeleteMarker"] = value
        elif key == "Transitions":
            made["Transitions"] = [
                {"Days": one["TransitionInDays"], "StorageClass": one["StorageClass"]} for one in value
            ]
        elif key != "Prefix":
            raise ResourceError(f"Encountered unsupported property LifecycleConfiguration.Rules.{key}")
    return {**made, "Expiration": expiration} if expiration else made


def _unruled(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a lifecycle rule as a template has it."""
    back = {value: key for key, value in _LIFECYCLE.items()}
    made = {back[key]: value for key, value in rule.items() if key in back}
    prefix = rule.get("Filter", {}).get("Prefix") or rule.get("Prefix")
    expiration = rule.get("Expiration", {})
    more = {
        "Prefix": prefix,
        "ExpirationInDays": expiration.get("Days"),
        "ExpiredObjectDeleteMarker": expiration.get("ExpiredObjectDeleteMarker"),
        "Transitions": [
            {"TransitionInDays": one["Days"], "StorageClass": one["StorageClass"]}
            for one in rule.get("Transitions", [])
        ],
    }
    return made | {key: value for key, value in more.items() if value}


class Bucket(Kind):
    """AWS::S3::Bucket."""

    name = identifier = "BucketName"
    fixed = frozenset({"BucketName"})
    known = frozenset(
        {
            *("BucketName", "PublicAccessBlockConfiguration", "OwnershipControls", "BucketEncryption", "Tags"),
            *("VersioningConfiguration", "NotificationConfiguration", "LifecycleConfiguration"),
        }
    )

    def taken(self, at: Context, props: Props) -> str:
        name = str(props["BucketName"])
        try:
            at.client("s3").head_bucket(Bucket=name)
        except ClientError as error:
            return name if error.response["Error"]["Code"] == "403" else ""
        return name

    def create(self, at: Context, props: Props) -> str:
        name = str(props["BucketName"])
        place = {} if at.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": at.region}}
        at.client("s3").create_bucket(Bucket=name, **place)
        try:
            self.update(at, name, {}, props)
        except (ClientError, ResourceError):
            at.client("s3").delete_bucket(Bucket=name)
            raise
        return name

    def update(self, at: Context, physical: str, old: Props, new: Props) -> None:
        for part, (write, argument, remove) in _PARTS.items():
            if part in new and old.get(part) != new[part]:
                self._write(at, physical, write, argument, new[part])
            elif part in old and part not in new:
                if remove is None:
                    self._write(at, physical, write, argument, _EMPTY[part])
                else:
                    getattr(at.client("s3"), remove)(Bucket=physical)
        if tags_of(new) and tags_of(old) != tags_of(new):
            at.client("s3").put_bucket_tagging(Bucket=physical, Tagging={"TagSet": tag_list(tags_of(new))})

    def _write(self, at: Context, bucket: str, write: str, argument: str, value: Any) -> None:
        client = at.client("s3")
        made: Any = value
        if argument == "LifecycleConfiguration":
            made = {"Rules": [_rule(one) for one in value["Rules"]]}
        elif argument == "ServerSideEncryptionConfiguration":
            made = {
                "Rules": [
                    {
                        "ApplyServerSideEncryptionByDefault": one["ServerSideEncryptionByDefault"],
                        "BucketKeyEnabled": one.get("BucketKeyEnabled", False),
                    }
                    for one in value["ServerSideEncryptionConfiguration"]
                ]
            }
        elif argument == "NotificationConfiguration":
            if set(value) - {"EventBridgeConfiguration"}:
                raise ResourceError("Encountered unsupported property NotificationConfiguration")
            on = str(value.get("EventBridgeConfiguration", {}).get("EventBridgeEnabled", False)).lower() == "true"
            made = {"EventBridgeConfiguration": {}} if on else {}
        operation = client.meta.method_to_api_mapping[write]
        getattr(client, write)(**fit(client, operation, {"Bucket": bucket, argument: made}))

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        client = at.client("s3")
        if existing(lambda: client.head_bucket(Bucket=physical)) is None:
            return None
        block = existing(lambda: client.get_public_access_block(Bucket=physical)) or {}
        controls = existing(lambda: client.get_bucket_ownership_controls(Bucket=physical)) or {}
        encryption = existing(lambda: client.get_bucket_encryption(Bucket=physical)) or {}
        lifecycle = existing(lambda: client.get_bucket_lifecycle_configuration(Bucket=physical)) or {}
        notification = client.get_bucket_notification_configuration(Bucket=physical)
        tags = existing(lambda: client.get_bucket_tagging(Bucket=physical)) or {}
        status = client.get_bucket_versioning(Bucket=physical).get("Status")
        return {
            "BucketName": physical,
            "PublicAccessBlockConfiguration": block.get("PublicAccessBlockConfiguration"),
            "OwnershipControls": controls.get("OwnershipControls"),
            "BucketEncryption": {
                "ServerSideEncryptionConfiguration": [
                    {
                        "ServerSideEncryptionByDefault": one["ApplyServerSideEncryptionByDefault"],
                        "BucketKeyEnabled": one.get("BucketKeyEnabled", False),
                    }
                    for one in encryption.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
                ]
            },
            "VersioningConfiguration": {"Status": status} if status else None,
            "LifecycleConfiguration": {"Rules": [_unruled(one) for one in lifecycle.get("Rules", [])]},
            "NotificationConfiguration": {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
            if "EventBridgeConfiguration" in notification
            else None,
            "Tags": tags.get("TagSet"),
        }

    def delete(self, at: Context, physical: str, props: Props) -> None:
        existing(lambda: at.client("s3").delete_bucket(Bucket=physical))

    def attributes(self, at: Context, physical: str) -> dict[str, Any]:
        return {
            "Arn": f"arn:{at.partition}:s3:::{physical}",
            "DomainName": f"{physical}.s3.amazonaws.com",
            "RegionalDomainName": f"{physical}.s3.{at.region}.amazonaws.com",
        }


# By part of a bucket: the call that writes it, its argument, and the call that removes it.
_PARTS: dict[str, tuple[str, str, str | None]] = {
    "PublicAccessBlockConfiguration": (
        "put_public_access_block",
        "PublicAccessBlockConfiguration",
        "delete_public_access_block",
    ),
    "OwnershipControls": ("put_bucket_ownership_controls", "OwnershipControls", "delete_bucket_ownership_controls"),
    "BucketEncryption": ("put_bucket_encryption", "ServerSideEncryptionConfiguration", "delete_bucket_encryption"),
    "VersioningConfiguration": ("put_bucket_versioning", "VersioningConfiguration", None),
    "LifecycleConfiguration": (
        "put_bucket_lifecycle_configuration",
        "LifecycleConfiguration",
        "delete_bucket_lifecycle",
    ),
    "NotificationConfiguration": ("put_bucket_notification_configuration", "NotificationConfiguration", None),
}
_EMPTY: dict[str, Any] = {"VersioningConfiguration": {"Status": "Suspended"}, "NotificationConfiguration": {}}


class BucketPolicy(Kind):
    """AWS::S3::BucketPolicy."""

    identifier = "Bucket"
    fixed = frozenset({"Bucket"})
    known = frozenset({"Bucket", "PolicyDocument"})

    def taken(self, at: Context, props: Props) -> str:
        name = str(props["Bucket"])
        return name if existing(lambda: at.client("s3").get_bucket_policy(Bucket=name)) is not None else ""

    def create(self, at: Context, props: Props) -> str:
        at.client("s3").put_bucket_policy(Bucket=props["Bucket"], Policy=text(props["PolicyDocument"]))
        return str(props["Bucket"])

    def update(self, at: Context, physical: str, old: Props, new: Props) -> None:
        self.create(at, new)

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        found = existing(lambda: at.client("s3").get_bucket_policy(Bucket=physical))
        return None if found is None else {"Bucket": physical, "PolicyDocument": json.loads(found["Policy"])}

    def delete(self, at: Context, physical: str, props: Props) -> None:
        existing(lambda: at.client("s3").delete_bucket_policy(Bucket=physical))


class Queue(Kind):
    """AWS::SQS::Queue."""

    name = "QueueName"
    identifier = "QueueUrl"
    fixed = frozenset({"QueueName", "FifoQueue"})
    known = frozenset(
        {
            *("QueueName", "MessageRetentionPeriod", "SqsManagedSseEnabled", "VisibilityTimeout", "RedrivePolicy"),
            *("DelaySeconds", "Tags"),
        }
    )

    def _attributes(self, props: Props) -> dict[str, str]:
        return {
            key: json.dumps(value)
            if isinstance(value, dict)
            else str(value).lower()
            if key.startswith("Sqs")
            else str(value)
            for key, value in props.items()
            if key not in ("QueueName", "Tags")
        }

    def taken(self, at: Context, props: Props) -> str:
        name = str(props["QueueName"])
        return name if existing(lambda: at.client("sqs").get_queue_url(QueueName=name)) is not None else ""

    def create(self, at: Context, props: Props) -> str:
        made = at.client("sqs").create_queue(
            QueueName=str(props["QueueName"]), Attributes=self._attributes(props), tags=tags_of(props)
        )
        return str(made["QueueUrl"])

    def update(self, at: Context, physical: str, old: Props, new: Props) -> None:
        client = at.client("sqs")
        client.set_queue_attributes(QueueUrl=physical, Attributes=self._attributes(new))
        added, removed = retag(old, new)
        if added:
            client.tag_queue(QueueUrl=physical, Tags=added)
        if removed:
            client.untag_queue(QueueUrl=physical, TagKeys=removed)

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        client = at.client("sqs")
        found = existing(lambda: client.get_queue_attributes(QueueUrl=physical, AttributeNames=["All"]))
        if found is None:
            return None
        values = found["Attributes"]
        kept = ("MessageRetentionPeriod", "SqsManagedSseEnabled", "VisibilityTimeout", "DelaySeconds", "RedrivePolicy")
        tags = client.list_queue_tags(QueueUrl=physical).get("Tags", {})
        return {"QueueName": physical.rpartition("/")[2], "Tags": tag_list(tags)} | {
            key: values.get(key) for key in kept if key in values or key == "RedrivePolicy"
        }

    def delete(self, at: Context, physical: str, props: Props) -> None:
        existing(lambda: at.client("sqs").delete_queue(QueueUrl=physical))

    def attributes(self, at: Context, physical: str) -> dict[str, Any]:
        name = physical.rpartition("/")[2]
        return {"Arn": at.arn("sqs", name), "QueueName": name, "QueueUrl": physical}


class QueuePolicy(Kind):
    """AWS::SQS::QueuePolicy."""

    known = frozenset({"Queues", "PolicyDocument"})
    fixed = frozenset({"Queues"})

    def create(self, at: Context, props: Props) -> str:
        for url in props["Queues"]:
            at.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": text(props["PolicyDocument"])})
        return str(props["Queues"][0])

    def update(self, at: Context, physical: str, old: Props, new: Props) -> None:
        self.create(at, new)

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        found = existing(lambda: at.client("sqs").get_queue_attributes(QueueUrl=physical, AttributeNames=["Policy"]))
        policy = (found or {}).get("Attributes", {}).get("Policy")
        return {"PolicyDocument": json.loads(policy)} if policy else None

    def delete(self, at: Context, physical: str, props: Props) -> None:
        write = at.client("sqs").set_queue_attributes
        for url in props["Queues"]:
            existing(partial(write, QueueUrl=url, Attributes={"Policy": ""}))


class Topic(Kind):
    """AWS::SNS::Topic."""

    name = "TopicName"
    identifier = "TopicArn"
    fixed = frozenset({"TopicName", "FifoTopic"})
    known = frozenset({"TopicName", "FifoTopic", "Tags"})

    def _arn(self, at: Context, props: Props) -> str:
        return at.arn("sns", str(props["TopicName"]))

    def taken(self, at: Context, props: Props) -> str:
        return str(props["TopicName"]) if self.read(at, self._arn(at, props)) is not None else ""

    def create(self, at: Context, props: Props) -> str:
        fifo = {"FifoTopic": str(props["FifoTopic"]).lower()} if "FifoTopic" in props else {}
        made = at.client("sns").create_topic(
            Name=str(props["TopicName"]), Attributes=fifo, Tags=tag_list(tags_of(props))
        )
        return str(made["TopicArn"])

    def update(self, at: Context, physical: str, old: Props, new: Props) -> None:
        added, removed = retag(old, new)
        if added:
            at.client("sns").tag_resource(ResourceArn=physical, Tags=tag_list(added))
        if removed:
            at.client("sns").untag_resource(ResourceArn=physical, TagKeys=removed)

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        client = at.client("sns")
        found = existing(lambda: client.get_topic_attributes(TopicArn=physical))
        if found is None:
            return None
        fifo = found["Attributes"].get("FifoTopic") == "true"
        tags = client.list_tags_for_resource(ResourceArn=physical).get("Tags", [])
        return {"TopicName": physical.rpartition(":")[2], "Tags": tags} | ({"FifoTopic": True} if fifo else {})

    def delete(self, at: Context, physical: str, props: Props) -> None:
        existing(lambda: at.client("sns").delete_topic(TopicArn=physical))

    def attributes(self, at: Context, physical: str) -> dict[str, Any]:
        return {"TopicArn": physical, "TopicName": physical.rpartition(":")[2]}


class TopicPolicy(Kind):
    """AWS::SNS::TopicPolicy."""

    known = frozenset({"Topics", "PolicyDocument"})
    fixed = frozenset({"Topics"})

    def create(self, at: Context, props: Props) -> str:
        for arn in props["Topics"]:
            at.client("sns").set_topic_attributes(
                TopicArn=arn, AttributeName="Policy", AttributeValue=text(props["PolicyDocument"])
            )
        return str(props["Topics"][0])

    def update(self, at: Context, physical: str, old: Props, new: Props) -> None:
        self.create(at, new)

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        found = existing(lambda: at.client("sns").get_topic_attributes(TopicArn=physical))
        return None if found is None else {"PolicyDocument": json.loads(found["Attributes"]["Policy"])}

    def delete(self, at: Context, physical: str, props: Props) -> None:
        """A topic always has a policy, so CloudFormation leaves it; the topic's own deletion removes it."""


class Subscription(Kind):
    """AWS::SNS::Subscription."""

    known = frozenset({"TopicArn", "Protocol", "Endpoint"})
    fixed = frozenset({"TopicArn", "Protocol", "Endpoint"})

    def create(self, at: Context, props: Props) -> str:
        made = at.client("sns").subscribe(
            TopicArn=props["TopicArn"],
            Protocol=props["Protocol"],
            Endpoint=props["Endpoint"],
            ReturnSubscriptionArn=True,
        )
        return str(made["SubscriptionArn"])

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        found = existing(lambda: at.client("sns").get_subscription_attributes(SubscriptionArn=physical))
        if found is None:
            return None
        return {name: found["Attributes"].get(name) for name in ("TopicArn", "Protocol", "Endpoint")}

    def delete(self, at: Context, physical: str, props: Props) -> None:
        existing(lambda: at.client("sns").unsubscribe(SubscriptionArn=physical))


class LogGroup(Kind):
    """AWS::Logs::LogGroup."""

    name = identifier = "LogGroupName"
    fixed = frozenset({"LogGroupName"})
    known = frozenset({"LogGroupName", "RetentionInDays", "KmsKeyId", "Tags"})

    def create(self, at: Context, props: Props) -> str:
        name, client = str(props["LogGroupName"]), at.client("logs")
        key = {"kmsKeyId": str(props["KmsKeyId"])} if "KmsKeyId" in props else {}
        client.create_log_group(logGroupName=name, tags=tags_of(props), **key)
        if "RetentionInDays" in props:
            client.put_retention_policy(logGroupName=name, retentionInDays=int(props["RetentionInDays"]))
        return name

    def update(self, at: Context, physical: str, old: Props, new: Props) -> None:
        client, arn = at.client("logs"), at.arn("logs", f"log-group:{physical}")
        if "RetentionInDays" in new:
            client.put_retention_policy(logGroupName=physical, retentionInDays=int(new["RetentionInDays"]))
        elif "RetentionInDays" in old:
            client.delete_retention_policy(logGroupName=physical)
        if old.get("KmsKeyId") != new.get("KmsKeyId"):
            if "KmsKeyId" in new:
                client.associate_kms_key(logGroupName=physical, kmsKeyId=str(new["KmsKeyId"]))
            else:
                client.disassociate_kms_key(logGroupName=physical)
        added, removed = retag(old, new)
        if added:
            client.tag_resource(resourceArn=arn, tags=added)
        if removed:
            client.untag_resource(resourceArn=arn, tagKeys=removed)

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        client = at.client("logs")
        listed = client.describe_log_groups(logGroupNamePrefix=physical)["logGroups"]
        found = next((one for one in listed if one["logGroupName"] == physical), None)
        if found is None:
            return None
        arn = at.arn("logs", f"log-group:{physical}")
        return {
            "LogGroupName": physical,
            "RetentionInDays": found.get("retentionInDays"),
            "KmsKeyId": found.get("kmsKeyId"),
            "Tags": tag_list(client.list_tags_for_resource(resourceArn=arn).get("tags", {})),
        }

    def delete(self, at: Context, physical: str, props: Props) -> None:
        existing(lambda: at.client("logs").delete_log_group(logGroupName=physical))

    def attributes(self, at: Context, physical: str) -> dict[str, Any]:
        return {"Arn": at.arn("logs", f"log-group:{physical}:*")}
