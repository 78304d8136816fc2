"""The row of a tenant: whatever becomes of its run, a round gets a row."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import AnotherRun, Denied, RegistryError, RunStopped, SettingsError, Transient, Unreachable
from shared.reconcile import RunResult
from shared.request import RunRequest
from shared.tenants.rows import BUSY, ROWS, Row, read_rows, run_alone, run_in_round
from tests.shared.setting import Setting, document
from tests.shared.tenants.memory import MemoryDocuments, entry

ROUND = "20260105T000000Z-0000002a"
IN_ROUND = RunRequest(tenant="acme", round=ROUND)


class Fleet(Setting):
    """A setting whose cloud is a tenant's; `fail` is raised by the run instead."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.documents = MemoryDocuments(self.clock, entry("acme"))
        self.fail: Exception | None = None
        self.runs = 0
        self.spent: list[float] = []  # seconds of each run

    def work(self, request: RunRequest) -> RunResult:
        """Run the tenant once; a minute passes."""
        self.runs += 1
        self.clock.advance(60)
        if self.fail:
            raise self.fail
        before = self.clock.now()
        result = self.run_now(request)
        self.spent.append(60 + (self.clock.now() - before).total_seconds())
        return result

    def sink(self, level: str, event: str, fields: Any) -> None:
        """Keep a log line."""
        self.lines.append((level, event, fields))

    def in_round(self, request: RunRequest = IN_ROUND, most: int = 4) -> Row:
        """Run the tenant in a round."""
        return run_in_round(request, self.documents, self.clock, self.sink, self.work, most)

    def alone(self, request: RunRequest) -> RunResult:
        """Run the tenant outside of a round."""
        return run_alone(request, self.documents, self.clock, self.sink, self.work)


def test_run_in_a_round_is_a_row() -> None:
    """The row says what the report says, and the report names tenant and round."""
    fleet = Fleet()
    row = fleet.in_round()
    assert (row.tenant, row.status, row.round, row.invocations, row.again) == ("acme", "ok", ROUND, 1, False)
    assert (row.started_at, row.ended_at, row.since) == ("2026-01-05T00:00:00Z", "2026-01-05T00:01:00Z", row.ended_at)
    assert (row.run_complete, row.scopes["active"], row.duration_s, row.failures) == (True, 4, 60.0, ())
    assert row.calls == {"list": 2, "read": 5, "write": 5}
    assert fleet.documents.row("acme") == document(msgspec.json.encode(row))
    report = fleet.run_now(IN_ROUND).report
    assert (report["tenant"], report["round"]) == ("acme", ROUND)


def test_report_of_the_deployments_own_cloud_names_no_tenant() -> None:
    """Without a tenant everything is as it was."""
    report = Setting().run().report
    assert not {"tenant", "round"} & report.keys()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        pytest.param(
            Unreachable("AccessDenied", "the role refuses", "Ask."), "unreachable", "tenant-unreachable", id="entry"
        ),
        pytest.param(
            RunStopped("state-foreign", "belongs to another", "Move."), "failed", "state-foreign", id="foreign state"
        ),
        pytest.param(Denied("denied", "no right"), "failed", "denied", id="a refusal"),
        pytest.param(SettingsError(["X is wrong"]), "refused", "refused", id="a setting"),
        pytest.param(RegistryError(["X is wrong"]), "refused", "refused", id="an entry"),
        pytest.param(ZeroDivisionError("secret"), "failed", "internal-error", id="a defect"),
    ],
)
def test_failure_is_a_row(error: Exception, status: str, code: str) -> None:
    """It is stored with code and remedy, and raised only outside of a round."""
    fleet = Fleet()
    fleet.fail = error
    row = fleet.in_round()
    assert (row.status, row.again, row.run_complete, row.failures[0]["code"]) == (status, False, False, code)
    assert row.failures[0]["remedy"]
    assert "secret" not in str(row)
    assert fleet.documents.row("acme") == document(msgspec.json.encode(row))
    with pytest.raises(type(error)):
        fleet.alone(RunRequest(tenant="acme"))


