"""Azure Functions entry points: run on a timer or an HTTP request, and return the report or the status."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import azure.functions as func
import msgspec

from azure_function.changes import find_changes
from azure_function.clients import RATES, Clients, warm_clients
from azure_function.delivery_events import is_of_billing, read_event
from azure_function.errors import translate
from azure_function.provider import AzureCloud
from azure_function.resources.backfill import REACH
from azure_function.resources.delivery_source import delivery_documents
from azure_function.secrets import WebhookSecret
from azure_function.settings import MOST_BACKFILL, AzureSettings, read_settings
from azure_function.state_store import BlobStore
from azure_function.topics import announcer_of
from shared.deliveries.chain import StoredDeliveries
from shared.errors import AnotherRun, ReportedError, RequestError, TooSoon
from shared.hints import merge, read_all
from shared.http import HttpAnswer, answer, answer_run
from shared.metrics import log_metrics
from shared.notify.changes import Wording
from shared.notify.delivery import Secret
from shared.periods import month_before, month_of
from shared.publish import Publishing
from shared.reconcile import RunResult, reconcile
from shared.report import failure_message
from shared.request import RunRequest, Trigger, hinted
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.context import RunContext
from shared.runtime.log import Sink
from shared.state.session import READ_SECONDS, StateSession
from shared.state.store import StateStore
from shared.state.summary import remembered_status

HTTP_SECONDS = 200.0  # Azure's load balancer closes an HTTP request after 230 s
DELIVERY_SECONDS = 25.0  # Event Grid sends an event again unless it is answered within 30 s

WORDING = Wording("Azure", "subscription", "subscriptions")

app = func.FunctionApp()
logger = logging.getLogger("tailpipe-exports")
logger.setLevel(logging.INFO)
# At INFO, the SDKs log each request with its headers; the run's own events already cover what matters.
logging.getLogger("azure.core.pipeline.policies.http_logging_policy").setLevel(logging.WARNING)
logging.getLogger("azure.identity").setLevel(logging.WARNING)


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
    log_metrics(logging_sink, result.report, result.metrics)
    if result.report["status"] == "failed":
        raise RunFailed(failure_message(result.report))


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

    def run(request: RunRequest) -> RunResult:
        result = run_once(request, os.environ, logging_sink, clock, HTTP_SECONDS)
        log_metrics(logging_sink, result.report, result.metrics)
        return result

    return _response(answer_run(req.get_body(), Trigger.CALL, run, logging_sink))


@app.function_name("status")
@app.route(route="status", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
def status(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the binding's name
    """Return the coverage that earlier runs recorded. Reads the state only; calls no Resource Manager API."""
    return on_status(SystemClock())


def on_status(clock: Clock) -> func.HttpResponse:
    """Run `status` with the given clock."""
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
    """Reconcile once, within `seconds` (None: the setting RUN_SECONDS).

    Raises SettingsError and RequestError before any call, and AnotherRun if another run is in progress.
    """
    settings = msgspec.structs.replace(read_settings(environment), requested_months=_past_months(request.months, clock))
    clients = warm_clients(settings, environment)
    run = RunContext(
        "azure", settings.engine, sink, clock, seconds or float(settings.run_seconds), RATES, translate, seed
    )
    secret = _secret(settings, clients, run)
    store = BlobStore(settings, clients, run)
    publishing = Publishing(WORDING, REACH, secret, announcer=announcer_of(settings, clients, run, secret))
    return reconcile(AzureCloud(settings, clients, run), store, request, run, publishing)


def look_once(environment: Mapping[str, str], sink: Sink, clock: Clock, seed: int | None = None) -> RunResult | None:
    """Look for changes, and reconcile the scopes that changed.

    Returns None without changes, or if a run may not begin now. Nothing is written unless a run begins, and the next
    look finds all changes that no run has looked at. Raises SettingsError before any call.
    """
    settings = read_settings(environment)
    clients = warm_clients(settings, environment)
    run = RunContext("azure", settings.engine, sink, clock, READ_SECONDS, RATES, translate, seed)
    try:
        document = StateSession(BlobStore(settings, clients, run), run, read_only=True).open()
        hints = merge(find_changes(settings, clients, run, document), clock.now())
        return run_once(hinted(hints), environment, sink, clock, None, seed) if hints else None
    except (AnotherRun, TooSoon):
        return None  # the run has logged it
    except ReportedError as error:
        run.log("warning", "events-unread", code=error.code, reason=error.message)
        return None


def announce_once(
    events: Sequence[Mapping[str, Any]],
    environment: Mapping[str, str],
    sink: Sink,
    clock: Clock,
    seed: int | None = None,
) -> int:
    """Announce the deliveries that Event Grid's events name; return how many could not be.

    Events of anything else are logged and dropped. Raises SettingsError before any call.
    """
    settings = read_settings(environment)
    clients = warm_clients(settings, environment)
    run = RunContext("azure", settings.engine, sink, clock, DELIVERY_SECONDS, RATES, translate, seed)
    announcer = announcer_of(settings, clients, run, _secret(settings, clients, run))
    if announcer is None:
        return 0
    scopes: list[str] = []
    if any(map(is_of_billing, events)):
        document = StateSession(BlobStore(settings, clients, run), run, read_only=True).open()
        scopes = [one for one in document.scopes if one.startswith("/")]
    named, _ = read_all(events, lambda event: read_event(event, settings, scopes), sink, "azure")
    return announcer.announce_named(named)


def _secret(settings: AzureSettings, clients: Clients, run: RunContext) -> Secret | None:
    """Return the webhook's secret, None where the settings name none."""
    local = bool(settings.arm_endpoint)
    return Secret(WebhookSecret(settings, clients, run).read, local) if settings.notify_url else None


