"""Helpers of the local AWS's tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from localcloud.aws.cloud import LocalAws
from localcloud.aws.services.organization import Organization

START = datetime(2026, 3, 15, 12, tzinfo=UTC)
STACK_SET = "Tailpipe-CloudWatch-Child-StackSet"
ROLE = "tailpipe-child-connector"
OTHER_MANAGEMENT = "999988887777"


def definition(cloud: LocalAws, name: str = "tailpipe-dataexport", **changes: Any) -> dict[str, Any]:
    """Return a valid export; `changes` replace its query, configuration or destination."""
    table = changes.pop("table", "COST_AND_USAGE_REPORT")
    default = {"COST_AND_USAGE_REPORT": "bill_bill_type, line_item_usage_account_id", "CARBON_EMISSIONS": "location"}
    columns = changes.pop("columns", default.get(table, "BilledCost"))
    query: dict[str, Any] = {"QueryStatement": f"SELECT {columns} FROM {table}"}  # noqa: S608 - Data Exports' own query language
    if "properties" in changes:
        query["TableConfigurations"] = {table: changes.pop("properties")}
    output = {"OutputType": "CUSTOM", "Format": "TEXT_OR_CSV", "Compression": "GZIP", "Overwrite": "OVERWRITE_REPORT"}
    output |= changes.pop("output", {})
    destination = {
        "S3Bucket": cloud.deployment.bucket,
        "S3Prefix": "dataexport",
        "S3Region": cloud.region,
        "S3BucketOwner": cloud.account,
        "S3OutputConfigurations": output,
    }
    destination |= changes.pop("destination", {})
    return {
        "Name": name,
        "DataQuery": query,
        "DestinationConfigurations": {"S3Destination": destination},
        "RefreshCadence": {"Frequency": "SYNCHRONOUS"},
        **changes,
    }


def create_export(cloud: LocalAws, name: str = "tailpipe-dataexport", **changes: Any) -> str:
    """Create an export through boto3 and return its ARN."""
    export = definition(cloud, name, **changes)
    arn: str = cloud.client("bcm-data-exports").create_export(Export=export)["ExportArn"]
    return arn


def members(cloud: LocalAws) -> list[str]:
    """Return the ids of the member accounts."""
    organization = cloud.organization
    assert organization is not None
    return [one.id for one in organization.listed() if one.id != organization.management]


def root(cloud: LocalAws) -> str:
    """Return the id of the organization's root."""
    assert cloud.organization is not None
    return cloud.organization.root.id


def targets(cloud: LocalAws, accounts: list[str] | None = None, how: str = "INTERSECTION") -> dict[str, Any]:
    """Return DeploymentTargets of the root, limited to accounts if any are given."""
    chosen: dict[str, Any] = {"OrganizationalUnitIds": [root(cloud)]}
    return chosen if accounts is None else chosen | {"Accounts": accounts, "AccountFilterType": how}


def create_instances(cloud: LocalAws, accounts: list[str] | None = None, **more: Any) -> str:
    """Create stack instances in the cloud's region; return the operation's id."""
    more.setdefault("DeploymentTargets", targets(cloud, accounts))
    answer = cloud.client("cloudformation").create_stack_instances(
        StackSetName=STACK_SET, Regions=[cloud.region], **more
    )
    return str(answer["OperationId"])


def operation(cloud: LocalAws, identity: str) -> dict[str, Any]:
    """Return the response of DescribeStackSetOperation."""
    answer = cloud.client("cloudformation").describe_stack_set_operation(StackSetName=STACK_SET, OperationId=identity)
    return dict(answer["StackSetOperation"])


def statuses(cloud: LocalAws) -> dict[str, tuple[str, str]]:
    """Return (Status, DetailedStatus) of each account's instance."""
    pages = cloud.client("cloudformation").get_paginator("list_stack_instances").paginate(StackSetName=STACK_SET)
    return {
        one["Account"]: (one["Status"], one["StackInstanceStatus"]["DetailedStatus"])
        for page in pages
        for one in page["Summaries"]
    }


def join_another_organization(cloud: LocalAws) -> None:
    """Make the account a member of an organization that OTHER_MANAGEMENT manages."""
    other = Organization(cloud.clock, cloud.partition, OTHER_MANAGEMENT)
    other.id = "o-zz99zz99zz"
    other.join("ours", "ours@example.com", identity=cloud.account, method="INVITED")
    _belong_to(cloud, other)


def manage_another_organization(cloud: LocalAws, members: int) -> None:
    """Make the account the management account of a new organization with a number of members."""
    own = Organization(cloud.clock, cloud.partition, cloud.account)
    own.id = "o-new1new2ne"
    _belong_to(cloud, own)
    for number in range(members):
        cloud.join_account(name=f"new-{number}")


def leave_own_organization(cloud: LocalAws) -> None:
    """Remove all members from the account's organization, and delete it."""
    for account in members(cloud):
        cloud.remove_account(account)
    cloud.client("organizations").delete_organization()


def _belong_to(cloud: LocalAws, organization: Organization) -> None:
    organizations = cloud.world.organizations
    organizations.organization = organization
    for attach in organizations.on_create:
        attach(organization)
