"""A deployment with the launch templates on the local Azure: create, run, damage, heal, update, remove, redeploy."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from cli.deployment.azure.rights import ROLE_NAME
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.identity import OPERATOR
from localcloud.azure.platform.deployment import CONTAINER, TAILPIPE_APP
from localcloud.azure.platform.resources_api import keep
from tests.cli.support.azure import hold_shipped_role, sign_in, tailpipe
from tests.infra.live_azure import SETS, arguments, opened

pytestmark = pytest.mark.slow
DATA = "tailpipedataexport00"
KEPT = "tailpipe/kept.csv.gz"


@dataclass
class Scenario:
    """The result of each step by name, and what the cloud contained afterwards."""

    steps: dict[str, Result] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def said(self, step: str) -> str:
        """Return what a step said to people, in one line."""
        return " ".join(self.steps[step].stderr.split())


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAzure]:
    """Return a tenant without a deployment, signed in."""
    with opened() as cloud:
        signed_in(cloud, monkeypatch)
        yield cloud


def signed_in(cloud: LocalAzure, patch: pytest.MonkeyPatch) -> None:
    """Sign this process in as the operator with the shipped role alone, who chose the first subscription."""
    sign_in(cloud, patch)
    hold_shipped_role(cloud)
    patch.delenv("DESTINATION", raising=False)
    patch.setenv("AZURE_SUBSCRIPTION_ID", cloud.subscription_ids[0])


def command(name: str, cloud: LocalAzure, folder: Path, **more: Any) -> tuple[str, ...]:
    """Return the arguments that deploy a set of variables."""
    given = {**arguments(name, cloud, folder), "package": str(folder / "given.zip"), **more}
    written = {key: value if isinstance(value, str) else json.dumps(value) for key, value in given.items()}
    values = [part for key, value in written.items() for part in ("--var", f"{key}={value}")]
    return ("deploy", "azure", "--with", "native", *values)


def exports(cloud: LocalAzure) -> list[str]:
    """Return the subscriptions with an export."""
    return [one for one in cloud.subscription_ids if cloud.exports(one)]


def remains(cloud: LocalAzure) -> dict[str, Any]:
    """Return what a deployment creates and a removal may leave: resources, roles, rights other than the operator's."""
    world = cloud.world
    return {
        "resources": sorted(world.resources),
        "apps": sorted(world.sites),
        "accounts": sorted(world.accounts),
        "roles": sorted(one.name for one in world.rights.roles.values() if one.custom and one.name != ROLE_NAME),
        "rights": sorted(
            f"{world.rights.roles[one.role].name} at {one.scope}"
            for one in world.rights.assignments.values()
            if one.principal != OPERATOR
        ),
    }


def changed(package: Path) -> None:
    """Add a file to a package."""
    text = io.BytesIO(package.read_bytes())
    with zipfile.ZipFile(text, "a") as archive:
        entry = zipfile.ZipInfo("VERSION")
        entry.external_attr = 0o644 << 16  # the host finds no function in an archive with files that it cannot read
        archive.writestr(entry, "next")
    package.write_bytes(text.getvalue())


def alarm(cloud: LocalAzure) -> dict[str, Any]:
    """Return the properties of the alarm on runs that do not succeed."""
    return next(one["properties"] for name, one in cloud.world.resources.items() if name.endswith("-no-success"))


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenario]:
    """Play the life of a deployment once; the tests check its steps."""
    folder = tmp_path_factory.mktemp("native")
    with opened() as cloud, pytest.MonkeyPatch.context() as patch:
        signed_in(cloud, patch)
        deploy = command("defaults", cloud, folder, delivery_events=True)
        made = Scenario()
        steps, facts = made.steps, made.facts
        steps["preview"] = tailpipe(*deploy, "--dry-run")
        facts["after preview"] = remains(cloud)
        steps["deploy"] = tailpipe(*deploy, "--yes")
        facts["exports"] = exports(cloud)
        facts["deployed"] = remains(cloud)
        steps["again"] = tailpipe(*deploy, "--yes")
        cloud.deliver()
        cloud.delete_export(cloud.subscription_ids[1])
        facts["damaged"] = exports(cloud)
        steps["heal"] = tailpipe("invoke", "azure", "--json")
        facts["healed"] = exports(cloud)
        alarm(cloud)["severity"] = 4
        cloud.site.settings["CALL_BUDGET"] = "1"
        steps["drift"] = tailpipe(*deploy, "--dry-run")
        steps["repair"] = tailpipe(*deploy, "--yes")
        facts["repaired"] = (alarm(cloud)["severity"], cloud.site.settings["CALL_BUDGET"])
        before = cloud.site.package
        changed(folder / "given.zip")
        steps["preview of update"] = tailpipe(*deploy, "--dry-run")
        steps["update"] = tailpipe(*deploy, "--yes")
        facts["updated"] = (cloud.site.package != before, cloud.site.package == (folder / "given.zip").read_bytes())
        steps["doctor"] = tailpipe("doctor", "azure")
        steps["onboarding"] = tailpipe("onboarding", "azure")
        cloud.world.blobs.put([(DATA, CONTAINER, KEPT, b"cost data")])
        steps["preview of removal"] = tailpipe("destroy", "azure", "--dry-run")
        steps["destroy"] = tailpipe("destroy", "azure", "--confirm", cloud.tenant)
        facts["removed"] = (remains(cloud), exports(cloud), kept(cloud))
        steps["redeploy"] = tailpipe(*deploy, "--yes")
        facts["redeployed"] = (remains(cloud), kept(cloud))
        everything = ("--delete-exports", "--delete-data")
        steps["destroy all"] = tailpipe("destroy", "azure", "--confirm", cloud.tenant, *everything)
        facts["gone"] = (remains(cloud), exports(cloud))
        yield made


