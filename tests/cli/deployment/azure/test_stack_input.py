"""What `deploy azure --with native` refuses before its first write, each with its remedy."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    "webhook": ("notify_secret=https://hooks.example.com/x", "is refused", "Never write the webhook's address itself."),
    "rule": ('exports=["daily"]', "do not fit together", 'Write at least one of "actual", "focus" and "amortized"'),
    "no effect": ("delete_data_on_destroy=true", "has no effect", "tailpipe-exports destroy azure --delete-data"),
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
