"""The differences between AWS's partitions: ARNs, endpoints, principals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aws_lambda.clients import RATES, Clients
from aws_lambda.errors import translate
from aws_lambda.manual_steps import CONSOLES
from aws_lambda.provider import AwsCloud
from aws_lambda.settings import read_settings
from aws_lambda.targets import own_statements
from shared.model import Enumeration, Health, Present, Scope, Verb
from shared.runtime.clock import VirtualClock
from shared.runtime.context import RunContext
from shared.state.document import fresh
from tailpipe_exports import FILES
from tests.aws_lambda.resources.test_exports import create, definition
from tests.aws_lambda.support import EXPORT, START, action, local_aws, run, verbs

ACCOUNT = "111122223333"
REGIONS = {
    "aws": ("eu-west-2", "us-east-1"),
    "aws-us-gov": ("us-gov-east-1", "us-gov-west-1"),
    "aws-cn": ("cn-north-1", "cn-northwest-1"),
    "aws-eusc": ("eusc-de-east-1", "eusc-de-east-1"),
}


@pytest.mark.parametrize("partition", sorted(REGIONS))
def test_statements_have_the_partition_and_its_export_region(partition: str) -> None:
    """Every ARN has the partition, and those of exports have the region of the export API."""
    region, home = REGIONS[partition]
    statements = own_statements(ACCOUNT, read_settings({"AWS_REGION": region}))
    text = json.dumps(statements)
    assert f"arn:{partition}:s3:::tailpipe-dataexport-{ACCOUNT}" in text
    assert f"arn:{partition}:bcm-data-exports:{home}:{ACCOUNT}:export/*" in text
    assert text.count("arn:") == text.count(f"arn:{partition}:")
    principals = statements["TailpipeDataExports"]["Principal"]["Service"]
    assert "bcm-data-exports.amazonaws.com" in principals
    assert all(one.endswith(".amazonaws.com") for one in principals)


@pytest.mark.parametrize("partition", sorted(REGIONS))
def test_export_client_uses_the_export_region(partition: str) -> None:
    """The export API has one region in each partition; other clients use their own regions."""
    region, home = REGIONS[partition]
    environment = {"AWS_REGION": region, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
    clients = Clients(read_settings(environment), environment)
    assert clients.exports.meta.region_name == home
    assert clients.s3.meta.region_name == region
    assert clients.cloudformation.meta.region_name == region


@pytest.mark.parametrize("partition", sorted(REGIONS))
def test_function_works_in_every_partition(partition: str) -> None:
    """One run covers everything, and the next writes nothing."""
    with local_aws(accounts=3, partition=partition) as cloud:
        finished = run(cloud)
        assert finished.report["status"] == "ok", finished.report
        assert EXPORT in cloud.exports()
        assert len(cloud.instances()) == 2
        assert set(verbs(run(cloud))) == {"KEEP"}


HOSTS = {
    "aws": "console.aws.amazon.com",
    "aws-us-gov": "console.amazonaws-us-gov.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-eusc": "console.amazonaws-eusc.eu",
}


@pytest.mark.parametrize("partition", sorted(REGIONS))
def test_steps_link_to_the_console_of_the_partition(partition: str) -> None:
    """An account has only its own partition's console: a foreign export and an account without sign-up link to it."""
    with local_aws(accounts=1, kind="standalone", partition=partition) as cloud:
        region, home, host = cloud.region, REGIONS[partition][1], HOSTS[partition]
        create(cloud, definition(cloud, S3Prefix="finance", S3Region=region))
        (foreign,) = run(cloud).report["manual"]
        assert foreign["url"] == f"https://{home}.{host}/costmanagement/home#/bcm-data-exports"
        cloud.faults.add("bcm-data-exports", "*", "OptInRequired", times=None)
        urls = {one["code"]: one["url"] for one in run(cloud).report["manual"]}
        assert urls["account-refused"] == f"https://{region}.{host}/billing/home#/account"


def test_consoles_are_in_one_table() -> None:
    """No other module names a console's host."""
    folders = (FILES / "aws_lambda", FILES / "cli")
    named = [path.name for folder in folders for path in folder.rglob("*.py") if HOSTS["aws"] in path.read_text()]
    assert (named, CONSOLES) == (["manual_steps.py"], HOSTS)


def test_bucket_may_be_in_another_region_of_the_partition() -> None:
    """The export has the bucket's region, not the function's."""
    with local_aws(accounts=1, kind="standalone") as cloud:
        finished = run(cloud, BUCKET_NAME="tailpipe-far-away", BUCKET_REGION="ap-southeast-2")
        assert finished.report["status"] == "ok", finished.report
        client = cloud.client("bcm-data-exports")
        arn = client.list_exports()["Exports"][0]["ExportArn"]
        export = client.get_export(ExportArn=arn)["Export"]
        assert export["DestinationConfigurations"]["S3Destination"]["S3Region"] == "ap-southeast-2"


def test_connector_is_skipped_without_a_principal() -> None:
    """A role outside partition aws cannot trust Tailpipe's principal, so one must be configured."""
    with local_aws(accounts=1, kind="standalone", partition="aws-us-gov") as cloud:
        skipped = action(run(cloud, TAILPIPE_PRINCIPAL_ARN=""), "connector-role")
        assert skipped.verb is Verb.SKIP
        assert "TAILPIPE_PRINCIPAL_ARN" in skipped.detail


def test_member_roles_are_skipped_without_a_principal() -> None:
    """StackSet, organization access and member roles are not read, as roles could trust no principal."""
    with local_aws(accounts=3, partition="aws-us-gov") as cloud:
        finished = run(cloud, TAILPIPE_PRINCIPAL_ARN="")
        assert finished.report["status"] == "ok", finished.report
        assert finished.report["manual"] == []
        assert verbs(finished)["SKIP"] == 5
        assert cloud.instances() == {}
        assert not cloud.calls.count(service="cloudformation")


def test_partition_without_the_export_service_excludes_the_account() -> None:
    """No call is made to a missing service, and the account does not count as covered."""
    settings = read_settings({"AWS_REGION": "us-iso-east-1"})
    nothing: Any = None
    run_of_test = RunContext("aws", settings.engine, lambda *_: None, VirtualClock(START), 60, RATES, translate)
    cloud = AwsCloud(settings, ACCOUNT, nothing, run_of_test)
    scope = Scope(id=ACCOUNT, traits={"standing": "standalone"})
    memory = fresh("aws")
    targets = cloud.targets(Enumeration(ACCOUNT, (scope,)), memory)
    (export,) = (target for target in targets if target.kind.name == "export")
    seen = cloud.observe_bulk([export])[export.key]
    assert seen == cloud.observe(export)
    assert isinstance(seen, Present)
    assert (seen.health, seen.code) == (Health.INACTIVE, "service-not-in-partition")
    assert "aws-iso" in seen.detail
    assert "TailpipeDataExports" not in own_statements(ACCOUNT, settings)
