"""The AWS partitions and their differences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import botocore.session


@dataclass(frozen=True)
class Partition:
    """`home` is the region of the global services; `dual_stack` is the domain suffix of the Data Exports API."""

    name: str
    home: str
    default_region: str
    dual_stack: str
    dns: str

    @property
    def exports_host(self) -> str:
        return f"bcm-data-exports.{self.home}.{self.dual_stack}"


# Source: botocore's partitions.json (implicitGlobalRegion, dualStackDnsSuffix, dnsSuffix).
PARTITIONS = {
    partition.name: partition
    for partition in (
        Partition("aws", "us-east-1", "eu-west-1", "api.aws", "amazonaws.com"),
        Partition("aws-us-gov", "us-gov-west-1", "us-gov-west-1", "api.aws", "amazonaws.com"),
        Partition("aws-cn", "cn-northwest-1", "cn-north-1", "api.amazonwebservices.com.cn", "amazonaws.com.cn"),
        Partition("aws-eusc", "eusc-de-east-1", "eusc-de-east-1", "api.amazonwebservices.eu", "amazonaws.eu"),
    )
}


@cache
def regions(partition: str) -> list[str]:
    """Return the regions of a partition in which the AWS SDK lists S3, sorted."""
    return sorted(botocore.session.get_session().get_available_regions("s3", partition))
