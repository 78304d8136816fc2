"""The control API: the requests that it runs and those that it refuses."""

from __future__ import annotations

import json
import threading

import pytest

from localcloud.common.call_log import CallLog
from localcloud.common.control_api import ControlActions, ControlApi, unlocked
from localcloud.common.faults import CountedFault, FaultInjector
from localcloud.common.http_server import Request
from shared.runtime.clock import VirtualClock


class World:
    """The minimum that actions need."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.lock = threading.RLock()
        self.faults: FaultInjector[CountedFault] = FaultInjector(self.clock)
        self.calls: CallLog[str] = CallLog()


class Actions(ControlActions):
    """An action under the lock, one that waits without it, and a private method."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.world = world

    def held(self, times: int = 1) -> int:
        return self._doubled(times) if _is_held(self.world.lock) else 0

    @unlocked
    def free(self) -> bool:
        return not _is_held(self.world.lock)

    def _doubled(self, times: int) -> int:
        return 2 * times


def _is_held(lock: threading.RLock) -> bool:
    """Return whether another thread cannot take the lock now."""
    taken: list[bool] = []

    def take() -> None:
        taken.append(lock.acquire(blocking=False))
        if taken[0]:
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return not taken[0]


@pytest.fixture
def world() -> World:
    """Return an empty state."""
    return World()


def ask(
    world: World, action: str, arguments: object = None, method: str = "POST", **headers: str
) -> tuple[int, dict[str, object]]:
    """Send one request to the API; underscores in header names become hyphens."""
    body = b"" if arguments is None else json.dumps(arguments).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(method, f"/_local/{action}", "", named, body, "http://127.0.0.1:1")
    answer = ControlApi(Actions(world)).answer(request)
    assert isinstance(answer.body, bytes)
    return answer.status, json.loads(answer.body)


def test_action_runs_under_the_lock_unless_marked(world: World) -> None:
    """An action that waits for a function must leave the lock to it."""
    assert ask(world, "held", {"times": 3}) == (200, {"result": 6})
    assert ask(world, "free") == (200, {"result": True})


def test_public_methods_are_the_actions() -> None:
    """Inherited methods are included, private ones are not."""
    assert {"held", "free", "advance", "clear_faults", "clear_calls", "event_faults"} == Actions.NAMES


@pytest.mark.parametrize(
    ("action", "arguments", "method", "headers", "status"),
    [
        pytest.param("held", None, "GET", {}, 405, id="not posted"),
        pytest.param("_doubled", {"times": 1}, "POST", {}, 404, id="private"),
        pytest.param("__init__", None, "POST", {}, 404, id="built in"),
        pytest.param("none", None, "POST", {}, 404, id="unknown"),
        pytest.param("held", {"how": 1}, "POST", {}, 400, id="unknown argument"),
        pytest.param("held", [1], "POST", {}, 400, id="no object"),
        pytest.param("held", None, "POST", {"origin": "http://127.0.0.1:1"}, 403, id="a page's script"),
        pytest.param("held", None, "POST", {"sec_fetch_site": "cross-site"}, 403, id="a page's form"),
    ],
)
def test_invalid_request_is_refused_with_a_reason(
    world: World, action: str, arguments: object, method: str, headers: dict[str, str], status: int
) -> None:
    """The status has the class of the error, and the body the reason."""
    answered, document = ask(world, action, arguments, method, **headers)
    assert answered == status
    assert document["error"]
