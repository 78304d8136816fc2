"""Infrastructure Manager of the local GCP, with this machine's Terraform."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
import requests

from localcloud.gcp.platform.deployment import OPERATOR
from localcloud.gcp.services.objects import Conditions
from shared.runtime.clock import SystemClock
from tests.infra import terraform
from tests.limits import HANG_S
from tests.localcloud.gcp.conftest import Clients, Opener

PROJECT = "projects/tailpipe-dataexport"
PLACE = f"{PROJECT}/locations/us-central1"
NAME = f"{PLACE}/deployments/tailpipe-exports"
DEPLOYER = "deployer@tailpipe-dataexport.iam.gserviceaccount.com"
BUCKET = "blueprints"
GOOD = """
variable "text" { type = string }
resource "terraform_data" "one" { input = var.text }
resource "terraform_data" "two" {
  for_each = toset(["a"])
  input    = terraform_data.one.output
}
output "text" { value = var.text }
output "hidden" {
  value     = var.text
  sensitive = true
}
"""
PROVISIONED = """variable "text" {}
resource "terraform_data" "last" {
  provisioner "local-exec" {
    %s
    command = "%s"
  }
}
"""


@pytest.fixture
def operator(opened: Opener, clients: Callable[..., Clients]) -> Clients:
    """Return the operator's clients; a service account may run blueprints, which are in a bucket."""
    terraform.binary()
    found = clients(opened(accounts=0, clock=SystemClock()), OPERATOR)
    cloud = found.cloud
    cloud.world.platform.add(f"{PROJECT}/serviceAccounts/{DEPLOYER}", {"email": DEPLOYER})
    cloud.world.iam.grant(DEPLOYER, "roles/config.agent", PROJECT)
    cloud.deployment.make_bucket(cloud.world, BUCKET)
    return found


def blueprint(operator: Clients, text: str, name: str = "blueprint.zip") -> str:
    """Upload a root module, and return its source."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("main.tf", text)
    bucket = operator.cloud.world.buckets.all[BUCKET]
    bucket.objects.put(name, buffer.getvalue(), {}, Conditions(), operator.cloud.clock.now())
    return f"gs://{BUCKET}/{name}"


def wanted(source: str, **more: Any) -> dict[str, Any]:
    """Return the request for a deployment or preview of a blueprint."""
    values = {"text": {"inputValue": "hello"}}
    return {
        "serviceAccount": f"{PROJECT}/serviceAccounts/{DEPLOYER}",
        "terraformBlueprint": {"gcsSource": source, "inputValues": values},
        **more,
    }


def finished(operator: Clients, answer: requests.Response) -> dict[str, Any]:
    """Wait for an operation, and return it."""
    assert answer.status_code == 200, answer.text
    operation: dict[str, Any] = answer.json()
    until = time.monotonic() + HANG_S
    while not operation["done"]:
        assert time.monotonic() < until
        time.sleep(0.02)
        operation = operator.get(f"v1/{operation['name']}").json()
    return operation


def created(operator: Clients, source: str, **more: Any) -> dict[str, Any]:
    """Create the deployment, and return it as the operation does."""
    answer = operator.post(f"v1/{PLACE}/deployments?deploymentId=tailpipe-exports", wanted(source, **more))
    response: dict[str, Any] = finished(operator, answer)["response"]
    return response


def patch(operator: Clients, body: dict[str, Any]) -> requests.Response:
    """Update the deployment's blueprint."""
    url = f"{operator.cloud.endpoint}/v1/{NAME}?updateMask=terraformBlueprint"
    return operator.session.patch(url, json=body, timeout=HANG_S)


def delete(operator: Clients, **parameters: str) -> requests.Response:
    """Delete the deployment."""
    return operator.session.delete(f"{operator.cloud.endpoint}/v1/{NAME}", params=parameters, timeout=HANG_S)


def locked(operator: Clients) -> str:
    """Lock the deployment, and return the id of the lock."""
    finished(operator, operator.post(f"v1/{NAME}:lock", {}))
    lock: str = operator.get(f"v1/{NAME}:exportLock").json()["lockId"]
    return lock


def state(operator: Clients) -> dict[str, Any]:
    """Return Terraform's state of the locked deployment."""
    uri = operator.post(f"v1/{NAME}:exportState", {}).json()["signedUri"]
    found: dict[str, Any] = requests.get(uri, timeout=HANG_S).json()
    return found


