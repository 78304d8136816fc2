"""BCM Data Exports, through boto3."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from localcloud.aws.cloud import LocalAws
from localcloud.aws.platform.deployment import EXPORTS_SID
from shared.runtime.clock import VirtualClock
from tests.localcloud.aws.helpers import START, create_export, definition


def refused(cloud: LocalAws, name: str = "tailpipe-dataexport", **changes: Any) -> tuple[str, str, int]:
    """Return code, message and HTTP status of a refused CreateExport."""
    with pytest.raises(ClientError) as caught:
        create_export(cloud, name, **changes)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"], caught.value.response["ResponseMetadata"]["HTTPStatusCode"]


def status(cloud: LocalAws, arn: str) -> dict[str, Any]:
    """Return the export's ExportStatus."""
    return dict(cloud.client("bcm-data-exports").get_export(ExportArn=arn)["ExportStatus"])


def test_created_export_has_the_keys_that_the_service_adds(cloud: LocalAws) -> None:
    """GetExport returns the sent properties with BILLING_VIEW_ARN and the compatibility flag."""
    arn = create_export(cloud, properties={"TIME_GRANULARITY": "HOURLY"})
    answer = cloud.client("bcm-data-exports").get_export(ExportArn=arn)
    assert answer["Export"]["DataQuery"]["TableConfigurations"]["COST_AND_USAGE_REPORT"] == {
        "TIME_GRANULARITY": "HOURLY",
        "BILLING_VIEW_ARN": f"arn:aws:billing::{cloud.account}:billingview/primary",
        "INCLUDE_MANUAL_DISCOUNT_COMPATIBILITY": "FALSE",
    }
    assert answer["ExportStatus"]["StatusCode"] == "HEALTHY"
    assert answer["ExportStatus"]["CreatedAt"] == START
    assert arn.startswith(f"arn:aws:bcm-data-exports:us-east-1:{cloud.account}:export/tailpipe-dataexport-")


def test_creating_an_export_writes_a_test_object_at_the_buckets_root(cloud: LocalAws) -> None:
    """The service verifies its permission outside the export's prefix."""
    create_export(cloud)
    listed = cloud.client("s3").list_objects_v2(Bucket=cloud.deployment.bucket)["Contents"]
    assert [one["Key"] for one in listed] == ["aws-programmatic-access-test-object"]


def test_columns_of_a_table_follow_its_properties(cloud: LocalAws) -> None:
    """line_item_resource_id is present only with INCLUDE_RESOURCES, and CUR 2.0 has more than 115 columns."""
    client = cloud.client("bcm-data-exports")
    names = [table["TableName"] for table in client.list_tables()["Tables"]]
    assert "COST_AND_USAGE_REPORT" in names
    assert "FOCUS_1_2_AWS" in names
    plain = {c["Name"] for c in client.get_table(TableName="COST_AND_USAGE_REPORT")["Schema"]}
    with_resources = {
        c["Name"]
        for c in client.get_table(TableName="COST_AND_USAGE_REPORT", TableProperties={"INCLUDE_RESOURCES": "TRUE"})[
            "Schema"
        ]
    }
    assert with_resources - plain == {"line_item_resource_id"}
    assert len(with_resources) > 115


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": "bill_bill_type, no_such"}, "The columns in the query provided are not a subset of the table"),
        ({"columns": "line_item_resource_id"}, "The columns in the query provided are not a subset of the table"),
        ({"columns": "*"}, "The query statement is invalid"),
        ({"table": "NO_SUCH_TABLE"}, "does not exist"),
        ({"properties": {"NO_SUCH": "TRUE"}}, "is not valid for table"),
        ({"properties": {"TIME_GRANULARITY": "YEARLY"}}, "is not one of"),
        ({"output": {"Format": "PARQUET"}}, "is not supported"),
        ({"output": {"OutputType": "ATHENA"}}, "is not supported"),
        ({"destination": {"S3Bucket": "nobodys-bucket"}}, "S3 bucket permission validation failed"),
        ({"destination": {"S3BucketOwner": "999999999999"}}, "S3 bucket permission validation failed"),
        ({"destination": {"S3Region": "us-west-2"}}, "S3 bucket permission validation failed"),
        ({"RefreshCadence": {"Frequency": "HOURLY"}}, "must be one of [SYNCHRONOUS]"),
    ],
)
def test_invalid_export_is_refused_with_the_services_message(
    cloud: LocalAws, changes: dict[str, Any], message: str
) -> None:
    """The ValidationException names the problem, and nothing is created."""
    code, text, _ = refused(cloud, **changes)
    assert code == "ValidationException"
    assert message in text
    assert cloud.client("bcm-data-exports").list_exports()["Exports"] == []


