"""deploy, doctor, invoke and destroy with the launch templates, on the local Azure."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cli.deployment.azure.names import names
from cli.deployment.azure.session import open_session
from cli.deployment.azure.stack import AzureStack, is_noise
from cli.deployment.azure.stack_removal import POLL_S
from cli.deployment.engine import Planning
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.identity import OPERATOR
from localcloud.azure.platform.deployment import CONTAINER, TAILPIPE_APP
from localcloud.azure.platform.resources_api import keep
from shared.runtime.clock import SystemClock
from tests.cli.support.azure import said, sign_in, tailpipe, template_variables, tenant

TAILPIPE = "00000000-0000-0000-0000-00000000c0de"
DATA = "tailpipedataexport00"
NATIVE = ("--with", "native", "--yes")
READS = {"GET", "HEAD"}
# POST requests that only read.
READING = ("/read", "list/action", "listkeys/action", "validate/action", "whatif/action")


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAzure]:
    """Return a tenant without a deployment but with Tailpipe's application, signed in."""
    with tenant(bare=True) as cloud:
        cloud.world.service_principals[TAILPIPE_APP] = TAILPIPE
        sign_in(cloud, monkeypatch)
        monkeypatch.delenv("DESTINATION", raising=False)
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", cloud.subscription_ids[0])
        yield cloud


@pytest.fixture
def variables(tmp_path: Path) -> list[str]:
    """Return the arguments of a deployment whose accounts the emulator has."""
    return template_variables(tmp_path)


def writes(azure: LocalAzure) -> list[str]:
    """Return the operator's writes by action."""
    return [
        one.action
        for one in azure.calls
        if one.app == OPERATOR and one.method not in READS and not one.action.lower().endswith(READING)
    ]


def deployments(azure: LocalAzure) -> Mapping[str, Any]:
    """Return the deployments of templates by name."""
    return {
        one["name"]: one for one in azure.world.resources.values() if one["type"] == "Microsoft.Resources/deployments"
    }


@pytest.mark.slow
def test_launch_template_is_deployed_healed_updated_and_removed(azure: LocalAzure, variables: list[str]) -> None:
    """A dry run creates nothing, damage is found and healed, and a removal keeps the data and the exports."""
    world = azure.world
    shown = tailpipe("deploy", "azure", "--with", "native", "--dry-run", *variables)
    assert (shown.exit_code, world.sites, deployments(azure)) == (0, {}, {}), shown.output
    made = tailpipe("deploy", "azure", *NATIVE, *variables)
    assert made.exit_code == 0, made.output
    assert (azure.site.loads, azure.site.settings["MANAGEMENT_GROUP"]) == (True, azure.tenant)
    assert len(azure.exports()) == len(azure.subscription_ids)
    assert json.loads(made.stdout)["storage"]["accountName"] == DATA
    again = tailpipe("deploy", "azure", *NATIVE, *variables)
    assert (again.exit_code, "applying" in again.stderr) == (0, False), again.stderr
    assert tailpipe("doctor", "azure").exit_code == 0
    assert tailpipe("invoke", "azure").exit_code == 0

    alarm = next(one for one in world.resources if one.endswith("-no-success"))
    del world.resources[alarm]
    assigned = world.rights.of(azure.principal)[0]
    world.rights.remove(assigned.id)
    damaged = tailpipe("deploy", "azure", "--with", "native", "--dry-run", *variables)
    assert "2 to create" in said(damaged), said(damaged)
    healed = tailpipe("deploy", "azure", *NATIVE, *variables)
    assert healed.exit_code == 0, healed.output
    assert alarm in world.resources
    assert (assigned.scope.lower(), assigned.role) in {
        (one.scope.lower(), one.role) for one in world.rights.of(azure.principal)
    }

    updated = tailpipe("deploy", "azure", *NATIVE, *variables, "--var", "log_level=debug", "--var", "call_budget=7")
    assert updated.exit_code == 0, updated.output
    assert azure.site.settings["CALL_BUDGET"] == "7"

    gone = tailpipe("destroy", "azure", "--dry-run")
    assert (gone.exit_code, len(world.sites)) == (2, 1), gone.output
    removed = tailpipe("destroy", "azure", "--confirm", azure.tenant)
    assert removed.exit_code == 0, removed.output
    assert (world.sites, deployments(azure), world.rights.of(azure.principal)) == ({}, {}, ())
    assert [one for one in world.rights.roles.values() if one.custom and one.name.startswith("Tailpipe")] == []
    assert (set(world.accounts), len(azure.exports())) == ({DATA}, len(azure.subscription_ids))
    assert world.blobs.has_container(DATA, CONTAINER)


def test_values_of_the_wrong_form_are_refused(azure: LocalAzure, variables: list[str]) -> None:
    """Each is one sentence with its remedy, before any call that creates something."""
    wrong = ("--var", 'include_subscriptions=["Sandbox"]', "--var", "register_providers=[]")
    result = tailpipe("deploy", "azure", *NATIVE, *variables, *wrong)
    assert (result.exit_code, writes(azure)) == (1, [])
    assert 'include_subscriptions = "Sandbox" is refused' in said(result)
    assert "Write subscription ids in small letters" in said(result)
    assert "register_providers has no effect with --with native" in said(result)


