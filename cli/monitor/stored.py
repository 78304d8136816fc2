"""The documents that the function stored: its state document and its reports.

They are read from the cloud with the operator's credentials, or from the last demonstration on this machine.
"""

from __future__ import annotations

import contextlib
import sys
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cli.clouds import Cloud
from cli.demo.kept import Kept, kept
from cli.deployment.model import AGAIN, OperatorError, Problem
from cli.settings_source import Choice
from cli.tenants.fleet import Fleet
from cli.tenants.source import environment_in, tenant_source
from cli.terminal.console import clean, err, say
from shared.errors import Denied, ReportedError, SettingsError, Transient
from shared.monitor.overview import overview
from shared.monitor.page import data_of
from shared.monitor.stored import Documents, StoredReport, read_reports
from shared.runtime.clock import SystemClock
from shared.state.decoding import CorruptState, parse
from shared.state.deliveries import DELIVERIES, SIZE_LIMIT, CorruptLedger, Ledger, NewerLedger, decode
from shared.state.document import StateDocument
from shared.state.session import PAGE, StateSession
from tailpipe_exports import NAME

LARGEST_PAGE = 8 * 1024 * 1024  # bytes; 10,000 scopes take a quarter of it
NEWEST = 5  # reports that show what the last runs changed
_PROGRESS_FROM = 20  # reports; fewer are read in less than two seconds


@dataclass(frozen=True)
class Stored:
    """One cloud's stored documents; `demo` is the kept demonstration that they come from, if any.

    `docs_url` is the documentation site in the function's settings, "" without one. `environment` holds those settings,
    with the operator's sign-in; a demonstration has none. `tenant` is the id of the tenant that they are of, if any.
    """

    cloud: Cloud
    document: StateDocument
    store: Documents
    demo: Kept | None = None
    docs_url: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    tenant: str = ""

    @property
    def title(self) -> str:
        """The name of the source: the cloud, its demonstration, or a tenant of it."""
        if self.tenant:
            return f"{self.cloud.title} · tenant {self.tenant}"
        return f"{self.cloud.title} · demonstration" if self.demo else self.cloud.title

    def now(self) -> datetime:
        """Return the time by the clock of the source; a demonstration's may be virtual."""
        return self.demo.now() if self.demo else SystemClock().now()

    def newest_reports(self, count: int = NEWEST) -> list[StoredReport]:
        """Return the reports of the last runs in the state's history, oldest first. Raises OperatorError."""
        ids = [note.run_id for note in sorted(self.document.runs, key=lambda note: note.at)]
        return self.reports(ids[-count:])

    def report_ids(self, since: str) -> list[str]:
        """Return the ids of the stored reports from `since` on, and of the one before. Raises OperatorError."""
        with explained(self.cloud):
            ids = self.store.report_ids("")
        return ids[max(0, bisect_left(ids, since) - 1) :]

    def reports(self, run_ids: Sequence[str]) -> list[StoredReport]:
        """Return these reports; a damaged one is named on stderr and left out. Raises OperatorError."""
        if len(run_ids) >= _PROGRESS_FROM:
            say(err(), f"reading {len(run_ids):,} reports of {self.cloud.title}", indent=2)
        with explained(self.cloud):
            return read_reports(self.store, run_ids, _unreadable)

    def deliveries(self) -> Ledger:
        """Return the ledger of deliveries, an empty one if none is stored yet.

        Raises OperatorError if it is unreachable, damaged, newer, or another deployment's.
        """
        remedy = "The next run sets it aside and begins it anew; it refills from what runs list."
        with explained(self.cloud):
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
        with explained(self.cloud):
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


def unknown_scope(stored: Stored, scope: str) -> Problem:
    """Return the problem for an unknown scope."""
    cloud, shown = stored.cloud, clean(scope)
    if not stored.document.scopes:
        what = f"no run has been recorded yet, so that the state knows no {cloud.scope} {shown!r}"
        return Problem(what, f"Run: {NAME} invoke {cloud.name}{of_tenant(stored.tenant)}.")
    named = f"{cloud.name}{of_tenant(stored.tenant)}"
    return Problem(
        f"the state knows no {cloud.scope} {shown!r}",
        f"See {NAME} status {named} for what it knows, and {NAME} plan {named} --scope {shown} for whether "
        "your credentials see it. An id of another cloud belongs to that cloud's name.",
    )


