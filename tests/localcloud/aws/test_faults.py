"""Faults, refusals, throttling, latency, the call log, and the validation of every request."""

from __future__ import annotations

import json
import urllib.request
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.session import Session

from localcloud.aws.cloud import LocalAws
from localcloud.aws.errors import AwsError
from localcloud.aws.gateway import access_key_of
from tests.limits import HANG_S
from tests.localcloud.aws.helpers import STACK_SET, START, create_export, members


def refused(caught: pytest.ExceptionInfo[ClientError]) -> str:
    """Return the error's code."""
    return str(caught.value.response["Error"]["Code"])


def test_fault_applies_the_given_number_of_times(cloud: LocalAws) -> None:
    """The third call succeeds."""
    cloud.faults.add("bcm-data-exports", "ListExports", "InternalServerException", times=2)
    client = cloud.client("bcm-data-exports")
    for _ in range(2):
        with pytest.raises(ClientError) as caught:
            client.list_exports()
        assert refused(caught) == "InternalServerException"
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert client.list_exports()["Exports"] == []


def test_fault_can_be_limited_by_account_and_condition(cloud: LocalAws) -> None:
    """`account` and `when` limit it."""
    one, other = members(cloud)[:2]
    cloud.faults.add("sts", "*", "ExpiredToken", times=None, account=one)
    cloud.client("sts", other).get_caller_identity()
    with pytest.raises(ClientError) as caught:
        cloud.client("sts", one).get_caller_identity()
    assert refused(caught) == "ExpiredToken"
    cloud.faults.add("s3", "PutObject", "SlowDown", when=lambda attempt: attempt.params["Key"] == "b")
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    s3.put_object(Bucket=bucket, Key="a", Body=b"")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="b", Body=b"")
    assert refused(caught) == "SlowDown"


def test_throttling_is_a_token_bucket_on_the_clock(cloud: LocalAws) -> None:
    """After the burst, calls get the service's throttling code until time has passed."""
    cloud.faults.throttle("*", "*", per_second=1, burst=2)
    cases = [
        ("organizations", "list_roots", "TooManyRequestsException"),
        ("bcm-data-exports", "list_exports", "ThrottlingException"),
        ("cloudformation", "list_stack_sets", "Throttling"),
        ("s3", "list_buckets", "SlowDown"),
    ]
    for service, method, code in cases:
        cloud.advance(10)
        call = getattr(cloud.client(service), method)
        call()
        call()
        with pytest.raises(ClientError) as caught:
            call()
        assert refused(caught) == code
        cloud.advance(1)
        call()


def test_denied_action_has_the_services_code_and_message(cloud: LocalAws) -> None:
    """The message names principal, action and resource; `allow` ends the denial."""
    for action in ("s3:PutBucketPolicy", "bcm-data-exports:ListExports", "organizations:ListRoots"):
        cloud.deny(action)
    cloud.deny("cur:PutReportDefinition")
    with pytest.raises(ClientError, match="is not authorized to perform: s3:PutBucketPolicy") as caught:
        cloud.client("s3").put_bucket_policy(Bucket=cloud.deployment.bucket, Policy="{}")
    assert refused(caught) == "AccessDenied"
    with pytest.raises(ClientError) as caught:
        cloud.client("bcm-data-exports").list_exports()
    assert refused(caught) == "AccessDeniedException"
    with pytest.raises(ClientError) as caught:
        cloud.client("organizations").list_roots()
    assert refused(caught) == "AccessDeniedException"
    with pytest.raises(ClientError, match="cur:PutReportDefinition"):
        create_export(cloud)
    cloud.allow("cur:PutReportDefinition")
    create_export(cloud)


def test_latency_advances_the_virtual_clock(cloud: LocalAws) -> None:
    """The test itself does not wait."""
    cloud.faults.latency(5, "s3")
    cloud.client("s3").list_buckets()
    cloud.client("sts").get_caller_identity()
    assert cloud.clock.now() == START + timedelta(seconds=5)


def test_call_log_has_principal_action_resource_and_result(cloud: LocalAws) -> None:
    """The log is empty after the deployment."""
    assert cloud.calls.count() == 0
    cloud.client("s3").head_bucket(Bucket=cloud.deployment.bucket)
    create_export(cloud)
    with pytest.raises(ClientError):
        create_export(cloud)
    assert cloud.calls.by_operation() == {"bcm-data-exports:CreateExport": 2, "s3:HeadBucket": 1}
    assert cloud.calls.actions() == {"s3:ListBucket", "bcm-data-exports:CreateExport", "cur:PutReportDefinition"}
    last = cloud.calls.select("bcm-data-exports")[-1]
    assert (last.account, last.principal) == (cloud.account, f"arn:aws:iam::{cloud.account}:user/local")
    assert last.resource == f"arn:aws:bcm-data-exports:us-east-1:{cloud.account}:export/tailpipe-dataexport"
    assert (last.status, last.error) == (400, "ValidationException")


