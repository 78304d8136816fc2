"""Google's answers and what the engine makes of them."""

from __future__ import annotations

from typing import Any

import pytest
from google.api_core.exceptions import (
    BadGateway,
    Forbidden,
    GoogleAPICallError,
    NotFound,
    TooManyRequests,
    Unauthorized,
)
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError
from requests.exceptions import ChunkedEncodingError, ConnectTimeout, ReadTimeout

from gcp_function.errors import observed, translate, translate_reason
from localcloud.gcp.cloud import LocalGcp
from shared import errors
from shared.model import Result, Unknown, Verb
from tests.gcp_function.support import Lines, accounts, action, day_of, messages, outcome, run


def answer(kind: type[GoogleAPICallError], reason: str, message: str) -> GoogleAPICallError:
    """Return the exception that a client raises for an answer."""
    return kind(message, errors=[{"reason": reason, "message": message}])


def of_auth(kind: Any) -> Exception:
    """Return an exception of the auth library, which has no types."""
    error: Exception = kind("of the auth library")
    return error


@pytest.mark.parametrize(
    ("error", "expected", "code"),
    [
        (answer(Forbidden, "rateLimitExceeded", "slow down"), errors.Throttled, "throttled"),
        (answer(TooManyRequests, "", "slow down"), errors.Throttled, "throttled"),
        (answer(Forbidden, "quotaExceeded", "Quota exceeded"), errors.Transient, "quota-exceeded"),
        (answer(Forbidden, "accessDenied", "Access Denied"), errors.Denied, "access-denied"),
        (answer(Forbidden, "accessNotConfigured", "bigquery.googleapis.com is off"), errors.Manual, "api-disabled"),
        (answer(Forbidden, "billingNotEnabled", "No billing"), errors.Manual, "project-without-billing"),
        (answer(Forbidden, "forbidden", "p has been scheduled for deletion."), errors.RunStopped, "project-deleted"),
        (answer(Unauthorized, "authError", "Invalid Credentials"), errors.RunStopped, "credentials"),
        (answer(BadGateway, "backendError", "try again"), errors.Transient, "service-unavailable"),
        (answer(NotFound, "notFound", "Not found: Dataset p:d"), errors.NotFound, "not-found"),
        (answer(NotFound, "notFound", "Dataset p:d was not found in location US"), errors.NotFound, "wrong-location"),
        (ReadTimeout("read timed out"), errors.Transient, "connection"),
        (ConnectTimeout("connect timed out"), errors.Transient, "connection"),
        (ChunkedEncodingError("broken"), errors.Transient, "connection"),
        (of_auth(TransportError), errors.Transient, "connection"),
        (of_auth(RefreshError), errors.RunStopped, "credentials"),
        (of_auth(DefaultCredentialsError), errors.RunStopped, "credentials"),
        (ValueError("?"), errors.Permanent, "unexpected"),
    ],
)  # fmt: skip
def test_each_answer_has_its_class(error: Exception, expected: type[errors.CloudError], code: str) -> None:
    """What an answer means is decided by its reason first, then by its status."""
    found = translate(error)
    assert (type(found), found.code) == (expected, code)


@pytest.mark.parametrize(
    ("reason", "message", "expected", "code"),
    [
        ("invalid", "Cannot read and write in different locations: source: EU", errors.Manual, "locations-differ"),
        ("jobRateLimitExceeded", "slow", errors.Throttled, "throttled"),
        ("jobBackendError", "again", errors.Transient, "service-unavailable"),
        ("invalidQuery", "Unrecognized name: export_time", errors.Permanent, "invalid-query"),
        ("responseTooLarge", "too large", errors.Permanent, "responseTooLarge"),
    ],
)
def test_a_failed_job_is_an_answer_of_200(
    reason: str, message: str, expected: type[errors.CloudError], code: str
) -> None:
    """A job's failure comes without a status: its reason alone decides."""
    found = translate_reason([reason], message)
    assert (type(found), found.code) == (expected, code)


def test_concurrent_policy_changes_are_no_existing_name() -> None:
    """A 409 of two writers at once passes by itself; other 409s say that the name is taken."""
    assert isinstance(translate_reason([], "There were concurrent policy changes.", 409), errors.Transient)
    assert translate_reason(["duplicate"], "Already Exists: Job", 409).code == "already-exists"


def test_a_token_never_reaches_a_message() -> None:
    """What an answer quotes of a credential is cut out before anybody reads it."""
    said = translate(answer(Forbidden, "forbidden", "token ya29.a0AfH6SM_secret and Bearer abc.def refused")).message
    assert "secret" not in said
    assert "abc.def" not in said


