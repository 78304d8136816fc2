"""Lambda entry point: turn an event into a request, run it, and raise an exception if the whole run failed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from aws_lambda_powertools.metrics import MetricUnit

from aws_lambda.clients import RATES, Clients, warm_clients
from aws_lambda.errors import translate
from aws_lambda.provider import AwsCloud
from aws_lambda.secrets import WebhookSecret
from aws_lambda.settings import read_settings
from aws_lambda.state_store import S3Store
from aws_lambda.targets import REACH
from shared.errors import AnotherRun, NotUnderstood, ReportedError, RequestError
from shared.metrics import CALLS_BY_QUOTA, Metric, Unit
from shared.notify.changes import Wording
from shared.notify.delivery import Secret
from shared.parsing import digits, mapping
from shared.publish import Publishing
from shared.reconcile import RunResult, reconcile
from shared.redaction import printable
from shared.report import failure_message
from shared.request import RunRequest, Trigger, parse_request, refuse_months
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.context import RunContext
from shared.runtime.log import Sink
from shared.state.session import READ_SECONDS
from shared.state.store import StateStore

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

NAMESPACE = "TailpipeExports"
SERVICE = "tailpipe-exports"
WORDING = Wording("AWS", "account", "accounts")
# AcceptHandshake is in the invited account's trail; the management account's trail has the membership events. Sources:
# "Logging AWS Organizations API calls with AWS CloudTrail" (user guide), AcceptHandshake (API reference).
DEPARTED = "AccountDepartedOrganization"
ACCOUNT_EVENTS = ("CreateAccountResult", "AccountJoinedOrganization", DEPARTED, "AcceptHandshake", "MoveAccount")


class RunFailed(Exception):
    """The whole run failed or was unsafe: Lambda counts an error and invokes the on-failure destination."""


class _Formatter(LambdaPowertoolsFormatter):
    """Writes an event's fields at the top level of the line; as `extra`, fields such as ``name`` would conflict."""

    def serialize(self, log: Any) -> str:
        fields = log.pop("fields", {})
        return super().serialize({**log, **fields})


# POWERTOOLS_LOG_LEVEL sets the level, INFO by default.
logger = Logger(service=SERVICE, logger_formatter=_Formatter(), location=None)


