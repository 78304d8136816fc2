"""The modules in `infra/` fit the functions that they deploy."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tools import modules, settings_doc

FOLDERS = {"aws": "aws_lambda", "azure": "azure_function", "gcp": "gcp_function"}
# What the platform itself reads of the function's environment.
PLATFORM = {
    "aws": re.compile(r"POWERTOOLS_\w+|AWS_\w+"),
    "azure": re.compile(r"AzureWebJobs\w*|FUNCTIONS_\w+|APPLICATIONINSIGHTS_\w+|WEBSITE_\w+"),
    "gcp": re.compile(r"LOG_EXECUTION_ID"),
}
NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")


def known(*folders: Path) -> set[str]:
    """The names of settings that Python files speak of: strings in capitals, in Azure's bindings between two `%`."""
    return {
        node.value.strip("%")
        for folder in folders
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value.strip("%"))
    }


def test_what_the_function_reads_is_found(repository: Path) -> None:
    """The settings of engine and function are known by the names under which they read them."""
    names = known(repository / "gcp_function", repository / "shared")

    assert {"EXPORT_BUCKET", "CALL_BUDGET", "EXPORTS", "ORGANIZATION"} <= names
    assert "DESTINATION" not in names


@pytest.mark.parametrize("cloud", FOLDERS)
def test_a_module_sets_only_what_its_function_reads(repository: Path, cloud: str) -> None:
    """A setting that is misspelt would be passed over by the function, and the deployment would do something else."""
    given = set(settings_doc.set_by(modules.read(repository / "infra" / cloud)))
    read = known(repository / FOLDERS[cloud], repository / "shared")

    assert {"EXPORTS", "CALL_BUDGET"} <= given
    assert {name for name in given - read if not PLATFORM[cloud].fullmatch(name)} == set()


@pytest.mark.parametrize("cloud", FOLDERS)
def test_a_module_names_the_package_that_the_command_makes(repository: Path, cloud: str) -> None:
    """Message and examples name the zip of this cloud, and of no other."""
    folder = repository / "infra" / cloud
    written = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.tf"))
    [rule, *_] = modules.read(folder).variables["package"]["validation"]

    assert set(re.findall(r"tailpipe-exports-(\w+)\.zip", written)) == {cloud}
    assert f"tailpipe-exports package {cloud}" in rule["error_message"]


def test_what_a_removal_switches_off_a_deployment_switches_on(repository: Path) -> None:
    """A removal that was interrupted leaves the rules disabled; the provider does not look at what is not written."""
    resources = modules.read(repository / "infra" / "aws").resources
    states = [body["state"] for name, body in resources.items() if name.startswith("aws_cloudwatch_event_rule.")]
    assert states == ["ENABLED", "ENABLED"]
