"""Calls the deployed Azure function: reads its key, waits for runs in progress, and handles late responses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from azure.core import PipelineClient
from azure.core.exceptions import AzureError, ServiceRequestError, ServiceResponseError
from azure.core.pipeline.policies import RequestIdPolicy, UserAgentPolicy
from azure.core.rest import HttpRequest

from azure_function.answers import CLIENT_TYPE
from azure_function.clients import Clients
from azure_function.settings import STATE_CONTAINER
from azure_function.state_store import BlobStore
from cli.deployment.azure.app import SITES_API, FunctionApp
from cli.deployment.azure.functions import require
from cli.deployment.azure.rest import DOCTOR, Rest
from cli.deployment.azure.scopes import settings_of
from cli.deployment.azure.session import Session
from cli.deployment.model import OperatorError, Problem
from cli.deployment.operator import Tell
from cli.terminal.console import clean
from shared.errors import NotFound, ReportedError
from shared.report import was_cut
from shared.state.store import report_name

READER = "Storage Blob Data Reader"
WHOLE = "the whole report is"
RECONCILE, STATUS, ROUNDS = "reconcile_http", "status", "rounds"
ANSWER_S = 240.0  # the platform ends a request after 230 s
AGAIN_S = 3.0
WAIT = timedelta(minutes=30)  # for another run, or for the end of our own
ROUND_WAIT = timedelta(hours=24)  # the longest time that a round may have
ROUND_POLL_S = 5.0
STARTING = timedelta(minutes=5)  # a new deployment returns 404 and 503 for a while
POLL_S = 10.0
OK, ACCEPTED, BAD, UNAUTHORIZED, MISSING, CONFLICT = 200, 202, 400, 401, 404, 409
LATE = (502, 504)
NOT_STARTED = (404, 503)


def invoke(session: Session, payload: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Call the function once and return its report; wait while another run holds the lock. Raises OperatorError."""
    app = require(session)
    report = FunctionCaller(session.rest, app).run(payload, tell)
    short = was_cut(report) or str(report.get("next_run_hint", "")).startswith(WHOLE)
    return _whole(session, app, report, tell) if short else report


def run_round(session: Session, tell: Tell) -> dict[str, Any]:
    """Begin a round over all tenants, or join the one in progress, and return its report. Raises OperatorError."""
    app = require(session)
    if not app.settings.get("ROUND_SCHEDULE"):
        raise OperatorError(Problem(f"{app.name} serves no tenants", "Deploy it with --var fleet=true."))
    return FunctionCaller(session.rest, app).round(tell)


