"""The task hub of the local Functions host, with the SDK of Durable Functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import azure.durable_functions as df
import pytest

from localcloud.azure.runtime.durable_task import InstanceRunning, TaskHub

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Orchestration = Callable[[Any], Generator[Any, Any, Any]]


def played(orchestration: Orchestration, seconds: Callable[[str], float]) -> tuple[TaskHub, list[str]]:
    """Run an orchestration to its end; return the hub, and the activities in the order in which they began."""
    now = NOW
    hub = TaskHub(lambda: now)
    function = df.Orchestrator.create(orchestration)
    hub.start("one", "instance", "null")
    running: list[tuple[datetime, Any]] = []
    begun: list[str] = []
    while True:
        work = hub.take()
        if work is None:
            times = [one[0] for one in running] + [one for one in [hub.next_timer()] if one]
            if not times:
                return hub, begun
            now = min(times)
            for ended in [one for one in running if one[0] <= now]:
                running.remove(ended)
                hub.activity_done(ended[1], "{}")
        elif work.task is None:
            try:
                state = function(SimpleNamespace(body=work.input))
            except Exception as error:  # noqa: BLE001 - as the host gets it from the worker
                hub.episode_failed(work, str(error))
            else:
                hub.episode_done(work, json.loads(state))
        else:
            begun.append(f"{work.function} at {(now - NOW).total_seconds():g}")
            running.append((now + timedelta(seconds=seconds(work.function)), work))


def call(context: Any, name: str) -> Any:
    """Return the task of an activity."""
    return context.call_activity(name, {}, expected_type=dict)


def test_a_window_over_running_tasks_stops_at_the_slowest() -> None:
    """As the extension does: it awaits the last scheduled task, although another one ended before."""

    def window(context: Any) -> Generator[Any, Any, Any]:
        running, waiting = [call(context, "a"), call(context, "b")], ["slow", "c", "d"]
        while running:
            ended = yield context.task_any(running)
            running.remove(ended)
            if waiting:
                running.append(call(context, waiting.pop(0)))

    hub, begun = played(window, lambda name: {"a": 10, "b": 20, "slow": 100}.get(name, 10))
    assert begun == ["a at 0", "b at 0", "slow at 10", "c at 110", "d at 120"]
    assert hub.instances["instance"].status == "Completed"


def test_an_orchestration_that_asks_for_something_else_in_a_replay_fails() -> None:
    """Its actions are compared with its history."""
    turns: list[str] = []

    def fickle(context: Any) -> Generator[Any, Any, Any]:
        turns.append("x")
        yield call(context, f"activity-{len(turns)}")
        yield call(context, "other")

    hub, _ = played(fickle, lambda _: 1)
    failed = hub.instances["instance"]
    assert failed.status == "Failed"
    assert "Non-Deterministic workflow detected" in failed.output


def test_an_exception_fails_the_orchestration_with_its_message() -> None:
    """The worker sends it with the actions so far."""

    def failing(context: Any) -> Generator[Any, Any, Any]:
        yield call(context, "a")
        raise RuntimeError("no more")

    hub, begun = played(failing, lambda _: 1)
    assert (begun, hub.instances["instance"].output) == (["a at 0"], "no more")


def test_a_cancelled_timer_never_fires() -> None:
    """An orchestration ends without waiting for it."""

    def hasty(context: Any) -> Generator[Any, Any, Any]:
        timer = context.create_timer(context.current_utc_datetime + timedelta(hours=1))
        first = yield context.task_any([call(context, "a"), timer])
        assert first is not timer
        timer.cancel()
        return {}

    hub, _ = played(hasty, lambda _: 1)
    assert (hub.instances["instance"].status, hub.next_timer()) == ("Completed", None)


def test_instances_have_valid_ids_run_once_and_are_purged_when_they_have_ended() -> None:
    """A running instance is neither replaced nor removed."""
    hub = TaskHub(lambda: NOW)
    with pytest.raises(ValueError, match="is no instance id"):
        hub.start("one", "a/b", "null")
    hub.start("one", "a", "null")
    with pytest.raises(InstanceRunning):
        hub.start("one", "a", "null")
    everything = (NOW - timedelta(days=1), NOW, frozenset({"Completed", "Pending", "Running"}))
    assert hub.purge(*everything) == 0
    work = hub.take()
    assert work is not None
    hub.episode_done(work, {"isDone": True, "schemaVersion": "V2", "actions": [[]], "output": 1})
    assert hub.purge(*everything) == 1
    assert hub.status("a") is None
