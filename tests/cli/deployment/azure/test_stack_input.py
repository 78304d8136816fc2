"""What `deploy azure --with native` refuses before its first write, each with its remedy."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.deployment.azure.names import short_name
from cli.deployment.azure.stack_input import granted
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import TAILPIPE_APP
from tests.cli.support.azure import sign_in, tailpipe, template_variables, tenant

GROUP = "tailpipe-dataexport"
TAILPIPE = "00000000-0000-0000-0000-00000000c0de"


@pytest.fixture(scope="module")
def azure() -> Iterator[LocalAzure]:
    """Return a tenant without a deployment; no test of this module changes it."""
    with pytest.MonkeyPatch.context() as patch, tenant(bare=True) as cloud:
        cloud.world.service_principals[TAILPIPE_APP] = TAILPIPE
        cloud.world.resource_groups[(cloud.subscription_ids[0], GROUP)] = "westeurope"
        sign_in(cloud, patch)
        patch.delenv("DESTINATION", raising=False)
        patch.setenv("AZURE_SUBSCRIPTION_ID", cloud.subscription_ids[0])
        yield cloud


def refused(azure: LocalAzure, folder: Path, *more: str) -> str:
    """Deploy with further variables, which has to fail before anything is created; return what was said."""
    given = template_variables(folder)
    result = tailpipe("deploy", "azure", "--with", "native", "--yes", *given, *(("--var", more[0]) if more else ()))
    assert (result.exit_code, azure.world.sites, azure.world.accounts) == (1, {}, {}), result.output
    return " ".join(result.stderr.split())


CASES = {
    "type": ("call_budget=many", 'call_budget = "many" is refused', "Write call_budget as a number."),
    "list": ("exports=actual", 'exports = "actual" is refused', 'Write exports as a list, such as ["one"].'),
    "truth": ("fleet=maybe", 'fleet = "maybe" is refused', "Write fleet as true or false."),
    "choice": ("environment=dev", 'environment = "dev" is refused', 'Write environment = "prod" for Tailpipe'),
    "pattern": ("storage_account_name=Bad_Name", "is refused", "Write a storage account name of 3 to 24 small letters"),
    "length": (f"container_name={'x' * 300}", "is refused", "Write a container name of 3 to 63 small letters"),
    "webhook": ("notify_secret=https://hooks.example.com/x", "is refused", "Never write the webhook's address itself."),
    "rule": ('exports=["daily"]', "do not fit together", 'Write at least one of "actual", "focus" and "amortized"'),
    "no effect": ("delete_data_on_destroy=true", "has no effect", "tailpipe-exports destroy azure --delete-data"),
    "subscription": (
        f'include_subscriptions=["{TAILPIPE}"]',
        f"subscription {TAILPIPE} of include_subscriptions does not exist, or you may not see it",
        "Take it out of include_subscriptions, or correct its id",
    ),
    "group": ("management_group_id=nogroup", "nogroup does not exist", "management_group_id=NAME of an existing one"),
    "no region of the plan": ("location=antarctica", "is not offered there", "Write --var location= one of"),
    "another region": (
        "location=northeurope",
        f"resource group {GROUP}: is in westeurope, and a resource group cannot move to northeurope",
        "Write --var location=westeurope, or --var resource_group_name=ANOTHER-NAME.",
    ),
    "no package": ("package=nowhere.zip", "package nowhere.zip: No such file", "Name a file that exists"),
}


@pytest.mark.parametrize("case", CASES)
def test_input_is_refused_with_what_to_write(azure: LocalAzure, tmp_path: Path, case: str) -> None:
    """One sentence says what is wrong, another one what to write instead."""
    given, what, remedy = CASES[case]
    said = refused(azure, tmp_path, given)
    assert what in said
    assert remedy in said


@pytest.mark.parametrize("content", ["text", "another archive"])
def test_package_without_the_function_is_refused(azure: LocalAzure, tmp_path: Path, content: str) -> None:
    """Azure would store it, and the deployment would wait in vain for its functions."""
    package = tmp_path / "package.zip"
    package.write_text("no archive")
    if content == "another archive":
        with zipfile.ZipFile(package, "w") as archive:
            archive.writestr("host.json", "{}")
    said = refused(azure, tmp_path, f"package={package}")
    assert "the package is not an archive of the function" in said
    assert "tailpipe-exports package azure --out dist" in said


def test_each_value_is_refused_once(azure: LocalAzure, tmp_path: Path) -> None:
    """A text that should be a list breaks the rule of the list's items too."""
    assert refused(azure, tmp_path, "further_destinations=x").count("is refused") == 1


def test_application_that_may_not_be_looked_up_is_not_called_missing(
    azure: LocalAzure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many tenants show applications to administrators only, who can name its object id."""
    monkeypatch.setattr(azure.world, "directory_roles", {})
    said = refused(azure, tmp_path)
    assert f"application {TAILPIPE_APP} could not be looked up in tenant {azure.tenant}" in said
    assert "add --var connector_object_id=ID" in said


@pytest.mark.parametrize(
    ("values", "group", "expected"),
    [
        ({}, "", {"ListManagementGroup": False, "PointExportsAtDestination": True, "WriteRegistry": False}),
        ({"fleet": True, "export_identity": True}, "root", {"ListManagementGroup": True, "WriteRegistry": True}),
        ({"policy": "deploy"}, "root", {"GiveExportsTheirRole": False, "ReadMetrics": True}),
        ({"monitoring_access": "none"}, "", {"ReadMetrics": False}),
    ],
)
def test_plan_names_the_grants_of_these_values_alone(
    values: dict[str, object], group: str, expected: dict[str, bool]
) -> None:
    """A right that an unused option needs is not announced."""
    listed = {one for some in granted(values, group).values() for one in some}
    assert {one: one in listed for one in expected} == expected


@pytest.mark.parametrize(
    ("identifier", "resource", "name"),
    [
        ("/subscriptions/s/resourceGroups/data", {}, "data"),
        ("/subscriptions/s/providers/A.B/accounts/one/services/default/boxes/two", {}, "one/default/two"),
        ("/x/providers/A.B/accounts/one/providers/Microsoft.Authorization/roleAssignments/[if(a('/b'))]", {}, "on one"),
        ("/x/providers/Microsoft.Authorization/roleDefinitions/g", {"properties": {"roleName": "Reads"}}, "Reads on x"),
    ],
)
def test_resources_have_short_names(identifier: str, resource: dict[str, object], name: str) -> None:
    """No template's expression and no subscription's path is shown in a plan."""
    assert short_name(identifier, resource) == name