def kept(cloud: LocalAzure) -> bytes:
    """Return the data that was delivered."""
    with cloud.blob_client(DATA) as client:
        return client.get_blob_client(CONTAINER, KEPT).download_blob().readall()


def nothing(found: Mapping[str, Any], *accounts: str) -> bool:
    """Return whether only these accounts are left."""
    return found == {"resources": [], "apps": [], "accounts": list(accounts), "roles": [], "rights": []}


def test_preview_creates_nothing(scenario: Scenario) -> None:
    """The plan is shown in the words of every plan."""
    assert scenario.steps["preview"].exit_code == 0, scenario.said("preview")
    assert "nothing was created: this was a dry run" in scenario.said("preview")
    assert nothing(scenario.facts["after preview"])


def test_deployment_runs_and_a_second_one_changes_nothing(scenario: Scenario) -> None:
    """The first run creates an export in each subscription."""
    assert scenario.steps["deploy"].exit_code == 0, scenario.said("deploy")
    assert len(scenario.facts["exports"]) == 3
    assert scenario.steps["again"].exit_code == 0
    assert "applying" not in scenario.said("again")


def test_damage_is_healed_by_a_run(scenario: Scenario) -> None:
    """The deleted export is there again."""
    assert len(scenario.facts["damaged"]) == 2
    assert scenario.steps["heal"].exit_code == 0, scenario.said("heal")
    assert scenario.facts["healed"] == scenario.facts["exports"]


def test_what_if_shows_drift_and_a_deployment_repairs_it(scenario: Scenario) -> None:
    """An alarm and a setting that were changed by hand."""
    assert "2 to change" in scenario.said("drift"), scenario.said("drift")
    assert "Microsoft.Insights/scheduledQueryRules" in scenario.said("drift")
    assert scenario.steps["repair"].exit_code == 0, scenario.said("repair")
    assert scenario.facts["repaired"] == (1, "1000")


def test_new_package_changes_nothing_else(scenario: Scenario) -> None:
    """The plan names the package alone, and the app has its bytes afterwards."""
    assert "1 to change" in scenario.said("preview of update"), scenario.said("preview of update")
    assert scenario.steps["update"].exit_code == 0, scenario.said("update")
    assert scenario.facts["updated"] == (True, True)


def test_other_commands_work(scenario: Scenario) -> None:
    """Neither needs Terraform or a flag."""
    assert scenario.steps["doctor"].exit_code == 0, scenario.said("doctor")
    assert json.loads(scenario.steps["onboarding"].stdout)["storage"]["accountName"] == DATA


def test_removal_keeps_data_and_exports_and_nothing_else(scenario: Scenario) -> None:
    """No role and no right is left; the dry run shows it before."""
    assert scenario.steps["preview of removal"].exit_code == 2
    assert f"to be kept: the delivered data in {DATA}" in scenario.said("preview of removal")
    assert scenario.steps["destroy"].exit_code == 0, scenario.said("destroy")
    left, exported, data = scenario.facts["removed"]
    assert nothing(left, DATA), left
    assert (exported, data) == (scenario.facts["exports"], b"cost data")


def test_deployment_over_kept_data_takes_it_back(scenario: Scenario) -> None:
    """What is there afterwards equals the first deployment."""
    assert scenario.steps["redeploy"].exit_code == 0, scenario.said("redeploy")
    found, data = scenario.facts["redeployed"]
    assert (found, data) == (scenario.facts["deployed"], b"cost data")


