"""A local GCP closes only after the requests in progress."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from localcloud.common import http_server
from localcloud.gcp.platform.names import PROJECT
from localcloud.gcp.services.warehouse import Warehouse
from tests.limits import HANG_S
from tests.localcloud.common.test_http_server import in_background
from tests.localcloud.gcp.conftest import Clients, Opener

QUERY = {"query": "SELECT 1 AS one", "useLegacySql": False}


def test_cloud_closes_after_a_running_query(
    opened: Opener, clients: Callable[..., Clients], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The query returns all of its data: the warehouse closes after it."""
    running, waited_for, order = threading.Event(), threading.Event(), []
    cursor, close, join = Warehouse.cursor, Warehouse.close, http_server._Server.join

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

    def told_join(server: http_server._Server) -> None:
        if gcp.cloud.endpoint.endswith(f":{server.server_port}"):
            waited_for.set()
        join(server)

    monkeypatch.setattr(Warehouse, "close", last_close)
    monkeypatch.setattr(http_server._Server, "join", told_join)
    gcp = clients(opened())
    monkeypatch.setattr(Warehouse, "cursor", slow_cursor)
    client = in_background(lambda: gcp.post(f"bigquery/v2/projects/{PROJECT}/queries", QUERY))
    assert running.wait(HANG_S)
    gcp.cloud.__exit__(None, None, None)
    client.join(HANG_S)
    assert order == ["query ended", "warehouse closed"]
