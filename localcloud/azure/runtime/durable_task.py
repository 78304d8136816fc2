"""The task hub of Durable Functions: orchestration histories, queued work and timers, without threads or a clock.

It does what the Durable Task extension does in the Functions host for the Python SDK 1.x, whose functions exchange JSON
with it: an orchestrator function gets its whole history and returns every action that it has asked for so far. Whoever
drives the hub takes work from it (`take`), runs the function, and reports the result. Work that is taken and not
reported stays invisible until it is given back (`give_back`), as a queue message does whose reader died.

Sources: the extension's OrchestrationTriggerAttributeBindingProvider (the function's input), OutOfProcOrchestrationShim
(the order in which actions are awaited), TaskActivityShim (which failures are retried) and HttpApiHandler (status and
purge), all in Azure/azure-functions-durable-extension; DurableTask.Core (event types); "Durable Functions billing".

Not built: entities, external events, HTTP tasks, retries by the extension, suspension and rewinding. An orchestration
that uses one of them fails and says so.

The module is over 350 lines because all parts change one history.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any

# DurableTask.Core.History.EventType
STARTED, TASK_SCHEDULED, TASK_COMPLETED, TASK_FAILED = 0, 4, 5, 6
CHILD_CREATED, CHILD_COMPLETED, CHILD_FAILED = 7, 8, 9
TIMER_CREATED, TIMER_FIRED, EPISODE_STARTED, EPISODE_ENDED = 10, 11, 12, 13
# AsyncActionType of the extension
CALL_ACTIVITY, CALL_CHILD, CONTINUE_AS_NEW, CREATE_TIMER, WHEN_ANY, WHEN_ALL = 0, 2, 4, 5, 11, 12

RUNNING = ("Pending", "Running")
SCHEMA_V2, SCHEMA_V3 = 1, 2
ERROR_MARK = "$OutOfProcData$:"  # an orchestrator's error carries its state behind this
MOST_ID = 100  # characters of an instance id


class InstanceRunning(Exception):
    """An instance with this id is running, so that none can be started with the same id."""


@dataclass(frozen=True)
class Work:
    """Work for a function: an episode of the orchestrator of `instance`, or, with a `task`, an activity.

    `input` is what the function gets. `execution` tells one execution of an instance from another.
    """

    instance: str
    execution: int
    function: str
    input: str
    task: int | None = None


@dataclass
class Instance:
    """One orchestration: its history, the events that its next episode gets, and what became of it.

    `taken` is the number of events in `inbox` that the episode in progress has got, 0 without one.
    """

    id: str
    name: str
    input: str
    created: datetime
    execution: int
    parent: tuple[str, int, int] | None = None  # instance, execution, task
    status: str = "Pending"
    output: Any = None
    updated: datetime | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    inbox: list[dict[str, Any]] = field(default_factory=list)
    taken: int = 0


@dataclass
class Timer:
    """A timer of an orchestration."""

    at: datetime
    instance: str
    execution: int
    task: int


# difference: AZURE-23
class TaskHub:
    """The instances, the queue of activities and the timers. Not thread-safe.

    `actions` counts what the Durable Task Scheduler would bill: each message that makes a function run.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._executions = count(1)
        self.instances: dict[str, Instance] = {}
        self.activities: deque[Work] = deque()
        self.timers: list[Timer] = []
        self.actions = 0

    def start(self, name: str, instance: str, given: str) -> None:
        """Start an orchestration. Raises InstanceRunning; ValueError for an id that the extension refuses."""
        if not 0 < len(instance) <= MOST_ID or instance.startswith("@") or any(one in "/\\#?" for one in instance):
            raise ValueError(f"{instance!r} is no instance id: at most {MOST_ID} characters, none of / \\ # ?")
        known = self.instances.get(instance)
        if known and known.status in RUNNING:
            raise InstanceRunning(instance)
        self._create(name, instance, given, None)

    def take(self, activities: bool = True) -> Work | None:
        """Return the next work and hide it; None if there is none now. Episodes come before activities."""
        self._fire_timers()
        for one in self.instances.values():
            if one.inbox and not one.taken and one.status in RUNNING:
                one.taken, one.status = len(one.inbox), "Running"
                return self._episode(one)
        return self.activities.popleft() if activities and self.activities else None

    def give_back(self, work: Work) -> None:
        """Make taken work visible again: its taker died, or could not run the function."""
        if work.task is not None:
            self.activities.append(work)
        elif (one := self._current(work)) is not None:
            one.taken = 0

    def activity_done(self, work: Work, result: str | None, error: str = "") -> None:
        """Report the result of an activity as JSON, or its error. May be repeated: engines deliver twice."""
        if (one := self._current(work)) is None or work.task is None:
            return
        event = {"EventType": TASK_COMPLETED, "TaskScheduledId": work.task, "Result": result}
        if result is None:
            event = {"EventType": TASK_FAILED, "TaskScheduledId": work.task, "Reason": error, "Details": ""}
        self._send(one, event)

    def episode_done(self, work: Work, state: Mapping[str, Any]) -> None:
        """Report what an orchestrator function returned: the actions so far, and whether it is done."""
        one = self._current(work)
        if one is None:
            return
        seen, one.inbox = one.inbox[: one.taken], one.inbox[one.taken :]
        one.history += [self._event(EPISODE_STARTED), *seen]
        one.taken, one.updated = 0, self._now()
        try:
            again, waits = self._replay(one, state)
        except OrchestrationFailed as failed:
            self._end(one, "Failed", str(failed))
            return
        one.history.append(self._event(EPISODE_ENDED))
        if waits:
            return
        if again is not None:
            one.history, one.inbox, one.execution, one.input = [], [], next(self._executions), again
            self._send(one, self._execution_started(one))
        elif state.get("error"):
            self._end(one, "Failed", str(state["error"]))
        elif state.get("isDone"):
            self._end(one, "Completed", state.get("output"))

    def episode_failed(self, work: Work, message: str) -> None:
        """Report the exception of an orchestrator function, which carries its state."""
        _, mark, state = message.partition(ERROR_MARK)
        if mark:
            self.episode_done(work, json.loads(state))
        elif (one := self._current(work)) is not None:
            self._end(one, "Failed", message)

    def next_timer(self) -> datetime | None:
        """Return when the next timer fires."""
        return min((one.at for one in self.timers), default=None)

    def status(self, instance: str) -> dict[str, Any] | None:
        """Return an instance as the extension describes it, None for an unknown one."""
        one = self.instances.get(instance)
        if one is None:
            return None
        return {
            "name": one.name,
            "instanceId": one.id,
            "runtimeStatus": one.status,
            "input": one.input,
            "customStatus": None,
            "output": one.output,
            "createdTime": f"{one.created:%Y-%m-%dT%H:%M:%SZ}",
            "lastUpdatedTime": f"{one.updated or one.created:%Y-%m-%dT%H:%M:%SZ}",
        }

    def purge(self, created_from: datetime, created_to: datetime, statuses: frozenset[str]) -> int:
        """Remove ended instances that were created in this time and have one of these states; return how many."""
        old = [
            one.id
            for one in self.instances.values()
            if one.status in statuses and one.status not in RUNNING and created_from <= one.created <= created_to
        ]
        for name in old:
            del self.instances[name]
        return len(old)

    def _create(self, name: str, instance: str, given: str, parent: tuple[str, int, int] | None) -> None:
        one = Instance(instance, name, given, self._now(), next(self._executions), parent)
        self.instances[instance] = one
        self._send(one, self._execution_started(one))

    def _send(self, one: Instance, event: dict[str, Any]) -> None:
        """Queue an event for an instance; one that has ended drops it."""
        if one.status in RUNNING:
            self.actions += 1
            one.inbox.append(self._event(**event))

    def _execution_started(self, one: Instance) -> dict[str, Any]:
        return {"EventType": STARTED, "Name": one.name, "Input": one.input, "Version": "", "Tags": None}

    def _event(self, EventType: int, **more: Any) -> dict[str, Any]:
        at = f"{self._now():%Y-%m-%dT%H:%M:%S.%fZ}"
        return {"EventType": EventType, "EventId": -1, "IsPlayed": False, "Timestamp": at, **more}

    def _episode(self, one: Instance) -> Work:
        past = [{**event, "IsPlayed": True} for event in one.history]
        document = {
            "history": [*past, self._event(EPISODE_STARTED), *one.inbox],
            "input": one.input,
            "instanceId": one.id,
            "isReplaying": bool(past),
            "parentInstanceId": one.parent[0] if one.parent else None,
            "upperSchemaVersion": SCHEMA_V2,
            "upperSchemaVersionNew": SCHEMA_V3,
            "longRunningTimerIntervalDuration": "3.00:00:00",
            "maximumShortTimerDuration": "6.00:00:00",
            "defaultHttpAsyncRequestSleepTimeMillseconds": 30_000,
        }
        return Work(one.id, one.execution, one.name, json.dumps(document))

    def _current(self, work: Work) -> Instance | None:
        """Return the instance of some work; None if it was removed, or is another execution by now."""
        one = self.instances.get(work.instance)
        return one if one is not None and one.execution == work.execution else None

    def _replay(self, one: Instance, state: Mapping[str, Any]) -> tuple[str | None, bool]:
        """Await the actions one after another as the extension does, and schedule those that are new.

        Returns the input of the next execution, None unless continued as new, and whether an action is still awaited.
        Raises OrchestrationFailed if the actions differ from those of the history.
        """
        actions = state.get("actions") or [[]]
        if state.get("schemaVersion") not in ("V2", "V3", SCHEMA_V2, SCHEMA_V3) or len(actions) != 1:
            raise OrchestrationFailed(f"unexpected replay schema {state.get('schemaVersion')}")
        replay = _Replay(self, one)
        again: str | None = None
        for action in actions[0]:
            if action["actionType"] == CONTINUE_AS_NEW:
                again = action["input"]
            elif not replay.awaited(action):
                return again, True
        return again, False

    def schedule(self, one: Instance, task: int, action: Mapping[str, Any]) -> None:
        """Schedule an action that the history does not have yet."""
        kind = action["actionType"]
        key = (one.id, one.execution, task)
        if kind == CALL_ACTIVITY:
            one.history.append(self._event(TASK_SCHEDULED, Name=action["functionName"]) | {"EventId": task})
            self.activities.append(Work(one.id, one.execution, action["functionName"], action["input"], task))
            self.actions += 1
        elif kind == CALL_CHILD:
            name = action.get("instanceId") or f"{one.execution:x}:{task}"
            event = self._event(CHILD_CREATED, Name=action["functionName"], InstanceId=name)
            one.history.append(event | {"EventId": task})
            known = self.instances.get(name)
            if known is None or known.status not in RUNNING:
                self._create(action["functionName"], name, action["input"], key)
        elif kind == CREATE_TIMER:
            one.history.append(self._event(TIMER_CREATED, FireAt=action["fireAt"]) | {"EventId": task})
            at = datetime.fromisoformat(action["fireAt"])
            self.timers.append(Timer(at, *key))
        else:
            raise OrchestrationFailed(f"this task hub has no action of type {kind}")

    def cancel(self, one: Instance, task: int) -> None:
        """Drop a timer."""
        key = (one.id, one.execution, task)
        self.timers = [each for each in self.timers if (each.instance, each.execution, each.task) != key]

    def _fire_timers(self) -> None:
        now = self._now()
        due = sorted((one for one in self.timers if one.at <= now), key=lambda one: one.at)
        self.timers = [one for one in self.timers if one.at > now]
        for timer in due:
            one = self.instances.get(timer.instance)
            if one is not None and one.execution == timer.execution:
                at = f"{timer.at:%Y-%m-%dT%H:%M:%S.%fZ}"
                self._send(one, {"EventType": TIMER_FIRED, "TimerId": timer.task, "FireAt": at})

    def _end(self, one: Instance, status: str, output: Any) -> None:
        one.taken, one.inbox, one.updated = 0, [], self._now()
        one.status, one.output = status, output
        self.timers = [each for each in self.timers if (each.instance, each.execution) != (one.id, one.execution)]
        parent = self.instances.get(one.parent[0]) if one.parent else None
        if one.parent is None or parent is None or parent.execution != one.parent[1]:
            return
        task = one.parent[2]
        if status == "Completed":
            self._send(parent, {"EventType": CHILD_COMPLETED, "TaskScheduledId": task, "Result": json.dumps(output)})
        else:
            event = {"EventType": CHILD_FAILED, "TaskScheduledId": task, "Reason": str(output), "Details": ""}
            self._send(parent, event)