def test_removal_of_everything_deletes_storage_that_is_not_empty(scenario: Scenario) -> None:
    """Only where both options ask for it."""
    assert scenario.steps["destroy all"].exit_code == 0, scenario.said("destroy all")
    left, exported = scenario.facts["gone"]
    assert nothing(left), left
    assert exported == []


@pytest.mark.parametrize("name", [one for one in SETS if one != "closed"])
def test_removal_leaves_no_right_anywhere(azure: LocalAzure, tmp_path: Path, name: str) -> None:
    """Also in the management group, in other resource groups and subscriptions, and for other principals.

    A resource group that is gone meanwhile does not stop it.
    """
    made = tailpipe(*command(name, azure, tmp_path), "--yes")
    # With exports by identity in one subscription of several, the first run may be degraded.
    assert made.exit_code in (0, 3), made.stderr
    azure.world.resource_groups.pop((azure.subscription_ids[0], "secrets"))
    gone = "resourcegroups/secrets/"
    for one in [one for one in azure.world.resources if gone in one]:
        del azure.world.resources[one]
    removed = tailpipe("destroy", "azure", "--confirm", azure.tenant)
    assert removed.exit_code == 0, removed.stderr
    left = remains(azure)
    exported = [one for one in left["rights"] if one.endswith(f"containers/{CONTAINER}")]
    assert len(exported) == (len(azure.exports()) if name == "rich" else 0)
    left["rights"] = [one for one in left["rights"] if one not in exported]
    assert nothing(left, *sorted(one for one in azure.world.accounts if one != "tailpipehost")), left


def test_removal_takes_the_rights_of_an_application_that_is_not_shown(azure: LocalAzure, tmp_path: Path) -> None:
    """Microsoft Graph may hide it from the operator, and the app may be gone: the template's record names it."""
    hidden = azure.world.service_principals.pop(TAILPIPE_APP)
    made = tailpipe(*command("defaults", azure, tmp_path, connector_object_id=hidden), "--yes")
    assert made.exit_code == 0, made.stderr
    assert azure.world.rights.of(hidden)
    azure.world.sites.clear()
    removed = tailpipe("destroy", "azure", "--confirm", azure.tenant)
    assert removed.exit_code == 0, removed.stderr
    assert azure.world.rights.of(hidden) == ()


def test_failure_of_the_last_resource_is_continued_by_the_same_command(
    azure: LocalAzure, tmp_path: Path, scenario: Scenario
) -> None:
    """The error names the resource; afterwards there is what an undisturbed deployment makes, and nothing else."""
    azure.fault("Microsoft.EventGrid/systemTopics/eventSubscriptions/write", "Odd", "not now", status=400)
    deploy = command("defaults", azure, tmp_path, delivery_events=True)
    failed = tailpipe(*deploy, "--yes")
    assert failed.exit_code == 1
    said = " ".join(failed.stderr.split())
    assert "tailpipe-manifests: Odd: not now" in said
    assert "Fix the problems above and run the same command again: it continues." in said
    again = tailpipe(*deploy, "--yes")
    assert again.exit_code == 0, again.stderr
    assert remains(azure) == scenario.facts["deployed"]


def test_removal_of_a_deployment_without_its_app_keeps_the_data(azure: LocalAzure, tmp_path: Path) -> None:
    """A deployment that failed before the app has its accounts already, and they may hold data of an earlier one."""
    azure.fault("Microsoft.Web/sites/write", "Odd", "not now", status=400, times=None)
    failed = tailpipe(*command("defaults", azure, tmp_path), "--yes")
    assert (failed.exit_code, azure.world.sites) == (1, {}), failed.stderr
    azure.world.blobs.put([(DATA, CONTAINER, KEPT, b"cost data")])
    removed = tailpipe("destroy", "azure", "--confirm", azure.tenant)
    assert removed.exit_code == 0, removed.stderr
    assert nothing(remains(azure), DATA), remains(azure)
    assert kept(azure) == b"cost data"


