"""Faults by the number of a call: what the client of a local cloud receives, whatever the call and its result are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from localcloud.common.http_server import Application, FileRange, Request, Response

Before = Callable[[Request], Response | None]
After = Callable[[Request, Response], Response]


def undisturbed(_request: Request) -> None:
    """Let the call be handled."""
    return


def unchanged(_request: Request, response: Response) -> Response:
    """Return the response as it is."""
    return response


@dataclass(frozen=True)
class WireFault:
    """What happens to the calls whose number, which counts from 1, is in `numbers`.

    `before` may answer a call in place of the cloud, which then does not handle it. `after` gets each response of the
    cloud and returns the one to send.
    """

    numbers: range
    before: Before = undisturbed
    after: After = unchanged


@dataclass
class WireFaults:
    """Counts the calls to a local cloud from `begin` on, and applies one fault to some of them. Thread-safe.

    Calls of the control API are not counted. `seen` has the method and path of each counted call, in order of arrival;
    `hits` counts those that the fault affected.
    """

    fault: WireFault | None = None
    seen: list[Request] = field(default_factory=list)
    hits: int = 0
    _counting: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, fault: WireFault | None = None) -> None:
        """Count from 1 again, and apply `fault`."""
        with self._lock:
            self.fault, self.seen, self.hits, self._counting = fault, [], 0, True

    def end(self) -> None:
        """Stop counting, and remove the fault; `seen` and `hits` stay as they are."""
        with self._lock:
            self.fault, self._counting = None, False

    def around(self, application: Application) -> Application:
        """Return an application that answers as this one does, with the faults."""

        def answer(request: Request) -> Response:
            fault = self._fault_of(request)
            if fault is None:
                return application(request)
            early = fault.before(request)
            return early if early is not None else fault.after(request, application(request))

        return answer

    def _fault_of(self, request: Request) -> WireFault | None:
        if request.path.startswith("/_local/"):
            return None
        with self._lock:
            if not self._counting:
                return None
            self.seen.append(request)
            if self.fault is None or len(self.seen) not in self.fault.numbers:
                return None
            self.hits += 1
            return self.fault


def body_of(response: Response) -> bytes:
    """Return the body of a response, which can be sent only once if it is a file."""
    if isinstance(response.body, FileRange):
        with response.body.source as source:
            source.seek(response.body.start)
            response.body = source.read(response.body.length)
    return response.body
