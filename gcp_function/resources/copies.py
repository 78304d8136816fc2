"""The copies: what is compared with what, and how a partition becomes files that a manifest names."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import msgspec

from gcp_function.clients import Clients
from gcp_function.errors import ALREADY_EXISTS, QUOTA, later, observed, translate_reason, until_tomorrow
from gcp_function.manual_steps import manifest_foreign
from gcp_function.resources.copy_manifest import (
    FILE,
    MANIFEST,
    Copy,
    File,
    Watermark,
    encoded,
    folder_of,
    manifest_of,
    mark_of,
    marked,
    parse_manifest,
    parse_watermark,
    stem_of,
)
from gcp_function.resources.dataset import Destination
from gcp_function.resources.deliveries import Copies, Deliveries, Partition, Tables, TableSeen
from gcp_function.resources.export_health import HIDDEN_COPY, NO_ROWS, NOT_YET, ODD, judge_copy, judge_history
from gcp_function.settings import GcpSettings
from gcp_function.state_store import Objects, Stored
from gcp_function.targets import COPY, EXPORTS, MANAGED_BY, MANAGER, copy_parts, forget, window
from shared.errors import CloudError, Denied, Manual, NotFound, OutOfTime, Permanent, Transient
from shared.model import Action, Key, Observation, Ownership, Present, Result, Target
from shared.parsing import whole as whole_number
from shared.provider import Applied
from shared.runtime.context import RunContext
from shared.state.document import StateDocument, TargetState
from shared.state.store import Conflict

MANIFEST_LIMIT = 8 * 1024 * 1024
HISTORY_AT_ONCE = 50_000  # older partitions that one run compares for the first time
LISTED_SINGLY = 200  # histories whose copies are listed one by one; of more, in one listing
JUDGED_A_RUN = 50  # manifests without our mark that one run reads
ROUNDS = 3  # times that a moving partition is copied again within one run
FAILURES = 3  # jobs of one partition that fail in one run before it is left to the next
MOST_ATTEMPTS = 100  # numbers that are passed over one by one; then each hour has so many of its own
HOUR_S = 3600
JOB_REMEDY = (
    "Nothing at first: the next run copies the partition again. If it lasts, open the extract jobs in the BigQuery "
    "console (Project history): the job says why it failed, and the bucket's policies may remove what it wrote."
)
POLL_S = 1.0  # seconds until a job is first looked at again; doubled each time
LONGEST_POLL_S = 10.0

KEPT = Present()


class Task(msgspec.Struct):
    """One partition to be copied, and how far that is."""

    account: str
    kind: str
    day: str
    modified: int = 0
    watermark: Watermark | None = None
    attempt: int = 0
    failures: int = 0
    reused: bool = False
    shards: int | None = None
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


class Connectors:
    """Observes and applies the copies of all open accounts.

    After `observe_bulk`: `fresh` is the newest export_time (microseconds) by (account, kind) that copies and watermarks
    show, `odd` the tables that could not be asked for a watermark, with the reason, `hidden` those of which BigQuery's
    catalog counts rows that a query does not see: (whether all of them, how many).
    """

    def __init__(
        self, settings: GcpSettings, clients: Clients, run: RunContext, destination: Destination, deliveries: Deliveries
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._destination = destination
        self._deliveries = deliveries
        self._objects = Objects(settings.bucket, clients, run)
        self._copies = Copies(self._objects)
        self._watermarks: dict[tuple[str, str], Watermark] = {}
        self._modified: dict[tuple[str, str], int] = {}
        self._history: dict[tuple[str, str], list[str]] = {}
        self._quota: Transient | None = None
        self.fresh: dict[tuple[str, str], int] = {}
        self.odd: dict[str, CloudError] = {}
        self.hidden: dict[str, tuple[bool, str]] = {}
        self._rows: dict[tuple[str, str], int] = {}
        self._created: dict[tuple[str, str, str], datetime] = {}

    # What is there, and what is to be done

    def observe_bulk(
        self,
        copies: Sequence[Target],
        histories: Sequence[Target],
        memory: StateDocument,
        seen: Mapping[str, Tables | Observation],
        extra: Mapping[str, Collection[str]],
    ) -> dict[Key, Observation]:
        """Compare every copy with its partition: one listing, and watermarks only of partitions that were written.

        `extra` are partitions whose watermark somebody else wants to know. A history that was complete once is left to
        single reads.
        """
        left_behind = forget(memory, self._first_day())
        found: dict[Key, Observation] = {}
        due = self._due(histories, memory, seen, left_behind, found)
        try:
            whole = self._whole(due)
            listed = self._listed(self._accounts(copies, seen), whole)
        except CloudError as error:
            unknown = observed(error, f"bucket {self._settings.bucket} or the partitions of its copies")
            self._ask(extra)
            return found | {target.key: unknown for target in (*copies, *histories) if target.key not in found}
        undecided = self._compare(copies, memory, seen, listed, found)
        self._count(seen)
        asked: dict[str, set[str]] = {table: set(days) for table, days in extra.items()}
        for target in undecided:
            kind, day = copy_parts(target.key)
            asked.setdefault(EXPORTS[kind].table_of(target.key.scope), set()).add(day)
        failed = self._ask(asked)
        for target in undecided:
            found[target.key] = failed or self._decided(target, memory.entry(target.key), listed)
        for target in histories:
            if (target.key.scope, target.key.name) in due:
                found[target.key] = self._history_of(target, whole, listed)
        return found

    def observe(self, target: Target) -> Observation:
        """Compare all older partitions of one account and kind with their copies, however often that was done."""
        pair = (target.key.scope, target.key.name)
        whole = self._whole({pair})
        return self._history_of(target, whole, self._listed((), whole))

    def _count(self, seen: Mapping[str, Tables | Observation]) -> None:
        """Note how many rows the catalog counts in each partition."""
        for tables in seen.values():
            for name, table in tables.items() if isinstance(tables, dict) else ():
                self._rows |= {(name, day): one.rows for day, one in table.days.items()}

    def _listed(self, accounts: Collection[str], histories: Tables) -> dict[tuple[str, str, str], Copy]:
        """Return the accounts' copies of the window, and those of the `histories` (tables with all their partitions).

        A bucket that two reads find missing holds none. Raises CloudError.
        """
        days = self._window()
        pairs = [pair for name, table in histories.items() if table.days and (pair := _pair_of(name)) is not None]
        if len(pairs) > LISTED_SINGLY:
            # Of so many each has few partitions: one listing from the oldest of them on.
            oldest = date.fromisoformat(min(min(table.days) for table in histories.values() if table.days))
            ahead = (date.fromisoformat(days[0]) - oldest).days
            days = [(oldest + timedelta(days=number)).isoformat() for number in range(ahead)] + days
            accounts, pairs = {*accounts, *(account for account, _ in pairs)}, []
        try:
            found = self._copies.of(accounts, days, self._run.heartbeat)
            for account, kind in pairs:
                found |= self._copies.whole(account, kind, self._run.heartbeat)
        except NotFound as error:
            if self._destination.bucket_gone:
                return {}
            raise _contradicted(self._settings.bucket, error) from error
        self._note_age(found)
        return found

    def _note_age(self, listed: Mapping[tuple[str, str, str], Copy]) -> None:
        self._created |= {place: copy.created for place, copy in listed.items() if copy.created is not None}

    def _compare(
        self,
        copies: Sequence[Target],
        memory: StateDocument,
        seen: Mapping[str, Tables | Observation],
        listed: Mapping[tuple[str, str, str], Copy],
        found: dict[Key, Observation],
    ) -> list[Target]:
        """Settle what the listing and BigQuery's catalog settle; return the others."""
        undecided: list[Target] = []
        nothing = TableSeen(days={})
        for target in copies:
            account = target.key.scope
            kind, day = copy_parts(target.key)
            tables = seen.get(kind)
            if not isinstance(tables, dict):
                if tables is not None:
                    found[target.key] = tables
                continue
            copy, name = listed.get((account, day, kind)), EXPORTS[kind].table_of(account)
            if copy is not None and copy.watermark is not None:
                self._freshen(account, kind, copy.watermark)
            partition = tables.get(name, nothing).days.get(day)
            if partition is None or not partition.rows:
                found[target.key] = NO_ROWS if copy is None else KEPT
                continue
            self._modified[name, day] = partition.modified
            if copy is not None and copy.intact and self._checked(copy, partition, memory.entry(target.key)):
                found[target.key] = KEPT
            else:
                undecided.append(target)
        return undecided

    def _checked(self, copy: Copy, partition: Partition, entry: TargetState | None) -> bool:
        """Return whether a copy was compared with its partition since that was last written, and has as many rows.

        Deleted rows do not move the time of the last change ("PARTITIONS view", BigQuery): only their number tells.
        """
        if copy.watermark is None or copy.watermark.rows != partition.rows:
            return False
        if copy.modified == partition.modified:
            return True
        facts = entry.facts if entry else {}
        return facts.get("modified") == partition.modified and facts.get("generation") == copy.generation

    def _decided(
        self, target: Target, entry: TargetState | None, listed: Mapping[tuple[str, str, str], Copy]
    ) -> Observation:
        """Return what the watermark says of a copy that had to be compared by it."""
        account = target.key.scope
        kind, day = copy_parts(target.key)
        name, copy = EXPORTS[kind].table_of(account), listed.get((account, day, kind))
        if name in self.odd:
            return ODD
        if name in self.hidden and self.hidden[name][0]:
            return HIDDEN_COPY
        now = self._watermarks.get((name, day))
        if now is None:
            return NO_ROWS if copy is None else KEPT
        self._freshen(account, kind, now)
        if copy is not None and copy.watermark is None:
            return self._without_mark(target, copy, entry)
        return judge_copy(copy, now, day, self._modified.get((name, day), 0))

    def _without_mark(self, target: Target, copy: Copy, entry: TargetState | None) -> Observation:
        """Return whose a manifest is that has not our mark: adopted if it is of our form, else left alone."""
        kind, day = copy_parts(target.key)
        name = folder_of(target.key.scope, day, kind) + MANIFEST
        foreign = bool(entry and entry.facts.get("foreign") == copy.generation)
        if not foreign:
            try:
                data, _ = self._objects.read(name, MANIFEST_LIMIT)
            except CloudError as error:
                return observed(error, f"object {name}")
            foreign = parse_manifest(data, target.key.scope, kind, day) is None
        if not foreign:
            return Present(ownership=Ownership.UNMARKED, detail="a manifest of our form without our mark")
        manual_step = manifest_foreign(self._settings.bucket, name)
        return Present(
            ownership=Ownership.FOREIGN, code="manifest-foreign", detail=manual_step.what, manual_step=manual_step,
            facts={"foreign": copy.generation},
        )  # fmt: skip

    def _ask(self, asked: Mapping[str, Collection[str]]) -> Observation | None:
        """Ask for watermarks; return why that failed, if it did."""
        location = self._destination.location
        if not asked or location is None:
            return None
        try:
            found, odd = self._deliveries.watermarks(asked, location)
        except CloudError as error:
            return observed(error, "the watermarks of partitions")
        self._watermarks |= found
        self.odd |= odd
        for table, days in asked.items():
            counted = {day: rows for day in days if (rows := self._rows.get((table, day), 0))}
            shown = {day: found[table, day].rows if (table, day) in found else 0 for day in counted}
            fewer = [day for day, rows in counted.items() if shown[day] < rows]
            if fewer and table not in odd:
                day = max(fewer)
                why = f"a query sees {shown[day]} of the {counted[day]} rows of {day}"
                self.hidden[table] = (not any(shown.values()), why)
        for (table, _), watermark in found.items():
            pair = _pair_of(table)
            if pair is not None:
                self._freshen(*pair, watermark)
        return None

    def _freshen(self, account: str, kind: str, watermark: Watermark) -> None:
        pair = (account, kind)
        self.fresh[pair] = max(self.fresh.get(pair, 0), watermark.exported_at)

    def _accounts(self, copies: Sequence[Target], seen: Mapping[str, Tables | Observation]) -> set[str]:
        """Return the accounts that have partitions to copy: the others' folders need not be listed."""
        accounts = {target.key.scope for target in copies}
        kinds = [(kind, tables) for kind in self._settings.copy if isinstance(tables := seen.get(kind), dict)]
        return {one for one in accounts if any(EXPORTS[kind].table_of(one) in tables for kind, tables in kinds)}

    def _first_day(self) -> str:
        return self._window()[0]

    def _window(self) -> list[str]:
        return window(self._settings, self._run.clock.now().date())

    # History

    def _due(
        self,
        histories: Sequence[Target],
        memory: StateDocument,
        seen: Mapping[str, Tables | Observation],
        left_behind: Collection[tuple[str, str]],
        found: dict[Key, Observation],
    ) -> set[tuple[str, str]]:
        """Settle the histories that need no look, and return those to be compared now, by (account, kind)."""
        due: set[tuple[str, str]] = set()
        room = HISTORY_AT_ONCE
        for target in histories:
            account, kind = target.key.scope, target.key.name
            tables = seen.get(kind)
            if not isinstance(tables, dict):
                if tables is not None:
                    found[target.key] = tables
                continue
            table, entry = tables.get(EXPORTS[kind].table_of(account)), memory.entry(target.key)
            if table is None or not table.older:
                found[target.key] = KEPT
            elif entry is not None and entry.facts.get("done") and (account, kind) not in left_behind:
                found[target.key] = Present(verified=False)
            elif table.older <= room or not due:
                room -= table.older
                due.add((account, kind))
            else:
                found[target.key] = NOT_YET
        return due

    def _whole(self, pairs: Collection[tuple[str, str]]) -> Tables:
        """Return the tables of these accounts and kinds with all their partitions. Raises CloudError."""
        if not pairs:
            return {}
        names = {EXPORTS[kind].table_of(account) for account, kind in pairs}
        return self._deliveries.tables(names, self._destination.place(), "")

    def _history_of(self, target: Target, whole: Tables, listed: Mapping[tuple[str, str, str], Copy]) -> Observation:
        """Compare the partitions before the window with their copies."""
        account, kind = target.key.scope, target.key.name
        name, first = EXPORTS[kind].table_of(account), self._first_day()
        older = {day: one for day, one in whole.get(name, TableSeen(days={})).days.items() if day < first and one.rows}
        missing, moved = [], []
        for day, partition in older.items():
            copy = listed.get((account, day, kind))
            if copy is None and self._destination.deletes(day):
                continue
            self._modified[name, day], self._rows[name, day] = partition.modified, partition.rows
            if copy is None or not copy.intact:
                missing.append(day)
            elif copy.modified != partition.modified or copy.watermark is None or copy.watermark.rows != partition.rows:
                moved.append(day)
        if moved:
            failed = self._ask({name: moved})
            if failed is not None:
                return failed
            now = {day: self._watermarks.get((name, day)) for day in moved}
            missing += [day for day in moved if now[day] not in (None, listed[account, day, kind].watermark)]
        if name in self.odd:
            return ODD
        if name in self.hidden and self.hidden[name][0]:
            return HIDDEN_COPY
        self._history[account, kind] = sorted(missing)
        return judge_history(len(missing), len(older), first, self._run.clock.now())

    # Making copies

    def apply(self, actions: Sequence[Action]) -> list[Applied | CloudError]:
        """Copy partitions, one action each, their jobs side by side."""
        tasks = []
        for action in actions:
            kind, day = copy_parts(action.key)
            tasks.append(self._task(action.key.scope, kind, day))
        self._carry_out(tasks)
        return [_answer_of(task) for task in tasks]

    def apply_history(self, action: Action) -> Applied:
        """Copy the older partitions that have no current copy, as many as there is time for. Raises CloudError."""
        account, kind = action.key.scope, action.key.name
        days = self._history.get((account, kind))
        if days is None:
            self.observe(action.target)
            days = self._history.get((account, kind), [])
        done = 0
        for start in range(0, len(days), COPY.batch_size):
            if not self._run.deadline.allows(0):
                break
            tasks = [self._task(account, kind, day) for day in days[start : start + COPY.batch_size]]
            self._carry_out(tasks)
            for task in tasks:
                answer = _answer_of(task)
                if isinstance(answer, CloudError):
                    raise answer
            done += len(tasks)
        if done < len(days):
            return Applied(Result.PENDING, f"{done} of {len(days)} older partitions copied; the next run goes on")
        return Applied(message=f"{done} older partitions copied", facts={"done": self._run.clock.now().isoformat()})

    def _task(self, account: str, kind: str, day: str) -> Task:
        task = Task(account, kind, day)
        task.modified = self._modified.get((task.table, day), 0)
        task.watermark = self._watermarks.get((task.table, day))
        return task

    def _carry_out(self, tasks: Sequence[Task]) -> None:
        """Give every task its answer; never raises."""
        for task in tasks:
            task.answer = self._destination.keeps(self._created.get((task.account, task.day, task.kind)))
        try:
            location = self._destination.place()
            self._mark([task for task in tasks if task.watermark is None and task.answer is None], location)
            moved = 0
            while moved < ROUNDS:
                open_tasks = [task for task in tasks if task.answer is None]
                if not open_tasks:
                    return
                self._round(open_tasks, location)
                # A job of an earlier run whose files are gone says nothing of the partition: its id is passed over,
                # however often a copy was deleted. MOST_ATTEMPTS and the deadline end that.
                left = [task for task in open_tasks if task.answer is None]
                moved += not left or not all(task.reused for task in left)
        except CloudError as error:
            _answer_all(tasks, error)
        _answer_all(
            tasks,
            Transient(
                "partition-moves",
                f"its partition kept moving through {ROUNDS} copies",
                "Nothing: the next run copies it again. If it lasts, find out which job writes to the table all day.",
                within_run=False,
            ),
        )

    def _mark(self, tasks: Sequence[Task], location: str) -> None:
        """Ask for the tasks' watermarks. Raises CloudError; a task whose partition has none gets its answer."""
        if not tasks:
            return
        asked: dict[str, set[str]] = {}
        for task in tasks:
            asked.setdefault(task.table, set()).add(task.day)
        found, odd = self._deliveries.watermarks(asked, location)
        for task in tasks:
            task.watermark = found.get((task.table, task.day))
            if task.table in odd:
                task.answer = odd[task.table]
            elif task.watermark is None:
                task.answer = Transient(
                    "no-rows",
                    f"partition {task.day} has no rows any more",
                    "Nothing at first: the next run looks again. If it lasts, see the table's expiration and who "
                    "deleted its rows (Cloud Audit Logs of BigQuery).",
                    within_run=False,
                )

    def _round(self, tasks: Sequence[Task], location: str) -> None:
        """Extract all, count what was written, ask for the watermarks once more, and publish what still is current."""
        written: list[tuple[Task, list[File], list[Stored]]] = []
        for task in self._extracted(tasks, location):
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

    def _extracted(self, tasks: Iterable[Task], location: str) -> list[Task]:
        """Run the extract jobs of all tasks side by side; return the tasks whose job succeeded."""
        todo, waiting, done, pause = list(tasks), list[tuple[Task, Any]](), list[Task](), POLL_S
        while todo or waiting:
            for task in todo:
                try:
                    job = self._start(task, location)
                    while job is None and self._next_attempt(task):
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
                    task.shards = whole_number(counts[0]) if counts else None
                    done.append(task)
                elif self._may_retry(task, job.error_result):
                    todo.append(task)
            waiting = running
            if waiting and not todo:
                if not self._run.deadline.allows(pause):
                    _answer_all((task for task, _ in waiting), OutOfTime("an extract job was not done by then"))
                    break
                self._run.clock.wait_until(self._run.clock.monotonic() + pause)
                pause = min(2 * pause, LONGEST_POLL_S)
                waiting = self._polled(waiting, location)
        return done

    def _polled(self, waiting: Sequence[tuple[Task, Any]], location: str) -> list[tuple[Task, Any]]:
        found = []
        for task, job in waiting:
            try:
                found.append((task, self._deliveries.job(job.job_id, location)))
            except CloudError as error:
                task.answer = error
        return found

    def _start(self, task: Task, location: str) -> Any:
        """Begin the task's job, or find the one that an earlier run began under the same id.

        None: the id is used up by a job that the function cannot see, another identity's or one in another location.
        Raises CloudError.
        """
        if self._quota is not None:
            raise self._quota
        job_id, to = self._job_id(task), f"gs://{self._settings.bucket}/{task.stem}-*.parquet"
        try:
            job = self._deliveries.extract(task.table, task.day, to, job_id, location)
        except Permanent as error:
            if error.code != ALREADY_EXISTS:
                raise
            task.reused = True
            try:
                return self._deliveries.job(job_id, location)
            except (Denied, NotFound):
                return None
        task.reused = False
        return job

    def _may_retry(self, task: Task, failed: Mapping[str, Any]) -> bool:
        """Return whether a task whose job failed is to be tried under the next id; otherwise it has its answer."""
        error = translate_reason([str(failed.get("reason", ""))], str(failed.get("message", "")))
        if not isinstance(error, CloudError):
            raise error  # it ends the run
        if task.reused:
            return self._next_attempt(task)
        if not isinstance(error, Transient) or error.code == QUOTA:
            task.answer = self._until_tomorrow(error)
            return False
        task.failures += 1
        if task.failures >= FAILURES:
            what = f"{FAILURES} extract jobs failed: {error.message}"
            task.answer = Transient(error.code, what, error.remedy or JOB_REMEDY, within_run=False)
            return False
        self._run.clock.wait_until(self._run.clock.monotonic() + task.failures * POLL_S)
        return self._next_attempt(task)

    def _next_attempt(self, task: Task) -> bool:
        """Go on to the next job's number. Every job's id can be used once: the hour gives new ones without end."""
        task.attempt += 1
        if task.attempt == MOST_ATTEMPTS:
            task.attempt = int(self._run.clock.now().timestamp()) // HOUR_S * MOST_ATTEMPTS
        elif task.attempt % MOST_ATTEMPTS == 0:
            why = f"{MOST_ATTEMPTS} extract jobs of {task.folder} gave no copy within an hour"
            wait = timedelta(seconds=HOUR_S)
            task.answer = Transient("attempts-used-up", why, JOB_REMEDY, retry_after=wait, within_run=False)
            return False
        return True

    def _until_tomorrow(self, error: CloudError) -> CloudError:
        """Return the error; a spent daily quota waits for the next day, and stops this run's other jobs."""
        if error.code != QUOTA or not isinstance(error, Transient):
            return later(error)
        self._quota = until_tomorrow(error, self._run.clock.now())
        return self._quota

    def _written(self, task: Task) -> tuple[list[File] | None, list[Stored]]:
        """Return the files that a task's job wrote, with their rows, and all objects of its folder.

        None instead of the files: they are not what the job had written or the partition held; the task has its answer,
        or is to be tried under the next job's id.
        """
        stored = list(self._objects.below(task.folder))
        mine = [one for one in stored if one.name.startswith(f"{task.stem}-")]
        files = None
        if mine and (task.shards is None or len(mine) == task.shards):
            files = [File(one.name, self._objects.rows(one), one.size) for one in mine]
            watermark = task.watermark
            if watermark is not None and sum(one.rows for one in files) == watermark.rows:
                return files, stored
            why = f"its files hold {sum(one.rows for one in files)} rows, the partition {watermark and watermark.rows}"
        else:
            why = f"{len(mine)} of {task.shards} files are there"
        if not task.reused:
            task.failures += 1
        if task.failures >= FAILURES:
            what = f"{FAILURES} copies differ from the partition: {why}"
            task.answer = Transient("copy-differs", what, JOB_REMEDY, within_run=False)
        elif files is None or task.reused:
            # Whoever deleted them: the job's id is used up, only another one writes them again.
            self._next_attempt(task)
        else:
            # The rows moved between the watermark and the job: the next round begins with what is there now.
            self._mark([task], self._destination.place())
            self._next_attempt(task)
        return None, stored

    def _publish(self, task: Task, files: Sequence[File], stored: Sequence[Stored]) -> None:
        """Point the manifest to the new files, if nobody else has changed it since it was listed; then clear up."""
        if task.watermark is None:
            raise Permanent("internal-error", "a copy without a watermark cannot be published")
        name = task.folder + MANIFEST
        present = next((one for one in stored if one.name == name), None)
        previous: list[str] = []
        if present is not None:
            held = self._held(task, present)
            names = [one.name for one in stored]
            if held == (task.watermark, task.attempt) and (present.metadata or {}).get(MANAGED_BY) == MANAGER:
                task.answer = Applied(message="the manifest names these files already")
                return
            previous = [one for one in names if one.startswith(f"{task.folder}{held[0].id}/{held[1]}-")]
        manifest = manifest_of(
            task.watermark,
            files,
            account=task.account,
            kind=task.kind,
            day=task.day,
            table=f"{self._settings.project}.{self._settings.dataset}.{task.table}",
            job=self._job_id(task),
            written_at=self._run.clock.now(),
            previous=previous,
        )
        data, metadata = encoded(manifest), mark_of(manifest, task.attempt, task.modified)
        try:
            self._objects.write(name, data, present.generation if present else 0, metadata)
        except Conflict:
            # Another run was quicker: the next round sees what it wrote, and finds this job and its files again.
            return
        task.answer = Applied(message=f"{manifest.rows} rows in {len(files)} files")
        self._clear_up(task, {*previous, *(one.name for one in files)}, stored)

    def _held(self, task: Task, present: Stored) -> tuple[Watermark, int]:
        """Return watermark and attempt that a present manifest names. Raises Manual if it is not one of ours."""
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

    def _clear_up(self, task: Task, keep: Collection[str], stored: Iterable[Stored]) -> None:
        """Delete our own files that no manifest names any more: the function's only deletes.

        What is ahead of the published watermark may be another run's, on its way to be published. A failure costs
        storage until the next change, so it is no failure of the copy.
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

    def _job_id(self, task: Task) -> str:
        """Return the id that every run gives to this very job: a second one is refused, and the first one found."""
        parts = (self._settings.dataset, task.table, task.day, self._settings.bucket, task.stem)
        digest = hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:20]
        return f"tailpipe-{task.kind}-{task.account}-{task.day}-{digest}-{task.attempt}"


def _pair_of(table: str) -> tuple[str, str] | None:
    """Return account and kind of a table that holds one account's data; None for any other."""
    for kind, export in EXPORTS.items():
        prefix = export.table_of("")
        if table.startswith(prefix) and not export.shared:
            return table.removeprefix(prefix).replace("_", "-"), kind
    return None


def _contradicted(bucket: str, error: NotFound) -> Transient:
    """Return the failure of a listing that a bucket which is there answers with "not found": no copy is absent."""
    return Transient(
        "listing-contradicted",
        f"the objects of bucket {bucket} cannot be listed, although the bucket was not found missing: {error.message}",
        "Nothing at first: the next run lists it again. If it lasts, see who deletes and creates the bucket (Cloud "
        "Audit Logs of Cloud Storage), and what answers in Google's place: a proxy, or an endpoint override.",
        within_run=False,
    )


def _answer_of(task: Task) -> Applied | CloudError:
    return task.answer or Permanent("internal-error", f"{task.folder} was not worked on")


def _answer_all(tasks: Iterable[Task], answer: CloudError) -> None:
    for task in tasks:
        task.answer = task.answer or answer
