"""Observes the copies: compares each partition with its copy, and finds older partitions that have none.

The module is long, because copies and the histories of older ones share one listing and one survey of the tables.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta

import msgspec

from gcp_function.clients import Clients
from gcp_function.errors import observed
from gcp_function.manual_steps import manifest_foreign
from gcp_function.resources.billing_tables import BillingTables, Partition, Tables, TableSeen
from gcp_function.resources.bucket import Bucket
from gcp_function.resources.copy_health import (
    HIDDEN_COPY,
    NO_ROWS,
    NOT_YET,
    UNEXPECTED_SCHEMA,
    evaluate_copy,
    evaluate_history,
)
from gcp_function.resources.copy_jobs import ExtractJobs, Task, answer_of
from gcp_function.resources.copy_listing import CopyListing, contradicted
from gcp_function.resources.copy_manifest import MANIFEST, MANIFEST_LIMIT, Copy, folder_of, parse_manifest
from gcp_function.resources.copy_writer import CopyWriter
from gcp_function.resources.dataset import Dataset
from gcp_function.resources.objects import Objects
from gcp_function.resources.table_survey import TablesByKind, TableSurvey, account_and_kind_of
from gcp_function.settings import GcpSettings
from gcp_function.targets import COPY, EXPORTS, HISTORY, copy_parts, window
from shared.deliveries.announce import Announcer
from shared.errors import CloudError, NotFound
from shared.model import Action, Key, Observation, Ownership, Present, Result, Target
from shared.periods import Period
from shared.provider import Applied
from shared.resources import one_by_one
from shared.runtime.context import RunContext
from shared.target_state import TargetState

HISTORY_AT_ONCE = 50_000  # older partitions that one run compares for the first time
LISTED_SINGLY = 200  # histories whose copies are listed one by one; more of them share one listing

KEPT = Present()

Listed = Mapping[tuple[str, str, str], Copy]  # the copies in the bucket by (account, day, kind)


class Copies:
    """Observes and makes the copies of recent partitions, each a target, and of older ones, the account's history."""

    kinds = (COPY, HISTORY)

    def __init__(
        self,
        settings: GcpSettings,
        clients: Clients,
        run: RunContext,
        dataset: Dataset,
        bucket: Bucket,
        billing_tables: BillingTables,
        survey: TableSurvey,
        announcer: Announcer | None = None,
    ) -> None:
        self._settings = settings
        self._run = run
        self._dataset = dataset
        self._bucket = bucket
        self._billing_tables = billing_tables
        self._survey = survey
        self._objects = Objects(settings.bucket, clients, run)
        self._listing = CopyListing(self._objects)
        jobs = ExtractJobs(settings, clients, run)
        self._writer = CopyWriter(settings, run, dataset, bucket, billing_tables, self._objects, jobs, announcer)
        self._modified: dict[tuple[str, str], int] = {}  # when a partition was written, by (table, day)
        self._created: dict[tuple[str, str, str], datetime] = {}  # when a manifest was, by (account, day, kind)
        self._missing: dict[tuple[str, str], list[str]] = {}  # older days without a copy, by (account, kind)
        self._left_behind: set[tuple[str, str]] = set()

    def note_left_behind(self, copies: Iterable[tuple[Key, TargetState]]) -> None:
        """Record the (account, kind) of copies that failed until they were too old to be targets.

        They are now part of a history. `copies` are all copies that earlier runs recorded.
        """
        first = self._first_day()
        self._left_behind = {
            (key.scope, copy_parts(key)[0])
            for key, state in copies
            if state.error is not None and key.name[-10:] < first
        }

    # Observe

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Compare every copy with its partition: one listing, and watermarks only of partitions that were written.

        A history that was once complete is left to single reads.
        """
        if self._dataset.unseen is not None:
            return dict.fromkeys((target.key for target in targets), self._dataset.unseen)
        copies = [target for target in targets if target.kind == COPY]
        histories = [target for target in targets if target.kind == HISTORY]
        tables = self._survey.tables(targets)
        self._run.heartbeat()
        found: dict[Key, Observation] = {}
        due = self._due(histories, tables, found)
        try:
            whole = self._whole_tables(due)
            listed = self._listed(self._accounts(copies, tables), whole)
        except CloudError as error:
            unknown = observed(error, f"bucket {self._settings.bucket} or the partitions of its copies")
            return found | {target.key: unknown for target in targets if target.key not in found}
        undecided = self._compare(copies, tables, listed, found)
        asked: dict[str, set[str]] = {}
        for target in undecided:
            kind, day = copy_parts(target.key)
            asked.setdefault(EXPORTS[kind].table_of(target.key.scope), set()).add(day)
        failed = self._survey.ask(asked)
        for target in undecided:
            found[target.key] = failed or self._compare_watermark(target, listed)
        if self._settings.deltas:
            found |= _with_periods(copies, found, listed)
        for target in histories:
            if (target.key.scope, target.key.name) in due:
                found[target.key] = self._compare_history(target, whole, listed)
        return found

    def observe(self, target: Target) -> Observation:
        """Compare a history's partitions with their copies, even if it was once complete; or one copy."""
        if target.kind == COPY:
            return self.observe_bulk((target,))[target.key]
        whole = self._whole_tables({(target.key.scope, target.key.name)})
        return self._compare_history(target, whole, self._listed((), whole))

    def _listed(self, accounts: Collection[str], histories: Tables) -> Listed:
        """Return the accounts' recent copies, and all copies of the `histories` (tables with all their partitions).

        A bucket that two reads report missing holds none. Raises CloudError.
        """
        days = self._window()
        pairs = [
            pair for name, table in histories.items() if table.days and (pair := account_and_kind_of(name)) is not None
        ]
        if len(pairs) > LISTED_SINGLY:
            # One listing from the oldest partition on takes fewer calls than one for each of so many.
            oldest = date.fromisoformat(min(min(table.days) for table in histories.values() if table.days))
            ahead = (date.fromisoformat(days[0]) - oldest).days
            days = [(oldest + timedelta(days=number)).isoformat() for number in range(ahead)] + days
            accounts, pairs = {*accounts, *(account for account, _ in pairs)}, []
        try:
            found = self._listing.of(accounts, days, self._settings.copy, self._run.heartbeat)
            for account, kind in pairs:
                found |= self._listing.whole(account, kind, self._run.heartbeat)
        except NotFound as error:
            if self._bucket.bucket_gone:
                return {}
            raise contradicted(self._settings.bucket, error) from error
        return found

    def _compare(
        self,
        copies: Sequence[Target],
        tables_by_kind: TablesByKind,
        listed: Listed,
        found: dict[Key, Observation],
    ) -> list[Target]:
        """Put into `found` what the listing and BigQuery's catalog determine; return the remaining targets."""
        undecided: list[Target] = []
        nothing = TableSeen(days={})
        for target in copies:
            account = target.key.scope
            kind, day = copy_parts(target.key)
            tables = tables_by_kind[kind]
            if not isinstance(tables, dict):
                found[target.key] = tables
                continue
            copy, name = listed.get((account, day, kind)), EXPORTS[kind].table_of(account)
            if copy is not None and copy.watermark is not None:
                self._survey.note_fresh(account, kind, day, copy.watermark)
            partition = tables.get(name, nothing).days.get(day)
            if partition is None or not partition.rows:
                found[target.key] = NO_ROWS if copy is None else KEPT
                continue
            if copy is not None and copy.intact and self._checked(copy, partition, target.state):
                found[target.key] = KEPT
            else:
                undecided.append(target)
                self._note((account, day, kind), partition, copy)
        return undecided

    def _note(self, place: tuple[str, str, str], partition: Partition, copy: Copy | None) -> None:
        """Note what the comparison of watermarks, and a new copy, need to know of a partition and its copy."""
        account, day, kind = place
        name = EXPORTS[kind].table_of(account)
        self._modified[name, day] = partition.modified
        self._survey.count_rows(name, day, partition.rows)
        if copy is not None and copy.created is not None:
            self._created[place] = copy.created

    def _checked(self, copy: Copy, partition: Partition, entry: TargetState | None) -> bool:
        """Return whether a copy was compared with its partition since the last write to it, and has as many rows.

        Deleting rows does not change the last modified time ("PARTITIONS view", BigQuery), only their number.
        """
        if copy.watermark is None or copy.watermark.rows != partition.rows:
            return False
        if copy.modified == partition.modified:
            return True
        facts = entry.facts if entry else {}
        return facts.get("modified") == partition.modified and facts.get("generation") == copy.generation

    def _compare_watermark(self, target: Target, listed: Listed) -> Observation:
        """Compare a copy with its partition by their watermarks."""
        account = target.key.scope
        kind, day = copy_parts(target.key)
        name, copy = EXPORTS[kind].table_of(account), listed.get((account, day, kind))
        if (unusable := self._unusable(name)) is not None:
            return unusable
        now = self._survey.watermarks.get((name, day))
        if now is None:
            return NO_ROWS if copy is None else KEPT
        self._survey.note_fresh(account, kind, day, now)
        if copy is not None and copy.watermark is None:
            return self._compare_unmarked(target, copy)
        return evaluate_copy(copy, now, day, self._modified.get((name, day), 0))

    def _unusable(self, table: str) -> Observation | None:
        """Return why the rows of a table cannot be compared, None if they can."""
        if table in self._survey.unexpected:
            return UNEXPECTED_SCHEMA
        whole, _ = self._survey.hidden.get(table, (False, ""))
        return HIDDEN_COPY if whole else None

    def _compare_unmarked(self, target: Target, copy: Copy) -> Observation:
        """Read a manifest without our mark: it is adopted if it has our format, otherwise left alone."""
        (kind, day), entry = copy_parts(target.key), target.state
        name = folder_of(target.key.scope, day, kind) + MANIFEST
        foreign = bool(entry and entry.facts.get("foreign") == copy.generation)
        if not foreign:
            try:
                data, _ = self._objects.read(name, MANIFEST_LIMIT)
            except CloudError as error:
                return observed(error, f"object {name}")
            foreign = parse_manifest(data, target.key.scope, kind, day) is None
        if not foreign:
            return Present(ownership=Ownership.UNMARKED, detail="a manifest in our format without our mark")
        manual_step = manifest_foreign(self._settings.bucket, name)
        return Present(
            ownership=Ownership.FOREIGN, code="manifest-foreign", detail=manual_step.what, manual_step=manual_step,
            facts={"foreign": copy.generation},
        )  # fmt: skip

    def _accounts(self, copies: Sequence[Target], tables_by_kind: TablesByKind) -> set[str]:
        """Return the accounts that have partitions to copy; the folders of others need not be listed."""
        accounts = {target.key.scope for target in copies}
        kinds = [(kind, tables) for kind in self._settings.copy if isinstance(tables := tables_by_kind.get(kind), dict)]
        return {one for one in accounts if any(EXPORTS[kind].table_of(one) in tables for kind, tables in kinds)}

    def _first_day(self) -> str:
        return self._window()[0]

    def _window(self) -> list[str]:
        return window(self._settings, self._run.clock.now().date())

    # Observe the histories

    def _due(
        self, histories: Sequence[Target], tables_by_kind: TablesByKind, found: dict[Key, Observation]
    ) -> set[tuple[str, str]]:
        """Put into `found` the histories that need no comparison; return (account, kind) of those to compare now."""
        due: set[tuple[str, str]] = set()
        room = HISTORY_AT_ONCE
        for target in histories:
            account, kind = target.key.scope, target.key.name
            tables = tables_by_kind[kind]
            if not isinstance(tables, dict):
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

    def _whole_tables(self, pairs: Collection[tuple[str, str]]) -> Tables:
        """Return the tables of each (account, kind) with all their partitions. Raises CloudError."""
        if not pairs:
            return {}
        names = {EXPORTS[kind].table_of(account) for account, kind in pairs}
        return self._billing_tables.tables(names, self._dataset.require_location(), "")

    def _compare_history(self, target: Target, whole: Tables, listed: Listed) -> Observation:
        """Compare the partitions that are too old to be targets with their copies."""
        account, kind = target.key.scope, target.key.name
        name, first = EXPORTS[kind].table_of(account), self._first_day()
        older = {day: one for day, one in whole.get(name, TableSeen(days={})).days.items() if day < first and one.rows}
        missing, moved = [], []
        for day, partition in older.items():
            copy = listed.get((account, day, kind))
            if copy is None and self._bucket.deletes(day):
                continue
            if copy is None or not copy.intact:
                missing.append(day)
            elif copy.modified != partition.modified or copy.watermark is None or copy.watermark.rows != partition.rows:
                moved.append(day)
            else:
                continue
            self._note((account, day, kind), partition, copy)
        if moved:
            failed = self._survey.ask({name: moved})
            if failed is not None:
                return failed
            now = {day: self._survey.watermarks.get((name, day)) for day in moved}
            missing += [day for day in moved if now[day] not in (None, listed[account, day, kind].watermark)]
        if (unusable := self._unusable(name)) is not None:
            return unusable
        self._missing[account, kind] = sorted(missing)
        found = evaluate_history(len(missing), len(older), first, self._run.clock.now())
        if not self._settings.deltas or not isinstance(found, Present):
            return found
        periods = {day: listed[account, day, kind].period for day in older if (account, day, kind) in listed}
        return msgspec.structs.replace(found, periods={day: one for day, one in periods.items() if one is not None})

    # Apply

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Copy partitions with parallel jobs: one for each action, or all that a history lacks."""
        if actions[0].target.kind == HISTORY:
            return one_by_one(self._complete_history, actions)
        tasks = []
        for action in actions:
            kind, day = copy_parts(action.key)
            tasks.append(self._task(action.key.scope, kind, day))
        self._writer.make(tasks)
        return [answer_of(task) for task in tasks]

    def _complete_history(self, action: Action) -> Applied:
        """Copy the older partitions that have no current copy, as many as time allows. Raises CloudError."""
        account, kind = action.key.scope, action.key.name
        days = self._missing.get((account, kind))
        if days is None:
            self.observe(action.target)
            days = self._missing.get((account, kind), [])
        done = unannounced = 0
        for start in range(0, len(days), COPY.batch_size):
            if not self._run.deadline.allows(0):
                break
            tasks = [self._task(account, kind, day) for day in days[start : start + COPY.batch_size]]
            unannounced += self._writer.make(tasks)
            for task in tasks:
                answer = answer_of(task)
                if isinstance(answer, CloudError):
                    raise answer
            done += len(tasks)
        if done < len(days):
            return Applied(Result.PENDING, f"{done} of {len(days)} older partitions copied; the next run continues")
        message = f"{done} older partitions copied"
        # Without the fact, the next run compares the history once more and announces what could not be announced.
        return Applied(message=message, facts={} if unannounced else {"done": self._run.clock.now().isoformat()})

    def _task(self, account: str, kind: str, day: str) -> Task:
        task = Task(account, kind, day)
        task.modified = self._modified.get((task.table, day), 0)
        task.watermark = self._survey.watermarks.get((task.table, day))
        task.created = self._created.get((account, day, kind))
        return task


def _with_periods(copies: Iterable[Target], found: Mapping[Key, Observation], listed: Listed) -> dict[Key, Observation]:
    """Return the observations of copies that exist, or were deleted with their partitions, with what they hold."""
    changed: dict[Key, Observation] = {}
    for target in copies:
        kind, day = copy_parts(target.key)
        copy, seen = listed.get((target.key.scope, day, kind)), found[target.key]
        if copy is not None:
            period = copy.period
        elif seen is NO_ROWS and target.state is not None and target.state.applied_at is not None:
            period = Period(files=0, first=target.state.created_at or target.state.applied_at)
        else:
            continue
        if period is not None and isinstance(seen, Present):
            changed[target.key] = msgspec.structs.replace(seen, periods={day: period})
    return changed