def test_invalid_export_name_is_refused_by_the_service(cloud: LocalAws) -> None:
    """boto3 does not check the pattern of the name."""
    code, text, _ = refused(cloud, "no spaces")
    assert code == "ValidationException"
    assert "pattern" in text


def test_duplicate_export_name_is_refused(cloud: LocalAws) -> None:
    """The error is a ValidationException with AWS's message."""
    create_export(cloud)
    assert refused(cloud)[:2] == ("ValidationException", "Cannot create duplicate export name")


@pytest.mark.parametrize(
    ("table", "quota"), [("COST_AND_USAGE_REPORT", 5), ("FOCUS_1_2_AWS", 2), ("CARBON_EMISSIONS", 2)]
)
def test_export_beyond_the_quota_of_its_table_is_402(cloud: LocalAws, table: str, quota: int) -> None:
    """The message has the quota."""
    for number in range(quota):
        create_export(cloud, f"export-{number}", table=table)
    code, text, http = refused(cloud, "one-more", table=table)
    assert (code, http) == ("ServiceQuotaExceededException", 402)
    assert f"resource limit of {quota} on {table} table" in text


def test_empty_billing_view_is_denied(cloud: LocalAws) -> None:
    """BILLING_VIEW_ARN="" gives AccessDeniedException."""
    assert refused(cloud, properties={"BILLING_VIEW_ARN": ""})[0] == "AccessDeniedException"


def test_billing_view_that_the_account_does_not_see_is_denied(cloud: LocalAws) -> None:
    """The account's own view is accepted."""
    view = "arn:aws:billing::{}:billingview/primary"
    create_export(cloud, properties={"BILLING_VIEW_ARN": view.format(cloud.account)})
    with pytest.raises(ClientError, match="AccessDenied"):
        create_export(cloud, "another", properties={"BILLING_VIEW_ARN": view.format("999988887777")})


def test_update_replaces_the_export_except_its_name(cloud: LocalAws) -> None:
    """The query changes; another name is refused."""
    client = cloud.client("bcm-data-exports")
    arn = create_export(cloud)
    client.update_export(ExportArn=arn, Export=definition(cloud, columns="bill_invoice_id"))
    query = client.get_export(ExportArn=arn)["Export"]["DataQuery"]["QueryStatement"]
    assert query == "SELECT bill_invoice_id FROM COST_AND_USAGE_REPORT"
    with pytest.raises(ClientError, match="name cannot be updated"):
        client.update_export(ExportArn=arn, Export=definition(cloud, "other"))


def test_deleted_export_is_not_found(cloud: LocalAws) -> None:
    """GetExport gives ResourceNotFoundException, and the list is empty."""
    client = cloud.client("bcm-data-exports")
    arn = create_export(cloud)
    assert client.delete_export(ExportArn=arn)["ExportArn"] == arn
    with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
        client.get_export(ExportArn=arn)
    assert caught.value.response["ResourceType"] == "EXPORT"
    assert client.list_exports()["Exports"] == []


def test_export_is_visible_only_to_its_account(cloud: LocalAws) -> None:
    """Another account can use neither the list nor the ARN."""
    arn = create_export(cloud)
    other = cloud.client("bcm-data-exports", "210000000000")
    assert other.list_exports()["Exports"] == []
    with pytest.raises(other.exceptions.ResourceNotFoundException):
        other.get_export(ExportArn=arn)


def test_lists_are_paged(cloud: LocalAws) -> None:
    """MaxResults limits a page, NextToken continues, and a MaxResults of 301 is refused."""
    for number in range(5):
        create_export(cloud, f"export-{number}")
    client = cloud.client("bcm-data-exports")
    first = client.list_exports(MaxResults=3)
    second = client.list_exports(MaxResults=3, NextToken=first["NextToken"])
    names = [one["ExportName"] for one in first["Exports"] + second["Exports"]]
    assert names == [f"export-{number}" for number in range(5)]
    assert "NextToken" not in second
    with pytest.raises(ClientError, match="at most 300"):
        client.list_exports(MaxResults=301)
    with pytest.raises(ParamValidationError):
        client.list_exports(MaxResults=0)


