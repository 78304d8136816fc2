"""Behavior of every API: identities, permissions, validation, faults, hanging responses, the call log."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from google.api_core.exceptions import Forbidden, ServiceUnavailable

from localcloud.gcp.discovery import check_answer, match
from localcloud.gcp.errors import GoogleError
from localcloud.gcp.platform.names import PROJECT
from localcloud.gcp.state import Behavior
from tests.limits import HANG_S
from tests.localcloud.gcp.conftest import NO_RETRY, Clients, Opener

Make = Callable[..., Clients]


def test_invalid_token_is_401(gcp: Clients) -> None:
    """An expired or malformed token is 401; without a token, the caller is the function, as with emulators."""
    gcp.cloud.iam.expired.add("old")
    url = f"{gcp.cloud.endpoint}/v1/billingAccounts"
    for header, status in ((None, 200), ("Bearer old", 401), ("Basic x", 401), ("Bearer ", 401)):
        headers = {} if header is None else {"Authorization": header}
        assert requests.get(url, headers=headers, timeout=HANG_S).status_code == status


def test_grant_takes_effect_after_its_propagation_time(opened: Opener, clients: Make) -> None:
    """Revoking takes effect immediately."""
    one = clients(opened(behavior=Behavior(propagation_s=420)))
    one.cloud.revoke("bigquery.datasets.get")
    one.cloud.grant("bigquery.datasets.get", f"projects/{PROJECT}")
    with pytest.raises(Forbidden):
        one.bigquery.get_dataset("billing_export", retry=NO_RETRY)
    one.cloud.advance(seconds=420)
    assert one.bigquery.get_dataset("billing_export", retry=NO_RETRY).dataset_id == "billing_export"


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("projects/p/datasets", {"datasetReference": {"datasetId": "d"}, "locattion": "EU"}, '"locattion"'),
        ("projects/p/jobs", {"configuration": {"extract": {"destinationURI": "x"}}}, "at 'configuration.extract'"),
        ("projects/p/queries", {"query": "SELECT 1", "maxResults": "many"}, "'maxResults'"),
    ],
)
def test_unknown_and_mistyped_fields_are_refused(gcp: Clients, path: str, body: object, named: str) -> None:
    """Google's discovery documents define the fields of a request."""
    answer = gcp.post(f"bigquery/v2/{path}", body)
    assert answer.status_code == 400
    assert named in answer.json()["error"]["message"]


def test_unknown_parameters_are_refused(gcp: Clients) -> None:
    """Every API refuses a misspelled parameter instead of ignoring it."""
    for path in (
        "v1/billingAccounts",
        f"storage/v1/b/{gcp.cloud.deployment.bucket}/o",
        "bigquery/v2/projects/p/datasets",
    ):
        answer = gcp.get(path, pagesize=3)
        assert (answer.status_code, '"pagesize"' in answer.json()["error"]["message"]) == (400, True)


def test_unsupported_method_is_501(gcp: Clients) -> None:
    """A Google method that the local cloud lacks is 501 with its name; an unknown method is 404."""
    answer = gcp.get(f"storage/v1/b/{gcp.cloud.deployment.bucket}/iam")
    assert answer.status_code == 501
    assert "storage.buckets.getIamPolicy is not covered" in answer.json()["error"]["message"]
    assert gcp.post("batch/storage/v1", {}).status_code == 501
    assert gcp.get("storage/v2/nothing").status_code == 404


def test_injected_error_fails_the_next_call(gcp: Clients) -> None:
    """The call has no effect, and the next one succeeds."""
    gcp.cloud.fail("bigquery.datasets.*", 503, "backendError", times=1)
    with pytest.raises(ServiceUnavailable):
        gcp.bigquery.get_dataset("billing_export", retry=NO_RETRY)
    gcp.bigquery.get_dataset("billing_export", retry=NO_RETRY)


def test_throttled_api_refuses_calls_beyond_the_rate(gcp: Clients) -> None:
    """Each API refuses in its documented form until time has passed."""
    gcp.cloud.throttle("cloudbilling.*", per_second=1, burst=2)
    statuses = [gcp.get("v1/billingAccounts").status_code for _ in range(3)]
    gcp.cloud.advance(seconds=1)
    assert [*statuses, gcp.get("v1/billingAccounts").status_code] == [200, 200, 429, 200]
    gcp.cloud.throttle("bigquery.tables.list", per_second=1)
    path = f"bigquery/v2/projects/{PROJECT}/datasets/billing_export/tables"
    assert gcp.get(path).status_code == 200
    refused = gcp.get(path)
    assert (refused.status_code, refused.json()["error"]["errors"][0]["reason"]) == (403, "rateLimitExceeded")


