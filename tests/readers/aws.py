"""Tailpipe's reader on AWS: assumes the connector role with the External ID, and reads data and metrics."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import boto3
from botocore.config import Config

TAILPIPE_ACCOUNT = "336268260260"
TAILPIPE_ROLE = "TailpipeConnector-Prod"
ONCE = Config(retries={"total_max_attempts": 1})


class Reader:
    """Reads as Tailpipe, with only the values of an onboarding document.

    `credentials` are the keyword arguments of boto3 for Tailpipe's role. Raises botocore's ClientError if AWS refuses a
    call, and the errors of the connection.
    """

    def __init__(self, endpoint: str, credentials: Mapping[str, str], onboarding: Mapping[str, Any]) -> None:
        self._endpoint = endpoint
        self._region = str(onboarding["region"])
        self._bucket = str(onboarding["costExport"]["s3Bucket"])
        self._prefix = str(onboarding["costExport"]["s3Prefix"])
        self._name = str(onboarding["costExport"]["name"])
        role, external_id = str(onboarding["iamRole"]["arn"]), str(onboarding["tailpipe"]["externalId"])
        self._session = assumed(endpoint, self._region, credentials, role, external_id)

    def client(self, service: str) -> Any:
        """Return a client with the permissions of the connector role."""
        return client(self._endpoint, self._region, service, self._session)

    def manifests(self) -> list[str]:
        """Return the keys of all manifests of the export."""
        pages = self.client("s3").get_paginator("list_objects_v2")
        listed = pages.paginate(Bucket=self._bucket, Prefix=f"{self._prefix}/{self._name}/metadata/")
        keys = [str(one["Key"]) for page in listed for one in page.get("Contents", [])]
        return [key for key in keys if key.endswith("-Manifest.json")]

    def rows(self) -> Iterator[dict[str, str]]:
        """Yield the rows of every file in the manifests."""
        for manifest in self.manifests():
            for file in json.loads(self.read(manifest))["dataFiles"]:
                key = str(file).removeprefix(f"s3://{self._bucket}/")
                yield from csv.DictReader(io.TextIOWrapper(gzip.GzipFile(fileobj=io.BytesIO(self.read(key)))))

    def read(self, key: str) -> bytes:
        """Return one object."""
        body: bytes = self.client("s3").get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return body

    def metrics(self, until: datetime) -> list[Any]:
        """Return the CPU utilization of the last hour."""
        answer = self.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/EC2",
            MetricName="CPUUtilization",
            StartTime=until - timedelta(hours=1),
            EndTime=until,
            Period=300,
            Statistics=["Average"],
        )
        return list(answer["Datapoints"])


def client(endpoint: str, region: str, service: str, credentials: Mapping[str, str]) -> Any:
    """Return a client without retries."""
    session: Any = boto3.session.Session()
    return session.client(service, endpoint_url=endpoint, region_name=region, config=ONCE, **credentials)


def assumed(
    endpoint: str, region: str, credentials: Mapping[str, str], role: str, external_id: str | None
) -> dict[str, str]:
    """Return the credentials of a role's session. Raises ClientError if the role does not trust the caller."""
    asked = {"RoleArn": role, "RoleSessionName": "tailpipe"}
    asked |= {"ExternalId": external_id} if external_id is not None else {}
    given = client(endpoint, region, "sts", credentials).assume_role(**asked)["Credentials"]
    return {
        "aws_access_key_id": given["AccessKeyId"],
        "aws_secret_access_key": given["SecretAccessKey"],
        "aws_session_token": given["SessionToken"],
    }
