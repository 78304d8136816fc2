"""Two engines for the orchestrations of a round: the task hub of the local Functions host, and Microsoft's own backend.

Both run the same scenario: `Tenants` answers the activities. The first engine runs in virtual time with the SDK of
Durable Functions, the second in real time with the in-memory backend of the Durable Task SDK.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import durabletask.internal.orchestrator_service_pb2_grpc as stubs
import grpc  # type: ignore[import-untyped]  # it ships no types
from durabletask import task
from durabletask.client import TaskHubGrpcClient
from durabletask.testing import InMemoryOrchestrationBackend
from durabletask.worker import TaskHubGrpcWorker

from azure_function.coordinator.functions import coordinator
from azure_function.coordinator.orchestrations import (
    BEGIN,
    CALLS,
    END,
    INSTANCE,
    LANE,
    ROUND,
    RUN,
    Input,
    Steps,
    run_lane,
    run_round,
    run_tenant,
)
from localcloud.azure.runtime.durable_task import TaskHub, Work
from shared.runtime.clock import Clock, SystemClock
from tests.limits import HANG_S

ROUND_ID = "20260101T000000Z"
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Tenants:
    """The activities of a scenario. `rows` answers the n-th call of a tenant; without an answer it is ok and done."""

    tenants: Sequence[str]
    rows: Mapping[str, Sequence[Mapping[str, Any] | Exception]] = field(default_factory=dict)
    begins: list[Exception] = field(default_factory=list)
    ends: list[Exception] = field(default_factory=list)
    parallel: int = 3
    round_s: float = 3600.0
    calls: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, _: Input) -> dict[str, Any]:
        """Begin the round, or fail as often as the scenario says."""
        if self.begins:
            raise self.begins.pop()
        return {
            "round": ROUND_ID,
            "tenants": list(self.tenants),
            "parallel": self.parallel,
            "round_s": self.round_s,
            "tenant_s": 600,
        }

    def run(self, given: Input) -> dict[str, Any]:
        """Run one tenant."""
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            self.calls.append(given["tenant"])
            self.seconds.append(given["seconds"])
            answers = list(self.rows.get(given["tenant"], ()))
            number = self.calls.count(given["tenant"]) - 1
        answer = answers[number] if number < len(answers) else {}
        with self._lock:
            self._now -= 1
        if isinstance(answer, Exception):
            raise answer
        return {"status": "ok", "again": False, **answer}

    def end(self, given: Input) -> dict[str, Any]:
        """End the round."""
        if self.ends:
            raise self.ends.pop()
        return {"round": given["round"], "ran": len(set(self.calls))}

    def sink(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """Drop a log line."""

    def clock(self) -> Clock:
        """Return the machine's clock."""
        return SystemClock()

    @property
    def times(self) -> Counter[str]:
        """How often each tenant was called."""
        return Counter(self.calls)


Engine = Callable[[Tenants], dict[str, Any]]


class VirtualHost:
    """The local host's task hub in virtual time, in this process. A call of a tenant takes `call_s` seconds.

    `copies` returns how often an activity runs; `delay_s` is how much later the result of some work arrives.
    """

    def __init__(
        self,
        tenants: Tenants,
        call_s: Callable[[str], float] = lambda _: 10.0,
        copies: Callable[[Work], int] = lambda _: 1,
        delay_s: Callable[[Work], float] = lambda _: 0.0,
    ) -> None:
        self.now = START
        self.hub = TaskHub(lambda: self.now)
        self._call_s, self._copies, self._delay_s = call_s, copies, delay_s
        app = func.FunctionApp()
        app.register_functions(coordinator(tenants))
        self.functions = {one.get_function_name(): one.get_user_function() for one in app.get_functions()}
        self._results: list[tuple[datetime, Work, str | None, str]] = []
        self.most_running = 0

    def start(self) -> None:
        """Start a round."""
        self.hub.start(ROUND, INSTANCE, "null")

    def step(self) -> bool:
        """Do one thing; return whether there was anything to do."""
        work = self.hub.take()
        if work is None:
            return self._advance()
        if work.task is None:
            self._episode(work)
        else:
            for _ in range(self._copies(work)):
                self._activity(work)
            self.most_running = max(self.most_running, len(self._results))
        return True

    def run(self) -> dict[str, Any]:
        """Go on until nothing is left to do, and return the round's instance."""
        while self.step():
            pass
        status = self.hub.status(INSTANCE)
        assert status is not None
        return status

    def _episode(self, work: Work) -> None:
        try:
            state = self.functions[work.function](context=SimpleNamespace(body=work.input))
        except Exception as error:  # noqa: BLE001 - as the host gets it from the worker
            self.hub.episode_failed(work, str(error))
        else:
            self.hub.episode_done(work, json.loads(state))

    def _activity(self, work: Work) -> None:
        given = json.loads(work.input)
        ends = self.now + timedelta(seconds=self._delay_s(work))
        if work.function == RUN:
            ends += timedelta(seconds=self._call_s(given["tenant"]))
        try:
            result, error = json.dumps(self.functions[work.function](given=given)), ""
        except Exception as failure:  # noqa: BLE001 - as the host gets it from the worker
            result, error = None, str(failure)
        self._results.append((ends, work, result, error))

    def _advance(self) -> bool:
        """Go to when the next call ends or a timer fires."""
        times = [ends for ends, *_ in self._results]
        if (timer := self.hub.next_timer()) is not None:
            times.append(timer)
        if not times:
            return False
        self.now = max(self.now, min(times))
        ended = [one for one in self._results if one[0] <= self.now]
        self._results = [one for one in self._results if one[0] > self.now]
        for _, work, result, error in ended:
            self.hub.activity_done(work, result, error)
        return True


