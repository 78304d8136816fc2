"""One contract for every HTTP entry: equal statuses, codes and bodies on all clouds.

======  =====================================  ===========================================================
status  when                                   body
======  =====================================  ===========================================================
200     the run is ok or degraded              its report, long lists cut
400     the request is not valid               ``{"error": "bad-request", "faults": […]}``
409     another run holds the lock             ``{"error": "another-run", "message", "remedy", "running"}``
429     events asked for a run too soon        ``{"error": "too-soon", "message", "remedy"}``
500     the settings are not valid             ``{"error": "bad-settings", "faults": […]}``
500     the tenant registry is not valid       ``{"error": "bad-registry", "faults": […]}``
500     the run failed                         its report, long lists cut
500     the run ended without a report         ``{"error": its code, "message", "remedy"}``
======  =====================================  ===========================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from shared.errors import (
    AnotherRun,
    RegistryError,
    ReportedError,
    RequestError,
    SettingsError,
    TooSoon,
    ValidationError,
    defect,
)
from shared.reconcile import RunResult
from shared.report import FAILED, remedy_for
from shared.request import RunRequest, Trigger, parse_request
from shared.runtime.log import Sink

MAX_BODY = 1_000_000  # bytes; 10,000 account ids take a fifth of it


class HttpAnswer(msgspec.Struct, frozen=True):
    """A status and the JSON document of the body."""

    status: int
    document: Mapping[str, Any]

    def body(self) -> str:
        """Return the body as JSON."""
        return json.dumps(self.document, default=str, ensure_ascii=False)


def answer_run(body: bytes, trigger: Trigger, run: Callable[[RunRequest], RunResult], sink: Sink) -> HttpAnswer:
    """Run once for a request's body and return the response.

    Failures return a response too, and are logged as ``refused``.
    """

    def work() -> HttpAnswer:
        request = msgspec.structs.replace(parse_request(parse_body(body)), trigger=trigger)
        result = run(request)
        return HttpAnswer(500 if result.summary["status"] == FAILED else 200, result.answer())

    return answer(work, sink)


def answer(work: Callable[[], HttpAnswer], sink: Sink) -> HttpAnswer:
    """Return the response of `work`, or the response for its failure."""
    try:
        return work()
    except RequestError as error:
        return _refused(sink, 400, "bad-request", error)
    except SettingsError as error:
        return _refused(sink, 500, "bad-settings", error)
    except RegistryError as error:
        return _refused(sink, 500, "bad-registry", error)
    except AnotherRun as error:
        running = {"run_id": error.holder, "since": error.since, "until": error.until}
        return HttpAnswer(409, {**_fields(error), "running": running})
    except TooSoon as error:
        return HttpAnswer(429, _fields(error))
    except ReportedError as error:
        return _failed(sink, error)
    except Exception as error:  # noqa: BLE001 - a defect is answered like every failure, without its own text
        return _failed(sink, defect(error))


def parse_body(body: bytes) -> object:
    """Return the JSON document of a request's body, None for an empty one. Raises RequestError."""
    if len(body) > MAX_BODY:
        raise RequestError([f"the body has {len(body)} bytes, more than {MAX_BODY}"])
    if not body.strip():
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError([f"the request body is not valid JSON ({type(error).__name__})"]) from error


def _refused(sink: Sink, status: int, code: str, error: ValidationError) -> HttpAnswer:
    sink("error", "refused", {"code": code, "reason": "; ".join(error.problems)})
    return HttpAnswer(status, {"error": code, "faults": list(error.problems)})


def _failed(sink: Sink, error: ReportedError) -> HttpAnswer:
    sink("error", "refused", {"code": error.code, "reason": error.message})
    return HttpAnswer(500, _fields(error))


def _fields(error: ReportedError) -> dict[str, Any]:
    return {"error": error.code, "message": error.message, "remedy": remedy_for(error.remedy)}
