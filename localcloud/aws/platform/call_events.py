"""CloudTrail events of the calls that change exports, buckets, roles and StackSets.

Each goes to the default bus of the calling account, in the region where the service records its calls: Data Exports
and IAM in the partition's home region, S3 and CloudFormation in the region of the call. A refused call has an event
too, with its error code. Sources: "Logging AWS Data Exports API calls with AWS CloudTrail" in the AWS Data Exports User
Guide, "Amazon S3 CloudTrail events" in the Amazon S3 User Guide (some names differ from the operation's), "CloudTrail
record contents" and "CloudTrail userIdentity element" in the CloudTrail User Guide.
"""

from __future__ import annotations

from typing import Any

from localcloud.aws.arns import Where
from localcloud.aws.faults import Attempt
from localcloud.aws.iam.caller import Identity
from localcloud.aws.partitions import Partition
from localcloud.aws.platform.service_events import API_CALL, ServiceEvents
from localcloud.aws.services.stacksets import Instance, StackSet

# The recorded operations, by service, and the name of the event where it differs from the operation.
_RECORDED: dict[tuple[str, str], str] = {
    ("bcm-data-exports", "CreateExport"): "",
    ("bcm-data-exports", "DeleteExport"): "",
    ("bcm-data-exports", "UpdateExport"): "",
    ("cloudformation", "CreateStackInstances"): "",
    ("cloudformation", "DeleteStackInstances"): "",
    ("cloudformation", "DeleteStackSet"): "",
    ("cloudformation", "UpdateStackInstances"): "",
    ("cloudformation", "UpdateStackSet"): "",
    ("iam", "DeleteRole"): "",
    ("iam", "UpdateAssumeRolePolicy"): "",
    ("s3", "CreateBucket"): "",
    ("s3", "DeleteBucket"): "",
    ("s3", "DeleteBucketEncryption"): "",
    ("s3", "DeleteBucketLifecycle"): "",
    ("s3", "DeleteBucketPolicy"): "",
    ("s3", "DeletePublicAccessBlock"): "DeleteBucketPublicAccessBlock",
    ("s3", "PutBucketEncryption"): "",
    ("s3", "PutBucketLifecycleConfiguration"): "PutBucketLifecycle",
    ("s3", "PutBucketPolicy"): "",
    ("s3", "PutPublicAccessBlock"): "PutBucketPublicAccessBlock",
}
_AT_HOME = ("bcm-data-exports", "iam")
# Templates are left out. Of a stack's parameters CloudTrail records the keys and never the values, but it records trust
# policies whole. Source: "Logging AWS CloudFormation API calls with AWS CloudTrail" in the CloudFormation User Guide.
_PARAMETERS = ("ExportArn", "StackSetName", "Accounts", "DeploymentTargets", "Regions", "RoleName", "PolicyDocument")


# difference: AWS-22
class CallEvents:
    """Sends the events of calls and of deleted stack instances."""

    def __init__(self, partition: Partition, events: ServiceEvents) -> None:
        self._partition = partition
        self._events = events

    def record(self, attempt: Attempt, region: str, error: str | None = None) -> None:
        """Send the event of a call, with its error code if it failed, if its operation is recorded."""
        key = (attempt.service, attempt.operation)
        if key in _RECORDED:
            fields = {"errorCode": error} if error else {}
            identity = _identity(attempt.identity)
            self._send(attempt.service, _RECORDED[key] or attempt.operation, region, attempt.params, identity, fields)

    def record_operator(self, account: str, service: str, operation: str, region: str, params: dict[str, Any]) -> None:
        """Send the event of a call that an operator of the account made, as `record` does."""
        identity = _identity(Identity(account, f"arn:{self._partition.name}:iam::{account}:user/local"))
        self._send(service, _RECORDED[service, operation] or operation, region, params, identity, {})

    def instance_deleted(self, stack_set: StackSet, instance: Instance) -> None:
        """Send CloudFormation's event. Source: "StackSet Stack Instance Status Change event detail"."""
        fields = stack_set.arn.split(":")
        detail = {
            "stack-set-arn": stack_set.arn,
            "stack-id": instance.stack_id,
            "action": "DELETE",
            "status-details": {"status": "CURRENT", "status-reason": "", "detailed-status": "SUCCEEDED"},
        }
        kind = "CloudFormation StackSet StackInstance Status Change"
        self._events.send(Where(fields[4], fields[3]), "aws.cloudformation", kind, detail)

    def _send(
        self,
        service: str,
        name: str,
        region: str,
        params: dict[str, Any],
        identity: dict[str, Any],
        fields: dict[str, Any],
    ) -> None:
        account = str(identity["accountId"])
        where = Where(account, self._partition.home if service in _AT_HOME else region)
        recorded = {key[0].lower() + key[1:]: value for key, value in params.items() if key in _PARAMETERS and value}
        if service == "s3":
            recorded = {"bucketName": params.get("Bucket"), "Host": f"s3.{region}.{self._partition.dns}"}
        if "deploymentTargets" in recorded:
            targets = recorded["deploymentTargets"]
            recorded["deploymentTargets"] = {key[0].lower() + key[1:]: value for key, value in targets.items()}
        if params.get("Parameters"):
            recorded["parameters"] = [{"parameterKey": one["ParameterKey"]} for one in params["Parameters"]]
        source = f"aws.{service}"
        request = {"userIdentity": identity, "requestParameters": recorded}
        detail = self._events.cloudtrail_record(account, where.region, source, name, **request, **fields)
        self._events.send(where, source, API_CALL, detail)


def _identity(identity: Identity) -> dict[str, Any]:
    """Return CloudTrail's userIdentity. For a role session, it names the role."""
    if identity.session is None:
        return {"type": "IAMUser", "arn": identity.principal, "accountId": identity.account, "userName": "local"}
    role = identity.principal
    issuer = {"type": "Role", "arn": role, "accountId": identity.account, "userName": role.rpartition("/")[2]}
    return {"type": "AssumedRole", "accountId": identity.account, "sessionContext": {"sessionIssuer": issuer}}
