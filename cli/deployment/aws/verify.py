"""Checks of a deployment on AWS: schedule, destination, export, and the connector role."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from aws_lambda.resources.bucket_policy import sid_of, statements_of
from aws_lambda.settings import AwsSettings, read_settings
from aws_lambda.targets import BY_NAME, EXPORTS_SID
from cli.deployment.aws.functions import environment_of, missing
from cli.deployment.aws.session import Session, gone, message_of, refused
from cli.deployment.model import Finding
from shared.errors import SettingsError


def verify(session: Session) -> Iterator[Finding]:
    """Yield the checks of schedule, destination, export and connector; without a function, only that finding."""
    environment = environment_of(session)
    if environment is None:
        yield Finding("the function", False, missing(session).what, missing(session).remedy)
        return
    yield _schedule(session)
    try:
        settings = read_settings({**environment, "AWS_REGION": session.aws.region})
    except SettingsError as error:
        yield Finding("the function's settings", False, "; ".join(error.problems), "Deploy again.")
        return
    yield _destination(session, settings)
    yield from _export(session)
    yield from _connector(session, settings)


def _schedule(session: Session) -> Finding:
    function = session.function
    what = "the schedule starts the function"
    try:
        found = session.aws.client("scheduler").get_schedule(Name=function, GroupName=function)
        arn = session.aws.client("lambda").get_function_configuration(FunctionName=function)["FunctionArn"]
    except ClientError as error:
        return Finding(what, False if gone(error) else None, message_of(error), "Deploy again.")
    if found["Target"]["Arn"].split(":function:")[-1].split(":")[0] != arn.split(":function:")[-1].split(":")[0]:
        return Finding(what, False, f"it starts {found['Target']['Arn']}", "Deploy again.")
    if found["State"] != "ENABLED":
        return Finding(what, False, "it is disabled", "Deploy again, or enable it in EventBridge Scheduler.")
    return Finding(what, True, str(found["ScheduleExpression"]))


def _destination(session: Session, settings: AwsSettings) -> Finding:
    bucket = settings.bucket_of(session.place.id)
    what = f"the export service may write to {bucket}"
    try:
        answer = session.aws.client("s3", settings.bucket_region).get_bucket_policy(**session.owned(bucket))
    except ClientError as error:
        return Finding(what, False if gone(error) else None, message_of(error), "Call tailpipe-exports invoke aws.")
    sids = [sid_of(one) for one in statements_of(json.loads(answer["Policy"]))]
    if EXPORTS_SID in sids:
        return Finding(what, True, "by the bucket's policy")
    return Finding(what, False, "our statement is missing in the bucket's policy", "Call tailpipe-exports invoke aws.")


def _export(session: Session) -> Iterator[Finding]:
    client = session.aws.client("bcm-data-exports")
    try:
        listed = [one for page in client.get_paginator("list_exports").paginate() for one in page["Exports"]]
    except ClientError as error:
        yield Finding("the export", None, message_of(error))
        return
    ours = [one for one in listed if one["ExportName"] in BY_NAME]
    if not ours:
        yield Finding("the export", False, "no export of ours exists", "Read the report of the run above.")
    for one in ours:
        status = one.get("ExportStatus", {})
        well = status.get("StatusCode", "HEALTHY") == "HEALTHY"
        yield Finding(f"export {one['ExportName']}", well, str(status.get("StatusReason", "")), "Read the report.")


def _connector(session: Session, settings: AwsSettings) -> Iterator[Finding]:
    if not settings.principal:
        return
    name = settings.connector_role
    try:
        role = session.aws.client("iam").get_role(RoleName=name)["Role"]
    except ClientError as error:
        yield Finding(f"role {name}", False if gone(error) else None, message_of(error), "Deploy again.")
        return
    document = role.get("AssumeRolePolicyDocument", {})
    text = json.dumps(document)
    yield Finding(
        f"role {name} trusts only Tailpipe",
        _trusts(document, settings.principal),
        settings.principal,
        "Check who else it trusts, and deploy again.",
    )
    matches = any(settings.external_id_matches(one) for one in external_ids(document))
    yield Finding(
        f"role {name} requires the given External ID",
        matches if settings.external_id_hash else "sts:ExternalId" in text,
        "",
        "Deploy again with the External ID that Tailpipe has.",
    )
    yield _closed(session, str(role["Arn"]))


def _trusts(document: Mapping[str, Any], principal: str) -> bool:
    found = [one.get("Principal", {}) for one in statements_of(document) if one.get("Effect") == "Allow"]
    return bool(found) and all(one in ({"AWS": principal}, {"AWS": [principal]}) for one in found)


def external_ids(document: Mapping[str, Any]) -> list[str]:
    """Return the External IDs that a trust policy requires."""
    found: list[str] = []
    for one in statements_of(document):
        asked = one.get("Condition", {}).get("StringEquals", {}).get("sts:ExternalId", [])
        found += asked if isinstance(asked, list) else [asked]
    return [str(one) for one in found]


def _closed(session: Session, arn: str) -> Finding:
    """Try to assume the role without the External ID: AWS must refuse every caller, including the operator."""
    what = "the role is refused without the External ID"
    try:
        session.aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="tailpipe-verify", DurationSeconds=900)
    except ClientError as error:
        return Finding(what, True if refused(error) else None, "" if refused(error) else message_of(error))
    return Finding(what, False, "these credentials could assume it", "Check whom it trusts, and deploy again.")
