"""Stored reports as the operator's view reads them: the parts of a report that it needs, in checked types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from shared.errors import NotFound
from shared.state.store import Blob


class Documents(Protocol):
    """Where reports and other documents are stored, as far as they are read: every `StateStore`."""

    def load(self, limit: int, document: str) -> Blob:
        """Return a document, but no more than `limit` bytes. Raises CloudError."""
        ...

    def report(self, run_id: str) -> bytes:
        """Return a run's whole report. Raises NotFound, CloudError."""
        ...

    def report_ids(self, since: str) -> list[str]:
        """Return the ids of the stored reports of the run `since` and later ones, oldest first. Raises CloudError."""
        ...


class ReportAction(msgspec.Struct, frozen=True, gc=False):
    """One entry of a report's `actions`; see `shared.report`."""

    scope: str
    kind: str
    name: str
    verb: str
    result: str
    reason: str = ""
    message: str = ""
    code: str = ""


class ReportFailure(msgspec.Struct, frozen=True, gc=False):
    """One entry of a report's `failures`."""

    scope: str
    code: str
    message: str = ""
    remedy: str = ""


class ReportStep(msgspec.Struct, frozen=True, gc=False):
    """One entry of a report's `manual`."""

    scope: str
    code: str
    what: str = ""


class StoredReport(msgspec.Struct, frozen=True, gc=False):
    """What is read of a report; `started_at` is ISO 8601 in UTC."""

    run_id: str
    started_at: str = ""
    status: str = ""
    trigger: str = ""
    dry_run: bool = False
    run_complete: bool = False
    actions: tuple[ReportAction, ...] = ()
    failures: tuple[ReportFailure, ...] = ()
    manual: tuple[ReportStep, ...] = ()


def stored_of(report: Mapping[str, Any]) -> StoredReport:
    """Return a report of `shared.report.summarize` as it is read once it is stored."""
    actions = tuple(msgspec.convert(one, ReportAction) for one in report["actions"])
    return msgspec.structs.replace(msgspec.convert({**report, "actions": ()}, StoredReport), actions=actions)


_DECODER = msgspec.json.Decoder(StoredReport)


def read_reports(
    store: Documents, run_ids: Iterable[str], unreadable: Callable[[str, str], None]
) -> list[StoredReport]:
    """Return the stored reports of these runs, in their order; one that is not stored any more is left out.

    `unreadable` is called with the run's id and the reason for each report that is damaged; the others count. Raises
    CloudError where reports cannot be read at all.
    """
    found = []
    for run_id in run_ids:
        try:
            found.append(_DECODER.decode(store.report(run_id)))
        except NotFound:
            continue
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            unreadable(run_id, str(error)[:200])
    return found
