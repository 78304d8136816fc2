"""What the function stored: its state document and its reports.

They are read from the cloud with the operator's credentials, or from what the last demonstration kept on this machine.
"""

from __future__ import annotations

import contextlib
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cli.clouds import Cloud
from cli.demo.kept import Kept, kept
from cli.deployment.model import OperatorError, Problem
from cli.settings_source import Choice, source_of
from cli.terminal.console import clean, err, say
from shared.errors import ReportedError, SettingsError
from shared.monitor.overview import overview
from shared.monitor.page import data_of
from shared.monitor.stored import Documents, StoredReport, read_reports
from shared.runtime.clock import SystemClock
from shared.state.decoding import CorruptState, parse
from shared.state.deliveries import DELIVERIES, SIZE_LIMIT, CorruptLedger, Ledger, NewerLedger, decode
from shared.state.document import StateDocument
from shared.state.session import PAGE, StateSession
from tailpipe_exports import NAME

LARGEST_PAGE = 8 * 1024 * 1024  # bytes; ten thousand scopes take a quarter of it
NEWEST = 5  # reports that show what the last runs changed
_PROGRESS_FROM = 20  # reports; fewer are read in less than two seconds


@dataclass(frozen=True)
class Stored:
    """One cloud's stored documents; `demo` is where they come from if that is a demonstration.

    `docs_url` is the documentation's site that the function's settings name, "" where they name none.
    """

    cloud: Cloud
    document: StateDocument
    store: Documents
    demo: Kept | None = None
    docs_url: str = ""

    @property
    def title(self) -> str:
        """The name of what stored them: the cloud, or its demonstration."""
        return f"{self.cloud.title} · demonstration" if self.demo else self.cloud.title

    def now(self) -> datetime:
        """Return the time by the clock of what stored them; a demonstration's may be virtual."""
        return self.demo.now() if self.demo else SystemClock().now()

    def newest_reports(self, count: int = NEWEST) -> list[StoredReport]:
        """Return the reports of the last runs in the state's history, oldest first. Raises OperatorError."""
        ids = [note.run_id for note in sorted(self.document.runs, key=lambda note: note.at)]
        return self.reports(ids[-count:])

    def report_ids(self, since: str) -> list[str]:
        """Return the ids of the stored reports from `since` on, and of the one before. Raises OperatorError."""
        with _readable(self.cloud):
            ids = self.store.report_ids("")
        return ids[max(0, bisect_left(ids, since) - 1) :]

    def reports(self, run_ids: Sequence[str]) -> list[StoredReport]:
        """Return these reports; one that is damaged is named on stderr and left out. Raises OperatorError."""
        if len(run_ids) >= _PROGRESS_FROM:
            say(err(), f"reading {len(run_ids):,} reports of {self.cloud.title}", indent=2)
        with _readable(self.cloud):
            return read_reports(self.store, run_ids, _unreadable)

    def deliveries(self) -> Ledger:
        """Return the ledger of deliveries, an empty one where none is stored yet.

        Raises OperatorError where it cannot be read: it is out of reach, damaged, newer, or another deployment's.
        """
        remedy = "The next run sets it aside and begins it anew; it refills from what runs list."
        with _readable(self.cloud):
            blob = self.store.load(SIZE_LIMIT, DELIVERIES)
        if blob.version is None:
            return Ledger(self.document.cloud, self.document.owner)
        try:
            return decode(blob.data, self.document.cloud, self.document.owner)
        except CorruptLedger as error:
            raise OperatorError(Problem(f"the ledger of deliveries is unreadable: {error}", remedy)) from error
        except NewerLedger as error:
            newer = "Update the tool to the version of the deployed function."
            raise OperatorError(Problem(f"the ledger of deliveries is newer than this tool: {error}", newer)) from error

    def published(self) -> list[dict[str, Any]]:
        """Return the data of the page that the last run wrote. Raises OperatorError if none was published."""
        with _readable(self.cloud):
            blob = self.store.load(LARGEST_PAGE, PAGE)
        remedy = "Deploy with publish_page = true and run once, or leave --published out: the page is then built here."
        if blob.version is None:
            raise OperatorError(Problem(f"{self.title} has no published page", remedy))
        try:
            return data_of(blob.data.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise OperatorError(Problem(f"the published page of {self.title} is damaged", remedy)) from error

    def overview(self, reports: int = NEWEST) -> dict[str, Any]:
        """Return the overview of `shared.monitor.overview`. Raises OperatorError."""
        return overview(self.document, self.newest_reports(reports), self.now(), self.docs_url)


def read(cloud: Cloud, choice: Choice) -> Stored:
    """Return what the deployed function stored, or with `choice.demo` what the demonstration kept.

    Raises OperatorError, with a remedy for each fault.
    """
    if choice.demo:
        return _of_demo(cloud)
    # Whatever a library prints on the way must not end up in a document.
    with _readable(cloud), contextlib.redirect_stdout(sys.stderr):
        environment = source_of(cloud, choice).environment
        store, run = cloud.open_state()(environment, _ignored, SystemClock())
        document = StateSession(store, run, read_only=True).open()
        return Stored(cloud, document, store, docs_url=run.settings.docs_url)


def _of_demo(cloud: Cloud) -> Stored:
    again = f"Run: {NAME} demo {cloud.name}"
    found = kept(cloud.name)
    if found is None:
        raise OperatorError(Problem(f"no demonstration of {cloud.title} is kept on this machine", again))
    try:
        with _readable(cloud):
            return Stored(cloud, parse(found.state(), cloud.name, found.now()), found, found)
    except (OSError, CorruptState) as error:
        raise OperatorError(Problem(f"{found.folder} cannot be read: {error}", again)) from error


def _ignored(_level: str, _event: str, _fields: object) -> None:
    """Take an event: reading what is stored has none that an operator needs."""


def _unreadable(run_id: str, why: str) -> None:
    say(err(), f"report of run {clean(run_id)} is damaged and left out: {clean(why)}", indent=2, hang=2)


@contextlib.contextmanager
def _readable(cloud: Cloud) -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        remedy = f"See {NAME} status --help, and docs/settings.md."
        raise OperatorError(*(Problem(fault, remedy) for fault in error.problems)) from error
    except ReportedError as error:
        raise OperatorError(Problem(f"{cloud.title}: {error.code}: {error.message}", error.remedy)) from error
