"""What Tailpipe needs to connect to an AWS deployment, read from the live account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from aws_lambda.settings import AwsSettings
from aws_lambda.targets import BY_NAME
from cli.deployment.aws.account_kind import MANAGEMENT
from cli.deployment.aws.functions import settings_of
from cli.deployment.aws.session import Session, gone
from cli.deployment.aws.verify import external_ids


def onboarding(session: Session) -> dict[str, Any]:
    """Return the document, with the keys of the earlier scripts. Raises ClientError."""
    settings = settings_of(session)
    role = _role(session, settings)
    management = session.place.kind == MANAGEMENT
    members = management and settings.account_kind == "management"
    root = session.aws.client("organizations").list_roots()["Roots"][0]["Id"] if members else None
    return {
        "awsAccountNumber": session.place.id,
        "region": session.place.region,
        "isManagementAccount": management,
        "organizationRootId": root,
        "tailpipe": {
            # The trust policy is the only place with its plain text.
            "externalId": next(iter(external_ids(role.get("AssumeRolePolicyDocument", {}))), None),
            "connectorRoleArn": settings.principal or None,
        },
        "costExport": {
            "name": "tailpipe-dataexport",
            "s3Bucket": settings.bucket_of(session.place.id),
            "s3Prefix": settings.prefix,
            "exportArn": _export_arn(session),
            "bcmRegion": session.aws.home,
        },
        "iamRole": {"name": settings.connector_role, "arn": role.get("Arn")},
        "childAccounts": _children(session, settings) if members else _no_children(settings),
    }


def _role(session: Session, settings: AwsSettings) -> Mapping[str, Any]:
    try:
        role: Mapping[str, Any] = session.aws.client("iam").get_role(RoleName=settings.connector_role)["Role"]
    except ClientError as error:
        if gone(error):
            return {}
        raise
    return role


def _export_arn(session: Session) -> str | None:
    for page in session.aws.client("bcm-data-exports").get_paginator("list_exports").paginate():
        for one in page["Exports"]:
            if one["ExportName"] == next(iter(BY_NAME)):
                return str(one["ExportArn"])
    return None


def _no_children(settings: AwsSettings) -> dict[str, Any]:
    return {
        "configured": False,
        "count": 0,
        "allAccounts": False,
        "selectedAccounts": [],
        "childRoleName": settings.member_role,
        "stackSetName": settings.stackset,
    }


def _children(session: Session, settings: AwsSettings) -> dict[str, Any]:
    client = session.aws.client("cloudformation")
    try:
        pages = client.get_paginator("list_stack_instances").paginate(StackSetName=settings.stackset)
        accounts = sorted({one["Account"] for page in pages for one in page["Summaries"]})
    except ClientError as error:
        if gone(error):
            return _no_children(settings)
        raise
    chosen = bool(settings.include_accounts or settings.include_ous or settings.exclude_accounts)
    return {
        "configured": True,
        "count": len(accounts),
        "allAccounts": not chosen,
        "selectedAccounts": accounts if chosen else [],
        "childRoleName": settings.member_role,
        "stackSetName": settings.stackset,
    }
