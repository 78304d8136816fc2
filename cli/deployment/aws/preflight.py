"""Checks before a deployment to AWS: what would make it fail, or make it adopt resources of others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from botocore.exceptions import ClientError

from aws_lambda.targets import BY_NAME
from cli.deployment.aws.account_kind import STANDALONE
from cli.deployment.aws.functions import HANDLER
from cli.deployment.aws.session import FUNCTION, MARK, OURS, Session, code_of, gone, message_of, refused
from cli.deployment.aws.verify import external_ids
from cli.deployment.model import Finding

# The role's logical id in our template and in that of the earlier scripts; see infra/aws/child-connector.yaml.
MEMBER_RESOURCE = "TailpipeCloudWatchRole"
# AWS keeps this many executions unreserved: "Configuring reserved concurrency", AWS Lambda Developer Guide.
UNRESERVED = 100
# The default of the variable fleet_concurrency; Lambda reserves two executions more.
FLEET_CONCURRENCY = 40


def preflight(session: Session, given: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield the checks; `ok` False stops the deployment."""
    yield _bucket(session, given)
    yield _function(session, given)
    yield from _others(session, given)
    yield from _roles(session, given)
    yield _concurrency(session, given)
    yield from _exports(session, given)
    if given.get("account_kind", "management") == "management" and session.place.kind != STANDALONE:
        yield _access(session, given)
        yield _stackset(session, given)


def _bucket_name(session: Session, given: Mapping[str, Any]) -> str:
    return str(given.get("bucket_name") or f"tailpipe-dataexport-{session.place.id}")


def _bucket(session: Session, given: Mapping[str, Any]) -> Finding:
    name = _bucket_name(session, given)
    try:
        region = str(session.aws.client("s3").head_bucket(**session.owned(name)).get("BucketRegion", ""))
    except ClientError as error:
        if code_of(error) in ("404", "NoSuchBucket"):
            return Finding(f"bucket {name}", True, "the name is free")
        return Finding(
            f"bucket {name}",
            False,
            "belongs to another account, or you may not read it",
            "Choose another name: --var bucket_name=NAME.",
        )
    if region and region != session.aws.region:
        return Finding(
            f"bucket {name}",
            False,
            f"is in {region}, and this deployment is for {session.aws.region}",
            f"Deploy there: set AWS_REGION={region}; or choose another name: --var bucket_name=NAME.",
        )
    return Finding(f"bucket {name}", True, "exists in this account and is adopted")


def _function(session: Session, given: Mapping[str, Any]) -> Finding:
    name = _function_name(given)
    client = session.aws.client("lambda")
    try:
        arn = client.get_function_configuration(FunctionName=name)["FunctionArn"]
        tags = client.list_tags(Resource=arn).get("Tags", {})
    except ClientError as error:
        if gone(error):
            return Finding(f"function {name}", True, "the name is free")
        return Finding(f"function {name}", None, message_of(error))
    if tags.get(MARK) == OURS:
        return Finding(f"function {name}", True, "is already deployed and will be updated")
    return Finding(
        f"function {name}",
        False,
        "exists and is not marked as ours",
        "Choose another name that begins with tailpipe-: --var function_name=NAME; that function is not touched.",
    )


def _others(session: Session, given: Mapping[str, Any]) -> Iterator[Finding]:
    """Check that the region has no other deployment: both would manage the same exports, bucket and roles."""
    what = "no other deployment in this region"
    try:
        pages = session.aws.client("lambda").get_paginator("list_functions").paginate()
        ours = sorted(
            str(one["FunctionName"]) for page in pages for one in page["Functions"] if one.get("Handler") == HANDLER
        )
    except ClientError as error:
        yield Finding(what, None, message_of(error), "Grant lambda:ListFunctions to check this.")
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


def _roles(session: Session, given: Mapping[str, Any]) -> Iterator[Finding]:
    """Check the roles that a deployment would adopt, because it replaces their trust and policies."""
    function = _function_name(given)
    forward = ("-forward",) if session.aws.region != session.aws.home else ()
    rounds = ("-rounds", "-rounds-schedule") if given.get("fleet") else ()
    for suffix in ("", "-schedule", *forward, *rounds):
        remedy = "Choose another name that begins with tailpipe-: --var function_name=NAME; that role is not touched."
        yield _role(session, f"{function}{suffix}", "", remedy)
    connector = str(given.get("connector_role_name") or "tailpipe-connector-role")
    # The earlier scripts set no tags; their role is recognized by its trusted principal.
    trusted = str(given.get("tailpipe_principal_arn") or ":role/TailpipeConnector-")
    remedy = "Rename or remove that role, or add --var connector_role_name=NAME; it is not touched by this tool."
    yield _role(session, connector, trusted, remedy)
    yield from _external_id(session, connector, given)
    for tenant in given.get("tenant_connectors") or ():
        yield _role(session, f"{connector}-{tenant}", trusted, remedy)


