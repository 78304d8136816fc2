"""The server under the local GCP: it ends only when nothing that it serves is still at work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import requests

from localcloud.gcp import http
from localcloud.gcp.deployment import PROJECT
from localcloud.gcp.http import LoopbackServer, Request, Response
from localcloud.gcp.warehouse import Warehouse
from tests.limits import HANG_S
from tests.localcloud.gcp.conftest import Clients, Opener

QUERY = {"query": "SELECT 1 AS one", "useLegacySql": False}


def _in_background(work: Callable[[], object]) -> threading.Thread:
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
    client = _in_background(lambda: requests.get(server.endpoint, timeout=HANG_S))
    assert began.wait(HANG_S)
    stopping = _in_background(server.stop)
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


def test_a_cloud_closes_after_the_query_that_runs_in_it(
    opened: Opener, clients: Callable[..., Clients], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query that runs while the local cloud closes has its data to the end: the warehouse closes after it."""
    running, waited_for, order = threading.Event(), threading.Event(), []
    cursor, close, join = Warehouse.cursor, Warehouse.close, http._Server.join

    @contextmanager
    def slow_cursor(warehouse: Warehouse) -> Iterator[object]:
        running.set()
        waited_for.wait(HANG_S)
        with cursor(warehouse) as reader:
            yield reader
            order.append("query ended")

    def last_close(warehouse: Warehouse) -> None:
        order.append("warehouse closed")
        close(warehouse)

    def told_join(server: http._Server) -> None:
        if gcp.cloud.endpoint.endswith(f":{server.server_port}"):
            waited_for.set()
        join(server)

    monkeypatch.setattr(Warehouse, "close", last_close)
    monkeypatch.setattr(http._Server, "join", told_join)
    gcp = clients(opened())
    monkeypatch.setattr(Warehouse, "cursor", slow_cursor)
    client = _in_background(lambda: gcp.post(f"bigquery/v2/projects/{PROJECT}/queries", QUERY))
    assert running.wait(HANG_S)
    gcp.cloud.__exit__(None, None, None)
    client.join(HANG_S)
    assert order == ["query ended", "warehouse closed"]
