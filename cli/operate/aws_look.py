"""What is looked at before a deployment to AWS, and after it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from botocore.exceptions import BotoCoreError, ClientError

from aws_lambda.settings import AwsSettings, read_settings
from aws_lambda.shape import EXPORTS_SID, sid_of, statements_of
from aws_lambda.targets import BY_NAME
from cli.operate.aws_session import FUNCTION, Aws, code_of, gone, message_of, refused
from cli.operate.model import Finding, Place
from cli.operate.root import INFRA
from shared.errors import SettingsError

OPERATOR_RIGHTS = INFRA / "aws" / "operator.yaml"
POLICIES = ("infra/aws/operator-deploy-policy.json", "infra/aws/operator-destroy-policy.json")
ACTIONS_A_CALL = 100  # most that one simulation takes, by botocore's model
# AWS keeps so many unreserved in every account: "Configuring reserved concurrency", AWS Lambda Developer Guide.
UNRESERVED = 100
STACKSETS_TRUST = "member.org.stacksets.cloudformation.amazonaws.com"


def operator_grants(path: Path = OPERATOR_RIGHTS) -> dict[str, list[dict[str, Any]]]:
    """Return what deploying and destroying needs: lists of grants with `id`, `why`, `actions`."""
    document: dict[str, list[dict[str, Any]]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def rights(aws: Aws, place: Place) -> list[Finding]:
    """Ask IAM's simulator for each action of the operator's, on what it will be used on."""
    source = _principal(aws, place)
    wanted = _wanted(aws, place)
    if not source:
        return [Finding(action, True, "this is the account's root user") for action in sorted(wanted)]
    allowed: set[str] = set()
    for resource, actions in _by_resource(wanted).items():
        asked = {} if resource == "*" else {"ResourceArns": [resource]}
        for start in range(0, len(actions), ACTIONS_A_CALL):
            some = actions[start : start + ACTIONS_A_CALL]
            try:
                pages = aws.client("iam").get_paginator("simulate_principal_policy")
                answers = [
                    one
                    for page in pages.paginate(PolicySourceArn=source, ActionNames=some, **asked)
                    for one in page["EvaluationResults"]
                ]
            except (ClientError, BotoCoreError) as error:
                why = f"the simulator could not be asked: {message_of(error)}"
                remedy = "Grant iam:SimulatePrincipalPolicy to see."
                return [Finding(action, None, why, remedy) for action in sorted(wanted)]
            allowed |= {one["EvalActionName"] for one in answers if one["EvalDecision"] == "allowed"}
    return [
        Finding(action, True)
        if action in allowed
        else Finding(action, False, f"not allowed on {wanted[action][0]}", _grant(source))
        for action in sorted(wanted)
    ]


def _wanted(aws: Aws, place: Place) -> dict[str, list[str]]:
    """Return each action of the operator's with examples of what it is used on."""
    found: dict[str, list[str]] = {}
    for grants in operator_grants().values():
        for grant in grants:
            for action in grant["actions"]:
                # A role is IAM's, also where it is assumed.
                service = action.partition(":")[0].replace("sts", "iam")
                own = [one for one in grant["resources"] if one == "*" or one.split(":")[2] == service]
                found.setdefault(action, []).extend(example(aws, place, one) for one in own)
    return found


def example(aws: Aws, place: Place, pattern: str) -> str:
    """Return an ARN of this account that a grant's pattern is meant for; the simulator takes no patterns."""
    if pattern == "*":
        return pattern
    _, _, service, region, account, rest = pattern.split(":", 5)
    region = aws.region if region == "*" else region
    account = place.id if account == "*" else account
    rest = rest.replace("tailpipe-*", "tailpipe-exports").replace("Tailpipe-*", "Tailpipe-CloudWatch-Child-StackSet")
    return f"arn:{aws.partition}:{service}:{region}:{account}:{rest.replace('*', 'x')}"


