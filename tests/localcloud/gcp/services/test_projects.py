"""Resource Manager and Service Usage: a project's state and its APIs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.api_core.exceptions import Forbidden

from shared.runtime.clock import VirtualClock
from tests.localcloud.gcp.conftest import NO_RETRY, Clients

DAY = 24 * 3600


def test_deleted_project_is_visible_for_thirty_days(gcp: Clients, clock: VirtualClock) -> None:
    """Its state is DELETE_REQUESTED, and undeleting it restores ACTIVE; after that time it is gone."""
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


def test_project_pending_deletion_refuses_calls(gcp: Clients) -> None:
    """BigQuery and Cloud Storage answer 403 with the scheduled deletion as the reason."""
    gcp.cloud.delete_project()
    with pytest.raises(Forbidden, match="scheduled for deletion"):
        gcp.bigquery.get_dataset("billing_export", retry=NO_RETRY)
    with pytest.raises(Forbidden, match="scheduled for deletion"):
        gcp.storage.get_bucket(gcp.cloud.deployment.bucket, retry=NO_RETRY)


def test_missing_project_is_403(gcp: Clients) -> None:
    """Resource Manager answers the same for a missing project and a hidden one."""
    assert gcp.get("v3/projects/no-such-project").status_code == 403


def test_methods_agree_on_the_state_of_an_api(gcp: Clients, operator: Clients) -> None:
    """get, batchGet and list return the same state."""
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
def test_call_to_a_disabled_api_is_403(gcp: Clients, service: str, ask: Callable[[Clients], object]) -> None:
    """The error has the reason SERVICE_DISABLED and the service's name until the API is enabled."""
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
