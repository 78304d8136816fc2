"""What executions of state machines do outside: calls with the machine's role, through the local cloud's gateway.

Sources: "Invoke Lambda function with Step Functions", "AWS SDK service integrations", "ResultWriter" and "IAM policies
for using Distributed Map states" in the AWS Step Functions Developer Guide.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from localcloud.aws.calls import Call, CallLog
from localcloud.aws.errors import AwsError
from localcloud.aws.iam.caller import Identity
from localcloud.aws.iam.enforcement import Enforcement
from localcloud.aws.iam.required_actions import RequiredAction
from localcloud.aws.iam.sessions import Sessions
from localcloud.aws.platform.state_records import UNSUCCESSFUL, Execution, Machine, MapRun, result_record
from localcloud.aws.services import states_language as language
from localcloud.aws.services.states_language import StateError
from shared.runtime.clock import Clock

PRINCIPAL = "states.amazonaws.com"
_SESSION = timedelta(hours=1)
_DISTURBANCES = ("twice", "late", "never")


@dataclass
class Disturbance:
    """How the engine delivers the next call of a function whose payload contains `containing`."""

    kind: str
    containing: str


class StateTasks:
    """Calls AWS for executions. Thread-safe; `start_thread` runs work that no execution waits for."""

    def __init__(
        self,
        clock: Clock,
        sessions: Sessions,
        enforcement: Enforcement,
        calls: CallLog,
        start_thread: Callable[[Callable[[], None], str], None],
    ) -> None:
        self._clock = clock
        self._sessions = sessions
        self._enforcement = enforcement
        self._calls = calls
        self._start_thread = start_thread
        self._lock = threading.Lock()
        self._disturbances: list[Disturbance] = []
        self._kept: dict[tuple[str, str], tuple[datetime, Any]] = {}

    def disturb(self, kind: str, containing: str, times: int) -> None:
        """Disturb the next calls of functions. Raises ValueError for an unknown kind."""
        if kind not in _DISTURBANCES:
            raise ValueError(f"kind {kind!r} is not one of {', '.join(_DISTURBANCES)}")
        with self._lock:
            self._disturbances += [Disturbance(kind, containing)] * times

    def call(self, machine: Machine, resource: str, given: dict[str, Any], limit: Any) -> Any:
        """Call a resource once; a disturbed call of a function is delivered twice, late or never. Raises StateError."""
        if resource.endswith("lambda:invoke"):
            call = partial(self._invoke, machine, given)
            kind = self._disturbed(json.dumps(given.get("Payload")))
        else:
            call, kind = partial(self._list_executions, machine, given), ""
        started = self._clock.monotonic()
        if kind in ("late", "never"):
            self._clock.wait_until(started + float(limit or 0) + 1)
            if kind == "late":
                self._start_thread(_ignoring(call), "late-task")
            raise StateError("States.Timeout", "the task was not delivered in time")
        if kind == "twice":
            _ignoring(call)()
        result = call()
        if limit is not None and self._clock.monotonic() - started > float(limit):
            raise StateError("States.Timeout", f"the task took longer than {limit} s")
        return result

    def _disturbed(self, payload: str) -> str:
        with self._lock:
            for one in self._disturbances:
                if one.containing in payload:
                    self._disturbances.remove(one)
                    return one.kind
        return ""

    def _invoke(self, machine: Machine, given: dict[str, Any]) -> Any:
        client = self._client(machine, "lambda")
        with _as_state_errors("Lambda"):
            answer = client.invoke(
                FunctionName=given["FunctionName"], Payload=json.dumps(given.get("Payload", {})).encode()
            )
            payload = json.loads(answer["Payload"].read() or b"null")
        if answer.get("FunctionError"):
            failure = payload if isinstance(payload, dict) else {}
            raise StateError(str(failure.get("errorType") or "Lambda.Unknown"), json.dumps(payload))
        return {"ExecutedVersion": answer.get("ExecutedVersion", "$LATEST"), "Payload": payload, "StatusCode": 200}

    def _list_executions(self, machine: Machine, given: dict[str, Any]) -> Any:
        asked = {name[0].lower() + name[1:]: value for name, value in given.items()}
        with _as_state_errors("Sfn"):
            answer = self._client(machine, "stepfunctions").list_executions(**asked)
        executions = [
            {f"{name[0].upper()}{name[1:]}": str(v) for name, v in one.items()} for one in answer["executions"]
        ]
        return {"Executions": executions}

    def write_results(
        self, map_run: MapRun, state: Mapping[str, Any], data: Any, context: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Write the results of a Map Run to S3 as its ResultWriter says; None without one. Raises StateError."""
        if "ResultWriter" not in state:
            return None
        given = language.filled(state["ResultWriter"]["Parameters"], data, context)
        client = self._client(map_run.execution.machine, "s3")
        folder = "/".join(filter(None, [str(given.get("Prefix", "")).rstrip("/"), map_run.arn.rpartition(":")[2]]))
        groups: dict[str, list[Execution]] = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
        for child in map_run.children:
            kind = "PENDING" if child.arn in map_run.pending else child.status
            groups["FAILED" if kind in UNSUCCESSFUL else kind].append(child)
        files: dict[str, list[dict[str, Any]]] = {kind: [] for kind in groups}
        with _as_state_errors("States.ResultWriterFailed", whole=True):
            for kind, children in groups.items():
                body = json.dumps([result_record(child) for child in children]).encode()
                key = f"{folder}/{kind}_0.json"
                if children:
                    client.put_object(Bucket=given["Bucket"], Key=key, Body=body)
                    files[kind] = [{"Key": key, "Size": len(body)}]
            manifest = {"DestinationBucket": given["Bucket"], "MapRunArn": map_run.arn, "ResultFiles": files}
            key = f"{folder}/manifest.json"
            client.put_object(Bucket=given["Bucket"], Key=key, Body=json.dumps(manifest).encode())
        map_run.written = len(map_run.children)
        return {"MapRunArn": map_run.arn, "ResultWriterDetails": {"Bucket": given["Bucket"], "Key": key}}

    def assume(self, machine: Machine, *, anew: bool = False) -> Any:
        """Return a session of a machine's role, at most an hour old. Raises AwsError if the role lacks the trust."""
        key, now = (machine.arn, machine.role), self._clock.now()
        with self._lock:
            since, session = self._kept.get(key, (now, None))
            if anew or session is None or now - since > _SESSION:
                context = {"aws:sourceaccount": machine.where.account, "aws:sourcearn": machine.arn}
                session = self._sessions.assume(PRINCIPAL, machine.role, "state-machine", machine.where, context)
                self._kept[key] = (now, session)
            return session

    def _client(self, machine: Machine, service: str) -> Any:
        try:
            session = self.assume(machine)
        except AwsError as error:
            raise StateError("States.TaskFailed", error.message) from error
        return self._sessions.client(session, service, machine.where.region)

    def check_allowed(self, machine: Machine, action: str, resource: str) -> None:
        """Raise StateError if the machine's role may not act on one of its own executions; log the call."""
        session = self.assume(machine)
        identity = Identity(machine.where.account, machine.role, session)
        allowed = self._enforcement.allows(identity, action, resource, {"aws:principalarn": machine.role})
        status, code = (200, None) if allowed else (400, "AccessDeniedException")
        need = RequiredAction(action, (resource,))
        operation = action.partition(":")[2]
        where = machine.where
        self._calls.add(
            Call(self._clock.now(), where.account, machine.role, "stepfunctions", operation, (need,), status, code)
        )
        if not allowed:
            cause = f"{machine.role} is not authorized to perform: {action} on resource: {resource}"
            raise StateError("States.Runtime", cause)


@contextmanager
def _as_state_errors(prefix: str, *, whole: bool = False) -> Iterator[None]:
    """Turn the SDK's errors into StateError: `prefix` and the code, or only `prefix` if it is the whole name."""
    try:
        yield
    except ClientError as error:
        code = str(error.response["Error"]["Code"])
        name = "AWSLambdaException" if prefix == "Lambda" and code.startswith("AccessDenied") else code
        raise StateError(prefix if whole else f"{prefix}.{name}", str(error)) from error
    except BotoCoreError as error:
        raise StateError(prefix if whole else f"{prefix}.SdkClientException", str(error)) from error


def _ignoring(call: Callable[[], Any]) -> Callable[[], None]:
    def ignoring() -> None:
        try:
            call()
        except StateError:
            return  # the engine has given up on this delivery

    return ignoring