def _by_resource(wanted: Mapping[str, list[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for action, resources in wanted.items():
        for resource in dict.fromkeys(resources):
            found.setdefault(resource, []).append(action)
    return found


def _principal(aws: Aws, place: Place) -> str:
    """Return the ARN whose policies count: the role behind a session; empty for the root user."""
    fields = place.caller.split(":")
    if len(fields) > 5 and fields[5] == "root":
        return ""
    if "assumed-role/" not in place.caller:
        return place.caller
    name = place.caller.split("/")[1]
    try:
        # A session's ARN leaves out the role's path.
        return str(aws.client("iam").get_role(RoleName=name)["Role"]["Arn"])
    except ClientError:
        return f"arn:{aws.partition}:iam::{place.id}:role/{name}"


def _grant(source: str) -> str:
    kind, _, name = source.split(":")[5].partition("/")
    name = name.rsplit("/", 1)[-1]
    if kind not in ("user", "role"):
        return f"Attach {' and '.join(POLICIES)} to {source}."
    account = source.split(":")[4]
    made = []
    for purpose, file in zip(("deploy", "destroy"), POLICIES, strict=True):
        policy = f"{':'.join(source.split(':')[:2])}:iam::{account}:policy/tailpipe-{purpose}"
        made.append(f"aws iam create-policy --policy-name tailpipe-{purpose} --policy-document file://{file}")
        made.append(f"aws iam attach-{kind}-policy --{kind}-name {name} --policy-arn {policy}")
    return " && ".join(made)


def preflight(aws: Aws, place: Place, given: Mapping[str, Any]) -> Iterator[Finding]:
    """Look for what would stop a deployment half way."""
    yield _bucket(aws, place, given)
    yield from _roles(aws, given)
    yield _concurrency(aws, given)
    yield _exports(aws)
    if given.get("account_kind", "management") == "management" and place.kind != "standalone account":
        yield _access(aws, given)
        yield _stackset(aws, given)


def _bucket(aws: Aws, place: Place, given: Mapping[str, Any]) -> Finding:
    name = str(given.get("bucket_name") or f"tailpipe-dataexport-{place.id}")
    try:
        aws.client("s3").head_bucket(Bucket=name, ExpectedBucketOwner=place.id)
    except ClientError as error:
        if code_of(error) in ("404", "NoSuchBucket"):
            return Finding(f"bucket {name}", True, "the name is free")
        return Finding(
            f"bucket {name}",
            False,
            "belongs to another account, or may not be looked at",
            "Choose another name: --var bucket_name=NAME.",
        )
    return Finding(f"bucket {name}", True, "exists in this account and is adopted")


def _roles(aws: Aws, given: Mapping[str, Any]) -> Iterator[Finding]:
    name = str(given.get("connector_role_name") or "tailpipe-connector-role")
    try:
        role = aws.client("iam").get_role(RoleName=name)["Role"]
    except ClientError as error:
        if gone(error):
            yield Finding(f"role {name}", True, "the name is free")
        else:
            yield Finding(f"role {name}", None, message_of(error))
        return
    wanted = str(given.get("tailpipe_principal_arn") or ":role/TailpipeConnector-")
    ours = wanted in json.dumps(role.get("AssumeRolePolicyDocument", {})) or _marked(role.get("Tags", ()))
    if ours:
        yield Finding(f"role {name}", True, "exists, trusts Tailpipe, and is adopted")
    else:
        yield Finding(
            f"role {name}",
            False,
            "exists, does not trust Tailpipe and does not carry our mark",
            "Rename or remove that role; it is not touched by this tool.",
        )


def _marked(tags: Any) -> bool:
    marks = {str(tag.get("Key")): str(tag.get("Value")) for tag in tags}
    return "tailpipe-exports" in (marks.get("managed-by"), marks.get("tailpipe:managed-by"))


def _concurrency(aws: Aws, given: Mapping[str, Any]) -> Finding:
    what = "room for one reserved execution"
    try:
        aws.client("lambda").get_function_configuration(FunctionName=str(given.get("function_name") or FUNCTION))
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


def verify(aws: Aws, place: Place, environment: Mapping[str, str], function: str) -> Iterator[Finding]:
    """Look whether what is deployed works."""
    yield _schedule(aws, function)
    try:
        settings = read_settings({**environment, "AWS_REGION": aws.region})
    except SettingsError as error:
        yield Finding("the function's settings", False, "; ".join(error.faults), "Deploy again.")
        return
    yield _destination(aws, place, settings)
    yield from _export(aws)
    yield from _connector(aws, settings)


def _schedule(aws: Aws, function: str) -> Finding:
    what = "the schedule starts the function"
    try:
        found = aws.client("scheduler").get_schedule(Name=function, GroupName=function)
        arn = aws.client("lambda").get_function_configuration(FunctionName=function)["FunctionArn"]
    except ClientError as error:
        return Finding(what, False if gone(error) else None, message_of(error), "Deploy again.")
    if found["Target"]["Arn"].split(":function:")[-1].split(":")[0] != arn.split(":function:")[-1].split(":")[0]:
        return Finding(what, False, f"it starts {found['Target']['Arn']}", "Deploy again.")
    if found["State"] != "ENABLED":
        return Finding(what, False, "it is disabled", "Deploy again, or enable it in EventBridge Scheduler.")
    return Finding(what, True, str(found["ScheduleExpression"]))


def _destination(aws: Aws, place: Place, settings: AwsSettings) -> Finding:
    bucket = settings.bucket_of(place.id)
    what = f"the export service may write to {bucket}"
    try:
        answer = aws.client("s3", settings.bucket_region).get_bucket_policy(Bucket=bucket, ExpectedBucketOwner=place.id)
    except ClientError as error:
        return Finding(what, False if gone(error) else None, message_of(error), "Call tailpipe invoke aws.")
    sids = [sid_of(one) for one in statements_of(json.loads(answer["Policy"]))]
    if EXPORTS_SID in sids:
        return Finding(what, True, "by the bucket's policy")
    return Finding(what, False, "the bucket's policy has not got our statement", "Call tailpipe invoke aws.")


def _export(aws: Aws) -> Iterator[Finding]:
    client = aws.client("bcm-data-exports")
    try:
        listed = [one for page in client.get_paginator("list_exports").paginate() for one in page["Exports"]]
    except ClientError as error:
        yield Finding("the export", None, message_of(error))
        return
    ours = [one for one in listed if one["ExportName"] in BY_NAME]
    if not ours:
        yield Finding("the export", False, "none of ours is there", "Read the report of the run above.")
    for one in ours:
        status = one.get("ExportStatus", {})
        well = status.get("StatusCode", "HEALTHY") == "HEALTHY"
        yield Finding(f"export {one['ExportName']}", well, str(status.get("StatusReason", "")), "Read the report.")


def _connector(aws: Aws, settings: AwsSettings) -> Iterator[Finding]:
    if not settings.principal:
        return
    name = settings.connector_role
    try:
        role = aws.client("iam").get_role(RoleName=name)["Role"]
    except ClientError as error:
        yield Finding(f"role {name}", False if gone(error) else None, message_of(error), "Deploy again.")
        return
    document = role.get("AssumeRolePolicyDocument", {})
    text = json.dumps(document)
    yield Finding(f"role {name} trusts Tailpipe alone", _trusts(document, settings.principal), settings.principal)
    matches = any(settings.external_id_matches(one) for one in external_ids(document))
    yield Finding(
        f"role {name} asks for the External ID that was given",
        matches if settings.external_id_hash else "sts:ExternalId" in text,
        "",
        "Deploy again with the External ID that Tailpipe has.",
    )
    yield _closed(aws, str(role["Arn"]))


def _trusts(document: Mapping[str, Any], principal: str) -> bool:
    found = [one.get("Principal", {}) for one in statements_of(document) if one.get("Effect") == "Allow"]
    named = [one.get("AWS") if isinstance(one, dict) else one for one in found]
    return bool(named) and all(one in (principal, [principal]) for one in named)


def external_ids(document: Mapping[str, Any]) -> list[str]:
    """Return the External IDs that a trust policy asks for."""
    found: list[str] = []
    for one in statements_of(document):
        asked = one.get("Condition", {}).get("StringEquals", {}).get("sts:ExternalId", [])
        found += asked if isinstance(asked, list) else [asked]
    return [str(one) for one in found]


def _closed(aws: Aws, arn: str) -> Finding:
    """Try the role without the External ID: it must be refused to everybody, the operator too."""
    what = "the role is refused without the External ID"
    try:
        aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="tailpipe-verify", DurationSeconds=900)
    except ClientError as error:
        return Finding(what, True if refused(error) else None, "" if refused(error) else message_of(error))
    return Finding(what, False, "these credentials could assume it", "Look who is trusted by it, and deploy again.")
