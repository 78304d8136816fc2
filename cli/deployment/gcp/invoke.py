"""Calls the deployed function by its address or, if that is reachable only inside the project, by its schedule."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from cli.deployment.gcp.functions import missing
from cli.deployment.gcp.rest import Unreachable, reach, refused
from cli.deployment.gcp.session import Session
from cli.deployment.model import OperatorError, Problem
from cli.deployment.operator import Tell
from cli.deployment.waiting import subject
from gcp_function.state_store import KEY
from shared.errors import ReportedError
from shared.report import was_cut

Sleep = Callable[[float], None]

AGAIN_S = 5.0
# A run holds the lock at most for the function's longest duration, half an hour, plus a lease of five minutes.
LONGEST_WAIT_S = 2100.0
# "Access change propagation", IAM documentation: typically two minutes, sometimes seven or more.
PROPAGATION_S = 420.0
OPEN = "ALLOW_ALL"
DEPLOY = "tailpipe-exports deploy gcp gives it to the schedule's account again"
BUSY = "another call of the function is being answered"


def invoke(session: Session, payload: Mapping[str, Any], tell: Tell, sleep: Sleep) -> dict[str, Any]:
    """Call the function once and return its report. Raises OperatorError."""
    if session.live is None:
        raise OperatorError(missing(session))
    asked = {name: value for name, value in payload.items() if value}
    if not is_inside(session):
        return _Caller(session, tell, sleep).call(asked)
    if asked:
        tenant = f" --tenant {asked['tenant']}" if asked.get("tenant") else ""
        raise OperatorError(
            Problem(
                f"the function is called from inside its project only, which can pass on no {', '.join(asked)}",
                "Deploy with --var ingress=ALLOW_ALL (a token is asked for all the same), "
                f"or use `tailpipe-exports run gcp{tenant}`.",
            )
        )
    tell("the function is called from inside its project only: its schedule is made to call it")
    known = _finished(session)
    try:
        session.google.post("cloudscheduler", f"v1/{session.location}/jobs/{session.function}:run")
    except ReportedError as error:
        raise refused(error) from error
    return _follow(session, known, tell, sleep)


def is_inside(session: Session) -> bool:
    """Return whether the deployed function can be called from inside its project only."""
    return bool((session.live or {}).get("serviceConfig", {}).get("ingressSettings", OPEN) != OPEN)


class _Caller:
    """One call by the function's address, retried while it is busy or a permission is not yet in effect."""

    def __init__(self, session: Session, tell: Tell, sleep: Sleep) -> None:
        self._session, self._tell, self._sleep = session, tell, sleep
        self._waited = 0.0
        self._shown = ""

    def call(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        known = _finished(self._session)
        timeout_s = (
            float(self._session.live["serviceConfig"].get("timeoutSeconds", 300)) if self._session.live else 300.0
        )
        while True:
            try:
                answer = reach(
                    self._session.google,
                    self._session.uri,
                    self._identity(),
                    json.dumps(payload).encode(),
                    timeout_s + 30,
                )
            except Unreachable as error:
                return self._lost(payload, known, type(error).__name__)
            document = _document(answer)
            if "outcomes" in document:
                return self._whole(document)
            if answer.status_code == 504:
                return self._lost(payload, known, "Cloud Run's time limit")
            self._wait(self._why(answer.status_code, document))

    def _whole(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return the stored report if the response's lists were cut; a dry run stores none."""
        if not was_cut(document):
            return document
        try:
            return stored(self._session, str(document["run_id"])) or document
        except ReportedError:
            return document

    def _identity(self) -> str:
        """Return a token of the schedule's account, the only one that may call the function."""
        account = self._session.account("scheduler")
        body = {"audience": self._session.uri, "includeEmail": True}
        try:
            return str(
                self._session.google.post(
                    "iamcredentials", f"v1/projects/-/serviceAccounts/{account}:generateIdToken", body
                )["token"]
            )
        except ReportedError as error:
            remedy = (
                f"Run: gcloud iam service-accounts add-iam-policy-binding {account} --project {self._session.project} "
                f"--member={self._session.member} --role=roles/iam.serviceAccountOpenIdTokenCreator"
            )
            raise refused(error, remedy) from error

    def _why(self, status: int, document: Mapping[str, Any]) -> tuple[str, float]:
        """Return the reason for waiting and the maximum time. Raises OperatorError if waiting does not help."""
        if status == 409:
            return str(document.get("message") or "another run is in progress"), LONGEST_WAIT_S
        if status in (429, 503):
            return BUSY, LONGEST_WAIT_S
        if status in (401, 403):
            return f"the permission to call the function is not in effect (HTTP {status})", PROPAGATION_S
        if document.get("error"):
            said = [str(fault) for fault in document.get("faults", ())] or [str(document.get("message", ""))]
            remedy = str(document.get("remedy", ""))
            raise OperatorError(*(Problem(f"{document['error']}: {one}", remedy) for one in said))
        raise OperatorError(
            Problem(
                f"the function's address answers {status}, without a report",
                f"Read its log: {_logs(self._session)}",
            )
        )

    def _wait(self, why: tuple[str, float]) -> None:
        what, limit_s = why
        if self._waited >= limit_s:
            # A removed permission cannot be distinguished from one that is not yet in effect.
            remedy = "Try again later." if limit_s != PROPAGATION_S else f"If it was not granted just now: {DEPLOY}."
            raise OperatorError(Problem(f"after {self._waited / 60:.0f} minutes still: {what}", remedy))
        if subject(what) != self._shown:
            self._tell(f"waiting: {what}")
            self._shown = subject(what)
        self._sleep(AGAIN_S)
        self._waited += AGAIN_S

    def _lost(self, payload: Mapping[str, Any], known: set[str], why: str) -> dict[str, Any]:
        if payload.get("dry_run"):
            raise OperatorError(
                Problem(f"the answer was lost ({why}), and a dry run stores no report", "Call it again.")
            )
        self._tell(f"the answer was lost ({why}); the run continues, and the command waits for its report")
        return _follow(self._session, known, self._tell, self._sleep)


def stored(session: Session, run_id: str) -> dict[str, Any] | None:
    """Return a run's report from the state's bucket, None if it does not exist."""
    text = session.google.text("storage", f"storage/v1/b/{session.state_bucket}/o/runs%2F{run_id}.json", alt="media")
    return _parsed(text)


def memory(session: Session) -> dict[str, Any]:
    """Return the stored state document, empty if nothing is stored. Raises ReportedError."""
    return _parsed(session.google.text("storage", f"storage/v1/b/{session.state_bucket}/o/{KEY}", alt="media")) or {}


def _finished(session: Session) -> set[str]:
    try:
        return {str(note.get("run_id")) for note in memory(session).get("runs", ())}
    except ReportedError:
        return set()


def _follow(session: Session, known: set[str], tell: Tell, sleep: Sleep) -> dict[str, Any]:
    """Wait until the state names a run that is not `known`, and return its report."""
    waited, shown = 0.0, ""
    while waited < LONGEST_WAIT_S:
        try:
            found = memory(session)
            for note in reversed(found.get("runs", ())):
                report = stored(session, str(note["run_id"])) if note.get("run_id") not in known else None
                if report is not None:
                    return report
        except ReportedError as error:
            raise refused(error) from error
        running = found.get("running") or {}
        now = f"run {running['run_id']} has been in progress since {running['since']}" if running else ""
        if now and now != shown:
            tell(now)
            shown = now
        sleep(AGAIN_S)
        waited += AGAIN_S
    raise OperatorError(
        Problem(
            f"no report came within {LONGEST_WAIT_S / 60:.0f} minutes",
            f"Read the function's log: {_logs(session)}",
        )
    )


def _logs(session: Session) -> str:
    where = f"--project {session.project} --region {session.region}"
    return f"gcloud run services logs read {session.function} {where}"


def _document(answer: Any) -> dict[str, Any]:
    return _parsed(answer.text) or {}


def _parsed(text: str | None) -> dict[str, Any] | None:
    try:
        found = json.loads(text or "")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
