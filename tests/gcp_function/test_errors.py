"""Translate Google's error responses into the engine's errors."""

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


def api_error(kind: type[GoogleAPICallError], reason: str, message: str) -> GoogleAPICallError:
    """Return the exception that a client raises for an error response."""
    return kind(message, errors=[{"reason": reason, "message": message}])


def auth_error(kind: Any) -> Exception:
    """Return an exception of the auth library, which is untyped."""
    error: Exception = kind("raised by the auth library")
    return error


@pytest.mark.parametrize(
    ("error", "expected", "code"),
    [
        (api_error(Forbidden, "rateLimitExceeded", "slow down"), errors.Throttled, "throttled"),
        (api_error(TooManyRequests, "", "slow down"), errors.Throttled, "throttled"),
        (api_error(Forbidden, "quotaExceeded", "Quota exceeded"), errors.Transient, "quota-exceeded"),
        (api_error(Forbidden, "accessDenied", "Access Denied"), errors.Denied, "access-denied"),
        (api_error(Forbidden, "accessNotConfigured", "bigquery.googleapis.com is off"), errors.Manual, "api-disabled"),
        (api_error(Forbidden, "billingNotEnabled", "No billing"), errors.Manual, "project-without-billing"),
        (api_error(Forbidden, "forbidden", "p has been scheduled for deletion."), errors.RunStopped, "project-deleted"),
        (api_error(Unauthorized, "authError", "Invalid Credentials"), errors.RunStopped, "credentials"),
        (api_error(BadGateway, "backendError", "try again"), errors.Transient, "service-unavailable"),
        (api_error(NotFound, "notFound", "Not found: Dataset p:d"), errors.NotFound, "not-found"),
        (api_error(NotFound, "notFound", "Dataset d was not found in location US"), errors.NotFound, "wrong-location"),
        (ReadTimeout("read timed out"), errors.Transient, "connection"),
        (ConnectTimeout("connect timed out"), errors.Transient, "connection"),
        (ChunkedEncodingError("broken"), errors.Transient, "connection"),
        (auth_error(TransportError), errors.Transient, "connection"),
        (auth_error(RefreshError), errors.RunStopped, "credentials"),
        (auth_error(DefaultCredentialsError), errors.RunStopped, "credentials"),
        (RuntimeError("?"), errors.Permanent, "unexpected"),
        (ValueError("?"), errors.NotUnderstood, "answer-not-understood"),
    ],
)  # fmt: skip
def test_error_is_translated_to_its_class(error: Exception, expected: type[errors.ReportedError], code: str) -> None:
    """The response's reason decides first, then its HTTP status."""
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
def test_failed_job_is_translated_by_its_reason(
    reason: str, message: str, expected: type[errors.ReportedError], code: str
) -> None:
    """A failed job arrives with HTTP 200, so only its reason can decide."""
    found = translate_reason([reason], message)
    assert (type(found), found.code) == (expected, code)


def test_409_for_concurrent_policy_changes_is_transient() -> None:
    """Any other 409 means that the name is already taken."""
    assert isinstance(translate_reason([], "There were concurrent policy changes.", 409), errors.Transient)
    assert translate_reason(["duplicate"], "Already Exists: Job", 409).code == "already-exists"


def http_response(
    document: object, status: int = 403, url: str = "https://storage.googleapis.com/storage/v1/b/x/o"
) -> Any:
    """Return an HTTP response as the clients receive it; a string becomes the body unchanged."""
    response = requests.Response()
    response.status_code = status
    text = document if isinstance(document, str) else json.dumps(document)
    response._content = text.encode()
    response.request = requests.Request("POST", url).prepare()
    return response


def error_document(reason: str, message: str, status: int = 403) -> dict[str, Any]:
    """Return an error document in the format of Google's older APIs."""
    errors = [{"message": message, "domain": "global", "reason": reason}]
    return {"error": {"code": status, "message": message, "errors": errors}}


BILLING_OFF = "The billing account for the owning project is disabled in state {}"
PERIMETER = "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: 1AbC-dEf_9."


