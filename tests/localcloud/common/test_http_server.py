"""The HTTP server of the local clouds: it stops only when no request is still being answered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
import requests

from localcloud.common.http_server import LoopbackServer, Request, Response
from tests.limits import HANG_S


def in_background(work: Callable[[], object]) -> threading.Thread:
    """Do work whose connection may be cut."""

    def run() -> None:
        with suppress(requests.ConnectionError):
            work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_stop_waits_for_a_request_that_is_being_answered() -> None:
    """The server does not stop while a thread of it works: what that works with is taken down next."""
    began, go, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(_request: Request) -> Response:
        began.set()
        assert go.wait(HANG_S)
        ended.set()
        return Response()

    server = LoopbackServer(slow, 0)
    server.start()
    client = in_background(lambda: requests.get(server.endpoint, timeout=HANG_S))
    assert began.wait(HANG_S)
    stopping = in_background(server.stop)
    client.join(HANG_S)  # its connection is ended at once; the work behind it goes on
    assert stopping.is_alive()
    go.set()
    stopping.join(HANG_S)
    assert not stopping.is_alive()
    assert ended.is_set()


def test_a_server_that_never_started_stops_and_stops_again() -> None:
    """Stopping needs no knowledge of how far an opening came."""
    server = LoopbackServer(lambda _request: Response(), 0)
    server.stop()
    server.stop()
    with pytest.raises(requests.ConnectionError):
        requests.get(server.endpoint, timeout=HANG_S)
