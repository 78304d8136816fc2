"""Observes the copies: compares each partition with its copy, and finds older ones that have none.

The module is long because recent copies and older ones share the listing, the watermarks and their caches.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta

from gcp_function.clients import Clients
from gcp_function.errors import observed
from gcp_function.manual_steps import manifest_foreign
from gcp_function.resources.billing_tables import BillingTables, Partition, Tables, TableSeen
from gcp_function.resources.bucket import Bucket
from gcp_function.resources.copy_health import HIDDEN_COPY, NO_ROWS, NOT_YET, ODD, judge_copy, judge_history
from gcp_function.resources.copy_jobs import ExtractJobs, Task, answer_of
from gcp_function.resources.copy_listing import CopyListing
from gcp_function.resources.copy_manifest import (
    MANIFEST,
    MANIFEST_LIMIT,
    Copy,
    Watermark,
    folder_of,
    parse_manifest,
)
from gcp_function.resources.copy_writer import CopyWriter
from gcp_function.resources.dataset import Dataset
from gcp_function.resources.objects import Objects
from gcp_function.settings import GcpSettings
from gcp_function.targets import COPY, EXPORTS, copy_parts, window
from shared.errors import CloudError, NotFound, Transient
from shared.model import Action, Key, Observation, Ownership, Present, Result, Target
from shared.provider import Applied
from shared.runtime.context import RunContext
from shared.target_state import TargetState

HISTORY_AT_ONCE = 50_000  # older partitions that one run compares for the first time
LISTED_SINGLY = 200  # histories whose copies are listed one by one; of more, in one listing
JUDGED_A_RUN = 50  # manifests without our mark that one run reads

KEPT = Present()


class Copies:
    """Observes and applies the copies of all open accounts.

    After `observe_bulk`: `fresh` is the newest export_time (microseconds) by (account, kind) that copies and watermarks
    show, `odd` the tables that could not be asked for a watermark, with the reason, `hidden` those of which BigQuery's
    catalog counts rows that a query does not see: (whether all of them, how many).
    """

    def __init__(
        self,
        settings: GcpSettings,
        clients: Clients,
        run: RunContext,
        dataset: Dataset,
        bucket: Bucket,
        tables: BillingTables,
    ) -> None:
        self._settings = settings
        self._run = run
        self._dataset = dataset
        self._bucket = bucket
        self._tables = tables
        self._objects = Objects(settings.bucket, clients, run)
        self._copies = CopyListing(self._objects)
        jobs = ExtractJobs(settings, clients, run)
        self._writer = CopyWriter(settings, run, dataset, bucket, tables, self._objects, jobs)
        self._watermarks: dict[tuple[str, str], Watermark] = {}
        self._modified: dict[tuple[str, str], int] = {}
        self._history: dict[tuple[str, str], list[str]] = {}
        self._left_behind: set[tuple[str, str]] = set()
        self.fresh: dict[tuple[str, str], int] = {}
        self.odd: dict[str, CloudError] = {}
        self.hidden: dict[str, tuple[bool, str]] = {}
        self._rows: dict[tuple[str, str], int] = {}
        self._created: dict[tuple[str, str, str], datetime] = {}

    def note_left_behind(self, copies: Iterable[tuple[Key, TargetState]]) -> None:
        """Note the (account, kind) of remembered copies that left the window unfinished: their history cures them."""
        first = self._first_day()
        self._left_behind = {
            (key.scope, copy_parts(key)[0])
            for key, state in copies
            if state.error is not None and key.name[-10:] < first
        }

    # What is there, and what is to be done

    def observe_bulk(
        self,
        copies: Sequence[Target],
        histories: Sequence[Target],
        seen: Mapping[str, Tables | Observation],
        extra: Mapping[str, Collection[str]],
    ) -> dict[Key, Observation]:
        """Compare every copy with its partition: one listing, and watermarks only of partitions that were written.

        `extra` are partitions whose watermark the exports need. A history that was complete once is left to
        single reads.
        """
        found: dict[Key, Observation] = {}
        due = self._due(histories, seen, found)
        try:
            whole = self._whole(due)
            listed = self._listed(self._accounts(copies, seen), whole)
        except CloudError as error:
            unknown = observed(error, f"bucket {self._settings.bucket} or the partitions of its copies")
            self._ask(extra)
            return found | {target.key: unknown for target in (*copies, *histories) if target.key not in found}
        undecided = self._compare(copies, seen, listed, found)
        self._count(seen)
        asked: dict[str, set[str]] = {table: set(days) for table, days in extra.items()}
        for target in undecided:
            kind, day = copy_parts(target.key)
            asked.setdefault(EXPORTS[kind].table_of(target.key.scope), set()).add(day)
        failed = self._ask(asked)
        for target in undecided:
            found[target.key] = failed or self._decided(target, target.state, listed)
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
            if self._bucket.bucket_gone:
                return {}
            raise _contradicted(self._settings.bucket, error) from error
        self._note_age(found)
        return found

    def _note_age(self, listed: Mapping[tuple[str, str, str], Copy]) -> None:
        self._created |= {place: copy.created for place, copy in listed.items() if copy.created is not None}

    def _compare(
        self,
        copies: Sequence[Target],
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
            if copy is not None and copy.intact and self._checked(copy, partition, target.state):
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
        location = self._dataset.location
        if not asked or location is None:
            return None
        try:
            found, odd = self._tables.watermarks(asked, location)
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
        seen: Mapping[str, Tables | Observation],
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
            table, entry = tables.get(EXPORTS[kind].table_of(account)), target.state
            if table is None or not table.older:
                found[target.key] = KEPT
            elif entry is not None and entry.facts.get("done") and (account, kind) not in self._left_behind:
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
        return self._tables.tables(names, self._dataset.place(), "")

    def _history_of(self, target: Target, whole: Tables, listed: Mapping[tuple[str, str, str], Copy]) -> Observation:
        """Compare the partitions before the window with their copies."""
        account, kind = target.key.scope, target.key.name
        name, first = EXPORTS[kind].table_of(account), self._first_day()
        older = {day: one for day, one in whole.get(name, TableSeen(days={})).days.items() if day < first and one.rows}
        missing, moved = [], []
        for day, partition in older.items():
            copy = listed.get((account, day, kind))
            if copy is None and self._bucket.deletes(day):
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
        self._writer.make(tasks)
        return [answer_of(task) for task in tasks]

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
            self._writer.make(tasks)
            for task in tasks:
                answer = answer_of(task)
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
        task.created = self._created.get((account, day, kind))
        return task


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