def test_deployment_from_creation_to_deletion(operator: Clients) -> None:
    """Each revision shows its resources and outputs, a sensitive one without its value; a deletion destroys them."""
    made = created(operator, blueprint(operator, GOOD))
    assert (made["state"], made["latestRevision"]) == ("ACTIVE", f"{NAME}/revisions/r-0")
    revision = operator.get(f"v1/{made['latestRevision']}").json()
    assert (revision["state"], revision["action"]) == ("APPLIED", "CREATE")
    assert revision["applyResults"]["outputs"] == {
        "text": {"sensitive": False, "value": "hello"},
        "hidden": {"sensitive": True},
    }
    resources = operator.get(f"v1/{made['latestRevision']}/resources").json()["resources"]
    assert [(one["terraformInfo"]["address"], one["intent"], one["state"]) for one in resources] == [
        ("terraform_data.one", "CREATE", "RECONCILED"),
        ('terraform_data.two["a"]', "CREATE", "RECONCILED"),
    ]
    again = finished(operator, patch(operator, wanted(blueprint(operator, GOOD, "again.zip"))))["response"]
    assert again["latestRevision"] == f"{NAME}/revisions/r-1"
    resources = operator.get(f"v1/{again['latestRevision']}/resources").json()["resources"]
    assert {one["intent"] for one in resources} == {"UNCHANGED"}
    refused = delete(operator)
    assert (refused.status_code, refused.json()["error"]["message"].split("; ")[-1]) == (400, "delete it with force.")
    assert finished(operator, delete(operator, force="true"))["response"]["state"] == "DELETED"
    assert operator.get(f"v1/{NAME}").status_code == 404
    assert operator.get(f"v1/{PLACE}/deployments").json() == {}


def test_preview_shows_changes_and_exports_terraforms_plan(operator: Clients) -> None:
    """The plan has Terraform's own form, on the state of the deployment; nothing is applied."""
    created(operator, blueprint(operator, GOOD))
    body = wanted(blueprint(operator, GOOD.replace('"a"', '"b"'), "other.zip"), deployment=NAME)
    found = finished(operator, operator.post(f"v1/{PLACE}/previews?previewId=p", body))["response"]
    assert found["state"] == "SUCCEEDED"
    changes = operator.get(f"v1/{PLACE}/previews/p/resourceChanges").json()["resourceChanges"]
    assert {one["terraformInfo"]["address"]: one["intent"] for one in changes} == {
        "terraform_data.one": "UNCHANGED",
        'terraform_data.two["a"]': "DELETE",
        'terraform_data.two["b"]': "CREATE",
    }
    uri = operator.post(f"v1/{PLACE}/previews/p:export", {}).json()["result"]["jsonSignedUri"]
    plan = requests.get(uri, timeout=HANG_S).json()
    assert plan["format_version"].startswith("1.")
    assert len(plan["resource_changes"]) == 3
    finished(operator, operator.session.delete(f"{operator.cloud.endpoint}/v1/{PLACE}/previews/p", timeout=HANG_S))
    assert operator.get(f"v1/{PLACE}/previews").json() == {}
    assert operator.get(f"v1/{NAME}").json()["latestRevision"].endswith("/r-0")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            'variable "text" {}\nresource "terraform_data" "one" {\n  input = var.nowhere\n}\n',
            "undeclared input variable",
        ),
        ('terraform {\n  backend "gcs" {\n  }\n}\n', "defines a backend"),
        (PROVISIONED % ("", "exit 3"), "exit status 3"),
    ],
    ids=["invalid", "backend", "failed"],
)
def test_failed_blueprint_leaves_a_deployment_that_says_why(operator: Clients, text: str, what: str) -> None:
    """The operation ends without an error, as Google's does; the revision has Terraform's errors."""
    made = created(operator, blueprint(operator, text))
    assert (made["state"], made["errorCode"], made["lockState"]) == ("FAILED", "REVISION_FAILED", "UNLOCKED")
    revision = operator.get(f"v1/{made['latestRevision']}").json()
    assert (revision["state"], revision["errorCode"]) == ("FAILED", "APPLY_BUILD_RUN_FAILED")
    assert what in revision["tfErrors"][0]["errorDescription"]


def test_state_is_exported_changed_and_imported_under_a_lock(operator: Clients) -> None:
    """An imported state applies from the unlock on; a resource that it no longer has is not destroyed."""
    created(operator, blueprint(operator, GOOD))
    assert operator.post(f"v1/{NAME}:exportState", {}).status_code == 400
    lock = locked(operator)
    refused = patch(operator, wanted(blueprint(operator, GOOD)))
    assert (refused.status_code, "is locked" in refused.text) == (400, True)
    found = state(operator)
    found["resources"] = [one for one in found["resources"] if one["name"] == "one"]
    uri = operator.post(f"v1/{NAME}:importState", {"lockId": lock}).json()["signedUri"]
    assert requests.put(uri, data=json.dumps(found), timeout=HANG_S).status_code == 200
    assert len(state(operator)["resources"]) == 2
    assert operator.post(f"v1/{NAME}:unlock", {"lockId": "1"}).status_code == 400
    finished(operator, operator.post(f"v1/{NAME}:unlock", {"lockId": lock}))
    locked(operator)
    assert [one["name"] for one in state(operator)["resources"]] == ["one"]
    assert requests.put(uri.replace("_signed/", "_signed/x"), data=b"", timeout=HANG_S).status_code == 403


