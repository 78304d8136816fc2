"""The row of a tenant: what became of its newest run, small and stored where all tenants' rows are listed at once.

A run that is part of a round always ends with a row, whatever went wrong: a dead tenant is a row among the others, and
the coordinator sees a call that succeeded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Protocol

import msgspec

from shared.errors import UNREACHABLE, AnotherRun, ReportedError, ValidationError, clean, defect
from shared.parsing import is_tenant_id, parse_time
from shared.reconcile import RunResult
from shared.report import DEGRADED, FAILED, OK, remedy_for
from shared.request import RunRequest, is_round_id
from shared.runtime.clock import Clock
from shared.runtime.log import Sink
from shared.runtime.pool import each
from shared.state.store import JSON, Blob

REGISTRY, ROWS, ROUNDS = "tenants.json", "rows/", "rounds/"  # names of the documents
UNREACHED = "unreachable"
REFUSED = "refused"  # the entry or its settings are invalid, so that nothing was called
BUSY = "busy"  # another run of the tenant was in progress; that one writes the row
STATUSES = (OK, DEGRADED, FAILED, UNREACHED, REFUSED)
MOST_FAILURES = 5
MAX_ROW = 64 * 1024  # bytes
REGISTRY_REMEDY = "Correct the tenant's entry in the registry (tenants show), then run it again."


Work = Callable[[RunRequest], RunResult]  # one run of a tenant


class FleetDocuments(Protocol):
    """Where the registry, the rows and the reports of rounds are stored: always the deployment's own storage."""

    def load(self, limit: int, document: str) -> Blob:
        """Return a document, without data if it exceeds `limit` bytes, `Blob()` if it does not exist.

        Raises CloudError.
        """
        ...

    def put(self, document: str, data: bytes, content_type: str) -> str:
        """Write a document, replacing any existing one; return its location. Raises CloudError."""
        ...

    def names(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Yield name and time of the last write of each document below a prefix. Raises CloudError."""
        ...


class Row(msgspec.Struct, frozen=True):
    """What became of a tenant's newest run.

    `status` is one of STATUSES, or BUSY in a returned row; `since` is when it took this value. Times are ISO 8601 in
    UTC. `invocations` counts the calls for this tenant in its round, and `again` asks the coordinator for another one.
    `scopes` and `calls` are those of the report, `failures` the first of its failures.
    """

    tenant: str
    status: str
    started_at: str
    ended_at: str
    since: str
    round: str = ""
    run_id: str = ""
    duration_s: float = 0.0
    run_complete: bool = False
    invocations: int = 1
    again: bool = False
    scopes: Mapping[str, int] = {}
    calls: Mapping[str, int] = {}
    deliveries: Mapping[str, int] = {}
    failures: tuple[Mapping[str, str], ...] = ()


def run_in_round(
    request: RunRequest,
    documents: FleetDocuments,
    clock: Clock,
    sink: Sink,
    work: Work,
    most: int,
) -> Row:
    """Run one tenant as part of a round, store its row and return it; no failure of the tenant is raised.

    A run that was cut short asks for another invocation, until the round has used `most` of them for this tenant. A
    second request for a tenant that is done in this round runs nothing: engines may deliver a task twice.
    """
    known = _load(documents, request.tenant, sink)
    if known and known.round == request.round and not known.again:
        return known
    return _attempt(request, documents, clock, sink, work, known, most)[0]


def run_alone(
    request: RunRequest,
    documents: FleetDocuments,
    clock: Clock,
    sink: Sink,
    work: Work,
) -> RunResult:
    """Run one tenant outside of a round and store its row. Raises what `work` raises; a dry run stores no row."""
    known = None if request.dry_run else _load(documents, request.tenant, sink)
    _, ended = _attempt(request, documents, clock, sink, work, known, most=1)
    if isinstance(ended, Exception):
        raise ended
    return ended


def read_rows(
    documents: FleetDocuments, tenants: Iterable[str], workers: int, may_begin: Callable[[], bool], sink: Sink
) -> dict[str, Row]:
    """Return the stored rows of these tenants by their ids; tenants without a readable row are left out."""
    read = lambda tenant: _load(documents, tenant, sink)  # noqa: E731 - a name reads better
    return {tenant: row for tenant, row in each(tenants, read, workers, may_begin) if row is not None}


def waiting_since(documents: FleetDocuments) -> dict[str, datetime]:
    """Return when the row of each tenant was written, by the store's clock. Raises CloudError."""
    named = ((name.removeprefix(ROWS).removesuffix(".json"), at) for name, at in documents.names(ROWS))
    return {tenant: at for tenant, at in named if is_tenant_id(tenant)}


def _attempt(
    request: RunRequest,
    documents: FleetDocuments,
    clock: Clock,
    sink: Sink,
    work: Work,
    known: Row | None,
    most: int,
) -> tuple[Row, RunResult | Exception]:
    started = clock.now()
    ended: RunResult | Exception
    try:
        ended = work(request)
        row = _row_of_report(ended.summary, request)
    except Exception as error:  # noqa: BLE001 - a defect must not cost the tenant its row, nor the round its tenants
        ended, row = error, _row_of_error(error, request)
    same_round = known is not None and known.round == request.round != ""
    invocations = known.invocations + 1 if known and same_round else 1
    now = _text(clock.now())
    row = msgspec.structs.replace(
        row,
        started_at=known.started_at if known and same_round else _text(started),
        ended_at=now,
        since=known.since if known and known.status == row.status else now,
        duration_s=round((clock.now() - started).total_seconds(), 3)
        + (known.duration_s if known and same_round else 0.0),
        calls=_sum(known.calls, row.calls) if known and same_round else row.calls,
        invocations=invocations,
        again=row.again and invocations < most,
    )
    if row.status != BUSY and not request.dry_run:
        try:
            documents.put(f"{ROWS}{request.tenant}.json", msgspec.json.encode(row), JSON)
        except ReportedError as error:
            sink("warning", "row-unsaved", {"tenant": request.tenant, "code": error.code, "reason": error.message})
    return row, ended


def _row_of_report(report: Mapping[str, Any], request: RunRequest) -> Row:
    failures = report["failures"]
    unreachable = any(one["code"] == UNREACHABLE for one in failures)
    return _blank(
        request,
        UNREACHED if unreachable else report["status"],
        run_id=report["run_id"],
        run_complete=report["run_complete"],
        # A run that failed would fail again; what was not begun in time is for the next invocation.
        again=not report["run_complete"] and report["status"] != FAILED,
        scopes=report["scopes"],
        calls=report["calls"],
        deliveries=report["deliveries"],
        failures=tuple(
            {name: one[name] for name in ("scope", "code", "message", "remedy")} for one in failures[:MOST_FAILURES]
        ),
    )


def _row_of_error(error: Exception, request: RunRequest) -> Row:
    if isinstance(error, AnotherRun):
        return _blank(request, BUSY, failures=(_failure(error),))
    if isinstance(error, ReportedError):
        return _blank(request, UNREACHED if error.code == UNREACHABLE else FAILED, failures=(_failure(error),))
    if isinstance(error, ValidationError):
        faults = [{"code": REFUSED, "message": clean(one), "remedy": REGISTRY_REMEDY} for one in error.problems]
        return _blank(request, REFUSED, failures=tuple(faults[:MOST_FAILURES]))
    return _blank(request, FAILED, failures=(_failure(defect(error)),))


def _failure(error: ReportedError) -> dict[str, str]:
    return {"code": error.code, "message": error.message, "remedy": remedy_for(error.remedy)}


def _blank(request: RunRequest, status: str, **more: Any) -> Row:
    return Row(request.tenant, status, "", "", "", request.round, **more)


def _load(documents: FleetDocuments, tenant: str, sink: Sink) -> Row | None:
    """Return a tenant's stored row; None without one, and for one that cannot be read: the next run writes it anew."""
    name = f"{ROWS}{tenant}.json"
    try:
        blob = documents.load(MAX_ROW, name)
        if blob.version is None:
            return None
        row = msgspec.json.decode(blob.data, type=Row)
        sound = (
            row.tenant == tenant and row.status in STATUSES and parse_time(row.ended_at) and parse_time(row.started_at)
        )
        if sound and (not row.round or is_round_id(row.round)):
            return row
        code, reason = "row-invalid", "a field has an invalid value"
    except ReportedError as error:
        code, reason = error.code, error.message
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        code, reason = "row-invalid", type(error).__name__
    sink("warning", "row-unread", {"tenant": tenant, "code": code, "reason": f"{name}: {reason}"})
    return None


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in sorted({*one, *other})}


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
