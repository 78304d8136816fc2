"""The operator's rights on AWS, and whether what is deployed works."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from botocore.exceptions import BotoCoreError, ClientError

from aws_lambda.resources.bucket_policy import EXPORTS_SID, sid_of, statements_of
from aws_lambda.settings import AwsSettings, read_settings
from aws_lambda.targets import BY_NAME
from cli.deployment.aws.session import Aws, gone, message_of, refused
from cli.deployment.model import Finding, Place
from cli.deployment.terraform.root_module import INFRA
from shared.errors import SettingsError

OPERATOR_RIGHTS = INFRA / "aws" / "operator.yaml"
POLICIES = ("infra/aws/operator-deploy-policy.json", "infra/aws/operator-destroy-policy.json")
ACTIONS_A_CALL = 100  # most that one simulation takes, by botocore's model


def operator_grants(path: Path = OPERATOR_RIGHTS) -> dict[str, list[dict[str, Any]]]:
    """Return what deploying and destroying needs: lists of grants with `id`, `why`, `actions`, and maybe `when`."""
    document: dict[str, list[dict[str, Any]]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def rights(aws: Aws, place: Place, *, alone: bool = False) -> list[Finding]:
    """Ask IAM's simulator for each action of the operator's, on what it will be used on.

    `alone`: nothing is deployed to other accounts, and what only that needs is left out.
    """
    source = _principal(aws, place)
    wanted = _wanted(aws, place, alone=alone)
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


def _wanted(aws: Aws, place: Place, *, alone: bool) -> dict[str, list[str]]:
    """Return each action of the operator's with examples of what it is used on."""
    found: dict[str, list[str]] = {}
    for grants in operator_grants().values():
        for grant in grants:
            if alone and grant.get("when") == "members":
                continue
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
        return Finding(what, False if gone(error) else None, message_of(error), "Call tailpipe-exports invoke aws.")
    sids = [sid_of(one) for one in statements_of(json.loads(answer["Policy"]))]
    if EXPORTS_SID in sids:
        return Finding(what, True, "by the bucket's policy")
    return Finding(what, False, "the bucket's policy has not got our statement", "Call tailpipe-exports invoke aws.")


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
    yield Finding(
        f"role {name} trusts Tailpipe alone",
        _trusts(document, settings.principal),
        settings.principal,
        "Look who else is trusted by it, and deploy again.",
    )
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
    return bool(found) and all(one in ({"AWS": principal}, {"AWS": [principal]}) for one in found)


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
