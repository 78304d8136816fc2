"""A webhook receiver on this machine that records messages and returns configured responses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests import canaries
from tests.limits import HANG_S


class Receiver:
    """Received messages as (path, headers, body), and the responses: `answers` first, then `status`, with `headers`."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        self.answers: list[int] = []
        self.headers: dict[str, str] = {}
        self.body = b"ok"
        self.answering = threading.Event()  # cleared: requests hang
        self.answering.set()
        self.url = ""

    def documents(self) -> list[dict[str, Any]]:
        """Return the bodies as JSON."""
        return [json.loads(body) for _, _, body in self.got]

    def titles(self) -> list[str]:
        """Return the titles of the received CloudEvents."""
        return [one["data"]["title"] for one in self.documents()]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Serve a receiver on 127.0.0.1 while it is open."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            canaries.search("message", body)
            receiver.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            receiver.answering.wait(HANG_S)
            self.send_response(receiver.answers.pop(0) if receiver.answers else receiver.status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(receiver.body)))
            self.end_headers()
            with suppress(OSError):  # a sender may close without reading the body
                self.wfile.write(receiver.body)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
