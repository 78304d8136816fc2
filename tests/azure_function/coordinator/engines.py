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
from datetime import UTC, datetime
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
from localcloud.azure.runtime.durable_loop import DurableLoop, LaneClock
from localcloud.azure.runtime.durable_task import Work
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


class VirtualHost(DurableLoop):
    """The local host's task hub in virtual time, in this process. A call of a tenant takes `call_s` seconds."""

    def __init__(
        self,
        tenants: Tenants,
        call_s: Callable[[str], float] = lambda _: 10.0,
        copies: Callable[[Work], int] = lambda _: 1,
        delay_s: Callable[[Work], float] = lambda _: 0.0,
    ) -> None:
        clock = LaneClock(START)

        def run(given: Input) -> dict[str, Any]:
            clock.advance(call_s(given["tenant"]))
            return tenants.run(given)

        steps = SimpleNamespace(begin=tenants.begin, run=run, end=tenants.end, sink=tenants.sink, clock=tenants.clock)
        app = func.FunctionApp()
        app.register_functions(coordinator(steps))
        super().__init__(app, clock, copies, delay_s)

    def round(self) -> Mapping[str, Any]:
        """Run a round to its end, and return its instance."""
        return self.run(ROUND, INSTANCE)


def on_functions(tenants: Tenants) -> dict[str, Any]:
    """Run a round on the local host's task hub; return `state` and `output`."""
    status = VirtualHost(tenants).round()
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
