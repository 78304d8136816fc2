"""The HTTP server of the local clouds: loopback only, one thread for each connection, no dependency."""

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
    """A request as it was received.

    `path` and `query_string` are still percent-encoded, header names are in lower case, `body` is complete.
    `endpoint` is the address of the server, without a trailing slash.
    """

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    body: bytes
    endpoint: str

    @cached_property
    def query(self) -> Mapping[str, list[str]]:
        """The query's parameters, decoded."""
        return parse_qs(self.query_string, keep_blank_values=True)

    def one(self, name: str, default: str = "") -> str:
        """Return a query parameter's only value."""
        return self.query.get(name, [default])[0]

    def flag(self, name: str) -> bool:
        """Return whether a query parameter is true."""
        return self.one(name).lower() in ("true", "1")


@dataclass(frozen=True)
class FileRange:
    """A part of an open file, to be sent without being read into memory; closed when it is sent."""

    source: BinaryIO
    start: int
    length: int


@dataclass
class Response:
    """An answer. With `hang` the connection stays open and nothing is sent."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | FileRange = b""
    hang: bool = False

    def length(self) -> int:
        """Return the length of the body in bytes."""
        return self.body.length if isinstance(self.body, FileRange) else len(self.body)


Application = Callable[[Request], Response]


class LoopbackServer:
    """Serves an application on 127.0.0.1; port 0 takes a free one. Raises OSError when the port is taken.

    `max_body` limits request bodies, in bytes; a longer one is answered 413. An application that raises is answered
    500 with the traceback, so that a defect of a local cloud is visible to its caller.
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
        """Accept connections from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End every connection, idle and hanging ones included, and return when no thread is at work any more.

        A request that is being answered is finished first, because its resources are closed after the server. A second
        call, or one for a server that never started, has no effect.
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
        """Wait until no thread answers a connection any more."""
        with self._quiet:
            self._quiet.wait_for(lambda: not self._open)

    def hang_up(self) -> None:
        with self._quiet:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that went away; any other error was answered with 500 before it came here."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # Head and body leave in one packet: two would wait for the client's delayed acknowledgment.
    wbufsize = 1 << 16

    def handle_expect_100(self) -> bool:
        """Let the client send its body at once: it waits a second for an answer that stays in our buffer."""
        allowed = super().handle_expect_100()
        self.wfile.flush()
        return allowed

    def _answer(self) -> None:
        body = self._body()
        if body is None:
            return
        # Clients that take this server for a proxy send a whole URL.
        target = urlsplit(self.path)._replace(scheme="", netloc="").geturl() if "://" in self.path[:8] else self.path
        path, _, query = target.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        response = self._respond(Request(self.command, path, query, headers, body, self.server.endpoint))
        if response.hang:
            self._hang()
            return
        self.send_response_only(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        # Only the answer to a HEAD request has a length of its own.
        counted = any(name.lower() == "content-length" for name in response.headers)
        if response.status not in (204, 304) and not counted:
            self.send_header("Content-Length", str(response.length()))
        self.end_headers()
        self._send(response.body, silent=self.command == "HEAD")
        self.wfile.flush()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _answer

    def _respond(self, request: Request) -> Response:
        try:
            return self.server.application(request)
        except Exception:  # noqa: BLE001 - a defect of a local cloud is answered and shown, never a dropped connection
            text = f"The local cloud failed:\n{traceback.format_exc()[-4000:]}"
            return Response(500, {"Content-Type": "text/plain; charset=utf-8"}, text.encode())

    def _body(self) -> bytes | None:
        """Read the body; None if it is refused. Raises ConnectionError where the client leaves before its end."""
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

    def _send(self, body: bytes | FileRange, *, silent: bool) -> None:
        if isinstance(body, bytes):
            self.wfile.write(b"" if silent else body)
            return
        with body.source as source:
            source.seek(body.start)
            left = 0 if silent else body.length
            while left and (part := source.read(min(left, _CHUNK))):
                self.wfile.write(part)
                left -= len(part)

    def _hang(self) -> None:
        """Send nothing until the client hangs up or the server stops."""
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
        """Write no log: the call log of the cloud has every request."""
