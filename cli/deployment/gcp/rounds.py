"""Starts a round over the tenants by its schedule, or the run of one by its queue, and waits for the report."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from cli.deployment.gcp.functions import missing
from cli.deployment.gcp.rest import refused
from cli.deployment.gcp.session import Session
from cli.deployment.model import OperatorError, Problem
from cli.deployment.operator import Tell
from gcp_function.tasks import task_name, task_of
from shared.errors import NotFound, ReportedError
from shared.request import round_start

Sleep = Callable[[float], None]
AGAIN_S = 5.0
BEGIN_S = 300.0  # the longest time from the call of the schedule until the first task is seen
LATE_S = 600.0  # after the end of a round, until its last look has written the report
_END = re.compile(r"[0-9a-f]{8}-([0-9]{8}T[0-9]{6}Z-[0-9a-f]{8})-end-\d+")


def run_round(session: Session, tell: Tell, sleep: Sleep) -> dict[str, Any]:
    """Start a round, or join the one in progress, wait for its end, and return its report. Raises OperatorError."""
    queue = _queue_of(session)
    try:
        return _Round(session, queue, tell, sleep).run()
    except ReportedError as error:
        raise refused(error) from error


def run_tenant(session: Session, tenant: str, tell: Tell, sleep: Sleep, now: float) -> dict[str, Any]:
    """Run one tenant by the queue of rounds, wait for its result, and return its report. Raises OperatorError.

    The queue is the only caller from inside the project that can name a tenant. `now`: seconds since 1970.
    """
    queue, settings = _queue_of(session), session.settings
    round_id = f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    payload = {"tenant": tenant, "round": round_id}
    task = task_of(queue, settings["TENANTS_URL"], settings["TENANTS_CALLER"], task_name(round_id, tenant, 1), payload)
    limit_s, waited = float(settings.get("TENANTS_ROUND_SECONDS", 3300)), 0.0
    try:
        session.google.post("cloudtasks", f"v2/{queue}/tasks", {"task": task})
        tell(f"the function is called from inside its project only: queue {queue.rpartition('/')[2]} calls it")
        while waited < limit_s:
            row = _document(session, f"rows/{tenant}.json") or {}
            if row.get("round") == round_id and not row.get("again"):
                return _report_of(session, row)
            sleep(AGAIN_S)
            waited += AGAIN_S
    except ReportedError as error:
        raise refused(error) from error
    remedy = f"See the queue {queue}: is it paused? Then: tailpipe-exports logs gcp --tenant {tenant}."
    raise OperatorError(Problem(f"tenant {tenant} has no result after {waited / 60:.0f} minutes", remedy))


def _report_of(session: Session, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report of a row's run. Raises OperatorError with the row's failures if the run made none."""
    if row["run_id"] and (report := _document(session, f"runs/tenants/{row['tenant']}/{row['run_id']}.json")):
        return report
    raise OperatorError(
        *(
            Problem(f"tenant {row['tenant']} is {row['status']}: {one['message']}", one["remedy"])
            for one in row["failures"]
        )
    )


def _document(session: Session, name: str) -> dict[str, Any] | None:
    """Return a document of the state's bucket, None if it does not exist. Raises ReportedError."""
    path = f"storage/v1/b/{session.state_bucket}/o/{quote(name, safe='')}"
    try:
        found = json.loads(session.google.text("storage", path, alt="media") or "")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _queue_of(session: Session) -> str:
    """Return the queue of rounds. Raises OperatorError without one."""
    if session.live is None:
        raise OperatorError(missing(session))
    queue = session.settings.get("TENANTS_QUEUE", "")
    if not queue:
        raise OperatorError(
            Problem(
                f"function {session.function} has no queue of rounds",
                "Deploy it with tenants: tailpipe-exports deploy gcp --var fleet=true.",
            )
        )
    return queue


class _Round:
    """One round, seen through the tasks of its queue, the tenants' rows and its report."""

    def __init__(self, session: Session, queue: str, tell: Tell, sleep: Sleep) -> None:
        self._session, self._queue, self._tell, self._sleep = session, queue, tell, sleep

    def run(self) -> dict[str, Any]:
        known = self._open()
        if known:
            self._tell(f"round {known} is in progress; the command waits for its end")
            return self._followed(known)
        name = self._queue.rpartition("/")[2]
        self._session.google.post("cloudscheduler", f"v1/{self._session.location}/jobs/{name}:run")
        waited = 0.0
        while not (known := self._open()):
            if waited >= BEGIN_S:
                remedy = (
                    "Read the function's log: tailpipe-exports logs gcp. Is the registry empty, or the queue paused?"
                )
                raise OperatorError(
                    Problem(f"the job {name} has begun no round within {waited / 60:.0f} minutes", remedy)
                )
            self._sleep(AGAIN_S)
            waited += AGAIN_S
        self._tell(f"round {known} has begun")
        return self._followed(known)

    def _open(self) -> str:
        """Return the id of the newest round whose end is still in the queue, "" if there is none."""
        tasks = self._session.google.pages("cloudtasks", f"v2/{self._queue}/tasks", "tasks")
        found = [_END.fullmatch(str(one["name"]).rpartition("/")[2]) for one in tasks]
        return max((one[1] for one in found if one), default="")

    def _followed(self, round_id: str) -> dict[str, Any]:
        limit_s = float(self._session.settings.get("TENANTS_ROUND_SECONDS", 3300)) + LATE_S
        waited, shown = 0.0, -1
        while waited < limit_s:
            done = self._done(round_id)
            if done != shown:
                self._tell(f"{done} tenants have a result")
                shown = done
            if self._open() != round_id:
                report = _document(self._session, f"runs/rounds/{round_id}.json")
                if report is not None:
                    return report
            self._sleep(AGAIN_S)
            waited += AGAIN_S
        remedy = f"See the queue {self._queue}: is it paused? Then: tailpipe-exports logs gcp."
        raise OperatorError(Problem(f"round {round_id} has no report after {waited / 60:.0f} minutes", remedy))

    def _done(self, round_id: str) -> int:
        """Return the number of rows that were written since the round began."""
        began = f"{round_start(round_id):%Y-%m-%dT%H:%M:%S}"
        path = f"storage/v1/b/{self._session.state_bucket}/o"
        try:
            rows = list(self._session.google.pages("storage", path, "items", prefix="rows/"))
        except NotFound:
            return 0
        return sum(str(one.get("timeCreated", "")) >= began for one in rows)
