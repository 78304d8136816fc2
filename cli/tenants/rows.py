"""The newest row of every tenant, from the last round's report and the few rows that are newer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from cli.tenants.fleet import Fleet, discard, explained
from shared.parsing import parse_time
from shared.runtime.clock import SystemClock
from shared.runtime.pool import each
from shared.tenants.registry import Tenant, TenantRegistry
from shared.tenants.rounds import NOT_RUN
from shared.tenants.rows import REFUSED, ROUNDS, FleetDocuments, Row, read_rows, waiting_since

MAX_ROUND = 32 * 1024 * 1024  # bytes; a row takes about a thousand
MARGIN = timedelta(minutes=2)
WORKERS = 8
PAUSED = "paused"


class RoundReport(msgspec.Struct, frozen=True):
    """A stored report of a round, as far as it is read; see `shared.tenants.rounds.end_round`."""

    round: str
    started_at: str
    ended_at: str
    status: str
    duration_s: float = 0.0
    tenants: Mapping[str, int] = {}
    scopes: Mapping[str, int] = {}
    calls: Mapping[str, int] = {}
    most_calls: Mapping[str, int] = {}
    rows: tuple[Row, ...] = ()


class Code(msgspec.Struct, frozen=True, gc=False):
    """The code of a failure in a row."""

    code: str = ""


class RowOutline(msgspec.Struct, frozen=True, gc=False):
    """What the history needs of a row."""

    tenant: str
    status: str
    failures: tuple[Code, ...] = ()


class RoundOutline(msgspec.Struct, frozen=True):
    """A stored report of a round, as far as the history reads it: a week has many of them."""

    round: str
    started_at: str
    ended_at: str
    status: str
    duration_s: float = 0.0
    tenants: Mapping[str, int] = {}
    calls: Mapping[str, int] = {}
    rows: tuple[RowOutline, ...] = ()


Report = TypeVar("Report", RoundReport, RoundOutline)


@dataclass(frozen=True)
class Standing:
    """A tenant of the registry, the faults of its entry, and its newest row, None before its first run."""

    tenant: Tenant
    faults: Sequence[str] = ()
    row: Row | None = None

    @property
    def status(self) -> str:
        """``paused``, ``refused``, that of the newest row, or ``not_run``."""
        if self.faults:
            return REFUSED
        if self.tenant.paused:
            return PAUSED
        return self.row.status if self.row else NOT_RUN

    def age_s(self, now: datetime) -> int | None:
        """Return how long ago the newest row was written, None without one."""
        ended = parse_time(self.row.ended_at) if self.row else None
        return max(0, int((now - ended).total_seconds())) if ended else None

    def document(self, now: datetime) -> dict[str, Any]:
        """Return it as JSON data."""
        one = self.tenant
        return {
            "id": one.id,
            "name": one.name,
            "status": self.status,
            "paused": one.paused,
            "labels": dict(one.labels),
            "faults": list(self.faults),
            "age_s": self.age_s(now),
            "row": msgspec.to_builtins(self.row) if self.row else None,
        }


@dataclass(frozen=True)
class Survey:
    """All tenants of a deployment, and the report of its last round, None before the first one."""

    found: Sequence[Standing]
    last: RoundReport | None


def registered(registry: TenantRegistry) -> list[Standing]:
    """Return every tenant of a registry without its row, sorted by id; a wrong entry has only its id and faults."""
    sound = [Standing(one) for one in registry.tenants.values()]
    wrong = [Standing(Tenant(place, registry.cloud), faults) for place, faults in registry.refused.items()]
    return sorted([*sound, *wrong], key=lambda one: one.tenant.id)


def survey(fleet: Fleet) -> Survey:
    """Return every tenant of a deployment with its newest row, sorted by id. Raises OperatorError.

    Two listings and the last round's report say almost everything; only rows that were written since are read one by
    one.
    """
    found = registered(fleet.registry())
    with explained(fleet.cloud):
        documents = open_documents(fleet)
        last = last_round(documents)
        rows = newest_rows(documents, [one.tenant.id for one in found if not one.faults], last)
    return Survey([Standing(one.tenant, one.faults, rows.get(one.tenant.id)) for one in found], last)


def one_standing(fleet: Fleet, tenant: str, *, rows: bool) -> Standing | None:
    """Return one tenant, with its newest row if `rows`; None if it is not registered. Raises OperatorError."""
    found = next((one for one in registered(fleet.registry()) if one.tenant.id == tenant), None)
    if found is None or found.faults or not rows:
        return found
    with explained(fleet.cloud):
        row = read_rows(open_documents(fleet), [tenant], 1, lambda: True, discard).get(tenant)
    return replace(found, row=row)


def open_documents(fleet: Fleet) -> FleetDocuments:
    """Return the rows and reports of a deployment. Raises SettingsError, CloudError."""
    return fleet.port.documents(fleet.environment, discard, SystemClock())


def newest_rows(documents: FleetDocuments, tenants: Sequence[str], last: RoundReport | None) -> dict[str, Row]:
    """Return the newest row of each tenant that has one. Raises CloudError."""
    written = waiting_since(documents)
    rows = {row.tenant: row for row in last.rows if row.status != NOT_RUN and row.invocations} if last else {}
    # A row that was written while the round ended may be missing in its report, and clocks differ.
    reported = parse_time(last.ended_at) if last else None
    newer = [
        one
        for one in tenants
        if one in written and (one not in rows or reported is None or written[one] > reported - MARGIN)
    ]
    return {**rows, **read_rows(documents, newer, WORKERS, lambda: True, discard)}


def last_round(documents: FleetDocuments) -> RoundReport | None:
    """Return the report of the last round, None without a readable one. Raises CloudError."""
    names = [name for name, _ in documents.names(ROUNDS)]
    return _decoded(documents, max(names), RoundReport) if names else None


def rounds_since(documents: FleetDocuments, bound: str) -> tuple[list[RoundOutline], int]:
    """Return the outlines of the rounds from `bound` on, oldest first, and how many could not be read.

    The last round before `bound` is the first one of them, if there is one. Raises CloudError where none can be read.
    """
    names = sorted(name for name, _ in documents.names(ROUNDS))
    first = next((place for place, name in enumerate(names) if name >= f"{ROUNDS}{bound}"), len(names))
    wanted = names[max(0, first - 1) :]
    read = dict(each(wanted, lambda name: _decoded(documents, name, RoundOutline), WORKERS, lambda: True))
    found = [report for name in wanted if (report := read.get(name)) is not None]
    return found, len(wanted) - len(found)


def grouped(found: Sequence[Standing], label: str) -> Iterator[tuple[str, list[Standing]]]:
    """Yield the values of a label, sorted, each with its tenants; those without it come last, under ""."""
    groups: dict[str, list[Standing]] = {}
    for one in found:
        groups.setdefault(one.tenant.labels.get(label, ""), []).append(one)
    yield from sorted(groups.items(), key=lambda one: (not one[0], one[0]))


def _decoded(documents: FleetDocuments, name: str, kind: type[Report]) -> Report | None:
    """Return a round's report, None for one that is missing, damaged or too large."""
    try:
        return msgspec.json.decode(documents.load(MAX_ROUND, name).data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
