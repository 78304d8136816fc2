"""A round: who is due first, and what its report counts whatever became of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Denied, RegistryError, RequestError
from shared.request import RunRequest
from shared.runtime.clock import VirtualClock
from shared.tenants.registry import MAX_BYTES
from shared.tenants.rounds import Round, begin_round, end_round, metrics_of_round, read_registry, short_report
from shared.tenants.rows import REGISTRY, ROUNDS, STATUSES, FleetDocuments, run_in_round
from tests.shared.tenants.memory import RULES, MemoryDocuments, entry
from tests.shared.tenants.test_rows import Fleet

ROUND = "20260105T000000Z-0000002a"
LINES: list[Any] = []


def sink(*line: Any) -> None:
    """Keep a log line."""
    LINES.append(line)


def begin(documents: FleetDocuments) -> Round:
    """Begin a round."""
    return begin_round(documents, read_registry(documents, RULES), ROUND, sink)


def end(documents: MemoryDocuments) -> dict[str, Any]:
    """End the round."""
    return end_round(documents, RULES, ROUND, documents.clock, sink)


def run(documents: MemoryDocuments, tenant: str, fail: Exception | None = None, round_id: str = ROUND) -> None:
    """Run one tenant in the round."""
    fleet = Fleet(scopes=2)
    fleet.fail = fail
    run_in_round(RunRequest(tenant=tenant, round=round_id), documents, documents.clock, sink, fleet.work, 4)


def test_longest_waiting_tenant_is_first() -> None:
    """Tenants that never ran come before all others, by name."""
    documents = MemoryDocuments(VirtualClock(), *map(entry, ["a", "b", "c", "d"]))
    for tenant in ("c", "a"):
        documents.clock.advance(60)
        run(documents, tenant)
    assert begin(documents).tenants == ("b", "d", "c", "a")


def test_paused_and_refused_tenants_are_left_out() -> None:
    """The others are asked for; a wrong entry is logged with its faults."""
    LINES.clear()
    documents = MemoryDocuments(VirtualClock(), entry("a", paused=True), entry("b"), entry("c", more=1))
    found = begin(documents)
    assert found == Round(ROUND, ("b",), paused=1, refused=1)
    assert found.answer() == {"round": ROUND, "tenants": ["b"], "paused": 1, "refused": 1}
    assert [(line[1], line[2]["tenant"]) for line in LINES] == [("tenant-refused", "c")]


def test_report_counts_every_tenant_once() -> None:
    """A dead tenant is a row among the others; the counts add up."""
    documents = MemoryDocuments(
        VirtualClock(), *map(entry, ["a", "b", "c"]), entry("p", paused=True), entry("x", more=1), entry("late")
    )
    run(documents, "late", round_id="20260104T000000Z-00000001")
    documents.clock.advance(60)
    started = f"{documents.clock.now():%Y%m%dT%H%M%SZ}-00000001"
    for tenant, fail in (("a", None), ("b", None), ("c", Denied("denied", "no right"))):
        run(documents, tenant, fail, started)
    documents.clock.advance(60)
    report = end_round(documents, RULES, started, documents.clock, sink)
    assert report["tenants"] == {
        "total": 6,
        "ok": 2,
        "degraded": 0,
        "failed": 1,
        "unreachable": 0,
        "refused": 1,
        "paused": 1,
        "not_run": 1,
    }
    assert (report["status"], report["duration_s"], report["cloud"]) == ("degraded", 60.0, "aws")
    assert report["scopes"]["active"] == 6
    assert report["calls"]["write"] == 2 * report["most_calls"]["write"] > 0
    late = next(row for row in report["rows"] if row["tenant"] == "late")
    assert (late["status"], late["last_status"], late["last_ended_at"]) == ("not_run", "ok", "2026-01-05T00:00:00Z")
    assert json.loads(documents.stored[f"{ROUNDS}{started}.json"][0]) == json.loads(json.dumps(report))


def test_run_outside_of_the_round_counts_if_it_ended_in_it() -> None:
    """A tenant whose lock another run held was looked at all the same."""
    documents = MemoryDocuments(VirtualClock(), entry("a"))
    documents.clock.advance(60)
    run(documents, "a", round_id="20260104T000000Z-00000001")
    assert end(documents)["tenants"]["ok"] == 1


@pytest.mark.parametrize(
    ("failing", "status"), [((), "ok"), (("a",), "degraded"), (("a", "b"), "failed")], ids=["none", "one", "all"]
)
def test_status_of_a_round(failing: tuple[str, ...], status: str) -> None:
    """It fails only if no tenant could be served."""
    documents = MemoryDocuments(VirtualClock(), entry("a"), entry("b"))
    for tenant in ("a", "b"):
        run(documents, tenant, Denied("denied", "no right") if tenant in failing else None)
    assert end(documents)["status"] == status


def test_round_without_tenants_is_ok() -> None:
    """An empty registry is no failure."""
    documents = MemoryDocuments(VirtualClock())
    assert begin(documents).tenants == ()
    assert (end(documents)["status"], end(documents)["tenants"]["total"]) == ("ok", 0)


def test_ending_twice_replaces_the_report() -> None:
    """Engines may deliver the last step twice."""
    documents = MemoryDocuments(VirtualClock(), entry("a"))
    first = end(documents)
    run(documents, "a")
    assert (first["tenants"]["not_run"], end(documents)["tenants"]["not_run"]) == (1, 0)
    assert len([name for name in documents.stored if name.startswith(ROUNDS)]) == 1


def test_short_report_has_the_tenants_that_need_someone() -> None:
    """The answer to an engine has a limited size."""
    documents = MemoryDocuments(VirtualClock(), *(entry("a" * number) for number in range(1, 41)), entry("ok"))
    run(documents, "ok")
    short = short_report(end(documents))
    assert len(short["rows"]) == 40
    assert short["rows_left_out"] == 1
    assert "ok" not in [row["tenant"] for row in short["rows"]]


def test_each_row_is_logged_with_the_labels_of_its_tenant() -> None:
    """Dashboards read these lines: also of a tenant without a run, and of one whose entry is wrong."""
    LINES.clear()
    documents = MemoryDocuments(
        VirtualClock(), entry("a", labels={"group": "north"}), entry("b"), entry("c", entry={"role": "?"})
    )
    run(documents, "a")
    end(documents)
    found = {fields["tenant"]: fields for _, event, fields in LINES if event == "tenant-row"}
    assert {tenant: one["status"] for tenant, one in found.items()} == {"a": "ok", "b": "not_run", "c": "refused"}
    assert [found[one]["labels"] for one in "abc"] == [{"group": "north"}, {}, {}]
    assert found["c"]["code"] == "refused"


def test_metrics_count_the_tenants() -> None:
    """One metric for each count, and the duration in seconds."""
    documents = MemoryDocuments(VirtualClock(), entry("a"), entry("b"))
    run(documents, "a")
    found = {metric.name: metric.value for metric in metrics_of_round(end(documents))}
    assert (found["tenants_total"], found["tenants_ok"], found["tenants_not_run"]) == (2, 1, 1)
    assert found["round_duration"] == 0.0


def test_registry_that_is_missing_or_too_large() -> None:
    """Both are errors that say what to do; a huge one is not even read."""
    documents = MemoryDocuments(VirtualClock())
    documents.put(REGISTRY, b" " * 50_000_000, "")
    with pytest.raises(RegistryError, match=f"the registry has 50000000 bytes, more than {MAX_BYTES}"):
        read_registry(documents, RULES)
    del documents.stored[REGISTRY]
    with pytest.raises(RequestError, match="there is no tenant registry; add a tenant first"):
        begin(documents)


@given(st.lists(st.sampled_from(["ok", "fail", "skip", "twice"]), max_size=5))
def test_counts_always_add_up(fates: list[str]) -> None:
    """Whatever the engine did with each task."""
    names = [f"t{number}" for number in range(len(fates))]
    letters = dict(zip(names, "abcde", strict=False))
    documents = MemoryDocuments(
        VirtualClock(), *({**entry(name), "entry": {"role": f"role/{letters[name]}"}} for name in names)
    )
    for name, fate in zip(begin(documents).tenants, fates, strict=True):
        for _ in range({"skip": 0, "twice": 2}.get(fate, 1)):
            run(documents, name, Denied("denied", "no right") if fate == "fail" else None)
    counts = end(documents)["tenants"]
    assert sum(counts[one] for one in (*STATUSES, "paused", "not_run")) == counts["total"] == len(fates)
    assert counts["not_run"] == fates.count("skip")
