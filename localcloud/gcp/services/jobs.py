"""BigQuery jobs: unique ids, states, locations, quotas."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from localcloud.gcp.errors import GoogleError, invalid, job_error, not_found
from localcloud.gcp.faults import Faults
from localcloud.gcp.services.catalog import millis
from shared.runtime.clock import Clock

_ID = re.compile(r"[A-Za-z0-9_-]{1,1024}")
_RESULTS_KEPT = timedelta(hours=24)  # how long a query's result is readable
_KEPT = timedelta(days=180)  # a job's history (https://cloud.google.com/bigquery/docs/managing-jobs)


@dataclass
class Job:
    """One job. `result` is a query's result: its schema and all rows as DuckDB values."""

    project: str
    id: str
    location: str
    identity: str
    kind: str
    configuration: dict[str, Any]
    created: datetime
    ends: datetime
    error: GoogleError | None = None
    done: bool = False
    ended: datetime | None = None
    statistics: dict[str, Any] = field(default_factory=dict)
    result: tuple[list[dict[str, Any]], list[tuple[Any, ...]]] | None = None
    publish: Callable[[], None] | None = None

    def reference(self) -> dict[str, str]:
        return {"projectId": self.project, "jobId": self.id, "location": self.location}

    def as_json(self) -> dict[str, Any]:
        status: dict[str, Any] = {"state": "DONE" if self.done else "RUNNING"}
        statistics = {"creationTime": millis(self.created), "startTime": millis(self.created)}
        if self.done:
            statistics["endTime"] = millis(self.ended or self.ends)
            if self.error:
                status |= {"errorResult": self.error.proto(), "errors": [self.error.proto()]}
        return {
            "kind": "bigquery#job",
            "etag": f"{self.id}-{status['state']}",
            "id": f"{self.project}:{self.location}.{self.id}",
            "selfLink": f"https://bigquery.googleapis.com/bigquery/v2/projects/{self.project}/jobs/{self.id}"
            f"?location={self.location}",
            "jobReference": self.reference(),
            "user_email": self.identity,
            "configuration": self.configuration | {"jobType": self.kind.upper()},
            "status": status,
            "statistics": {**statistics, **self.statistics} if self.done else statistics,
        }


class Jobs:
    """All jobs. The caller of `begin` and `settle` need not hold the world's lock."""

    def __init__(self, clock: Clock, faults: Faults) -> None:
        self._clock = clock
        self._faults = faults
        self._lock = threading.RLock()
        self._jobs: dict[tuple[str, str, str], Job] = {}
        self._running: list[Job] = []
        self._with_results: deque[Job] = deque()
        self._by_day: dict[tuple[str, str, date], int] = {}

    def begin(self, job: Job) -> None:
        """Register a job. Raises GoogleError 409 if its id was already used in its project and location."""
        if not _ID.fullmatch(job.id):
            raise invalid(f'Invalid job ID "{job.id[:80]}".')
        key = (job.project, job.location.upper(), job.id)
        with self._lock:
            before = self._jobs.get(key)
            if before and self._clock.now() - before.created < _KEPT:
                raise GoogleError(409, "duplicate", f"Already Exists: Job {job.project}:{job.location}.{job.id}")
            self._jobs[key] = job
            day = (job.project, job.kind, job.created.date())
            self._by_day[day] = self._by_day.get(day, 0) + 1
            while self._with_results and job.created - self._with_results[0].created >= _RESULTS_KEPT:
                self._with_results.popleft().result = None
            if job.kind == "query":
                self._with_results.append(job)
        fault = self._faults.job(job.kind)
        if fault:
            job.error = job_error(*fault)

    def today(self, project: str, kind: str) -> int:
        """Return how many jobs of a kind began today (UTC)."""
        with self._lock:
            return self._by_day.get((project, kind, self._clock.now().date()), 0)

    def running(self, kind: str) -> int:
        with self._lock:
            return sum(1 for job in self._running if job.kind == kind)

    def run(self, job: Job) -> None:
        """Keep a job running until its end time."""
        with self._lock:
            self._running.append(job)

    def settle(self) -> None:
        """End the jobs that are due; the files of an extract job become visible when it ends."""
        now = self._clock.now()
        with self._lock:
            due = [job for job in self._running if job.ends <= now]
            for job in due:
                self._running.remove(job)
                self._end(job, now)

    def cancel(self, job: Job) -> None:
        """Stop a running job; a finished job stays unchanged."""
        with self._lock:
            if job.done:
                return
            self._running.remove(job)
            job.error = GoogleError(200, "stopped", "Job execution was cancelled: User requested cancellation")
            job.publish = None
            self._end(job, self._clock.now())

    def _end(self, job: Job, now: datetime) -> None:
        if job.publish and not job.error:
            try:
                job.publish()
            except GoogleError as error:
                job.error = error
        job.publish = None
        job.done, job.ended = True, max(now, job.created)

    def find(self, project: str, identifier: str, location: str) -> Job:
        """Return a job; without a location, only the multi-regions are searched. Raises GoogleError 404."""
        with self._lock:
            for place in [location] if location else ["US", "EU"]:
                found = self._jobs.get((project, place.upper(), identifier))
                if found:
                    return found
        where = f"{location}." if location else ""
        raise not_found(f"Not found: Job {project}:{where}{identifier}")

    def of(self, project: str) -> list[Job]:
        """Return a project's jobs, newest first."""
        with self._lock:
            jobs = [job for job in self._jobs.values() if job.project == project]
        return jobs[::-1]
