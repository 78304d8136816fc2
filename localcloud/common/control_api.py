"""The control API of a local cloud: actions on its state, also served as `POST /_local/<action>`."""

from __future__ import annotations

import functools
import inspect
import json
import threading
from collections.abc import Callable
from dataclasses import asdict
from types import FunctionType
from typing import Any, ClassVar, Protocol, TypeVar, cast

from localcloud.common.event_faults import EventFaults
from localcloud.common.faults import FaultInjector
from localcloud.common.http_server import Request, Response
from shared.runtime.clock import Clock, VirtualClock

PREFIX = "/_local/"
F = TypeVar("F", bound=Callable[..., Any])


class Clearable(Protocol):
    """A call log."""

    def clear(self) -> None:
        """Remove all entries."""


class State(Protocol):
    """The part of a cloud's state that the common actions use."""

    @property
    def clock(self) -> Clock: ...
    @property
    def lock(self) -> threading.RLock: ...
    @property
    def faults(self) -> FaultInjector[Any]: ...
    @property
    def calls(self) -> Clearable: ...


def unlocked(method: F) -> F:
    """Let an action run without the lock, because it waits for a function that calls this local cloud."""
    method.unlocked = True  # type: ignore[attr-defined]  # `ControlActions` reads this attribute
    return method


class ControlActions:
    """The base of a cloud's control actions: every public method is an action.

    Actions take and return plain JSON values, so that they can be called over HTTP. A subclass's actions run under
    the lock of the state unless they are `unlocked`. They raise KeyError for an unknown name and ValueError for an
    invalid argument.
    """

    NAMES: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, world: State) -> None:
        self._state = world

    def __init_subclass__(cls) -> None:
        names = set()
        for base in cls.__mro__:
            for name, value in vars(base).items():
                if isinstance(value, FunctionType) and not name.startswith("_"):
                    names.add(name)
                    if base is cls and not hasattr(value, "unlocked"):
                        setattr(cls, name, _locked(value))
        cls.NAMES = frozenset(names)

    def clear_faults(self) -> None:
        """Remove all faults, denials, limits and latencies."""
        self._state.faults.clear()

    def clear_calls(self) -> None:
        """Empty the call log."""
        self._state.calls.clear()

    def event_faults(
        self, delay_s: float = 0, spread_s: float = 0, copies: int = 1, loss: float = 0
    ) -> dict[str, float]:
        """Delay, reorder, repeat or lose the cloud's events from now on; see `EventFaults`.

        Returns the faults and, as `lost`, the number of events lost so far. Raises ValueError for values out of range.
        """
        events = self._state.faults.events
        events.faults = EventFaults(delay_s=delay_s, spread_s=spread_s, copies=copies, loss=loss)
        return {**asdict(events.faults), "lost": events.lost}

    def advance(self, seconds: float) -> str:
        """Move a virtual clock forward and return the new time. Raises RuntimeError on the system clock."""
        clock = self._state.clock
        if not isinstance(clock, VirtualClock):
            message = "The system clock cannot be advanced. Open the local cloud with a VirtualClock."
            raise RuntimeError(message)  # noqa: TRY004 - no argument has the wrong type
        clock.advance(seconds)
        return clock.now().isoformat()

    def _settle(self) -> None:
        """Apply pending changes that are due; called before each action."""


def _locked(method: F) -> F:
    @functools.wraps(method)
    def inner(self: ControlActions, *args: Any, **kwargs: Any) -> Any:
        with self._state.lock:
            self._settle()
            return method(self, *args, **kwargs)

    return cast("F", inner)


class ControlApi:
    """Answers requests below `/_local/`.

    The request body is a JSON object whose keys are the action's parameters. The response is `{"result": …}`, or
    `{"error": …}` with status 400 for invalid arguments and 404 for an unknown action. Requests from browsers are
    refused, because any web page could send them. `refusals` are the cloud's own exceptions that also map to 400.
    """

    def __init__(self, actions: ControlActions, *refusals: type[Exception]) -> None:
        self._actions = actions
        self._refusals: tuple[type[Exception], ...] = (
            KeyError,
            TypeError,
            ValueError,
            RuntimeError,
            TimeoutError,
            *refusals,
        )

    def owns(self, request: Request) -> bool:
        """Return whether a request is for the control API."""
        return request.path.startswith(PREFIX)

    def answer(self, request: Request) -> Response:
        """Run the action named in the path and return its result."""
        name, names = request.path.removeprefix(PREFIX).strip("/"), self._actions.NAMES
        if request.method != "POST":
            return _json(405, {"error": f"method {request.method} is not supported; use POST /_local/<action>"})
        site = request.headers.get("sec-fetch-site", "none")
        if request.headers.get("origin") or site not in ("none", "same-origin"):
            return _json(403, {"error": "requests from browsers are refused"})
        if name not in names:
            return _json(404, {"error": f"no action {name!r}", "actions": sorted(names)})
        action = getattr(self._actions, name)
        try:
            arguments = dict(json.loads(request.body or b"{}"))
            inspect.signature(action).bind(**arguments)
            result = action(**arguments)
        except self._refusals as error:
            return _json(400, {"error": f"{type(error).__name__}: {error}"})
        return _json(200, {"result": result})


def _json(status: int, document: dict[str, Any]) -> Response:
    return Response(status, {"Content-Type": "application/json"}, json.dumps(document, default=str).encode())