@pytest.mark.parametrize(
    ("reason", "message", "code", "words"),
    [
        ("accountDisabled", BILLING_OFF.format("closed"), "project-without-billing", "reopen it"),
        ("accountDisabled", BILLING_OFF.format("absent"), "project-without-billing", "gcloud billing projects link"),
        ("accountDisabled", BILLING_OFF.format("delinquent"), "project-without-billing", "payment is overdue"),
        ("UserProjectAccountProblem", "a delinquent account", "project-without-billing", "payment is overdue"),
        ("forbidden", PERIMETER, "vpc-service-controls", "No IAM role resolves this"),
        ("retentionPolicyNotMet", "cannot be deleted or overwritten", "retention-policy", "--clear-retention-period"),
        ("objectUnderActiveHold", "Object is under active Event-Based hold", "object-held", "--no-event-based-hold"),
        ("conditionNotMet", "violates constraint 'constraints/gcp.x'", "organization-policy", "exception"),
        ("forbidden", "Permission denied on Cloud KMS key", "key-unusable", "cryptoKeyEncrypterDecrypter"),
        ("userProjectMissing", "Bucket is a requester pays bucket", "requester-pays", "--no-requester-pays"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("media", [False, True])
def test_refusal_has_its_own_remedy_in_calls_uploads_and_downloads(
    reason: str, message: str, code: str, words: str, media: bool
) -> None:
    """A refusal that no role resolves never suggests a role, even if Google's JSON arrives as text."""
    response = http_response(error_document(reason, message))
    raised: Exception = from_http_response(response)  # type: ignore[no-untyped-call]  # the library is only partly typed
    if media:
        with pytest.raises(GoogleAPICallError) as caught:
            _raise_from_invalid_response(InvalidResponse(response, "Request failed with status code", 403))
        raised = caught.value
    found = translate(raised)
    assert isinstance(found, errors.Manual)
    assert (found.code, words in found.remedy) == (code, True), found.remedy
    assert "Grant the function's service account" not in found.remedy


def test_perimeter_refusal_includes_its_unique_identifier() -> None:
    """The manual step and its link contain the identifier by which an administrator finds the perimeter's rule."""
    found = translate_reason(["SECURITY_POLICY_VIOLATED"], PERIMETER, 403, {"service": "bigquery.googleapis.com"})
    assert isinstance(found, errors.Manual)
    assert "1AbC-dEf_9" in found.manual_step.what
    assert "bigquery.googleapis.com" in found.manual_step.what
    assert found.manual_step.url.endswith("uniqueIdentifier=1AbC-dEf_9")


def test_plain_text_error_of_a_download_is_translated_by_its_text() -> None:
    """Cloud Storage answers some downloads with a plain sentence instead of JSON."""
    response = http_response(BILLING_OFF.format("closed"))
    with pytest.raises(GoogleAPICallError) as caught:
        _raise_from_invalid_response(InvalidResponse(response, "Request failed with status code", 403))
    assert translate(caught.value).code == "project-without-billing"


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"error": 7}', '{"error": {"errors": [1], "details": "x"}}', "{" * 100_000]
)
def test_error_with_a_malformed_body_is_translated_by_its_status(text: str) -> None:
    """A body that is not Google's JSON has no reason; the status remains."""
    response = http_response(text, 503)
    with pytest.raises(GoogleAPICallError) as caught:
        _raise_from_invalid_response(InvalidResponse(response, "Request failed with status code", 503))
    assert translate(caught.value).code == "service-unavailable"


@pytest.mark.parametrize("consumer", ["projects/764086051850", "projects/32555940559"])
def test_missing_quota_project_has_the_command_that_sets_it(consumer: str) -> None:
    """Calls billed to gcloud's own project need a quota project: the API cannot be enabled there."""
    metadata = {"service": "cloudbilling.googleapis.com", "consumer": consumer}
    found = translate_reason(["SERVICE_DISABLED"], "The API is disabled.", 403, metadata)
    assert found.code == "no-quota-project"
    assert "gcloud auth application-default set-quota-project" in found.remedy
    assert "services enable" not in found.remedy


def test_disabled_api_has_the_command_for_the_called_project() -> None:
    """The command enables the API in the project that the call is billed to."""
    metadata = {"service": "bigquery.googleapis.com", "consumer": "projects/123456789012"}
    found = translate_reason(["SERVICE_DISABLED"], "BigQuery API is disabled.", 403, metadata)
    assert "gcloud services enable bigquery.googleapis.com --project 123456789012" in found.remedy


def metadata_error(status: int | None) -> Exception:
    """Return the auth library's exception for a status of the metadata server, or for no response at all."""
    prefix = "Failed to retrieve http://metadata from the Google Compute Engine metadata service."
    text = f"{prefix} Status: {status} Response:" if status else f"{prefix} Compute Engine Metadata server unavailable."
    cause = TransportError(text)  # type: ignore[no-untyped-call]  # the library has no types here
    error: Exception = RefreshError(cause)  # type: ignore[no-untyped-call]  # the library has no types here
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("status", [None, 408, 429, 500, 503])
def test_transient_failure_of_the_metadata_server_is_retried(status: int | None) -> None:
    """A transient failure of the credentials' source does not mean that the credentials are missing."""
    found = translate(metadata_error(status))
    assert isinstance(found, errors.Transient)
    assert found.within_run


@pytest.mark.parametrize("status", [403, 404])
def test_refusal_by_the_metadata_server_ends_the_run(status: int) -> None:
    """A retry cannot restore a missing identity: the run ends with the remedy."""
    found = translate(metadata_error(status))
    assert (type(found), found.code) == (errors.RunStopped, "credentials")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_every_rule_has_a_remedy_and_a_runbook_entry(rule: Rule, repository: Path) -> None:
    """Every rule has a specific remedy and an entry in the runbook."""
    metadata = {"service": "bigquery.googleapis.com", "consumer": "projects/some-project-1"}
    found = rule.make(ErrorResponse((), "Google's message", 403, metadata))
    assert found.code == rule.code
    assert len(found.remedy) > 30
    assert "the message" not in found.remedy or rule.code in ("access-denied", "key-unusable")
    if isinstance(found, errors.Manual):
        assert all(found.manual_step.steps)
    assert f"`{rule.code}`" in (repository / "docs" / "runbook.md").read_text(encoding="utf-8")


def test_no_two_codes_share_a_remedy() -> None:
    """Transient errors are excepted: they resolve without action."""
    codes_by_remedy: dict[str, set[str]] = {}
    for rule in RULES:
        found = rule.make(ErrorResponse((), "Google's message", 403))
        if not isinstance(found, errors.Transient):
            codes_by_remedy.setdefault(found.remedy, set()).add(found.code)
    assert {remedy: codes for remedy, codes in codes_by_remedy.items() if len(codes) > 1} == {}


def test_unlisted_error_keeps_googles_reason_and_message_and_the_call() -> None:
    """An unlisted refusal is reported with Google's reason and message, the call, and a link to the runbook."""
    response = http_response(
        error_document("brandNew", "Something new.", 400), 400, "https://x.googleapis.com/v1/things?key=secret"
    )
    found = translate(from_http_response(response))  # type: ignore[no-untyped-call]  # the library is only partly typed
    assert isinstance(found, errors.Permanent)
    assert found.code == "brandNew"
    assert "Something new." in found.message
    assert "(POST /v1/things)" in found.message
    assert "secret" not in found.message
    assert "docs/runbook.md" in found.remedy


def test_user_credentials_use_the_deployments_project_as_quota_project(
    gcp: LocalGcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """User credentials are billed to the deployment's project unless they have a quota project."""
    settings = msgspec.structs.replace(read_settings(gcp.environment()), endpoints={})
    for own, expected in ((None, gcp.project), ("another", "another")):
        person = Credentials("token", quota_project_id=own)  # type: ignore[no-untyped-call]  # the library has no types here
        monkeypatch.setattr("google.auth.default", lambda person=person, **_: (person, None))
        assert Clients(settings)._credentials.quota_project_id == expected


def test_missing_credentials_on_cloud_run_are_transient(gcp: LocalGcp, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deployed function always has an identity, so its absence means a late metadata server and is retried."""
    settings = msgspec.structs.replace(read_settings(gcp.environment()), endpoints={})

    def none(**_: Any) -> Any:
        raise auth_error(DefaultCredentialsError)

    monkeypatch.setattr("google.auth.default", none)
    for service, expected in (("tailpipe-exports", errors.Transient), ("", errors.RunStopped)):
        monkeypatch.setenv("K_SERVICE", service)
        with pytest.raises(GoogleAuthError) as caught:
            _ = Clients(settings)._credentials
        assert isinstance(translate(caught.value), expected)


def test_token_is_removed_from_the_message() -> None:
    """Tokens that a response quotes are removed."""
    message = translate(
        api_error(Forbidden, "forbidden", "token ya29.a0AfH6SM_secret and Bearer abc.def refused")
    ).message
    assert "secret" not in message
    assert "abc.def" not in message


def test_denied_read_is_unknown_with_the_permission_to_grant() -> None:
    """A denied read proves nothing about the resource: it is Unknown, with a manual step."""
    seen = observed(errors.Denied("access-denied", "Permission x denied", "Grant x."), "dataset d")
    assert isinstance(seen, Unknown)
    assert seen.manual_step is not None
    assert "Grant x." in seen.manual_step.steps


def test_run_reports_a_disabled_api_with_the_command_that_enables_it(covered: LocalGcp) -> None:
    """A disabled API becomes a manual step; the function does not enable it."""
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
    """Return the distinct verbs of all copies."""
    return {one.action.verb for one in finished.outcomes if one.key.kind == "copy"}  # type: ignore[attr-defined]  # a RunResult


def test_hanging_call_times_out_and_is_retried(gcp: LocalGcp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call without a response ends at its time limit, and the run continues."""
    monkeypatch.setattr("gcp_function.clients.TIMEOUT_S", 0.3)
    for method in ("bigquery.datasets.get", "storage.objects.list", "bigquery.jobs.query", "bigquery.jobs.insert"):
        gcp.hang(method)
    gcp.hang("storage.objects.insert")
    lines = Lines()
    finished = run(gcp, sink=lines)
    assert finished.report["status"] == "ok"
    # On a busy machine, calls that do not hang may also exceed the limit.
    assert sum(event == "call-retried" for _, event, _ in lines.lines) >= 5


def test_calls_time_out_after_ten_seconds() -> None:
    """The documented limit is the one that production uses."""
    from gcp_function.clients import TIMEOUT_S

    assert TIMEOUT_S == 10


def test_throttled_run_slows_down_and_copies_everything(gcp: LocalGcp) -> None:
    """The run respects Google's rate limit and still copies every partition."""
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
def test_missing_read_permission_is_tolerated_then_reported(covered: LocalGcp, permission: str, kind: str) -> None:
    """A denied read may still be propagating: after three runs it becomes a manual step. No copy changes meanwhile."""
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


def test_missing_write_permission_is_deferred_then_reported(gcp: LocalGcp) -> None:
    """A denied job is deferred while the grant may be propagating; the third run reports the permission to grant."""
    gcp.deny("bigquery.tables.export")
    runs = []
    for _ in range(3):
        runs.append(run(gcp))
        gcp.advance(7200)
    refused = [outcome(one, "copy", accounts(gcp)[0], f"standard/{day_of(1)}") for one in runs]
    assert [one.result for one in refused] == [Result.DEFERRED, Result.DEFERRED, Result.MANUAL]
    assert all("bigquery.tables.export" in one.message for one in refused)
    assert "service account" in messages(runs[-1])
    gcp.allow("bigquery.tables.export")
    gcp.advance(86400)
    gcp.stream(days=1, rows=1)
    assert run(gcp).report["status"] == "ok"


@pytest.mark.parametrize(("reason", "code"), [(reason, rule.code) for rule in RULES for reason in sorted(rule.reasons)])
def test_every_reason_leads_to_its_own_rule(reason: str, code: str) -> None:
    """No rule hides another: each reason alone leads to the code of its rule."""
    assert translate_reason([reason], "an unspecific message", 0, {"service": "x.googleapis.com"}).code == code


def translate_response(response: Any) -> errors.ReportedError:
    """Translate the exception that the client library creates for a response."""
    error: Exception = from_http_response(response)  # type: ignore[no-untyped-call]  # the library is only partly typed
    return translate(error)


@pytest.mark.parametrize(
    ("reason", "message", "code", "step"),
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
def test_403_without_a_missing_permission_does_not_suggest_a_grant(
    reason: str, message: str, code: str, step: str
) -> None:
    """Google also answers 403 for problems that no role resolves."""
    found = translate_response(http_response(error_document(reason, message)))
    assert found.code == code
    assert step in found.remedy
    assert "Grant" not in found.remedy


def test_403_without_a_reason_is_a_missing_permission() -> None:
    """Without a reason, a missing permission is the most likely cause."""
    assert translate_response(http_response("", 403)).code == "access-denied"


@pytest.mark.parametrize("challenge", ["", 'Bearer realm="https://accounts.google.com/"'])
def test_401_is_denied_unless_it_rejects_the_credentials(challenge: str) -> None:
    """A 401 concerns the credentials only if its reason or its challenge says so."""
    bare = http_response("", 401)
    bare.headers["WWW-Authenticate"] = challenge
    assert isinstance(translate_response(bare), errors.Denied)
    bare.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
    assert translate_response(bare).code == "credentials"


def test_401_for_one_account_does_not_affect_the_others() -> None:
    """The other accounts are copied in every run; the denied one becomes a manual step."""
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


def test_401_for_the_listing_of_accounts_ends_the_run() -> None:
    """A 401 for the first call of every run means that the credentials must be renewed."""
    with LocalGcp(accounts=1, done=1, history_days=1) as cloud:
        cloud.faults.add("cloudbilling.billingAccounts.list", 401, "", "", times=None)
        finished = run(cloud)
    assert [one["code"] for one in finished.report["failures"]] == ["credentials"]
