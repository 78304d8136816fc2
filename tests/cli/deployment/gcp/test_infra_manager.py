"""Infrastructure Manager as an engine, on the local Google Cloud with this machine's Terraform."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.deployment.engine import Planning
from cli.deployment.gcp import backend, blueprint, migrate
from cli.deployment.gcp import rights as gcp_rights
from cli.deployment.gcp.infra_manager import InfraManager, InfraPlan
from cli.deployment.gcp.infra_manager_rest import InfraManagerRest
from cli.deployment.gcp.operator import GcpOperator
from cli.deployment.gcp.session import open_session
from cli.deployment.model import Kept, OperatorError
from cli.deployment.terraform.engine import TerraformEngine
from cli.deployment.terraform.variables import declared
from cli.main import main
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.deployment import OPERATOR
from localcloud.gcp.services.object_files import read
from tests.cli.support.infra_manager import deployer, small_module
from tests.infra import terraform
from tests.infra.checks.test_terraform import unformatted
from tests.infra.language import newer

DATA = [Kept("the data", ("terraform_data.data",))]
PACKAGE = "tailpipe-exports-gcp.zip"
ALL = [f"module.tailpipe.terraform_data.{name}" for name in ("data", "function", "last")]


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGcp]:
    """Open a local Google Cloud without a function, with an account that deploys."""
    terraform.binary()
    with LocalGcp(accounts=0, bare=True) as opened:
        for name, value in opened.environment().items():
            if not name.startswith("TF_VAR_"):
                monkeypatch.setenv(name, value)
        deployer(opened)
        yield opened


class Commands:
    """What the commands do with an engine; `lines` are what they show."""

    def __init__(self, folder: Path) -> None:
        self.module = small_module(folder / "module")
        self.folder = folder
        self.lines: list[str] = []

    def engine(self) -> InfraManager:
        return InfraManager(open_session({}), lambda _seconds: None, self.module)

    def planning(self, package: bytes = b"PK", dry_run: bool = False, **values: Any) -> Planning:
        (self.folder / PACKAGE).write_bytes(package)
        given = {"package": PACKAGE, "project_id": "p", "region": "r", **values}
        show = self.lines.append
        return Planning(self.folder, declared(self.module), given, dry_run, everything=False, say=show, tell=show)

    def plan(self, engine: InfraManager, package: bytes = b"PK", dry_run: bool = False, **values: Any) -> InfraPlan:
        return engine.plan(self.planning(package, dry_run, **values))

    def deploy(self, **values: Any) -> InfraManager:
        engine = self.engine()
        engine.apply(self.plan(engine, **values), self.lines.append)
        return engine


@pytest.fixture
def commands(cloud: LocalGcp, tmp_path: Path) -> Commands:
    """Return the commands on a small module."""
    del cloud
    return Commands(tmp_path)


def actions(plan: InfraPlan) -> dict[str, tuple[str, ...]]:
    """Return what a plan does, by the resource's name."""
    return {one.address.removeprefix("module.tailpipe.terraform_data."): one.actions for one in plan.changes}


def test_deployment_is_planned_applied_updated_and_removed_with_its_data_kept(
    cloud: LocalGcp, commands: Commands
) -> None:
    """A second plan is empty; a new package changes the function; what is kept leaves the state before the removal."""
    engine = commands.engine()
    assert (engine.held(), engine.addresses()) == (False, [])
    plan = commands.plan(engine)
    assert actions(plan) == {"data": ("create",), "function": ("create",), "last": ("create",)}
    assert (plan.granted, len(plan.types)) == ({"function": ["RunJobs"]}, 3)
    assert engine.held() is False
    engine.apply(plan, commands.lines.append)
    assert (engine.held(), engine.addresses()) == (True, ALL)
    assert engine.outputs()["onboarding"] == "one"
    assert commands.plan(commands.engine()).empty
    updated = commands.plan(commands.engine(), package=b"PK2")
    assert actions(updated) == {"function": ("update",)}
    commands.engine().apply(updated, commands.lines.append)
    gone = [one.address for one in commands.engine().removal(DATA)]
    assert gone == ALL[1:]
    assert commands.engine().addresses() == ALL
    removing = commands.engine()
    leaving = removing.plan_removal(DATA)
    assert [one.address for one in leaving.changes] == ALL[1:]
    removing.apply(leaving, commands.lines.append)
    assert (removing.held(), removing.addresses()) == (False, [])
    assert cloud.calls.select(method="config.projects.locations.previews.create") != []
    used = {right for call in cloud.calls.select(identity=OPERATOR) for right, _ in call.rights}
    assert {one for one in used if one.startswith("config.")} == {
        one
        for one in gcp_rights.native_actions()
        if one.startswith("config.") and one != "config.revisions.get"  # only to say why an apply failed
    }
    assert used <= {*gcp_rights.native_actions(), *gcp_rights.actions("project")}
    bucket = cloud.world.buckets.all[f"tailpipe-terraform-{cloud.project}"]
    names = [one for one in bucket.objects.names() if one.startswith("blueprints/")]
    assert len(names) == 2
    with zipfile.ZipFile(BytesIO(read(bucket.objects.get("", names[0]).content))) as archive:
        assert {"main.tf", "variables.tf", PACKAGE, "module/main.tf"} <= set(archive.namelist())


