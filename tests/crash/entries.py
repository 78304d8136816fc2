"""The functions' own entry points, called with what a runtime gives them; in this process, or in one that is killed."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from shared.runtime.clock import Clock, SystemClock

Payload = Mapping[str, Any]
SECONDS = 900


class LambdaContext:
    """The part of Lambda's context that the functions read."""

    def __init__(self, arn: str) -> None:
        self.invoked_function_arn = arn

    def get_remaining_time_in_millis(self) -> int:
        return SECONDS * 1000


def aws(payload: Payload, clock: Clock) -> Any:
    """Call a Lambda function: `module` with `event`."""
    module = importlib.import_module(payload["module"])
    return module.handler(payload["event"], LambdaContext(payload["arn"]), clock=clock)


def azure(payload: Payload, clock: Clock) -> Any:
    """Call the HTTP trigger with `body`, or the Event Grid trigger with each of `events`, until one fails."""
    import azure.functions as func

    from azure_function import handler

    if "body" in payload:
        request = func.HttpRequest(method="POST", url="http://host/api/reconcile", body=payload["body"].encode())
        answer = handler.on_request(request, clock)
        return [answer.status_code, json.loads(answer.get_body())]
    for event in payload["events"]:
        handler.on_manifest(func.EventGridEvent(id="", data={}, event_time=None, data_version="", **event), clock)
    return len(payload["events"])


def gcp(payload: Payload, clock: Clock) -> Any:
    """Call the HTTP function with `body`."""
    from flask import Flask, request

    from gcp_function import handler

    with Flask("gateway").test_request_context(method="POST", data=payload["body"].encode()):
        reconcile: Any = handler.reconcile  # its decorator declares only the request
        answer = reconcile(request, clock=clock)
    return [answer[1], json.loads(answer[0])]


def command(payload: Payload, _clock: Clock) -> Any:
    """Run the operator's tool with `arguments` in an `environment`, and show its exit code last."""
    from cli.main import main as tool

    os.environ.update(payload["environment"])
    try:
        tool(payload["arguments"])
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(1, f"exit={end.code}".encode())
        os._exit(0)
    except BaseException:  # as Python shows it
        traceback.print_exc()
        raise


ENTRIES: Mapping[str, Callable[[Payload, Clock], Any]] = {"aws": aws, "azure": azure, "gcp": gcp, "cli": command}
MODULES: Mapping[str, tuple[str, ...]] = {
    "aws": ("aws_lambda.handler", "aws_lambda.collector"),
    "azure": ("azure_function.handler", "azure.mgmt.resource.resources", "azure.mgmt.managementgroups"),
    "gcp": ("gcp_function.handler", "google.cloud.bigquery", "google.cloud.storage", "flask"),
    "cli": (
        "cli.main",
        "cli.deployment.aws.operator",
        "cli.deployment.azure.operator",
        "cli.deployment.gcp.operator",
    ),
}


def main(cloud: str, control: int) -> None:
    """Import the function once, and fork a process for each command on the standard input, until its end.

    A command is a JSON line: the `payload`, and the `clock`'s endpoint. Two lines are written to `control` for each:
    the process id, and the wait status. Importing the SDKs takes a hundred times as long as a fork.
    """
    from localcloud.common.remote_clock import RemoteClock

    for name in MODULES[cloud]:
        importlib.import_module(name)
    while line := os.read(0, 1 << 20):
        given = json.loads(line)
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                clock = RemoteClock(given["clock"]) if given["clock"] else SystemClock()
                answer = ENTRIES[cloud](given["payload"], clock)
                os.write(1, json.dumps(answer, default=str).encode())
            os._exit(0)
        os.write(control, f"{child}\n".encode())
        os.write(control, f"{os.waitpid(child, 0)[1]}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
