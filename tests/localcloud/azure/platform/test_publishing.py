"""The publishing scripts of the module with the local Azure: unchanged upload, and the list of functions."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import ZipFile

import pytest

from cli.packaging.archive import write
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.identity import OPERATOR
from localcloud.azure.iam.rights import OWNER, Role
from localcloud.azure.platform.publishing import ACTION
from localcloud.azure.platform.resources_api import keep
from localcloud.azure.services.directory import made_up_id
from shared.runtime.clock import VirtualClock

INFRA = Path(__file__).resolve().parents[4] / "infra" / "azure"
NETWORK = "/subscriptions/00000000-0000-0000-0000-00000000aaaa/resourceGroups/network/providers/Microsoft.Network"
WHOLE = {
    "host.json": b"{}",
    "function_app.py": b"from azure_function.handler import app\n",
    ".python_packages/lib/site-packages/azure/functions/__init__.py": b"",
}


def script(name: str) -> ModuleType:
    """Return a script of the module as a Python module."""
    spec = importlib.util.spec_from_file_location(name, INFRA / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return infra/azure/publish.py, and remove it from the imported modules afterwards."""
    monkeypatch.setitem(sys.modules, "publish", None)
    return script("publish")


def archive(folder: Path, entries: dict[str, bytes]) -> bytes:
    """Return an archive in the packager's format."""
    write(folder / "package.zip", entries)
    return (folder / "package.zip").read_bytes()


def publisher(publish: ModuleType, azure: LocalAzure, clock: VirtualClock, token: str = "") -> Any:
    """Return the script's publisher for the deployed app, in the local cloud's time."""
    azure.site.functions = lambda: {name: [] for name in publish.FUNCTIONS}
    arm, scm = (
        publish.Api(one, token or azure.operator_token())
        for one in (azure.endpoint, azure.environment()["FUNCTION_ENDPOINT"])
    )
    return publish.Publisher(arm, azure.site.id, scm, clock.advance, clock.monotonic)


def test_archive_is_uploaded_unchanged_and_its_functions_listed(
    publish: ModuleType, azure: LocalAzure, clock: VirtualClock, tmp_path: Path
) -> None:
    """Basic authentication is off, Azure stores the built bytes, and then the functions are listed."""
    package = archive(tmp_path, WHOLE)
    publishing = publisher(publish, azure, clock)
    publishing.close_passwords()
    assert azure.site.passwords == set()
    publishing.publish(package)
    assert azure.site.package == package
    publishing.prove()
    written = [one.action for one in azure.calls if one.app == OPERATOR and one.method in ("PUT", "POST")]
    assert written == ["Microsoft.Web/sites/basicPublishingCredentialsPolicies/write"] * 2 + [ACTION]


def test_expected_functions_are_those_of_the_function_app(publish: ModuleType) -> None:
    """The script's list equals what the code declares."""
    source = (INFRA.parents[1] / "azure_function" / "handler.py").read_text(encoding="utf-8")
    declared = set(re.findall(r'@app\.function_name\("(\w+)"\)', source))
    optional = set(re.findall(r'^    app\.function_name\("(\w+)"\)', source, re.MULTILINE))
    expected = {*publish.OPTIONAL["EVENT_SCHEDULE"], *publish.OPTIONAL["DELTAS"]}
    assert (set(publish.FUNCTIONS), expected) == (declared, optional)


def test_optional_functions_are_required_where_they_are_declared(
    publish: ModuleType, azure: LocalAzure, clock: VirtualClock, tmp_path: Path
) -> None:
    """An app with EVENT_SCHEDULE has to list the timer that looks for changes; with DELTAS, the receiver of events."""
    publishing = publisher(publish, azure, clock)
    publishing.publish(archive(tmp_path, WHOLE))
    publishing.prove()
    publishing._functions = (*publish.FUNCTIONS, "changes_timer", "delivery_event")
    with pytest.raises(publish.NotPublished, match="does not list changes_timer, delivery_event:"):
        publishing.prove()


