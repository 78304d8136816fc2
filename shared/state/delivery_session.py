"""One run's session with the ledger of deliveries: what it observed is merged into what is stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from shared.errors import ReportedError
from shared.model import Key, Observation, Present
from shared.periods import Period
from shared.runtime.context import RunContext
from shared.state.deliveries import DELIVERIES, SIZE_LIMIT, CorruptLedger, Ledger, NewerLedger, Series, decode
from shared.state.document import StateDocument
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
        self._saved_digest = ""
        self.ledger = Ledger(run.cloud)  # as it is stored, once a run that observed periods has saved
        self.announcing = False  # set where deliveries are announced: then saving what is new is only half of it

    def note(self, seen: Mapping[Key, Observation]) -> None:
        """Take in the periods of a run's observations; a target's dataset is its name, up to the first slash."""
        found: dict[Series, dict[str, Period]] = defaultdict(dict)
        for key, one in seen.items():
            if isinstance(one, Present) and one.periods:
                found[key.scope, key.name.partition("/")[0]].update(one.periods)
        now = self._run.clock.now()
        for (scope, dataset), periods in found.items():
            self._noted.note(scope, dataset, periods, now)

    def digest(self) -> str:
        """Return a digest of what was noted and is not saved yet; "" if nothing was.

        It is another one once deliveries are announced: the first such run looks at the whole ledger.
        """
        found = self._noted.digest()
        return f"+{found}" if found and self.announcing else found

    def digest_to_store(self, noted: str, known: str) -> str:
        """Return what the state, which remembers `known` of the ledger, is to remember before `noted` is saved.

        Where deliveries are announced, news is remembered only once all of it was: see `all_announced`.
        """
        return "" if self.announcing and noted not in ("", known) else noted or known

    def save(self, owner: str) -> bool:
        """Merge what was noted into the stored ledger, and write it if that is news; return whether it has all."""
        noted, digest = self._noted, self.digest()
        if not self._change(owner, lambda stored: stored.merge(noted, self._run.clock.now())):
            return False
        self._saved_digest = digest
        self.forget()
        return True

    def forget(self) -> None:
        """Drop what was noted."""
        self._noted = Ledger(self._run.cloud)

    def unannounced(self) -> Iterator[tuple[Series, str, Period]]:
        """Yield each period of the stored ledger that was not announced as it is; none where nothing was saved."""
        for scope, dataset, name, period in self.ledger.unannounced():
            yield (scope, dataset), name, period

    def mark_announced(self, announced: Iterable[tuple[Series, str, Period]], owner: str) -> bool:
        """Note in the stored ledger that periods were announced with these contents; return whether it is noted."""
        periods: dict[Series, dict[str, Period]] = defaultdict(dict)
        for series, name, period in announced:
            periods[series][name] = period
        return self._change(owner, lambda stored: stored.mark_announced(periods))

    def all_announced(self, document: StateDocument) -> None:
        """Note in the state that nothing of what was saved is left to announce."""
        document.ledger = self._saved_digest or document.ledger

    def _change(self, owner: str, change: Callable[[Ledger], bool]) -> bool:
        """Change the stored ledger, which is written if `change` says so; return whether it is as it should be.

        A failure is logged.
        """
        try:
            return self._change_and_write(owner, change)
        except ReportedError as error:
            self._run.log("warning", "deliveries-unsaved", code=error.code, reason=error.message)
            return False

    def _change_and_write(self, owner: str, change: Callable[[Ledger], bool]) -> bool:
        for _ in range(CONFLICTS):
            now = self._run.clock.now()
            try:
                stored, version, rebuilt = self._load(owner)
            except NewerLedger as error:
                self._run.log("warning", "deliveries-newer", reason=str(error))
                return False
            changed = change(stored)
            self.ledger = stored
            if not changed and not rebuilt:
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
            return changed  # if it was begun anew and holds nothing, what was to be changed is lost
        self._run.log("warning", "deliveries-unsaved", reason=f"other runs wrote it in {CONFLICTS} tries")
        return False

    def _load(self, owner: str) -> tuple[Ledger, str | None, bool]:
        """Return the stored ledger, its version, and whether it is begun anew because it cannot be read.

        Raises NewerLedger, ReportedError.
        """
        for read_again in (True, False):  # the answer may have been cut off on its way: it is read once more
            blob = self._store.load(SIZE_LIMIT, DELIVERIES)
            if blob.version is None:
                return Ledger(self._run.cloud, owner), None, False
            try:
                return decode(blob.data, self._run.cloud, owner), blob.version, False
            except CorruptLedger as error:
                if read_again:
                    continue
                name = self._store.set_aside(blob, DELIVERIES)
                self._run.log("warning", "deliveries-corrupt", reason=f"{error}; kept aside as {name}, begun anew")
                return Ledger(self._run.cloud, owner), blob.version, True
        raise AssertionError("unreachable: the second reading returns")
