"""What a round does, on two engines: the local Functions host, and the in-memory backend of the Durable Task SDK."""

from __future__ import annotations

import warnings

import pytest

from azure_function.coordinator import orchestrations
from azure_function.coordinator.orchestrations import (
    BATCH,
    INSTANCE,
    LONGEST_PAUSE_S,
    PAUSE_S,
    ROUND,
    RUN,
    deal,
    pause_s,
)
from localcloud.azure.runtime.durable_task import Work
from tests.azure_function.coordinator.engines import (
    ROUND_ID,
    Engine,
    Tenants,
    VirtualHost,
    on_backend,
    on_functions,
)

TEN = [f"tenant-{number}" for number in range(10)]
DEAD = RuntimeError("the worker ran out of memory")
BUSY = {"status": "busy"}
MORE = {"status": "degraded", "again": True}


@pytest.fixture(params=[on_functions, on_backend])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """One of the two engines. The backend runs in real time, so pauses are short."""
    if request.param is on_backend:
        monkeypatch.setattr(orchestrations, "PAUSE_S", 0.01)
    chosen: Engine = request.param
    return chosen


def test_each_tenant_runs_once_and_the_round_ends_with_its_report(engine: Engine) -> None:
    """Each tenant is called once, and the round's output is its report."""
    tenants = Tenants(TEN)
    ended = engine(tenants)
    assert ended == {"state": "Completed", "output": {"round": ROUND_ID, "ran": 10}}
    assert tenants.times == dict.fromkeys(TEN, 1)


def test_a_round_without_tenants_ends(engine: Engine) -> None:
    """Without tenants only the begin and the end run."""
    assert engine(Tenants([]))["output"] == {"round": ROUND_ID, "ran": 0}


def test_a_tenant_that_asks_for_more_is_called_until_it_is_done(engine: Engine) -> None:
    """A tenant that does not fit its part of the round is continued after all others."""
    tenants = Tenants(TEN, {"tenant-3": [MORE, MORE, MORE]}, parallel=1)
    assert engine(tenants)["state"] == "Completed"
    assert tenants.calls == [*TEN, *["tenant-3"] * 3]
    assert tenants.times == {**dict.fromkeys(TEN, 1), "tenant-3": 4}


@pytest.mark.parametrize("failure", [DEAD, BUSY], ids=["failed", "busy"])
def test_a_failed_call_is_repeated_after_all_other_tenants(engine: Engine, failure: Exception | dict[str, str]) -> None:
    """A dead tenant delays no other: its lane takes all others first."""
    tenants = Tenants(TEN, {"tenant-1": [failure]}, parallel=1)
    assert engine(tenants)["state"] == "Completed"
    assert tenants.calls == [*TEN, "tenant-1"]


def test_a_tenant_that_always_fails_costs_four_calls_and_nobody_else(engine: Engine) -> None:
    """A dead tenant is called four times; all others once."""
    tenants = Tenants(TEN, {"tenant-1": [DEAD] * 9})
    assert engine(tenants)["state"] == "Completed"
    assert tenants.times == {**dict.fromkeys(TEN, 1), "tenant-1": 4}


def test_begin_and_end_are_repeated(engine: Engine) -> None:
    """Two failures of the begin and of the end are made up for."""
    tenants = Tenants(TEN, begins=[DEAD, DEAD], ends=[DEAD, DEAD])
    assert engine(tenants)["state"] == "Completed"
    assert len(tenants.calls) == 10


def test_a_round_that_cannot_begin_fails(engine: Engine) -> None:
    """The third failure of the begin fails the round, before any tenant is called."""
    tenants = Tenants(TEN, begins=[DEAD] * 3)
    assert engine(tenants)["state"] == "Failed"
    assert tenants.calls == []


def test_a_long_lane_continues_as_new_and_loses_no_tenant(engine: Engine) -> None:
    """A lane keeps its failed tenants when it continues as new."""
    names = [f"tenant-{number}" for number in range(2 * BATCH + 3)]
    tenants = Tenants(names, {"tenant-0": [DEAD]}, parallel=1)
    assert engine(tenants)["state"] == "Completed"
    assert tenants.calls == [*names, "tenant-0"]


def test_history_of_a_round_stays_short_however_many_tenants_there_are() -> None:
    """A lane continues as new, so that no replay reads more than the events of some of its tenants."""
    longest = []
    for tenants in (2 * BATCH, 4 * BATCH):
        host = VirtualHost(Tenants([f"t{number}" for number in range(tenants)], parallel=1, round_s=86_400))
        host.hub.start(ROUND, INSTANCE, "null")
        most = 0
        while host.step():
            most = max(most, *(len(one.history) for one in host.hub.instances.values()))
        longest.append(most)
    assert longest[0] == longest[1] <= 6 * BATCH