def test_damaged_state_is_refused_at_the_unlock(operator: Clients) -> None:
    """The state before it stays, and so does the lock."""
    created(operator, blueprint(operator, GOOD))
    lock = locked(operator)
    uri = operator.post(f"v1/{NAME}:importState", {"lockId": lock}).json()["signedUri"]
    requests.put(uri, data=b"[]", timeout=HANG_S)
    done = finished(operator, operator.post(f"v1/{NAME}:unlock", {"lockId": lock}))
    assert done["error"]["message"] == "The uploaded state file is not valid."
    assert operator.get(f"v1/{NAME}").json()["lockState"] == "UNLOCK_FAILED"
    assert len(state(operator)["resources"]) == 2


def test_abandoned_resources_are_not_destroyed(operator: Clients) -> None:
    """With ABANDON the deployment goes, and no Terraform runs."""
    text = GOOD + PROVISIONED.removeprefix('variable "text" {}') % ("when = destroy", "false")
    created(operator, blueprint(operator, text))
    kept = finished(operator, delete(operator, force="true"))["response"]
    assert (kept["state"], kept["errorCode"]) == ("FAILED", "DELETE_BUILD_RUN_FAILED")
    gone = finished(operator, delete(operator, force="true", deletePolicy="ABANDON"))["response"]
    assert gone["state"] == "DELETED"


def test_terraform_runs_as_the_service_account(operator: Clients, tmp_path: Any) -> None:
    """What it calls is called by the account, never by the operator, and needs the account's permissions."""
    seen = tmp_path / "seen"
    created(operator, blueprint(operator, PROVISIONED % ("", f"echo $GOOGLE_OAUTH_ACCESS_TOKEN > {seen}")))
    token = seen.read_text(encoding="utf-8").strip()
    seen.unlink()  # no secret may be left in a file
    assert operator.cloud.iam.identity_of(token) == DEPLOYER


@pytest.mark.parametrize(
    ("permission", "code"),
    [
        ("logging.logEntries.create", "CLOUD_BUILD_PERMISSION_DENIED"),
        ("storage.objects.get", "CLOUD_BUILD_PERMISSION_DENIED"),
        ("storage.buckets.create", "BUCKET_CREATION_PERMISSION_DENIED"),
    ],
)
def test_account_without_the_agents_permissions_is_refused(operator: Clients, permission: str, code: str) -> None:
    """The preview says what the account lacks."""
    operator.cloud.deny(permission, identity=DEPLOYER)
    body = wanted(blueprint(operator, GOOD))
    found = finished(operator, operator.post(f"v1/{PLACE}/previews?previewId=p", body))["response"]
    assert (found["state"], found["errorCode"]) == ("FAILED", code)
    assert DEPLOYER in found["errorStatus"]["message"]


def test_operator_needs_each_permission(operator: Clients) -> None:
    """Also the one to act as the service account."""
    source = blueprint(operator, GOOD)
    for permission in ("config.deployments.create", "iam.serviceAccounts.actAs"):
        operator.cloud.deny(permission, identity=OPERATOR)
        answer = operator.post(f"v1/{PLACE}/deployments?deploymentId=d", wanted(source))
        assert (answer.status_code, permission in answer.text) == (403, True)
        operator.cloud.allow(permission)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"terraformBlueprint": {}}, 400),
        ({"serviceAccount": "deployer"}, 400),
        ({"serviceAccount": f"{PROJECT}/serviceAccounts/other@x.iam.gserviceaccount.com"}, 404),
        ({"terraformBlueprint": {"gitSource": {"repo": "https://example.com"}}}, 501),
        ({"quotaValidation": "ENABLED"}, 501),
        ({"unknown": 1}, 400),
    ],
    ids=["no source", "account's form", "unknown account", "git", "quota validation", "unknown field"],
)
def test_request_that_is_invalid_or_not_covered(operator: Clients, change: dict[str, Any], status: int) -> None:
    """What the local cloud does not cover is refused, never ignored."""
    body = {**wanted(blueprint(operator, GOOD)), **change}
    assert operator.post(f"v1/{PLACE}/deployments?deploymentId=d", body).status_code == status
    assert operator.post(f"v1/{NAME}:deleteState", {"lockId": "1"}).status_code == 501
