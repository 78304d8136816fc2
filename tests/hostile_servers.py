"""Loopback servers that imitate hostile hosts: they record, redirect or quote the requests that they receive."""

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
PLANTED = "ya29.a0PLANTED-by-another_proxy.1234567890"
_SECRET_HEADERS = ("authorization", "x-amz-security-token", "x-identity-header")


class RecordingServer:
    """A host that must receive no request: it records the headers of each, and answers 200 with an empty object."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """The address by host name, so that every client treats it as another host than the clouds' 127.0.0.1."""
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
                status, response_headers, body = owner.answer(self.command, self.path, headers)
                self.send_response_only(status)
                for name, value in response_headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = _respond

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's signature
                """Log nothing."""

        return Handler


class RedirectingServer(RecordingServer):
    """Redirects every request to another host."""

    def __init__(self, to: str, status: int) -> None:
        super().__init__()
        self._to, self._status = to, status

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        del method, headers
        return self._status, {"Location": f"{self._to}{path}", "x-amz-bucket-region": "us-west-2"}, b""


class QuotingServer(RecordingServer):
    """A proxy that refuses every request and quotes it in the error; `form` is xml, json, arm or page."""

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
            "xml": f"<Error><Code>Unlisted</Code><Message>{escape(quoted)}</Message></Error>",
            "json": json.dumps({"__type": "UnlistedException", "message": quoted}),
            "arm": json.dumps({"error": {"code": "Unlisted", "message": quoted, "errors": [{"reason": "unlisted"}]}}),
        }[self._form]
        return self._status, {"Content-Type": kind}, body.encode()

    def secrets(self) -> set[str]:
        """Return the tokens and signatures of the received requests, and the first 20 characters of each."""
        found = {PLANTED, PLANTED[:20]} if self.seen else set()
        for headers in self.seen:
            for name in _SECRET_HEADERS:
                for part in re.split(r"[\s,]+|Signature=|Credential=", headers.get(name, "")):
                    value = part.partition(":")[2] if part.startswith(("devstore", "tailpipe")) else part
                    if len(value) >= 10 and not value.startswith(("SignedHeaders", "AWS4-")):
                        found |= {value, value[:20]}
        return found


def on_screen(report: dict[str, Any]) -> str:
    """Return the complete terminal output for a report."""
    screen = io.StringIO()
    show_report(Console(file=screen, width=4000), "scopes", report, everything=True)
    return screen.getvalue()
