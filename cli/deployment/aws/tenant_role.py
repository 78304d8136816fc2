"""The CloudFormation template of the role in a tenant's payer, made from the function's grants in rights.yaml.

`infra/aws/tenant-role.yaml` is its result: the file that deployments publish and tenants launch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cli.deployment.grants import grants
from cli.deployment.terraform.root_module import INFRA

FILE = "tenant-role.yaml"
ROLE = "tailpipe-exports-tenant"
HEAD = """\
# Made by cli/deployment/aws/tenant_role.py from the grants in rights.yaml. Do not edit it.
"""
# The function's grants that its session in a payer needs too, with the condition under which the role has each.
GRANTS = {
    "SeeAccounts": "Management",
    "ListExports": "",
    "ReadExports": "",
    "ReadTables": "",
    "KeepExports": "",
    "PutReportDefinition": "",
    "ExportCarbon": "Carbon",
    "KeepBucket": "OwnBucket",
    "ListBucket": "OwnBucket",
    "ReadManifests": "OwnBucket",
    "KeepDeliveries": "Announced",
    "SeeRoot": "Members",
    "SeeOrganizationsAccess": "Members",
    "ReadStackSet": "Members",
    "DeployMemberRole": "Members",
    "ReadConnectorRole": "Members",
}
OWN_TRUST = {
    "Sid": "ReadOwnTrust",
    "Effect": "Allow",
    "Action": ["iam:GetRole"],
    "Resource": [{"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${RoleName}"}],
}
# A billing view that the account sees, such as one of an inbound billing transfer.
VIEW = {
    "Sid": "ExportBillingView",
    "Effect": "Allow",
    "Action": ["bcm-data-exports:CreateExport", "bcm-data-exports:UpdateExport", "billing:GetBillingView"],
    "Resource": [{"Ref": "BillingViewArn"}],
}
VALUES = {
    "partition": "${AWS::Partition}",
    "account": "${AWS::AccountId}",
    "home": "${HomeRegion}",
    "bucket": "${BucketName}",
    "prefix": "${Prefix}",
    "region": "${AWS::Region}",
    "stackset_name": "${StackSetName}",
    "connector_role": "${ConnectorRoleName}",
}


def template() -> dict[str, Any]:
    """Return the template as a document."""
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Lets a provider keep the cost exports of this payer; it cannot read the cost data.",
        "Parameters": {
            "ProviderAccount": _parameter("The AWS account of the provider.", r"\d{12}"),
            "ExternalId": {
                **_parameter("The External ID that the provider gave you.", r"[\w+=,.@:/-]*"),
                "MinLength": 16,
                "MaxLength": 1224,
                "NoEcho": True,
            },
            "RoleName": {**_parameter("The role's name.", r"[\w+=,.@-]{1,64}"), "Default": ROLE},
            "AccountKind": {
                "Type": "String",
                "Description": "management to list the organization's accounts, standalone for this account alone.",
                "AllowedValues": ["management", "standalone"],
                "Default": "management",
            },
            "BucketName": {
                **_parameter("The bucket in this account for the exports; empty: the provider's.", r"[a-z0-9.-]*"),
                "Default": "",
            },
            "Prefix": {
                **_parameter("The key prefix in this bucket.", r"[A-Za-z0-9!_.*'()/-]+"),
                "Default": "dataexport",
            },
            "AnnounceDeliveries": {
                "Type": "String",
                "Description": "Whether a document about each delivery is written beside the exports in this bucket.",
                "AllowedValues": ["true", "false"],
                "Default": "false",
            },
            "StackSetName": {
                **_parameter("A StackSet whose instances are kept in all accounts; empty: none.", r"[A-Za-z0-9-]*"),
                "Default": "",
            },
            "ConnectorRoleName": {
                **_parameter("The role of Tailpipe in this account, which is only read.", r"[\w+=,.@-]{1,64}"),
                "Default": "tailpipe-connector-role",
            },
            "ExportCarbon": {
                "Type": "String",
                "Description": "Whether carbon emissions are exported too.",
                "AllowedValues": ["true", "false"],
                "Default": "false",
            },
            "BillingViewArn": {
                **_parameter("A billing view of this account to export; empty: its own costs.", r"[\w:/+=.@-]*"),
                "Default": "",
            },
            "HomeRegion": {**_parameter("The region of AWS Data Exports.", r"[a-z0-9-]+"), "Default": "us-east-1"},
        },
        "Conditions": {
            "Management": {"Fn::Equals": [{"Ref": "AccountKind"}, "management"]},
            "OwnBucket": {"Fn::Not": [{"Fn::Equals": [{"Ref": "BucketName"}, ""]}]},
            "Carbon": {"Fn::Equals": [{"Ref": "ExportCarbon"}, "true"]},
            "View": {"Fn::Not": [{"Fn::Equals": [{"Ref": "BillingViewArn"}, ""]}]},
            "Members": {"Fn::Not": [{"Fn::Equals": [{"Ref": "StackSetName"}, ""]}]},
            "Announced": {
                "Fn::And": [{"Condition": "OwnBucket"}, {"Fn::Equals": [{"Ref": "AnnounceDeliveries"}, "true"]}]
            },
        },
        "Resources": {
            "TailpipeExportsTenantRole": {
                "Type": "AWS::IAM::Role",
                "Properties": {
                    "RoleName": {"Ref": "RoleName"},
                    "Description": "Entered by the provider's tailpipe-exports with the External ID of this tenant.",
                    "MaxSessionDuration": 3600,
                    "AssumeRolePolicyDocument": {
                        "Version": "2012-10-17",
                        "Statement": [
                            {
                                "Sid": "Provider",
                                "Effect": "Allow",
                                "Principal": {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${ProviderAccount}:root"}},
                                "Action": "sts:AssumeRole",
                                "Condition": {"StringEquals": {"sts:ExternalId": {"Ref": "ExternalId"}}},
                            }
                        ],
                    },
                    "Policies": [
                        {
                            "PolicyName": "tailpipe-exports",
                            "PolicyDocument": {
                                "Version": "2012-10-17",
                                "Statement": _statements(),
                            },
                        }
                    ],
                    "Tags": [{"Key": "managed-by", "Value": "tailpipe-exports"}],
                },
            }
        },
        "Outputs": {
            "RoleArn": {
                "Description": "Tell it to the provider: entry.role_arn of the tenant.",
                "Value": {"Fn::GetAtt": ["TailpipeExportsTenantRole", "Arn"]},
            }
        },
    }


def rendered() -> str:
    """Return the template as the text of the file: JSON, which is YAML too, below a comment."""
    return HEAD + json.dumps(template(), indent=2, ensure_ascii=False) + "\n"


def published() -> str:
    """Return the text of the file that is part of the deployment."""
    return (INFRA / "aws" / FILE).read_text(encoding="utf-8")


def _parameter(description: str, pattern: str) -> dict[str, Any]:
    return {"Type": "String", "Description": description, "AllowedPattern": pattern}


def _statements() -> list[dict[str, Any]]:
    """Return the statements of the role's policy; CloudFormation leaves out those whose condition does not hold.

    `tenants check` reads the role itself, to find out whom it trusts. Raises KeyError for a missing grant.
    """
    known = {one["id"]: one for one in grants("aws")["function"]}
    made = [(condition, _statement(known[name])) for name, condition in GRANTS.items()]
    made += [("View", VIEW), ("", OWN_TRUST)]
    return [{"Fn::If": [name, one, {"Ref": "AWS::NoValue"}]} if name else one for name, one in made]


def _statement(grant: Mapping[str, Any]) -> dict[str, Any]:
    resources = [_substituted(one) for one in grant["resources"]]
    return {"Sid": grant["id"], "Effect": "Allow", "Action": grant["actions"], "Resource": resources}


def _substituted(resource: str) -> Any:
    text = resource
    for name, value in VALUES.items():
        text = text.replace(f"${{{name}}}", value)
    return {"Fn::Sub": text} if "${" in text else text
