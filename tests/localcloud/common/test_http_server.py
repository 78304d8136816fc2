"""The HTTP server of the local clouds."""

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
    """Do work in a thread whose connection may be cut."""

    def run() -> None:
        with suppress(requests.ConnectionError):
            work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_stop_waits_for_requests_in_progress() -> None:
    """The resources that a request uses are closed after the server."""
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
    client.join(HANG_S)  # its connection ends immediately; its work continues
    assert stopping.is_alive()
    go.set()
    stopping.join(HANG_S)
    assert not stopping.is_alive()
    assert ended.is_set()


def test_server_that_never_started_can_be_stopped_repeatedly() -> None:
    """The caller need not know how far opening came."""
    server = LoopbackServer(lambda _request: Response(), 0)
    server.stop()
    server.stop()
    with pytest.raises(requests.ConnectionError):
        requests.get(server.endpoint, timeout=HANG_S)


@contextmanager
def echoing(max_body: int | None = None) -> Iterator[tuple[LoopbackServer, http.client.HTTPConnection]]:
    """Serve the parsed request as JSON, and fail for the path `/fail`."""

    def echo(request: Request) -> Response:
        if request.path == "/fail":
            raise KeyError("a defect")
        if request.method == "HEAD":
            return Response(200, {"Content-Length": "1234"})
        received = {"path": request.path, "query": request.query, "body": request.body.decode(), "at": request.endpoint}
        return Response(200, {"Content-Type": "application/json"}, json.dumps(received).encode())

    server = LoopbackServer(echo, 0, max_body)
    server.start()
    connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=HANG_S)
    try:
        yield server, connection
    finally:
        connection.close()
        server.stop()


def test_requests_on_one_connection_are_parsed_completely() -> None:
    """Chunked bodies, absolute targets and encoded paths are supported."""
    with echoing() as (server, connection):
        for target, body, chunked, path, query in (
            ("/a%2Fb?x=1&x=&y=%20", b"whole", False, "/a%2Fb", {"x": ["1", ""], "y": [" "]}),
            (f"{server.endpoint}/absolute?z", b"", False, "/absolute", {"z": [""]}),
            ("/two//slashes", iter([b"in ", b"chunks"]), True, "/two//slashes", {}),
        ):
            connection.request("POST", target, body, encode_chunked=chunked)
            received = json.loads(connection.getresponse().read())
            text = "in chunks" if chunked else str(body, "ascii") if isinstance(body, bytes) else ""
            assert received == {"path": path, "query": query, "body": text, "at": server.endpoint}


def test_head_response_has_the_length_of_the_object() -> None:
    """Clients learn an object's size from it, and read no body."""
    with echoing() as (_, connection):
        connection.request("HEAD", "/object")
        answer = connection.getresponse()
        assert (answer.headers["Content-Length"], answer.read()) == ("1234", b"")


def test_application_error_is_500_with_the_traceback() -> None:
    """The connection is not dropped."""
    with echoing() as (_, connection):
        connection.request("GET", "/fail")
        answer = connection.getresponse()
        assert answer.status == 500
        assert b"KeyError: 'a defect'" in answer.read()


def test_body_over_the_limit_is_413() -> None:
    """A body of exactly the limit is accepted."""
    for length, status in ((10, 200), (11, 413)):
        with echoing(max_body=10) as (_, connection):
            connection.request("POST", "/", b"x" * length)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status


def test_expect_header_gets_100_continue_without_delay() -> None:
    """S3 clients send `Expect: 100-continue` and wait, so the response must be flushed."""
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
