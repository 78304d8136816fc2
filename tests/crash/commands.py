"""The commands `deploy` and `destroy` of each cloud as stories: what is there before, and what must be there after.

Terraform is a double that keeps a state; everything else of the commands is real. Native templates need no double.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from azure_function.targets import DESCRIPTION
from cli.local.azure import _start as start_app
from cli.local.gcp import runtime
from localcloud.aws.cloud import LocalAws
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.quotas import UNLIMITED
from localcloud.common.local_cloud import LocalCloud
from localcloud.gcp.cloud import LocalGcp
from tests.aws_lambda.support import run
from tests.canaries import EXTERNAL_ID
from tests.cli.support.aws import built
from tests.cli.support.terraform_double import TerraformDouble, change
from tests.crash.kills import WAYS as KILLS
from tests.crash.stage import World

MODULE_STATE = {
    "aws": ["aws_lambda_function.this", "aws_s3_bucket.exports", "aws_scheduler_schedule.this"],
    "azure": ["azurerm_resource_group.this", "azurerm_storage_account.host"],
    "gcp": ["google_cloud_scheduler_job.this", "google_storage_bucket.export", "google_storage_bucket.state"],
}


@dataclass
class Bench:
    """A local cloud that is deployed, a Terraform, and the environment of the operator."""

    cloud: Any
    terraform: TerraformDouble
    folder: Path
    environment: dict[str, str]


@dataclass(frozen=True)
class Command:
    """A command, what is there before it, and what must be there after it."""

    cloud: str
    open: Callable[[], LocalCloud]
    prepare: Callable[[Bench], None]
    arguments: Callable[[Bench], list[str]]
    world: Callable[[Bench], World]
    ways: tuple[str, ...] = ()  # all of them without it


def _aws() -> LocalAws:
    return LocalAws(accounts=2, package=built)


def _run_once(bench: Bench) -> None:
    """The function ran once and data was delivered; there is also an export of the customer in the same bucket."""
    cloud: LocalAws = bench.cloud
    run(cloud)
    cloud.deliver()
    client = cloud.client("bcm-data-exports")
    (listed,) = client.list_exports()["Exports"]
    export = dict(client.get_export(ExportArn=listed["ExportArn"])["Export"])
    del export["ExportArn"]
    client.create_export(Export=export | {"Name": "finance"})
    bench.terraform.hold(MODULE_STATE["aws"])


def _aws_planned(bench: Bench) -> None:
    """A first deployment: Terraform has no state, and plans what exists and what does not."""
    bucket = bench.cloud.deployment.bucket
    bench.terraform.plan(
        [
            change("aws_s3_bucket.exports", bucket=bucket),
            change("aws_s3_bucket_policy.exports", bucket=bucket),
            change("aws_iam_role.connector[0]", name="tailpipe-connector-role"),
            change("aws_sns_topic.alarms[0]", name="new"),
        ]
    )
    (bench.folder / "given.zip").write_bytes(b"PK")


def _aws_world(bench: Bench) -> World:
    cloud: LocalAws = bench.cloud
    s3 = cloud.client("s3")
    names = [one["Name"] for one in s3.list_buckets()["Buckets"]]
    listed = {name: [one["Key"] for one in s3.list_objects_v2(Bucket=name).get("Contents", ())] for name in names}
    schedules = cloud.client("scheduler").list_schedules()["Schedules"]
    rules = [one for place in ("events", "events@home") for one in cloud.client(place).list_rules()["Rules"]]
    return {
        "held": bench.terraform.held(),
        "exports": cloud.exports(),
        "instances": cloud.instances(),
        "buckets": {name: _kinds(keys) for name, keys in listed.items()},
        "triggers": sorted((one["Name"], one["State"]) for one in (*schedules, *rules)),
    }


def _azure() -> LocalAzure:
    return LocalAzure(subscriptions=2, limits=UNLIMITED)


def _exports(bench: Bench) -> None:
    """An export of ours in the first subscription, and one of the customer in the second."""
    cloud: LocalAzure = bench.cloud
    first, second = cloud.subscription_ids
    cloud.create_exports([first], name=f"TailpipeDataExport-{first[-6:]}")
    for export in cloud.world.exports.at(f"/subscriptions/{first}"):
        body = export.body()
        body["properties"]["exportDescription"] = DESCRIPTION
        body["properties"]["deliveryInfo"]["destination"]["rootFolderPath"] = f"tailpipe/subscriptions/{first}"
        export.stored = msgspec.json.encode(body)
    cloud.create_exports([second], name="Finance")
    bench.terraform.hold(MODULE_STATE["azure"])


def _azure_with_function() -> LocalAzure:
    return LocalAzure(subscriptions=2, limits=UNLIMITED, start=start_app)


def _azure_planned(bench: Bench) -> None:
    """A first deployment: Terraform has no state, and plans what exists and what does not."""
    cloud: LocalAzure = bench.cloud
    site, account = cloud.site, cloud.destinations[0]
    bench.terraform.plan(
        [
            change("azurerm_resource_group.this", name=site.group, location="westeurope"),
            change(
                f'azurerm_storage_account.destination["{account.name}"]',
                name=account.name,
                resource_group_name=site.group,
            ),
            change("azurerm_service_plan.this", name=site.name, resource_group_name=site.group),
            change("azurerm_monitor_action_group.this[0]", name="new", resource_group_name=site.group),
        ]
    )
    (bench.folder / "given.zip").write_bytes(b"PK")


def _azure_world(bench: Bench) -> World:
    return {
        "held": bench.terraform.held(),
        "exports": sorted(one["name"] for one in bench.cloud.exports()),
        "accounts": sorted(bench.cloud.world.accounts),
    }


def _gcp() -> LocalGcp:
    return LocalGcp(accounts=1, done=1, history_days=1, rows=2, kinds=("standard",))


def _gcp_with_function() -> LocalGcp:
    return LocalGcp(accounts=1, done=1, history_days=1, rows=2, kinds=("standard",), runtime=runtime)


def _copies(bench: Bench) -> None:
    """Copies in the bucket, and everything in the state of Terraform."""
    bench.cloud.put_object("copies/1.parquet", "x")
    bench.terraform.hold(MODULE_STATE["gcp"])


def _planned(bench: Bench) -> None:
    """A first deployment: Terraform has no state, and plans what exists and what does not."""
    deployment = bench.cloud.deployment
    # A call by address returns at once; for a call by schedule, the command waits for the report.
    bench.cloud.set_ingress("ALLOW_ALL")
    bench.terraform.plan(
        [
            change("google_storage_bucket.export", name=deployment.bucket, project=bench.cloud.project),
            change("google_bigquery_dataset.export", dataset_id="billing_export", project=bench.cloud.project),
            change("google_monitoring_notification_channel.email", display_name="new", project=bench.cloud.project),
        ]
    )
    (bench.folder / "given.zip").write_bytes(b"PK")


def _kinds(names: list[str]) -> list[str]:
    """Return the names of objects without what differs from run to run."""
    return sorted({re.sub(r"\d{8}T[\dZ.]+-\w+|[0-9a-f]{8,}", "…", one) for one in names})


def _gcp_world(bench: Bench) -> World:
    cloud: LocalGcp = bench.cloud
    schedules = [cloud.resource(one).get("state") for one in cloud.resources("/jobs/")]
    return {
        "held": bench.terraform.held(),
        "buckets": {name: _kinds(one.objects.names("")) for name, one in cloud.world.buckets.all.items()},
        "tables": cloud.tables(),
        "schedules": schedules,
    }


def _deploy(cloud: str, bench: Bench, **values: str) -> list[str]:
    """Return the arguments of a deployment."""
    given = {"environment": "prod", "package": str(bench.folder / "given.zip"), **values}
    return ["deploy", cloud, "--yes", *(part for name, one in given.items() for part in ("--var", f"{name}={one}"))]


def _destroy(cloud: str, bench: Bench, place: str, *options: str) -> list[str]:
    """Return the arguments of a removal."""
    return ["destroy", cloud, *options, "--confirm", place, "--local-state", str(bench.folder / "state")]


# A deployment calls the function, in the real runtime, which takes seconds.
DEPLOY_WAYS = ("lost", "login page", "503", *KILLS)
COMMANDS: Mapping[str, Command] = {
    "aws/destroy": Command(
        "aws",
        _aws,
        _run_once,
        lambda bench: _destroy("aws", bench, bench.cloud.account, "--delete-exports", "--delete-data"),
        _aws_world,
    ),
    "azure/destroy": Command(
        "azure",
        _azure,
        _exports,
        lambda bench: _destroy("azure", bench, bench.cloud.tenant, "--delete-exports", "--keep-identity"),
        _azure_world,
    ),
    "gcp/destroy": Command(
        "gcp",
        _gcp,
        _copies,
        lambda bench: _destroy("gcp", bench, bench.cloud.project, "--delete-exports", "--delete-data"),
        _gcp_world,
    ),
    "aws/deploy": Command(
        "aws",
        _aws,
        _aws_planned,
        lambda bench: _deploy("aws", bench, external_id=EXTERNAL_ID),
        _aws_world,
        DEPLOY_WAYS,
    ),
    "azure/deploy": Command(
        "azure",
        _azure_with_function,
        _azure_planned,
        lambda bench: _deploy(
            "azure", bench, location="westeurope", storage_account_name=bench.cloud.destinations[0].name
        ),
        _azure_world,
        DEPLOY_WAYS,
    ),
    "gcp/deploy": Command(
        "gcp",
        _gcp_with_function,
        _planned,
        lambda bench: _deploy(
            "gcp",
            bench,
            tailpipe_tenant="tenant-of-this-machine",
            tailpipe_issuer=bench.cloud.world.issuer,
            tailpipe_audience="https://audience.example.com",
        ),
        _gcp_world,
        DEPLOY_WAYS,
    ),
}
