"""Azure requests and responses on the common HTTP server, and pagination of listings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from localcloud.azure.errors import ArmError
from localcloud.azure.iam.caller import Caller
from localcloud.common import http_server
from localcloud.common.faults import Corruption

_SKIP = "$skiptoken"
_ANONYMOUS = Caller("", "")
_JSON = "application/json; charset=utf-8"


@dataclass(slots=True)
class Request:
    """A request as the Azure services receive it.

    `path` is decoded and has no query; names in `query` and `headers` are lowercase; `path_args` are the groups of the
    route's pattern. `within`: a deployment makes the call, which Resource Manager repeats at its own pace.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    base_url: str
    caller: Caller = _ANONYMOUS
    path_args: tuple[str, ...] = ()
    id: str = ""
    within: bool = False

    def json(self) -> dict[str, Any]:
        """Return the body as an object; an empty body is an empty object. Raises ArmError 400 InvalidRequestContent."""
        try:
            document = msgspec.json.decode(self.body) if self.body.strip() else {}
        except (msgspec.DecodeError, UnicodeDecodeError) as cause:
            raise ArmError(
                400, "InvalidRequestContent", f"The request content was invalid and could not be deserialized: {cause}."
            ) from cause
        if not isinstance(document, dict):
            raise ArmError(400, "InvalidRequestContent", "The request content must be an object.")
        return document


@dataclass(slots=True)
class Answer:
    """A response with a JSON body, or an empty one if `document` is None."""

    document: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> tuple[bytes, str]:
        return (b"", "") if self.document is None else (msgspec.json.encode(self.document), _JSON)


@dataclass(slots=True)
class RawAnswer(Answer):
    """A response with a body of bytes; `kind` is its content type."""

    body: bytes = b""
    kind: str = ""

    def encoded(self) -> tuple[bytes, str]:
        return self.body, self.kind


def served(respond: Callable[[Request], Answer]) -> http_server.Application:
    """Return an application for the common HTTP server that passes requests to `respond`."""

    def application(request: http_server.Request) -> http_server.Response:
        answer = respond(
            Request(
                request.method,
                "/" + unquote(request.path).lstrip("/"),
                {name.lower(): value for name, value in parse_qsl(request.query_string, keep_blank_values=True)},
                request.headers,
                request.body,
                request.endpoint,
            )
        )
        body, kind = answer.encoded()
        headers = {"Content-Type": kind, **answer.headers} if kind else answer.headers
        return http_server.Response(answer.status, headers, body)

    return application


def corrupted(answer: Answer, corruption: Corruption | None) -> Answer:
    """Return the response as `corruption` changes it, or unchanged if it is None."""
    if corruption is None:
        return answer
    body, kind = answer.encoded()
    return RawAnswer(
        None,
        corruption.status or answer.status,
        {**answer.headers, **corruption.headers},
        corruption.change(body),
        kind,
    )


def page(request: Request, items: Sequence[Any], size: int, empty: bool) -> Answer:
    """Return one page of a listing; with `empty`, an empty page with a next link, as Azure can return at any time.

    The skip token is the offset, prefixed with `e` if the empty page before it was already served. Raises ArmError 400
    for any other token.
    """
    given = request.query.get(_SKIP, "0")
    served_empty = given.startswith("e")
    if not given.removeprefix("e").isdigit():
        raise ArmError(400, "InvalidSkipToken", f"The skip token '{given[:40]}' is invalid.")
    start = int(given.removeprefix("e"))
    if empty and not served_empty and start < len(items):
        return Answer({"value": [], "nextLink": _link(request, f"e{start}")})
    end = start + max(1, size)
    document: dict[str, Any] = {"value": items[start:end]}
    if end < len(items):
        document["nextLink"] = _link(request, str(end))
    return Answer(document)


def _link(request: Request, value: str) -> str:
    query = {name: text for name, text in request.query.items() if name != _SKIP} | {_SKIP: value}
    return f"{request.base_url}{quote(request.path)}?" + "&".join(f"{n}={quote(v, safe='')}" for n, v in query.items())