def test_tags_can_be_set_changed_and_removed(cloud: LocalAws) -> None:
    """Creation, TagResource and UntagResource change them."""
    client = cloud.client("bcm-data-exports")
    arn = client.create_export(Export=definition(cloud), ResourceTags=[{"Key": "a", "Value": "1"}])["ExportArn"]
    client.tag_resource(ResourceArn=arn, ResourceTags=[{"Key": "b", "Value": "2"}])
    client.untag_resource(ResourceArn=arn, ResourceTagKeys=["a"])
    assert client.list_tags_for_resource(ResourceArn=arn)["ResourceTags"] == [{"Key": "b", "Value": "2"}]


def _policy(cloud: LocalAws, **changes: Any) -> None:
    policy = cloud.deployment.bucket_policy()
    policy["Statement"][1].update(changes)
    cloud.client("s3").put_bucket_policy(Bucket=cloud.deployment.bucket, Policy=json.dumps(policy))


@pytest.mark.parametrize("broken", ["prefix", "account", "arn", "principal", "denied", "none"])
def test_bucket_policy_without_a_grant_on_the_root_is_refused(cloud: LocalAws, broken: str) -> None:
    """This covers a grant on the prefix, another account, source or service, a Deny, and no policy."""
    arn = f"arn:aws:s3:::{cloud.deployment.bucket}"
    changes: dict[str, dict[str, Any]] = {
        "prefix": {"Resource": f"{arn}/dataexport/*"},
        "account": {"Condition": {"StringEquals": {"aws:SourceAccount": "999999999999"}}},
        "arn": {"Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:cur:us-east-1:*:definition/*"}}},
        "principal": {"Principal": {"Service": "billingreports.amazonaws.com"}},
        "denied": {"Effect": "Deny"},
    }
    if broken == "none":
        cloud.remove_bucket_policy()
    else:
        _policy(cloud, **changes[broken])
    assert refused(cloud)[:2] == ("ValidationException", "S3 bucket permission validation failed")


def test_new_bucket_policy_takes_effect_after_a_delay() -> None:
    """With a policy delay, creation fails until it has passed."""
    with LocalAws(accounts=1, clock=VirtualClock(START), policy_delay_s=30) as cloud:
        cloud.advance(31)
        cloud.client("s3").delete_bucket_policy(Bucket=cloud.deployment.bucket)
        cloud.advance(31)
        _policy(cloud)
        assert refused(cloud)[1] == "S3 bucket permission validation failed"
        cloud.advance(31)
        create_export(cloud)


def test_delivery_writes_data_and_a_manifest(cloud: LocalAws) -> None:
    """Both are in the billing period's folder below prefix and name; the manifest names the data file."""
    create_export(cloud)
    cloud.advance(3600)
    assert cloud.deliver() == {"tailpipe-dataexport": "DELIVERY_SUCCESS"}
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    manifest = "dataexport/tailpipe-dataexport/metadata/BILLING_PERIOD=2026-03/tailpipe-dataexport-Manifest.json"
    read = s3.get_object(Bucket=bucket, Key=manifest)
    assert read["LastModified"] == START + timedelta(hours=1)
    files = json.loads(read["Body"].read())["dataFiles"]
    part = "dataexport/tailpipe-dataexport/data/BILLING_PERIOD=2026-03/tailpipe-dataexport-00001.csv.gz"
    assert files == [f"s3://{bucket}/{part}"]
    text = gzip.decompress(s3.get_object(Bucket=bucket, Key=part)["Body"].read()).decode()
    assert text.splitlines() == ["bill_bill_type,line_item_usage_account_id", f",{cloud.account}"]


def test_executions_are_recorded(cloud: LocalAws) -> None:
    """ListExecutions and GetExecution return the delivery and the export as it was."""
    arn = create_export(cloud)
    cloud.deliver()
    client = cloud.client("bcm-data-exports")
    (listed,) = client.list_executions(ExportArn=arn)["Executions"]
    assert listed["ExecutionStatus"]["StatusCode"] == "DELIVERY_SUCCESS"
    read = client.get_execution(ExportArn=arn, ExecutionId=listed["ExecutionId"])
    assert read["Export"]["Name"] == "tailpipe-dataexport"
    assert read["ExecutionStatus"]["CompletedAt"] == START


