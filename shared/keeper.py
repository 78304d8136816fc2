"""Keeps one run's memory and the stored blob together: load, lock, save by compare-and-swap, merge on conflict."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from shared.errors import AnotherRun, CloudError, Denied, NotFound, RunStopped, Transient
from shared.memory import SIZE_LIMIT, Corrupt, Memory, Running, dump, fresh, merge, parse
from shared.run import Run
from shared.store import Blob, Conflict, StateStore

SAVE_EVERY_S = 30.0
LEASE = timedelta(minutes=5)  # a crashed run's lock expires by itself after this long without a save
CONFLICTS = 8


class Keeper:
    """The memory of one run.

    `memory` is what the run reads and changes; it stays the same object when stored changes are merged into it.
    Nothing is written to the store before `lock`: a dry run never calls it.
    """

    def __init__(self, store: StateStore, run: Run) -> None:
        self._store = store
        self._run = run
        self._version: str | None = None
        self._corrupt = False
        self._locked = False
        self.may_write = False  # true once the lock was asked for: the state is known to be this owner's
        self._saved_at = run.clock.monotonic()
        self.memory: Memory = fresh(run.cloud)

    def open(self) -> Memory:
        """Load the memory.

        Missing: a cold start. Corrupt: a cold start too, and the blob will be set aside before it is overwritten.
        Raises RunStopped where it is forbidden, out of reach, newer than this function, or another cloud's.
        """
        try:
            blob = self._store.load(SIZE_LIMIT)
        except Denied as error:
            raise RunStopped("state-forbidden", error.message, error.remedy or "Grant the right to read it.") from error
        except Transient as error:
            raise RunStopped("state-unreachable", error.message, "The next run tries again.") from error
        self._version = blob.version
        self._become(self._parsed(blob))
        return self.memory

    def _parsed(self, blob: Blob) -> Memory:
        if blob.version is None:
            self._run.log("info", "state-missing")
            return fresh(self._run.cloud)
        if blob.size > SIZE_LIMIT:
            return self._cold_start(f"it has {blob.size} bytes, more than {SIZE_LIMIT}")
        try:
            memory = parse(blob.data, self._run.cloud, self._run.clock.now())
        except Corrupt as error:
            return self._cold_start(str(error))
        if not memory.cloud:
            self._run.log("info", "state-migrated", reason=f"{len(memory.scopes)} ids of the oldest form")
        memory.cloud = self._run.cloud
        return memory

    def _cold_start(self, why: str) -> Memory:
        self._corrupt = True
        self._run.log("error", "state-corrupt", reason=why)
        return fresh(self._run.cloud)

    def _become(self, memory: Memory) -> None:
        for field in memory.__struct_fields__:
            setattr(self.memory, field, getattr(memory, field))

    def refuse_if_held(self) -> None:
        """Raise AnotherRun if another run holds the lock and it has not expired."""
        running = self.memory.running
        if running and running.run_id != self._run.run_id and running.until > self._run.clock.now():
            raise AnotherRun(running.run_id, running.since.isoformat(), running.until.isoformat())

    def lock(self, owner: str) -> None:
        """Take the lock for this run, by compare-and-swap.

        Where the store's container is missing the run goes on without a lock: it may be about to create it. Raises
        AnotherRun if somebody else was quicker, RunStopped if the state cannot be written.
        """
        if self._corrupt:
            self._set_aside()
        for _ in range(CONFLICTS):
            self.refuse_if_held()
            self.memory.owner = owner
            try:
                self._write()
            except Conflict:
                self.open()
                continue
            except NotFound:
                self._run.log("warning", "state-missing", reason="its container does not exist yet")
            else:
                self._locked = True
            self.may_write = True
            return
        raise RunStopped("state-contended", f"the lock could not be taken in {CONFLICTS} tries", "Invoke again.")

    def heartbeat(self) -> None:
        """Save and renew the lock if the last save is SAVE_EVERY_S ago; a failure to save waits for the next time."""
        if self._locked and self._run.clock.monotonic() - self._saved_at >= SAVE_EVERY_S:
            try:
                self.save()
            except CloudError as error:
                self._saved_at = self._run.clock.monotonic()
                self._run.log("warning", "deferred", code=error.code, reason="saving memory")

    def save(self, *, release: bool = False) -> None:
        """Write the memory, merged with whatever was written in between; `release` ends the lock with it.

        Raises a CloudError if it could not be written; nothing is lost then but what this run learnt.
        """
        for _ in range(CONFLICTS):
            try:
                self._write(release=release)
            except Conflict:
                self._merge_stored()
            else:
                self._run.log("debug", "state-saved")
                return
        raise Transient("state-contended", f"the state could not be saved in {CONFLICTS} tries")

    def _write(self, *, release: bool = False) -> None:
        now = self._run.clock.now()
        holder = Running(self._run.run_id, self._run.started_at, now + LEASE)
        self.memory.running = None if release else holder
        try:
            self._version = self._store.save(dump(self.memory, now), self._version)
        except Denied as error:
            raise RunStopped(
                "state-forbidden", error.message, error.remedy or "Grant the right to write it."
            ) from error
        self._saved_at = self._run.clock.monotonic()

    def _merge_stored(self) -> None:
        self._run.log("info", "state-conflict")
        ours = msgspec.structs.replace(self.memory)
        self.open()
        if self._corrupt:
            self._set_aside()
        self._become(merge(ours, self.memory))

    def _set_aside(self) -> None:
        name = self._store.set_aside(f"{self._run.started_at:%Y%m%dT%H%M%SZ}")
        self._corrupt = False
        self._run.log("error", "state-corrupt", reason=f"kept aside as {name}, rebuilding")