def _past_months(months: tuple[str, ...], clock: Clock) -> tuple[str, ...]:
    """Return the months of a request. Raises RequestError if one is outside the range that Azure can deliver."""
    present = month_of(clock.now())
    oldest = month_before(present, MOST_BACKFILL)
    outside = [month for month in months if not oldest <= month < present]
    if outside:
        allowed = f"only months from {oldest} to {month_before(present)} can be delivered again"
        raise RequestError([f"'months': {', '.join(outside)}: {allowed}"])
    return months


def status_once(environment: Mapping[str, str], sink: Sink, clock: Clock) -> dict[str, Any]:
    """Return the status that earlier runs recorded (see `remembered_status`). Raises SettingsError, ReportedError."""
    store, run = open_state(environment, sink, clock)
    return remembered_status(StateSession(store, run, read_only=True).open())


def open_state(environment: Mapping[str, str], sink: Sink, clock: Clock) -> tuple[StateStore, RunContext]:
    """Return the store of the state and the reports, and the context of its calls, which end after READ_SECONDS.

    Raises SettingsError before any call.
    """
    settings = read_settings(environment)
    clients = warm_clients(settings, environment)
    run = RunContext("azure", settings.engine, sink, clock, READ_SECONDS, RATES, translate)
    return BlobStore(settings, clients, run), run


def open_deliveries(environment: Mapping[str, str], sink: Sink, clock: Clock) -> tuple[StoredDeliveries, RunContext]:
    """Return the documents of deliveries, for reads within READ_SECONDS, and the context of their calls.

    Raises SettingsError before any call.
    """
    settings = read_settings(environment)
    run = RunContext("azure", settings.engine, sink, clock, READ_SECONDS, RATES, translate)
    return delivery_documents(settings, warm_clients(settings, environment), run), run


def _response(result: HttpAnswer) -> func.HttpResponse:
    return func.HttpResponse(result.body(), status_code=result.status, mimetype="application/json")


LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def logging_sink(level: str, event: str, fields: Mapping[str, Any]) -> None:
    """Log one event as a JSON line; Functions forwards it to Application Insights."""
    line = json.dumps({"level": level.upper(), "event": event, **fields}, default=str, ensure_ascii=False)
    logger.log(LEVELS.get(level, logging.INFO), line)
