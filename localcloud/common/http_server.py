"""The HTTP server under the local cloud: loopback only, one thread for each connection, no dependency."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO
from urllib.parse import parse_qs

from localcloud.common.foreground import POLL_S

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Request:
    """A request as it came: `path` still percent-encoded, header names in lower case."""

    verb: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    def one(self, name: str, default: str = "") -> str:
        """Return a query parameter's only value."""
        return self.query.get(name, [default])[0]

    def flag(self, name: str) -> bool:
        return self.one(name).lower() in ("true", "1")


@dataclass(frozen=True)
class Stretch:
    """A part of an open file, to be sent without being read into memory; closed when it is sent."""

    source: BinaryIO
    start: int
    length: int


@dataclass
class Response:
    """An answer; `hang` holds the connection open and never answers."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Stretch = b""
    hang: bool = False

    def length(self) -> int:
        return self.body.length if isinstance(self.body, Stretch) else len(self.body)


Application = Callable[[Request], Response]


class LoopbackServer:
    """Serves an application on 127.0.0.1; port 0 takes a free one. Raises OSError when the port is taken."""

    def __init__(self, application: Application, port: int) -> None:
        self._stopping = threading.Event()
        self._server = _Server(("127.0.0.1", port), _handler(application, self._stopping))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End every connection, the idle and the hanging ones too, and return when all is quiet.

        A request that is being answered comes to its end first: what it works with is taken down after the server.
        Calling it again, or for a server that never started, does no harm.
        """
        self._stopping.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.hang_up()
        self._server.server_close()
        self._server.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: set[socket.socket] = set()
        self._quiet = threading.Condition()
        super().__init__(address, handler)

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
        """A client that went away is no error; anything else was answered with 500 before it came here."""


def _handler(application: Application, stopping: threading.Event) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 1 << 16

        def _answer(self) -> None:
            path, _, query = self.path.partition("?")
            request = Request(
                self.command,
                path,
                parse_qs(query, keep_blank_values=True),
                {name.lower(): value for name, value in self.headers.items()},
                self._body(),
            )
            response = application(request)
            if response.hang:
                self._hang()
                return
            self.send_response_only(response.status)
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(response.length()))
            self.end_headers()
            if self.command != "HEAD":
                self._send(response.body)
            self.wfile.flush()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _answer

        def _body(self) -> bytes:
            if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    continue
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _send(self, body: bytes | Stretch) -> None:
            if isinstance(body, bytes):
                self.wfile.write(body)
                return
            with body.source as source:
                source.seek(body.start)
                left = body.length
                while left and (part := source.read(min(left, _CHUNK))):
                    self.wfile.write(part)
                    left -= len(part)

        def _hang(self) -> None:
            """Say nothing until the client hangs up or the server stops."""
            self.close_connection = True
            self.connection.settimeout(0.05)
            while not stopping.is_set():
                try:
                    if not self.connection.recv(1):
                        return
                except TimeoutError:
                    continue
                except OSError:
                    return

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's own signature
            """The call log is the log."""

    return Handler