def test_unknown_credentials_are_refused(cloud: LocalAws) -> None:
    """An unknown key does not select a default account."""
    client: Any = Session().create_client(
        "organizations",
        region_name="us-east-1",
        endpoint_url=cloud.endpoint,
        aws_access_key_id="AKIANOBODY0000000000",
        aws_secret_access_key="x",
    )
    with pytest.raises(ClientError) as caught:
        client.describe_organization()
    assert refused(caught) == "UnrecognizedClientException"
    client.close()


def _post(cloud: LocalAws, target: str, body: str) -> tuple[int, dict[str, str]]:
    scope = f"{access_key_of(cloud.account)}/20260315/us-east-1/bcm-data-exports/aws4_request"
    request = urllib.request.Request(  # noqa: S310 - the loopback endpoint of this test
        cloud.endpoint,
        data=body.encode(),
        headers={
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"AWSBillingAndCostManagementDataExports.{target}",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=HANG_S) as response:  # noqa: S310 - the loopback endpoint of this test
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


@pytest.mark.parametrize(
    ("target", "body", "message"),
    [
        ("ListExports", '{"NoSuch": 1}', "Unknown parameter 'NoSuch'"),
        ("GetExport", "{}", 'Missing required parameter in input: "ExportArn"'),
        ("ListExports", '{"MaxResults": 0}', "valid min value: 1"),
        ("GetExport", '{"ExportArn": "no-arn-of-this-service"}', "must satisfy pattern"),
    ],
)
def test_requests_are_validated_by_the_service_model(cloud: LocalAws, target: str, body: str, message: str) -> None:
    """The server refuses what boto3 would not send."""
    status, answer = _post(cloud, target, body)
    assert status == 400
    assert answer["__type"] == "ValidationException"
    assert message in answer["Message"]


def test_invalid_json_and_unknown_operation_are_refused(cloud: LocalAws) -> None:
    """The errors are SerializationException and UnknownOperationException."""
    assert _post(cloud, "ListExports", "{")[1]["__type"] == "SerializationException"
    assert _post(cloud, "NoSuchThing", "{}")[1]["__type"] == "UnknownOperationException"


def test_only_trusted_callers_can_assume_a_role(cloud: LocalAws) -> None:
    """AssumeRole is denied without the External ID, and for a role that does not exist."""
    tailpipe = "336268260260"
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
    }
    cloud.client("iam", tailpipe).create_role(
        RoleName="TailpipeConnector-Prod", AssumeRolePolicyDocument=json.dumps(trust)
    )
    allowed = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::*:role/tailpipe-*"}
    cloud.client("iam", tailpipe).put_role_policy(
        RoleName="TailpipeConnector-Prod",
        PolicyName="connect",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allowed]}),
    )
    own = cloud.client("sts", tailpipe).assume_role(RoleArn=cloud.deployment.principal, RoleSessionName="session")
    connector: Any = Session().create_client(
        "sts",
        region_name=cloud.region,
        endpoint_url=cloud.endpoint,
        aws_access_key_id=own["Credentials"]["AccessKeyId"],
        aws_secret_access_key=own["Credentials"]["SecretAccessKey"],
        aws_session_token=own["Credentials"]["SessionToken"],
    )
    arn = f"arn:aws:iam::{cloud.account}:role/tailpipe-connector-role"
    connector.assume_role(RoleArn=arn, RoleSessionName="session", ExternalId=cloud.deployment.external_id)
    for role, external_id in ((arn, "wrong-id"), (arn + "-none", cloud.deployment.external_id)):
        with pytest.raises(ClientError, match="is not authorized to perform: sts:AssumeRole"):
            connector.assume_role(RoleArn=role, RoleSessionName="session", ExternalId=external_id)
    connector.close()


def test_stack_set_reads_can_be_throttled_and_denied(cloud: LocalAws) -> None:
    """The denial has CloudFormation's code."""
    cloud.deny("cloudformation:DescribeStackSet")
    with pytest.raises(ClientError) as caught:
        cloud.client("cloudformation").describe_stack_set(StackSetName=STACK_SET)
    assert refused(caught) == "AccessDenied"


def test_response_that_violates_the_service_model_is_501(cloud: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """The local cloud's results and errors are validated by botocore's model."""
    client = cloud.client("bcm-data-exports")
    handlers = cloud.world._handlers["bcm-data-exports"]
    monkeypatch.setitem(handlers, "ListExports", lambda _caller, _params: {"Exports": [{"ExportName": "x"}]})
    with pytest.raises(ClientError, match="ExportArn") as caught:
        client.list_exports()
    assert refused(caught) == "NotImplemented"
    monkeypatch.setitem(handlers, "ListExports", lambda _caller, _params: {"Exports": [], "More": 1})
    with pytest.raises(ClientError, match="Unknown member"):
        client.list_exports()

    def missing(_caller: Any, _params: Any) -> Any:
        raise AwsError("ResourceNotFoundException", "no such table", 404)

    monkeypatch.setitem(handlers, "GetTable", missing)
    with pytest.raises(ClientError, match="has no error ResourceNotFoundException") as caught:
        client.get_table(TableName="COST_AND_USAGE_REPORT")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
