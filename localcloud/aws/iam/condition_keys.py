"""The condition keys of a request. Source: "AWS global condition context keys" in the IAM User Guide, and each
service's page in the Service Authorization Reference.
"""

from __future__ import annotations

from typing import Any

from localcloud.aws.iam.caller import Identity
from localcloud.aws.partitions import Partition
from localcloud.aws.wire import AwsRequest

# The request parameters that supply the values of condition keys.
_KEYS = {
    "cloudwatch": {"cloudwatch:namespace": "Namespace"},
    "s3": {"s3:prefix": "Prefix", "s3:delimiter": "Delimiter", "s3:max-keys": "MaxKeys"},
    "sts": {"sts:externalid": "ExternalId", "sts:rolesessionname": "RoleSessionName"},
}


def context_of(aws_request: AwsRequest, identity: Identity, partition: Partition) -> dict[str, str]:
    """Return condition keys in lower case with their values; loopback requests count as sent over TLS."""
    context = {
        "aws:securetransport": "true",
        "aws:principalarn": identity.principal,
        "aws:principalaccount": identity.account,
        "aws:requestedregion": aws_request.region,
    }
    if aws_request.service == "s3":
        # S3 uses a bucket's KMS key on behalf of the caller, in the region of the request.
        context["kms:viaservice"] = f"s3.{aws_request.region}.{partition.dns}"
    for key, parameter in _KEYS.get(aws_request.service, {}).items():
        value: Any = aws_request.params.get(parameter)
        if value is not None:
            context[key] = str(value)
    return context