def test_interrupted_removal_continues(cloud: LocalGcp, commands: Commands) -> None:
    """A lock that a killed command left is taken over, and what it had given up stays given up."""
    commands.deploy()
    commands.engine().plan_removal(DATA)
    (found,) = _deployments(cloud).values()
    found.lock, found.locked_by, found.document["lockState"] = "1234567890123456", OPERATOR, "LOCKED"
    again = commands.engine()
    leaving = again.plan_removal(DATA)
    assert [one.address for one in leaving.changes] == ALL[1:]
    again.apply(leaving, commands.lines.append)
    assert again.held() is False


def test_lock_of_another_person_is_refused(cloud: LocalGcp, commands: Commands) -> None:
    """They may be changing the state at the moment."""
    commands.deploy()
    (found,) = _deployments(cloud).values()
    found.lock, found.locked_by, found.document["lockState"] = "1", "someone@example.com", "LOCKED"
    with pytest.raises(OperatorError, match=r"locked by someone@example\.com"):
        commands.engine().plan_removal(DATA)
    assert found.lock == "1"


def test_failed_deployment_is_found_and_removed_without_its_region(commands: Commands) -> None:
    """No function tells the region yet; a deployment without a resource is removed as well."""
    engine = InfraManager(open_session({"region": "europe-west1"}), lambda _seconds: None, commands.module)
    engine.begin(commands.planning())
    found = commands.engine()
    assert (found.held(), found.addresses()) == (True, [])
    assert [one.type for one in found.removal(DATA)] == ["deployment"]
    found.apply(found.plan_removal(DATA), commands.lines.append)
    assert commands.engine().held() is False


def test_failed_last_resource_is_reported_and_continued(commands: Commands) -> None:
    """What was created stays in the deployment; the next deployment creates the rest."""
    engine = commands.engine()
    plan = commands.plan(engine, command="exit 7")
    with pytest.raises(OperatorError, match="exit status 7") as caught:
        engine.apply(plan, commands.lines.append)
    assert len(caught.value.problems) == 1
    assert engine.held()
    assert ALL[1] in engine.addresses()
    again = commands.deploy(command="true")
    assert again.addresses() == ALL


def test_wrong_value_is_refused_by_the_modules_rule_before_anything_is_created(commands: Commands) -> None:
    """The preview has the rule's own message."""
    engine = commands.engine()
    with pytest.raises(OperatorError, match=r"Write another text\."):
        commands.plan(engine, text="wrong")
    assert engine.held() is False


def test_dry_run_creates_nothing(cloud: LocalGcp, commands: Commands) -> None:
    """Without a bucket for the blueprint it says how to make one."""
    with pytest.raises(OperatorError) as caught:
        commands.plan(commands.engine(), dry_run=True)
    assert "gcloud storage buckets create" in caught.value.problems[0].remedy
    assert not [one.method for one in cloud.calls.select(identity=OPERATOR) if "insert" in one.method]
    assert cloud.world.buckets.all == {}
    backend.make(open_session({}), commands.lines.append)
    assert len(commands.plan(commands.engine(), dry_run=True).changes) == 3
    assert cloud.objects(backend.bucket_of(open_session({}))) == []
    assert _deployments(cloud) == {}


def _terraforms(cloud: LocalGcp) -> dict[str, Any]:
    bucket = cloud.world.buckets.all[backend.bucket_of(open_session({}))]
    found: dict[str, Any] = json.loads(read(bucket.objects.get("", backend.STATE).content))
    return found


def _moved_to_terraform(cloud: LocalGcp, commands: Commands) -> dict[str, Any]:
    """Deploy, move to Terraform, and return its state."""
    commands.deploy()
    migrate.to_terraform(open_session({}), commands.engine(), commands.lines.append)
    return _terraforms(cloud)


