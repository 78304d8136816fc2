"""Faults by the number of a call: replaced answers, lost ones, and calls that are not made."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import BytesIO

import pytest

from localcloud.common.http_server import FileRange, LoopbackServer, Request, Response
from localcloud.common.wire_faults import WireFault, WireFaults, body_of
from tests.limits import HANG_S

BODY = b"0123456789"


@contextmanager
def served(faults: WireFaults) -> Iterator[tuple[list[str], http.client.HTTPConnection]]:
    """Yield the paths that the application has handled, and a connection to it."""
    handled: list[str] = []

    def application(request: Request) -> Response:
        handled.append(request.path)
        return Response(body=FileRange(BytesIO(BODY), 0, len(BODY)) if request.path == "/file" else BODY)

    server = LoopbackServer(faults.around(application))
    server.start()
    try:
        port = int(server.endpoint.rpartition(":")[2])
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_S)) as connection:
            yield handled, connection
    finally:
        server.stop()


def get(connection: http.client.HTTPConnection, path: str = "/") -> tuple[int, bytes]:
    """Return status and body of a request."""
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_only_the_numbered_calls_are_affected() -> None:
    """Calls count from `begin` on; the control API does not count, and the cloud does not handle what is replaced."""
    faults = WireFaults()
    with served(faults) as (handled, connection):
        get(connection, "/before")
        faults.begin(WireFault(range(2, 3), before=lambda _request: Response(503, body=b"no")))
        answers = [get(connection, path)[0] for path in ("/1", "/_local/x", "/2", "/3")]
        faults.end()
        get(connection, "/after")
    assert answers == [200, 200, 503, 200]
    assert handled == ["/before", "/1", "/_local/x", "/3", "/after"]
    assert [one.path for one in faults.seen] == ["/1", "/2", "/3"]
    assert faults.hits == 1


@pytest.mark.parametrize("path", ["/", "/file"])
def test_lost_answer_closes_the_connection(path: str) -> None:
    """The call is done, and the client gets no byte."""
    faults = WireFaults()
    faults.begin(WireFault(range(1, 2), after=lambda _request, response: Response(body=response.body, lost=True)))
    with served(faults) as (handled, connection):
        with pytest.raises(http.client.RemoteDisconnected):
            get(connection, path)
        connection.close()
        assert get(connection, path) == (200, BODY)
    assert handled == [path, path]


@pytest.mark.parametrize("path", ["/", "/file"])
def test_answer_that_is_cut_ends_before_its_announced_length(path: str) -> None:
    """The client can tell that half of the body is missing."""
    faults = WireFaults()

    def cut(_request: Request, response: Response) -> Response:
        response.cut = True
        return response

    faults.begin(WireFault(range(1, 2), after=cut))
    with served(faults) as (_, connection), pytest.raises(http.client.IncompleteRead) as raised:
        get(connection, path)
    assert raised.value.partial == BODY[:5]


def test_body_of_a_file_can_be_read_and_still_be_sent() -> None:
    """A fault that changes a body reads it first."""
    faults = WireFaults()

    def doubled(_request: Request, response: Response) -> Response:
        response.body = body_of(response) * 2
        return response

    faults.begin(WireFault(range(1, 2), after=doubled))
    with served(faults) as (_, connection):
        assert get(connection, "/file") == (200, BODY * 2)
