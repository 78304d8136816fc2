"""Build the ARNs that requests refer to. Source: "Resource types" in the Service Authorization Reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from moto.iam.models import iam_backends

from localcloud.aws.partitions import Partition
from localcloud.aws.services.buckets import Buckets
from localcloud.aws.services.export_query import table_of
from localcloud.aws.services.organization import Organization
from localcloud.aws.services.stacksets import StackSet

_ANY = ("*",)
# StackSet operations that are also authorized for their targets, and those that deploy resources.
_TARGETED = ("CreateStackInstances", "UpdateStackInstances", "DeleteStackInstances")
_DEPLOYING = ("CreateStackSet", "UpdateStackSet", "CreateStackInstances", "UpdateStackInstances")


class Where(NamedTuple):
    """The account a request's credentials belong to and the region it is signed for."""

    account: str
    region: str


class Arns:
    """Builds ARNs, looking up what requests omit: a role's path, a StackSet's id, a unit's organization."""

    def __init__(
        self,
        partition: Partition,
        organization: Callable[[str], Organization | None],
        stack_set: Callable[[Where, dict[str, Any]], StackSet | None],
        buckets: Buckets,
    ) -> None:
        self._partition = partition
        self._buckets = buckets
        self._organization = organization
        self._stack_set = stack_set
        self._services: dict[str, Callable[[str, dict[str, Any], Where], tuple[str, ...]]] = {
            "bcm-data-exports": self._export,
            "billing": lambda _operation, params, _where: (str(params["arn"]),) if "arn" in params else _ANY,
            "cloudformation": self._stack,
            "cloudwatch": self._monitor,
            "events": self._event,
            "iam": self._identity,
            "kms": self._key,
            "lambda": self._function,
            "logs": self._log,
            "organizations": self._member,
            "scheduler": self._schedule,
            # difference: AWS-21
            "secretsmanager": lambda _operation, params, _where: (
                (str(params["SecretId"]),) if "SecretId" in params else _ANY
            ),
            "sns": self._topic,
            "sqs": self._queue,
            "stepfunctions": self._state_machine,
            "sts": lambda _operation, params, _where: (str(params["RoleArn"]),) if "RoleArn" in params else _ANY,
        }

    @property
    def partition(self) -> str:
        """The name of the partition as it appears in ARNs."""
        return self._partition.name

    def primary_view(self, where: Where) -> str:
        """Return the billing view of an account's own costs."""
        return f"arn:{self._partition.name}:billing::{where.account}:billingview/primary"

    def of(self, service: str, operation: str, params: dict[str, Any], where: Where) -> tuple[str, ...]:
        """Return the resources of an operation's own action; `*` if the action has no resource types."""
        builder = self._services.get(service)
        return builder(operation, params, where) if builder else _ANY

    def bucket(self, name: str) -> str:
        return f"arn:{self._partition.name}:s3:::{name}"

    def key_of(self, params: dict[str, Any], writing: bool) -> str:
        """Return the customer's KMS key that encrypts, or will encrypt, an object, or ""."""
        name, given = str(params["Bucket"]), str(params.get("SSEKMSKeyId") or "")
        if self._buckets.owner(name) is None:
            return ""
        used = self._buckets.reading_key(name, str(params.get("Key", "")))
        key = (given or self._buckets.writing_key(name)) if writing else used
        place = Where(self._buckets.owner(name) or "", self._buckets.region(name))
        return self._key("", {"KeyId": key}, place)[0] if key else ""

    def report(self, name: str, where: Where) -> str:
        """Return the ARN of the legacy CUR report definition that an export is also authorized as."""
        return f"arn:{self._partition.name}:cur:{self._partition.home}:{where.account}:definition/{name}"

    def _arn(self, service: str, where: Where, tail: str) -> str:
        return f"arn:{self._partition.name}:{service}:{where.region}:{where.account}:{tail}"

    def _export(self, operation: str, params: dict[str, Any], where: Where) -> tuple[str, ...]:
        home = Where(where.account, self._partition.home)
        named = params.get("ExportArn") or params.get("ResourceArn")
        export = params.get("Export") or {}
        if operation == "GetTable":
            return (self._arn("bcm-data-exports", home, f"table/{params.get('TableName', '')}"),)
        if not named and not export:
            return _ANY
        # An export has no id before it is created: its name is used instead.
        arn = str(named or self._arn("bcm-data-exports", home, f"export/{export.get('Name', '')}"))
        if not export:
            return (arn,)
        table = table_of(str(export.get("DataQuery", {}).get("QueryStatement", "")))
        return arn, self._arn("bcm-data-exports", home, f"table/{table}")

    def _stack(self, operation: str, params: dict[str, Any], where: Where) -> tuple[str, ...]:
        if params.get("StackName"):
            named = str(params["StackName"])
            return (named if named.startswith("arn:") else self._arn("cloudformation", where, f"stack/{named}/*"),)
        if not params.get("StackSetName"):
            return _ANY
        stack_set = self._stack_set(where, params)
        name, _, known = str(params["StackSetName"]).partition(":")
        identity = stack_set.id if stack_set else f"{name}:{known or '*'}"
        home = Where(stack_set.home[0] if stack_set else where.account, where.region)
        resources = [self._arn("cloudformation", home, f"stackset/{identity}")]
        if operation in _TARGETED:
            targets = params.get("DeploymentTargets") or {}
            chosen = [*targets.get("OrganizationalUnitIds", []), *(targets.get("Accounts") or [])]
            resources += [self._arn("cloudformation", home, f"stackset-target/{identity}/{one}") for one in chosen]
        if operation in _DEPLOYING:
            kinds = stack_set.types if stack_set else ()
            place = Where("", where.region)
            resources += [
                self._arn("cloudformation", place, f"type/resource/{kind.replace('::', '-')}") for kind in kinds
            ]
        return tuple(resources)

    def _identity(self, operation: str, params: dict[str, Any], where: Where) -> tuple[str, ...]:
        prefix = f"arn:{self._partition.name}:iam::{where.account}"
        if params.get("RoleName"):
            name = str(params["RoleName"])
            if operation == "CreateRole":
                return (f"{prefix}:role{params.get('Path', '/')}{name}",)
            roles = iam_backends[where.account][self._partition.name].get_roles()
            return (next((str(role.arn) for role in roles if role.name == name), f"{prefix}:role/{name}"),)
        if params.get("PolicyArn"):
            return (str(params["PolicyArn"]),)
        return (f"{prefix}:user/{params['UserName']}",) if params.get("UserName") else _ANY

    def _member(self, operation: str, params: dict[str, Any], where: Where) -> tuple[str, ...]:
        organization = self._organization(where.account)
        keys = ("AccountId", "ParentId", "ChildId", "OrganizationalUnitId", "ResourceId")
        named = next((str(params[key]) for key in keys if params.get(key)), None)
        if organization is None or named is None:
            return _ANY
        kind = "root" if named.startswith("r-") else "ou" if named.startswith("ou-") else "account"
        return (organization.arn(kind, named),)

    def _function(self, operation: str, params: dict[str, Any], where: Where) -> tuple[str, ...]:
        if params.get("UUID"):
            return (self._arn("lambda", where, f"event-source-mapping:{params['UUID']}"),)
        # A mapping has no ARN before it is created.
        # Source: "Actions, resources, and condition keys for AWS Lambda" in the Service Authorization Reference.
        creates_mapping = operation == "CreateEventSourceMapping"
        named = "" if creates_mapping else str(params.get("FunctionName") or params.get("Resource") or "")
        if not named:
            return _ANY
        if named.startswith("arn:"):
            return (named,)
        return (self._arn("lambda", where, f"function:{named.rpartition(':')[2]}"),)

    def _log(self, operation: str, params: dict[str, Any], where: Where) -> tuple[str, ...]:
        arn = params.get("resourceArn") or params.get("logGroupIdentifier")
        if arn:
            return (str(arn),)
        group = params.get("logGroupName") or params.get("logGroupNamePrefix")
        if not group:
            return _ANY
        stream = params.get("logStreamName")
        tail = f"log-group:{group}" + (f":log-stream:{stream}" if stream else "")
        return (self._arn("logs", where, tail),)

    def _event(self, operation: str, params: dict[str, Any], where: Where) -> tuple[str, ...]:
        if operation == "PutEvents":
            buses = {str(entry.get("EventBusName") or "default") for entry in params.get("Entries", [])}
            arns = (bus if bus.startswith("arn:") else self._arn("events", where, f"event-bus/{bus}") for bus in buses)
            return tuple(sorted(arns))
        if params.get("ResourceARN"):
            return (str(params["ResourceARN"]),)
        rule = params.get("Rule") or (params.get("Name") if "Rule" in operation else None)
        bus = str(params.get("EventBusName") or "default").rpartition("/")[2]
        if rule:
            return (self._arn("events", where, f"rule/{rule}" if bus == "default" else f"rule/{bus}/{rule}"),)
        return (self._arn("events", where, f"event-bus/{params['Name']}"),) if params.get("Name") else _ANY

    def _schedule(self, operation: str, params: dict[str, Any], where: Where) -> tuple[str, ...]:
        if params.get("ResourceArn"):
            return (str(params["ResourceArn"]),)
        if not params.get("Name"):
            return _ANY
        if operation.endswith("Group"):
            return (self._arn("scheduler", where, f"schedule-group/{params['Name']}"),)
        return (self._arn("scheduler", where, f"schedule/{params.get('GroupName') or 'default'}/{params['Name']}"),)

    def _queue(self, operation: str, params: dict[str, Any], where: Where) -> tuple[str, ...]:
        if params.get("QueueUrl"):
            account, _, name = str(params["QueueUrl"]).rstrip("/").rpartition("/")
            owner = account.rpartition("/")[2]
            return (self._arn("sqs", Where(owner if owner.isdigit() else where.account, where.region), name),)
        return (self._arn("sqs", where, str(params["QueueName"])),) if params.get("QueueName") else _ANY

    def _topic(self, operation: str, params: dict[str, Any], where: Where) -> tuple[str, ...]:
        named = params.get("TopicArn") or params.get("TargetArn") or params.get("ResourceArn")
        if named:
            return (str(named),)
        return (self._arn("sns", where, str(params["Name"])),) if params.get("Name") else _ANY

    def _state_machine(self, operation: str, params: dict[str, Any], where: Where) -> tuple[str, ...]:
        keys = ("executionArn", "mapRunArn", "stateMachineArn", "resourceArn")
        named = next((str(params[key]) for key in keys if params.get(key)), None)
        if named is None and params.get("name"):
            named = self._arn("states", where, f"stateMachine:{params['name']}")
        return (named,) if named else _ANY

    def _monitor(self, operation: str, params: dict[str, Any], where: Where) -> tuple[str, ...]:
        if params.get("ResourceARN"):
            return (str(params["ResourceARN"]),)
        dashboards = [params["DashboardName"]] if params.get("DashboardName") else params.get("DashboardNames", [])
        if dashboards:
            # A dashboard belongs to an account, not to a region.
            everywhere = Where(where.account, "")
            return tuple(self._arn("cloudwatch", everywhere, f"dashboard/{name}") for name in dashboards)
        names = [params["AlarmName"]] if params.get("AlarmName") else params.get("AlarmNames", [])
        return tuple(self._arn("cloudwatch", where, f"alarm:{name}") for name in names) or _ANY

    def _key(self, operation: str, params: dict[str, Any], where: Where) -> tuple[str, ...]:
        named = str(params.get("KeyId") or "")
        if not named or named.startswith("arn:"):
            return (named,) if named else _ANY
        return (self._arn("kms", where, named if named.startswith("alias/") else f"key/{named}"),)
