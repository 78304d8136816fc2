"""The operations of Step Functions on state machines, executions and Map Runs; others answer 501."""

from __future__ import annotations

import json
import uuid
from typing import Any

from localcloud.aws.errors import AwsError
from localcloud.aws.iam.caller import Caller, Handler
from localcloud.aws.pages import page
from localcloud.aws.platform.state_machines import StateMachines
from localcloud.aws.platform.state_records import Execution, Machine, MapRun
from localcloud.aws.services.states_language import problems

_REDRIVE = {True: "NOT_REDRIVABLE", False: "REDRIVABLE"}


class StateMachinesApi:
    """`operations` maps names to handlers."""

    def __init__(self, machines: StateMachines) -> None:
        self._machines = machines
        self.operations: dict[str, Handler] = {
            "CreateStateMachine": self._create,
            "DescribeStateMachine": self._describe,
            "UpdateStateMachine": self._update,
            "DeleteStateMachine": self._delete,
            "ListStateMachines": self._list,
            "ListStateMachineVersions": lambda _caller, _params: {"stateMachineVersions": []},
            "ValidateStateMachineDefinition": self._validate,
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "ListTagsForResource": self._tags,
            "StartExecution": self._start,
            "DescribeExecution": self._describe_execution,
            "ListExecutions": self._list_executions,
            "StopExecution": self._stop,
            "RedriveExecution": self._redrive,
            "ListMapRuns": self._list_map_runs,
            "DescribeMapRun": self._describe_map_run,
        }

    def _machine(self, arn: Any) -> Machine:
        machine = self._machines.machines.get(str(arn))
        if machine is None:
            raise AwsError("StateMachineDoesNotExist", f"State Machine Does Not Exist: '{arn}'", 400)
        return machine

    def _execution(self, arn: Any) -> Execution:
        execution = self._machines.executions.get(str(arn))
        if execution is None:
            raise AwsError("ExecutionDoesNotExist", f"Execution Does Not Exist: '{arn}'", 400)
        return execution

    def _create(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        arn = f"arn:{self._machines.partition}:states:{caller.region}:{caller.account}:stateMachine:{params['name']}"
        if params.get("type", "STANDARD") != "STANDARD":
            raise AwsError("StateMachineTypeNotSupported", "the local cloud offers STANDARD state machines only", 400)
        now = self._machines.clock.now()
        tags = {str(one["key"]): str(one["value"]) for one in params.get("tags", [])}
        machine = Machine(arn, str(params["name"]), str(params["roleArn"]), str(params["definition"]), now, tags)
        existing = self._machines.machines.get(arn)
        if existing is not None:
            if (existing.definition, existing.role) != (machine.definition, machine.role):
                raise AwsError("StateMachineAlreadyExists", f"State Machine Already Exists: '{arn}'", 400)
            machine = existing
        self._check(machine)
        self._machines.machines[arn] = machine
        return {"stateMachineArn": arn, "creationDate": machine.created}

    def _update(self, _caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        kept = self._machine(params.get("stateMachineArn"))
        definition, role = params.get("definition", kept.definition), params.get("roleArn", kept.role)
        self._check(Machine(kept.arn, kept.name, role, definition, kept.created))
        kept.definition, kept.role = definition, role
        return {"updateDate": self._machines.clock.now(), "revisionId": str(uuid.uuid4())}

    def _check(self, machine: Machine) -> None:
        found = problems(machine.definition)
        if found:
            raise AwsError("InvalidDefinition", f"Invalid State Machine Definition: {'; '.join(found)}", 400)
        self._machines.tasks.assume(machine, anew=True)

    def _validate(self, _caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        found = problems(str(params["definition"]))
        diagnostics = [{"severity": "ERROR", "code": "SCHEMA_VALIDATION_FAILED", "message": one} for one in found]
        return {"result": "FAIL" if found else "OK", "diagnostics": diagnostics}

    def _describe(self, _caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        machine = self._machine(params.get("stateMachineArn"))
        return {
            "stateMachineArn": machine.arn,
            "name": machine.name,
            "status": "ACTIVE",
            "definition": machine.definition,
            "roleArn": machine.role,
            "type": "STANDARD",
            "creationDate": machine.created,
            "loggingConfiguration": {"level": "OFF", "includeExecutionData": False},
            "tracingConfiguration": {"enabled": False},
            "encryptionConfiguration": {"type": "AWS_OWNED_KEY"},
        }

    def _delete(self, _caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        machine = self._machines.machines.pop(str(params.get("stateMachineArn")), None)
        for execution in list(self._machines.executions.values()):
            if machine is not None and execution.machine is machine and execution.map_run is None:
                self._machines.stop(execution)
        return {}

    def _list(self, caller: Caller, _params: dict[str, Any]) -> dict[str, Any]:
        machines = [one for one in self._machines.machines.values() if one.where == (caller.account, caller.region)]
        return {
            "stateMachines": [
                {"stateMachineArn": one.arn, "name": one.name, "type": "STANDARD", "creationDate": one.created}
                for one in machines
            ]
        }

    def _tag(self, _caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        self._tagged(params).tags.update({str(one["key"]): str(one["value"]) for one in params["tags"]})
        return {}

    def _untag(self, _caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        for key in params["tagKeys"]:
            self._tagged(params).tags.pop(str(key), None)
        return {}

    def _tags(self, _caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        return {"tags": [{"key": key, "value": value} for key, value in self._tagged(params).tags.items()]}

    def _tagged(self, params: dict[str, Any]) -> Machine:
        machine = self._machines.machines.get(str(params["resourceArn"]))
        if machine is None:
            raise AwsError("ResourceNotFound", f"Resource not found: '{params['resourceArn']}'", 400)
        return machine

    def _start(self, _caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        machine = self._machine(params["stateMachineArn"])
        try:
            given = json.loads(params.get("input") or "{}")
        except ValueError as error:
            raise AwsError("InvalidExecutionInput", f"Invalid State Machine Execution Input: {error}", 400) from error
        name = str(params.get("name") or uuid.uuid4())
        known = self._machines.executions.get(f"{machine.arn.replace(':stateMachine:', ':execution:')}:{name}")
        if known is not None:
            # For a running execution with the same input, StartExecution is idempotent.
            if known.status != "RUNNING" or known.input != given:
                raise AwsError("ExecutionAlreadyExists", f"Execution Already Exists: '{known.arn}'", 400)
            return {"executionArn": known.arn, "startDate": known.started}
        execution = self._machines.start(machine, name, given)
        return {"executionArn": execution.arn, "startDate": execution.started}

    def _describe_execution(self, _caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        execution = self._execution(params["executionArn"])
        reason = self._machines.not_redrivable(execution)
        shown = _summary(execution) | {
            "input": json.dumps(execution.input),
            "inputDetails": {"included": True},
            "redriveStatus": _REDRIVE[bool(reason)],
        }
        if reason:
            shown["redriveStatusReason"] = reason
        if execution.status == "SUCCEEDED":
            shown |= {"output": json.dumps(execution.output), "outputDetails": {"included": True}}
        if execution.error:
            shown |= {"error": execution.error, "cause": execution.cause}
        return shown

    def _list_executions(self, _caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        listed = list(self._machines.executions.values())
        if params.get("mapRunArn"):
            map_run = self._map_run(params["mapRunArn"])
            listed = [one for one in map_run.children if one.arn not in map_run.pending]
        else:
            machine = self._machine(params.get("stateMachineArn"))
            listed = [one for one in listed if one.machine is machine and one.map_run is None]
        wanted = params.get("statusFilter")
        newest_first = [_summary(one) for one in reversed(listed) if wanted in (None, one.status)]
        items, token = page("stepfunctions", newest_first, params.get("nextToken"), params.get("maxResults"), 1000)
        return {"executions": items, "nextToken": token}

    def _stop(self, _caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        execution = self._execution(params["executionArn"])
        self._machines.stop(execution, str(params.get("error", "")), str(params.get("cause", "")))
        return {"stopDate": execution.stopped or self._machines.clock.now()}

    def _redrive(self, _caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        execution = self._execution(params["executionArn"])
        self._machines.redrive(execution)
        return {"redriveDate": execution.redriven}

    def _map_run(self, arn: Any) -> MapRun:
        map_run = self._machines.map_runs.get(str(arn))
        if map_run is None:
            raise AwsError("ResourceNotFound", f"Resource not found: '{arn}'", 400)
        return map_run

    def _list_map_runs(self, _caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        execution = self._execution(params["executionArn"])
        runs = [one for one in self._machines.map_runs.values() if one.execution is execution]
        return {
            "mapRuns": [
                {
                    "executionArn": execution.arn,
                    "mapRunArn": one.arn,
                    "stateMachineArn": execution.machine.arn,
                    "startDate": one.started,
                    "stopDate": one.stopped,
                }
                for one in reversed(runs)
            ]
        }

    def _describe_map_run(self, _caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        one = self._map_run(params["mapRunArn"])
        counts = {
            "pending": len(one.pending),
            "running": one.count("RUNNING"),
            "succeeded": one.count("SUCCEEDED"),
            "failed": one.count("FAILED"),
            "timedOut": one.count("TIMED_OUT"),
            "aborted": one.count("ABORTED"),
            "total": len(one.children),
            "resultsWritten": one.written,
        }
        return {
            "mapRunArn": one.arn,
            "executionArn": one.execution.arn,
            "status": one.status,
            "startDate": one.started,
            "stopDate": one.stopped,
            "maxConcurrency": one.concurrency,
            "toleratedFailurePercentage": one.tolerated,
            "toleratedFailureCount": 0,
            "itemCounts": counts,
            "executionCounts": counts,
            "redriveCount": one.execution.redrives,
        }


def _summary(execution: Execution) -> dict[str, Any]:
    shown = {
        "executionArn": execution.arn,
        "stateMachineArn": execution.machine.arn,
        "name": execution.name,
        "status": execution.status,
        "startDate": execution.started,
        "stopDate": execution.stopped,
        "redriveCount": execution.redrives,
        "redriveDate": execution.redriven,
        "mapRunArn": execution.map_run.arn if execution.map_run else None,
    }
    return {name: value for name, value in shown.items() if value is not None}
