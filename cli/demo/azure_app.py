"""The Azure function as it is deployed, by the local Azure's virtual clock instead of the machine's.

The triggers have the names and routes of the deployed ones. The quota of 200 calls a minute is kept in virtual time, so
that a scenario of days takes seconds.
"""

from __future__ import annotations

import os

import azure.functions as func

from azure_function import handler
from localcloud.common.remote_clock import RemoteClock

app = func.FunctionApp()
# One per process: overlapping invocations share the same time.
_clock = RemoteClock(os.environ["ARM_ENDPOINT"])


@app.function_name("reconcile_timer")
@app.timer_trigger(arg_name="timer", schedule="%SCHEDULE%", run_on_startup=False, use_monitor=True)
def reconcile_timer(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the binding's name
    """Run once for a tick of the schedule."""
    handler.on_tick(_clock.sync())


def changes_timer(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the binding's name
    """Look for changes, and run for what they concern."""
    handler.on_look(_clock.sync())


if os.environ.get("EVENT_SCHEDULE"):  # as in the deployed app
    app.function_name("changes_timer")(
        app.timer_trigger(arg_name="timer", schedule="%EVENT_SCHEDULE%", run_on_startup=False, use_monitor=True)(
            changes_timer
        )
    )


@app.function_name("reconcile_http")
@app.route(route="reconcile", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def reconcile_http(req: func.HttpRequest) -> func.HttpResponse:
    """Run once for a request and answer the report."""
    return handler.on_request(req, _clock.sync())


@app.function_name("status")
@app.route(route="status", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
def status(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the binding's name
    """Answer the coverage that the last runs saw."""
    return handler.on_status(_clock.sync())