def test_at_most_the_given_number_of_tenants_run_at_once() -> None:
    """The number of lanes is a hard cap."""
    host = VirtualHost(Tenants(TEN, parallel=3))
    host.round()
    assert host.most_running == 3


def test_a_tenant_in_the_steady_state_costs_two_actions() -> None:
    """The activity and its result, as the Durable Task Scheduler counts; a round and its lanes cost the rest."""
    few, many = (VirtualHost(Tenants([f"t{number}" for number in range(size)], parallel=20)) for size in (40, 120))
    for host in (few, many):
        host.round()
    assert many.hub.actions - few.hub.actions == 2 * 80
    assert many.hub.actions / 120 <= 3


def test_what_is_not_done_in_time_is_left_to_the_next_round() -> None:
    """When the round's time is over, no tenant is begun."""
    tenants = Tenants(TEN, parallel=1, round_s=45)
    host = VirtualHost(tenants)
    assert host.round()["output"] == {"round": ROUND_ID, "ran": 5}
    assert tenants.seconds == [45, 35, 25, 15, 5], "no call may take longer than the round"


def test_a_first_call_takes_no_more_than_the_tenants_part_of_the_round() -> None:
    """A slow tenant cannot use up the time of those behind it in its lane; a later call may take its whole share."""
    many = Tenants([f"t{number}" for number in range(24)], {"t0": [MORE]}, parallel=1)
    host = VirtualHost(many)
    host.round()
    assert many.seconds == [*[150] * 24, 600]


def test_a_call_that_is_never_delivered_ends_with_the_round() -> None:
    """The round ends with its report although one lane still waits."""
    tenants = Tenants(TEN, round_s=600)
    host = VirtualHost(tenants, copies=lambda work: 0 if "tenant-4" in work.input and work.function == RUN else 1)
    ended = host.round()
    assert ended["runtimeStatus"] == "Completed"
    assert ended["output"]["ran"] == 8, "all but this one and the one behind it in its lane"


def test_a_call_delivered_twice_counts_once() -> None:
    """A second result of the same call changes nothing."""
    tenants = Tenants(TEN)
    host = VirtualHost(tenants, copies=lambda work: 2 if work.function == RUN else 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Potential duplicate Task completion")
        ended = host.round()
    assert ended["output"] == {"round": ROUND_ID, "ran": 10}
    assert tenants.times == dict.fromkeys(TEN, 2)


def test_a_result_that_arrives_after_the_round_is_ignored() -> None:
    """A call that ends an hour after its round does no harm."""

    def late(work: Work) -> float:
        return 7200.0 if work.function == RUN and "tenant-4" in work.input else 0.0

    host = VirtualHost(Tenants(TEN, round_s=600), delay_s=late)
    assert host.round()["runtimeStatus"] == "Completed"


def test_a_host_that_dies_after_any_step_resumes_the_same_round() -> None:
    """Every step of a round is taken twice: once by a host that dies before it reports, once by its successor."""
    tenants = Tenants(TEN, {"tenant-1": [DEAD], "tenant-3": [MORE]})
    host = VirtualHost(tenants)
    host.hub.start(ROUND, INSTANCE, "null")
    steps = 0
    while True:
        work = host.hub.take()
        if work is not None:
            host.hub.give_back(work)
        if not host.step():
            break
        steps += 1
    status = host.hub.status(INSTANCE)
    assert status is not None
    assert status["output"] == {"round": ROUND_ID, "ran": 10}
    assert tenants.times == {**dict.fromkeys(TEN, 1), "tenant-1": 2, "tenant-3": 2}
    assert steps > 40


def test_lanes_begin_with_the_tenants_that_wait_longest() -> None:
    """Tenants are dealt in turn, in their order."""
    assert deal(["a", "b", "c", "d", "e"], 2) == [["a", "c", "e"], ["b", "d"]]
    assert deal(["a"], 20) == [["a"]]
    assert deal([], 20) == []


def test_pauses_double_differ_by_tenant_and_are_the_same_in_each_replay() -> None:
    """The jitter is deterministic, and spreads the tenants."""
    pauses = [pause_s(ROUND_ID, "acme", failures) for failures in range(1, 9)]
    assert pauses == [pause_s(ROUND_ID, "acme", failures) for failures in range(1, 9)]
    for failures, pause in enumerate(pauses, 1):
        expected = min(PAUSE_S * 2 ** (failures - 1), LONGEST_PAUSE_S)
        assert 0.75 * expected <= pause <= 1.25 * expected
    assert len({round(pause_s(ROUND_ID, f"tenant-{number}", 1), 3) for number in range(50)}) > 45
