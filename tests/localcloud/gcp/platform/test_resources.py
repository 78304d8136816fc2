"""The deployment as Google's APIs show it: function, schedule, policies."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httplib2  # type: ignore[import-untyped]  # has no types
import pytest
import requests
from google.oauth2.credentials import Credentials
from google_auth_httplib2 import AuthorizedHttp  # type: ignore[import-untyped]  # has no types
from googleapiclient import discovery  # type: ignore[import-untyped]  # has no types
from googleapiclient.errors import HttpError  # type: ignore[import-untyped]  # has no types

from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.deployment import OPERATOR, TENANT
from localcloud.gcp.platform.names import ORGANIZATION
from tests.limits import HANG_S
from tests.localcloud.gcp.conftest import Opener

Api = Callable[..., Any]
ROLE = {"title": "t", "stage": "GA", "includedPermissions": ["storage.buckets.list"]}


@dataclass(frozen=True)
class Echoed:
    """The response of the served function."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    error: str | None = None
    logs: tuple[str, ...] = ()


class Echo:
    """A function that returns its request; `wait` delays it."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, dict[str, str]]] = []
        self.environment: dict[str, str] = {}
        self.wait: threading.Event | None = None

    def invoke(self, body: object = None, headers: Mapping[str, str] | None = None) -> Echoed:
        self.calls.append((bytes(body) if isinstance(body, bytes) else b"", dict(headers or {})))
        if self.wait:
            self.wait.wait(HANG_S)
        body = json.dumps({"called": len(self.calls)}).encode()
        return Echoed(200, body, {"content-type": "application/json"}, logs=(f"call {len(self.calls)}",))


@pytest.fixture
def echo() -> Echo:
    """Return the function that is served."""
    return Echo()


@pytest.fixture
def gcp(opened: Opener, echo: Echo) -> LocalGcp:
    """Return a deployment with that function."""

    @contextmanager
    def runtime(environment: Mapping[str, str]) -> Iterator[Echo]:
        echo.environment = dict(environment)
        yield echo

    return opened(runtime=runtime)


@pytest.fixture
def api(gcp: LocalGcp) -> Iterator[Api]:
    """Build Google's discovery clients of services for an identity, and close them after the test."""
    made: list[Any] = []

    def build(service: str, version: str, identity: str = OPERATOR) -> Any:
        http = AuthorizedHttp(Credentials(token=identity), http=httplib2.Http(timeout=HANG_S))  # type: ignore[no-untyped-call]  # google-auth is only partly typed
        options = {"api_endpoint": gcp.endpoint}
        made.append(discovery.build(service, version, http=http, client_options=options, static_discovery=True))
        return made[-1]

    yield build
    for one in made:
        one.close()


def refused(call: Any) -> tuple[int, str]:
    """Return status and message of a refused request."""
    with pytest.raises(HttpError) as caught:
        call.execute()
    return caught.value.status_code, str(caught.value)


def test_deployed_resources_are_visible_and_linked(gcp: LocalGcp, api: Api) -> None:
    """Each API returns its part of the deployment under the module's names."""
    parent = f"projects/{gcp.project}/locations"
    (function,) = (
        api("cloudfunctions", "v2").projects().locations().functions().list(parent=f"{parent}/-").execute()["functions"]
    )
    job = (
        api("cloudscheduler", "v1")
        .projects()
        .locations()
        .jobs()
        .get(name=f"{parent}/us-central1/jobs/tailpipe-exports")
    )
    accounts = api("iam", "v1").projects().serviceAccounts().list(name=f"projects/{gcp.project}").execute()["accounts"]
    config = function["serviceConfig"]
    assert (function["state"], config["serviceAccountEmail"]) == ("ACTIVE", gcp.deployment.identity)
    assert config["environmentVariables"]["STATE_BUCKET"] == gcp.deployment.state_bucket
    target = job.execute()["httpTarget"]
    assert target["uri"] == target["oidcToken"]["audience"] == config["uri"]
    assert target["oidcToken"]["serviceAccountEmail"] in {one["email"] for one in accounts}


