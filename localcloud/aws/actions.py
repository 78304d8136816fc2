"""Which IAM actions an operation needs. Source: AWS Service Authorization Reference."""

from __future__ import annotations

from typing import Any

_S3 = {
    "ListBuckets": ("s3:ListAllMyBuckets",),
    "HeadBucket": ("s3:ListBucket",),
    "ListObjects": ("s3:ListBucket",),
    "ListObjectsV2": ("s3:ListBucket",),
    "ListObjectVersions": ("s3:ListBucketVersions",),
    "HeadObject": ("s3:GetObject",),
    "CopyObject": ("s3:GetObject", "s3:PutObject"),
    "CreateMultipartUpload": ("s3:PutObject",),
    "UploadPart": ("s3:PutObject",),
    "CompleteMultipartUpload": ("s3:PutObject",),
    "DeleteObjects": ("s3:DeleteObject",),
    "GetBucketEncryption": ("s3:GetEncryptionConfiguration",),
    "PutBucketEncryption": ("s3:PutEncryptionConfiguration",),
    "DeleteBucketEncryption": ("s3:PutEncryptionConfiguration",),
    "GetBucketLifecycleConfiguration": ("s3:GetLifecycleConfiguration",),
    "PutBucketLifecycleConfiguration": ("s3:PutLifecycleConfiguration",),
    "DeleteBucketLifecycle": ("s3:PutLifecycleConfiguration",),
    "GetPublicAccessBlock": ("s3:GetBucketPublicAccessBlock",),
    "PutPublicAccessBlock": ("s3:PutBucketPublicAccessBlock",),
    "DeletePublicAccessBlock": ("s3:PutBucketPublicAccessBlock",),
    "GetBucketOwnershipControls": ("s3:GetBucketOwnershipControls",),
    "DeleteBucketTagging": ("s3:PutBucketTagging",),
}


def actions_of(service: str, operation: str, params: dict[str, Any]) -> tuple[str, ...]:
    """The actions `operation` is authorised for, the operation's own first."""
    if service == "s3":
        return _S3.get(operation, (f"s3:{operation}",))
    own = f"{service}:{operation}"
    if service == "bcm-data-exports" and operation in ("CreateExport", "UpdateExport"):
        statement = str(params.get("Export", {}).get("DataQuery", {}).get("QueryStatement", ""))
        needed = [own] + (["cur:PutReportDefinition"] if operation == "CreateExport" else [])
        if operation == "CreateExport" and params.get("ResourceTags"):
            needed.append("bcm-data-exports:TagResource")
        if "CARBON_EMISSIONS" in statement:
            needed.append("sustainability:GetCarbonFootprintSummary")
        return tuple(needed)
    return (own,)


def resource_of(service: str, params: dict[str, Any], partition: str) -> str:
    """The resource a request names, as far as its parameters tell; `*` where they do not."""
    if service == "s3" and "Bucket" in params:
        key = params.get("Key")
        return f"arn:{partition}:s3:::{params['Bucket']}" + (f"/{key}" if key is not None else "")
    for name in ("ExportArn", "ResourceArn", "RoleArn", "RoleName", "StackSetName", "AccountId", "ParentId"):
        if params.get(name):
            return str(params[name])
    if service == "bcm-data-exports" and isinstance(params.get("Export"), dict):
        return f"export/{params['Export'].get('Name', '')}"
    return "*"
