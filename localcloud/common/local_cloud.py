"""The base class of the three local clouds: a context manager that serves a cloud while it is open."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, TextIO

from localcloud.common.control_api import ControlActions
from localcloud.common.event_faults import EventFaults
from localcloud.common.faults import FaultInjector
from localcloud.common.foreground import announced, until_signalled
from localcloud.common.http_server import LoopbackServer

_SETTLE_S = 0.5


class LocalCloud(ABC):
    """A cloud on 127.0.0.1. Its control actions are also methods of this class: `cloud.advance(60)`.

    Subclasses open their resources in `_open`, set `_server`, and register cleanup on `_stack`.
    """

    ACTIONS: ClassVar[type[ControlActions]]

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._server: LoopbackServer | None = None

    @property
    @abstractmethod
    def actions(self) -> ControlActions:
        """The control actions."""

    @property
    @abstractmethod
    def faults(self) -> FaultInjector[Any]:
        """The fault injector."""

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """Return the environment variables that point clients, tools and the function to this cloud."""

    @abstractmethod
    def _open(self) -> None:
        """Start everything."""

    @property
    def endpoint(self) -> str:
        """`http://127.0.0.1:PORT`. Raises RuntimeError when the cloud is not open."""
        if self._server is None:
            raise RuntimeError(f"{type(self).__name__} is not open")
        return self._server.endpoint

    def settle(self) -> int:
        """Apply pending changes that are due; returns the number of deliveries. `serve` calls it every half second."""
        return 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in self.ACTIONS.NAMES:
            action: Callable[..., Any] = getattr(self.actions, name)
            return action
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._server = None


def serve(
    cloud: LocalCloud,
    *,
    throttle_per_second: float = 0,
    latency_s: float = 0,
    events: EventFaults | None = None,
    env_file: Path | None = None,
    out: TextIO | None = None,
) -> int:
    """Open a cloud, print `export NAME=value` lines and `ready`, then serve until a signal; returns the exit code.

    `throttle_per_second` limits every operation to that many calls per second (0: no limit), with a burst of one
    second's worth; `latency_s` delays every response; `events` are the faults of its events. With `env_file`, the lines
    are written to that file (see `announced`). Must be called on the main thread, because it handles signals. Raises
    whatever opening the cloud raises, and OSError when the port is taken.
    """
    with until_signalled() as stop, cloud:
        if throttle_per_second:
            cloud.faults.throttle_all(throttle_per_second)
        if latency_s:
            cloud.faults.latency_all(latency_s)
        if events:
            cloud.faults.events.faults = events
        with announced(cloud.environment(), out or sys.stdout, env_file):
            # Pending changes take effect even without a request.
            while not stop.wait(_SETTLE_S):
                cloud.settle()
    return 0