def _external_id(session: Session, name: str, given: Mapping[str, Any]) -> Iterator[Finding]:
    """Check that Tailpipe can still assume an adopted role. The External IDs are never shown."""
    try:
        role = session.aws.client("iam").get_role(RoleName=name)["Role"]
    except ClientError:
        return  # it does not exist, or the check of the role reports the error
    asked = set(external_ids(role.get("AssumeRolePolicyDocument", {})))
    accepted = {str(given[one]) for one in ("external_id", "external_id_previous") if given.get(one)}
    if not asked or not accepted:
        return
    what = f"the External ID that role {name} requires"
    if asked & accepted:
        yield Finding(what, True, "is the given one")
        return
    # For our own role, the change is intended, for instance because the old id has leaked.
    ours = _marked(role.get("Tags", ()))
    yield Finding(
        what,
        None if ours else False,
        "differs from the given one: Tailpipe, which still uses it, "
        f"{'is' if ours else 'would be'} locked out of this account and of every member account",
        "Use the one that Tailpipe has (TF_VAR_external_id). If it is being changed, give the one before as "
        "TF_VAR_external_id_previous; both are accepted then.",
    )


def _role(session: Session, name: str, trusted: str, remedy: str) -> Finding:
    what = f"role {name}"
    try:
        role = session.aws.client("iam").get_role(RoleName=name)["Role"]
    except ClientError as error:
        return Finding(what, True, "the name is free") if gone(error) else Finding(what, None, message_of(error))
    if trusted and trusted in json.dumps(role.get("AssumeRolePolicyDocument", {})):
        return Finding(what, True, "exists, trusts Tailpipe, and is adopted")
    if _marked(role.get("Tags", ())):
        return Finding(what, True, "exists, is marked as ours, and is adopted")
    trust = ", does not trust Tailpipe" if trusted else ""
    return Finding(what, False, f"exists{trust} and is not marked as ours", remedy)


def _marked(tags: Any) -> bool:
    marks = {str(tag.get("Key")): str(tag.get("Value")) for tag in tags}
    return OURS in (marks.get(MARK), marks.get(f"tailpipe:{MARK}"))


def _concurrency(session: Session, given: Mapping[str, Any]) -> Finding:
    wanted = int(given.get("fleet_concurrency") or FLEET_CONCURRENCY) + 2 if given.get("fleet") else 1
    what = f"room for {wanted} reserved executions" if wanted > 1 else "room for one reserved execution"
    if str(given.get("reserved_concurrency", "")).startswith("-"):
        return Finding(what, True, "none is reserved")
    reserved = 0
    try:
        found = session.aws.client("lambda").get_function(FunctionName=_function_name(given))
        reserved = int(found.get("Concurrency", {}).get("ReservedConcurrentExecutions", 0))
        if not given.get("fleet"):
            return Finding(what, True, "the function already exists")
        if reserved >= wanted:
            return Finding(what, True, "the function already has it")
    except ClientError as error:
        if not gone(error):
            return Finding(what, None, message_of(error))
    try:
        limits = session.aws.client("lambda").get_account_settings()["AccountLimit"]
    except ClientError as error:
        return Finding(what, None, message_of(error))
    left = int(limits["UnreservedConcurrentExecutions"])
    if left + reserved >= UNRESERVED + wanted:
        return Finding(what, True, f"{left} executions are unreserved")
    return Finding(
        what,
        False,
        f"only {left} executions are unreserved, and AWS keeps {UNRESERVED} of them",
        "Request a higher quota (Service Quotas → AWS Lambda → Concurrent executions), or add "
        "--var reserved_concurrency=-1: concurrent runs do no harm but cost calls.",
    )


