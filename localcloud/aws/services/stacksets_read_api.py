"""The CloudFormation operations that read StackSets, instances and operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from localcloud.aws.iam.caller import Caller, Handler
from localcloud.aws.pages import page
from localcloud.aws.services.stackset_operations import Operations
from localcloud.aws.services.stacksets import SERVICE, Instance, Operation, StackSet

_MAX_PAGE_SIZE = 100


class StackSetReads:
    """Maps operation names to handlers; `page_size` caps every page, even if the caller requests more."""

    def __init__(
        self,
        engine: Operations,
        find: Callable[[Caller, dict[str, Any]], StackSet],
        home: Callable[[Caller, dict[str, Any]], str],
        page_size: int = _MAX_PAGE_SIZE,
    ) -> None:
        self._engine, self._find, self._home = engine, find, home
        self._page_size = min(page_size, _MAX_PAGE_SIZE)
        self.operations: dict[str, Handler] = {
            "DescribeStackSet": self._describe,
            "ListStackSets": self._list,
            "DescribeStackInstance": self._describe_instance,
            "ListStackInstances": self._list_instances,
            "DescribeStackSetOperation": self._describe_operation,
            "ListStackSetOperations": self._list_operations,
            "ListStackSetOperationResults": self._list_results,
        }

    def _describe(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack_set = self._find(caller, params)
        return {
            "StackSet": _summary(stack_set)
            | {
                "TemplateBody": stack_set.body,
                "Parameters": stack_set.shown_parameters(),
                "Capabilities": stack_set.capabilities,
                "Tags": [{"Key": key, "Value": value} for key, value in stack_set.tags.items()],
                "StackSetARN": stack_set.arn,
                "OrganizationalUnitIds": stack_set.units,
                "Regions": stack_set.regions,
            }
        }

    def _list(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        self._engine.settle()
        home = self._home(caller, params)
        stack_sets = [one for one in self._engine.stack_sets.values() if one.home == (home, caller.region)]
        if params.get("Status", "ACTIVE") != "ACTIVE":
            stack_sets = []
        return self._summaries([_summary(one) for one in stack_sets], params)

    def _describe_instance(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack_set = self._find(caller, params)
        place = (params["StackInstanceAccount"], params["StackInstanceRegion"])
        return {"StackInstance": _instance(stack_set, stack_set.instance(place))}

    def _list_instances(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack_set = self._find(caller, params)
        listed = list(stack_set.instances.values())
        account, region = params.get("StackInstanceAccount"), params.get("StackInstanceRegion")
        if account:
            listed = [one for one in listed if one.account == account]
        if region:
            listed = [one for one in listed if one.region == region]
        for rule in params.get("Filters", []):
            wanted = set(rule.get("Values", "").split(","))
            listed = [one for one in listed if _filtered(one, rule["Name"]) in wanted]
        shown, token = page(SERVICE, listed, params.get("NextToken"), params.get("MaxResults"), self._page_size)
        return {"Summaries": [_instance(stack_set, one) for one in shown], "NextToken": token}

    def _describe_operation(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack_set = self._find(caller, params)
        operation = stack_set.operation(params["OperationId"])
        shown = _operation(operation) | {"StackSetId": stack_set.id, "DeploymentTargets": operation.targets}
        if operation.action == "DELETE":
            shown["RetainStacks"] = operation.retain
        return {"StackSetOperation": shown}

    def _list_operations(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        newest = reversed(self._find(caller, params).operations.values())
        return self._summaries([_operation(one) for one in newest], params)

    def _list_results(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        operation = self._find(caller, params).operation(params["OperationId"])
        results = []
        for (account, region), result in operation.results.items():
            shown = {
                "Account": account,
                "Region": region,
                "Status": result.status,
                "OrganizationalUnitId": result.unit,
            }
            if result.reason:
                shown["StatusReason"] = result.reason
            results.append(shown)
        for rule in params.get("Filters", []):
            wanted = set(rule.get("Values", "").split(","))
            results = [one for one in results if one["Status"] in wanted]
        return self._summaries(results, params)

    def _summaries(self, items: list[Any], params: dict[str, Any]) -> dict[str, Any]:
        shown, token = page(SERVICE, items, params.get("NextToken"), params.get("MaxResults"), self._page_size)
        return {"Summaries": shown, "NextToken": token}


def _filtered(one: Instance, name: str) -> str:
    return {"DETAILED_STATUS": one.detailed, "LAST_OPERATION_ID": one.operation}.get(name, one.drift)


def _summary(stack_set: StackSet) -> dict[str, Any]:
    automatic: dict[str, Any] = {"Enabled": stack_set.auto}
    if stack_set.auto:
        automatic["RetainStacksOnAccountRemoval"] = stack_set.retain
    return {
        "StackSetName": stack_set.name,
        "StackSetId": stack_set.id,
        **({"Description": stack_set.description} if stack_set.description else {}),
        "Status": "ACTIVE",
        **({"AutoDeployment": automatic} if stack_set.permissions == "SERVICE_MANAGED" else {}),
        "PermissionModel": stack_set.permissions,
        "ManagedExecution": {"Active": stack_set.managed_execution},
    }


def _instance(stack_set: StackSet, one: Instance) -> dict[str, Any]:
    shown = {
        "StackSetId": stack_set.id,
        "Region": one.region,
        "Account": one.account,
        "StackId": one.stack_id,
        "Status": one.status,
        "StackInstanceStatus": {"DetailedStatus": one.detailed},
        "OrganizationalUnitId": one.unit,
        "DriftStatus": one.drift,
        "LastOperationId": one.operation,
    }
    return shown | {"StatusReason": one.reason} if one.reason else shown


def _operation(operation: Operation) -> dict[str, Any]:
    shown = {
        "OperationId": operation.id,
        "Action": operation.action,
        "Status": operation.status,
        "CreationTimestamp": operation.created,
        "StatusDetails": {"FailedStackInstancesCount": operation.failed},
        "OperationPreferences": operation.preferences,
    }
    return shown | {"EndTimestamp": operation.ended} if operation.ended else shown
