"""Resource Manager and Service Usage: a project's state and its APIs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.api_core.exceptions import Forbidden

from shared.runtime.clock import VirtualClock
from tests.localcloud.gcp.conftest import NO_RETRY, Clients

DAY = 24 * 3600


def test_a_deleted_project_can_be_seen_for_thirty_days(gcp: Clients, clock: VirtualClock) -> None:
    """DELETE_REQUESTED is answered until the end, undeleting brings ACTIVE back, and then the project is gone."""
    path = f"v3/projects/{gcp.cloud.project}"
    assert gcp.get(path).json()["state"] == "ACTIVE"
    gcp.cloud.delete_project()
    assert gcp.get(path).json()["state"] == "DELETE_REQUESTED"
    assert gcp.get(path.replace("v3", "v1")).json()["lifecycleState"] == "DELETE_REQUESTED"
    gcp.cloud.undelete_project()
    assert gcp.get(path).json()["state"] == "ACTIVE"
    gcp.cloud.delete_project()
    clock.advance(30 * DAY)
    assert gcp.get(path).status_code == 403


def test_nothing_works_in_a_project_that_is_being_deleted(gcp: Clients) -> None:
    """BigQuery and Cloud Storage refuse with 403 and say that the project is scheduled for deletion."""
    gcp.cloud.delete_project()
    with pytest.raises(Forbidden, match="scheduled for deletion"):
        gcp.bigquery.get_dataset("billing_export", retry=NO_RETRY)
    with pytest.raises(Forbidden, match="scheduled for deletion"):
        gcp.storage.get_bucket(gcp.cloud.deployment.bucket, retry=NO_RETRY)


def test_a_project_that_does_not_exist_is_forbidden(gcp: Clients) -> None:
    """Resource Manager answers alike for a missing project and a hidden one."""
    assert gcp.get("v3/projects/no-such-project").status_code == 403


def test_services_are_enabled_or_disabled(gcp: Clients, operator: Clients) -> None:
    """get, batchGet and list agree on the state of an API."""
    gcp.cloud.disable_api("compute.googleapis.com")
    parent = f"v1/projects/{gcp.cloud.project}/services"
    single = gcp.get(f"{parent}/compute.googleapis.com").json()
    names = [f"projects/{gcp.cloud.project}/services/{name}.googleapis.com" for name in ("compute", "bigquery")]
    both = gcp.get(f"{parent}:batchGet", names=names).json()["services"]
    off = operator.get(parent, filter="state:DISABLED").json()["services"]
    assert single["state"] == "DISABLED"
    assert [service["state"] for service in both] == ["DISABLED", "ENABLED"]
    assert [service["config"]["name"] for service in off] == ["compute.googleapis.com"]


@pytest.mark.parametrize(
    ("service", "ask"),
    [
        ("bigquery", lambda one: one.bigquery.get_dataset("billing_export", retry=NO_RETRY)),
        ("storage", lambda one: one.storage.get_bucket(one.cloud.deployment.bucket, retry=NO_RETRY)),
        ("cloudbilling", lambda one: one.get("v1/billingAccounts").raise_for_status()),
        ("cloudresourcemanager", lambda one: one.get(f"v3/projects/{one.cloud.project}").raise_for_status()),
    ],
)
def test_an_api_that_is_off_says_so(gcp: Clients, service: str, ask: Callable[[Clients], object]) -> None:
    """The call fails with 403, the reason SERVICE_DISABLED and the service's name, until the API is on again."""
    ask(gcp)
    gcp.cloud.disable_api(f"{service}.googleapis.com")
    with pytest.raises(Exception, match="403"):
        ask(gcp)
    last = gcp.cloud.calls.select()[-1]
    assert (last.status, last.error) == (403, "accessNotConfigured")
    raw = gcp.get("v1/billingAccounts") if service == "cloudbilling" else None
    if raw is not None:
        (detail,) = raw.json()["error"]["details"]
        assert (detail["reason"], detail["metadata"]["service"]) == ("SERVICE_DISABLED", "cloudbilling.googleapis.com")
    gcp.cloud.enable_api(f"{service}.googleapis.com")
    ask(gcp)