def test_delivery_without_permission_makes_the_export_unhealthy(cloud: LocalAws) -> None:
    """INSUFFICIENT_PERMISSION appears without the policy statement, and ends with the next successful refresh."""
    arn = create_export(cloud)
    cloud.remove_bucket_policy_statement(EXPORTS_SID)
    assert status(cloud, arn)["StatusCode"] == "HEALTHY"
    assert cloud.deliver() == {"tailpipe-dataexport": "DELIVERY_FAILURE"}
    assert status(cloud, arn)["StatusReason"] == "INSUFFICIENT_PERMISSION"
    _policy(cloud)
    cloud.deliver()
    assert status(cloud, arn)["StatusCode"] == "HEALTHY"
    assert status(cloud, arn)["LastRefreshedAt"] == START


def test_update_does_not_change_the_status(cloud: LocalAws) -> None:
    """Only a successful refresh ends UNHEALTHY."""
    arn = create_export(cloud)
    cloud.fail_execution("tailpipe-dataexport", "QUERY_FAILURE", "INTERNAL_FAILURE")
    assert cloud.deliver() == {"tailpipe-dataexport": "QUERY_FAILURE"}
    assert status(cloud, arn)["StatusReason"] == "INTERNAL_FAILURE"
    cloud.client("bcm-data-exports").update_export(ExportArn=arn, Export=definition(cloud))
    assert status(cloud, arn)["StatusCode"] == "UNHEALTHY"
    cloud.deliver()
    assert status(cloud, arn)["StatusCode"] == "HEALTHY"


def test_silent_export_is_healthy_and_delivers_nothing(cloud: LocalAws) -> None:
    """Its files, executions and dates are old; it delivers again once it is resumed."""
    arn = create_export(cloud)
    cloud.deliver()
    cloud.silence_export("tailpipe-dataexport", days=3)
    assert cloud.deliver() == {}
    shown = status(cloud, arn)
    assert (shown["StatusCode"], shown["LastRefreshedAt"]) == ("HEALTHY", START - timedelta(days=3))
    listed = cloud.client("s3").list_objects_v2(Bucket=cloud.deployment.bucket, Prefix="dataexport/")["Contents"]
    assert {one["LastModified"] for one in listed} == {START - timedelta(days=3)}
    cloud.resume_export("tailpipe-dataexport")
    assert cloud.deliver() == {"tailpipe-dataexport": "DELIVERY_SUCCESS"}


def test_withdrawn_table_is_unknown(cloud: LocalAws) -> None:
    """It is not listed, has no columns, and accepts no export until it is restored."""
    cloud.withdraw_table("FOCUS_1_2_AWS")
    client = cloud.client("bcm-data-exports")
    assert "FOCUS_1_2_AWS" not in {one["TableName"] for one in client.list_tables()["Tables"]}
    with pytest.raises(ClientError, match="ValidationException"):
        client.get_table(TableName="FOCUS_1_2_AWS")
    with pytest.raises(ClientError, match="does not exist"):
        create_export(cloud, table="FOCUS_1_2_AWS")
    cloud.offer_table("FOCUS_1_2_AWS")
    create_export(cloud, table="FOCUS_1_2_AWS")


def test_changed_bill_owner_is_not_resolved_by_a_refresh(cloud: LocalAws) -> None:
    """Deliveries fail with BILL_OWNER_CHANGED."""
    arn = create_export(cloud)
    cloud.set_export_health("tailpipe-dataexport", "BILL_OWNER_CHANGED")
    assert cloud.deliver() == {"tailpipe-dataexport": "QUERY_FAILURE"}
    assert status(cloud, arn)["StatusReason"] == "BILL_OWNER_CHANGED"


@pytest.mark.parametrize(
    ("partition", "home"),
    [("aws-us-gov", "us-gov-west-1"), ("aws-cn", "cn-northwest-1"), ("aws-eusc", "eusc-de-east-1")],
)
def test_exports_work_in_other_partitions(partition: str, home: str) -> None:
    """ARNs have the partition and its home region, and the deployed policy grants there too."""
    with LocalAws(accounts=2, partition=partition, clock=VirtualClock(START)) as cloud:
        arn = create_export(cloud)
        assert arn.startswith(f"arn:{partition}:bcm-data-exports:{home}:")
        cloud.client("iam").get_role(RoleName="tailpipe-connector-role")
