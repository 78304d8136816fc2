"""Several payers in one local AWS: organizations, billing transfers and views, cross-account delivery and roles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from localcloud.aws.cloud import LocalAws
from shared.runtime.clock import VirtualClock
from tests.localcloud.aws.helpers import START, definition

TEMPLATE = """
Parameters: {ExternalId: {Type: String}, Trusted: {Type: String}}
Resources:
  Entry:
    Type: AWS::IAM::Role
    Properties:
      RoleName: entry
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement:
          - Effect: Allow
            Principal: {AWS: !Ref Trusted}
            Action: sts:AssumeRole
            Condition: {StringEquals: {"sts:ExternalId": !Ref ExternalId}}
      Policies:
        - PolicyName: list
          PolicyDocument:
            Version: "2012-10-17"
            Statement: [{Effect: Allow, Action: "bcm-data-exports:ListExports", Resource: "*"}]
"""


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalAws]:
    """Return a local AWS for tests that each add their own payers."""
    with LocalAws(accounts=2, clock=VirtualClock(START)) as cloud:
        yield cloud


def enter(cloud: LocalAws, role: str, external_id: str | None) -> Any:
    """Assume a role as the own account's user; return the credentials."""
    given = {"ExternalId": external_id} if external_id else {}
    client = cloud.client("sts")
    return client.assume_role(RoleArn=role, RoleSessionName="test", **given)["Credentials"]


def test_each_payer_has_its_own_organization(cloud: LocalAws) -> None:
    """A payer sees its own accounts, and the deployment's organization stays as it is."""
    payer = cloud.add_payer(name="acme", accounts=3)
    own = cloud.client("organizations").describe_organization()["Organization"]
    other = cloud.client("organizations", payer).describe_organization()["Organization"]
    assert (own["MasterAccountId"], other["MasterAccountId"]) == (cloud.account, payer)
    assert own["Id"] != other["Id"]
    accounts = [
        {one["Id"] for page in client.get_paginator("list_accounts").paginate() for one in page["Accounts"]}
        for client in (cloud.client("organizations"), cloud.client("organizations", payer))
    ]
    assert [len(one) for one in accounts] == [2, 3]
    assert not accounts[0] & accounts[1]


def test_stacksets_access_is_of_each_organization(cloud: LocalAws) -> None:
    """The deployment's organization gave access; another one did not."""
    payer = cloud.add_payer(name="strict")
    states = [
        cloud.client("cloudformation", account).describe_organizations_access()["Status"]
        for account in (cloud.account, payer)
    ]
    assert states == ["ENABLED", "DISABLED"]


@pytest.mark.parametrize(("given", "allowed"), [("mine", True), ("other", False), (None, False)])
def test_role_of_a_payer_requires_its_external_id(cloud: LocalAws, given: str | None, *, allowed: bool) -> None:
    """The trust policy of a launched stack decides; the session has the role's rights only."""
    payer = cloud.add_payer(name=f"trusting-{given}")
    trusted = f"arn:aws:iam::{cloud.account}:root"
    role = cloud.launch_stack(account=payer, template=TEMPLATE, parameters={"ExternalId": "mine", "Trusted": trusted})[
        "Entry"
    ]
    if not allowed:
        with pytest.raises(ClientError, match="AccessDenied"):
            enter(cloud, role, given)
        return
    found = enter(cloud, role, given)
    session = boto3.session.Session(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"], "us-east-1")
    client = session.client("bcm-data-exports", endpoint_url=cloud.endpoint)
    assert client.list_exports()["Exports"] == []
    with pytest.raises(ClientError, match="AccessDenied"):
        client.list_tables()
    client.close()
    cloud.delete_stack(account=payer)
    with pytest.raises(ClientError, match="AccessDenied"):
        enter(cloud, role, given)


def test_export_into_another_accounts_bucket_needs_its_grant(cloud: LocalAws) -> None:
    """The policy decides by aws:SourceAccount, also below a prefix that names the account."""
    granted, stranger = cloud.add_payer(name="granted"), cloud.add_payer(name="stranger")
    s3, bucket = cloud.client("s3"), "shared-exports"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": cloud.region})
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "bcm-data-exports.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": [
            f"arn:aws:s3:::{bucket}/aws-programmatic-access-test-object",
            f"arn:aws:s3:::{bucket}/in/${{aws:SourceAccount}}/*",
        ],
        "Condition": {"StringEquals": {"aws:SourceAccount": [granted]}},
    }
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))

    def create(account: str, name: str, prefix: str) -> None:
        export = definition(cloud, name)
        export["DestinationConfigurations"]["S3Destination"] |= {
            "S3Bucket": bucket,
            "S3BucketOwner": cloud.account,
            "S3Prefix": prefix,
        }
        cloud.client("bcm-data-exports", account).create_export(Export=export)

    create(granted, "own", f"in/{granted}")
    create(granted, "foreign", f"in/{stranger}")
    with pytest.raises(ClientError, match="permission validation failed"):
        create(stranger, "own", f"in/{stranger}")
    delivered = cloud.deliver(account=granted)
    assert delivered == {"own": "DELIVERY_SUCCESS", "foreign": "DELIVERY_FAILURE"}
    assert all(f"in/{granted}/own/" in one for one in cloud.world.buckets.keys(bucket, "in/"))


def test_account_that_receives_bills_exports_each_view(cloud: LocalAws) -> None:
    """Each view has the source's costs, and nobody else sees it."""
    payer = cloud.add_payer(name="billed")
    arn = cloud.transfer_billing(payer=payer, name="Billed Ltd")
    found = cloud.client("organizations").list_inbound_responsibility_transfers(Type="BILLING")
    transfer = found["ResponsibilityTransfers"][-1]
    assert (transfer["Source"]["ManagementAccountId"], transfer["Status"]) == (payer, "ACCEPTED")
    billing = cloud.client("billing@home")
    listed = billing.list_billing_views(billingViewTypes=["BILLING_TRANSFER"])["billingViews"]
    assert [(one["sourceAccountId"], one["healthStatus"]["statusCode"]) for one in listed if one["arn"] == arn] == [
        (payer, "HEALTHY")
    ]
    export = definition(cloud, "view")
    export["DataQuery"]["TableConfigurations"] = {"COST_AND_USAGE_REPORT": {"BILLING_VIEW_ARN": arn}}
    cloud.client("bcm-data-exports").create_export(Export=export)
    assert cloud.deliver(name="view") == {"view": "DELIVERY_SUCCESS"}
    assert cloud.world.exports.named(cloud.account, "view").payer == payer
    with pytest.raises(ClientError, match="AccessDenied"):
        cloud.client("bcm-data-exports", payer).create_export(Export=export)
    cloud.end_billing_transfer(payer=payer)
    health = billing.get_billing_view(arn=arn)["billingView"]["healthStatus"]
    assert health == {"statusCode": "UNHEALTHY", "statusReasons": ["SOURCE_VIEW_ACCESS_DENIED"]}
    assert cloud.deliver(name="view") == {"view": "QUERY_FAILURE"}
