"""CloudFormation's operations on stacks that only read.

The module is over 350 lines because each operation spells out the members of its answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from localcloud.aws.errors import AwsError
from localcloud.aws.iam.caller import Caller, Handler
from localcloud.aws.stacks.engine import Engine
from localcloud.aws.stacks.records import Change, ChangeSet, Event, Resource, Stack

PAGE = 100
HIDDEN = "****"


def find(engine: Engine, caller: Caller, name: str, *, deleted: bool) -> Stack | None:
    """Return a stack by its name or id; a deleted one only by its id, and only if `deleted`."""
    with engine.lock:
        for (account, region, known), stack in engine.stacks.items():
            if (account, region) == (caller.account, caller.region) and name in (known, stack.id):
                return stack
        gone = (one for one in engine.deleted if one.id == name and one.where.account == caller.account)
        return next(gone, None) if deleted else None


class Reads:
    """Maps operation names to handlers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.operations: dict[str, Handler] = {
            "DescribeStacks": self._describe,
            "ListStacks": self._list,
            "DescribeStackEvents": self._events,
            "DescribeStackResource": self._resource,
            "DescribeStackResources": self._resources,
            "ListStackResources": self._list_resources,
            "ListExports": self._exports,
            "GetTemplate": self._template,
            "DescribeChangeSet": self._describe_change_set,
            "ListChangeSets": self._list_change_sets,
            "DescribeStackDriftDetectionStatus": self._drift_status,
            "DescribeStackResourceDrifts": self._drifts,
        }

    def _stack(self, caller: Caller, name: str, *, deleted: bool = True) -> Stack:
        stack = find(self._engine, caller, name, deleted=deleted)
        if stack is None:
            raise AwsError("ValidationError", f"Stack with id {name} does not exist", 400)
        return stack

    def change_set(self, caller: Caller, params: Mapping[str, Any]) -> tuple[Stack, ChangeSet]:
        """Return a change set by its id, or by its name and its stack's. Raises AwsError."""
        wanted, name = str(params["ChangeSetName"]), str(params.get("StackName", ""))
        with self._engine.lock:
            stacks = [self._stack(caller, name)] if name else list(self._engine.stacks.values())
        for stack in stacks:
            for one in stack.change_sets.values():
                if wanted in (one.id, one.name if name else one.id) and stack.where.account == caller.account:
                    return stack, one
        raise AwsError("ChangeSetNotFound", f"ChangeSet [{wanted}] does not exist", 404)

    def _describe(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        if params.get("StackName"):
            return {"Stacks": [_described(self._stack(caller, str(params["StackName"])))]}
        with self._engine.lock:
            stacks = [
                one for one in self._engine.stacks.values() if tuple(one.where) == (caller.account, caller.region)
            ]
        items, token = page(stacks, params)
        return {"Stacks": [_described(one) for one in items], **token}

    def _list(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        wanted = set(params.get("StackStatusFilter", []))
        with self._engine.lock:
            stacks = [
                one
                for one in (*self._engine.stacks.values(), *self._engine.deleted)
                if tuple(one.where) == (caller.account, caller.region) and (not wanted or one.status in wanted)
            ]
        items, token = page(stacks, params)
        return {"StackSummaries": [_summary(one) for one in items], **token}

    def _events(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack = self._stack(caller, str(params["StackName"]))
        items, token = page(list(reversed(stack.events)), params)
        return {"StackEvents": [_event(stack, one) for one in items], **token}

    def _found(self, caller: Caller, params: Mapping[str, Any]) -> tuple[Stack, Resource]:
        stack = self._stack(caller, str(params["StackName"]))
        logical = str(params["LogicalResourceId"])
        if logical not in stack.resources:
            message = f"Resource {logical} does not exist for stack {stack.name}"
            raise AwsError("ValidationError", message, 400)
        return stack, stack.resources[logical]

    def _resource(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack, found = self._found(caller, params)
        about = _resource(found) | {"LastUpdatedTimestamp": found.at}
        return {"StackResourceDetail": {**about, "StackName": stack.name, "StackId": stack.id}}

    def _resources(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack = self._holding(caller, params)
        wanted = params.get("LogicalResourceId")
        found = [one for one in list(stack.resources.values()) if wanted in (None, one.logical)]
        about = {"StackName": stack.name, "StackId": stack.id}
        return {"StackResources": [_resource(one) | about | {"Timestamp": one.at} for one in found]}

    def _holding(self, caller: Caller, params: Mapping[str, Any]) -> Stack:
        """Return the named stack, or the one with a physical resource."""
        physical = params.get("PhysicalResourceId")
        if params.get("StackName") or not physical:
            return self._stack(caller, str(params.get("StackName", "")))
        with self._engine.lock:
            for stack in self._engine.stacks.values():
                here = tuple(stack.where) == (caller.account, caller.region)
                if here and any(one.physical == physical for one in stack.resources.values()):
                    return stack
        raise AwsError("ValidationError", f"Stack for {physical} does not exist", 400)

    def _list_resources(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack = self._stack(caller, str(params["StackName"]))
        items, token = page(list(stack.resources.values()), params)
        return {"StackResourceSummaries": [_resource(one) | {"LastUpdatedTimestamp": one.at} for one in items], **token}

    def _exports(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        with self._engine.lock:
            stacks = [
                one for one in self._engine.stacks.values() if tuple(one.where) == (caller.account, caller.region)
            ]
        found = [
            {"ExportingStackId": one.id, "Name": output["ExportName"], "Value": output["OutputValue"]}
            for one in stacks
            for output in one.outputs
            if "ExportName" in output
        ]
        items, token = page(found, params)
        return {"Exports": items, **token}

    def _template(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        if params.get("ChangeSetName"):
            body = self.change_set(caller, params)[1].template.body
        else:
            body = self._stack(caller, str(params["StackName"])).template.body
        return {"TemplateBody": body, "StagesAvailable": ["Original", "Processed"]}

    def _describe_change_set(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack, made = self.change_set(caller, params)
        items, token = page(made.changes, params)
        reason = {"StatusReason": made.reason} if made.reason else {}
        described = {"Description": made.description} if made.description else {}
        return {
            "ChangeSetName": made.name,
            "ChangeSetId": made.id,
            "StackId": stack.id,
            "StackName": stack.name,
            "Parameters": _parameters(made.template.document, made.template.values),
            "CreationTime": made.created,
            "ExecutionStatus": made.execution,
            "Status": made.status,
            "Capabilities": made.capabilities,
            "Tags": _tags(made.tags),
            "Changes": [_change(one) for one in items],
            **reason,
            **described,
            **token,
        }

    def _list_change_sets(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack = self._stack(caller, str(params["StackName"]))
        items, token = page(list(stack.change_sets.values()), params)
        return {
            "Summaries": [
                {
                    "StackId": stack.id,
                    "StackName": stack.name,
                    "ChangeSetId": one.id,
                    "ChangeSetName": one.name,
                    "ExecutionStatus": one.execution,
                    "Status": one.status,
                    "CreationTime": one.created,
                    **({"StatusReason": one.reason} if one.reason else {}),
                }
                for one in items
            ],
            **token,
        }

    def _drift_status(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        found = self._engine.drifts.get(str(params["StackDriftDetectionId"]))
        if found is None or found.stack.where.account != caller.account:
            raise AwsError("ValidationError", "The drift detection id does not exist", 400)
        stack = found.stack
        drifted = sum(one.drift in ("MODIFIED", "DELETED") for one in stack.resources.values())
        more: dict[str, Any] = {"DetectionStatusReason": found.reason} if found.reason else {}
        if found.status == "DETECTION_COMPLETE":
            more |= {"StackDriftStatus": stack.drift, "DriftedStackResourceCount": drifted}
        return {
            "StackId": stack.id,
            "StackDriftDetectionId": found.id,
            "DetectionStatus": found.status,
            "Timestamp": found.at,
            **more,
        }

    def _drifts(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack = self._stack(caller, str(params["StackName"]))
        wanted = set(params.get("StackResourceDriftStatusFilters", []))
        found = [
            one
            for one in list(stack.resources.values())
            if one.drift_at is not None and (not wanted or one.drift in wanted)
        ]
        items, token = page(found, params)
        drifts = []
        for one in items:
            about = {
                "StackId": stack.id,
                "LogicalResourceId": one.logical,
                "PhysicalResourceId": one.physical,
                "ResourceType": one.type,
                "ExpectedProperties": json.dumps(one.props, default=str),
                "StackResourceDriftStatus": one.drift,
                "PropertyDifferences": one.differences,
                "Timestamp": one.drift_at,
            }
            live = {"ActualProperties": json.dumps(one.actual, default=str)} if one.actual else {}
            drifts.append(about | live)
        return {"StackResourceDrifts": drifts, **token}


def page(items: Sequence[Any], params: Mapping[str, Any]) -> tuple[list[Any], dict[str, str]]:
    """Return one page of a list, and the token of the next one if there is one. Raises AwsError."""
    given = str(params.get("NextToken") or "0")
    if not given.isdigit():
        raise AwsError("ValidationError", "The NextToken is invalid", 400)
    start = int(given)
    size = min(int(params.get("MaxResults") or PAGE), PAGE)
    more = start + size < len(items)
    return list(items[start : start + size]), {"NextToken": str(start + size)} if more else {}


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _parameters(document: Mapping[str, Any], values: Mapping[str, str]) -> list[dict[str, str]]:
    declared = document.get("Parameters", {})
    return [
        {
            "ParameterKey": name,
            "ParameterValue": HIDDEN if str(declared[name].get("NoEcho", False)).lower() == "true" else value,
        }
        for name, value in values.items()
    ]


def _described(stack: Stack) -> dict[str, Any]:
    optional = {
        "Description": stack.description,
        "StackStatusReason": stack.reason,
        "LastUpdatedTime": stack.updated,
        "DeletionTime": stack.deleted,
        "RoleARN": stack.role,
        "TimeoutInMinutes": stack.timeout_minutes,
    }
    return {
        "StackId": stack.id,
        "StackName": stack.name,
        "CreationTime": stack.created,
        "StackStatus": stack.status,
        "Parameters": _parameters(stack.template.document, stack.template.values),
        "Capabilities": stack.capabilities,
        "Outputs": list(stack.outputs),
        "Tags": _tags(stack.tags),
        "EnableTerminationProtection": stack.protected,
        "DisableRollback": stack.disable_rollback,
        "DriftInformation": _drift(stack.drift, stack.drift_at),
        **{key: value for key, value in optional.items() if value},
    }


def _summary(stack: Stack) -> dict[str, Any]:
    optional = {
        "TemplateDescription": stack.description,
        "StackStatusReason": stack.reason,
        "LastUpdatedTime": stack.updated,
        "DeletionTime": stack.deleted,
    }
    return {
        "StackId": stack.id,
        "StackName": stack.name,
        "CreationTime": stack.created,
        "StackStatus": stack.status,
        "DriftInformation": _drift(stack.drift, stack.drift_at),
        **{key: value for key, value in optional.items() if value},
    }


def _drift(status: str, at: Any) -> dict[str, Any]:
    return {"StackDriftStatus": status, **({"LastCheckTimestamp": at} if at else {})}


def _event(stack: Stack, event: Event) -> dict[str, Any]:
    reason = {"ResourceStatusReason": event.reason} if event.reason else {}
    return {
        "StackId": stack.id,
        "EventId": event.id,
        "StackName": stack.name,
        "LogicalResourceId": event.logical,
        "PhysicalResourceId": event.physical,
        "ResourceType": event.type,
        "Timestamp": event.at,
        "ResourceStatus": event.status,
        **reason,
    }


def _resource(resource: Resource) -> dict[str, Any]:
    optional = {"PhysicalResourceId": resource.physical, "ResourceStatusReason": resource.reason}
    drift: dict[str, Any] = {"StackResourceDriftStatus": resource.drift}
    drift |= {"LastCheckTimestamp": resource.drift_at} if resource.drift_at else {}
    return {
        "LogicalResourceId": resource.logical,
        "ResourceType": resource.type,
        "ResourceStatus": resource.status,
        "DriftInformation": drift,
        **{key: value for key, value in optional.items() if value},
    }


def _change(change: Change) -> dict[str, Any]:
    about: dict[str, Any] = {
        "Action": change.action,
        "LogicalResourceId": change.logical,
        "ResourceType": change.type,
        "Scope": [],
        "Details": [],
    }
    if change.physical:
        about["PhysicalResourceId"] = change.physical
    if change.action == "Remove":
        about["PolicyAction"] = "Retain" if change.attributes[0].startswith("Retain") else "Delete"
    if change.action == "Modify":
        about["Replacement"] = "True" if change.fixed else "False"
        scope = {"Tags" if one == "Tags" else "Properties" for one in change.names} | set(change.attributes)
        about["Scope"] = sorted(scope)
        about["Details"] = [
            {
                "Target": {
                    "Attribute": "Tags" if name == "Tags" else "Properties",
                    "Name": name,
                    "RequiresRecreation": "Always" if name in change.fixed else "Never",
                },
                "Evaluation": "Static",
                "ChangeSource": "DirectModification",
            }
            for name in change.names
        ]
    return {"Type": "Resource", "ResourceChange": about}