def _whole(session: Session, app: FunctionApp, report: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Return the stored report instead of one with cut lists, or the latter if the stored one cannot be read."""
    if report.get("dry_run"):
        tell("this report is cut, and that of a dry run is not stored; tailpipe-exports plan azure --all shows all")
        return report
    name = report_name(str(report["run_id"]))
    try:
        settings = settings_of(session, app)
        if session.rest.loopback:
            settings = msgspec.structs.replace(settings, blob_key=session.environment.get("BLOB_KEY", ""))
        store = BlobStore(settings, Clients(settings, {}), session.rest.run)
        found = json.loads(store.report(str(report["run_id"])))
    except (OperatorError, ReportedError, ValueError) as error:
        account = app.settings.get("STATE_ACCOUNT", "")
        tell(
            f"this report is cut, and the whole one could not be read: {name} in container {STATE_CONTAINER} of "
            f"storage account {account}: {clean(error)}"
        )
        tell(f"the role {READER} on that container lets you read it")
        return report
    return found if isinstance(found, dict) and "status" in found else report


class FunctionCaller:
    """Calls one deployment's functions over HTTP with their keys, which are never shown."""

    def __init__(self, rest: Rest, deployed: FunctionApp) -> None:
        self._rest = rest
        self._deployed = deployed
        host = str((deployed.site.get("properties") or {}).get("defaultHostName", ""))
        self._base = rest.function_endpoint or f"https://{host}"
        policies: list[Any] = [RequestIdPolicy(), UserAgentPolicy(CLIENT_TYPE)]
        self._client: Any = PipelineClient(self._base, policies=policies, transport=rest.transport(ANSWER_S))

    def run(self, payload: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
        """Call `reconcile` and return the report, also of a failed run; wait while another run holds the lock."""
        clock = self._rest.clock
        key, began = self._key(RECONCILE), clock.monotonic()
        shown = ""
        while True:
            asked_at = clock.now()
            try:
                status, body = self._send("POST", "/api/reconcile", key, payload)
            except ServiceResponseError:
                status, body = LATE[0], {}
            if status in LATE:
                return self._outcome(payload, asked_at, tell)
            waited = timedelta(seconds=clock.monotonic() - began)
            if status == CONFLICT and waited < WAIT:
                holder = str((body.get("running") or {}).get("run_id", ""))
                if holder != shown:
                    tell(f"{_held(body)}; waiting for it, {WAIT.total_seconds() / 60:.0f} minutes at most")
                    shown = holder
            elif status in NOT_STARTED and "run_id" not in body and waited < STARTING:
                if not shown:
                    tell(f"{self._deployed.name} does not respond yet ({status}); trying again")
                    shown = "starting"
            else:
                return self._report(status, body)
            clock.wait_until(clock.monotonic() + AGAIN_S)

    def status(self) -> dict[str, Any]:
        """Return the function's summary of its runs. Raises OperatorError."""
        try:
            status, body = self._send("GET", "/api/status", self._key(STATUS), None)
        except ServiceResponseError as error:
            what = f"{self._base} ended its response early: {type(error).__name__}"
            raise OperatorError(Problem(what, "Check that the function app is running.")) from error
        if status != OK:
            raise OperatorError(
                Problem(f"the function's status endpoint returned {status}{_why(body)}", _remedy(status))
            )
        return body

    def round(self, tell: Tell) -> dict[str, Any]:
        """Begin a round or join the one in progress, and return its short report at its end. Raises OperatorError."""
        clock, key = self._rest.clock, self._key(ROUNDS)
        status, body = self._round("POST", key)
        if status not in (ACCEPTED, CONFLICT):
            raise OperatorError(Problem(f"the function answered {status}{_why(body)}", _remedy(status)))
        begun = "a round is in progress" if status == CONFLICT else "a round has begun"
        tell(f"{begun} (since {body.get('begun_at', 'now')}); waiting for its end")
        until = clock.monotonic() + ROUND_WAIT.total_seconds()
        answered = clock.monotonic()
        while clock.monotonic() < until:
            clock.wait_until(clock.monotonic() + ROUND_POLL_S)
            status, body = self._round("GET", key)
            state = body.get("state") if status == OK else ""
            if state == "completed" and isinstance(body.get("report"), dict):
                report: dict[str, Any] = body["report"]
                return report
            if state == "failed":
                raise OperatorError(Problem(f"the round failed: {clean(str(body.get('error')))}", _remedy(status)))
            if state == "running":
                answered = clock.monotonic()
            elif clock.monotonic() - answered >= STARTING.total_seconds():
                # A host that moves answers again within minutes, and the round goes on meanwhile.
                raise OperatorError(Problem(f"the function answered {status}{_why(body)}", _remedy(status)))
        raise OperatorError(Problem("the round did not end within a day", "See the log for `round-late`."))

    def _round(self, method: str, key: str) -> tuple[int, dict[str, Any]]:
        try:
            return self._send(method, "/api/rounds", key, None)
        except ServiceResponseError:
            return LATE[0], {}

    def _outcome(self, payload: Mapping[str, Any], asked_at: datetime, tell: Tell) -> dict[str, Any]:
        """Follow a run whose response came too late through the function's summary of its runs."""
        if payload.get("dry_run"):
            raise OperatorError(
                Problem(
                    "the dry run took longer than a response may", "Name some scopes with --scope, and call it again."
                )
            )
        tell("the response would take longer than Azure allows; the run continues, and its status is polled")
        clock, until = self._rest.clock, self._rest.clock.monotonic() + WAIT.total_seconds()
        answered = clock.monotonic()
        while clock.monotonic() < until:
            clock.wait_until(clock.monotonic() + POLL_S)
            try:
                known = self.status()
            except OperatorError:
                # Half an hour is enough for a host to move; after that, it counts as unreachable.
                if clock.monotonic() - answered >= STARTING.total_seconds():
                    raise
                continue
            answered = clock.monotonic()
            last = known.get("last_run") or {}
            if not known.get("running") and last and datetime.fromisoformat(last["at"]) >= asked_at:
                return _remembered(known, asked_at)
        raise OperatorError(
            Problem(
                f"the run did not end within {WAIT.total_seconds() / 60:.0f} minutes", "It continues; see its logs."
            )
        )

    def _report(self, status: int, body: dict[str, Any]) -> dict[str, Any]:
        if "run_id" in body and status != CONFLICT:
            return body
        if status == CONFLICT:
            raise OperatorError(Problem(f"{_held(body)}, and still holds it", "Call it again when that run has ended."))
        problems = [str(one) for one in body.get("faults", ())]
        if problems:
            remedy = "Deploy it again with other values." if status != BAD else ""
            raise OperatorError(*(Problem(one, remedy) for one in problems))
        raise OperatorError(Problem(f"the function answered {status}{_why(body)}", _remedy(status)))

    def _send(self, method: str, path: str, key: str, payload: Mapping[str, Any] | None) -> tuple[int, dict[str, Any]]:
        request = HttpRequest(method, f"{self._base}{path}", headers={"x-functions-key": key}, json=payload)
        try:
            answer = self._client.send_request(request)
        except (ServiceRequestError, AzureError) as error:
            if isinstance(error, ServiceResponseError):
                raise
            raise OperatorError(
                Problem(
                    f"{self._base} cannot be reached: {type(error).__name__}", "Check that the function app is running."
                )
            ) from error
        try:
            body = json.loads(answer.content or b"{}")
        except ValueError:
            body = {}
        return int(answer.status_code), body if isinstance(body, dict) else {}

    def _key(self, function: str) -> str:
        try:
            answer = self._rest.ask("POST", f"{self._deployed.id}/functions/{function}/listkeys", SITES_API)
        except NotFound as error:
            raise OperatorError(
                Problem(
                    f"function app {self._deployed.name} has no function {function}: it has no package, or its host "
                    "could not load it",
                    "Publish the package: run `tailpipe-exports deploy azure` again, as it was deployed.",
                )
            ) from error
        # The reference wraps the keys in `properties`; the service returns them without it.
        keys = answer.get("properties") or answer
        key = keys.get("default") or next((one for one in keys.values() if isinstance(one, str)), "")
        if not key:
            raise OperatorError(
                Problem(f"Azure has no key for the function {function}", "See the app's keys in the portal.")
            )
        return str(key)


def _held(body: Mapping[str, Any]) -> str:
    held = body.get("running") or {}
    return f"run {held.get('run_id', 'of another caller')} has been in progress since {held.get('since', 'a while')}"


def _why(body: Mapping[str, Any]) -> str:
    return f": {body['message']}" if body.get("message") else ""


def _remedy(status: int) -> str:
    if status == UNAUTHORIZED:
        return "Its key was renewed meanwhile: run the command again."
    if status == MISSING:
        return "The package was not published: `tailpipe-exports deploy azure` publishes it again."
    return f"See the function's logs in Application Insights. {DOCTOR}"


def _remembered(known: Mapping[str, Any], asked_at: datetime) -> dict[str, Any]:
    """Return a run's summary from the state in the form of a report; the full report is in the state's container."""
    last = known["last_run"]
    return {
        "cloud": known.get("cloud", "azure"),
        "run_id": last["run_id"],
        "trigger": "call",
        "status": last["status"],
        "dry_run": False,
        "enumeration_complete": True,
        "run_complete": True,
        "started_at": asked_at.isoformat(),
        "duration_s": max(0.0, (datetime.fromisoformat(last["at"]) - asked_at).total_seconds()),
        "plan_hash": "",
        "scopes": known["scopes"],
        "actions": [],
        "outcomes": {},
        "calls": {},
        "manual": [],
        "failures": [],
        "excluded": [],
        "deliveries": {"new": 0, "late": 0, "missing": 0},
        "next_run_hint": f"{WHOLE} runs/{last['run_id']}.json in the state's container",
    }
