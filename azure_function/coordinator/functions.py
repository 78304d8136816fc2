"""The functions of the coordinator: the orchestrations and activities of a round, its timer and its HTTP route.

Imported only where the setting ROUND_SCHEDULE is set, because the SDK of Durable Functions takes half a second to
import.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import azure.durable_functions as df
import azure.functions as func
import msgspec
from azure.durable_functions.models.DurableOrchestrationStatus import DurableOrchestrationStatus

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
from shared.runtime.clock import Clock
from shared.runtime.log import Sink

KEPT = timedelta(days=7)  # histories of ended orchestrations
OLDEST = datetime(2020, 1, 1, tzinfo=UTC)
RUNNING = frozenset({"Pending", "Running", "ContinuedAsNew"})
ENDED = (
    df.OrchestrationRuntimeStatus.Completed,
    df.OrchestrationRuntimeStatus.Failed,
    df.OrchestrationRuntimeStatus.Terminated,
)

Activity = Callable[[Input], dict[str, Any]]


class FunctionsContext:
    """The DurableContext of Durable Functions."""

    def __init__(self, context: df.DurableOrchestrationContext) -> None:
        self._context = context

    @property
    def now(self) -> datetime:
        """Return the time of the newest step, in UTC."""
        now: datetime = self._context.current_utc_datetime
        return now.astimezone(UTC) if now.tzinfo else now.replace(tzinfo=UTC)

    def call(self, activity: str, given: Input) -> Any:
        """Return the task of an activity."""
        return self._context.call_activity(activity, dict(given), expected_type=dict)

    def start(self, orchestration: str, given: Input, instance: str) -> Any:
        """Return the task of a sub-orchestration."""
        return self._context.call_sub_orchestrator(orchestration, dict(given), instance, expected_type=dict)

    def wait_until(self, moment: datetime) -> Any:
        """Return the task of a timer."""
        return self._context.create_timer(moment)

    def cancel(self, timer: Any) -> None:
        """Cancel a timer that has not fired."""
        timer.cancel()

    def all_of(self, tasks: Sequence[Any]) -> Any:
        """Return a task that ends with all of these."""
        return self._context.task_all(list(tasks))

    def any_of(self, tasks: Sequence[Any]) -> Any:
        """Return a task that ends with the first of these."""
        return self._context.task_any(list(tasks))

    def continue_as_new(self, given: Input) -> None:
        """Start this orchestration again with another input."""
        self._context.continue_as_new(dict(given))


class RoundSteps(Protocol):
    """The activities of a round, and what the timer needs."""

    @property
    def sink(self) -> Sink: ...
    @property
    def clock(self) -> Callable[[], Clock]: ...
    def begin(self, given: Input, /) -> dict[str, Any]: ...
    def run(self, given: Input, /) -> dict[str, Any]: ...
    def end(self, given: Input, /) -> dict[str, Any]: ...


def coordinator(steps: RoundSteps) -> df.Blueprint:
    """Return the functions of the coordinator, with `steps` as its activities."""
    # Decorators are called instead of written, because the SDK has no types.
    blueprint = df.Blueprint()
    for name, orchestration in {ROUND: _round, LANE: _lane, CALLS: _calls}.items():
        trigger = blueprint.orchestration_trigger(context_name="context", orchestration=name)
        blueprint.function_name(name)(trigger(orchestration))
    for name, activity in {BEGIN: steps.begin, RUN: steps.run, END: steps.end}.items():
        trigger = blueprint.activity_trigger(input_name="given", activity=name)
        blueprint.function_name(name)(trigger(_activity(name, activity)))

    async def rounds_timer(timer: func.TimerRequest, client: df.DurableOrchestrationClient) -> None:  # noqa: ARG001 - the binding's name
        await on_tick(client, steps.clock().now(), steps.sink)

    async def rounds(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
        return await on_request(req.method, client)

    timer = blueprint.timer_trigger(
        arg_name="timer", schedule="%ROUND_SCHEDULE%", run_on_startup=False, use_monitor=True
    )
    route = blueprint.route(route="rounds", methods=["GET", "POST"], auth_level=func.AuthLevel.FUNCTION)
    for trigger, function in ((timer, rounds_timer), (route, rounds)):
        client = blueprint.durable_client_input(client_name="client")
        blueprint.function_name(function.__name__)(trigger(client(function)))
    return blueprint


def _round(context: df.DurableOrchestrationContext) -> Steps:
    return (yield from run_round(FunctionsContext(context)))


def _lane(context: df.DurableOrchestrationContext) -> Steps:
    return (yield from run_lane(FunctionsContext(context), context.get_input(expected_type=dict)))


def _calls(context: df.DurableOrchestrationContext) -> Steps:
    return (yield from run_tenant(FunctionsContext(context), context.get_input(expected_type=dict)))


def _activity(name: str, activity: Activity) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return an activity as the worker calls it: by the name of its binding."""

    def call(given: dict[str, Any]) -> dict[str, Any]:
        return activity(given)

    call.__name__ = name
    call.__annotations__ = {"given": dict, "return": dict}  # the worker refuses a class with parameters
    return call


async def on_tick(client: df.DurableOrchestrationClient, now: datetime, sink: Sink) -> None:
    """Start a round unless one is running, and remove the histories of those that ended a week ago."""
    if not await _begin(client):
        sink("warning", "round-late", {"reason": "the previous round is still running, so none was begun"})
    await client.purge_instance_history_by(OLDEST, now - KEPT, list(ENDED))


async def on_request(method: str, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Start a round for POST (202, or 409 while one is running); for GET return the state of the newest one."""
    if method == "POST":
        begun = await _begin(client)
        return _response(202 if begun else 409, await _state(client))
    return _response(200, await _state(client))


async def _begin(client: df.DurableOrchestrationClient) -> bool:
    """Start a round, and return whether none was running. The extension refuses the second of two at once."""
    status = await client.get_status(INSTANCE)
    if status and _name(status) in RUNNING:
        return False
    await client.start_new(ROUND, INSTANCE)
    return True


async def _state(client: df.DurableOrchestrationClient) -> dict[str, Any]:
    """Return the newest round: `state` (none, running, completed, failed), `begun_at`, `report` or `error`."""
    status = await client.get_status(INSTANCE)
    name = _name(status) if status else ""
    if not name:
        return {"state": "none"}
    begun = {"begun_at": status.created_time.isoformat() if status.created_time else ""}
    if name in RUNNING:
        return {"state": "running", **begun}
    if name == "Completed":
        return {"state": "completed", **begun, "report": status.output}
    return {"state": "failed", **begun, "error": str(status.output or name)[:2000]}


def _name(status: DurableOrchestrationStatus) -> str:
    return status.runtime_status.value if status.runtime_status else ""


def _response(status: int, document: dict[str, Any]) -> func.HttpResponse:
    return func.HttpResponse(msgspec.json.encode(document), status_code=status, mimetype="application/json")