def test_enumeration_that_cannot_enter_is_unreachable() -> None:
    """The entry may be refused inside the run; its report says so, and the row too."""
    fleet = Fleet()
    fleet.world.faults["enumerate", "*"] = Unreachable("AccessDenied", "the role refuses", "Ask.")
    row = fleet.in_round()
    assert (row.status, row.failures[0]["message"]) == ("unreachable", "the role refuses (AccessDenied)")
    assert not fleet.world.written


def test_tenant_that_is_busy_keeps_its_row() -> None:
    """The run in progress writes the row."""
    fleet = Fleet()
    fleet.in_round()
    before = fleet.documents.row("acme")
    fleet.fail = AnotherRun("r", "then", "later")
    row = fleet.in_round(RunRequest(tenant="acme", round="20260105T010000Z-00000001"))
    assert (row.status, row.again) == (BUSY, False)
    assert fleet.documents.row("acme") == before


def test_task_that_is_delivered_twice_runs_once() -> None:
    """The second delivery gets the row of the first."""
    fleet = Fleet()
    first = fleet.in_round()
    assert (fleet.in_round(), fleet.runs) == (first, 1)
    fleet.in_round(RunRequest(tenant="acme", round="20260105T010000Z-00000001"))
    assert fleet.runs == 2


def test_tenant_that_does_not_fit_is_continued_until_its_share_is_used() -> None:
    """The row asks for another invocation while work is left, and sums what the invocations used."""
    fleet = Fleet(scopes=600)
    fleet.seconds = 2.5  # too short for the writes, at 50 a second
    rows = [fleet.in_round(most=3)]
    while rows[-1].again:
        rows.append(fleet.in_round(most=3))
    assert [row.invocations for row in rows] == [1, 2, 3]
    assert [row.run_complete for row in rows] == [False, False, False]
    assert (rows[-1].duration_s, rows[-1].started_at) == (sum(fleet.spent), rows[0].started_at)
    assert rows[-1].calls["list"] >= rows[0].calls["list"]


def test_since_is_when_the_status_changed() -> None:
    """It stays while the status does."""
    fleet = Fleet()
    rounds = (f"20260105T0{number}0000Z-00000000" for number in range(9))

    def ask() -> Row:
        return fleet.in_round(RunRequest(tenant="acme", round=next(rounds)))

    first, second = ask(), ask()
    assert second.since == first.since != second.ended_at
    fleet.fail = Denied("denied", "no right")
    third = ask()
    assert third.since == third.ended_at


def test_dry_run_stores_no_row() -> None:
    """It writes nothing at all."""
    fleet = Fleet()
    fleet.alone(RunRequest(tenant="acme", dry_run=True))
    assert fleet.documents.row("acme") is None


@pytest.mark.parametrize("where", ["refusal", "refused_write"])
def test_row_that_cannot_be_stored_costs_no_run(where: str) -> None:
    """The run counts; the log says what is missing."""
    fleet = Fleet()
    setattr(fleet.documents, where, Transient("busy", "try later"))
    if where == "refusal":
        fleet.documents.refused_write = Transient("busy", "try later")
    assert fleet.in_round().status == "ok"
    assert [line[2]["tenant"] for line in fleet.events("row-unsaved")] == ["acme"]


@given(st.binary(max_size=40) | st.sampled_from([b"{}", b"[]", b"\xff", b'{"tenant": "other"}', b"[" * 70_000]))
def test_damaged_row_is_replaced(data: bytes) -> None:
    """Nothing is concluded from it, and nothing is raised."""
    fleet = Fleet(scopes=1)
    fleet.documents.put(f"{ROWS}acme.json", data, "")
    assert fleet.in_round().invocations == 1
    assert fleet.events("row-unread")
    assert fleet.documents.row("acme")


def test_rows_of_many_tenants_are_read_at_once() -> None:
    """Tenants without a row are left out."""
    fleet = Fleet()
    row = fleet.in_round()
    found = read_rows(fleet.documents, ["acme", "other"], 4, lambda: True, fleet.sink)
    assert found == {"acme": row}
