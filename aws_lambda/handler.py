"""Lambda entry point: turn an event into a request, run it, and raise an exception if the whole run failed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

from aws_lambda.clients import Clients, new_run, own_account, warm_clients
from aws_lambda.deliveries import announcer_of, delivery_documents
from aws_lambda.events import MEMBERSHIP, membership
from aws_lambda.log import SERVICE, powertools_sink
from aws_lambda.provider import AwsCloud
from aws_lambda.rounds import Fleet
from aws_lambda.secrets import webhook_of
from aws_lambda.settings import AwsSettings, account_of, read_settings
from aws_lambda.state_store import S3Store
from aws_lambda.targets import REACH
from aws_lambda.tenant_clients import tenant_clients
from aws_lambda.tenants import check_destination
from shared.deliveries.chain import StoredDeliveries
from shared.errors import AnotherRun, ReportedError, RequestError, TooSoon
from shared.hints import parse_hints
from shared.metrics import CALLS_BY_QUOTA, Metric, Unit
from shared.notify.changes import Wording
from shared.publish import Publishing
from shared.reconcile import RunResult, reconcile
from shared.redaction import printable
from shared.report import failure_message
from shared.request import (
    RoundRequest,
    RunRequest,
    Step,
    Trigger,
    hinted,
    parse_request,
    parse_round,
    refuse_months,
)
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.context import RunContext
from shared.runtime.log import Sink, with_tenant
from shared.state.session import READ_SECONDS
from shared.state.store import StateStore
from shared.tenants.registry import TENANT
from shared.tenants.rounds import metrics_of_round

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

NAMESPACE = "TailpipeExports"
WORDING = Wording("AWS", "account", "accounts")
# In one answer to the coordinator; an id has at most 40 characters.
MOST_TENANTS = 5000


class RunFailed(Exception):
    """The whole run failed or was unsafe: Lambda counts an error and invokes the on-failure destination."""


def handler(event: Any, context: LambdaContext, *, clock: Clock | None = None) -> dict[str, Any]:
    """Run once for a Lambda event and return the report.

    Raises SettingsError or RequestError before any call, RunFailed if the report's status is ``failed``, and AnotherRun
    if another run is in progress. A run for events waits until a minute has passed since the last such run. A degraded
    run returns normally, with the metric Degraded for the alarm. Lambda passes no `clock`, so that the system clock is
    used.

    In a round, a tenant's run returns its row whatever became of it, so that the coordinator repeats only calls without
    an answer; the metrics are those of the round. A run for one tenant alone fails like any other.
    """
    clock = clock or SystemClock()
    end = clock.monotonic() + context.get_remaining_time_in_millis() / 1000
    account = account_of(str(getattr(context, "invoked_function_arn", "")))
    step = parse_round(event)
    request = RunRequest() if step else request_of(event)

    def run(request: RunRequest) -> RunResult:
        return run_once(request, os.environ, powertools_sink, clock, end - clock.monotonic(), account)

    try:
        if step or request.tenant:
            fleet = Fleet(os.environ, powertools_sink, clock, end - clock.monotonic(), account)
            if step:
                return _round(fleet, step)
            if request.round:
                return fleet.run_in_round(request, run)
            finished = fleet.run_alone(request, run)
        else:
            try:
                finished = run(request)
            except TooSoon as early:
                # Waiting here keeps the only concurrent execution, so events meanwhile wait in Lambda's queue.
                clock.wait_until(clock.monotonic() + early.wait_s)
                finished = run(request)
            emit_metrics(finished.metrics, finished.summary["calls"])
    except AnotherRun:
        raise
    except ReportedError as error:
        # Not chained: the Lambda runtime prints the cause, whose text comes from outside and may contain secrets.
        raise RunFailed(f"{error.code}: {error.message}. {error.remedy}") from None
    if finished.summary["status"] == "failed":
        raise RunFailed(failure_message(finished.summary))
    return finished.answer()


def _round(fleet: Fleet, step: RoundRequest) -> dict[str, Any]:
    """Begin a round and return its tenants, or end it and return what the coordinator needs. Raises CloudError.

    The coordinator takes answers of at most 256 KiB ("Quotas related to task executions", AWS Step Functions Developer
    Guide): the rows are in the stored report only, and tenants beyond MOST_TENANTS come first in the next round.
    """
    if step.step is Step.BEGIN:
        begun = fleet.begin()
        return {**begun, "tenants": begun["tenants"][:MOST_TENANTS]}
    report = fleet.end(step.id)
    emit_metrics(metrics_of_round(report), report["calls"])
    # The coordinator calls these again, until the round has used their share.
    unfinished = [row["tenant"] for row in report["rows"] if row.get("again")][:MOST_TENANTS]
    shown = {name: report[name] for name in ("round", "status", "started_at", "duration_s", "tenants", "scopes")}
    return {**shown, "unfinished": unfinished}


def run_once(
    request: RunRequest,
    environment: Mapping[str, str],
    sink: Sink,
    clock: Clock,
    seconds: float,
    account: str | None = None,
    seed: int | None = None,
) -> RunResult:
    """Reconcile once, within `seconds`.

    `account` is the id of the account that the function runs in; without it, STS is called. For a request that names a
    tenant, the `environment` is that of the deployment or, with TENANT, the tenant's. Raises SettingsError before any
    call, RegistryError and RequestError for the tenant, AnotherRun, and the ReportedError of calls before the run.
    """
    refuse_months(request, "AWS delivers past months only through a case at AWS Support")
    if request.tenant and not environment.get(TENANT):
        environment = Fleet(environment, sink, clock, seconds, account).environment_of(request.tenant)
    settings = read_settings(environment)
    request = msgspec.structs.replace(request, tenant=settings.tenant)
    own = warm_clients(settings.at_home(), environment)
    run = new_run(settings, with_tenant(sink, settings.tenant), clock, seconds, seed)
    home = account or own_account(own, run)
    payer, clients = _payer(settings, environment, home, own)
    cloud = AwsCloud(settings, payer, clients, run)
    secret = webhook_of(settings, own, run)
    announcer = announcer_of(settings, payer, clients, run, secret, own)
    publishing = Publishing(WORDING, REACH, secret, announcer=announcer)
    return reconcile(cloud, S3Store(settings, home, own, run), request, run, publishing)


def _payer(settings: AwsSettings, environment: Mapping[str, str], home: str, own: Clients) -> tuple[str, Clients]:
    """Return the account whose exports a run keeps, and the clients for it; without a tenant, the deployment's own.

    Raises SettingsError if a tenant's entry concerns the deployment's own account.
    """
    if not settings.tenant:
        return home, own
    check_destination(settings, home)
    return account_of(settings.entry_role) or home, tenant_clients(settings, environment, own)


def open_state(environment: Mapping[str, str], sink: Sink, clock: Clock) -> tuple[StateStore, RunContext]:
    """Return the store of state and reports, for reads within READ_SECONDS, and the context of its calls.

    Raises SettingsError before any call, and the ReportedError of the STS call.
    """
    settings = read_settings(environment)
    own = warm_clients(settings.at_home(), environment)
    run = new_run(settings, sink, clock, READ_SECONDS)
    return S3Store(settings, own_account(own, run), own, run), run


def open_deliveries(environment: Mapping[str, str], sink: Sink, clock: Clock) -> tuple[StoredDeliveries, RunContext]:
    """Return the documents of deliveries, for reads within READ_SECONDS, and the context of their calls.

    Raises SettingsError before any call, and the ReportedError of the STS call.
    """
    settings = read_settings(environment)
    own = warm_clients(settings.at_home(), environment)
    run = new_run(settings, sink, clock, READ_SECONDS)
    payer, clients = _payer(settings, environment, own_account(own, run), own)
    clients.enter(run)
    return delivery_documents(settings, payer, clients, run), run


def request_of(event: Any) -> RunRequest:
    """Return the request of an event.

    A scheduled event, an empty event and None request a full run; the collector's hints request what they name. Events
    of accounts that were created, joined or moved request that account: deployments without a collector send them
    here. Anything else is parsed as a request. Raises RequestError.
    """
    if not isinstance(event, Mapping):
        return parse_request(event)
    if event.keys() == {"hints"}:
        return hinted(parse_hints(event["hints"]))
    detail = event.get("detail")
    if event.get("source") == "aws.organizations" and isinstance(detail, Mapping):
        return _of_account(detail)
    scheduled = event.get("source") in ("aws.scheduler", "aws.events") or event.get("detail-type") == "Scheduled Event"
    if scheduled and "detail-type" in event:
        return RunRequest(trigger=Trigger.TIMER)
    return parse_request(event)


def _of_account(detail: Mapping[str, Any]) -> RunRequest:
    name = str(detail.get("eventName"))
    if name not in MEMBERSHIP:
        raise RequestError([f"event {printable(name)[:80]!r} is not one of {', '.join(MEMBERSHIP)}"])
    account = membership(name, detail)
    return RunRequest(scopes=(account,) if account else (), trigger=Trigger.EVENT)


# CloudWatch has no unit of hours.
UNITS = {Unit.COUNT: MetricUnit.Count, Unit.SECONDS: MetricUnit.Seconds, Unit.HOURS: MetricUnit.NoUnit}


def emit_metrics(metrics: Sequence[Metric], calls: Mapping[str, int]) -> None:
    """Write a run's metrics to standard output in CloudWatch's embedded metric format.

    The `calls` by quota are fields of the same line and no metrics: each metric is charged for.
    """
    if not metrics:
        return
    embedded = Metrics(namespace=NAMESPACE, service=SERVICE)
    for one in metrics:
        embedded.add_metric(name=metric_name(one.name), unit=UNITS[one.unit], value=one.value)
    embedded.add_metadata(CALLS_BY_QUOTA, dict(calls))
    embedded.flush_metrics()


def metric_name(name: str) -> str:
    """Return a metric's name in CloudWatch's usual spelling: ``newly_excluded`` becomes ``NewlyExcluded``."""
    return "".join(part.capitalize() for part in name.split("_"))