def test_missing_resource_is_404_or_403(gcp: LocalGcp, api: Api) -> None:
    """It is 404 for callers who may read, and 403 for others; both are logged."""
    name = f"projects/{gcp.project}/roles/no-such-role"
    assert refused(api("iam", "v1").projects().roles().get(name=name))[0] == 404
    status, message = refused(api("iam", "v1", gcp.deployment.identity).projects().roles().get(name=name))
    assert (status, "iam.roles.get" in message) == (403, True)
    assert gcp.calls.select()[-1].rights == (("iam.roles.get", f"projects/{gcp.project}"),)


def test_policies_have_the_bindings_of_the_module(gcp: LocalGcp, api: Api) -> None:
    """The conditions are on the project, and one tenant's binding is on the connector's account."""
    resources = api("cloudresourcemanager", "v3")
    policy = resources.projects().getIamPolicy(resource=f"projects/{gcp.project}", body={}).execute()
    connector = f"serviceAccount:{gcp.deployment.connector}"
    held = {one["role"]: one.get("condition") for one in policy["bindings"] if connector in one["members"]}
    assert set(held) == {
        "roles/bigquery.jobUser",
        "roles/storage.objectViewer",
        "roles/monitoring.viewer",
        "roles/compute.viewer",
    }
    assert gcp.deployment.bucket in held["roles/storage.objectViewer"]["expression"]
    organization = resources.organizations().getIamPolicy(resource=ORGANIZATION, body={}).execute()
    assert (
        connector in next(one for one in organization["bindings"] if one["role"] == "roles/billing.viewer")["members"]
    )
    account = f"projects/{gcp.project}/serviceAccounts/{gcp.deployment.connector}"
    (binding,) = api("iam", "v1").projects().serviceAccounts().getIamPolicy(resource=account).execute()["bindings"]
    assert binding["members"][0].endswith(f"/workloadIdentityPools/tailpipe-pool/attribute.tenant/{TENANT}")


def test_condition_limits_a_role_to_its_bucket(gcp: LocalGcp, clients: Callable[..., Any]) -> None:
    """The connector can read the copies, but not the state, and can write nothing."""
    gcp.put_object("copies/1.json", "{}")
    gcp.put_object("known_billing_accounts.json", "{}", gcp.deployment.state_bucket)
    connector = clients(gcp, gcp.deployment.connector)
    read = f"storage/v1/b/{gcp.deployment.bucket}/o/copies%2F1.json"
    state = f"storage/v1/b/{gcp.deployment.state_bucket}/o/known_billing_accounts.json"
    assert (connector.get(read).status_code, connector.get(state).status_code) == (200, 403)
    assert connector.session.delete(f"{gcp.endpoint}/{read}", timeout=HANG_S).status_code == 403


def test_function_url_accepts_only_tokens_of_invokers(gcp: LocalGcp, api: Api, echo: Echo) -> None:
    """Missing, forged, foreign and wrong-audience tokens are refused; the schedule's token is accepted."""
    accounts = api("iamcredentials", "v1").projects().serviceAccounts()
    uri = gcp.world.function_uri

    def call(token: str | None) -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.post(uri, data=b'{"dry_run": true}', headers=headers, timeout=HANG_S).status_code

    def token(email: str, audience: str) -> str:
        name = f"projects/-/serviceAccounts/{email}"
        return str(accounts.generateIdToken(name=name, body={"audience": audience}).execute()["token"])

    deployment = gcp.deployment
    assert call(token(deployment.scheduler, uri)) == 404  # as in a deployment: an identity of another project
    gcp.set_ingress("ALLOW_ALL")
    assert call(None) == 403
    assert call("made-up") == 401
    assert call(token(deployment.scheduler, "https://elsewhere.example.com")) == 401
    assert call(token(deployment.connector, uri)) == 403
    assert echo.calls == []
    mine = token(deployment.scheduler, uri)
    assert call(mine) == 200
    body, headers = echo.calls[0]
    assert (body, "authorization" in headers) == (b'{"dry_run": true}', False)
    assert echo.environment["GOOGLE_CLOUD_PROJECT"] == gcp.project
    assert "GOOGLE_OAUTH_ACCESS_TOKEN" not in echo.environment
    gcp.advance(seconds=3601)
    assert call(mine) == 401
    gcp.set_ingress("ALLOW_INTERNAL_ONLY")
    assert call(token(deployment.scheduler, uri)) == 404


