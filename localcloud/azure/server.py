"""A small HTTP/1.1 server on 127.0.0.1 that keeps connections open and answers each in its own thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from localcloud.azure.wire import Answer, Request
from localcloud.common.foreground import POLL_S

_MOST_BODY = 4 * 1024 * 1024  # Resource Manager's own limit


class LoopbackServer:
    """Serves `respond` from `start` to `stop`, bodies of up to `most_body` bytes. Raises OSError for a taken port."""

    def __init__(self, respond: Callable[[Request], Answer], port: int = 0, most_body: int = _MOST_BODY) -> None:
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.respond = respond
        self._server.most_body = most_body
        self._server.base_url = self.endpoint
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name="local-azure", daemon=True
        )

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the server and the connections that clients keep open."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.hang_up()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    respond: Callable[[Request], Answer]
    base_url: str
    most_body: int

    def __init__(self, *args: Any) -> None:
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the middle is no error of ours; anything else was answered 500 already."""

    def hang_up(self) -> None:
        with self._lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # Head and body leave in one packet: two would wait for the client's delayed acknowledgment.
    wbufsize = -1

    def _respond(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > self.server.most_body:
            self.send_error(413 if length.isdigit() else 400)
            return
        body = self.rfile.read(int(length))
        parts = urlsplit(self.path if self.path.startswith("http") else f"//host{self.path}")
        request = Request(
            self.command,
            "/" + unquote(parts.path).lstrip("/"),
            {name.lower(): value for name, value in parse_qsl(parts.query, keep_blank_values=True)},
            {name.lower(): value for name, value in self.headers.items()},
            body,
            self.server.base_url,
        )
        answer = self.server.respond(request)
        data, kind = answer.encoded()
        self.send_response_only(answer.status)
        if kind:
            self.send_header("Content-Type", kind)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204 and not any(name.lower() == "content-length" for name in answer.headers):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = _respond

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's own parameter
        """The call log is `World.calls`."""