class OrchestrationFailed(Exception):
    """The extension cannot go on with an orchestration."""


class _Replay:
    """One replay of the actions over a history: which are scheduled already, and which have ended."""

    _SCHEDULED: Mapping[int, int] = {
        TASK_SCHEDULED: CALL_ACTIVITY,
        CHILD_CREATED: CALL_CHILD,
        TIMER_CREATED: CREATE_TIMER,
    }

    def __init__(self, hub: TaskHub, one: Instance) -> None:
        self._hub, self._one = hub, one
        self._known = {
            event["EventId"]: (self._SCHEDULED[event["EventType"]], event.get("Name"))
            for event in one.history
            if event["EventType"] in self._SCHEDULED
        }
        self._ended = set(_ended(one.history))
        self._next = 0

    def awaited(self, action: Mapping[str, Any]) -> bool:
        """Schedule an action, and return whether awaiting it returns."""
        kind = action["actionType"]
        if kind in (WHEN_ANY, WHEN_ALL):
            ended = [self.awaited(one) for one in action["compoundActions"]]
            if kind == WHEN_ANY and not ended:
                raise OrchestrationFailed("The tasks argument contains no tasks.")  # as .NET's Task.WhenAny
            return any(ended) if kind == WHEN_ANY else all(ended)
        task, self._next = self._next, self._next + 1
        if task not in self._known:
            self._hub.schedule(self._one, task, action)
        elif self._known[task] != (kind, action.get("functionName")):
            raise OrchestrationFailed(
                f"Non-Deterministic workflow detected: action {task} was {self._known[task]}, now it is "
                f"{(kind, action.get('functionName'))}"
            )
        if kind == CREATE_TIMER and action.get("isCanceled"):
            self._hub.cancel(self._one, task)
            return True
        return task in self._ended


def _ended(history: list[dict[str, Any]]) -> Iterator[int]:
    for event in history:
        kind = event["EventType"]
        if kind in (TASK_COMPLETED, TASK_FAILED, CHILD_COMPLETED, CHILD_FAILED):
            yield event["TaskScheduledId"]
        elif kind == TIMER_FIRED:
            yield event["TimerId"]
