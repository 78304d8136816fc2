"""Every reported failure and manual step has a remedy, for every error code of every cloud."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.mgmt.core.exceptions import ARMErrorFormat
from botocore.exceptions import ClientError

from aws_lambda import errors as aws
from azure_function import errors as azure
from gcp_function import refusals as gcp
from shared.apply import outcome_of, unwritten
from shared.coverage import classify
from shared.errors import CloudError, Permanent, ReportedError
from shared.model import WRITES, Outcome, Problem, Result, Verb
from shared.observe import as_observation
from shared.report import RunProgress, make_report
from shared.rules import decide
from shared.settings import EngineSettings
from shared.target_state import TargetState
from tests.shared.builders import DAY, START, action, enumeration, remembering, scopes, target

MESSAGE = "an unlisted message of the cloud"
STATUSES = (400, 401, 402, 403, 404, 405, 406, 409, 410, 412, 415, 418, 422, 424, 429, 451, 500, 501, 502, 503, 504)
# Tried for so long that every escalation policy is exhausted.
EXHAUSTED = TargetState(at=START, waiting_since=START - 30 * DAY, attempts=99)


def texts(value: Any) -> Iterator[str]:
    """Yield every string in a table of any structure."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for one in value for text in texts(one))
        yield from (text for one in value.values() for text in texts(one))
    elif isinstance(value, list | tuple | set | frozenset):
        yield from (text for one in value for text in texts(one))
    elif isinstance(value, msgspec.Struct):
        yield from (text for name in value.__struct_fields__ for text in texts(getattr(value, name)))


def codes_of(module: ModuleType) -> list[str]:
    """Return all strings in a cloud's error tables that have the form of a code."""
    tables = [value for name, value in vars(module).items() if name.strip("_").isupper()]
    found = {text for table in tables for text in texts(table)}
    return sorted(text for text in found if text and " " not in text and "://" not in text and len(text) < 80)


class Response:
    """An HTTP response as azure-core reads it."""

    reason = "refused"
    request = None

    def __init__(self, status: int, code: str) -> None:
        self.status_code = status
        self.headers: Mapping[str, str] = {}
        self._body = json.dumps({"error": {"code": code, "message": MESSAGE}})

    def text(self) -> str:
        return self._body


