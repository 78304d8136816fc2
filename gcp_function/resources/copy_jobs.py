"""The extract jobs that write partitions to files. Every run uses the same job ID for the same work."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from gcp_function.clients import Clients
from gcp_function.errors import later, until_tomorrow
from gcp_function.refusals import ALREADY_EXISTS, QUOTA, translate_reason
from gcp_function.resources.copy_manifest import Watermark, folder_of, stem_of
from gcp_function.settings import GcpSettings
from gcp_function.targets import EXPORTS
from shared.errors import CloudError, Denied, NotFound, OutOfTime, Permanent, Transient
from shared.parsing import parse_int
from shared.provider import Applied
from shared.runtime.context import RunContext

FAILURES = 3  # failed jobs of one partition after which a run leaves it to the next run
MOST_ATTEMPTS = 100  # attempt numbers that are tried in turn; after them, each hour has as many of its own
HOUR_S = 3600
JOB_REMEDY = (
    "Nothing at first: the next run copies the partition again. If it persists, open the extract jobs in the BigQuery "
    "console (Project history): the job shows why it failed. The bucket's policies may also delete what it wrote."
)
POLL_S = 1.0  # seconds until a job is first polled; doubled each time
LONGEST_POLL_S = 10.0


class Task(msgspec.Struct):
    """One partition to be copied, and its progress.

    `created` is when its current manifest was written, `schema` the fingerprint of the new files' columns, and
    `published` is true once a manifest lists these files.
    """

    account: str
    kind: str
    day: str
    modified: int = 0
    watermark: Watermark | None = None
    attempt: int = 0
    failures: int = 0
    reused: bool = False
    shards: int | None = None
    created: datetime | None = None
    schema: str = ""
    published: bool = False
    answer: Applied | CloudError | None = None

    @property
    def table(self) -> str:
        return EXPORTS[self.kind].table_of(self.account)

    @property
    def folder(self) -> str:
        return folder_of(self.account, self.day, self.kind)

    @property
    def stem(self) -> str:
        return stem_of(self.folder, self.watermark, self.attempt)


class ExtractJobs:
    """Starts extract jobs, or finds those that an earlier run started, and waits for them."""

    def __init__(self, settings: GcpSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._quota: Transient | None = None

    def run(self, tasks: Iterable[Task], location: str) -> list[Task]:
        """Run the extract jobs of all tasks in parallel; return the tasks whose job succeeded."""
        todo, waiting, done, pause = list(tasks), list[tuple[Task, Any]](), list[Task](), POLL_S
        while todo or waiting:
            for task in todo:
                try:
                    job = self._start(task, location)
                    while job is None and self.next_attempt(task):
                        job = self._start(task, location)
                    if job is not None:
                        waiting.append((task, job))
                except CloudError as error:
                    task.answer = self._until_tomorrow(error)
            todo, running = [], []
            for task, job in waiting:
                if job.state != "DONE":
                    running.append((task, job))
                elif job.error_result is None:
                    counts = job.destination_uri_file_counts
                    task.shards = parse_int(counts[0]) if counts else None
                    done.append(task)
                elif self._may_retry(task, job.error_result):
                    todo.append(task)
            waiting = running
            if waiting and not todo:
                if not self._run.deadline.allows(pause):
                    answer_all(
                        (task for task, _ in waiting),
                        OutOfTime("an extract job was not complete by this run's deadline"),
                    )
                    break
                self._run.clock.wait_until(self._run.clock.monotonic() + pause)
                pause = min(2 * pause, LONGEST_POLL_S)
                waiting = self._polled(waiting, location)
        return done

    def _polled(self, waiting: Sequence[tuple[Task, Any]], location: str) -> list[tuple[Task, Any]]:
        found = []
        for task, job in waiting:
            try:
                found.append((task, self._job(job.job_id, location)))
            except CloudError as error:
                task.answer = error
        return found

    def _start(self, task: Task, location: str) -> Any:
        """Start the task's job, or find the one that an earlier run started under the same ID.

        Returns None if the ID belongs to a job that the function cannot see: another identity's, or one in another
        location. Raises CloudError.
        """
        if self._quota is not None:
            raise self._quota
        job_id, to = self.id_of(task), f"gs://{self._settings.bucket}/{task.stem}-*.parquet"
        try:
            job = self._extract(task.table, task.day, to, job_id, location)
        except Permanent as error:
            if error.code != ALREADY_EXISTS:
                raise
            task.reused = True
            try:
                return self._job(job_id, location)
            except (Denied, NotFound):
                return None
        task.reused = False
        return job

    def _may_retry(self, task: Task, failed: Mapping[str, Any]) -> bool:
        """Return whether to try a task whose job failed under the next ID; otherwise set the task's answer."""
        error = translate_reason([str(failed.get("reason", ""))], str(failed.get("message", "")))
        if not isinstance(error, CloudError):
            raise error  # it ends the run
        if task.reused:
            return self.next_attempt(task)
        if not isinstance(error, Transient) or error.code == QUOTA:
            task.answer = self._until_tomorrow(error)
            return False
        task.failures += 1
        if task.failures >= FAILURES:
            what = f"{FAILURES} extract jobs failed: {error.message}"
            task.answer = Transient(error.code, what, error.remedy or JOB_REMEDY, within_run=False)
            return False
        self._run.clock.wait_until(self._run.clock.monotonic() + task.failures * POLL_S)
        return self.next_attempt(task)

    def next_attempt(self, task: Task) -> bool:
        """Advance to the next attempt, whose job has a new ID; return False if this hour's attempts are exhausted."""
        task.attempt += 1
        if task.attempt == MOST_ATTEMPTS:
            task.attempt = int(self._run.clock.now().timestamp()) // HOUR_S * MOST_ATTEMPTS
        elif task.attempt % MOST_ATTEMPTS == 0:
            why = f"{MOST_ATTEMPTS} extract jobs of {task.folder} produced no copy within an hour"
            wait = timedelta(seconds=HOUR_S)
            task.answer = Transient("attempts-used-up", why, JOB_REMEDY, retry_after=wait, within_run=False)
            return False
        return True

    def _until_tomorrow(self, error: CloudError) -> CloudError:
        """Return the error; an exhausted daily quota waits for the next day, and stops this run's other jobs."""
        if error.code != QUOTA or not isinstance(error, Transient):
            return later(error)
        self._quota = until_tomorrow(error, self._run.clock.now())
        return self._quota

    def id_of(self, task: Task) -> str:
        """Return the job's ID, the same in every run: BigQuery refuses a second job, and the first one is found."""
        parts = (self._settings.dataset, task.table, task.day, self._settings.bucket, task.stem)
        digest = hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:20]
        return f"tailpipe-{task.kind}-{task.account}-{task.day}-{digest}-{task.attempt}"

    def _extract(self, table: str, day: str, to: str, job_id: str, location: str) -> Any:
        """Start the job that writes one partition as Parquet to `to`, a URI with one ``*``; return the client's job.

        Raises CloudError; Permanent ``already-exists`` if a job with that ID exists.
        """
        from google.cloud.bigquery import ExtractJobConfig

        config = ExtractJobConfig(destination_format="PARQUET", compression="SNAPPY")  # type: ignore[no-untyped-call]  # as in clients
        return self._run.calls(
            "bigquery-extract",
            self._clients.bigquery.extract_table,
            f"{self._settings.project}.{self._settings.dataset}.{table}${day.replace('-', '')}",
            to,
            job_id=job_id,
            location=location,
            job_config=config,
            retry=None,
            timeout=self._clients.timeout,
        )

    def _job(self, job_id: str, location: str) -> Any:
        """Return a job in its current state. Raises CloudError."""
        return self._run.calls(
            "bigquery",
            self._clients.bigquery.get_job,
            job_id,
            location=location,
            retry=None,
            timeout=self._clients.timeout,
        )


def answer_all(tasks: Iterable[Task], answer: CloudError) -> None:
    """Give `answer` to every task that has none."""
    for task in tasks:
        task.answer = task.answer or answer


def answer_of(task: Task) -> Applied | CloudError:
    """Return the answer of a task."""
    return task.answer or Permanent("internal-error", f"{task.folder} was not processed")