def test_a_missing_right_is_unknown_and_names_what_to_grant() -> None:
    """A refused read tells nothing of the thing: it is Unknown, with a step after three runs."""
    seen = observed(errors.Denied("access-denied", "Permission x denied", "Grant x."), "dataset d")
    assert isinstance(seen, Unknown)
    assert seen.guide is not None
    assert "Grant x." in seen.guide.steps


def test_an_api_that_is_off_is_named_with_its_command(covered: LocalGcp) -> None:
    """An API that somebody switched off is a person's step with the command; the function enables nothing itself."""
    covered.disable_api("monitoring.googleapis.com")
    finished = run(covered)
    assert action(finished, "api", name="monitoring.googleapis.com").verb is Verb.MANUAL
    assert "gcloud services enable monitoring.googleapis.com --project tailpipe-dataexport" in messages(finished)
    assert finished.report["status"] == "ok"
    covered.disable_api("bigquery.googleapis.com")
    finished = run(covered)
    assert action(finished, "dataset").reason == "api-disabled"
    assert verb_of_copies(finished) == {Verb.MANUAL}
    covered.enable_api("bigquery.googleapis.com")
    covered.enable_api("monitoring.googleapis.com")
    covered.advance(600)
    assert run(covered).report["manual"] == []


def verb_of_copies(finished: object) -> set[Verb]:
    """Return the verbs of all copies."""
    return {one.action.verb for one in finished.outcomes if one.key.kind == "copy"}  # type: ignore[attr-defined]  # a Finished


def test_a_call_that_hangs_is_cut_and_tried_again(gcp: LocalGcp, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that never comes costs the time limit of one call, and the run goes on."""
    monkeypatch.setattr("gcp_function.clients.TIMEOUT_S", 0.3)
    for method in ("bigquery.datasets.get", "storage.objects.list", "bigquery.jobs.query", "bigquery.jobs.insert"):
        gcp.hang(method)
    gcp.hang("storage.objects.insert")
    lines = Lines()
    finished = run(gcp, sink=lines)
    assert finished.report["status"] == "ok"
    # On a busy machine a call that does not hang may take as long.
    assert sum(event == "call-retried" for _, event, _ in lines.lines) >= 5


def test_every_call_has_the_limit_of_ten_seconds() -> None:
    """What is promised of hanging calls is what production uses."""
    from gcp_function.clients import TIMEOUT_S

    assert TIMEOUT_S == 10


def test_throttling_slows_down_and_loses_nothing(gcp: LocalGcp) -> None:
    """Where Google asks to slow down the run does, and everything is copied all the same."""
    gcp.throttle("bigquery.jobs.insert", per_second=2, burst=4)
    lines = Lines()
    assert run(gcp, sink=lines).report["status"] == "ok"
    assert any(event == "throttled" for _, event, _ in lines.lines)


@pytest.mark.parametrize(
    ("permission", "kind"),
    [
        ("bigquery.jobs.create", "copy"),
        ("bigquery.tables.getData", "copy"),
        ("bigquery.tables.list", "export"),
        ("storage.objects.list", "copy"),
        ("storage.buckets.get", "bucket"),
        ("bigquery.datasets.get", "dataset"),
    ],
)
def test_a_right_that_is_missing_is_waited_for_and_then_named(covered: LocalGcp, permission: str, kind: str) -> None:
    """A refused read is first taken for propagation; after three runs a person is told; nothing is written by it."""
    covered.late_data(accounts(covered)[0], day_of(1))
    covered.deny(permission)
    manifests = covered.copies()
    finished = run(covered)
    for _ in range(4):
        covered.advance(7200)
        finished = run(covered)
    assert "denied" in messages(finished).lower() or "does not have" in messages(finished), finished.report
    assert any(one.result is Result.MANUAL for one in finished.outcomes if one.key.kind in (kind, "copy"))
    assert covered.copies() == manifests
    covered.allow(permission)
    covered.stream(days=1, rows=1)
    covered.advance(86400)
    covered.stream(days=1, rows=1)
    assert run(covered).report["status"] == "ok"


def test_a_right_to_write_that_is_missing_is_borne_and_then_a_persons_business(gcp: LocalGcp) -> None:
    """A refused job is waited out while rights may be propagating; the third time the right to grant is named."""
    gcp.deny("bigquery.tables.export")
    told = []
    for _ in range(3):
        told.append(run(gcp))
        gcp.advance(7200)
    refused = [outcome(one, "copy", accounts(gcp)[0], f"standard/{day_of(1)}") for one in told]
    assert [one.result for one in refused] == [Result.DEFERRED, Result.DEFERRED, Result.MANUAL]
    assert all("bigquery.tables.export" in one.message for one in refused)
    assert "service account" in messages(told[-1])
    gcp.allow("bigquery.tables.export")
    gcp.advance(86400)
    gcp.stream(days=1, rows=1)
    assert run(gcp).report["status"] == "ok"
