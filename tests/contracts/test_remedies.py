"""No failure and no manual step is ever reported without a way out, whichever code a cloud answers."""

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

WORDS = "words of the cloud that are not known"
STATUSES = (400, 401, 402, 403, 404, 405, 406, 409, 410, 412, 415, 418, 422, 424, 429, 451, 500, 501, 502, 503, 504)
# So long has it been tried that no patience is left.
TIRED = TargetState(at=START, waiting_since=START - 30 * DAY, attempts=99)


def texts(value: Any) -> Iterator[str]:
    """Yield every text in a table, however it is built."""
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
    """Return whatever a cloud's tables of errors name, as far as it has the form of a code."""
    tables = [value for name, value in vars(module).items() if name.strip("_").isupper()]
    found = {text for table in tables for text in texts(table)}
    return sorted(text for text in found if text and " " not in text and "://" not in text and len(text) < 80)


class Answer:
    """An HTTP answer, as azure-core reads it."""

    reason = "refused"
    request = None

    def __init__(self, status: int, code: str) -> None:
        self.status_code = status
        self.headers: Mapping[str, str] = {}
        self._body = json.dumps({"error": {"code": code, "message": WORDS}})

    def text(self) -> str:
        return self._body


def of_aws(code: str, status: int) -> ReportedError:
    """Return what botocore's exception for an answer is translated to."""
    answer: Any = {"Error": {"Code": code, "Message": WORDS}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return aws.translate(ClientError(answer, "Operation"))


def of_azure(code: str, status: int) -> ReportedError:
    """Return what azure-core's exception for an answer is translated to."""
    kind = ClientAuthenticationError if status == 401 else HttpResponseError
    answer: Any = Answer(status, code)
    return azure.translate(kind(response=answer, error_format=ARMErrorFormat))


def of_gcp(code: str, status: int) -> ReportedError:
    """Return what Google's reasons are translated to."""
    return gcp.translate_reason([code], WORDS, status)


TRANSLATE: Mapping[str, tuple[ModuleType, Callable[[str, int], ReportedError]]] = {
    "aws": (aws, of_aws),
    "azure": (azure, of_azure),
    "gcp": (gcp, of_gcp),
}


def outcomes_of(error: ReportedError) -> Iterator[Outcome]:
    """Yield what becomes of a target whose write, or whose read, ends like this: at first, and after long patience."""
    for entry in (None, TIRED):
        yield outcome_of(action(Verb.CREATE, state=entry), error, START)
        if isinstance(error, CloudError):
            seen = as_observation(error)
            planned = decide(target(state=entry), scopes("s1")["s1"], seen, START, requested=False)
            if planned.verb not in WRITES:
                yield unwritten(planned)


def entries(outcomes: Iterable[Outcome], problems: Iterable[Problem] = ()) -> Iterator[tuple[str, str, str]]:
    """Yield code, message and remedy (or the joined steps) of everything that a report tells of these outcomes."""
    memory, settings = remembering({target().key: TIRED}), EngineSettings()
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
def test_each_code_of_a_clouds_tables_has_a_way_out(cloud: str) -> None:
    """Every code that the tables name, with every status, has code, message and remedy, whatever becomes of it."""
    module, translate = TRANSLATE[cloud]
    codes = codes_of(module)
    assert len(codes) > 40
    told = 0
    for code in codes:
        for status in STATUSES:
            for found in entries(outcomes_of(translate(code, status))):
                told += 1
                assert all(part.strip() for part in found), f"{code} with {status}: {found}"
    assert told > len(codes)


@pytest.mark.parametrize("cloud", sorted(TRANSLATE))
@pytest.mark.parametrize("status", [400, 402, 405, 406, 415, 418, 422])
def test_a_code_that_nobody_knows_keeps_the_clouds_words_and_leads_to_the_runbook(cloud: str, status: int) -> None:
    """Where the status means nothing either, an operator reads what the cloud said, and where to look."""
    error = TRANSLATE[cloud][1]("SomethingNobodyHasSeen", status)
    assert isinstance(error, Permanent)
    failed = [one for one in outcomes_of(error) if one.result is Result.FAILED]
    assert failed
    for _, message, remedy in entries(failed):
        assert WORDS in message
        assert "runbook" in remedy


def test_a_problem_of_the_whole_run_has_a_way_out() -> None:
    """Also where the code that raised it gave none."""
    (found,) = [one for one in entries([_unchanged()], [Problem("broken", "it broke")]) if one[0] == "broken"]
    assert "docs/runbook.md" in found[2]


REMEDY_AT = {"Transient": 2, "Throttled": 2, "Permanent": 2, "Denied": 2, "RunStopped": 2, "Unknown": 2}
ROOT = Path(__file__).parents[2]
# These carry on what another error said, or are given their remedy by whoever catches them.
CAUGHT = {"state-contended", "internal-error"}


def failures_without_remedy(source: str) -> Iterator[str]:
    """Yield the code of each failure that a module makes under a code of its own, with neither remedy nor step."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in REMEDY_AT:
            continue
        code = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
        named = {one.arg for one in node.keywords}
        if (
            code
            and code not in CAUGHT
            and len(node.args) <= REMEDY_AT[node.func.id]
            and not named & {"remedy", "manual_step"}
        ):
            yield str(code)


@pytest.mark.parametrize("package", ["shared", "aws_lambda", "azure_function", "gcp_function"])
def test_each_failure_that_the_function_itself_finds_has_a_remedy(package: str) -> None:
    """What no cloud's table names (a listing that contradicts itself, a copy that differs) leads somewhere too."""
    without = {
        f"{path.name}: {code}"
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name not in ("errors.py", "refusals.py")  # their tables are walked above
        for code in failures_without_remedy(path.read_text(encoding="utf-8"))
        if code != "not-looked-at"  # deferred by the call budget: no failure
    }
    assert not without


def _unchanged() -> Outcome:
    return Outcome(action(Verb.KEEP), Result.UNCHANGED)


def test_the_walk_finds_codes_wherever_they_stand() -> None:
    """Sets, tables, structs and names: a table that is added is walked without a change here."""
    found = set(codes_of(aws)) | set(codes_of(azure)) | set(codes_of(gcp))
    assert {"ThrottlingException", "AccountCostDisabled", "rateLimitExceeded", "RBACAccessDenied"} <= found
