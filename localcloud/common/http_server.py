"""The HTTP server of the local clouds: loopback only, one thread per connection, standard library only."""

from __future__ import annotations

import contextlib
import socket
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO
from urllib.parse import parse_qs, urlsplit

from localcloud.common.foreground import POLL_S

LOOPBACK = "127.0.0.1"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Request:
    """A received HTTP request.

    `path` and `query_string` are still percent-encoded, header names are in lower case, `body` is complete.
    `endpoint` is the server's URL without a trailing slash.
    """

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    body: bytes
    endpoint: str

    @cached_property
    def query(self) -> Mapping[str, list[str]]:
        """The decoded query parameters."""
        return parse_qs(self.query_string, keep_blank_values=True)

    def one(self, name: str, default: str = "") -> str:
        """Return the first value of a query parameter, or `default`."""
        return self.query.get(name, [default])[0]

    def flag(self, name: str) -> bool:
        """Return whether a query parameter is true."""
        return self.one(name).lower() in ("true", "1")


@dataclass(frozen=True)
class FileRange:
    """A range of an open file, sent without reading it into memory; closed after it is sent."""

    source: BinaryIO
    start: int
    length: int


@dataclass
class Response:
    """An HTTP response.

    With `hang`, the connection stays open and nothing is sent. With `lost`, it is closed and nothing is sent; with
    `cut`, it is closed after half of the body, whose whole length the headers announce.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | FileRange = b""
    hang: bool = False
    lost: bool = False
    cut: bool = False

    def length(self) -> int:
        """Return the length of the body in bytes."""
        return self.body.length if isinstance(self.body, FileRange) else len(self.body)


Application = Callable[[Request], Response]


class LoopbackServer:
    """Serves an application on 127.0.0.1; port 0 selects a free port. Raises OSError when the port is taken.

    `max_body` limits request bodies, in bytes; longer bodies get a 413 response. An exception in the application
    gets a 500 response with the traceback, so that the caller can see a defect of the local cloud.
    """

    def __init__(self, application: Application, port: int = 0, max_body: int | None = None) -> None:
        self._server = _Server((LOOPBACK, port), _Handler)
        self._server.application, self._server.max_body = application, max_body
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name="local-cloud", daemon=True
        )

    @property
    def endpoint(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return self._server.endpoint

    def start(self) -> None:
        """Start accepting connections."""
        self._thread.start()

    def stop(self) -> None:
        """Close every connection, including idle and hanging ones, and wait for all threads to finish.

        Requests in progress are finished first, because their resources are closed after the server. Has no effect
        on a server that was already stopped or never started.
        """
        self._server.stopping.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.hang_up()
        self._server.server_close()
        self._server.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    application: Application
    max_body: int | None

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._quiet = threading.Condition()
        super().__init__(address, handler)
        self.endpoint = f"http://{LOOPBACK}:{self.server_port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._quiet:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._quiet:
            self._open.discard(request)
            self._quiet.notify_all()

    def join(self) -> None:
        """Wait until all connection threads have finished."""
        with self._quiet:
            self._quiet.wait_for(lambda: not self._open)

    def hang_up(self) -> None:
        with self._quiet:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnected; any other error already got a 500 response."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # Send head and body in one packet: two packets would wait for the client's delayed acknowledgment.
    wbufsize = 1 << 16

    def handle_expect_100(self) -> bool:
        """Send 100 Continue immediately: left in the write buffer, it would delay the client by a second."""
        allowed = super().handle_expect_100()
        self.wfile.flush()
        return allowed

    def _answer(self) -> None:
        body = self._body()
        if body is None:
            return
        # Clients that use this server as a proxy send an absolute URL.
        target = urlsplit(self.path)._replace(scheme="", netloc="").geturl() if "://" in self.path[:8] else self.path
        path, _, query = target.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        response = self._respond(Request(self.command, path, query, headers, body, self.server.endpoint))
        if response.hang:
            self._hang()
            return
        self.close_connection |= response.lost or response.cut
        if response.lost:
            _close(response.body)
            return
        self.send_response_only(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        # Only the response to a HEAD request sets its own length.
        counted = any(name.lower() == "content-length" for name in response.headers)
        if response.status not in (204, 304) and not counted:
            self.send_header("Content-Length", str(response.length()))
        self.end_headers()
        self._send(response.body, 0 if self.command == "HEAD" else response.length() // (2 if response.cut else 1))
        self.wfile.flush()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _answer

    def _respond(self, request: Request) -> Response:
        try:
            return self.server.application(request)
        except Exception:  # noqa: BLE001 - answer 500 to a defect instead of dropping the connection
            text = f"The local cloud failed:\n{traceback.format_exc()[-4000:]}"
            return Response(500, {"Content-Type": "text/plain; charset=utf-8"}, text.encode())

    def _body(self) -> bytes | None:
        """Read the body; None if it is refused. Raises ConnectionError if the client disconnects before its end."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                continue
            return b"".join(parts)
        given = self.headers.get("Content-Length") or "0"
        most = self.server.max_body
        if not given.isdigit() or (most is not None and int(given) > most):
            self.send_error(413 if given.isdigit() else 400)
            return None
        body = self.rfile.read(int(given))
        if len(body) < int(given):
            raise ConnectionError("the client closed the connection before the end of its request")
        return body

    def _send(self, body: bytes | FileRange, length: int) -> None:
        if isinstance(body, bytes):
            self.wfile.write(body[:length])
            return
        with body.source as source:
            source.seek(body.start)
            left = length
            while left and (part := source.read(min(left, _CHUNK))):
                self.wfile.write(part)
                left -= len(part)

    def _hang(self) -> None:
        """Send nothing until the client disconnects or the server stops."""
        self.close_connection = True
        self.connection.settimeout(0.05)
        while not self.server.stopping.is_set():
            try:
                if not self.connection.recv(1):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's own signature
        """Do not log: the cloud's call log records every request."""


def _close(body: bytes | FileRange) -> None:
    if isinstance(body, FileRange):
        body.source.close()
