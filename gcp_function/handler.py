"""The HTTP function: runs once for each call, and returns the report with a status code."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

import functions_framework
import msgspec

from gcp_function.claims import Claims
from gcp_function.clients import RATES, warm_clients
from gcp_function.deliveries import announcer_of, stored_deliveries
from gcp_function.errors import translate
from gcp_function.events import QUOTA, SLACK, EventQueue, Message, calls_for, hint_of, pushed
from gcp_function.provider import GcpCloud
from gcp_function.rounds import Fleet, is_busy
from gcp_function.secrets import WebhookSecret
from gcp_function.settings import read_settings
from gcp_function.state_store import GcsStore
from gcp_function.targets import REACH
from gcp_function.tenant_clients import tenant_clients
from shared.deliveries.chain import StoredDeliveries
from shared.errors import ReportedError, RequestError, TooSoon
from shared.hints import gap_left, merge, read_all
from shared.http import HttpAnswer, answer, answer_run, parse_body
from shared.metrics import log_metrics
from shared.notify.changes import Wording
from shared.notify.delivery import Secret
from shared.publish import Publishing
from shared.reconcile import RunResult
from shared.reconcile import reconcile as run_to_its_end
from shared.report import FAILED
from shared.request import RunRequest, Step, Trigger, hinted, parse_request, parse_round, refuse_months
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.context import RunContext
from shared.runtime.log import Sink, with_tenant
from shared.state.session import READ_SECONDS
from shared.state.store import StateStore
from shared.tenants.registry import TENANT
from shared.tenants.rounds import metrics_of_round, short_report

if TYPE_CHECKING:
    from flask import Request

# Cloud Logging's severities; it would show any other name as DEFAULT.
SEVERITIES = {"debug": "DEBUG", "info": "INFO", "warning": "WARNING", "error": "ERROR"}
WORDING = Wording("GCP", "billing account", "billing accounts")
HEADERS = {"Content-Type": "application/json; charset=utf-8"}
NOTHING_NEW, NOT_YET = HttpAnswer(200, {"events": 0}), HttpAnswer(429, {"events": 0})
NO_CALLS: Mapping[str, int] = {}
Answer = tuple[str, int, dict[str, str]]


@functions_framework.http
def reconcile(request: Request, *, clock: Clock | None = None) -> Answer:
    """Run once for a call of Cloud Scheduler or another invoker, and return the report.

    200: the run was ok or degraded. 400: the request is invalid. 409: another run is in progress. 429: events asked for
    a run too soon. 500: the settings are invalid, or the run failed. A push of an event by Pub/Sub requests a run that
    looks at what the waiting events name; after any status but 200, Pub/Sub pushes the event again. Without a `clock`,
    as the framework calls it, the system clock is used.
    """
    headers = dict(request.headers)
    sink = cloud_logging(trace_of(headers, os.environ))
    own_clock = clock or SystemClock()

    def run(asked: RunRequest, calls: Mapping[str, int] = NO_CALLS) -> RunResult:
        result = run_once(asked, os.environ, sink, own_clock, calls=calls)
        log_metrics(sink, result.summary, result.metrics)
        return result

    body = request.get_data(cache=True)
    notification = _notification(body)
    if notification is not None:
        found = answer(lambda: run_for_events(notification, os.environ, sink, own_clock, run), sink)
    elif asks_for_tenants(body):
        found = answer(lambda: run_for_tenants(body, headers, os.environ, sink, own_clock), sink)
    else:
        found = answer_run(body, trigger_of(headers), run, sink)
    return found.body(), found.status, HEADERS


def asks_for_tenants(body: bytes) -> bool:
    """Return whether a request is for a tenant or a round."""
    try:
        payload = parse_body(body)
    except RequestError:
        return False
    return isinstance(payload, Mapping) and ("tenant" in payload or "round" in payload)


def run_for_tenants(
    body: bytes, headers: Mapping[str, str], environment: Mapping[str, str], sink: Sink, clock: Clock
) -> HttpAnswer:
    """Begin or end a round, or run one tenant, as part of a round or alone.

    In a round, the response to Cloud Tasks says whether the row was written, not how the tenant is: 200 removes the
    task, anything else repeats it. 409 means that another run of the tenant is in progress; it is repeated, because
    that run may have been killed. Raises RequestError, SettingsError, RegistryError, CloudError.
    """
    payload = parse_body(body)
    step = parse_round(payload)
    fleet = Fleet(environment, sink, clock)
    if step is not None and step.step is Step.BEGIN:
        lower = {name.lower(): value for name, value in headers.items()}
        return HttpAnswer(200, fleet.begin(lower.get("x-cloudscheduler-scheduletime", "")))
    if step is not None:
        report = fleet.end(step.id)
        if report is None:
            return HttpAnswer(200, {"round": step.id, "ended": False})
        figures = {one.name: one.value for one in metrics_of_round(report)}
        sink("info", "round-figures", {"round": step.id, "cloud": "gcp", "status": report["status"], **figures})
        return HttpAnswer(200, short_report(report))
    request = msgspec.structs.replace(parse_request(payload), trigger=trigger_of(headers))

    def work(asked: RunRequest) -> RunResult:
        return run_once(asked, environment, sink, clock)

    if not request.round:
        result = fleet.run_alone(request, work)
        return HttpAnswer(500 if result.summary["status"] == FAILED else 200, result.answer())
    row = fleet.run_in_round(request, work)
    if row is None:
        return HttpAnswer(200, {"tenant": request.tenant, "round": request.round, "skipped": "the round is over"})
    return HttpAnswer(409 if is_busy(row) else 200, row)


def run_for_events(
    notification: Message,
    environment: Mapping[str, str],
    sink: Sink,
    clock: Clock,
    run: Callable[[RunRequest, Mapping[str, int]], RunResult],
) -> HttpAnswer:
    """Pull all waiting events and reconcile what they name; `notification` is the event that Pub/Sub pushed.

    The messages are acknowledged after the run, and released if it fails. The pushed event is among them, was pulled
    for an earlier notification, or has not yet reached the pull subscription; in the last case, Pub/Sub has to push it
    again. `run` also gets the number of calls that Pub/Sub takes, by quota. Raises SettingsError before any call,
    AnotherRun, TooSoon, and the ReportedError of a call to Pub/Sub.
    """
    settings = read_settings(environment)
    context = RunContext("gcp", settings.engine, sink, clock, settings.seconds, RATES, translate)
    if not settings.events_subscription:
        context.log("warning", "event-refused", code="event-unexpected", reason="EVENTS_SUBSCRIPTION is empty")
        return NOTHING_NEW
    clients = warm_clients(settings)
    if clients.pulled_at and notification.published and notification.published < clients.pulled_at - SLACK:
        return NOTHING_NEW
    left = gap_left(clients.event_run_at, clock.now())
    if left:
        raise TooSoon(left.total_seconds())
    queue, began = EventQueue(settings, clients, context), clock.now()
    messages, complete = queue.pull()
    if not messages:
        clients.pulled_at = began
        return NOTHING_NEW if notification.published and notification.published < began - SLACK else NOT_YET
    unique = {one.id: one.data for one in messages}
    found, _ = read_all(unique.values(), lambda data: hint_of(data, settings), sink, "gcp")
    hints = merge(found, began)
    if hints is None:
        queue.acknowledge(messages)
        return NOTHING_NEW
    try:
        # The calls that acknowledge or release the messages follow the report, so they are counted beforehand.
        finished = run(hinted(hints), context.calls.counts + Counter({QUOTA: calls_for(messages)}))
    except ReportedError:
        context.deadline.use_reserve()
        queue.release(messages)
        raise
    context.deadline.use_reserve()
    failed = finished.summary["status"] == FAILED
    (queue.release if failed else queue.acknowledge)(messages)
    clients.event_run_at, clients.pulled_at = began, began if complete and not failed else None
    return HttpAnswer(500 if failed else 200, finished.answer())


def _notification(body: bytes) -> Message | None:
    """Return the message that Pub/Sub pushes with a request; None for every other request."""
    try:
        return pushed(parse_body(body))
    except RequestError:
        return None


def run_once(
    request: RunRequest,
    environment: Mapping[str, str],
    sink: Sink,
    clock: Clock,
    seconds: float | None = None,
    seed: int | None = None,
    credentials: Any = None,
    calls: Mapping[str, int] = NO_CALLS,
) -> RunResult:
    """Reconcile once, within `seconds` (default: the invocation's time in the settings).

    `credentials` are the caller's; without them Google's libraries find the function's own. `calls` are further calls
    of the invocation that the report counts, by quota. For a request that names a tenant, the `environment` is that of
    the deployment or, with TENANT, the tenant's.

    Raises SettingsError before any call, RegistryError and RequestError for the tenant, AnotherRun, and RunStopped if
    there are no credentials.
    """
    refuse_months(request, "Google delivers no past months once an export is switched on")
    claims = Claims()
    if request.tenant and not environment.get(TENANT):
        environment, claims = Fleet(environment, sink, clock, seconds or 0, credentials).enter(request.tenant)
    settings = read_settings(environment)
    request = msgspec.structs.replace(request, tenant=settings.tenant)
    lines = with_tenant(sink, settings.tenant)
    run = RunContext("gcp", settings.engine, lines, clock, seconds or settings.seconds, RATES, translate, seed)
    run.calls.counts.update(calls)
    own = warm_clients(settings.at_home(), credentials)
    clients = tenant_clients(settings, own) if settings.tenant else own
    secret = Secret(WebhookSecret(settings, own, run).read, bool(settings.endpoints)) if settings.notify_url else None
    store = GcsStore(settings, own, run)
    announcer = announcer_of(settings, clients, run, secret)
    publishing = Publishing(WORDING, REACH, secret, announcer=announcer)
    return run_to_its_end(GcpCloud(settings, clients, run, announcer, claims), store, request, run, publishing)


def open_state(
    environment: Mapping[str, str], sink: Sink, clock: Clock, credentials: Any = None
) -> tuple[StateStore, RunContext]:
    """Return the store of the state and the reports, and the context of its calls, which end after READ_SECONDS.

    `credentials` as in `run_once`. Raises SettingsError before any call.
    """
    settings = read_settings(environment)
    run = RunContext("gcp", settings.engine, sink, clock, READ_SECONDS, RATES, translate)
    return GcsStore(settings, warm_clients(settings.at_home(), credentials), run), run


def open_deliveries(
    environment: Mapping[str, str], sink: Sink, clock: Clock, credentials: Any = None
) -> tuple[StoredDeliveries, RunContext]:
    """Return the store of the deliveries' documents, and the context of its calls, as `open_state` does."""
    settings = read_settings(environment)
    run = RunContext("gcp", settings.engine, sink, clock, READ_SECONDS, RATES, translate)
    own = warm_clients(settings.at_home(), credentials)
    clients = tenant_clients(settings, own) if settings.tenant else own
    clients.enter(run)
    return stored_deliveries(settings, clients, run), run


def trigger_of(headers: Mapping[str, str]) -> Trigger:
    """Return the trigger: Cloud Scheduler or Cloud Tasks, an event (CloudEvents over HTTP), or another caller.

    Sources: "HTTP target headers" (Cloud Scheduler), "Create HTTP target tasks" (Cloud Tasks), "HTTP protocol binding
    for CloudEvents", binary mode.
    """
    lower = {name.lower() for name in headers}
    if "x-cloudscheduler" in lower or "x-cloudtasks-taskname" in lower:
        return Trigger.TIMER
    return Trigger.EVENT if "ce-type" in lower else Trigger.CALL


def trace_of(headers: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the fields by which Cloud Logging groups the log lines of one call; empty without a trace.

    Reads both headers: the older ``X-Cloud-Trace-Context: TRACE/SPAN;o=1`` and W3C's ``traceparent``.
    """
    project = environment.get("GOOGLE_CLOUD_PROJECT", "")
    lower = {name.lower(): value for name, value in headers.items()}
    older = lower.get("x-cloud-trace-context", "").split(";")[0]
    parts = lower.get("traceparent", "").split("-")
    trace, span = older.partition("/")[0], ""
    if not trace and len(parts) == 4:
        trace, span = parts[1], parts[2]
    if not project or len(trace) != 32 or not all(one in "0123456789abcdefABCDEF" for one in trace):
        return {}
    fields = {"logging.googleapis.com/trace": f"projects/{project}/traces/{trace}"}
    return fields | ({"logging.googleapis.com/spanId": span} if span else {})


def cloud_logging(common: Mapping[str, str], stream: TextIO | None = None) -> Sink:
    """Return a sink that writes each event as one JSON line for Cloud Logging: severity, message, fields."""

    def write(level: str, event: str, fields: Mapping[str, Any]) -> None:
        reason = fields.get("reason")
        line = {
            "severity": SEVERITIES.get(level, "DEFAULT"),
            "message": f"{event}: {reason}" if reason else event,
            "event": event,
            **fields,
            **common,
        }
        (stream or sys.stdout).write(json.dumps(line, default=str, ensure_ascii=False) + "\n")
        (stream or sys.stdout).flush()

    return write
