"""Determine which IAM actions on which resources an operation requires.

Source: AWS Service Authorization Reference; for Data Exports "Identity and access management for Data Exports" in the
user guide, for StackSets the resource types `stackset`, `stackset-target` and `type` of CloudFormation's page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from localcloud.aws.arns import Arns, Where
from localcloud.aws.services.export_query import table_of
from localcloud.common.data_file import read_table


class _ActionNames(msgspec.Struct, frozen=True):
    """Action names that cannot be derived from operation names.

    `s3`: actions by operation. `key_uses`: KMS actions that S3 performs on behalf of the caller; source: "Using
    server-side encryption with AWS KMS keys". `tags`: by service, the action that creating a resource with tags also
    requires.
    """

    s3: dict[str, str]
    key_uses: dict[str, str]
    tags: dict[str, str]


_ACTIONS = read_table(__file__, "required_actions.json", _ActionNames)
# Operations whose action has another name. GetCallerIdentity requires no permission.
_NAMED = {("lambda", "Invoke"): "lambda:InvokeFunction", ("sts", "GetCallerIdentity"): ""}
# Services whose prefix in actions differs from the name of their model.
_PREFIXES = {"stepfunctions": "states"}
_TAG_MEMBERS = ("Tags", "tags")
# "Activate trusted access for StackSets with AWS Organizations", CloudFormation User Guide: activation enables
# access for the service and creates its service-linked role.
_STACKSETS_ROLE = (
    "aws-service-role/stacksets.cloudformation.amazonaws.com/AWSServiceRoleForCloudFormationStackSetsOrgAdmin"
)
# The parameter with the role that is passed to a service, which requires iam:PassRole.
_PASSES: dict[tuple[str, str], Callable[[dict[str, Any]], Any]] = {
    ("lambda", "CreateFunction"): lambda params: params.get("Role"),
    ("lambda", "UpdateFunctionConfiguration"): lambda params: params.get("Role"),
    ("scheduler", "CreateSchedule"): lambda params: params.get("Target", {}).get("RoleArn"),
    ("scheduler", "UpdateSchedule"): lambda params: params.get("Target", {}).get("RoleArn"),
    ("stepfunctions", "CreateStateMachine"): lambda params: params.get("roleArn"),
    ("stepfunctions", "UpdateStateMachine"): lambda params: params.get("roleArn"),
    ("cloudformation", "CreateStack"): lambda params: params.get("RoleARN"),
    ("cloudformation", "UpdateStack"): lambda params: params.get("RoleARN"),
    ("cloudformation", "DeleteStack"): lambda params: params.get("RoleARN"),
    ("cloudformation", "CreateChangeSet"): lambda params: params.get("RoleARN"),
}


@dataclass(frozen=True)
class RequiredAction:
    """An IAM action that must be allowed on all of the ARNs in `resources`."""

    action: str
    resources: tuple[str, ...]


def needs_of(
    service: str, operation: str, params: dict[str, Any], where: Where, arns: Arns
) -> tuple[RequiredAction, ...]:
    """Return the actions that `operation` requires, the operation's own action first."""
    if not service or not operation:
        return ()
    if service == "s3":
        return _of_s3(operation, params, arns)
    action = _NAMED.get((service, operation), f"{_PREFIXES.get(service, service)}:{operation}")
    if not action:
        return ()
    own = RequiredAction(action, arns.of(service, operation, params, where))
    passes = _PASSES.get((service, operation))
    role = passes(params) if passes else None
    if role:
        return (own, RequiredAction("iam:PassRole", (str(role),)), *_tags(service, operation, params, own))
    if operation == "ActivateOrganizationsAccess":
        linked = f"arn:{arns.partition}:iam::{where.account}:role/{_STACKSETS_ROLE}"
        return (
            own,
            RequiredAction("organizations:EnableAWSServiceAccess", ("*",)),
            RequiredAction("iam:CreateServiceLinkedRole", (linked,)),
        )
    if service == "bcm-data-exports" and operation in ("CreateExport", "UpdateExport"):
        return _of_export(own, operation, params, where, arns)
    return (own, *_tags(service, operation, params, own))


def _tags(service: str, operation: str, params: dict[str, Any], own: RequiredAction) -> tuple[RequiredAction, ...]:
    tagged = any(params.get(member) for member in _TAG_MEMBERS)
    if tagged and service in _ACTIONS.tags and operation.startswith(("Create", "Put")):
        return (RequiredAction(_ACTIONS.tags[service], own.resources),)
    return ()


def _of_s3(operation: str, params: dict[str, Any], arns: Arns) -> tuple[RequiredAction, ...]:
    if "Bucket" not in params:
        return (RequiredAction(f"s3:{_ACTIONS.s3.get(operation, operation)}", ("*",)),)
    bucket = arns.bucket(str(params["Bucket"]))
    if operation == "DeleteObjects":
        keys_by_action: dict[str, list[str]] = {}
        for one in params.get("Delete", {}).get("Objects", []):
            action = "s3:DeleteObjectVersion" if one.get("VersionId") else "s3:DeleteObject"
            keys_by_action.setdefault(action, []).append(f"{bucket}/{one.get('Key', '')}")
        return tuple(RequiredAction(action, tuple(keys)) for action, keys in keys_by_action.items())
    target = f"{bucket}/{params['Key']}" if params.get("Key") is not None else bucket
    if operation == "CopyObject":
        source = params.get("CopySource", "")
        text = f"{source.get('Bucket')}/{source.get('Key')}" if isinstance(source, dict) else str(source).lstrip("/")
        return RequiredAction("s3:PutObject", (target,)), RequiredAction(
            "s3:GetObject", (arns.bucket(text.partition("?")[0]),)
        )
    own = RequiredAction(f"s3:{_ACTIONS.s3.get(operation, operation)}", (target,))
    use = _ACTIONS.key_uses.get(operation)
    key = arns.key_of(params, writing=operation != "GetObject") if use else ""
    return (own, RequiredAction(str(use), (key,))) if key else (own,)


def _of_export(
    own: RequiredAction, operation: str, params: dict[str, Any], where: Where, arns: Arns
) -> tuple[RequiredAction, ...]:
    export = params.get("Export", {})
    table = table_of(str(export.get("DataQuery", {}).get("QueryStatement", "")))
    # An export reads its table through a billing view, by default the primary one.
    chosen = export.get("DataQuery", {}).get("TableConfigurations", {}).get(table, {})
    view = str(chosen.get("BILLING_VIEW_ARN") or arns.primary_view(where))
    needed = [RequiredAction(own.action, (*own.resources, view))]
    if operation == "CreateExport":
        needed.append(RequiredAction("cur:PutReportDefinition", (arns.report(str(export.get("Name", "")), where),)))
        if params.get("ResourceTags"):
            needed.append(RequiredAction("bcm-data-exports:TagResource", own.resources[:1]))
    if table == "CARBON_EMISSIONS":
        needed.append(RequiredAction("sustainability:GetCarbonFootprintSummary", ("*",)))
    return tuple(needed)
