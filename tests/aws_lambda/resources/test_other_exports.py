"""Exports that others have made: they stay as they are, and no data is delivered twice to one place.

The definitions are those of the AWS console, and of the Cloud Intelligence Dashboards (CID):
https://github.com/aws-solutions-library-samples/cloud-intelligence-dashboards-data-collection
(``data-exports/deploy/data-exports-aggregation.yaml``).
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from localcloud.aws.cloud import LocalAws
from shared.model import Result, Verb
from shared.reconcile import RunResult
from tests.aws_lambda.support import DAY, EXPORT, action, outcome, run, verbs

pytestmark = pytest.mark.long

CUR2 = ("bill_bill_type", "bill_payer_account_id", "line_item_usage_type", "line_item_unblended_cost", "resource_tags")
FOCUS = ("AvailabilityZone", "BilledCost", "BillingAccountId", "ChargePeriodStart", "SubAccountId", "Tags")
THEIR_BUCKET = "cid-111122223333-data-local"


def export(name: str, table: str, columns: tuple[str, ...], prefix: str, **properties: str) -> dict[str, Any]:
    """Return an export to a bucket of its own, in Parquet, as CID and the console make it."""
    query: dict[str, Any] = {"QueryStatement": f"SELECT {', '.join(columns)} FROM {table}"}  # noqa: S608 - no database
    return {
        "Name": name,
        "DataQuery": query | ({"TableConfigurations": {table: properties}} if properties else {}),
        "DestinationConfigurations": {
            "S3Destination": {
                "S3Bucket": THEIR_BUCKET,
                "S3Prefix": prefix,
                "S3Region": "eu-west-1",
                "S3OutputConfigurations": {
                    "OutputType": "CUSTOM",
                    "Format": "PARQUET",
                    "Compression": "PARQUET",
                    "Overwrite": "OVERWRITE_REPORT",
                },
            }
        },
        "RefreshCadence": {"Frequency": "SYNCHRONOUS"},
    }


OTHERS = {
    "cid-cur2": (
        "cur2",
        export(
            "cid-cur2",
            "COST_AND_USAGE_REPORT",
            CUR2,
            "cur2/111122223333",
            TIME_GRANULARITY="HOURLY",
            INCLUDE_RESOURCES="TRUE",
            INCLUDE_MANUAL_DISCOUNT_COMPATIBILITY="FALSE",
            INCLUDE_SPLIT_COST_ALLOCATION_DATA="TRUE",
        ),
        "differs in name, bucket, prefix, output",
    ),
    "cid-focus": (
        "focus",
        export("cid-focus", "FOCUS_1_0_AWS", FOCUS, "focus/111122223333"),
        "differs in name, table, properties, bucket, prefix, output",
    ),
    "console": (
        "cur2",
        export("finance-monthly", "COST_AND_USAGE_REPORT", CUR2, "reports", TIME_GRANULARITY="DAILY"),
        "differs in name, properties, bucket, prefix, output",
    ),
}


@pytest.fixture
def shared_account(aws: LocalAws) -> LocalAws:
    """Return the organization with a bucket of another tool, to which exports may be delivered."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=THEIR_BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    grant = {
        "Effect": "Allow",
        "Principal": {"Service": "bcm-data-exports.amazonaws.com"},
        "Action": ["s3:GetBucketAcl", "s3:GetBucketPolicy", "s3:PutObject"],
        "Resource": [f"arn:aws:s3:::{THEIR_BUCKET}", f"arn:aws:s3:::{THEIR_BUCKET}/*"],
    }
    policy = {"Version": "2012-10-17", "Statement": [grant]}
    s3.put_bucket_policy(Bucket=THEIR_BUCKET, Policy=json.dumps(policy))
    return aws


def definitions(cloud: LocalAws) -> dict[str, Any]:
    """Return all exports by name, as GetExport returns them."""
    client = cloud.client("bcm-data-exports")
    arns = {one["ExportName"]: one["ExportArn"] for one in client.list_exports()["Exports"]}
    return {name: client.get_export(ExportArn=arn)["Export"] for name, arn in arns.items()}


def message(finished: RunResult, name: str) -> str:
    """Return the message of the report about our export."""
    (found,) = [one for one in finished.report["actions"] if (one["kind"], one["name"]) == ("export", name)]
    return str(found["message"])


