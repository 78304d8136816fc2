"""What would stop a deployment to AWS half way, or would take what is somebody else's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from cli.operate.aws_session import FUNCTION, MARK, OURS, Aws, code_of, gone, message_of, refused
from cli.operate.model import Finding, Place

# AWS keeps so many unreserved in every account: "Configuring reserved concurrency", AWS Lambda Developer Guide.
UNRESERVED = 100
# By infra/aws/function.tf; a listing shows it of every function, and no tags.
HANDLER = "aws_lambda.handler.handler"


def preflight(aws: Aws, place: Place, given: Mapping[str, Any]) -> Iterator[Finding]:
    """Look for what would stop a deployment half way."""
    yield _bucket(aws, place, given)
    yield _function(aws, given)
    yield from _others(aws, given)
    yield from _roles(aws, given)
    yield _concurrency(aws, given)
    yield _exports(aws)
    if given.get("account_kind", "management") == "management" and place.kind != "standalone account":
        yield _access(aws, given)
        yield _stackset(aws, given)


def _bucket(aws: Aws, place: Place, given: Mapping[str, Any]) -> Finding:
    name = str(given.get("bucket_name") or f"tailpipe-dataexport-{place.id}")
    try:
        region = str(aws.client("s3").head_bucket(Bucket=name, ExpectedBucketOwner=place.id).get("BucketRegion", ""))
    except ClientError as error:
        if code_of(error) in ("404", "NoSuchBucket"):
            return Finding(f"bucket {name}", True, "the name is free")
        return Finding(
            f"bucket {name}",
            False,
            "belongs to another account, or may not be looked at",
            "Choose another name: --var bucket_name=NAME.",
        )
    if region and region != aws.region:
        return Finding(
            f"bucket {name}",
            False,
            f"is in {region}, and Terraform works in {aws.region}",
            f"Deploy there: set AWS_REGION={region}; or choose another name: --var bucket_name=NAME.",
        )
    return Finding(f"bucket {name}", True, "exists in this account and is adopted")


def _function(aws: Aws, given: Mapping[str, Any]) -> Finding:
    name = _function_name(given)
    client = aws.client("lambda")
    try:
        arn = client.get_function_configuration(FunctionName=name)["FunctionArn"]
        tags = client.list_tags(Resource=arn).get("Tags", {})
    except ClientError as error:
        if gone(error):
            return Finding(f"function {name}", True, "the name is free")
        return Finding(f"function {name}", None, message_of(error))
    if tags.get(MARK) == OURS:
        return Finding(f"function {name}", True, "is deployed already and is brought up to date")
    return Finding(
        f"function {name}",
        False,
        "exists and does not carry our mark",
        "Choose another name that begins with tailpipe-: --var function_name=NAME; that function is not touched.",
    )


def _others(aws: Aws, given: Mapping[str, Any]) -> Iterator[Finding]:
    """Look for another deployment in the region: two of them would keep the same exports, bucket and roles."""
    what = "no other deployment in this region"
    try:
        pages = aws.client("lambda").get_paginator("list_functions").paginate()
        ours = sorted(
            str(one["FunctionName"]) for page in pages for one in page["Functions"] if one.get("Handler") == HANDLER
        )
    except ClientError as error:
        yield Finding(what, None, message_of(error), "Grant lambda:ListFunctions to see.")
        return
    for name in ours:
        if name != _function_name(given):
            yield Finding(
                what,
                False,
                f"function {name} keeps the same exports, bucket and roles",
                f"Update it instead: --var function_name={name}; or destroy it first: "
                f"TAILPIPE_EXPORTS_FUNCTION_NAME={name} tailpipe-exports destroy aws.",
            )


def _function_name(given: Mapping[str, Any]) -> str:
    return str(given.get("function_name") or FUNCTION)


def _roles(aws: Aws, given: Mapping[str, Any]) -> Iterator[Finding]:
    """Look for roles that a deployment would take over: adopted, their trust and policies would be replaced."""
    function = _function_name(given)
    for suffix in ("", "-schedule", *(("-forward",) if aws.region != aws.home else ())):
        remedy = "Choose another name that begins with tailpipe-: --var function_name=NAME; that role is not touched."
        yield _role(aws, f"{function}{suffix}", "", remedy)
    connector = str(given.get("connector_role_name") or "tailpipe-connector-role")
    # The earlier scripts marked nothing; whom their role trusts says that it is theirs.
    trusted = str(given.get("tailpipe_principal_arn") or ":role/TailpipeConnector-")
    remedy = "Rename or remove that role, or add --var connector_role_name=NAME; it is not touched by this tool."
    yield _role(aws, connector, trusted, remedy)


def _role(aws: Aws, name: str, trusted: str, remedy: str) -> Finding:
    what = f"role {name}"
    try:
        role = aws.client("iam").get_role(RoleName=name)["Role"]
    except ClientError as error:
        return Finding(what, True, "the name is free") if gone(error) else Finding(what, None, message_of(error))
    if trusted and trusted in json.dumps(role.get("AssumeRolePolicyDocument", {})):
        return Finding(what, True, "exists, trusts Tailpipe, and is adopted")
    if _marked(role.get("Tags", ())):
        return Finding(what, True, "exists, carries our mark, and is adopted")
    trust = ", does not trust Tailpipe" if trusted else ""
    return Finding(what, False, f"exists{trust} and does not carry our mark", remedy)


def _marked(tags: Any) -> bool:
    marks = {str(tag.get("Key")): str(tag.get("Value")) for tag in tags}
    return OURS in (marks.get(MARK), marks.get(f"tailpipe:{MARK}"))


def _concurrency(aws: Aws, given: Mapping[str, Any]) -> Finding:
    what = "room for one reserved execution"
    if str(given.get("reserved_concurrency", "")).startswith("-"):
        return Finding(what, True, "none is reserved")
    try:
        aws.client("lambda").get_function_configuration(FunctionName=_function_name(given))
        return Finding(what, True, "the function is there already")
    except ClientError as error:
        if not gone(error):
            return Finding(what, None, message_of(error))
    try:
        limits = aws.client("lambda").get_account_settings()["AccountLimit"]
    except ClientError as error:
        return Finding(what, None, message_of(error))
    left = int(limits["UnreservedConcurrentExecutions"])
    if left > UNRESERVED:
        return Finding(what, True, f"{left} executions are unreserved")
    return Finding(
        what,
        False,
        f"only {left} executions are unreserved, and AWS keeps {UNRESERVED} of them",
        "Ask for a higher quota (Service Quotas → AWS Lambda → Concurrent executions), or add "
        "--var reserved_concurrency=-1: runs at once do no harm, they only cost calls.",
    )


def _exports(aws: Aws) -> Finding:
    what = "room for the export"
    try:
        exports = [
            one
            for page in aws.client("bcm-data-exports").get_paginator("list_exports").paginate()
            for one in page["Exports"]
        ]
    except ClientError as error:
        return Finding(what, None if refused(error) else False, message_of(error))
    names = {one["ExportName"] for one in exports}
    # Five of the cost and usage table are allowed in an account; other tables have quotas of their own.
    if len(exports) < 5 or "tailpipe-dataexport" in names:
        return Finding(what, True, f"{len(exports)} exports are there")
    return Finding(
        what,
        None,
        f"{len(exports)} exports are there, and five of the cost and usage table are allowed",
        "Delete one of that table if the first run says that the quota is reached.",
    )


def _access(aws: Aws, given: Mapping[str, Any]) -> Finding:
    what = "StackSets' access to the organisation"
    try:
        status = aws.client("cloudformation").describe_organizations_access().get("Status")
    except ClientError as error:
        return Finding(what, None, message_of(error))
    if status == "ENABLED":
        return Finding(what, True, "on")
    if given.get("organizations_access", "activate") == "activate":
        return Finding(what, True, "off; this deployment turns it on, and nothing turns it off again")
    return Finding(what, False, "off", f"aws cloudformation activate-organizations-access --region {aws.region}")


def _stackset(aws: Aws, given: Mapping[str, Any]) -> Finding:
    name = str(given.get("stackset_name") or "Tailpipe-CloudWatch-Child-StackSet")
    try:
        found = aws.client("cloudformation").describe_stack_set(StackSetName=name)["StackSet"]
    except ClientError as error:
        if gone(error):
            return Finding(f"StackSet {name}", True, "the name is free")
        return Finding(f"StackSet {name}", None, message_of(error))
    if found.get("PermissionModel") == "SERVICE_MANAGED":
        return Finding(f"StackSet {name}", True, "exists and is adopted with its instances")
    return Finding(
        f"StackSet {name}",
        False,
        "exists with self-managed permissions, which cannot be changed",
        "Delete its instances and the StackSet, then deploy again.",
    )
