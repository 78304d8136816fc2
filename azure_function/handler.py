"""Functions' entry: a timer's tick or an HTTP request becomes a run, its report the answer."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

import azure.functions as func
import msgspec

from azure_function.clients import RATES, warm_clients
from azure_function.errors import translate
from azure_function.provider import AzureCloud
from azure_function.resources.backfill import REACH
from azure_function.secrets import WebhookSecret
from azure_function.settings import MOST_BACKFILL, read_settings
from azure_function.state_store import BlobStore
from shared.errors import RequestError
from shared.http import HttpAnswer, answer, answer_run
from shared.metrics import log_metrics
from shared.notify.changes import Wording
from shared.notify.delivery import Secret
from shared.periods import month_before, month_of
from shared.publish import Publishing
from shared.reconcile import RunResult, reconcile
from shared.report import failure_message
from shared.request import RunRequest, Trigger
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.context import RunContext
from shared.runtime.log import Sink
from shared.state.session import READ_SECONDS, StateSession
from shared.state.store import StateStore
from shared.state.summary import remembered_status

HTTP_SECONDS = 200.0  # the platform's load balancer ends an answer after 230 s, whatever the function does

WORDING = Wording("Azure", "subscription", "subscriptions")

app = func.FunctionApp()
logger = logging.getLogger("tailpipe-exports")
logger.setLevel(logging.INFO)
# The SDKs tell every request and its headers at this level; the run's own events say what matters.
logging.getLogger("azure.core.pipeline.policies.http_logging_policy").setLevel(logging.WARNING)
logging.getLogger("azure.identity").setLevel(logging.WARNING)


class RunFailed(Exception):
    """The run failed as a whole, or was unsafe: Functions counts a failed invocation, and alarms see it."""


@app.function_name("reconcile_timer")
@app.timer_trigger(arg_name="timer", schedule="%SCHEDULE%", run_on_startup=False, use_monitor=True)
def reconcile_timer(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the binding's name
    """Run once for a tick of the schedule.

    Raises SettingsError before any call, RunFailed where the report's status is ``failed``, AnotherRun where a run is
    under way.
    """
    on_tick(SystemClock())


def on_tick(clock: Clock) -> None:
    """Do what `reconcile_timer` does, by a clock that is handed in."""
    finished = run_once(RunRequest(trigger=Trigger.TIMER), os.environ, logging_sink, clock, None)
    log_metrics(logging_sink, finished.report, finished.metrics)
    if finished.report["status"] == "failed":
        raise RunFailed(failure_message(finished.report))


@app.function_name("reconcile_http")
@app.route(route="reconcile", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def reconcile_http(req: func.HttpRequest) -> func.HttpResponse:
    """Run once for a request and answer the report: 200, 400 bad request, 409 another run, 500 failed."""
    return on_request(req, SystemClock())


def on_request(req: func.HttpRequest, clock: Clock) -> func.HttpResponse:
    """Do what `reconcile_http` does, by a clock that is handed in."""

    def run(request: RunRequest) -> RunResult:
        result = run_once(request, os.environ, logging_sink, clock, HTTP_SECONDS)
        log_metrics(logging_sink, result.report, result.metrics)
        return result

    return _response(answer_run(req.get_body(), Trigger.CALL, run, logging_sink))


@app.function_name("status")
@app.route(route="status", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
def status(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the binding's name
    """Answer coverage as the last runs saw it, from memory: one read of the state, no call to Resource Manager."""
    return on_status(SystemClock())


def on_status(clock: Clock) -> func.HttpResponse:
    """Do what `status` does, by a clock that is handed in."""
    read = lambda: HttpAnswer(200, status_once(os.environ, logging_sink, clock))  # noqa: E731 - a name reads better
    return _response(answer(read, logging_sink))


def run_once(
    request: RunRequest,
    environment: Mapping[str, str],
    sink: Sink,
    clock: Clock,
    seconds: float | None,
    seed: int | None = None,
) -> RunResult:
    """Reconcile once, within `seconds` (None: RUN_SECONDS).

    Raises SettingsError and RequestError before any call, and AnotherRun.
    """
    settings = msgspec.structs.replace(read_settings(environment), requested_months=_past(request.months, clock))
    clients = warm_clients(settings, environment)
    run = RunContext(
        "azure", settings.engine, sink, clock, seconds or float(settings.run_seconds), RATES, translate, seed
    )
    local = bool(settings.arm_endpoint)
    secret = Secret(WebhookSecret(settings, clients, run).read, local) if settings.notify_url else None
    store = BlobStore(settings, clients, run)
    return reconcile(AzureCloud(settings, clients, run), store, request, run, Publishing(WORDING, REACH, secret))


def _past(months: tuple[str, ...], clock: Clock) -> tuple[str, ...]:
    """Return the months that a request names. Raises RequestError for those that Azure cannot deliver now."""
    present = month_of(clock.now())
    oldest = month_before(present, MOST_BACKFILL)
    wrong = [month for month in months if not oldest <= month < present]
    if wrong:
        past = f"only months from {oldest} to {month_before(present)} can be delivered again"
        raise RequestError([f"'months': {', '.join(wrong)}: {past}"])
    return months


def status_once(environment: Mapping[str, str], sink: Sink, clock: Clock) -> dict[str, Any]:
    """Return what earlier runs learnt (see `remembered_status`). Raises SettingsError and ReportedError."""
    store, run = open_state(environment, sink, clock)
    return remembered_status(StateSession(store, run, read_only=True).open())


def open_state(environment: Mapping[str, str], sink: Sink, clock: Clock) -> tuple[StateStore, RunContext]:
    """Return the store of state and reports, to be read within READ_SECONDS, and the context of its calls.

    Raises SettingsError before any call.
    """
    settings = read_settings(environment)
    clients = warm_clients(settings, environment)
    run = RunContext("azure", settings.engine, sink, clock, READ_SECONDS, RATES, translate)
    return BlobStore(settings, clients, run), run


def _response(found: HttpAnswer) -> func.HttpResponse:
    return func.HttpResponse(found.body(), status_code=found.status, mimetype="application/json")


LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def logging_sink(level: str, event: str, fields: Mapping[str, Any]) -> None:
    """Write one event as a line of JSON through logging, which Functions hands to Application Insights."""
    line = json.dumps({"level": level.upper(), "event": event, **fields}, default=str, ensure_ascii=False)
    logger.log(LEVELS.get(level, logging.INFO), line)
