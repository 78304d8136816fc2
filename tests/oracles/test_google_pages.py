"""Google's own descriptions of paged lists, over the local Google Cloud.

Every covered method with a page token gives the same items one by one as at once, and refuses a token that it did not
give.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.discovery import DOCUMENTS, described
from localcloud.gcp.infra_manager.records import Deployment, Preview
from localcloud.gcp.platform.deployment import OPERATOR
from localcloud.gcp.platform.names import ORGANIZATION, REGION
from shared.runtime.clock import VirtualClock
from tests.limits import HANG_S
from tests.localcloud.gcp.conftest import START

# The covered methods with pages: their paths, with P for the project, and the name of their items.
PAGED = {
    "bigquery.datasets.list": ("/bigquery/v2/projects/P/datasets", "datasets"),
    "bigquery.jobs.getQueryResults": ("/bigquery/v2/projects/P/queries/JOB", "rows"),
    "bigquery.jobs.list": ("/bigquery/v2/projects/P/jobs", "jobs"),
    "bigquery.tables.list": ("/bigquery/v2/projects/P/datasets/billing_export/tables", "tables"),
    "cloudbilling.billingAccounts.list": ("/v1/billingAccounts", "billingAccounts"),
    "cloudbilling.billingAccounts.subAccounts.list": ("/v1/billingAccounts/ACCOUNT/subAccounts", "billingAccounts"),
    "cloudbilling.organizations.billingAccounts.list": ("/v1/organizations/ORG/billingAccounts", "billingAccounts"),
    "cloudfunctions.projects.locations.functions.list": ("/v2/projects/P/locations/-/functions", "functions"),
    "cloudscheduler.projects.locations.jobs.list": ("/v1/projects/P/locations/REGION/jobs", "jobs"),
    "cloudtasks.projects.locations.queues.list": ("/v2/projects/P/locations/REGION/queues", "queues"),
    "cloudtasks.projects.locations.queues.tasks.list": ("/v2/projects/P/locations/REGION/queues/Q/tasks", "tasks"),
    "config.projects.locations.deployments.list": ("/v1/projects/P/locations/REGION/deployments", "deployments"),
    "config.projects.locations.deployments.revisions.list": (
        "/v1/projects/P/locations/REGION/deployments/one/revisions",
        "revisions",
    ),
    "config.projects.locations.deployments.revisions.resources.list": (
        "/v1/projects/P/locations/REGION/deployments/one/revisions/r-0/resources",
        "resources",
    ),
    "config.projects.locations.previews.list": ("/v1/projects/P/locations/REGION/previews", "previews"),
    "config.projects.locations.previews.resourceChanges.list": (
        "/v1/projects/P/locations/REGION/previews/one/resourceChanges",
        "resourceChanges",
    ),
    "iam.projects.serviceAccounts.list": ("/v1/projects/P/serviceAccounts", "accounts"),
    "monitoring.projects.alertPolicies.list": ("/v3/projects/P/alertPolicies", "alertPolicies"),
    "monitoring.projects.dashboards.list": ("/v1/projects/P/dashboards", "dashboards"),
    "monitoring.projects.notificationChannels.list": ("/v3/projects/P/notificationChannels", "notificationChannels"),
    "serviceusage.services.list": ("/v1/projects/P/services", "services"),
    "storage.buckets.list": ("/storage/v1/b?project=P", "items"),
    "storage.objects.list": ("/storage/v1/b/BUCKET/o", "items"),
}


# difference GCP-9: Compute Engine and Cloud Monitoring have nothing to list.
ALWAYS_EMPTY = {"compute.instances.aggregatedList", "monitoring.projects.timeSeries.list"}


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalGcp]:
    """Return a deployment with several accounts, tables, jobs and objects."""
    with LocalGcp(accounts=4, clock=VirtualClock(START), history_days=3, rows=10) as opened:
        for number in range(3):
            call(opened, "POST", f"/bigquery/v2/projects/{opened.project}/queries", query(number))
        place = f"projects/{opened.project}/locations/{REGION}"
        call(opened, "POST", f"/v2/{place}/queues", {"name": f"{place}/queues/Q"})
        infra_manager(opened, place)
        yield opened


def infra_manager(cloud: LocalGcp, place: str) -> None:
    """Put two deployments and two previews into the records, which otherwise only Terraform makes."""
    records = cloud.infra_manager.records
    for name in ("one", "two"):
        deployment = f"{place}/deployments/{name}"
        revisions = [{"name": f"{deployment}/revisions/r-{number}", "state": "APPLIED"} for number in range(2)]
        resources = [{"name": f"{revisions[0]['name']}/resources/{number}"} for number in range(2)]
        records.deployments[deployment] = Deployment(
            {"name": deployment, "state": "ACTIVE"}, revisions=revisions, resources={revisions[0]["name"]: resources}
        )
        preview = f"{place}/previews/{name}"
        changes = [{"name": f"{preview}/resourceChanges/{number}", "intent": "CREATE"} for number in range(2)]
        records.previews[preview] = Preview({"name": preview, "state": "SUCCEEDED"}, changes=changes)


def query(number: int) -> dict[str, Any]:
    """Return a query whose job is listed later."""
    return {"query": f"SELECT {number} AS one", "useLegacySql": False}


def call(cloud: LocalGcp, verb: str, path: str, body: Any = None, **parameters: Any) -> Any:
    """Call a method as the operator; return the document of the answer, which has ``error`` if it is a refusal."""
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    with requests.request(
        verb, cloud.endpoint + path, params=parameters, json=body, headers=headers, timeout=HANG_S
    ) as answer:
        return answer.json()


def path_of(cloud: LocalGcp, method: str) -> str:
    """Return the path of a method, with names that exist."""
    jobs = call(cloud, "GET", f"/bigquery/v2/projects/{cloud.project}/jobs")["jobs"]
    known = {
        "/P/": f"/{cloud.project}/",
        "=P": f"={cloud.project}",
        "JOB": jobs[0]["jobReference"]["jobId"],
        "ACCOUNT": next(iter(cloud.world.billing.accounts)),
        "BUCKET": cloud.deployment.bucket,
        "REGION": REGION,
        "ORG": ORGANIZATION.rpartition("/")[2],
    }
    path, _ = PAGED[method]
    for placeholder, value in known.items():
        path = path.replace(placeholder, value)
    return path


def items(cloud: LocalGcp, method: str, size: int | None) -> list[Any]:
    """Return all items of a method, read with `size` of them a page."""
    path, (_, name) = path_of(cloud, method), PAGED[method]
    limit = "maxResults" if method.startswith(("bigquery.", "storage.")) else "pageSize"
    given: dict[str, Any] = {limit: size} if size else {}
    found: list[Any] = []
    while True:
        answer = call(cloud, "GET", path, **given)
        assert "error" not in answer, answer
        found += answer.get(name, [])
        if not answer.get("nextPageToken") and not answer.get("pageToken"):
            return found
        given["pageToken"] = answer.get("nextPageToken") or answer["pageToken"]


@pytest.mark.parametrize("method", PAGED)
def test_items_are_the_same_one_by_one(cloud: LocalGcp, method: str) -> None:
    """A page holds no more than asked for, and no item is lost or repeated between two pages."""
    whole = items(cloud, method, None)
    assert items(cloud, method, 1) == whole
    assert len({str(one) for one in whole}) == len(whole) or method.endswith("getQueryResults")


@pytest.mark.parametrize("method", PAGED)
def test_token_that_was_not_given_is_refused(cloud: LocalGcp, method: str) -> None:
    """A damaged token must not start the list anew."""
    assert "error" in call(cloud, "GET", path_of(cloud, method), pageToken="damaged")


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all methods of an API's description."""
    yield from node.get("methods", {}).values()
    for child in node.get("resources", {}).values():
        yield from walk(child)


def test_every_covered_method_with_pages_is_listed_here(cloud: LocalGcp) -> None:
    """Google's descriptions say which methods have pages."""
    methods = [one for name in DOCUMENTS for one in walk(described(name, "host"))]
    paged = {one["id"] for one in methods if "pageToken" in one.get("parameters", {})}
    assert paged & set(cloud.handlers) == set(PAGED) | ALWAYS_EMPTY
