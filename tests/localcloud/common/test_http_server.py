"""The HTTP server of the local clouds: it stops only when no request is still being answered."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

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


@contextmanager
def echoing(max_body: int | None = None) -> Iterator[tuple[LoopbackServer, http.client.HTTPConnection]]:
    """Serve what a request was read as, and fail for the path `/fail`."""

    def echo(request: Request) -> Response:
        if request.path == "/fail":
            raise KeyError("a defect")
        if request.method == "HEAD":
            return Response(200, {"Content-Length": "1234"})
        seen = {"path": request.path, "query": request.query, "body": request.body.decode(), "at": request.endpoint}
        return Response(200, {"Content-Type": "application/json"}, json.dumps(seen).encode())

    server = LoopbackServer(echo, 0, max_body)
    server.start()
    connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=HANG_S)
    try:
        yield server, connection
    finally:
        connection.close()
        server.stop()


def test_requests_are_read_whole_on_one_connection() -> None:
    """Bodies in chunks, targets in absolute form and encoded paths are understood; a connection serves them all."""
    with echoing() as (server, connection):
        for target, body, chunked, path, query in (
            ("/a%2Fb?x=1&x=&y=%20", b"whole", False, "/a%2Fb", {"x": ["1", ""], "y": [" "]}),
            (f"{server.endpoint}/absolute?z", b"", False, "/absolute", {"z": [""]}),
            ("/two//slashes", iter([b"in ", b"chunks"]), True, "/two//slashes", {}),
        ):
            connection.request("POST", target, body, encode_chunked=chunked)
            seen = json.loads(connection.getresponse().read())
            text = "in chunks" if chunked else str(body, "ascii") if isinstance(body, bytes) else ""
            assert seen == {"path": path, "query": query, "body": text, "at": server.endpoint}


def test_an_answer_to_head_keeps_the_length_of_what_it_describes() -> None:
    """Clients learn an object's size from it, and read no body."""
    with echoing() as (_, connection):
        connection.request("HEAD", "/object")
        answer = connection.getresponse()
        assert (answer.headers["Content-Length"], answer.read()) == ("1234", b"")


def test_a_defect_is_answered_and_shown() -> None:
    """An application that raises is a 500 with the traceback, never a dropped connection."""
    with echoing() as (_, connection):
        connection.request("GET", "/fail")
        answer = connection.getresponse()
        assert answer.status == 500
        assert b"KeyError: 'a defect'" in answer.read()


def test_a_body_over_the_limit_is_refused() -> None:
    """The limit itself is accepted, one byte more is 413."""
    for length, status in ((10, 200), (11, 413)):
        with echoing(max_body=10) as (_, connection):
            connection.request("POST", "/", b"x" * length)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status


def test_client_that_asks_first_gets_100_continue_at_once() -> None:
    """S3's clients send headers with `Expect: 100-continue` and wait; the answer may not stay in a buffer."""
    server = LoopbackServer(lambda request: Response(body=request.body), 0)
    server.start()
    try:
        host, port = server.endpoint.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=HANG_S) as client:
            client.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 100 ")
            client.sendall(b"ok")
            assert client.recv(1000).endswith(b"ok")
    finally:
        server.stop()
