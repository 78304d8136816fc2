"""The Lambda Runtime API, served on loopback to one execution environment.

Source: AWS Lambda Developer Guide, "Using the Lambda runtime API for custom runtimes".
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Self

from localcloud.common.http_server import LoopbackServer, Request, Response

# Quota "Invocation payload" of synchronous invocations, each way: 6 MB, as enforced by the service.
MAX_PAYLOAD_BYTES = 6_291_556

_PREFIX = "/2018-06-01/runtime"
_RESULT = re.compile(rf"{_PREFIX}/invocation/([0-9a-f-]+)/(response|error)")


@dataclass
class Call:
    """One invocation that the runtime processes.

    `delivered` is the monotonic time at which the runtime fetched it, None while the environment initializes.
    Once `done`, exactly one of `response` (raw JSON bytes) and `error` (the runtime's document) is set;
    `refused` is true if the response was too large.
    """

    body: bytes
    function_arn: str
    timeout_s: float
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    delivered: float | None = None
    finished: float | None = None
    response: bytes | None = None
    error: dict[str, object] | None = None
    refused: bool = False

    @property
    def done(self) -> bool:
        """Whether the runtime has responded or failed."""
        return self.finished is not None

    def headers(self) -> dict[str, str]:
        """Return the headers that Lambda sends with the event; the deadline counts from now."""
        trace = f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}"
        return {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": self.request_id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + self.timeout_s) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": self.function_arn,
            "Lambda-Runtime-Trace-Id": f"{trace};Parent={uuid.uuid4().hex[:16]};Sampled=0",
        }


class RuntimeApi:
    """Passes calls to one runtime, one at a time, and receives its responses; a context manager."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._call: Call | None = None
        self._init_error: dict[str, object] | None = None
        self._closed = False
        self._server = LoopbackServer(self._answer)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.stop()

    @property
    def address(self) -> str:
        """Return `host:port`, the value of AWS_LAMBDA_RUNTIME_API."""
        return self._server.endpoint.removeprefix("http://")

    def offer(self, call: Call) -> None:
        """Make `call` the next event that the runtime fetches; fail it if the initialization has already failed."""
        with self._changed:
            self._call = call
            if self._init_error is not None:
                self._finish(call, error=self._init_error)
            self._changed.notify_all()

    def wait_delivered(self, call: Call, limit_s: float) -> bool:
        """Wait until the runtime has fetched `call` or has failed; return False after `limit_s` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: call.delivered is not None or call.done, limit_s)

    def wait_done(self, call: Call, limit_s: float) -> bool:
        """Wait until `call` is done; return False after `limit_s` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: call.done, limit_s)

    def fail(self, error_type: str, message: str) -> None:
        """Fail the current call, if it is not done, with an error of the platform."""
        with self._changed:
            if self._call is not None and not self._call.done:
                self._finish(self._call, error={"errorType": error_type, "errorMessage": message})

    def _answer(self, request: Request) -> Response:
        """Answer the runtime."""
        if request.method == "GET" and request.path == f"{_PREFIX}/invocation/next":
            call = self.next()
            # The server closes the connection when it stops.
            return Response(hang=True) if call is None else Response(200, call.headers(), call.body)
        result = _RESULT.fullmatch(request.path)
        if request.method != "POST":
            status = HTTPStatus.NOT_FOUND
        elif result is not None:
            status = self.accept(result[1], result[2], request.body)
        elif request.path == f"{_PREFIX}/init/error":
            status = self.accept(None, "error", request.body)
        else:
            status = HTTPStatus.NOT_FOUND
        text = "OK" if status == HTTPStatus.ACCEPTED else status.phrase
        return Response(status, {"Content-Type": "application/json"}, json.dumps({"status": text}).encode())

    def next(self) -> Call | None:
        """Wait for an event that was not fetched yet; return None when the server stops."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._call is not None and self._call.delivered is None))
            if self._closed or self._call is None:
                return None
            self._call.delivered = time.monotonic()
            self._changed.notify_all()
            return self._call

    def accept(self, request_id: str | None, kind: str, body: bytes) -> HTTPStatus:
        """Record a response of the runtime; `request_id` is None for an initialization error."""
        with self._changed:
            call = self._call
            if call is None and request_id is None:
                # On a busy machine, the initialization may fail before the first call is offered.
                self._init_error = _document(body)
                return HTTPStatus.ACCEPTED
            if call is None or (request_id is not None and call.request_id != request_id):
                return HTTPStatus.BAD_REQUEST
            if call.done:
                return HTTPStatus.FORBIDDEN
            if len(body) > MAX_PAYLOAD_BYTES:
                call.refused = True
                self._finish(
                    call,
                    error={
                        "errorType": "Function.ResponseSizeTooLarge",
                        "errorMessage": f"Response payload size ({len(body)} bytes) exceeded maximum allowed "
                        f"payload size ({MAX_PAYLOAD_BYTES} bytes).",
                    },
                )
                return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            if kind == "response":
                self._finish(call, response=body)
            else:
                self._finish(call, error=_document(body))
            return HTTPStatus.ACCEPTED

    def _finish(self, call: Call, *, response: bytes | None = None, error: dict[str, object] | None = None) -> None:
        call.response, call.error, call.finished = response, error, time.monotonic()
        self._changed.notify_all()


def _document(body: bytes) -> dict[str, object]:
    """Decode a runtime's error document; other content becomes its message."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document
    return {"errorType": "Runtime.Unknown", "errorMessage": body.decode("utf-8", "replace")[:1000]}
