"""The condition keys of a request. Source: "AWS global condition context keys" in the IAM User Guide, and each
service's page in the Service Authorization Reference.
"""

from __future__ import annotations

from typing import Any

from localcloud.aws.iam.caller import Identity
from localcloud.aws.partitions import Partition
from localcloud.aws.wire import AwsRequest

# Condition key to the parameter of the request that is its value.
_KEYS = {
    "cloudwatch": {"cloudwatch:namespace": "Namespace"},
    "s3": {"s3:prefix": "Prefix", "s3:delimiter": "Delimiter", "s3:max-keys": "MaxKeys"},
    "sts": {"sts:externalid": "ExternalId", "sts:rolesessionname": "RoleSessionName"},
}


def context_of(inquiry: AwsRequest, identity: Identity, partition: Partition) -> dict[str, str]:
    """Return condition keys in lower case with their values; what reaches the loopback counts as sent over TLS."""
    context = {
        "aws:securetransport": "true",
        "aws:principalarn": identity.principal,
        "aws:principalaccount": identity.account,
        "aws:requestedregion": inquiry.region,
    }
    if inquiry.service == "s3":
        # A bucket's key is used by S3, in its region, for the caller.
        context["kms:viaservice"] = f"s3.{inquiry.region}.{partition.dns}"
    for key, parameter in _KEYS.get(inquiry.service, {}).items():
        value: Any = inquiry.params.get(parameter)
        if value is not None:
            context[key] = str(value)
    return context
