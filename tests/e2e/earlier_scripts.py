"""What Tailpipe's earlier scripts leave in an organization, and the identities by which a take-over is judged."""

from __future__ import annotations

import json
from typing import Any

from localcloud.aws.cloud import LocalAws
from localcloud.aws.services.export_tables import TABLES
from tests.canaries import EXTERNAL_ID
from tests.localcloud.aws.helpers import create_export, members, root
from tests.localcloud.aws.iam.sessions import document

CONNECTOR = "tailpipe-connector-role"
MEMBER_ROLE = "tailpipe-child-connector"
SCRIPTS_ROLE = "TailpipeCloudWatchRole"  # the logical id in the earlier scripts' template
METRICS = {"Action": "cloudwatch:GetMetricStatistics", "Resource": "*"}
STACK_SET = "Tailpipe-CloudWatch-Child-StackSet"
TAILPIPE = "arn:aws:iam::336268260260:role/TailpipeConnector-Prod"


def earlier_scripts(cloud: LocalAws) -> None:
    """Create what the scripts created, all without our marks: bucket, export with a delivery, role and StackSet."""
    s3, iam, bucket = cloud.client("s3"), cloud.client("iam"), cloud.deployment.bucket
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": cloud.region})
    arn = f"arn:aws:s3:::{bucket}"
    services = {"Service": ["billingreports.amazonaws.com", "bcm-data-exports.amazonaws.com"]}
    allowed = {"Action": ["s3:PutObject", "s3:GetBucketPolicy"], "Resource": [arn, f"{arn}/*"], "Principal": services}
    s3.put_bucket_policy(Bucket=bucket, Policy=document({"Sid": "EnableDataExports", **allowed}))
    asked = {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}}
    trust = document({"Principal": {"AWS": TAILPIPE}, "Action": "sts:AssumeRole", "Condition": asked})
    iam.create_role(RoleName=CONNECTOR, AssumeRolePolicyDocument=trust)
    reading = document({"Action": ["s3:ListBucket", "s3:GetObject"], "Resource": [arn, f"{arn}/*"]}, METRICS)
    iam.put_role_policy(RoleName=CONNECTOR, PolicyName="TailpipeReadAccess", PolicyDocument=reading)
    properties = {"TIME_GRANULARITY": "HOURLY", "INCLUDE_RESOURCES": "TRUE"}
    columns = ", ".join(TABLES["COST_AND_USAGE_REPORT"].columns_with(properties))
    create_export(cloud, properties=properties, columns=columns)
    cloud.deliver()
    stack_set(cloud, trust)


def stack_set(cloud: LocalAws, trust: str) -> None:
    """Create the scripts' StackSet and deploy its instances."""
    client = cloud.client("cloudformation")
    client.activate_organizations_access()
    policies = [{"PolicyName": "CloudWatchReadAccess", "PolicyDocument": json.loads(document(METRICS))}]
    properties = {"RoleName": MEMBER_ROLE, "AssumeRolePolicyDocument": json.loads(trust), "Policies": policies}
    role = {"Type": "AWS::IAM::Role", "Properties": properties}
    client.create_stack_set(
        StackSetName=STACK_SET,
        TemplateBody=json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": {SCRIPTS_ROLE: role}}),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        PermissionModel="SERVICE_MANAGED",
        AutoDeployment={"Enabled": True, "RetainStacksOnAccountRemoval": False},
    )
    client.create_stack_instances(
        StackSetName=STACK_SET,
        DeploymentTargets={"OrganizationalUnitIds": [root(cloud)]},
        Regions=[cloud.region],
    )


def resources(cloud: LocalAws) -> dict[str, Any]:
    """Return the deployment's resources, each with an id that changes if it is created again."""
    s3, iam = cloud.client("s3"), cloud.client("iam")
    buckets = {one["Name"]: one["CreationDate"] for one in s3.list_buckets()["Buckets"]}
    data = s3.list_objects_v2(Bucket=cloud.deployment.bucket) if cloud.deployment.bucket in buckets else {}
    exports = cloud.client("bcm-data-exports").list_exports()["Exports"]
    listed = cloud.client("cloudformation").list_stack_sets(Status="ACTIVE")["Summaries"]
    roles = {one["RoleName"]: one["RoleId"] for one in iam.list_roles()["Roles"]}
    return {
        "buckets": buckets,
        "data": {one["Key"]: one["ETag"] for one in data.get("Contents", []) if one["Key"].startswith("dataexport/")},
        "exports": {one["ExportName"]: one["ExportArn"] for one in exports},
        "connector": roles.get(CONNECTOR),
        "roles": {name for name in roles if name.startswith("tailpipe-")},
        "stack sets": {one["StackSetName"]: one["StackSetId"] for one in listed},
        "instances": cloud.instances() if listed else {},
        "member roles": member_roles(cloud),
        "functions": [one["FunctionName"] for one in cloud.client("lambda").list_functions()["Functions"]],
    }


def member_roles(cloud: LocalAws) -> dict[str, str]:
    """Return the unique id of each account's member role; a re-created role has a new id."""
    listed = {account: cloud.client("iam", account).list_roles()["Roles"] for account in members(cloud)}
    return {
        account: one["RoleId"] for account, roles in listed.items() for one in roles if one["RoleName"] == MEMBER_ROLE
    }
