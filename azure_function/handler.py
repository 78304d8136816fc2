"""Azure Functions entry points: run on a timer or an HTTP request, and return the report or the status."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

import azure.functions as func
import msgspec

from azure_function import rounds
from azure_function.invocation import announce_once, look_once, run_once, status_once
from shared.http import HttpAnswer, answer, parse_body
from shared.metrics import log_metrics
from shared.reconcile import RunResult
from shared.report import FAILED, failure_message
from shared.request import RunRequest, Step, Trigger, parse_request, parse_round
from shared.runtime.clock import Clock, SystemClock

HTTP_SECONDS = 200.0  # Azure's load balancer closes an HTTP request after 230 s

app = func.FunctionApp()
logger = logging.getLogger("tailpipe-exports")
logger.setLevel(logging.INFO)
# At INFO, the SDKs log each request with its headers; the run's own events already cover what matters.
logging.getLogger("azure.core.pipeline.policies.http_logging_policy").setLevel(logging.WARNING)
logging.getLogger("azure.identity").setLevel(logging.WARNING)
# At WARNING, the SDKs log a stack trace for each error response that is not JSON; the run's own events report those.
logging.getLogger("azure.mgmt").setLevel(logging.ERROR)


class RunFailed(Exception):
    """The whole run failed or was unsafe: Functions counts a failed invocation, on which an alarm fires."""


@app.function_name("reconcile_timer")
@app.timer_trigger(arg_name="timer", schedule="%SCHEDULE%", run_on_startup=False, use_monitor=True)
def reconcile_timer(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the binding's name
    """Run once on schedule.

    Raises SettingsError before any call, RunFailed if the report's status is ``failed``, and AnotherRun if another run
    is in progress.
    """
    on_tick(SystemClock())


def on_tick(clock: Clock) -> None:
    """Run `reconcile_timer` with the given clock."""
    _end_of_timer(run_once(RunRequest(trigger=Trigger.TIMER), os.environ, logging_sink, clock, None))


def _end_of_timer(result: RunResult) -> None:
    """Write the metrics of a timer's run. Raises RunFailed if its report's status is ``failed``."""
    log_metrics(logging_sink, result.summary, result.metrics)
    if result.summary["status"] == "failed":
        raise RunFailed(failure_message(result.summary))


def changes_timer(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the binding's name
    """Look for changes, and reconcile the scopes that changed.

    Raises SettingsError before any call, and RunFailed if there was a run whose report has the status ``failed``.
    """
    on_look(SystemClock())


# Without the setting there is no such function: the host refuses a schedule that it cannot resolve.
if os.environ.get("EVENT_SCHEDULE", "").strip():
    app.function_name("changes_timer")(
        app.timer_trigger(arg_name="timer", schedule="%EVENT_SCHEDULE%", run_on_startup=False, use_monitor=True)(
            changes_timer
        )
    )


def on_look(clock: Clock) -> None:
    """Run `changes_timer` with the given clock."""
    result = look_once(os.environ, logging_sink, clock)
    if result is not None:
        _end_of_timer(result)


class NotAnnounced(Exception):
    """A delivery could not be announced: Event Grid sends its event again, for an hour."""


def delivery_event(event: func.EventGridEvent) -> None:
    """Announce the delivery whose manifest was written. Raises SettingsError before any call, and NotAnnounced."""
    on_manifest(event, SystemClock())


# Event Grid's subscription names this function; without the setting there is neither.
if os.environ.get("DELTAS", "").strip() == "1":
    app.function_name("delivery_event")(app.event_grid_trigger(arg_name="event")(delivery_event))


def on_manifest(event: func.EventGridEvent, clock: Clock) -> None:
    """Run `delivery_event` with the given clock."""
    read = {"eventType": "event_type", "topic": "topic", "subject": "subject"}
    document = {name: getattr(event, attribute, None) for name, attribute in read.items()}
    failed = announce_once([document], os.environ, logging_sink, clock)
    if failed:
        raise NotAnnounced("the delivery could not be announced; the log has the reason")


@app.function_name("reconcile_http")
@app.route(route="reconcile", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def reconcile_http(req: func.HttpRequest) -> func.HttpResponse:
    """Run once for an HTTP request, and return the report with the status code of `shared.http`."""
    return on_request(req, SystemClock())


def on_request(req: func.HttpRequest, clock: Clock) -> func.HttpResponse:
    """Run `reconcile_http` with the given clock."""
    return _response(answer(lambda: _reconcile(req.get_body(), clock), logging_sink))


def _reconcile(body: bytes, clock: Clock) -> HttpAnswer:
    """Return the report of a run, the row of a tenant in a round, or a round that begins or has ended."""
    payload = parse_body(body)
    step = parse_round(payload)
    if step is not None:
        if step.step is Step.BEGIN:
            return HttpAnswer(200, rounds.begin(os.environ, logging_sink, clock))
        return HttpAnswer(200, rounds.end(step.id, os.environ, logging_sink, clock))
    request = msgspec.structs.replace(parse_request(payload), trigger=Trigger.CALL)
    if request.round:
        row = rounds.run_tenant(request.tenant, request.round, os.environ, logging_sink, clock, HTTP_SECONDS)
        return HttpAnswer(200, row)
    result = run_once(request, os.environ, logging_sink, clock, HTTP_SECONDS)
    if not request.tenant:  # the alarms are about the deployment's own cloud; a round has metrics of its own
        log_metrics(logging_sink, result.summary, result.metrics)
    return HttpAnswer(500 if result.summary["status"] == FAILED else 200, result.answer())


@app.function_name("status")
@app.route(route="status", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
def status(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the binding's name
    """Return the coverage that earlier runs recorded. Reads the state only; calls no Resource Manager API."""
    return on_status(SystemClock())


def on_status(clock: Clock) -> func.HttpResponse:
    """Run `status` with the given clock."""
    read = lambda: HttpAnswer(200, status_once(os.environ, logging_sink, clock))  # noqa: E731 - a name reads better
    return _response(answer(read, logging_sink))


def _response(result: HttpAnswer) -> func.HttpResponse:
    return func.HttpResponse(result.body(), status_code=result.status, mimetype="application/json")


LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def logging_sink(level: str, event: str, fields: Mapping[str, Any]) -> None:
    """Log one event as a JSON line; Functions forwards it to Application Insights."""
    line = json.dumps({"level": level.upper(), "event": event, **fields}, default=str, ensure_ascii=False)
    logger.log(LEVELS.get(level, logging.INFO), line)


# The SDK of Durable Functions takes half a second to import, so only a deployment with rounds does.
if os.environ.get("ROUND_SCHEDULE", "").strip():
    from azure_function.coordinator.activities import Activities
    from azure_function.coordinator.functions import coordinator

    app.register_functions(coordinator(Activities(os.environ, logging_sink, SystemClock)))
