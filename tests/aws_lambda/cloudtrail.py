"""Events as EventBridge delivers them."""

from __future__ import annotations

from typing import Any

from aws_lambda.events import STACK_INSTANCE, Own

ACCOUNT, MEMBER = "111122223333", "210000000000"
FUNCTION_ROLE = f"arn:aws:iam::{ACCOUNT}:role/tailpipe-exports"
STACK_SET = "Tailpipe-CloudWatch-Child-StackSet"
BUCKET = f"tailpipe-dataexport-{ACCOUNT}"
UUID = "7c2d1c7e-9f3b-4a52-8d0e-0c6f1f2f3a4b"
EXPORT_ARN = f"arn:aws:bcm-data-exports:us-east-1:{ACCOUNT}:export/tailpipe-dataexport-{UUID}"
OWN = Own(ACCOUNT, BUCKET, frozenset({"tailpipe-dataexport"}), STACK_SET, "tailpipe-connector-role", FUNCTION_ROLE)
AT = "2026-11-02T08:59:30Z"


def called(source: str, name: str, parameters: Any = None, *, role: str = "", **detail: Any) -> dict[str, Any]:
    """Return CloudTrail's event of an API call; `role` is the ARN of the role that called."""
    identity = {"type": "AssumedRole", "sessionContext": {"sessionIssuer": {"type": "Role", "arn": role}}}
    return {
        "version": "0",
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "detail-type": "AWS API Call via CloudTrail",
        "source": source,
        "account": ACCOUNT,
        "time": AT,
        "region": "us-east-1",
        "resources": [],
        "detail": {
            "eventVersion": "1.11",
            "userIdentity": identity if role else {"type": "IAMUser", "arn": f"arn:aws:iam::{ACCOUNT}:user/ada"},
            "eventTime": AT,
            "eventSource": f"{source.removeprefix('aws.')}.amazonaws.com",
            "eventName": name,
            "requestParameters": parameters,
            "responseElements": None,
            "recipientAccountId": ACCOUNT,
            **detail,
        },
    }


def deleted_export(arn: str = EXPORT_ARN, **more: Any) -> dict[str, Any]:
    """Return the event of a deleted export."""
    return called("aws.bcm-data-exports", "DeleteExport", {"exportArn": arn}, **more)


def of_bucket(name: str, bucket: str = BUCKET, **more: Any) -> dict[str, Any]:
    """Return the event of a write to a bucket."""
    return called("aws.s3", name, {"bucketName": bucket, "Host": "s3.eu-west-1.amazonaws.com"}, **more)


def instance_changed(action: str, account: str = MEMBER, stackset: str = STACK_SET) -> dict[str, Any]:
    """Return CloudFormation's own event of a stack instance."""
    detail = {
        "stack-set-arn": f"arn:aws:cloudformation:eu-west-1:{ACCOUNT}:stackset/{stackset}:{UUID}",
        "stack-id": f"arn:aws:cloudformation:eu-west-1:{account}:stack/StackSet-{stackset}-1/42h6hb90",
        "action": action,
        "status-details": {"status": "CURRENT", "detailed-status": "SUCCEEDED"},
    }
    event = called("aws.cloudformation", STACK_INSTANCE)
    return event | {"detail-type": STACK_INSTANCE, "detail": detail}


def of_organization(name: str, details: Any = None, parameters: Any = None) -> dict[str, Any]:
    """Return a membership event of AWS Organizations."""
    return called("aws.organizations", name, parameters, serviceEventDetails=details)
