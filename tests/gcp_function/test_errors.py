"""Google's answers and what the engine makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from google.api_core.exceptions import (
    BadGateway,
    Forbidden,
    GoogleAPICallError,
    NotFound,
    TooManyRequests,
    Unauthorized,
    from_http_response,
)
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError, TransportError
from google.cloud.storage.blob import _raise_from_invalid_response
from google.cloud.storage.exceptions import InvalidResponse
from google.oauth2.credentials import Credentials
from requests.exceptions import ChunkedEncodingError, ConnectTimeout, ReadTimeout

from gcp_function.clients import Clients
from gcp_function.errors import observed, translate
from gcp_function.refusals import RULES, ErrorResponse, Rule, translate_reason
from gcp_function.settings import read_settings
from localcloud.gcp.cloud import LocalGcp
from shared import errors
from shared.model import Result, Unknown, Verb
from tests.gcp_function.support import Lines, accounts, action, day_of, local_gcp, messages, outcome, run

pytestmark = pytest.mark.long


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
        (RuntimeError("?"), errors.Permanent, "unexpected"),
        (ValueError("?"), errors.NotUnderstood, "answer-not-understood"),
    ],
)  # fmt: skip
def test_each_answer_has_its_class(error: Exception, expected: type[errors.ReportedError], code: str) -> None:
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
    reason: str, message: str, expected: type[errors.ReportedError], code: str
) -> None:
    """A job's failure comes without a status: its reason alone decides."""
    found = translate_reason([reason], message)
    assert (type(found), found.code) == (expected, code)


def test_concurrent_policy_changes_are_no_existing_name() -> None:
    """A 409 of two writers at once passes by itself; other 409s say that the name is taken."""
    assert isinstance(translate_reason([], "There were concurrent policy changes.", 409), errors.Transient)
    assert translate_reason(["duplicate"], "Already Exists: Job", 409).code == "already-exists"


def answer_of(document: object, status: int = 403, url: str = "https://storage.googleapis.com/storage/v1/b/x/o") -> Any:
    """Return an HTTP answer as the clients get it; a text stands for itself."""
    response = requests.Response()
    response.status_code = status
    text = document if isinstance(document, str) else json.dumps(document)
    response._content = text.encode()
    response.request = requests.Request("POST", url).prepare()
    return response


def refusal(reason: str, message: str, status: int = 403) -> dict[str, Any]:
    """Return the older APIs' error document."""
    errors = [{"message": message, "domain": "global", "reason": reason}]
    return {"error": {"code": status, "message": message, "errors": errors}}


BILLING_SAID = "The billing account for the owning project is disabled in state {}"
PERIMETER = "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: 1AbC-dEf_9."


