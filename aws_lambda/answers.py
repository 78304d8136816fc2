"""Check successful responses: one without its required fields is not from AWS and must not be acted on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.errors import NotUnderstood
from shared.parsing import is_html, require

# The fields of every successful response, by operation: a response without them was truncated or came from another
# server. The service models mark few of them as required. Source: botocore's output shapes and the API references.
EXPECTED: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "AssumeRole": {
        "AssumedRoleUser.Arn": str,
        "Credentials.AccessKeyId": str,
        "Credentials.SecretAccessKey": str,
        "Credentials.SessionToken": str,
    },
    "CreateExport": {"ExportArn": str},
    "CreateStackInstances": {"OperationId": str},
    "DescribeAccount": {"Account.Id": str, "Account.Arn": str},
    "DescribeOrganization": {"Organization.Id": str, "Organization.MasterAccountId": str},
    "DescribeOrganizationsAccess": {"Status": str},
    "DescribeStackSet": {"StackSet.StackSetId": str},
    "DescribeStackSetOperation": {"StackSetOperation.Status": str},
    "GetBillingView": {"billingView.arn": str},
    "GetBucketEncryption": {"ServerSideEncryptionConfiguration.Rules": list},
    "GetBucketLifecycleConfiguration": {"Rules": list},
    "GetBucketPolicy": {"Policy": str},
    "GetCallerIdentity": {"Account": str, "Arn": str},
    "GetExport": {
        "Export.Name": str,
        "Export.DataQuery.QueryStatement": str,
        "Export.DestinationConfigurations.S3Destination.S3Bucket": str,
        "Export.DestinationConfigurations.S3Destination.S3Prefix": str,
        "Export.DestinationConfigurations.S3Destination.S3Region": str,
        "Export.DestinationConfigurations.S3Destination.S3OutputConfigurations": dict,
        "ExportStatus.StatusCode": str,
    },
    "GetObject": {"ETag": str, "ContentLength": int},
    "GetObjectLockConfiguration": {"ObjectLockConfiguration.ObjectLockEnabled": str},
    "GetPublicAccessBlock": {"PublicAccessBlockConfiguration.BlockPublicPolicy": bool},
    "GetRole": {"Role.RoleName": str, "Role.AssumeRolePolicyDocument": (str, dict)},
    "GetSecretValue": {"ARN": str, "VersionId": str},
    "GetTable": {"Schema": list},
    "HeadObject": {"ETag": str},
    "ListAccounts": {"Accounts": list},
    "ListAccountsForParent": {"Accounts": list},
    "ListBillingViews": {"billingViews": list},
    "ListExecutions": {"Executions": list},
    "ListExports": {"Exports": list},
    "ListObjectsV2": {"Name": str, "KeyCount": int, "IsTruncated": bool},
    "ListOrganizationalUnitsForParent": {"OrganizationalUnits": list},
    "ListRoots": {"Roots": list},
    "ListStackInstances": {"Summaries": list},
    "ListTagsForResource": {"ResourceTags": list},
    "Publish": {"MessageId": str},
    "PutObject": {"ETag": str},
    "UpdateExport": {"ExportArn": str},
    "UpdateStackInstances": {"OperationId": str},
}
FULL = frozenset(
    {"GetBucketEncryption", "GetBucketLifecycleConfiguration", "GetTable"}
)  # an empty result is a 404 in S3


def prove(parsed: dict[str, Any], model: Any, http_response: Any, **_: Any) -> None:
    """Check that a successful response has the fields and types of its operation. Raises NotUnderstood."""
    if http_response.status_code >= 300:
        return
    what = f"{model.service_model.service_name} {model.name}"
    if not model.has_streaming_output and is_html(http_response.content):
        raise NotUnderstood(what, "it is an HTML page")
    expected = EXPECTED.get(model.name, {})
    require(parsed, expected, what)
    if model.name in FULL and not _at(parsed, next(iter(expected))):
        raise NotUnderstood(what, f"its field {next(iter(expected))} is empty")
    # botocore has already decoded the policies in IAM responses, which the model declares as strings.
    if model.output_shape is not None and model.service_model.service_name != "iam":
        wrong = _mistyped(parsed, model.output_shape, "")
        if wrong:
            raise NotUnderstood(what, f"its field {wrong} has the wrong type")


KINDS: Mapping[str, type] = {
    "structure": dict,
    "map": dict,
    "list": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "long": int,
    "timestamp": datetime,
}


def _mistyped(found: Any, shape: Any, path: str) -> str:
    """Return the path of the first value whose type differs from its shape, "" if all match."""
    kind: str = shape.type_name
    expected: Any = KINDS.get(kind, object)
    if not isinstance(found, expected):
        return path or "answer"
    parts: list[tuple[Any, Any, str]] = []
    if kind == "structure":
        members = ((name, found.get(name), member) for name, member in shape.members.items())
        parts = [(one, member, f"{path}.{name}".strip(".")) for name, one, member in members if one is not None]
    elif kind == "list":
        parts = [(one, shape.member, f"{path}[]") for one in found]
    return next((wrong for part in parts if (wrong := _mistyped(*part))), "")


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document[name]
    return document