def test_values_that_do_not_fit_together_are_refused_by_the_template(azure: LocalAzure, variables: list[str]) -> None:
    """The rule's own sentence is the remedy."""
    result = tailpipe("deploy", "azure", *NATIVE, *variables, "--var", "storage_closed=true")
    assert (result.exit_code, writes(azure)) == (1, [])
    assert "do not fit together" in said(result)
    assert "Write exportIdentity = true together with storageClosed = true" in said(result)


def test_missing_application_of_tailpipe_has_the_command_that_adds_it(azure: LocalAzure, variables: list[str]) -> None:
    """No template can add it."""
    azure.world.service_principals.clear()
    result = tailpipe("deploy", "azure", *NATIVE, *variables)
    assert (result.exit_code, writes(azure)) == (1, [])
    assert f"az ad sp create --id {TAILPIPE_APP}" in said(result)


def test_missing_right_stops_the_deployment_before_anything_exists(azure: LocalAzure, variables: list[str]) -> None:
    """The command that grants it is shown."""
    azure.world.rights.withheld[OPERATOR] = ("Microsoft.Insights/workbooks/write",)
    result = tailpipe("deploy", "azure", *NATIVE, *variables)
    assert (result.exit_code, azure.world.sites, writes(azure)) == (1, {}, [])
    assert "Microsoft.Insights/workbooks/write" in said(result)


def test_template_over_a_deployment_of_terraform_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: list[str]
) -> None:
    """And so is Terraform over a deployment of the template: the remedy moves it."""
    with tenant() as cloud:
        sign_in(cloud, monkeypatch)
        result = tailpipe("deploy", "azure", *NATIVE, *variables)
        assert (result.exit_code, writes(cloud)) == (1, [])
        assert "tailpipe-exports migrate azure --to native" in said(result)


@pytest.mark.slow
def test_failure_of_the_last_resource_leaves_a_deployment_that_continues(
    azure: LocalAzure, variables: list[str]
) -> None:
    """The error names the resource; the same command ends what is missing."""
    azure.fault("Microsoft.Insights/workbooks/write", "Odd", "not now", status=400)
    failed = tailpipe("deploy", "azure", *NATIVE, *variables)
    assert (failed.exit_code, "Odd: not now" in said(failed)) == (1, True), said(failed)
    assert "Run the same command again" in said(failed) or "run the same command again" in said(failed)
    again = tailpipe("deploy", "azure", *NATIVE, *variables)
    assert again.exit_code == 0, again.output


class Ending(SystemClock):
    """A clock whose first long wait lasts until the deployments of templates end."""

    def __init__(self, azure: LocalAzure) -> None:
        super().__init__()
        self._azure = azure

    def wait_until(self, moment: float) -> None:
        if moment - self.monotonic() < POLL_S / 2:
            return  # of a quota
        for one in deployments(self._azure).values():
            one["properties"]["provisioningState"] = "Failed"


@pytest.mark.parametrize("verb", ["plan", "plan_removal"])
def test_deployment_of_an_interrupted_command_is_waited_for(
    azure: LocalAzure, variables: list[str], tmp_path: Path, verb: str
) -> None:
    """Azure continues it: it would refuse a second deployment, and create resources after their removal."""
    session = open_session({"location": "westeurope"}, os.environ, Ending(azure))
    engine = AzureStack(session)
    name = names(session.subscription, {}).function
    path = f"/subscriptions/{session.subscription}/providers/Microsoft.Resources/deployments/{name}"
    running = {"type": "Microsoft.Resources/deployments", "properties": {"provisioningState": "Running"}}
    keep(azure.world, path, running)
    lines: list[str] = []
    if verb == "plan":
        given = dict(one.split("=", 1) for one in variables[1::2]) | {"package": "given.zip", "settings": {}}
        engine.plan(Planning(tmp_path, {}, given, True, False, lines.append, lines.append))
        assert f"waiting: Azure carries out deployment {name} of another command" in lines
    else:
        engine.plan_removal(())
    assert deployments(azure)[name]["properties"]["provisioningState"] == "Failed"


@pytest.mark.parametrize(
    ("path", "kind", "noise"),
    [
        ("properties.allowBlobPublicAccess", "Modify", False),
        ("properties.encryption.services", "Delete", True),
        ("properties.provisioningState", "NoEffect", True),
        ("properties.emailReceivers", "Array", False),
        ("tags.owner", "Delete", False),
    ],
)
def test_defaults_of_azure_are_no_change(path: str, kind: str, noise: bool) -> None:
    """What-if reports a default that no template sets as deleted; a tag that is left out is really deleted."""
    assert is_noise({"path": path, "propertyChangeType": kind}) is noise
