"""Execution environments of functions: started with the role's credentials, kept warm, and replaced on change."""

from __future__ import annotations

import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from localcloud.aws.arns import Where
from localcloud.aws.errors import AwsError
from localcloud.aws.iam.sessions import Sessions, credentials
from localcloud.aws.runtime.function_code import check_fits, unpack
from localcloud.aws.runtime.function_logs import FunctionLogs
from localcloud.aws.runtime.lambda_runtime import Invocation, LambdaRuntime, runtime_folder
from localcloud.common.data_file import read_table

PRINCIPAL = "lambda.amazonaws.com"
# The environment variables that CreateFunction refuses.
# Source: "Defined runtime environment variables" in the AWS Lambda Developer Guide.
RESERVED = read_table(__file__, "reserved_variables.json", frozenset[str])


class Environment:
    """One execution environment. Raises AwsError for an incompatible zip or a role that cannot be assumed."""

    def __init__(self, function: Any, where: Where, sessions: Sessions, logs: FunctionLogs) -> None:
        self.revision = revision_of(function)
        self._function = function
        self._where = where
        self._logs = logs
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="function-")))
            code, runtime = folder / "code", folder / "runtime"
            code.mkdir()
            runtime.mkdir()
            unpack(function.code_bytes, code)
            check_fits(code, str(function.run_time or ""))
            self.session = _session(function, where, sessions)
            own = {str(name): str(value) for name, value in (function.environment_vars or {}).items()}
            self._runtime = stack.enter_context(
                LambdaRuntime(
                    str(function.handler),
                    {"AWS_ENDPOINT_URL": sessions.endpoint, **own, **credentials(self.session)},
                    where.account,
                    where.region,
                    partition=str(function.partition),
                    timeout_s=float(function.timeout),
                    memory_mb=int(function.memory_size),
                    task_root=code,
                    function_name=str(function.function_name),
                    runtime_path=runtime_folder(runtime),
                )
            )
            self._resources = stack.pop_all()

    def run(self, event: object, request_id: str) -> Invocation:
        """Invoke the function and write its log to CloudWatch, if the role may write there."""
        done = self._runtime.invoke(event, request_id)
        self._logs.keep(self._function, self._where, self.session, done)
        return done

    def stop(self) -> None:
        """Kill the process immediately."""
        self._runtime.stop()

    def close(self) -> None:
        self._resources.close()


def _session(function: Any, where: Where, sessions: Sessions) -> Any:
    context = {"aws:sourceaccount": where.account, "aws:sourcearn": str(function.function_arn)}
    try:
        return sessions.assume(PRINCIPAL, str(function.role), str(function.function_name), where, context)
    except AwsError as error:
        message = "The role defined for the function cannot be assumed by Lambda."
        raise AwsError("AccessDeniedException", message, 403) from error


# difference: AWS-9
class Fleet:
    """The environments of all functions, with idle ones by function ARN. Thread-safe."""

    def __init__(self, sessions: Sessions, logs: FunctionLogs) -> None:
        self._sessions = sessions
        self._logs = logs
        self._idle: dict[str, list[Environment]] = {}
        self._busy: set[Environment] = set()
        self._lock = threading.Lock()
        self._closed = False

    def run(self, function: Any, where: Where, event: object, request_id: str) -> Invocation:
        """Run an event in a warm environment of the current function, or in a new one. Raises AwsError."""
        environment = self._take(function) or Environment(function, where, self._sessions, self._logs)
        try:
            with self._lock:
                self._busy.add(environment)
                closed = self._closed
            if closed:
                raise AwsError("ServiceException", "the local cloud has stopped", 500)
            return environment.run(event, request_id)
        finally:
            self._give_back(function, environment)

    def forget(self, arn: str) -> None:
        """Close the idle environments of a deleted function."""
        with self._lock:
            ended = self._idle.pop(arn, [])
        for environment in ended:
            environment.close()

    def close(self) -> None:
        """Close all environments. Running invocations fail, and their threads close their environments."""
        with self._lock:
            self._closed = True
            ended = [one for idle in self._idle.values() for one in idle]
            self._idle.clear()
            busy = list(self._busy)
        for environment in busy:
            environment.stop()
        for environment in ended:
            environment.close()

    def _take(self, function: Any) -> Environment | None:
        with self._lock:
            idle = self._idle.pop(str(function.function_arn), [])
            current = [one for one in idle if one.revision == revision_of(function)]
            taken = current.pop() if current else None
            self._idle[str(function.function_arn)] = current
        for environment in idle:
            if environment is not taken and environment not in current:
                environment.close()
        return taken

    def _give_back(self, function: Any, environment: Environment) -> None:
        with self._lock:
            self._busy.discard(environment)
            keep = not self._closed and environment.revision == revision_of(function)
            if keep:
                self._idle.setdefault(str(function.function_arn), []).append(environment)
        if not keep:
            environment.close()


def revision_of(function: Any) -> tuple[object, ...]:
    """Return everything that outdates an environment when it changes: code, role and process settings."""
    variables = tuple(sorted((function.environment_vars or {}).items()))
    settings = (function.handler, function.run_time, function.timeout, function.memory_size, function.role)
    return (function.code_sha_256, *settings, variables)


def check_variables(variables: dict[str, str]) -> None:
    """Raise AwsError (InvalidParameterValueException) for a variable that Lambda reserves."""
    taken = sorted(RESERVED & variables.keys())
    if taken:
        raise AwsError(
            "InvalidParameterValueException",
            "Lambda was unable to configure your environment variables because the environment variables you have "
            "provided contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(taken)}",
            400,
        )
