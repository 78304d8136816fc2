"""Loopback servers that stand in a cloud's place: one that records whoever is sent there, one that quotes requests."""

from __future__ import annotations

import io
import json
import re
import threading
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from rich.console import Console

from cli.terminal.render import show_report

REDIRECTS = (301, 302, 303, 307, 308)
PLANTED = "ya29.a0PLANTED-of-some_other_hop.1234567890"
_SECRET_HEADERS = ("authorization", "x-amz-security-token", "x-identity-header")


class Elsewhere:
    """A host that nobody has business with: it notes each request's headers, and answers 200 with nothing of use."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """The address under another name than the clouds' own, so that it is another host to every client."""
        return f"http://localhost:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body for a request."""
        del method, path, headers
        return 200, {"Content-Type": "application/json"}, b"{}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _respond(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                owner.seen.append(headers)
                status, answered, body = owner.answer(self.command, self.path, headers)
                self.send_response_only(status)
                for name, value in answered.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = _respond

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's own signature
                """Keep quiet."""

        return Handler


class Redirecting(Elsewhere):
    """Sends every request on to another host."""

    def __init__(self, to: str, status: int) -> None:
        super().__init__()
        self._to, self._status = to, status

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        del method, headers
        return self._status, {"Location": f"{self._to}{path}", "x-amz-bucket-region": "us-west-2"}, b""


class Quoting(Elsewhere):
    """A proxy that refuses every request, and quotes the whole of it in the error: `form` is xml, json, arm or page."""

    def __init__(self, form: str, status: int) -> None:
        super().__init__()
        self._form, self._status = form, status

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        lines = [f"{method} {path}", *(f"{name}: {value}" for name, value in headers.items()), f"forwarded: {PLANTED}"]
        quoted = "\n".join(lines)
        kind = "text/html" if self._form == "page" else "application/xml" if self._form == "xml" else "application/json"
        body = {
            "page": f"<html><body><pre>{escape(quoted)}</pre></body></html>",
            "xml": f"<Error><Code>Odd</Code><Message>{escape(quoted)}</Message></Error>",
            "json": json.dumps({"__type": "OddException", "message": quoted}),
            "arm": json.dumps({"error": {"code": "Odd", "message": quoted, "errors": [{"reason": "odd"}]}}),
        }[self._form]
        return self._status, {"Content-Type": kind}, body.encode()

    def secrets(self) -> set[str]:
        """Return what no text may hold of the requests that came: tokens and signatures, whole and their beginnings."""
        found = {PLANTED, PLANTED[:20]} if self.seen else set()
        for headers in self.seen:
            for name in _SECRET_HEADERS:
                for part in re.split(r"[\s,]+|Signature=|Credential=", headers.get(name, "")):
                    value = part.partition(":")[2] if part.startswith(("devstore", "tailpipe")) else part
                    if len(value) >= 10 and not value.startswith(("SignedHeaders", "AWS4-")):
                        found |= {value, value[:20]}
        return found


def on_screen(report: dict[str, Any]) -> str:
    """Return what a terminal shows of a run, everything of it."""
    screen = io.StringIO()
    show_report(Console(file=screen, width=4000), "scopes", report, everything=True)
    return screen.getvalue()