def on_functions(tenants: Tenants) -> dict[str, Any]:
    """Run a round on the local host's task hub; return `state` and `output`."""
    host = VirtualHost(tenants)
    host.start()
    status = host.run()
    return {"state": status["runtimeStatus"], "output": status["output"]}


class BackendContext:
    """The DurableContext of the Durable Task SDK."""

    def __init__(self, context: task.OrchestrationContext) -> None:
        self._context = context

    @property
    def now(self) -> datetime:
        """Return the time of the newest step."""
        return self._context.current_utc_datetime.replace(tzinfo=UTC)

    def call(self, activity: str, given: Input) -> Any:
        """Return the task of an activity."""
        return self._context.call_activity(activity, input=dict(given))

    def start(self, orchestration: str, given: Input, instance: str) -> Any:
        """Return the task of a sub-orchestration."""
        return self._context.call_sub_orchestrator(orchestration, input=dict(given), instance_id=instance)

    def wait_until(self, moment: datetime) -> Any:
        """Return the task of a timer."""
        return self._context.create_timer(moment.replace(tzinfo=None))

    def cancel(self, timer: Any) -> None:
        """Cancel a timer."""
        timer.cancel()

    def all_of(self, tasks: Sequence[Any]) -> Any:
        """Return a task that ends with all of these."""
        return task.when_all(list(tasks))

    def any_of(self, tasks: Sequence[Any]) -> Any:
        """Return a task that ends with the first of these."""
        return task.when_any(list(tasks))

    def continue_as_new(self, given: Input) -> None:
        """Start this orchestration again."""
        self._context.continue_as_new(dict(given))


class LoopbackBackend(InMemoryOrchestrationBackend):
    """The in-memory backend, which would listen on every address of the machine, on loopback only."""

    def start(self) -> str:
        """Start, and return the address."""
        self._shutdown_event.clear()
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=10))
        stubs.add_TaskHubSidecarServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]  # generated
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return f"127.0.0.1:{port}"


@contextmanager
def _backend(tenants: Tenants) -> Iterator[TaskHubGrpcClient]:
    def tenants_round(context: task.OrchestrationContext, _: Any) -> Steps:
        return (yield from run_round(BackendContext(context)))

    def tenants_lane(context: task.OrchestrationContext, given: Any) -> Steps:
        return (yield from run_lane(BackendContext(context), given))

    def tenant_calls(context: task.OrchestrationContext, given: Any) -> Steps:
        return (yield from run_tenant(BackendContext(context), given))

    backend = LoopbackBackend()
    address = backend.start()
    client, worker = TaskHubGrpcClient(host_address=address), TaskHubGrpcWorker(host_address=address)
    for orchestration in (tenants_round, tenants_lane, tenant_calls):
        assert worker.add_orchestrator(orchestration) in (ROUND, LANE, CALLS)
    for name, activity in ((BEGIN, tenants.begin), (RUN, tenants.run), (END, tenants.end)):

        def call(_: task.ActivityContext, given: Any, activity: Callable[[Input], Any] = activity) -> Any:
            return activity(given)

        call.__name__ = name
        worker.add_activity(call)
    try:
        worker.start()  # type: ignore[no-untyped-call]  # the SDK leaves its result out
        yield client
    finally:
        worker.stop()  # type: ignore[no-untyped-call]  # the SDK leaves its result out
        client.close()
        backend.stop()


def on_backend(tenants: Tenants) -> dict[str, Any]:
    """Run a round on the in-memory backend of the Durable Task SDK; return `state` and `output`."""
    with _backend(tenants) as client:
        client.schedule_new_orchestration(ROUND, instance_id=INSTANCE)
        ended = client.wait_for_orchestration_completion(INSTANCE, timeout=HANG_S)
    assert ended is not None
    state = ended.runtime_status.name.capitalize()
    return {"state": state, "output": json.loads(ended.serialized_output) if ended.serialized_output else None}
