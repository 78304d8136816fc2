"""AWS's own paginators and waiters over the local AWS.

A paginator sees the same items, whatever the page size and however many pages are empty, and every operation that AWS
pages either pages here or answers 501.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError, WaiterError

from localcloud.aws.cloud import LocalAws
from localcloud.aws.validate import ANSWERED
from shared.runtime.clock import VirtualClock
from tests.localcloud.aws.helpers import ROLE, STACK_SET, START, create_export, create_instances, members, root

# Pages that the local cloud covers. All others must answer 501: a list that is silently empty proves nothing.
COVERED = {
    "bcm-data-exports": {"ListExecutions", "ListExports", "ListTables"},
    "billing": {"ListBillingViews"},
    "organizations": {
        "ListAWSServiceAccessForOrganization",
        "ListAccounts",
        "ListAccountsForParent",
        "ListOrganizationalUnitsForParent",
        "ListParents",
        "ListRoots",
    },
    "cloudformation": {
        "DescribeStackEvents",
        "DescribeStacks",
        "ListChangeSets",
        "ListExports",
        "ListStackInstances",
        "ListStackResources",
        "ListStackSetOperationResults",
        "ListStackSetOperations",
        "ListStackSets",
        "ListStacks",
    },
    # Further lists need a state machine, which the tests of the local Step Functions create.
    "stepfunctions": {"ListStateMachines"},
}


@pytest.fixture(scope="module", params=[0, 2], ids=["no empty pages", "every second page is empty"])
def cloud(request: pytest.FixtureRequest) -> Iterator[LocalAws]:
    """Return an organization with more than one of everything that is listed."""
    with LocalAws(accounts=6, clock=VirtualClock(START), empty_pages_every=request.param) as opened:
        for number in range(3):
            create_export(opened, f"export-{number}")
        organizations = opened.client("organizations")
        for name in ("one", "two", "three"):
            organizations.create_organizational_unit(ParentId=root(opened), Name=name)
        create_instances(opened)
        queues = {name: {"Type": "AWS::SQS::Queue"} for name in ("One", "Two", "Three")}
        output = {"Value": {"Ref": "One"}, "Export": {"Name": {"Ref": "AWS::StackName"}}}
        template = json.dumps({"Resources": queues, "Outputs": {"One": output}})
        for number in range(3):
            stack = opened.client("cloudformation").create_stack(StackName=f"stack-{number}", TemplateBody=template)
            opened.client("cloudformation").get_waiter("stack_create_complete").wait(
                StackName=stack["StackId"], WaiterConfig={"Delay": 0}
            )
        changed = template.replace("Three", "Four")
        for name in ("first", "second"):
            opened.client("cloudformation").create_change_set(
                StackName="stack-0", ChangeSetName=name, TemplateBody=changed
            )
        opened.advance(3600)
        yield opened


def arguments(cloud: LocalAws, service: str, operation: str) -> dict[str, Any]:
    """Return the required arguments of an operation, by their names in its model."""
    shape = cloud.client(service).meta.service_model.operation_model(operation).input_shape
    known: dict[str, Any] = {
        "ParentId": root(cloud),
        "ChildId": members(cloud)[0],
        "StackSetName": STACK_SET,
        "StackName": "stack-0",
    }
    if "ExportArn" in shape.required_members:
        known["ExportArn"] = cloud.client("bcm-data-exports").list_exports()["Exports"][0]["ExportArn"]
    if "OperationId" in shape.required_members:
        found = cloud.client("cloudformation").list_stack_set_operations(StackSetName=STACK_SET)["Summaries"]
        known["OperationId"] = found[0]["OperationId"]
    invented = {"list": [], "timestamp": START, "structure": {}, "integer": 1}
    return {name: known.get(name, invented.get(shape.members[name].type_name, "x")) for name in shape.required_members}


def items(cloud: LocalAws, service: str, operation: str, size: int | None) -> list[Any]:
    """Return all items that AWS's own paginator sees, and how many pages it read."""
    paginator = cloud.client(service).get_paginator(xform_name(operation))
    paging = {"PageSize": size} if size and "limit_key" in paginator._pagination_cfg else {}
    pages = paginator.paginate(**arguments(cloud, service, operation), PaginationConfig=paging)
    (key,) = (one.expression for one in pages.result_keys)
    return [item for page in pages for item in page.get(key, [])]


@pytest.mark.parametrize(
    ("service", "operation"), [(one, two) for one, names in COVERED.items() for two in sorted(names)]
)
def test_paginator_sees_every_item_once(cloud: LocalAws, service: str, operation: str) -> None:
    """One item a page gives what one page gives."""
    whole = items(cloud, service, operation, None)
    assert items(cloud, service, operation, 1) == whole
    assert len(whole) == len({str(one) for one in whole})


@pytest.mark.parametrize("service", sorted(ANSWERED))
def test_operation_that_is_not_covered_answers_501(cloud: LocalAws, service: str) -> None:
    """An empty list would be believed."""
    client = cloud.client(service)
    paged = {one for one in client.meta.service_model.operation_names if client.can_paginate(xform_name(one))}
    assert paged >= COVERED[service]
    for operation in sorted(paged - COVERED[service]):
        with pytest.raises(ClientError) as refused:
            items(cloud, service, operation, None)
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 404, 501), operation


@pytest.mark.parametrize("service", ["bcm-data-exports", "cloudformation", "organizations"])
def test_token_that_was_not_given_is_refused(cloud: LocalAws, service: str) -> None:
    """A damaged token must not start the list anew."""
    call = {"bcm-data-exports": "list_exports", "cloudformation": "list_stack_sets", "organizations": "list_accounts"}
    with pytest.raises(ClientError):
        getattr(cloud.client(service), call[service])(NextToken="damaged")


@pytest.mark.parametrize(
    ("service", "waiter", "given", "there"),
    [
        ("s3", "bucket_exists", {"Bucket": "BUCKET"}, True),
        ("s3", "bucket_not_exists", {"Bucket": "never-made"}, True),
        ("s3", "bucket_exists", {"Bucket": "never-made"}, False),
        ("iam", "role_exists", {"RoleName": "never-made"}, False),
    ],
)
def test_waiter_ends_as_the_world_is(
    cloud: LocalAws, service: str, waiter: str, given: dict[str, str], there: bool
) -> None:
    """Botocore's waiters know the statuses and codes by which AWS says so."""
    arguments = {name: value.replace("BUCKET", cloud.deployment.bucket) for name, value in given.items()}
    wait = cloud.client(service).get_waiter(waiter)
    once = {"Delay": 0, "MaxAttempts": 1}
    if there:
        wait.wait(**arguments, WaiterConfig=once)
    else:
        with pytest.raises(WaiterError, match="Max attempts exceeded"):
            wait.wait(**arguments, WaiterConfig=once)


def test_role_of_a_member_is_seen_by_the_waiter(cloud: LocalAws) -> None:
    """The StackSet has made it."""
    client = cloud.client("iam", account=members(cloud)[0])
    client.get_waiter("role_exists").wait(RoleName=ROLE, WaiterConfig={"Delay": 0, "MaxAttempts": 1})
