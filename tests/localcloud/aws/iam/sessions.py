"""Roles, their policies and their sessions, for tests of permissions."""

from __future__ import annotations

import json
from typing import Any

import boto3
from botocore.config import Config

from localcloud.aws.cloud import LocalAws


def document(*statements: dict[str, Any]) -> str:
    """Return a policy document; a statement without an Effect allows."""
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **one} for one in statements]})


def make_role(cloud: LocalAws, name: str, *statements: dict[str, Any], trusts: Any = None, **more: Any) -> str:
    """Create a role with one inline policy and return its ARN; it trusts its account unless `trusts` is given."""
    principal = trusts or {"AWS": f"arn:{cloud.partition.name}:iam::{cloud.account}:root"}
    trust = document({"Principal": principal, "Action": "sts:AssumeRole"})
    iam = cloud.client("iam")
    arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, **more)["Role"]["Arn"]
    if statements:
        iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document(*statements))
    return arn


def client_in(cloud: LocalAws, service: str, region: str) -> Any:
    """Return the account's client in a region; the caller closes it."""
    return boto3.session.Session().client(
        service,  # type: ignore[call-overload]  # the service name is a variable
        endpoint_url=cloud.endpoint,
        region_name=region,
        aws_access_key_id=cloud.environment()["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}),
    )


class Session:
    """Clients with the credentials of an assumed role; a context manager that closes them."""

    def __init__(self, cloud: LocalAws, role: str, **more: Any) -> None:
        self._cloud = cloud
        answer = cloud.client("sts").assume_role(RoleArn=role, RoleSessionName="test", **more)
        self._credentials = answer["Credentials"]
        self._clients: list[Any] = []

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_exception: object) -> None:
        for client in self._clients:
            client.close()

    def client(self, service: str, region: str | None = None) -> Any:
        """Return a boto3 client that calls as the role."""
        client = boto3.session.Session().client(
            service,  # type: ignore[call-overload]  # the service name is a variable
            endpoint_url=self._cloud.endpoint,
            region_name=region or self._cloud.region,
            aws_access_key_id=self._credentials["AccessKeyId"],
            aws_secret_access_key=self._credentials["SecretAccessKey"],
            aws_session_token=self._credentials["SessionToken"],
            config=Config(retries={"total_max_attempts": 1}),
        )
        self._clients.append(client)
        return client
