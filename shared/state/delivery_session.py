"""One run's session with the ledger of deliveries: what it observed is merged into what is stored."""

from __future__ import annotations

from collections.abc import Mapping

from shared.errors import ReportedError
from shared.model import Key, Observation, Present
from shared.runtime.context import RunContext
from shared.state.deliveries import DELIVERIES, SIZE_LIMIT, CorruptLedger, Ledger, NewerLedger, decode
from shared.state.store import Conflict, StateStore

CONFLICTS = 4


class DeliverySession:
    """Collects the periods that a run observes, and saves them by compare-and-swap.

    Nothing that goes wrong with the ledger fails a run: it is logged, and a later run observes the same again.
    """

    def __init__(self, store: StateStore, run: RunContext) -> None:
        self._store = store
        self._run = run
        self._noted = Ledger(run.cloud)
        self.ledger = Ledger(run.cloud)  # as it is stored, once a run that observed periods has saved

    def note(self, seen: Mapping[Key, Observation]) -> None:
        """Take in the periods of a run's observations; a target's dataset is its name."""
        now = self._run.clock.now()
        for key, one in seen.items():
            if isinstance(one, Present) and one.periods:
                self._noted.note(key.scope, key.name, one.periods, now)

    def digest(self) -> str:
        """Return a digest of what was noted and is not saved yet; "" if nothing was."""
        return self._noted.digest()

    def save(self, owner: str) -> bool:
        """Merge what was noted into the stored ledger, and write it if that is news; return whether it has all."""
        self._noted.owner = owner
        try:
            saved = self._merge_and_write(owner)
        except ReportedError as error:
            self._run.log("warning", "deliveries-unsaved", code=error.code, reason=error.message)
            return False
        if saved:
            self.forget()
        return saved

    def forget(self) -> None:
        """Drop what was noted."""
        self._noted = Ledger(self._run.cloud)

    def _merge_and_write(self, owner: str) -> bool:
        for _ in range(CONFLICTS):
            now = self._run.clock.now()
            try:
                stored, version = self._load(owner)
            except NewerLedger as error:
                self._run.log("warning", "deliveries-newer", reason=str(error))
                return False
            changed = stored.merge(self._noted, now)
            self.ledger = stored
            if not changed:
                return True
            stored.compact(now)
            data = stored.encode(now)
            if len(data) > SIZE_LIMIT:
                self._run.log("warning", "deliveries-unsaved", reason=f"the ledger has {len(data)} bytes")
                return False
            try:
                self._store.save(data, version, DELIVERIES)
            except Conflict:
                continue
            return True
        self._run.log("warning", "deliveries-unsaved", reason=f"other runs wrote it in {CONFLICTS} tries")
        return False

    def _load(self, owner: str) -> tuple[Ledger, str | None]:
        """Return the stored ledger and its version; an empty one where there is none, or none that can be read.

        Raises NewerLedger, ReportedError.
        """
        for read_again in (True, False):  # the answer may have been cut off on its way: it is read once more
            blob = self._store.load(SIZE_LIMIT, DELIVERIES)
            if blob.version is None:
                return Ledger(self._run.cloud, owner), None
            try:
                return decode(blob.data, self._run.cloud, owner), blob.version
            except CorruptLedger as error:
                if read_again:
                    continue
                name = self._store.set_aside(f"{self._run.started_at:%Y%m%dT%H%M%SZ}", DELIVERIES)
                self._run.log("warning", "deliveries-corrupt", reason=f"{error}; kept aside as {name}, begun anew")
                return Ledger(self._run.cloud, owner), blob.version
        raise AssertionError("unreachable: the second reading returns")
