"""The deployed Azure function, on the local Azure's virtual clock instead of the machine's.

The triggers have the deployed names and routes. The quota of 200 calls a minute applies to virtual time, so that a
scenario of several days takes seconds.
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
    """Run once when the schedule fires."""
    handler.on_tick(_clock.sync())


def changes_timer(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the binding's name
    """Check for events and run for the scopes that they affect."""
    handler.on_look(_clock.sync())


if os.environ.get("EVENT_SCHEDULE"):  # as in the deployed app
    app.function_name("changes_timer")(
        app.timer_trigger(arg_name="timer", schedule="%EVENT_SCHEDULE%", run_on_startup=False, use_monitor=True)(
            changes_timer
        )
    )


def delivery_event(event: func.EventGridEvent) -> None:
    """Announce the delivery whose manifest was written."""
    handler.on_manifest(event, _clock.sync())


if os.environ.get("ROUND_SCHEDULE"):  # as in the deployed app
    from azure_function.coordinator.activities import Activities
    from azure_function.coordinator.functions import coordinator

    app.register_functions(coordinator(Activities(os.environ, handler.logging_sink, _clock.sync)))

if os.environ.get("DELTAS") == "1":  # as in the deployed app
    app.function_name("delivery_event")(app.event_grid_trigger(arg_name="event")(delivery_event))


@app.function_name("reconcile_http")
@app.route(route="reconcile", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def reconcile_http(req: func.HttpRequest) -> func.HttpResponse:
    """Run once for a request and return the report."""
    return handler.on_request(req, _clock.sync())


@app.function_name("status")
@app.route(route="status", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
def status(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the binding's name
    """Return the coverage that the last runs recorded."""
    return handler.on_status(_clock.sync())