def handler(event: Any, context: LambdaContext, *, clock: Clock | None = None) -> dict[str, Any]:
    """Run once for a Lambda event and return the report.

    Raises SettingsError or RequestError before any call, RunFailed if the report's status is ``failed``, and AnotherRun
    if another run is in progress. A degraded run returns normally, with the metric Degraded for the alarm. Lambda
    passes no `clock`, so that the system clock is used.
    """
    request = request_of(event)
    seconds = context.get_remaining_time_in_millis() / 1000
    account = account_of(str(getattr(context, "invoked_function_arn", "")))
    try:
        finished = run_once(request, os.environ, powertools_sink, clock or SystemClock(), seconds, account)
    except AnotherRun:
        raise
    except ReportedError as error:
        # Not chained: the Lambda runtime prints the cause, whose text comes from outside and may contain secrets.
        raise RunFailed(f"{error.code}: {error.message}. {error.remedy}") from None
    emit_metrics(finished.metrics, finished.report["calls"])
    if finished.report["status"] == "failed":
        raise RunFailed(failure_message(finished.report))
    return finished.answer()


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

    `account` is the id of the account that the function runs in; without it, STS is called. Raises SettingsError before
    any call, AnotherRun, and the ReportedError of the STS call.
    """
    refuse_months(request, "AWS delivers past months only through a case at AWS Support")
    settings = read_settings(environment)
    clients = warm_clients(settings, environment)
    run = RunContext("aws", settings.engine, sink, clock, seconds, RATES, translate, seed)
    own = account or _own_account(clients, run)
    cloud = AwsCloud(settings, own, clients, run)
    secret = (
        Secret(WebhookSecret(settings, clients, run).read, bool(settings.endpoints)) if settings.notify_url else None
    )
    return reconcile(cloud, S3Store(settings, own, clients, run), request, run, Publishing(WORDING, REACH, secret))


def open_state(environment: Mapping[str, str], sink: Sink, clock: Clock) -> tuple[StateStore, RunContext]:
    """Return the store of state and reports, for reads within READ_SECONDS, and the context of its calls.

    Raises SettingsError before any call, and the ReportedError of the STS call.
    """
    settings = read_settings(environment)
    clients = warm_clients(settings, environment)
    run = RunContext("aws", settings.engine, sink, clock, READ_SECONDS, RATES, translate)
    return S3Store(settings, _own_account(clients, run), clients, run), run


def _own_account(clients: Clients, run: RunContext) -> str:
    own = run.calls("sts", clients.sts.get_caller_identity)["Account"]
    if digits(own, 12) is None:
        raise NotUnderstood("sts GetCallerIdentity", "its account id is not a number of 12 digits")
    return str(own)


def request_of(event: Any) -> RunRequest:
    """Return the request of an event.

    A scheduled event, an empty event and None request a full run; CloudTrail events of accounts that were created,
    joined or moved request that account. Anything else is parsed as a request. Raises RequestError.
    """
    if not isinstance(event, Mapping):
        return parse_request(event)
    detail = event.get("detail")
    if event.get("source") == "aws.organizations" and isinstance(detail, Mapping):
        return _of_account(detail)
    scheduled = event.get("source") in ("aws.scheduler", "aws.events") or event.get("detail-type") == "Scheduled Event"
    if scheduled and "detail-type" in event:
        return RunRequest(trigger=Trigger.TIMER)
    return parse_request(event)


def account_of(arn: str) -> str | None:
    """Return the account id in a function's ARN, or None."""
    fields = arn.split(":")
    return digits(fields[4], 12) if len(fields) > 4 else None


def _of_account(detail: Mapping[str, Any]) -> RunRequest:
    """Return the request for the account in an AWS Organizations event."""
    name = detail.get("eventName")
    account: object = None
    if name == "CreateAccountResult":
        status = mapping(mapping(detail.get("serviceEventDetails")).get("createAccountStatus"))
        # A failed creation has no account id; a full run is cheap and covers whatever exists.
        account = status.get("accountId") if status.get("state") == "SUCCEEDED" else None
    elif name == "AccountJoinedOrganization":
        account = mapping(detail.get("serviceEventDetails")).get("accountId")
    elif name == "MoveAccount":
        account = mapping(detail.get("requestParameters")).get("accountId")
    elif name == "AcceptHandshake":
        account = _handshake_account(detail)
    elif name != DEPARTED:  # only a full run detects which account is missing
        raise RequestError([f"event {printable(str(name))[:80]!r} is not one of {', '.join(ACCOUNT_EVENTS)}"])
    found = digits(account, 12)
    return RunRequest(scopes=(found,) if found else (), trigger=Trigger.EVENT)


def _handshake_account(detail: Mapping[str, Any]) -> object:
    """Return the account that accepted an invitation: a party of the handshake, or the caller."""
    parties = mapping(mapping(detail.get("responseElements")).get("handshake")).get("parties")
    for party in parties if isinstance(parties, list) else ():
        if mapping(party).get("type") == "ACCOUNT":
            return party.get("id")
    return mapping(detail.get("userIdentity")).get("accountId")


# CloudWatch has no unit of hours.
UNITS = {Unit.COUNT: MetricUnit.Count, Unit.SECONDS: MetricUnit.Seconds, Unit.HOURS: MetricUnit.NoUnit}
LEVELS = {"debug": logger.debug, "info": logger.info, "warning": logger.warning, "error": logger.error}


def powertools_sink(level: str, event: str, fields: Mapping[str, Any]) -> None:
    """Write one event with Powertools: its name as the message and as `event`, and its fields."""
    LEVELS.get(level, logger.info)(event, extra={"fields": {"event": event, **fields}})


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