@pytest.mark.parametrize("form", OTHERS)
def test_export_of_others_stays_and_is_reported_in_a_sentence(shared_account: LocalAws, form: str) -> None:
    """The plan and the run say why it is not used; the next run has nothing to write and adds no export."""
    aws = shared_account
    dataset, theirs, why = OTHERS[form]
    ours = EXPORT if dataset == "cur2" else f"{EXPORT}-{dataset}"
    aws.client("bcm-data-exports").create_export(Export=theirs)
    before = definitions(aws)[theirs["Name"]]
    for finished in (run(aws, dry_run=True, EXPORTS=dataset), run(aws, EXPORTS=dataset)):
        assert (action(finished, "export").verb, action(finished, "export").reason) == (Verb.CREATE, "others-exist")
        bucket = theirs["DestinationConfigurations"]["S3Destination"]
        place = f"s3://{bucket['S3Bucket']}/{bucket['S3Prefix']}"
        assert message(finished, ours) == f"{theirs['Name']} stays, and is not used: it {why}, and delivers to {place}"
    for _ in range(2):
        aws.deliver()
        assert set(verbs(run(aws, EXPORTS=dataset))) == {"KEEP"}
        aws.advance(DAY)
    assert set(definitions(aws)) == {theirs["Name"], ours}
    assert definitions(aws)[theirs["Name"]] == before


def test_exports_of_other_data_are_not_mentioned(shared_account: LocalAws) -> None:
    """CID exports carbon data and recommendations, which do not replace costs."""
    aws = shared_account
    columns = ("last_refresh_timestamp", "payer_account_id", "total_mbm_emissions_value", "usage_period_start")
    theirs = export("cid-carbon", "CARBON_EMISSIONS", columns, "carbon/111122223333")
    aws.client("bcm-data-exports").create_export(Export=theirs)
    assert action(run(aws), "export").reason == "absent"


def test_several_exports_of_others_are_all_named(shared_account: LocalAws) -> None:
    """The report says it of each."""
    aws = shared_account
    for form in ("cid-cur2", "console"):
        aws.client("bcm-data-exports").create_export(Export=OTHERS[form][1])
    said = message(run(aws), EXPORT)
    assert said.count(" stays, and is not used: ") == 2


def test_other_exports_that_cannot_be_read_do_not_block_the_creation(aws: LocalAws) -> None:
    """They are only mentioned, so the run continues without them."""
    aws.client("bcm-data-exports").create_export(Export=_in_our_bucket(aws, "theirs"))
    aws.faults.add("bcm-data-exports", "GetExport", "AccessDeniedException", times=9)
    created = outcome(run(aws), "export")
    assert (created.action.reason, created.result) == ("absent", Result.DONE)


def test_data_of_a_legacy_report_in_our_folder_is_not_counted(covered: LocalAws) -> None:
    """A legacy Cost and Usage Report writes ``PREFIX/NAME/PERIOD/…``; it is neither ours nor touched."""
    s3, bucket = covered.client("s3"), covered.deployment.bucket
    folder = "dataexport/monthly-cur/20261101-20261201"
    for name in ("monthly-cur-Manifest.json", "20261102T090000Z/monthly-cur-00001.csv.gz"):
        s3.put_object(Bucket=bucket, Key=f"{folder}/{name}", Body=b"{}")
    covered.advance(3 * DAY)
    stale = run(covered)
    assert stale.report["scopes"]["delivering"] == 0
    kept = s3.list_objects_v2(Bucket=bucket, Prefix=folder)["KeyCount"]
    assert kept == 2


def test_export_of_others_in_our_folder_is_delivered_beside_ours(aws: LocalAws) -> None:
    """Files lie below the export's name, so what reads ours by its name counts no cost twice."""
    aws.client("bcm-data-exports").create_export(Export=_in_our_bucket(aws, "theirs"))
    run(aws)
    aws.deliver()
    s3, bucket = aws.client("s3"), aws.deployment.bucket
    folders = s3.list_objects_v2(Bucket=bucket, Prefix="dataexport/", Delimiter="/")["CommonPrefixes"]
    assert {one["Prefix"] for one in folders} == {f"dataexport/{EXPORT}/", "dataexport/theirs/"}
    assert run(aws).report["scopes"]["delivering"] == 4


def _in_our_bucket(cloud: LocalAws, name: str) -> dict[str, Any]:
    """Return an export that delivers to our bucket and prefix under another name."""
    made = export(name, "COST_AND_USAGE_REPORT", CUR2, "dataexport", TIME_GRANULARITY="HOURLY")
    made["DestinationConfigurations"]["S3Destination"]["S3Bucket"] = cloud.deployment.bucket
    return made
