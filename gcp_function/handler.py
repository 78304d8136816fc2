"""The HTTP function: runs once for each call, and returns the report with a status code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

import functions_framework

from gcp_function.clients import RATES, warm_clients
from gcp_function.errors import translate
from gcp_function.provider import GcpCloud
from gcp_function.secrets import WebhookSecret
from gcp_function.settings import read_settings
from gcp_function.state_store import GcsStore
from gcp_function.targets import REACH
from shared.http import answer_run
from shared.metrics import log_metrics
from shared.notify.changes import Wording
from shared.notify.delivery import Secret
from shared.publish import Publishing
from shared.reconcile import RunResult
from shared.reconcile import reconcile as run_to_its_end
from shared.request import RunRequest, Trigger, refuse_months
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.context import RunContext
from shared.runtime.log import Sink
from shared.state.session import READ_SECONDS
from shared.state.store import StateStore

if TYPE_CHECKING:
    from flask import Request

# Cloud Logging's severities; it would show any other name as DEFAULT.
SEVERITIES = {"debug": "DEBUG", "info": "INFO", "warning": "WARNING", "error": "ERROR"}
WORDING = Wording("GCP", "billing account", "billing accounts")
HEADERS = {"Content-Type": "application/json; charset=utf-8"}
Answer = tuple[str, int, dict[str, str]]


@functions_framework.http
def reconcile(request: Request, *, clock: Clock | None = None) -> Answer:
    """Run once for a call of Cloud Scheduler or another invoker, and return the report.

    200: the run was ok or degraded. 400: the request is invalid. 409: another run is in progress. 500: the settings are
    invalid, or the run failed. Without a `clock`, as the framework calls it, the system clock is used.
    """
    headers = dict(request.headers)
    sink = cloud_logging(trace_of(headers, os.environ))

    def run(asked: RunRequest) -> RunResult:
        result = run_once(asked, os.environ, sink, clock or SystemClock())
        log_metrics(sink, result.report, result.metrics)
        return result

    found = answer_run(request.get_data(cache=True), trigger_of(headers), run, sink)
    return found.body(), found.status, HEADERS


def run_once(
    request: RunRequest,
    environment: Mapping[str, str],
    sink: Sink,
    clock: Clock,
    seconds: float | None = None,
    seed: int | None = None,
    credentials: Any = None,
) -> RunResult:
    """Reconcile once, within `seconds` (default: the invocation's time in the settings).

    `credentials` are the caller's; without them Google's libraries find the function's own.

    Raises SettingsError before any call, AnotherRun, and RunStopped if there are no credentials.
    """
    refuse_months(request, "Google delivers no past months once an export is switched on")
    settings = read_settings(environment)
    run = RunContext("gcp", settings.engine, sink, clock, seconds or settings.seconds, RATES, translate, seed)
    clients = warm_clients(settings, credentials)
    secret = (
        Secret(WebhookSecret(settings, clients, run).read, bool(settings.endpoints)) if settings.notify_url else None
    )
    store = GcsStore(settings, clients, run)
    return run_to_its_end(GcpCloud(settings, clients, run), store, request, run, Publishing(WORDING, REACH, secret))


def open_state(
    environment: Mapping[str, str], sink: Sink, clock: Clock, credentials: Any = None
) -> tuple[StateStore, RunContext]:
    """Return the store of the state and the reports, and the context of its calls, which end after READ_SECONDS.

    `credentials` as in `run_once`. Raises SettingsError before any call.
    """
    settings = read_settings(environment)
    run = RunContext("gcp", settings.engine, sink, clock, READ_SECONDS, RATES, translate)
    return GcsStore(settings, warm_clients(settings, credentials), run), run


def trigger_of(headers: Mapping[str, str]) -> Trigger:
    """Return who calls: Cloud Scheduler, which marks its calls, an event (CloudEvents over HTTP), or another caller.

    Sources: "HTTP target headers" (Cloud Scheduler), "HTTP protocol binding for CloudEvents", binary mode.
    """
    lower = {name.lower() for name in headers}
    if "x-cloudscheduler" in lower:
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