def test_package_that_the_host_cannot_load_fails(
    publish: ModuleType, azure: LocalAzure, clock: VirtualClock, tmp_path: Path
) -> None:
    """Azure reports success but lists no functions: without dependencies, and with unreadable files."""
    bare = {name: data for name, data in WHOLE.items() if not name.startswith(".python_packages")}
    unreadable = tmp_path / "unreadable.zip"
    with ZipFile(unreadable, "w") as made:
        for name, data in WHOLE.items():
            made.writestr(name, data)
            made.getinfo(name).external_attr = 0
    for package in (archive(tmp_path, bare), unreadable.read_bytes()):
        publishing = publisher(publish, azure, clock)
        publishing.publish(package)
        with pytest.raises(publish.NotPublished, match="does not list reconcile_http, reconcile_timer, status"):
            publishing.prove()


def test_missing_role_assignment_is_retried_until_effective(
    publish: ModuleType, azure: LocalAzure, clock: VirtualClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The deployment fails with storage's message, and the script reports each retry."""
    held = [one for one in azure.world.rights.of(azure.principal) if one.scope == azure.host_account.id]
    for one in held:
        azure.world.rights.remove(one.id)
    publishing = publisher(publish, azure, clock)

    def wait(seconds: float) -> None:
        clock.advance(seconds)
        if clock.monotonic() > 200:
            for one in held:
                azure.world.rights.assign(one.scope, one.principal, one.role, one.id)

    publishing._wait = wait
    publishing.publish(archive(tmp_path, WHOLE))
    assert azure.site.loads
    response = capsys.readouterr().err.splitlines()
    assert len(response) == 5
    assert "not authorized to perform this operation using this permission" in response[0]
    assert "trying again in 45 seconds" in response[0]


def test_permanent_failure_has_azures_message(
    publish: ModuleType, azure: LocalAzure, clock: VirtualClock, tmp_path: Path
) -> None:
    """This covers an unreachable storage account, a setting of another plan, and an invalid archive."""
    package = archive(tmp_path, WHOLE)
    azure.close_network(account=azure.host_account.name)
    with pytest.raises(
        publish.NotPublished, match=r"403 \(This request is not authorized to perform this operation\.\)"
    ):
        publisher(publish, azure, clock).publish(package)
    azure.close_network(closed=False, account=azure.host_account.name)
    azure.site.settings["SCM_DO_BUILD_DURING_DEPLOYMENT"] = "1"
    with pytest.raises(publish.NotPublished, match="SCM_DO_BUILD_DURING_DEPLOYMENT is not supported"):
        publisher(publish, azure, clock).publish(package)
    del azure.site.settings["SCM_DO_BUILD_DURING_DEPLOYMENT"]
    with pytest.raises(publish.NotPublished, match="not a valid zip"):
        publisher(publish, azure, clock).publish(b"no archive")


@pytest.mark.parametrize("by", ["service endpoint", "private endpoint"])
def test_closed_storage_admits_the_network_of_the_app(
    publish: ModuleType, azure: LocalAzure, clock: VirtualClock, tmp_path: Path, by: str
) -> None:
    """A subnet alone does not suffice: the account lists it, or has a private endpoint."""
    host, subnet = azure.host_account, f"{NETWORK}/virtualNetworks/hub/subnets/function"
    azure.close_network(account=host.name)
    azure.site.given["virtualNetworkSubnetId"] = subnet
    with pytest.raises(publish.NotPublished, match="403"):
        publisher(publish, azure, clock).publish(archive(tmp_path, WHOLE))
    if by == "service endpoint":
        host.given["networkAcls"] = {"virtualNetworkRules": [{"id": subnet, "action": "Allow"}]}
    else:
        link = {"properties": {"privateLinkServiceId": host.id}}
        body = {"properties": {"privateLinkServiceConnections": [link]}}
        keep(azure.world, f"{NETWORK}/privateEndpoints/{host.name}-blob", body)
    publisher(publish, azure, clock).publish(archive(tmp_path, WHOLE))
    assert azure.site.package == archive(tmp_path, WHOLE)


def test_denied_publishing_shows_call_status_and_message_but_no_token(
    publish: ModuleType, azure: LocalAzure, clock: VirtualClock, tmp_path: Path
) -> None:
    """The token appears in none of them."""
    azure.deny(ACTION)
    with pytest.raises(publish.NotPublished, match="/api/publish was answered 403") as raised:
        publisher(publish, azure, clock).publish(archive(tmp_path, WHOLE))
    assert azure.operator_token() not in str(raised.value)


@pytest.mark.parametrize(
    ("query", "kind", "status"),
    [("RemoteBuild=true", "application/zip", 501), ("RemoteBuild=false", "application/json", 415)],
)
def test_publishing_endpoint_accepts_only_an_archive_without_a_build(
    publish: ModuleType, azure: LocalAzure, query: str, kind: str, status: int
) -> None:
    """A remote build and another content type are refused."""
    scm = publish.Api(azure.environment()["FUNCTION_ENDPOINT"], azure.operator_token())
    with pytest.raises(publish.NotPublished, match=f"answered {status}"):
        scm.ask("POST", f"/api/publish?{query}", b"{}", kind)


def test_redirect_does_not_receive_the_token(publish: ModuleType) -> None:
    """The token is sent only to the original host."""
    assert publish._NoRedirect().redirect_request(None, None, 302, "", {}, "http://localhost:1/") is None


def test_script_waits_until_a_policy_is_evaluated(
    publish: ModuleType, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only evaluations of this assignment count; after 45 minutes the deployment continues."""
    monkeypatch.setitem(sys.modules, "policy_evaluated", None)
    waiting = script("policy_evaluated")
    other = {"policyAssignmentId": "/other", "results": {"resourceDetails": [{"count": 3}]}}
    ours = {"policyAssignmentId": "/MG/ours", "results": {"resourceDetails": [{"complianceState": "x", "count": 2}]}}
    empty = {"policyAssignmentId": "/mg/ours", "results": {"resourceDetails": []}}
    answers = [None, {"value": [{"policyAssignments": [other, empty]}]}, {"value": [{"policyAssignments": [ours]}]}]

    class Arm:
        def ask(self, method: str, path: str, data: bytes) -> Any:
            assert (method, data) == ("POST", b"")
            assert "PolicyAssignmentId%20eq%20%27/mg/ours%27" in path
            return answers.pop(0) if len(answers) > 1 else answers[0]

    assert waiting.wait_for(Arm(), "/mg", "/mg/ours", clock.advance, clock.monotonic)
    assert clock.monotonic() == 60
    answers[:] = [None]
    assert not waiting.wait_for(Arm(), "/mg", "/mg/ours", clock.advance, clock.monotonic)
    assert clock.monotonic() - 60 == pytest.approx(45 * 60, abs=31)


def test_operators_role_is_sufficient_to_publish(
    publish: ModuleType, azure: LocalAzure, clock: VirtualClock, tmp_path: Path
) -> None:
    """The shipped custom role allows all calls of the script."""
    actions = tuple(json.loads((INFRA / "operator-role.json").read_text(encoding="utf-8"))["Actions"])
    rights = azure.world.rights
    shipped = Role(made_up_id("shipped role"), "Tailpipe Exports Operator", actions, custom=True)
    rights.roles[shipped.id] = shipped
    for one in rights.of(OPERATOR):
        assert one.role == OWNER
        rights.remove(one.id)
    root = f"/providers/Microsoft.Management/managementGroups/{azure.tenant}"
    rights.assign(root, OPERATOR, shipped.id, made_up_id("shipped role's assignment"))
    publishing = publisher(publish, azure, clock)
    publishing.close_passwords()
    publishing.publish(archive(tmp_path, WHOLE))
    publishing.prove()
    assert [one for one in azure.calls if one.app == OPERATOR and one.status >= 400] == []