def test_hanging_response_ends_at_the_client_timeout(gcp: Clients) -> None:
    """The call has no effect, and other calls are answered meanwhile."""
    gcp.cloud.hang("cloudbilling.billingAccounts.list")
    with pytest.raises(requests.Timeout):
        gcp.session.get(f"{gcp.cloud.endpoint}/v1/billingAccounts", timeout=0.3)
    assert gcp.get("v1/billingAccounts").status_code == 200


def test_latency_advances_the_virtual_clock(gcp: Clients) -> None:
    """The test itself does not wait."""
    gcp.cloud.latency(7, "bigquery.datasets.get")
    before = gcp.cloud.clock.monotonic()
    gcp.bigquery.get_dataset("billing_export")
    gcp.get("v1/billingAccounts")
    assert gcp.cloud.clock.monotonic() - before == 7


def test_call_log_has_identity_permission_and_resource(gcp: Clients) -> None:
    """Denied calls are logged too."""
    gcp.cloud.calls.clear()
    gcp.bigquery.get_dataset("billing_export")
    with pytest.raises(Forbidden):
        gcp.bigquery.delete_dataset("billing_export", retry=NO_RETRY)
    first, second = gcp.cloud.calls.select()
    resource = f"projects/{PROJECT}/datasets/billing_export"
    assert (first.method, first.status, first.identity) == (
        "bigquery.datasets.get",
        200,
        gcp.cloud.deployment.identity,
    )
    assert first.rights == (("bigquery.datasets.get", resource), ("bigquery.datasets.getIamPolicy", resource))
    assert (second.status, second.error) == (403, "accessDenied")
    assert gcp.cloud.calls.permissions() - gcp.cloud.deployment.permissions() == {"bigquery.datasets.delete"}


def test_internal_error_is_500(gcp: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception does not drop the connection."""
    monkeypatch.setattr(gcp.cloud.world, "catalog", None)
    with pytest.raises(Exception, match="The local cloud failed"):
        gcp.bigquery.get_dataset("billing_export", retry=NO_RETRY)


@pytest.mark.parametrize(
    ("path", "answer", "named"),
    [
        ("/bigquery/v2/projects/p/datasets/d", {"idd": "d"}, "idd is unknown"),
        ("/bigquery/v2/projects/p/datasets/d/tables/t", {"numRows": 1}, "numRows is int, not string uint64"),
        ("/storage/v1/b/b", {"timeCreated": 7}, "timeCreated is int, not string"),
        ("/storage/v1/b", {"items": [{"labels": []}]}, "items[0].labels is list, not object"),
        ("/v1/projects/p/billingInfo", {"billingEnabled": "yes"}, "billingEnabled is str, not boolean"),
        ("/v1/projects/p/topics/t", {"state": "BUSY"}, "state is 'BUSY', not one of its values"),
    ],
)
def test_answer_that_google_would_not_give_is_refused(path: str, answer: dict[str, object], named: str) -> None:
    """Google's discovery documents define the fields of an answer, too, and the gateway checks each one."""
    found = match("GET", path)
    assert found is not None
    with pytest.raises(GoogleError, match=re.escape(named)) as refused:
        check_answer(found.route, answer)
    assert refused.value.status == 501


def test_dataset_without_an_id_is_400(gcp: Clients) -> None:
    """The error names the missing field."""
    answer = gcp.post(f"bigquery/v2/projects/{PROJECT}/datasets", {})
    assert (answer.status_code, "datasetReference.datasetId" in answer.text) == (400, True)


def test_auth_library_finds_the_functions_identity(gcp: Clients, tmp_path: Path) -> None:
    """With the environment alone, the metadata server provides default credentials, and every client works."""
    program = """
import json, os, google.auth, google.auth.transport.requests
from google.cloud import bigquery, storage
credentials, project = google.auth.default()
session = google.auth.transport.requests.AuthorizedSession(credentials)
accounts = session.get(os.environ["GOOGLE_API_ENDPOINT"] + "/v1/billingAccounts").json()["billingAccounts"]
print(json.dumps([project, credentials.service_account_email, len(accounts),
    bigquery.Client().get_dataset("billing_export").location,
    storage.Client().get_bucket(os.environ["EXPORT_BUCKET"]).location]))
"""
    environment = os.environ | gcp.cloud.environment() | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=HANG_S, check=True
    )
    expected = [PROJECT, gcp.cloud.deployment.identity, 3, "US", "US"]
    assert json.loads(done.stdout) == expected
    assert {call.identity for call in gcp.cloud.calls.select()} == {gcp.cloud.deployment.identity}