@pytest.mark.parametrize(
    ("reason", "message", "code", "words"),
    [
        ("accountDisabled", BILLING_SAID.format("closed"), "project-without-billing", "reopen it"),
        ("accountDisabled", BILLING_SAID.format("absent"), "project-without-billing", "gcloud billing projects link"),
        ("accountDisabled", BILLING_SAID.format("delinquent"), "project-without-billing", "payment is overdue"),
        ("UserProjectAccountProblem", "a delinquent billing account", "project-without-billing", "payment is overdue"),
        ("forbidden", PERIMETER, "vpc-service-controls", "No IAM role resolves this"),
        ("retentionPolicyNotMet", "cannot be deleted or overwritten", "retention-policy", "--clear-retention-period"),
        ("objectUnderActiveHold", "Object is under active Event-Based hold", "object-held", "--no-event-based-hold"),
        ("conditionNotMet", "violates constraint 'constraints/gcp.x'", "organization-policy", "exception"),
        ("forbidden", "Permission denied on Cloud KMS key", "key-unusable", "cryptoKeyEncrypterDecrypter"),
        ("userProjectMissing", "Bucket is a requester pays bucket", "requester-pays", "--no-requester-pays"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("media", [False, True])
def test_a_refusal_names_its_own_remedy_in_calls_uploads_and_downloads(
    reason: str, message: str, code: str, words: str, media: bool
) -> None:
    """A refusal that no right cures is never told as a missing right, also where Google's JSON arrives as text."""
    response = answer_of(refusal(reason, message))
    raised: Exception = from_http_response(response)  # type: ignore[no-untyped-call]  # the library annotates only parts of itself
    if media:
        with pytest.raises(GoogleAPICallError) as caught:
            _raise_from_invalid_response(InvalidResponse(response, "Request failed with status code", 403))
        raised = caught.value
    found = translate(raised)
    assert isinstance(found, errors.Manual)
    assert (found.code, words in found.remedy) == (code, True), found.remedy
    assert "Grant the right" not in found.remedy


def test_a_perimeters_refusal_names_its_identifier() -> None:
    """The identifier, by which an administrator finds the rule, is in the step and in its link."""
    found = translate_reason(["SECURITY_POLICY_VIOLATED"], PERIMETER, 403, {"service": "bigquery.googleapis.com"})
    assert isinstance(found, errors.Manual)
    assert "1AbC-dEf_9" in found.manual_step.what
    assert "bigquery.googleapis.com" in found.manual_step.what
    assert found.manual_step.url.endswith("uniqueIdentifier=1AbC-dEf_9")


def test_a_download_of_plain_text_is_judged_by_its_words() -> None:
    """Cloud Storage answers some downloads with a bare sentence: the sentence decides."""
    response = answer_of(BILLING_SAID.format("closed"))
    with pytest.raises(GoogleAPICallError) as caught:
        _raise_from_invalid_response(InvalidResponse(response, "Request failed with status code", 403))
    assert translate(caught.value).code == "project-without-billing"


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"error": 7}', '{"error": {"errors": [1], "details": "x"}}', "{" * 100_000]
)
def test_a_broken_body_is_judged_by_its_status(text: str) -> None:
    """A body that is not Google's JSON costs nothing but its reason."""
    response = answer_of(text, 503)
    with pytest.raises(GoogleAPICallError) as caught:
        _raise_from_invalid_response(InvalidResponse(response, "Request failed with status code", 503))
    assert translate(caught.value).code == "service-unavailable"


@pytest.mark.parametrize("consumer", ["projects/764086051850", "projects/32555940559"])
def test_credentials_without_a_quota_project_are_told_to_set_one(consumer: str) -> None:
    """Calls that count on gcloud's own project need a quota project: enabling the API there is impossible."""
    metadata = {"service": "cloudbilling.googleapis.com", "consumer": consumer}
    found = translate_reason(["SERVICE_DISABLED"], "The API is disabled.", 403, metadata)
    assert found.code == "no-quota-project"
    assert "gcloud auth application-default set-quota-project" in found.remedy
    assert "services enable" not in found.remedy


def test_an_api_that_is_off_is_named_with_its_project() -> None:
    """The command enables the API in the project that the call counts on."""
    metadata = {"service": "bigquery.googleapis.com", "consumer": "projects/123456789012"}
    found = translate_reason(["SERVICE_DISABLED"], "BigQuery API is disabled.", 403, metadata)
    assert "gcloud services enable bigquery.googleapis.com --project 123456789012" in found.remedy


def of_metadata(status: int | None) -> Exception:
    """Return what the auth library raises where the metadata server answers with a status, or not at all."""
    said = "Failed to retrieve http://metadata from the Google Compute Engine metadata service."
    text = f"{said} Status: {status} Response:" if status else f"{said} Compute Engine Metadata server unavailable."
    cause = TransportError(text)  # type: ignore[no-untyped-call]  # the library has no types here
    error: Exception = RefreshError(cause)  # type: ignore[no-untyped-call]  # the library has no types here
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("status", [None, 408, 429, 500, 503])
def test_a_metadata_server_that_fails_for_the_moment_is_tried_again(status: int | None) -> None:
    """A passing failure of the credentials' source is no lack of credentials."""
    found = translate(of_metadata(status))
    assert isinstance(found, errors.Transient)
    assert found.within_run


@pytest.mark.parametrize("status", [403, 404])
def test_a_metadata_server_that_refuses_means_no_credentials(status: int) -> None:
    """An identity that is not there does not come back by asking again: the run ends with the remedy."""
    found = translate(of_metadata(status))
    assert (type(found), found.code) == (errors.RunStopped, "credentials")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_every_row_of_the_table_has_a_remedy_and_an_entry_in_the_runbook(rule: Rule, repository: Path) -> None:
    """Whatever an answer means, its remedy is not empty, says what to do about this code, and is explained."""
    metadata = {"service": "bigquery.googleapis.com", "consumer": "projects/some-project-1"}
    found = rule.make(ErrorResponse((), "what Google says", 403, metadata))
    assert found.code == rule.code
    assert len(found.remedy) > 30
    assert "the message" not in found.remedy or rule.code in ("access-denied", "key-unusable")
    if isinstance(found, errors.Manual):
        assert all(found.manual_step.steps)
    assert f"`{rule.code}`" in (repository / "docs" / "runbook.md").read_text(encoding="utf-8")


def test_remedies_differ_between_codes() -> None:
    """No two codes of the table share a remedy, but for those that pass by themselves."""
    told: dict[str, set[str]] = {}
    for rule in RULES:
        found = rule.make(ErrorResponse((), "what Google says", 403))
        if not isinstance(found, errors.Transient):
            told.setdefault(found.remedy, set()).add(found.code)
    assert {remedy: codes for remedy, codes in told.items() if len(codes) > 1} == {}


def test_what_is_not_listed_keeps_googles_words_and_names_the_call() -> None:
    """An unknown refusal is told with Google's own reason and text, the call, and where to look."""
    response = answer_of(
        refusal("brandNew", "Something new.", 400), 400, "https://x.googleapis.com/v1/things?key=secret"
    )
    found = translate(from_http_response(response))  # type: ignore[no-untyped-call]  # the library annotates only parts of itself
    assert isinstance(found, errors.Permanent)
    assert found.code == "brandNew"
    assert "Something new." in found.message
    assert "(POST /v1/things)" in found.message
    assert "secret" not in found.message
    assert "docs/runbook.md" in found.remedy


def test_a_persons_credentials_count_on_the_deployments_project(gcp: LocalGcp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's own credentials need no quota project: the deployment's is used, unless one is set."""
    settings = msgspec.structs.replace(read_settings(gcp.environment()), endpoints={})
    for own, expected in ((None, gcp.project), ("another", "another")):
        person = Credentials("token", quota_project_id=own)  # type: ignore[no-untyped-call]  # the library has no types here
        monkeypatch.setattr("google.auth.default", lambda person=person, **_: (person, None))
        assert Clients(settings)._credentials.quota_project_id == expected


def test_on_cloud_run_missing_credentials_are_a_metadata_server_that_is_late(
    gcp: LocalGcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deployed function always has an identity: not to find it passes, and is tried again."""
    settings = msgspec.structs.replace(read_settings(gcp.environment()), endpoints={})

    def none(**_: Any) -> Any:
        raise of_auth(DefaultCredentialsError)

    monkeypatch.setattr("google.auth.default", none)
    for service, expected in (("tailpipe-exports", errors.Transient), ("", errors.RunStopped)):
        monkeypatch.setenv("K_SERVICE", service)
        with pytest.raises(GoogleAuthError) as caught:
            _ = Clients(settings)._credentials
        assert isinstance(translate(caught.value), expected)


def test_a_token_never_reaches_a_message() -> None:
    """What an answer quotes of a credential is cut out before anybody reads it."""
    said = translate(answer(Forbidden, "forbidden", "token ya29.a0AfH6SM_secret and Bearer abc.def refused")).message
    assert "secret" not in said
    assert "abc.def" not in said


def test_a_missing_right_is_unknown_and_names_what_to_grant() -> None:
    """A refused read tells nothing of the thing: it is Unknown, with a step after three runs."""
    seen = observed(errors.Denied("access-denied", "Permission x denied", "Grant x."), "dataset d")
    assert isinstance(seen, Unknown)
    assert seen.manual_step is not None
    assert "Grant x." in seen.manual_step.steps


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
        pytest.param("bigquery.tables.getData", "copy", marks=pytest.mark.slow),
        ("bigquery.tables.list", "export"),
        pytest.param("storage.objects.list", "copy", marks=pytest.mark.slow),
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


@pytest.mark.parametrize(("reason", "code"), [(reason, rule.code) for rule in RULES for reason in sorted(rule.reasons)])
def test_every_reason_of_the_table_reaches_its_row(reason: str, code: str) -> None:
    """No row hides another: each of Google's reasons alone leads to its own code."""
    assert translate_reason([reason], "words that say nothing", 0, {"service": "x.googleapis.com"}).code == code


def translated(response: Any) -> errors.ReportedError:
    """Return what becomes of the exception that the library makes of an answer."""
    error: Exception = from_http_response(response)  # type: ignore[no-untyped-call]  # the library annotates only parts of itself
    return translate(error)


@pytest.mark.parametrize(
    ("reason", "said", "code", "step"),
    [
        ("CONSUMER_SUSPENDED", "Permission denied: Consumer 'projects/123456' has been suspended.",
         "project-suspended", "appeal"),
        ("ACCESS_TOKEN_SCOPE_INSUFFICIENT", "Request had insufficient authentication scopes.",
         "scopes-missing", "--scopes="),
        ("insufficientPermissions", "Request had insufficient authentication scopes.", "scopes-missing", "--scopes="),
        ("blocked", "BigQuery has temporarily denylisted the operation", "blocked", "Google's documentation"),
        ("responseTooLarge", "Response too large to return", "responseTooLarge", "Google's documentation"),
    ],
)  # fmt: skip
def test_a_403_that_is_no_missing_right_asks_for_no_right(reason: str, said: str, code: str, step: str) -> None:
    """Google answers 403 for much else: nobody is sent to grant a role that would not help."""
    found = translated(answer_of(refusal(reason, said)))
    assert found.code == code
    assert step in found.remedy
    assert "Grant" not in found.remedy


def test_a_bare_403_is_a_missing_right() -> None:
    """Where Google gives no reason at all, a right is the likeliest."""
    assert translated(answer_of("", 403)).code == "access-denied"


@pytest.mark.parametrize("challenge", ["", 'Bearer realm="https://accounts.google.com/"'])
def test_a_bare_401_is_the_refusal_of_what_was_asked_for(challenge: str) -> None:
    """It says nothing of the credentials unless its reason or its challenge does."""
    bare = answer_of("", 401)
    bare.headers["WWW-Authenticate"] = challenge
    assert isinstance(translated(bare), errors.Denied)
    bare.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
    assert translated(bare).code == "credentials"


def test_a_bare_401_for_one_account_stops_no_other() -> None:
    """The other accounts are copied, in this run and in all later ones; the refused one is handed to a person."""
    with local_gcp(accounts=2, done=2, history_days=1, kinds=("standard",)) as cloud:
        refused, other = accounts(cloud)
        cloud.faults.add("storage.objects.*", 401, "required", "no caller", times=None, path=f"*{refused}*")
        finished = run(cloud, EXPORTS="standard", COPY="standard")
        for _ in range(4):
            assert finished.report["status"] != "failed"
            cloud.advance(2 * 3600)
            finished = run(cloud, EXPORTS="standard", COPY="standard")
        assert cloud.copies(other)
        assert finished.report["scopes"]["manual"] == 1
        assert "Google refuses the call" in messages(finished)


def test_a_401_for_the_listing_of_accounts_ends_the_run() -> None:
    """What every run begins with is refused: the credentials are to be renewed."""
    with LocalGcp(accounts=1, done=1, history_days=1) as cloud:
        cloud.faults.add("cloudbilling.billingAccounts.list", 401, "", "", times=None)
        finished = run(cloud)
    assert [one["code"] for one in finished.report["failures"]] == ["credentials"]
