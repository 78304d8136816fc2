"""The module's own scripts against the local Azure: the package goes up as it was built, and its functions prove it."""

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
from localcloud.azure.services.directory import made_up_id
from shared.runtime.clock import VirtualClock

INFRA = Path(__file__).resolve().parents[4] / "infra" / "azure"
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
    """Return infra/azure/publish.py; nothing of it stays imported."""
    monkeypatch.setitem(sys.modules, "publish", None)
    return script("publish")


def archive(folder: Path, entries: dict[str, bytes]) -> bytes:
    """Return an archive as the packager makes them."""
    write(folder / "package.zip", entries)
    return (folder / "package.zip").read_bytes()


def publisher(publish: ModuleType, azure: LocalAzure, clock: VirtualClock, token: str = "") -> Any:
    """Return the script's publisher for the deployed app, living in the local cloud's time."""
    azure.site.functions = lambda: {name: [] for name in publish.FUNCTIONS}
    arm, scm = (
        publish.Api(one, token or azure.operator_token())
        for one in (azure.endpoint, azure.environment()["FUNCTION_ENDPOINT"])
    )
    return publish.Publisher(arm, azure.site.id, scm, clock.advance, clock.monotonic)


def test_the_archive_arrives_byte_for_byte_and_its_functions_are_listed(
    publish: ModuleType, azure: LocalAzure, clock: VirtualClock, tmp_path: Path
) -> None:
    """Passwords are off first; what Azure stores is what was built, and only then the list of functions is asked."""
    package = archive(tmp_path, WHOLE)
    publishing = publisher(publish, azure, clock)
    publishing.close_passwords()
    assert azure.site.passwords == set()
    publishing.publish(package)
    assert azure.site.package == package
    publishing.prove()
    written = [one.action for one in azure.calls if one.app == OPERATOR and one.method in ("PUT", "POST")]
    assert written == ["Microsoft.Web/sites/basicPublishingCredentialsPolicies/write"] * 2 + [ACTION]


def test_the_functions_that_prove_a_package_are_those_of_the_code(publish: ModuleType) -> None:
    """The script names what the function app declares, no more and no less."""
    source = (INFRA.parents[1] / "azure_function" / "handler.py").read_text(encoding="utf-8")
    assert set(publish.FUNCTIONS) == set(re.findall(r'@app\.function_name\("(\w+)"\)', source))


def test_a_package_that_the_host_cannot_load_is_no_success(
    publish: ModuleType, azure: LocalAzure, clock: VirtualClock, tmp_path: Path
) -> None:
    """Azure calls it deployed and lists nothing: without dependencies, and with unreadable files."""
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


def test_a_role_that_storage_does_not_know_yet_is_waited_for(
    publish: ModuleType, azure: LocalAzure, clock: VirtualClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The deployment fails with storage's message; it is retried, and reported, until the role is effective."""
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


def test_what_stays_refused_ends_with_azures_words(
    publish: ModuleType, azure: LocalAzure, clock: VirtualClock, tmp_path: Path
) -> None:
    """A closed account that the app does not reach, a setting of another plan, and a file that is not an archive."""
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


def test_a_caller_who_may_not_publish_is_refused_and_no_token_is_shown(
    publish: ModuleType, azure: LocalAzure, clock: VirtualClock, tmp_path: Path
) -> None:
    """The call, the status and Azure's words; the token is in none of them."""
    azure.deny(ACTION)
    with pytest.raises(publish.NotPublished, match="/api/publish was answered 403") as raised:
        publisher(publish, azure, clock).publish(archive(tmp_path, WHOLE))
    assert azure.operator_token() not in str(raised.value)


@pytest.mark.parametrize(
    ("query", "kind", "status"),
    [("RemoteBuild=true", "application/zip", 501), ("RemoteBuild=false", "application/json", 415)],
)
def test_the_local_endpoint_takes_what_the_real_one_takes(
    publish: ModuleType, azure: LocalAzure, query: str, kind: str, status: int
) -> None:
    """An archive without a build; a remote build is not pretended, and another type of content is refused."""
    scm = publish.Api(azure.environment()["FUNCTION_ENDPOINT"], azure.operator_token())
    with pytest.raises(publish.NotPublished, match=f"answered {status}"):
        scm.ask("POST", f"/api/publish?{query}", b"{}", kind)


def test_no_redirect_carries_the_token_away(publish: ModuleType) -> None:
    """Whatever answers in Azure's place, the token is for the host that was asked."""
    assert publish._NoRedirect().redirect_request(None, None, 302, "", {}, "http://localhost:1/") is None


def test_a_policy_is_waited_for_until_it_was_evaluated(
    publish: ModuleType, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what counts for this assignment is an evaluation; after three quarters of an hour the deployment goes on."""
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


def test_the_operators_role_is_enough_to_publish(
    publish: ModuleType, azure: LocalAzure, clock: VirtualClock, tmp_path: Path
) -> None:
    """With the shipped custom role alone the script does all of its calls."""
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
