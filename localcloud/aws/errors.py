"""The errors of the AWS services: codes, statuses and wire formats."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

import msgspec

from localcloud.common.data_file import read_table


class _Codes(msgspec.Struct, frozen=True):
    """Error codes that differ between services, with their statuses, by service.

    `status` holds the statuses of codes for which the service model has none. Sources: the services' "Common errors"
    pages and botocore's models.
    """

    throttled: dict[str, tuple[str, int, str]]
    denied: dict[str, tuple[str, int]]
    invalid: dict[str, tuple[str, int]]
    unknown_key: dict[str, tuple[str, int]]
    status: dict[str, int]


_CODES = read_table(__file__, "errors.json", _Codes)


@dataclass(eq=False)
class AwsError(Exception):
    """An error response. `extra` holds modeled members other than the message (JSON services only)."""

    code: str
    message: str = ""
    status: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(f"{self.code}: {self.message}")
        if not self.status:
            self.status = _CODES.status.get(self.code, 400)


def throttled(service: str) -> AwsError:
    """Return the service's throttling error."""
    code, status, message = _CODES.throttled.get(service, ("ThrottlingException", 400, "Rate exceeded"))
    return AwsError(code, message, status)


def denied(service: str, principal: str, action: str, resource: str, because: str = "") -> AwsError:
    """Return the service's access-denied error for an action of a principal."""
    code, status = _CODES.denied.get(service, ("AccessDeniedException", 400))
    because = because or f"because no identity-based policy allows the {action} action"
    message = f"User: {principal} is not authorized to perform: {action} on resource: {resource} {because}"
    return AwsError(code, message, status)


def invalid(service: str, message: str) -> AwsError:
    """Return the service's error for an invalid request."""
    code, status = _CODES.invalid.get(service, ("ValidationException", 400))
    extra = {"Reason": "fieldValidationFailed"} if service == "bcm-data-exports" else {}
    return AwsError(code, message, status, extra)


def unknown_key(service: str) -> AwsError:
    """Return the service's error for credentials that do not exist."""
    code, status = _CODES.unknown_key.get(service, ("UnrecognizedClientException", 400))
    return AwsError(code, "The security token included in the request is invalid.", status)


def render(error: AwsError, protocol: str, service: str, request_id: str) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an error in a protocol (`json`, `rest-json`, `query`, `rest-xml`)."""
    if protocol in ("json", "rest-json"):
        # A modeled exception calls its member Message or message; clients accept both.
        key = "Message" if service in ("bcm-data-exports", "organizations") else "message"
        body = json.dumps({"__type": error.code, key: error.message, **error.extra})
        headers = {"Content-Type": "application/x-amz-json-1.1", "x-amzn-ErrorType": error.code}
        return error.status, headers | {"x-amzn-RequestId": request_id}, body.encode()
    inner = f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
    if service == "s3":
        extra = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in error.extra.items())
        text = f"<Error>{inner}{extra}<RequestId>{request_id}</RequestId></Error>"
        return error.status, {"Content-Type": "application/xml", "x-amz-request-id": request_id}, _xml(text)
    kind = "Receiver" if error.status >= 500 else "Sender"
    text = (
        f"<ErrorResponse><Error><Type>{kind}</Type>{inner}</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    )
    return error.status, {"Content-Type": "text/xml", "x-amzn-RequestId": request_id}, _xml(text)


def _xml(text: str) -> bytes:
    return b'<?xml version="1.0" encoding="UTF-8"?>' + text.encode()
