"""Announces deliveries: at once where an event names one, and after each run for whatever no event named.

The ledger of deliveries remembers per period whether it was announced as it is now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Protocol

from shared.deliveries.chain import Chain, Documents, Topic
from shared.deliveries.document import Current, DeliveryDocument, FileSet, Series
from shared.errors import ReportedError, defect
from shared.model import Key
from shared.periods import Period
from shared.runtime.context import RunContext
from shared.runtime.pool import each
from shared.state.session import StateSession

AT_ONCE = 2000  # periods that one run catches up on; the next runs go on
MINUTE_S = 60  # to which the ledger is accurate
SETTLED = timedelta(hours=1)  # what was written so long ago is of an earlier minute, though clocks differ


class DeliverySource(Protocol):
    """What a cloud knows of its deliveries. Called from several threads at once."""

    def announces(self, series: Series) -> bool:
        """Return whether the cloud's deliveries are for such a period: a month, or a day."""
        ...

    def documents(self, series: Series) -> Documents:
        """Return the store beside the data of a series."""
        ...

    def files(self, series: Series) -> FileSet | None:
        """Read the manifest of a period and list its files; no files if the delivered data is gone.

        Returns None if the set is not whole: a file of the manifest is missing, or the next delivery is being written.
        Raises CloudError.
        """
        ...


class Announcer:
    """Announces the deliveries of one cloud to `topics` (see `Chain`).

    Every entry of a deployment passes the same topics, since an announced period is not looked at again.
    """

    def __init__(self, source: DeliverySource, topics: Mapping[str, Topic], run: RunContext) -> None:
        self._source = source
        self._run = run
        self._chain = Chain(run.cloud, topics, run)

    def announce(self, series: Series) -> bool:
        """Announce a period as it is delivered now; return False if its files are not complete. Raises CloudError."""
        found = self._source.files(series)
        if found is None:
            return False
        for document in self._chain.append(series, self._source.documents(series), found):
            self._log(document)
        return True

    def announce_named(self, named: Iterable[Series]) -> int:
        """Announce the periods that events name; return for how many that failed, which is logged.

        A period whose files are not complete is no failure: the event of its manifest follows, or a run sees it.
        """
        failed: Counter[str] = Counter()
        example: ReportedError | None = None
        for _, error in each(dict.fromkeys(named), self._tried, self._run.settings.workers, lambda: True):
            if isinstance(error, ReportedError):
                failed[error.code], example = failed[error.code] + 1, example or error
        self._warn(failed.total(), example)
        return failed.total()

    def catch_up(self, session: StateSession) -> int:
        """Announce what the ledger has and is not announced yet; return how many periods are left.

        Never raises: what fails is logged, and left for the next run. Periods with incomplete files do not count.
        """
        ledger = session.deliveries
        pending = [
            (Series(scope, dataset, name), period)
            for (scope, dataset), name, period in ledger.unannounced()
            if self._source.announces(Series(scope, dataset, name))
        ]
        if not pending:
            ledger.all_announced(session.document)
            return 0
        done: list[tuple[Series, Period]] = []
        incomplete, again, failures = 0, 0, 0
        example: ReportedError | None = None
        # A sample, since the same ones may fail in each run.
        chosen = self._run.rng.sample(pending, min(len(pending), AT_ONCE))
        found = each(chosen, self._caught_up, self._run.settings.workers, lambda: self._run.deadline.allows(0))
        for item, answer in found:
            if isinstance(answer, bool):
                incomplete += not answer
                if answer or self._would_show(item[1]):
                    done.append(item)
                else:
                    again += 1
            else:
                failures, example = failures + 1, example or answer
        if incomplete:
            self._run.log("info", "delivery-incomplete", reason=f"the files of {incomplete} periods are not complete")
        self._warn(failures, example)
        left = len(pending) - len(done)
        marks = (((one.scope, one.dataset), one.period, period) for one, period in done)
        if ledger.mark_announced(marks, session.document.owner) and not left:
            ledger.all_announced(session.document)
        return left - again

    def _would_show(self, period: Period) -> bool:
        """Return whether the ledger's entry of an incomplete set changes when the set is complete.

        A file that arrives makes it later, if only by a minute. That the last file of an empty period goes makes no
        difference: a manifest, or files without one, do not count.
        """
        return period.has_data and (period.last is None or self._run.clock.now() - period.last > SETTLED)

    def _caught_up(self, item: tuple[Series, Period]) -> bool | ReportedError:
        series, period = item
        try:
            documents = self._source.documents(series)
            current, _ = self._chain.current(series, documents)
            if self._chain.is_published(current) and _shows(current, period):
                return True
            return self.announce(series)
        except Exception as error:  # noqa: BLE001 - a defect must not fail a run that has ended well
            return error if isinstance(error, ReportedError) else defect(error)

    def _tried(self, series: Series) -> ReportedError | None:
        try:
            self.announce(series)
        except Exception as error:  # noqa: BLE001 - a defect must not fail the work whose result is announced
            return error if isinstance(error, ReportedError) else defect(error)
        return None

    def _warn(self, failures: int, example: ReportedError | None) -> None:
        if example is not None:
            reason = f"{failures} periods, such as this: {example.message}. {example.remedy}".strip()
            self._run.log("warning", "delivery-unannounced", code=example.code, reason=reason)

    def _log(self, document: DeliveryDocument) -> None:
        data, delta = document.data, document.data.delta
        changed = f"{len(delta.added)} added, {len(delta.replaced)} replaced, {len(delta.gone)} gone"
        key = Key(data.scope, data.dataset, data.period)
        self._run.log("info", "delivery-announced", key, reason=f"number {data.sequence}: {changed}")


def _shows(current: Current, period: Period) -> bool:
    """Return whether a series' newest document already says what the ledger says of it.

    The ledger has no checksums, but the time of the delivery to the minute: files that a later one replaced show by it.
    """
    newest = current.newest
    if newest is None:
        return not period.has_data
    if period.files is None or period.last is None:
        return False
    data = newest.data
    same = (len(data.files), sum(one.bytes for one in data.files)) == (period.files, period.bytes)
    return same and abs((data.delivered_at - period.last).total_seconds()) < MINUTE_S