def test_concurrent_call_is_429(gcp: LocalGcp, api: Api, echo: Echo) -> None:
    """A call that finds the only instance busy is refused after a short wait."""
    name = f"projects/-/serviceAccounts/{gcp.deployment.scheduler}"
    uri = gcp.world.function_uri
    gcp.set_ingress("ALLOW_ALL")
    body = {"audience": uri}
    token = api("iamcredentials", "v1").projects().serviceAccounts().generateIdToken(name=name, body=body).execute()
    headers = {"Authorization": f"Bearer {token['token']}"}
    echo.wait = threading.Event()
    first = threading.Thread(target=lambda: requests.post(uri, headers=headers, timeout=HANG_S), daemon=True)
    first.start()
    while not echo.calls:
        first.join(0.01)
    assert requests.post(uri, headers=headers, timeout=HANG_S).status_code == 429
    echo.wait.set()
    first.join(HANG_S)
    assert len(echo.calls) == 1


def test_schedule_can_be_paused_resumed_and_run(gcp: LocalGcp, api: Api, echo: Echo) -> None:
    """The job calls the function with its own identity; without permission, its status has the error."""
    jobs = api("cloudscheduler", "v1").projects().locations().jobs()
    name = f"projects/{gcp.project}/locations/us-central1/jobs/tailpipe-exports"
    assert jobs.pause(name=name, body={}).execute()["state"] == "PAUSED"
    assert refused(jobs.pause(name=name, body={}))[0] == 400
    assert jobs.resume(name=name, body={}).execute()["state"] == "ENABLED"
    gcp.set_ingress("ALLOW_INTERNAL_ONLY")
    jobs.run(name=name, body={}).execute()
    while "status" not in gcp.resource(name):
        threading.Event().wait(0.01)
    assert gcp.resource(name)["status"] == {}
    assert echo.calls[0][1]["user-agent"] == "Google-Cloud-Scheduler"
    entries, parent = api("logging", "v2").entries(), f"projects/{gcp.project}"
    search = 'resource.labels.service_name="tailpipe-exports" AND (jsonPayload.event:* OR textPayload:*)'
    (entry,) = entries.list(body={"resourceNames": [parent], "filter": search}).execute()["entries"]
    assert entry["textPayload"] == "call 1"
    other = {"resourceNames": [parent], "filter": 'resource.type="gce_instance"'}
    assert entries.list(body=other).execute() == {}
    for unknown in ('textPayload=~"call"', 'textPayload:* AND NOT severity="INFO"', "call"):
        assert refused(entries.list(body={"resourceNames": [parent], "filter": unknown}))[0] == 501
    gcp.revoke("roles/run.invoker", identity=gcp.deployment.scheduler)
    jobs.run(name=name, body={}).execute()
    while "status" not in gcp.resource(name):
        threading.Event().wait(0.01)
    assert (gcp.resource(name)["status"], len(echo.calls)) == ({"code": 7}, 1)


def test_project_returns_ancestry_billing_and_caller(gcp: LocalGcp, api: Api) -> None:
    """The responses have Google's format."""
    chain = (
        api("cloudresourcemanager", "v1").projects().getAncestry(projectId=gcp.project, body={}).execute()["ancestor"]
    )
    assert [one["resourceId"]["type"] for one in chain] == ["project", "organization"]
    info = api("cloudbilling", "v1").projects().getBillingInfo(name=f"projects/{gcp.project}").execute()
    assert info["billingEnabled"] is True
    assert api("oauth2", "v2").userinfo().get().execute()["email"] == OPERATOR
    tested = {"permissions": ["billing.accounts.list", "resourcemanager.organizations.setIamPolicy"]}
    organizations = api("cloudresourcemanager", "v3", gcp.deployment.identity).organizations()
    assert organizations.testIamPermissions(resource=ORGANIZATION, body=tested).execute() == {
        "permissions": ["billing.accounts.list"]
    }