def test_state_moves_to_terraform_and_back_without_a_change(cloud: LocalGcp, commands: Commands) -> None:
    """Every resource keeps its id; a plan after each move is empty; the other side holds nothing."""
    state = _moved_to_terraform(cloud, commands)
    ids = {one["name"]: one["instances"][0]["attributes"]["id"] for one in state["resources"]}
    assert set(ids) == {"data", "function", "last"}
    assert commands.engine().held() is False
    migrate.to_native(open_session({}), commands.engine(), commands.planning())
    assert commands.engine().addresses() == ALL
    moved = commands.engine().state()
    assert {one["name"]: one["instances"][0]["attributes"]["id"] for one in moved["resources"]} == ids
    assert _terraforms(cloud)["resources"] == []
    assert commands.plan(commands.engine()).empty
    migrate.to_native(open_session({}), commands.engine(), commands.planning())
    assert "the deployment is managed by Infrastructure Manager already" in commands.lines


def test_move_that_ended_after_its_interruption_is_done(cloud: LocalGcp, commands: Commands) -> None:
    """Google deletes the deployment without the command that asked for it; the same command finds nothing to do."""
    _moved_to_terraform(cloud, commands)
    before = _terraforms(cloud)
    migrate.to_terraform(open_session({}), commands.engine(), commands.lines.append)
    assert "the deployment is managed by Terraform already" in commands.lines
    assert _terraforms(cloud) == before


def test_move_of_nothing_is_refused(cloud: LocalGcp, commands: Commands) -> None:
    """The operator's methods say what is missing, in either direction; an empty state of Terraform is nothing."""
    del cloud
    operator = GcpOperator.open({})
    with ExitStack() as stack:
        engine = TerraformEngine(stack, operator, None)
        with pytest.raises(OperatorError, match="holds nothing to move"):
            operator.to_native(commands.planning(), engine)
        with pytest.raises(OperatorError, match="has no deployment tailpipe-exports"):
            operator.to_terraform(commands.planning(), engine)


def test_move_with_other_values_moves_nothing(cloud: LocalGcp, commands: Commands) -> None:
    """The problem names the resources that would change; Terraform still holds all of them."""
    _moved_to_terraform(cloud, commands)
    with pytest.raises(OperatorError, match=r"would change 1 resource,.*terraform_data\.function"):
        migrate.to_native(open_session({}), commands.engine(), commands.planning(text="two"))
    assert (commands.engine().held(), len(_terraforms(cloud)["resources"])) == (False, 3)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["begin", "take_over", "plan", "apply"])
