"""What the connector role can and cannot read on AWS, with the real SDK against the local AWS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.aws.cloud import LocalAws
from tests.aws_lambda.support import local_aws, run
from tests.localcloud.aws.iam.sessions import document
from tests.readers.aws import TAILPIPE_ACCOUNT, TAILPIPE_ROLE, Reader, assumed, client

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    """Return an organization after a complete run and one delivery."""
    with local_aws() as cloud:
        run(cloud)
        cloud.deliver()
        yield cloud


@pytest.fixture(scope="module")
def tailpipe(aws: LocalAws) -> dict[str, str]:
    """Return the credentials of Tailpipe's own role, in Tailpipe's own account."""
    return other_role(aws, TAILPIPE_ACCOUNT, TAILPIPE_ROLE)


@pytest.fixture(scope="module")
def reader(aws: LocalAws, tailpipe: dict[str, str]) -> Reader:
    """Return Tailpipe's reader, connected."""
    return Reader(aws.endpoint, tailpipe, onboarding(aws))


def onboarding(aws: LocalAws) -> dict[str, Any]:
    """Return the part of the onboarding document that the reader needs."""
    return {
        "region": aws.region,
        "costExport": {"name": "tailpipe-dataexport", "s3Bucket": aws.deployment.bucket, "s3Prefix": "dataexport"},
        "iamRole": {"arn": f"arn:aws:iam::{aws.account}:role/tailpipe-connector-role"},
        "tailpipe": {"externalId": aws.deployment.external_id},
    }


def other_role(aws: LocalAws, account: str, name: str) -> dict[str, str]:
    """Return credentials of a role in another account that may assume every role that trusts it."""
    iam = aws.client("iam", account)
    trust = {"Principal": {"AWS": f"arn:aws:iam::{account}:root"}, "Action": "sts:AssumeRole"}
    policy = {"Action": "sts:AssumeRole", "Resource": "*"}
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trust))["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document(policy))
    own = {
        "aws_access_key_id": f"AKIALOCA{account}",
        "aws_secret_access_key": "local-cloud-has-no-secrets",
    }
    return assumed(aws.endpoint, aws.region, own, arn, None)


def refused(call: Callable[[], object]) -> str:
    """Return the error code of a refused call."""
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


def test_tailpipe_reads_manifests_rows_and_metrics(aws: LocalAws, reader: Reader) -> None:
    """With the role and the External ID, the reader finds all rows through manifests and can read metrics."""
    assert len(reader.manifests()) == 1
    rows = list(reader.rows())
    assert {row["bill_payer_account_id"] for row in rows} == {aws.account}
    assert reader.metrics(aws.clock.now()) == []


def test_role_requires_the_external_id(aws: LocalAws, tailpipe: dict[str, str]) -> None:
    """Without the External ID, or with a wrong one, even Tailpipe's own role is refused."""
    role = onboarding(aws)["iamRole"]["arn"]
    for external_id in (None, "guessed-external-id"):
        assert refused(partial(assumed, aws.endpoint, aws.region, tailpipe, role, external_id)) == "AccessDenied"


def test_role_trusts_only_tailpipes_role(aws: LocalAws) -> None:
    """Any other role is refused, even in Tailpipe's account and with the right External ID."""
    values = onboarding(aws)
    for account, name in (("999988887777", "TailpipeConnector-Prod"), (TAILPIPE_ACCOUNT, "AnotherRole")):
        stranger = other_role(aws, account, name)
        role, external_id = values["iamRole"]["arn"], values["tailpipe"]["externalId"]
        assert refused(partial(assumed, aws.endpoint, aws.region, stranger, role, external_id)) == "AccessDenied"


@pytest.mark.parametrize("prefix", ["", "state/", "runs/", "dataexport", "other/"])
def test_only_the_export_prefix_can_be_listed(aws: LocalAws, reader: Reader, prefix: str) -> None:
    """Listing the whole bucket, the state, the reports or any other prefix is refused."""
    s3 = reader.client("s3")
    assert refused(lambda: s3.list_objects_v2(Bucket=aws.deployment.bucket, Prefix=prefix)) == "AccessDenied"


def test_state_and_reports_cannot_be_read(aws: LocalAws, reader: Reader) -> None:
    """The connector cannot read the function's state or its reports."""
    own = aws.client("s3")
    own.put_object(Bucket=aws.deployment.bucket, Key="state/deliveries.bin", Body=b"written by a later run")
    listed = own.list_objects_v2(Bucket=aws.deployment.bucket)["Contents"]
    private = [one["Key"] for one in listed if one["Key"].startswith(("state/", "runs/"))]
    assert {key for key in private if key.startswith("state/")} == {"state/known_accounts.json", "state/deliveries.bin"}
    assert any(key.startswith("runs/") for key in private)
    for key in private:
        assert refused(partial(reader.read, key)) == "AccessDenied"


def test_nothing_can_be_written(aws: LocalAws, reader: Reader) -> None:
    """The connector cannot write or delete objects, nor change the bucket, the exports or the role."""
    bucket, key = aws.deployment.bucket, reader.manifests()[0]
    s3, iam, exports = reader.client("s3"), reader.client("iam"), reader.client("bcm-data-exports")
    attempts: list[Callable[[], object]] = [
        lambda: s3.put_object(Bucket=bucket, Key="dataexport/new", Body=b""),
        lambda: s3.put_object(Bucket=bucket, Key=key, Body=b""),
        lambda: s3.delete_object(Bucket=bucket, Key=key),
        lambda: s3.delete_bucket_policy(Bucket=bucket),
        lambda: iam.delete_role(RoleName="tailpipe-connector-role"),
        exports.list_exports,
    ]
    assert {refused(attempt) for attempt in attempts} <= {"AccessDenied", "AccessDeniedException"}


def test_member_role_can_only_read_metrics(aws: LocalAws, tailpipe: dict[str, str]) -> None:
    """A member account's role has the same trust policy; it reads metrics there, and no bucket."""
    member = next(one for one in aws.accounts() if one != aws.account)
    role = f"arn:aws:iam::{member}:role/tailpipe-child-connector"
    assert refused(lambda: assumed(aws.endpoint, aws.region, tailpipe, role, None)) == "AccessDenied"
    session = assumed(aws.endpoint, aws.region, tailpipe, role, aws.deployment.external_id)
    metrics = client(aws.endpoint, aws.region, "cloudwatch", session)
    now = aws.clock.now()
    metric = {"Namespace": "AWS/EC2", "MetricName": "CPUUtilization", "Period": 300, "Statistics": ["Average"]}
    assert metrics.get_metric_statistics(StartTime=now - HOUR, EndTime=now, **metric)["Datapoints"] == []
    assert refused(metrics.list_metrics).startswith("AccessDenied")
    assert refused(lambda: client(aws.endpoint, aws.region, "s3", session).list_buckets()) == "AccessDenied"