def test_function_has_the_permissions_of_the_module(gcp: LocalGcp) -> None:
    """Each permission applies only on the scope that rights.yaml lists."""
    iam, world, identity = gcp.iam, gcp.world, gcp.deployment.identity
    dataset = world.chain(f"projects/{gcp.project}/datasets/billing_export")
    other = world.chain(f"projects/{gcp.project}/datasets/other")
    assert iam.allows(identity, "bigquery.tables.getData", dataset)
    assert not iam.allows(identity, "bigquery.tables.getData", other)
    state, copies = (world.chain(f"buckets/{name}") for name in (gcp.deployment.state_bucket, gcp.deployment.bucket))
    assert iam.allows(identity, "storage.buckets.update", copies)
    assert not iam.allows(identity, "storage.buckets.update", state)
    assert iam.allows(identity, "storage.objects.delete", state)
    assert not iam.allows(identity, "storage.objects.get", world.chain("buckets/of-another-project"))


def test_object_can_be_read_through_the_xml_api(gcp: LocalGcp, clients: Callable[..., Any]) -> None:
    """Google's Go client reads ``/bucket/object``: the bytes and the permissions are the same."""
    gcp.put_object("copies/1 2.json", "{}")
    path = f"{gcp.deployment.bucket}/copies/1%202.json"
    mine, others = clients(gcp, gcp.deployment.connector).get(path), clients(gcp, "stranger@example.com").get(path)
    assert (mine.status_code, mine.content, others.status_code) == (200, b"{}", 403)
    assert clients(gcp, OPERATOR).get("no-such-bucket/object").status_code == 404


def test_apis_can_be_enabled_together_and_logs_searched(gcp: LocalGcp, api: Api) -> None:
    """Each request needs its permission and returns Google's format."""
    gcp.disable_api("run.googleapis.com")
    services = api("serviceusage", "v1").services()
    parent, request_body = f"projects/{gcp.project}", {"serviceIds": ["run.googleapis.com"]}
    operation = services.batchEnable(parent=parent, body=request_body).execute()
    assert (operation["done"], operation["response"]["services"][0]["state"]) == (True, "ENABLED")
    assert services.get(name=f"{parent}/services/run.googleapis.com").execute()["state"] == "ENABLED"
    entries = api("logging", "v2").entries()
    assert entries.list(body={"resourceNames": [parent]}).execute() == {}
    assert refused(entries.list(body={}))[0] == 400
    for permission in ("serviceusage.services.enable", "logging.logEntries.list"):
        gcp.deny(permission, identity=OPERATOR)
    assert refused(services.batchEnable(parent=parent, body=request_body))[0] == 403
    assert refused(entries.list(body={"resourceNames": [parent]}))[0] == 403


def test_one_api_is_enabled_by_a_method_of_its_own(gcp: LocalGcp, api: Api) -> None:
    """`gcloud services enable` calls it for a single API; an unknown one, or a denied caller, is refused."""
    gcp.disable_api("run.googleapis.com")
    services, name = api("serviceusage", "v1").services(), f"projects/{gcp.project}/services/run.googleapis.com"
    operation = services.enable(name=name).execute()
    assert (operation["done"], operation["response"]["service"]["state"]) == (True, "ENABLED")
    assert services.get(name=name).execute()["state"] == "ENABLED"
    assert refused(services.enable(name=f"projects/{gcp.project}/services/unknown.example.com"))[0] == 403
    gcp.deny("serviceusage.services.enable", identity=OPERATOR)
    assert refused(services.enable(name=name))[0] == 403


def test_effective_constraint_is_the_projects_policy(gcp: LocalGcp, api: Api) -> None:
    """Without a policy everything is allowed; a policy can be read only with its permission, and can be removed."""
    projects = api("cloudresourcemanager", "v1").projects()
    asked = {"resource": f"projects/{gcp.project}", "body": {"constraint": "constraints/run.allowedIngress"}}
    assert projects.getEffectiveOrgPolicy(**asked).execute()["listPolicy"] == {"allValues": "ALLOW"}
    gcp.set_policy("run.allowedIngress", {"listPolicy": {"allowedValues": ["internal"]}})
    assert projects.getEffectiveOrgPolicy(**asked).execute()["listPolicy"] == {"allowedValues": ["internal"]}
    gcp.set_policy("run.allowedIngress")
    assert projects.getEffectiveOrgPolicy(**asked).execute()["listPolicy"] == {"allValues": "ALLOW"}
    wrong = {**asked, "body": {"constraint": "run.allowedIngress"}}
    assert refused(projects.getEffectiveOrgPolicy(**wrong))[0] == 400
    gcp.deny("orgpolicy.policy.get", identity=OPERATOR)
    assert refused(projects.getEffectiveOrgPolicy(**asked))[0] == 403