@pytest.mark.parametrize("name", ["rich", "listed"])
def test_unfinished_deployment_of_any_name_is_removed(azure: LocalAzure, tmp_path: Path, name: str) -> None:
    """Its names are in the record that the template's deployment left in the resource group that it tagged."""
    named = {"function_name": "costs", "resource_group_name": "platform-costs"}
    azure.fault("Microsoft.Web/sites/write", "Odd", "not now", status=400, times=None)
    failed = tailpipe(*command(name, azure, tmp_path, **named), "--yes")
    assert (failed.exit_code, azure.world.sites) == (1, {}), failed.stderr
    everything = ("--delete-exports", "--delete-data")
    preview = tailpipe("destroy", "azure", "--dry-run")
    assert (preview.exit_code, "costs-" in preview.stderr) == (2, True), preview.stderr
    removed = tailpipe("destroy", "azure", "--confirm", azure.tenant, *everything)
    assert removed.exit_code == 0, removed.stderr
    assert nothing(remains(azure)), remains(azure)
    assert (azure.subscription_ids[0], "platform-costs") not in azure.world.resource_groups


def test_one_of_several_unfinished_deployments_is_chosen_by_name(azure: LocalAzure, tmp_path: Path) -> None:
    """Without a name nothing is removed, and the names are shown; a name of none is refused."""
    azure.fault("Microsoft.Web/sites/write", "Odd", "not now", status=400, times=None)
    for one in ("costs", "trial"):
        own = {"storage_account_name": f"{one}data", "host_storage_account_name": f"{one}host"}
        named = {"function_name": one, "resource_group_name": one, **own}
        assert tailpipe(*command("listed", azure, tmp_path, **named), "--yes").exit_code == 1
    end = azure.subscription_ids[0][-6:]
    before = remains(azure)
    unnamed = tailpipe("destroy", "azure", "--confirm", azure.tenant)
    said = " ".join(unnamed.stderr.split())
    assert unnamed.exit_code == 1
    assert f"several deployments lack their function app: costs-{end}, trial-{end} Choose one of them" in said
    unknown = tailpipe("destroy", "azure", "--confirm", azure.tenant, "--function", f"other-{end}")
    assert (unknown.exit_code, f"no function other-{end} is deployed here" in unknown.stderr) == (1, True)
    assert remains(azure) == before
    chosen = tailpipe("destroy", "azure", "--confirm", azure.tenant, "--function", f"trial-{end}")
    assert chosen.exit_code == 0, chosen.stderr
    assert sorted(azure.world.accounts) == ["costsdata", "costshost", "trialdata"]
    assert tailpipe("destroy", "azure", "--confirm", azure.tenant).exit_code == 0
    assert nothing(remains(azure), "costsdata", "trialdata"), remains(azure)


def test_removal_that_lacks_a_right_is_continued_and_keeps_the_data(azure: LocalAzure, tmp_path: Path) -> None:
    """The app is gone by then, and with it the settings that name the accounts; a group of others stays."""
    deploy = command("defaults", azure, tmp_path)
    assert tailpipe(*deploy, "--yes").exit_code == 0
    azure.world.blobs.put([(DATA, CONTAINER, KEPT, b"cost data")])
    azure.world.rights.withheld[OPERATOR] = ("Microsoft.Web/serverFarms/delete",)
    failed = tailpipe("destroy", "azure", "--confirm", azure.tenant)
    assert failed.exit_code == 1
    assert "microsoft.web/serverfarms/delete" in failed.stderr.lower()
    azure.world.rights.withheld.clear()
    again = tailpipe("destroy", "azure", "--confirm", azure.tenant)
    assert again.exit_code == 0, again.stderr
    assert nothing(remains(azure), DATA), remains(azure)
    assert kept(azure) == b"cost data"

    assert tailpipe(*deploy, "--yes").exit_code == 0
    group = azure.site.id.partition("/providers/")[0]
    other = keep(azure.world, f"{group}/providers/Microsoft.Automation/automationAccounts/other", {"tags": {}})
    everything = ("--delete-exports", "--delete-data")
    gone = tailpipe("destroy", "azure", "--confirm", azure.tenant, *everything)
    assert gone.exit_code == 0, gone.stderr
    assert "tailpipe-dataexport stays: it holds 1 resource of others" in " ".join(gone.stderr.split())
    assert remains(azure)["resources"] == [other["id"].lower()]
    assert remains(azure)["accounts"] == []


def test_app_without_a_package_is_reported_and_deployed(azure: LocalAzure, tmp_path: Path) -> None:
    """As after the link without `packageUri`: the app lists no function until the package is published."""
    deploy = command("defaults", azure, tmp_path)
    assert tailpipe(*deploy, "--yes").exit_code == 0
    azure.site.loads = False
    called = tailpipe("invoke", "azure")
    assert called.exit_code == 1
    said = " ".join(called.stderr.split())
    assert "has no function reconcile_http: it has no package" in said
    assert "run `tailpipe-exports deploy azure` again" in said
