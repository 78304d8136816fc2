"""Makes copies: extracts partitions, checks that the files are complete, and publishes their manifests."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from gcp_function.errors import later
from gcp_function.manual_steps import manifest_foreign
from gcp_function.resources.billing_tables import BillingTables
from gcp_function.resources.bucket import Bucket
from gcp_function.resources.copy_jobs import FAILURES, JOB_REMEDY, ExtractJobs, Task, answer_all
from gcp_function.resources.copy_manifest import (
    FILE,
    MANIFEST,
    MANIFEST_LIMIT,
    File,
    Watermark,
    encoded,
    manifest_of,
    mark_of,
    marked,
    parse_manifest,
    parse_watermark,
)
from gcp_function.resources.dataset import Dataset
from gcp_function.resources.objects import Objects, Stored
from gcp_function.settings import GcpSettings
from gcp_function.targets import MANAGED_BY, MANAGER
from shared.deliveries.announce import Announcer
from shared.deliveries.document import Series
from shared.errors import CloudError, Manual, Permanent, Transient
from shared.provider import Applied
from shared.runtime.context import RunContext
from shared.state.store import Conflict

ROUNDS = 3  # how often a run copies a partition that keeps changing


class CopyWriter:
    """Makes the copies of partitions, with their jobs in parallel, and announces them with an `announcer`."""

    def __init__(
        self,
        settings: GcpSettings,
        run: RunContext,
        dataset: Dataset,
        bucket: Bucket,
        tables: BillingTables,
        objects: Objects,
        jobs: ExtractJobs,
        announcer: Announcer | None = None,
    ) -> None:
        self._settings = settings
        self._run = run
        self._dataset = dataset
        self._bucket = bucket
        self._tables = tables
        self._objects = objects
        self._jobs = jobs
        self._announcer = announcer

    def make(self, tasks: Sequence[Task]) -> int:
        """Set the answer of every task; return how many new copies could not be announced. Raises nothing."""
        self._make(tasks)
        written = [Series(task.account, task.kind, task.day) for task in tasks if task.published]
        return self._announcer.announce_named(written) if self._announcer and written else 0

    def _make(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            task.answer = self._bucket.keeps(task.created)
        try:
            location = self._dataset.require_location()
            self._mark([task for task in tasks if task.watermark is None and task.answer is None], location)
            moved = 0
            while moved < ROUNDS:
                open_tasks = [task for task in tasks if task.answer is None]
                if not open_tasks:
                    return
                self._round(open_tasks, location)
                # A job of an earlier run whose files were deleted does not mean that the partition changed: its ID is
                # skipped, and the round does not count. MOST_ATTEMPTS and the deadline limit that.
                left = [task for task in open_tasks if task.answer is None]
                moved += not left or not all(task.reused for task in left)
        except CloudError as error:
            answer_all(tasks, error)
        answer_all(
            tasks,
            Transient(
                "partition-moves",
                f"the partition changed during each of {ROUNDS} copies",
                "Nothing at first: the next run copies it again. If it persists, find out which job writes to it.",
                within_run=False,
            ),
        )

    def _mark(self, tasks: Sequence[Task], location: str) -> None:
        """Query the tasks' watermarks, and set the answer of a task whose partition has none. Raises CloudError."""
        if not tasks:
            return
        asked: dict[str, set[str]] = {}
        for task in tasks:
            asked.setdefault(task.table, set()).add(task.day)
        found, unexpected = self._tables.watermarks(asked, location)
        for task in tasks:
            task.watermark = found.get((task.table, task.day))
            if task.table in unexpected:
                task.answer = unexpected[task.table]
            elif task.watermark is None:
                task.answer = Transient(
                    "no-rows",
                    f"partition {task.day} no longer has rows",
                    "Nothing at first: the next run reads it again. If it persists, check the table's expiration, and "
                    "who deleted its rows (Cloud Audit Logs of BigQuery).",
                    within_run=False,
                )

    def _round(self, tasks: Sequence[Task], location: str) -> None:
        """Extract all partitions, count the rows, query the watermarks again, and publish what is still current."""
        written: list[tuple[Task, list[File], list[Stored]]] = []
        for task in self._jobs.run(tasks, location):
            try:
                files, stored = self._written(task)
            except CloudError as error:
                task.answer = later(error)
                continue
            if files is not None:
                written.append((task, files, stored))
        before = [(task, task.watermark) for task, _, _ in written]
        self._mark([task for task, _, _ in written], location)
        moved = {id(task) for task, watermark in before if task.watermark != watermark}
        for task, files, stored in written:
            if task.answer is not None:
                continue
            if id(task) in moved:
                task.attempt = 0
                continue
            try:
                self._publish(task, files, stored)
            except CloudError as error:
                task.answer = error

    def _written(self, task: Task) -> tuple[list[File] | None, list[Stored]]:
        """Return the files that a task's job wrote, with their rows, and all objects of its folder.

        Returns None instead of the files if they do not match the job or the partition: the task then has its answer,
        or is retried with the next job ID.
        """
        stored = list(self._objects.below(task.folder))
        mine = [one for one in stored if one.name.startswith(f"{task.stem}-")]
        files = None
        if mine and (task.shards is None or len(mine) == task.shards):
            footers = [self._objects.footer(one) for one in mine]
            files = [File(one.name, footer.rows, one.size) for one, footer in zip(mine, footers, strict=True)]
            task.schema = footers[0].schema
            watermark = task.watermark
            if watermark is not None and sum(one.rows for one in files) == watermark.rows:
                return files, stored
            why = f"the files have {sum(one.rows for one in files)} rows, the partition {watermark and watermark.rows}"
        else:
            why = f"{len(mine)} of {task.shards} files exist"
        if not task.reused:
            task.failures += 1
        if task.failures >= FAILURES:
            what = f"{FAILURES} copies differ from the partition: {why}"
            task.answer = Transient("copy-differs", what, JOB_REMEDY, within_run=False)
        elif files is None or task.reused:
            # The files were deleted, and a job ID can be used once: only a job with another ID writes them again.
            self._jobs.next_attempt(task)
        else:
            # The rows changed between the watermark and the job: the next round starts from the current ones.
            self._mark([task], self._dataset.require_location())
            self._jobs.next_attempt(task)
        return None, stored

    def _publish(self, task: Task, files: Sequence[File], stored: Sequence[Stored]) -> None:
        """Point the manifest to the new files, unless it changed since it was listed; then delete superseded files."""
        if task.watermark is None:
            raise Permanent("internal-error", "a copy without a watermark cannot be published")
        name = task.folder + MANIFEST
        present = next((one for one in stored if one.name == name), None)
        previous: list[str] = []
        if present is not None:
            held = self._held(task, present)
            names = [one.name for one in stored]
            if held == (task.watermark, task.attempt) and (present.metadata or {}).get(MANAGED_BY) == MANAGER:
                task.answer = Applied(message="the manifest already lists these files")
                return
            previous = [one for one in names if one.startswith(f"{task.folder}{held[0].id}/{held[1]}-")]
        manifest = manifest_of(
            task.watermark,
            files,
            account=task.account,
            kind=task.kind,
            day=task.day,
            table=f"{self._settings.project}.{self._settings.dataset}.{task.table}",
            job=self._jobs.id_of(task),
            written_at=self._run.clock.now(),
            previous=previous,
            schema=task.schema,
        )
        data, metadata = encoded(manifest), mark_of(manifest, task.attempt, task.modified)
        try:
            self._objects.write(name, data, present.generation if present else 0, metadata)
        except Conflict:
            # Another run wrote it first: the next round reads that, and finds this job and its files again.
            return
        task.answer = Applied(message=f"{manifest.rows} rows in {len(files)} files")
        task.published = True
        self._delete_superseded(task, {*previous, *(one.name for one in files)}, stored)

    def _held(self, task: Task, present: Stored) -> tuple[Watermark, int]:
        """Return the watermark and the attempt of an existing manifest. Raises Manual if it is not ours."""
        held = marked(present.metadata or {})
        if held is not None:
            return held
        data, _ = self._objects.read(present.name, MANIFEST_LIMIT)
        manifest = parse_manifest(data, task.account, task.kind, task.day)
        watermark = parse_watermark(manifest.watermark) if manifest else None
        if manifest is None or watermark is None:
            raise Manual("manifest-foreign", manifest_foreign(self._settings.bucket, present.name))
        first = FILE.fullmatch(manifest.files[0].name.removeprefix(task.folder)) if manifest.files else None
        return watermark, int(first["attempt"]) if first else 0

    def _delete_superseded(self, task: Task, keep: Collection[str], stored: Iterable[Stored]) -> None:
        """Delete our own files that no manifest lists any longer: the only deletes of the function.

        Files with a later watermark than the published one are kept: another run may be about to publish them. A failed
        delete costs storage until the next change, so it does not fail the copy.
        """
        for one in stored:
            match = FILE.fullmatch(one.name.removeprefix(task.folder))
            watermark = parse_watermark(match["watermark"]) if match else None
            if watermark is None or task.watermark is None or watermark > task.watermark or one.name in keep:
                continue
            try:
                self._objects.delete(one)
            except CloudError as error:
                self._run.log("warning", "deferred", code=error.code, reason=f"deleting {one.name}: {error.message}")
                return