def test_issuer_serves_its_discovery_document(gcp: LocalGcp) -> None:
    """The document is at the standard path and names the issuer, as the deployed provider does."""
    issuer = gcp.world.issuer
    document = requests.get(f"{issuer}/.well-known/openid-configuration", timeout=HANG_S).json()
    name = f"projects/{gcp.project}/locations/global/workloadIdentityPools/tailpipe-pool/providers/tailpipe-provider"
    assert document["issuer"] == issuer == gcp.resource(name)["oidc"]["issuerUri"]


def test_discovery_document_has_local_addresses(gcp: LocalGcp) -> None:
    """The tool `bq` therefore calls this machine and not Google."""
    document = requests.get(f"{gcp.endpoint}/$discovery/rest?version=v2", timeout=HANG_S).json()
    assert document["name"] == "bigquery"
    assert document["rootUrl"] == f"{gcp.endpoint}/"
    assert document["baseUrl"] == f"{gcp.endpoint}/bigquery/v2/"


def test_account_is_created_once_with_a_valid_name(gcp: LocalGcp, api: Api) -> None:
    """It is shown afterwards; a taken or wrong name and a denied caller are refused."""
    accounts, parent = api("iam", "v1").projects().serviceAccounts(), f"projects/{gcp.project}"
    body = {"accountId": "deployer", "serviceAccount": {"displayName": "deploys"}}
    made = accounts.create(name=parent, body=body).execute()
    assert made["email"] == f"deployer@{gcp.project}.iam.gserviceaccount.com"
    assert accounts.get(name=made["name"]).execute() == made
    assert refused(accounts.create(name=parent, body=body))[0] == 409
    assert refused(accounts.create(name=parent, body={"accountId": "a_b"}))[0] == 400
    gcp.deny("iam.serviceAccounts.create", identity=OPERATOR)
    assert refused(accounts.create(name=parent, body={"accountId": "another"}))[0] == 403


@pytest.mark.parametrize("kind", ["projects", "organizations"])
def test_policy_binds_and_releases_a_custom_role(gcp: LocalGcp, api: Api, kind: str) -> None:
    """An account has the role's permissions while it is in the policy, on the resource of the role alone."""
    parent = f"projects/{gcp.project}" if kind == "projects" else ORGANIZATION
    iam, resources = api("iam", "v1"), getattr(api("cloudresourcemanager", "v1"), kind)()
    roles, body = getattr(iam, kind)().roles(), {"roleId": "lister", "role": ROLE}
    role = roles.create(parent=parent, body=body).execute()["name"]
    assert role == f"{parent}/roles/lister"
    assert refused(roles.create(parent=parent, body=body))[0] == 409
    assert refused(roles.create(parent=parent, body={"roleId": "a b", "role": ROLE}))[0] == 400
    member, name = f"deployer@{gcp.project}.iam.gserviceaccount.com", parent.removeprefix("projects/")
    policy = resources.getIamPolicy(resource=name, body={}).execute()

    def bound(*more: dict[str, object]) -> bool:
        wanted = {**policy, "bindings": [*policy.get("bindings", []), *more]}
        made = resources.setIamPolicy(resource=name, body={"policy": wanted}).execute()
        assert [one for one in made["bindings"] if one["role"] == role] == list(more)
        return gcp.iam.allows(member, "storage.buckets.list", (parent,))

    assert [bound({"role": role, "members": [f"serviceAccount:{member}"]}), bound()] == [True, False]
    assert resources.getIamPolicy(resource=name, body={}).execute() == policy
    unknown = {"bindings": [{"role": f"{parent}/roles/absent", "members": [f"serviceAccount:{member}"]}]}
    assert refused(resources.setIamPolicy(resource=name, body={"policy": {**policy, **unknown}}))[0] == 400
    gcp.deny(f"resourcemanager.{kind}.setIamPolicy", identity=OPERATOR)
    assert refused(resources.setIamPolicy(resource=name, body={"policy": policy}))[0] == 403
