"""The HTTP server of the local cloud: one thread that accepts, one for each connection, loopback only."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.exceptions import ClientDisconnected
from werkzeug.serving import make_server

from localcloud.common.foreground import POLL_S

HOST = "127.0.0.1"
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Handler(MotoRequestHandler):  # type: ignore[misc]  # moto ships no types
    """Answers at once and keeps quiet."""

    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"

    def send_response(self, code: int, message: str | None = None) -> None:
        """Begin an answer without the machine's own date: the application gives the world's."""
        self.send_response_only(code, message)

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's own signature
        """The call log is the log."""


def moto_application() -> Application:
    """Moto's own dispatcher, which knows its backends by the request's signature."""
    application: Application = DomainDispatcherApplication(create_backend_app)
    return application


def _patient(application: Application) -> Application:
    """Let a client that goes away in the middle of its request be what it is to the server: nothing to tell."""

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            return application(environ, start_response)
        except ClientDisconnected as error:
            raise ConnectionResetError("the client went away") from error

    return serve


class LoopbackServer:
    """Serves an application on 127.0.0.1; port 0 takes a free one."""

    def __init__(self, application: Application, port: int) -> None:
        # werkzeug prints advice and exits where it cannot bind; a socket of ours raises OSError.
        with socket.create_server((HOST, port), reuse_port=False) as listening:
            self._server = make_server(
                HOST, port, _patient(application), threaded=True, request_handler=_Handler, fd=listening.fileno()
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