def test_interrupted_move_continues(
    cloud: LocalGcp, commands: Commands, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A command that is killed after any step is repeated, and the move is complete."""
    _moved_to_terraform(cloud, commands)
    original = getattr(InfraManager, step)

    def killed(*arguments: Any) -> None:
        original(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(InfraManager, step, killed)
        with pytest.raises(KeyboardInterrupt):
            migrate.to_native(open_session({}), commands.engine(), commands.planning())
    migrate.to_native(open_session({}), commands.engine(), commands.planning())
    assert (commands.engine().addresses(), _terraforms(cloud)["resources"]) == (ALL, [])


def _off(cloud: LocalGcp) -> None:
    cloud.world.projects.all[cloud.project].services.remove("config.googleapis.com")


def _no_account(cloud: LocalGcp) -> None:
    del cloud.world.platform.all[f"projects/{cloud.project}/serviceAccounts/{cloud.deployment.account('deployer')}"]


def _no_agent(cloud: LocalGcp) -> None:
    cloud.world.iam.strip(cloud.deployment.account("deployer"))


def _no_acting(cloud: LocalGcp) -> None:
    cloud.deny("iam.serviceAccounts.actAs", identity=OPERATOR)


@pytest.mark.parametrize(
    ("change", "what", "remedy"),
    [
        (_off, "API is off", "gcloud services enable config.googleapis.com"),
        (_no_account, "does not exist", "gcloud iam service-accounts create tailpipe-deployer"),
        (_no_agent, "roles/config.agent", "--role=roles/config.agent"),
        (_no_acting, "iam.serviceAccounts.actAs", "--file=infra/gcp/operator-native-role.yaml"),
    ],
    ids=["the API is off", "no account", "the account lacks the agent's role", "the operator may not act as it"],
)
def test_what_keeps_infrastructure_manager_from_running(
    cloud: LocalGcp, commands: Commands, change: Callable[[LocalGcp], None], what: str, remedy: str
) -> None:
    """Each is one sentence with the command that cures it."""
    change(cloud)
    engine = commands.engine()
    with pytest.raises(OperatorError, match=what) as caught:
        _attempt(commands, engine)
    (problem,) = caught.value.problems
    assert remedy in f"{problem.what} {problem.remedy}"
    assert engine.held() is False


def test_doctor_checks_what_infrastructure_manager_needs(cloud: LocalGcp, commands: Commands) -> None:
    """Once it holds the deployment; the remedy is the command that grants the custom role."""

    def checked() -> dict[str, tuple[bool, str]]:
        answer = CliRunner().invoke(main, ["doctor", "gcp", "--json"])
        return {one["right"].split()[0]: (one["present"], one["remedy"]) for one in json.loads(answer.stdout)["rights"]}

    before = checked()
    commands.deploy()
    assert {*checked()} - {*before} == {*gcp_rights.native_actions()} - {*before}
    cloud.deny("config.deployments.lock", identity=OPERATOR)
    present, remedy = checked()["config.deployments.lock"]
    assert present is False
    assert "infra/gcp/operator-native-role.yaml" in remedy


def test_deployment_of_another_owner_is_not_touched(cloud: LocalGcp, commands: Commands) -> None:
    """Its label tells them apart."""
    commands.deploy()
    (found,) = _deployments(cloud).values()
    found.document["labels"] = {}
    engine = commands.engine()
    assert engine.held() is False
    with pytest.raises(OperatorError, match="is not this tool's"):
        _attempt(commands, engine)


def test_operation_of_an_interrupted_command_is_waited_for(cloud: LocalGcp, commands: Commands) -> None:
    """The next command shows that it waits, then plans on the result."""
    commands.deploy()
    (found,) = _deployments(cloud).values()
    found.document["state"] = "UPDATING"
    engine = InfraManager(open_session({}), lambda _seconds: found.document.update(state="ACTIVE"), commands.module)
    assert commands.plan(engine).empty
    assert "waiting: an operation on deployment tailpipe-exports is in progress (UPDATING)" in commands.lines


def test_removal_that_ends_at_google_meanwhile_leaves_nothing_to_do(cloud: LocalGcp, commands: Commands) -> None:
    """The command that started it was interrupted; the same command waits for its end instead of failing."""
    commands.deploy()
    (found,) = _deployments(cloud).values()
    found.document["state"] = "DELETING"
    engine = InfraManager(open_session({}), lambda _seconds: _deployments(cloud).clear(), commands.module)
    assert engine.plan_removal(DATA).empty


def _attempt(commands: Commands, engine: InfraManager) -> None:
    session = open_session({})
    InfraManagerRest(session).require_ready()
    gcp_rights.require_native(session)
    commands.plan(engine)


def _deployments(cloud: LocalGcp) -> dict[str, Any]:
    found: dict[str, Any] = cloud.infra_manager.records.deployments
    return found


def test_deployment_over_that_of_terraform_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function without a deployment of Infrastructure Manager is Terraform's, wherever its state is."""
    with LocalGcp(accounts=0) as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        result = CliRunner().invoke(main, ["deploy", "gcp", "--with", "native", "--var", "environment=prod", "--yes"])
        assert result.exit_code == 1
        shown = " ".join(result.stderr.split())
        assert "is managed by Terraform" in shown
        assert "tailpipe-exports migrate gcp --to native" in shown
        assert not [one for one in cloud.calls.select(identity=OPERATOR) if one.method.endswith((".create", ".insert"))]


@pytest.mark.parametrize("content", ["{", "[]", '{"resources": 1}'])
def test_damaged_state_of_terraform_is_reported(cloud: LocalGcp, content: str) -> None:
    """It could hold resources, so nothing is deployed over it."""
    operator = GcpOperator.open({})
    operator.make_backend(lambda _line: None)
    assert operator.held_by_terraform() is False
    cloud.put_object(backend.STATE, content, backend.bucket_of(open_session({})))
    with pytest.raises(OperatorError, match="is damaged"):
        operator.held_by_terraform()


def test_blueprint_without_the_package_is_refused_by_the_modules_rule(commands: Commands) -> None:
    """The rule says how the package is made."""
    engine = commands.engine()
    backend.make(open_session({}), commands.lines.append)
    content = blueprint.files(b"PK", commands.module)
    del content[PACKAGE]
    values = {name: {"inputValue": "x"} for name in ("project_id", "region")}
    with pytest.raises(OperatorError, match=r"The file does not exist\."):
        engine._rest.preview(engine._body(engine._upload(commands.folder, content), values), exists=False)


def test_shipped_blueprint_is_formatted_and_stays_at_the_language_of_1_5(tmp_path: Path) -> None:
    """It has every variable of the module but the package, which is inside."""
    blueprint.write(tmp_path, blueprint.files(b"PK"))
    assert newer(tmp_path) == []
    assert newer(tmp_path / "module") == []
    assert set(declared(tmp_path)) == set(declared(blueprint.SOURCE)) - {"package"}
    assert unformatted(tmp_path) == ""
