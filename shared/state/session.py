"""One run's session with the stored state: load, lock, save by compare-and-swap, merge on conflict."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from io import BytesIO
from typing import Any

from shared.errors import AnotherRun, CloudError, Denied, NotFound, Permanent, ReportedError, RunStopped, Transient
from shared.runtime.context import RunContext
from shared.state.decoding import CorruptState, is_document, parse
from shared.state.delivery_session import DeliverySession
from shared.state.document import SIZE_LIMIT, RunLock, StateDocument, check_owner, dump, fresh, merge, move_owner
from shared.state.future_times import drop_times_ahead
from shared.state.store import HTML, Blob, Conflict, StateStore
from shared.state.update import compact

SAVE_EVERY_S = 30.0
LEASE = timedelta(minutes=5)  # the lock of a crashed run expires this long after its last save
LONGEST_LEASE = timedelta(hours=24)  # no run holds it longer: such a lock is damage, and is ignored
CONFLICTS = 8
PAGE = "status.html"  # the status page's name beside the state
READ_SECONDS = 60.0  # for callers that only read


class StateSession:
    """The state document of one run, and its lock for writing.

    `document` is the document that the run reads and changes; it stays the same object when stored changes are merged
    into it. Nothing is written to the store before `lock`. With `read_only`, as in a dry run, the session ignores the
    lock and never writes. `facts` gives the types of remembered facts by name; a fact of another type is dropped.
    """

    def __init__(
        self, store: StateStore, run: RunContext, *, read_only: bool = False, facts: Mapping[str, Any] | None = None
    ) -> None:
        self._store = store
        self._facts = facts or {}
        self._run = run
        self.read_only = read_only
        self._version: str | None = None
        self._corrupt: Blob | None = None  # the stored document, if it is to be set aside before it is overwritten
        self.may_write = False  # true after `lock` has verified that the state is this owner's
        self._saved_at = run.clock.monotonic()
        self.document: StateDocument = fresh(run.cloud)
        self.deliveries = DeliverySession(store, run)

    def open(self) -> StateDocument:
        """Load the document and return it.

        A missing document means a cold start. So does a corrupt one, which is set aside before it is overwritten.
        Raises RunStopped if the document is forbidden, unreachable, newer than this function, or another cloud's, and
        AnotherRun if another run holds a lock that has not expired.
        """
        self._reload()
        self._refuse_if_held()
        return self.document

    def _reload(self) -> None:
        document, self._version = self._load()
        self._become(document)

    def _load(self) -> tuple[StateDocument, str | None]:
        """Return the stored document and its version; the session does not change if the document is not acceptable."""
        try:
            blob = self._store.load(SIZE_LIMIT)
            if not self._is_readable(blob):
                # The response may have been cut off or replaced in transit: the blob is read once more.
                blob = self._store.load(SIZE_LIMIT)
        except Denied as error:
            remedy = error.remedy or "Grant the permission to read it."
            raise RunStopped("state-forbidden", error.message, remedy) from error
        except Transient as error:
            raise RunStopped("state-unreachable", error.message, "The next run tries again.") from error
        return self._parsed(blob), blob.version

    def _is_readable(self, blob: Blob) -> bool:
        return blob.version is None or blob.size > SIZE_LIMIT or is_document(blob.data)

    def _parsed(self, blob: Blob) -> StateDocument:
        if blob.version is None:
            self._run.log("info", "state-missing")
            return fresh(self._run.cloud)
        if blob.size > SIZE_LIMIT:
            return self._cold_start(blob, f"it has {blob.size} bytes, more than {SIZE_LIMIT}")
        try:
            document = parse(blob.data, self._run.cloud, self._run.clock.now(), self._facts, self._damaged)
        except CorruptState as error:
            return self._cold_start(blob, str(error))
        ahead = drop_times_ahead(document, self._run.clock.now())
        if ahead:
            self._damaged(f"{ahead} of its entries held times in the future")
        if not document.cloud:
            self._run.log("info", "state-migrated", reason=f"{len(document.scopes)} ids of the oldest form")
        document.cloud = self._run.cloud
        return document

    def _damaged(self, why: str) -> None:
        self._run.log("warning", "state-damaged", reason=why)

    def _cold_start(self, blob: Blob, why: str) -> StateDocument:
        self._corrupt = blob
        self._run.log("error", "state-corrupt", reason=why)
        return fresh(self._run.cloud)

    def _become(self, document: StateDocument) -> None:
        for field in document.__struct_fields__:
            setattr(self.document, field, getattr(document, field))

    def _refuse_if_held(self) -> None:
        other = self._other_run()
        if other:
            raise AnotherRun(other.run_id, other.since.isoformat(), other.until.isoformat())

    def _other_run(self) -> RunLock | None:
        """Return the lock of another run if it is valid: not expired, and not of an ended run.

        It expires LEASE after the blob was last written, by the store's own clock: the clock of the host that wrote the
        lock, or that reads it, may be wrong by hours. `until` counts only if the store does not say when.
        """
        if self.read_only:
            return None
        running, now = self.document.running, self._run.clock.now()
        if running is None or running.run_id in {self._run.run_id, *(note.run_id for note in self.document.runs)}:
            return None
        try:
            age = self._store.age()
        except CloudError as error:
            self._run.log("info", "lock-age-unknown", code=error.code, reason=error.message)
            age = None
        if age is None:
            return running if now < running.until <= now + LONGEST_LEASE else None
        return RunLock(running.run_id, running.since, now + LEASE - age) if age < LEASE else None

    def lock(self, owner: str, formerly: Collection[str] = ()) -> None:
        """Verify that the document is the owner's, and take the lock for this run by compare-and-swap.

        A document that the same owner stored under a name in `formerly` is adopted. If the store's container is
        missing, the run continues without a lock, since it may create the container. Raises AnotherRun if another run
        was faster, RunStopped if the state cannot be written or is another owner's.
        """
        for _ in range(CONFLICTS):
            move_owner(self.document, owner, formerly)
            check_owner(self.document, owner)
            if self.read_only:
                return
            self._refuse_if_held()
            self._set_aside()
            self.document.owner = owner
            try:
                self._write()
            except Conflict:
                self._reload()
                continue
            except NotFound:
                self._run.log("warning", "state-missing", reason="its container does not exist yet")
            except Transient:
                # The write may have succeeded although its response was lost: the lock is released at the end.
                self.may_write = True
                raise
            self.may_write = True
            return
        raise RunStopped("state-contended", f"the lock could not be taken in {CONFLICTS} tries", "Invoke again.")

    def heartbeat(self) -> None:
        """Save and renew the lock if the last save is SAVE_EVERY_S ago; after a failure, the next one tries again."""
        if self.may_write and self._run.clock.monotonic() - self._saved_at >= SAVE_EVERY_S:
            try:
                self.save()
            except ReportedError as error:
                self._saved_at = self._run.clock.monotonic()
                self._run.log("warning", "deferred", code=error.code, reason="saving the state")

    def save(self, *, release: bool = False) -> None:
        """Write the document, merged with what was written in between; `release` also releases the lock.

        The recorded deliveries are saved after it. Raises a ReportedError if it could not be written; only what this
        run recorded is lost then.
        """
        # The digest is stored before the ledger, so that a run in steady state needs one write and no read.
        noted, known = self.deliveries.digest(), self.document.ledger
        self.document.ledger = self.deliveries.digest_to_store(noted, known)
        self._write_merged(release=release)
        if not noted:
            return
        if noted == known:
            self.deliveries.forget()
        elif not self.deliveries.save(self.document.owner):
            self.document.ledger = ""
            self._write_merged(release=release)

    def _write_merged(self, *, release: bool) -> None:
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
        holder = RunLock(self._run.run_id, self._run.started_at, now + LEASE)
        # If this run exceeded its lease and another one began, the lock belongs to the other one.
        other = self.document.running if self._other_run() else None
        self.document.running = other or (None if release else holder)
        compact(self.document, now)
        data = dump(self.document, now)
        if len(data) > SIZE_LIMIT:
            raise Permanent(
                "state-too-large",
                f"the state has {len(data)} bytes, more than {SIZE_LIMIT} can be read",
                "Deploy the function more than once, each for a part of the scopes (the settings that include and "
                "exclude scopes). The former state stays as it is.",
            )
        try:
            self._version = self._store.save(data, self._version)
        except Denied as error:
            remedy = error.remedy or "Grant the permission to write it."
            raise RunStopped("state-forbidden", error.message, remedy) from error
        self._saved_at = self._run.clock.monotonic()

    def store_report(self, pieces: Iterable[bytes]) -> str:
        """Store a run's whole report, given in pieces, and return its location or why it has none."""
        if self.read_only:
            return "a dry run stores none, the plan itself shows all"
        if not self.may_write:
            return "it was not stored, since the run ended before it held the lock"
        try:
            document = BytesIO()  # unlike a list of the pieces, it holds little more than the whole
            document.writelines(pieces)
            return self._store.put_report(self._run.run_id, document.getvalue())
        except ReportedError as error:
            self._run.log("warning", "report-lost", code=error.code, reason=error.message)
            return "it could not be stored"

    def store_page(self, page: bytes) -> None:
        """Store the status page beside the state; log a failure."""
        try:
            self._store.put(PAGE, page, HTML)
        except ReportedError as error:
            self._run.log("warning", "page-lost", code=error.code, reason=error.message)

    def _merge_stored(self) -> None:
        self._run.log("info", "state-conflict")
        stored, version = self._load()
        merged = merge(self.document, stored)
        self._set_aside()
        self._version = version
        self._become(merged)

    def _set_aside(self) -> None:
        """Keep a copy of the stored document if it is corrupt. Raises CloudError."""
        if self._corrupt is None:
            return
        name = self._store.set_aside(self._corrupt)
        self._corrupt = None
        self._run.log("error", "state-corrupt", reason=f"kept aside as {name}, rebuilding")