def aws_error(code: str, status: int) -> ReportedError:
    """Return the translation of botocore's exception for an error response."""
    answer: Any = {"Error": {"Code": code, "Message": MESSAGE}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return aws.translate(ClientError(answer, "Operation"))


def azure_error(code: str, status: int) -> ReportedError:
    """Return the translation of azure-core's exception for an error response."""
    kind = ClientAuthenticationError if status == 401 else HttpResponseError
    answer: Any = Response(status, code)
    return azure.translate(kind(response=answer, error_format=ARMErrorFormat))


def gcp_error(code: str, status: int) -> ReportedError:
    """Return the translation of Google's reason."""
    return gcp.translate_reason([code], MESSAGE, status)


TRANSLATE: Mapping[str, tuple[ModuleType, Callable[[str, int], ReportedError]]] = {
    "aws": (aws, aws_error),
    "azure": (azure, azure_error),
    "gcp": (gcp, gcp_error),
}


def outcomes_of(error: ReportedError) -> Iterator[Outcome]:
    """Yield the outcomes of a failed write and a failed read: the first time, and after the escalation policy ends."""
    for entry in (None, EXHAUSTED):
        yield outcome_of(action(Verb.CREATE, state=entry), error, START)
        if isinstance(error, CloudError):
            seen = as_observation(error)
            planned = decide(target(state=entry), scopes("s1")["s1"], seen, START, requested=False)
            if planned.verb not in WRITES:
                yield unwritten(planned)


def entries(outcomes: Iterable[Outcome], problems: Iterable[Problem] = ()) -> Iterator[tuple[str, str, str]]:
    """Yield code, message and remedy (or the joined steps) of everything that a report contains for these outcomes."""
    memory, settings = remembering({target().key: EXHAUSTED}), EngineSettings()
    for outcome in outcomes:
        progress = RunProgress(
            cloud="aws",
            run_id="r",
            trigger="call",
            dry_run=False,
            started_at=START,
            enumeration=enumeration("s1"),
            outcomes=(outcome,),
            problems=list(problems),
        )
        progress.verdicts = classify(progress.enumeration, (outcome,), memory, settings, START)
        report = make_report(progress, memory, settings)
        yield from ((one["code"], one["message"], one["remedy"]) for one in report["failures"])
        yield from ((one["code"], one["what"], " ".join(one["steps"])) for one in report["manual"])


@pytest.mark.parametrize("cloud", sorted(TRANSLATE))
def test_every_code_of_the_error_tables_is_reported_with_a_remedy(cloud: str) -> None:
    """Every code of a cloud's tables, with every HTTP status, is reported with code, message and remedy."""
    module, translate = TRANSLATE[cloud]
    codes = codes_of(module)
    assert len(codes) > 40
    reported = 0
    for code in codes:
        for status in STATUSES:
            for found in entries(outcomes_of(translate(code, status))):
                reported += 1
                assert all(part.strip() for part in found), f"{code} with {status}: {found}"
    assert reported > len(codes)


@pytest.mark.parametrize("cloud", sorted(TRANSLATE))
@pytest.mark.parametrize("status", [400, 402, 405, 406, 415, 418, 422])
def test_unlisted_code_is_reported_with_its_message_and_the_runbook(cloud: str, status: int) -> None:
    """This holds where the HTTP status has no meaning of its own."""
    error = TRANSLATE[cloud][1]("AnUnlistedCode", status)
    assert isinstance(error, Permanent)
    failed = [one for one in outcomes_of(error) if one.result is Result.FAILED]
    assert failed
    for _, message, remedy in entries(failed):
        assert MESSAGE in message
        assert "runbook" in remedy


def test_problem_of_the_run_without_a_remedy_refers_to_the_runbook() -> None:
    """The report adds the remedy that the problem lacks."""
    (found,) = [one for one in entries([_unchanged()], [Problem("broken", "it broke")]) if one[0] == "broken"]
    assert "docs/runbook.md" in found[2]


REMEDY_AT = {"Transient": 2, "Throttled": 2, "Permanent": 2, "Denied": 2, "RunStopped": 2, "Unknown": 2}
ROOT = Path(__file__).parents[2]
# These repeat another error's message, or get their remedy where they are caught.
REMEDY_ADDED_LATER = {"state-contended", "internal-error"}


def failures_without_remedy(source: str) -> Iterator[str]:
    """Yield the codes of the failures that a module raises with neither a remedy nor a manual step."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in REMEDY_AT:
            continue
        code = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
        named = {one.arg for one in node.keywords}
        if (
            code
            and code not in REMEDY_ADDED_LATER
            and len(node.args) <= REMEDY_AT[node.func.id]
            and not named & {"remedy", "manual_step"}
        ):
            yield str(code)


@pytest.mark.parametrize("package", ["shared", "aws_lambda", "azure_function", "gcp_function"])
def test_every_failure_raised_by_the_functions_has_a_remedy(package: str) -> None:
    """This covers failures that no cloud reports, such as a listing that contradicts itself."""
    without = {
        f"{path.name}: {code}"
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name not in ("errors.py", "refusals.py")  # `codes_of` reads their tables
        for code in failures_without_remedy(path.read_text(encoding="utf-8"))
        if code != "not-looked-at"  # deferred by the call budget, which is not a failure
    }
    assert not without


def _unchanged() -> Outcome:
    return Outcome(action(Verb.KEEP), Result.UNCHANGED)


def test_codes_are_found_in_tables_of_any_structure() -> None:
    """Codes are found in sets, mappings and structs, so a new table needs no change here."""
    found = set(codes_of(aws)) | set(codes_of(azure)) | set(codes_of(gcp))
    assert {"ThrottlingException", "AccountCostDisabled", "rateLimitExceeded", "RBACAccessDenied"} <= found
