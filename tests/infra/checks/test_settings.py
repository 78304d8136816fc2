"""The modules in `infra/` match the functions that they deploy."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tools import modules, settings_doc

FOLDERS = {"aws": "aws_lambda", "azure": "azure_function", "gcp": "gcp_function"}
# Variables in the function's environment that the platform reads.
PLATFORM = {
    "aws": re.compile(r"POWERTOOLS_\w+|AWS_\w+"),
    "azure": re.compile(r"AzureWebJobs\w*|FUNCTIONS_\w+|APPLICATIONINSIGHTS_\w+|WEBSITE_\w+|PYTHON_\w+"),
    "gcp": re.compile(r"LOG_EXECUTION_ID"),
}
NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")


def setting_names(*folders: Path) -> set[str]:
    """Return the setting names in Python files: upper-case strings, between two `%` in Azure's bindings."""
    return {
        node.value.strip("%")
        for folder in folders
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value.strip("%"))
    }


def test_settings_of_function_and_engine_are_found(repository: Path) -> None:
    """The names are those that function and engine read from the environment."""
    names = setting_names(repository / "gcp_function", repository / "shared")

    assert {"EXPORT_BUCKET", "CALL_BUDGET", "EXPORTS", "ORGANIZATION"} <= names
    assert "DESTINATION" not in names


@pytest.mark.parametrize("cloud", FOLDERS)
def test_module_sets_only_settings_that_its_function_reads(repository: Path, cloud: str) -> None:
    """The function would ignore a misspelled setting and use its default."""
    given = set(settings_doc.set_by(modules.read(repository / "infra" / cloud)))
    read = setting_names(repository / FOLDERS[cloud], repository / "shared")

    assert {"EXPORTS", "CALL_BUDGET"} <= given
    assert {name for name in given - read if not PLATFORM[cloud].fullmatch(name)} == set()


@pytest.mark.parametrize("cloud", FOLDERS)
def test_module_refers_to_the_package_of_its_cloud(repository: Path, cloud: str) -> None:
    """The error message and the examples name only this cloud's archive."""
    folder = repository / "infra" / cloud
    written = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.tf"))
    [rule, *_] = modules.read(folder).variables["package"]["validation"]

    assert set(re.findall(r"tailpipe-exports-(\w+)\.zip", written)) == {cloud}
    assert f"tailpipe-exports package {cloud}" in rule["error_message"]


def test_deployment_enables_the_rules_that_a_removal_disables(repository: Path) -> None:
    """An interrupted removal leaves the rules disabled, and the provider ignores attributes that are not set."""
    resources = modules.read(repository / "infra" / "aws").resources
    states = [body["state"] for name, body in resources.items() if name.startswith("aws_cloudwatch_event_rule.")]
    assert states == ["ENABLED", "ENABLED", "ENABLED"]