def of_tenant(tenant: str) -> str:
    """Return the option that a command needs for a tenant, with a blank before it; "" for none."""
    return f" --tenant {tenant}" if tenant else ""


def read(cloud: Cloud, choice: Choice, *, without_state: bool = False) -> Stored:
    """Return the deployed function's documents, or with `choice.demo` those of the demonstration.

    Raises OperatorError, with a remedy for each problem; with `without_state`, an unreadable state is replaced by an
    empty one. The parts left out of a damaged state are named on standard error.
    """
    if choice.demo:
        return _of_demo(cloud)
    # A library's output must not end up in a document.
    with explained(cloud), contextlib.redirect_stdout(sys.stderr):
        return _read(cloud, tenant_source(cloud, choice).environment, choice.tenant, without_state=without_state)


def read_tenant(fleet: Fleet, tenant: str) -> Stored:
    """Return the documents of a tenant of an open registry. Raises OperatorError."""
    with explained(fleet.cloud), contextlib.redirect_stdout(sys.stderr):
        return _read(fleet.cloud, environment_in(fleet, tenant), tenant, without_state=False)


def _read(cloud: Cloud, environment: Mapping[str, str], tenant: str, *, without_state: bool) -> Stored:
    damage: dict[str, str] = {}

    def sink(_level: str, event: str, fields: Mapping[str, object]) -> None:
        damage[event] = str(fields.get("reason", ""))

    store, run = cloud.open_state()(environment, sink, SystemClock())
    document = StateSession(store, run, read_only=True).open()
    _tell_damage(cloud, tenant, damage, without_state=without_state)
    return Stored(cloud, document, store, docs_url=run.settings.docs_url, environment=environment, tenant=tenant)


def _of_demo(cloud: Cloud) -> Stored:
    again = f"Run: {NAME} demo {cloud.name}"
    found = kept(cloud.name)
    if found is None:
        raise OperatorError(Problem(f"no demonstration of {cloud.title} is kept on this machine", again))
    try:
        with explained(cloud):
            return Stored(cloud, parse(found.state(), cloud.name, found.now()), found, found)
    except (OSError, CorruptState) as error:
        raise OperatorError(Problem(f"{found.folder} cannot be read: {error}", again)) from error


def _tell_damage(cloud: Cloud, tenant: str, events: Mapping[str, str], *, without_state: bool) -> None:
    """Report the unreadable parts of the state, by the events of its reading. Raises OperatorError if all of it is."""
    if (why := events.get("state-corrupt")) is not None:
        what = f"the state of {cloud.title} is unreadable: {clean(why)}"
        remedy = "The next run sets it aside and begins anew from what exists: losing it costs calls only."
        if not without_state:
            raise OperatorError(Problem(what, f"{remedy} Run: {NAME} invoke {cloud.name}{of_tenant(tenant)}."))
        say(err(), f"{what}. {remedy}", indent=2, hang=2)
    if (why := events.get("state-damaged")) is not None:
        left_out = "that is left out here, and by the next run"
        say(err(), f"the state of {cloud.title} is damaged in part: {clean(why)}; {left_out}", indent=2, hang=2)


def _unreadable(run_id: str, why: str) -> None:
    say(err(), f"report of run {clean(run_id)} is damaged and left out: {clean(why)}", indent=2, hang=2)


@contextlib.contextmanager
def explained(cloud: Cloud) -> Iterator[None]:
    """Turn errors of the function's code on this machine into OperatorError, with a remedy for each problem."""
    try:
        yield
    except SettingsError as error:
        remedy = f"See {NAME} status --help, and docs/settings.md."
        raise OperatorError(*(Problem(fault, remedy) for fault in error.problems)) from error
    except ReportedError as error:
        raise OperatorError(Problem(f"{cloud.title}: {error.code}: {error.message}", _remedy(error))) from error


def _remedy(error: ReportedError) -> str:
    """Return what a reader of stored documents can do: the function's remedies speak of its own identity and runs."""
    cause = error.__cause__ if error.code in ("state-forbidden", "state-unreachable") else error
    if isinstance(cause, Denied):
        return "Have the permission granted to you; docs/operating.md lists what reading needs."
    return AGAIN if isinstance(cause, Transient) else error.remedy