def _exports(session: Session, given: Mapping[str, Any]) -> Iterator[Finding]:
    what = "room for the export"
    client = session.aws.client("bcm-data-exports")
    try:
        exports = [one for page in client.get_paginator("list_exports").paginate() for one in page["Exports"]]
    except ClientError as error:
        yield Finding(what, None if refused(error) else False, message_of(error))
        return
    names = {one["ExportName"] for one in exports}
    # An account may have five exports of the cost and usage table; other tables have their own quotas.
    if len(exports) < 5 or "tailpipe-dataexport" in names:
        yield Finding(what, True, f"{len(exports)} exports exist")
    else:
        yield Finding(
            what,
            None,
            f"{len(exports)} exports exist, and five of the cost and usage table are allowed",
            "Delete one of that table if the first run says that the quota is reached.",
        )
    for one in exports:
        if one["ExportName"] in BY_NAME:
            yield _destination(client, one, _bucket_name(session, given))


def _destination(client: Any, listed: Mapping[str, Any], bucket: str) -> Finding:
    """Check that an export of our name delivers to this deployment's bucket, and so belongs to no other deployment."""
    name, arn = str(listed["ExportName"]), str(listed["ExportArn"])
    what = f"export {name}"
    try:
        export = client.get_export(ExportArn=arn)["Export"]
    except ClientError as error:
        return Finding(what, None, message_of(error))
    found = str(export["DestinationConfigurations"]["S3Destination"]["S3Bucket"])
    if found == bucket:
        return Finding(what, True, f"exists and delivers to {bucket}")
    region = arn.split(":")[3]
    return Finding(
        what,
        False,
        f"exists and delivers to bucket {found}, and this deployment is for bucket {bucket}",
        "If another deployment in this account keeps it, bring that one up to date (with its region and names), or "
        "remove it first: tailpipe-exports destroy aws. If none does: aws bcm-data-exports delete-export "
        f"--export-arn {arn} --region {region}",
    )


def _access(session: Session, given: Mapping[str, Any]) -> Finding:
    what = "StackSets' access to the organization"
    try:
        status = session.aws.client("cloudformation").describe_organizations_access().get("Status")
    except ClientError as error:
        return Finding(what, None, message_of(error))
    if status == "ENABLED":
        return Finding(what, True, "on")
    if given.get("organizations_access", "activate") == "activate":
        return Finding(what, True, "off; this deployment turns it on, and nothing turns it off again")
    return Finding(
        what, False, "off", f"aws cloudformation activate-organizations-access --region {session.aws.region}"
    )


def _stackset(session: Session, given: Mapping[str, Any]) -> Finding:
    name = str(given.get("stackset_name") or "Tailpipe-CloudWatch-Child-StackSet")
    try:
        found = session.aws.client("cloudformation").describe_stack_set(StackSetName=name)["StackSet"]
    except ClientError as error:
        if gone(error):
            return Finding(f"StackSet {name}", True, "the name is free")
        return Finding(f"StackSet {name}", None, message_of(error))
    if found.get("PermissionModel") != "SERVICE_MANAGED":
        return Finding(
            f"StackSet {name}",
            False,
            "exists with self-managed permissions, which cannot be changed",
            "Delete its instances and the StackSet, then deploy again.",
        )
    wrong = _template_faults(str(found.get("TemplateBody", "")))
    if not wrong:
        return Finding(f"StackSet {name}", True, "exists and is adopted with its instances")
    return Finding(
        f"StackSet {name}",
        False,
        f"exists, and its template is not the one that can be adopted: {wrong}",
        "Keep it, and deploy beside it: --var stackset_name=Tailpipe-NAME --var member_role_name=NAME. Or delete its "
        "instances and the StackSet, then deploy again; members are without the role in between.",
    )


def _template_faults(body: str) -> str:
    """Return how an update to our template would damage the accounts, or "".

    CloudFormation creates a resource with a new logical id before it deletes the old one, so a role that keeps its name
    fails in every account; resources that our template lacks are deleted in every account.
    """
    try:
        # JSON may be indented by tabs, which YAML does not accept.
        document = json.loads(body) if body.lstrip().startswith("{") else yaml.load(body, _Template)  # noqa: S506 - a SafeLoader's subclass
        resources = dict(document["Resources"])
    except (yaml.YAMLError, TypeError, KeyError, ValueError):
        return "it cannot be read"
    faults = []
    if MEMBER_RESOURCE not in resources:
        faults.append(f"its role is not called {MEMBER_RESOURCE}, and would be created before the old one is deleted")
    others = sorted(str(one) for one in resources if one != MEMBER_RESOURCE)
    if others:
        faults.append(f"it also has {', '.join(others)}, which would be deleted in every account")
    return "; ".join(faults)


class _Template(yaml.SafeLoader):
    """A loader of YAML and JSON that accepts CloudFormation's short forms and ignores their values."""


_Template.add_multi_constructor("!", lambda _loader, _suffix, _node: None)
