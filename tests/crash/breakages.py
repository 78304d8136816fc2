"""The ways in which the answer to a call is broken: by the cloud, by what stands in front of it, or by the network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Protocol

from localcloud.common.http_server import Request, Response
from localcloud.common.wire_faults import After, Before, body_of, unchanged, undisturbed

PAGE = (
    b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><form>Sign in to the network</form></body></html>"
)
# A host that no client may follow a redirect to: nothing listens there, and a request would be refused at once.
ELSEWHERE = "http://localhost:1/elsewhere"
# The headers by which services and proxies ask for a wait, as they are documented and as they must not matter.
ODD_WAITS: Mapping[str, Mapping[str, str]] = {
    "no wait": {},
    "wait": {"Retry-After": "7"},
    "date": {"Retry-After": "Tue, 03 Nov 2026 09:00:20 GMT"},
    "past date": {"Retry-After": "Sun, 01 Nov 1990 08:00:00 GMT"},
    "odd date": {"Retry-After": "Tue, 99 Nov 2026 99:00:00 GMT"},
    "negative": {"Retry-After": "-5"},
    "huge": {"Retry-After": "9" * 40},
    "fraction": {"Retry-After": "0.5"},
    "no number": {"Retry-After": "²; soon"},
    "Azure's": {
        "x-ms-ratelimit-microsoft.costmanagement-clienttype-retry-after": "9",
        "x-ms-ratelimit-microsoft.costmanagement-entity-retry-after": "-3",
        "x-ms-ratelimit-remaining-subscription-reads": "0",
    },
    "Azure's, huge": {"x-ms-ratelimit-microsoft.costmanagement-tenant-retry-after": "9" * 40, "Retry-After": "1e9"},
}
STATUSES = (500, 502, 503, 504)


class Form(Protocol):
    """How one cloud words an error."""

    def __call__(self, request: Request, status: int) -> Response:
        """Return the cloud's own error for a request."""


@dataclass(frozen=True)
class Breakage:
    """One way: what is done instead of the call (`before`), or to its answer (`after`)."""

    before: Before = undisturbed
    after: After = unchanged
    slow: bool = False  # the client waits for its time-out


def breakages(form: Form) -> dict[str, Breakage]:
    """Return all ways by name, with the errors of one cloud."""

    def error(status: int, headers: Mapping[str, str]) -> Before:
        def answer(request: Request) -> Response:
            response = form(request, status)
            response.headers.update(headers)
            return response

        return answer

    found = {f"429, {name}": Breakage(error(429, headers)) for name, headers in ODD_WAITS.items()}
    found |= {f"{status}": Breakage(error(status, {})) for status in STATUSES}
    found |= {f"{status}, empty": Breakage(lambda _request, status=status: Response(status)) for status in STATUSES}  # type: ignore[misc]  # mypy takes the default for a parameter
    found |= {
        "503, wait": Breakage(error(503, {"Retry-After": "3"})),
        "502, page": Breakage(lambda _request: _page(502)),
        "done, then 503": Breakage(after=lambda request, _response: form(request, 503)),
        "401": Breakage(error(401, {})),
        "403": Breakage(error(403, {})),
        "403, quoting the request": Breakage(_quoting),
        "empty": Breakage(after=_changed(lambda _true: b"")),
        "empty, not done": Breakage(lambda _request: Response(200)),
        "half": Breakage(after=_changed(lambda true: true[: len(true) // 2])),
        "cut off": Breakage(after=_cut),
        "login page": Breakage(lambda _request: _page(200)),
        "done, login page": Breakage(after=lambda _request, _response: _page(200)),
        "another type": Breakage(after=_changed(_of_another_type)),
        "null fields": Breakage(after=_changed(_without_values)),
        "another content type": Breakage(after=_as_text),
        "redirect": Breakage(lambda _request: Response(302, {"Location": ELSEWHERE})),
        "permanent redirect": Breakage(lambda _request: Response(308, {"Location": ELSEWHERE})),
        "refused": Breakage(lambda _request: Response(lost=True)),
        "lost": Breakage(after=lambda _request, _response: Response(lost=True)),
        "hangs": Breakage(lambda _request: Response(hang=True), slow=True),
        "done, then hangs": Breakage(after=lambda _request, _response: Response(hang=True), slow=True),
    }
    return found


def _page(status: int) -> Response:
    return Response(status, {"Content-Type": "text/html; charset=utf-8"}, PAGE)


def _quoting(request: Request) -> Response:
    """Answer as a proxy that shows the refused request, with the headers that authorize it."""
    lines = [f"{request.method} {request.path}?{request.query_string}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    body = f"<html><body><pre>{escape(chr(10).join(lines))}</pre></body></html>"
    return Response(403, {"Content-Type": "text/html"}, body.encode())


def _changed(change: Callable[[bytes], bytes]) -> After:
    def after(_request: Request, response: Response) -> Response:
        body = change(body_of(response))
        headers = {name: value for name, value in response.headers.items() if name.lower() != "content-length"}
        return Response(response.status, headers, body)

    return after


def _cut(_request: Request, response: Response) -> Response:
    body_of(response)
    response.cut = True
    return response


def _of_another_type(true: bytes) -> bytes:
    return b"<?xml version='1.0'?><Answer/>" if true.lstrip()[:1] == b"<" else b"[1]"


def _without_values(true: bytes) -> bytes:
    try:
        document = json.loads(true)
    except ValueError:
        return b"{}"
    return json.dumps(dict.fromkeys(document)).encode() if isinstance(document, dict) else b"null"


def _as_text(_request: Request, response: Response) -> Response:
    kept = {name: value for name, value in response.headers.items() if name.lower() != "content-type"}
    return Response(response.status, {**kept, "Content-Type": "text/plain"}, body_of(response))
