"""The modules in `infra/` fit the functions that they deploy."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tree_sitter import Node

from tests.infra.support import module
from tools.infra import equal, hcl

FOLDERS = {"aws": "aws_lambda", "azure": "azure_function", "gcp": "gcp_function"}
# What the platform itself reads of the function's environment.
PLATFORM = {
    "aws": re.compile(r"POWERTOOLS_\w+|AWS_\w+"),
    "azure": re.compile(r"AzureWebJobs\w*|FUNCTIONS_\w+|APPLICATIONINSIGHTS_\w+|WEBSITE_\w+"),
    "gcp": re.compile(r"LOG_EXECUTION_ID"),
}
NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")


def settings(read: hcl.Module) -> dict[str, int]:
    """What the output `settings` shows of the function's environment, name → line: its capital keys and its locals'."""
    found: dict[str, int] = {}
    waiting, seen = [read.outputs["settings"].by_name["value"]], set[str]()
    while waiting:
        attribute = waiting.pop()
        found |= {name: line for name, line in _keys(attribute.value) if NAME.fullmatch(name)}
        used = {each.parts[1] for each in attribute.references() if each.parts[0] == "local"} - seen
        seen |= used
        waiting += [read.locals[name] for name in sorted(used)]
    return found


def _keys(node: Node) -> Iterator[tuple[str, int]]:
    if node.type == "object":
        for name, key, _ in hcl.elements(node) or []:
            if name is not None:
                yield name, hcl.line_of(key)
    for child in node.named_children:
        yield from _keys(child)


def known(*folders: Path) -> set[str]:
    """The names of settings that Python files speak of: strings in capitals, in Azure's bindings between two `%`."""
    return {
        node.value.strip("%")
        for folder in folders
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value.strip("%"))
    }


def the_module(repository: Path, cloud: str) -> hcl.Module:
    """A cloud's module; where the tree has none there is nothing to hold."""
    folder = repository / "infra" / cloud
    if not folder.is_dir():
        pytest.skip(f"there is no module infra/{cloud}")
    return hcl.read_module(folder)


def test_settings_are_found_wherever_they_are_put_together(tmp_path: Path) -> None:
    """Merged, conditional and borrowed parts count; what another local holds, and small letters, do not."""
    read = module(
        tmp_path,
        """
        output "settings" {
          value = merge(local.all, var.settings)
        }
        locals {
          all      = merge({ EXPORTS = "a" }, var.x ? { STATE_BUCKET = "b" } : {}, local.own)
          own      = { "CALL_BUDGET" = 1, small = { RUN_SECONDS = 2 } }
          other    = { UNRELATED = 1 }
        }
        """,
    )

    assert set(settings(read)) == {"EXPORTS", "STATE_BUCKET", "CALL_BUDGET", "RUN_SECONDS"}


def test_what_the_function_reads_is_found(repository: Path) -> None:
    """The settings of engine and function are known by the names under which they read them."""
    names = known(repository / "gcp_function", repository / "shared")

    assert {"EXPORT_BUCKET", "CALL_BUDGET", "EXPORTS", "ORGANIZATION"} <= names
    assert "DESTINATION" not in names


@pytest.mark.parametrize("cloud", equal.CLOUDS)
def test_a_module_sets_only_what_its_function_reads(repository: Path, cloud: str) -> None:
    """A setting that is misspelt would be passed over by the function, and the deployment would do something else."""
    given = settings(the_module(repository, cloud))
    read = known(repository / FOLDERS[cloud], repository / "shared")

    assert {"EXPORTS", "CALL_BUDGET"} <= set(given)
    unknown = {name: line for name, line in given.items() if name not in read and not PLATFORM[cloud].fullmatch(name)}
    assert unknown == {}


@pytest.mark.parametrize("cloud", equal.CLOUDS)
def test_a_module_names_the_package_that_the_command_makes(repository: Path, cloud: str) -> None:
    """Message and examples name the zip of this cloud, and of no other."""
    read = the_module(repository, cloud)
    shown = [hcl.read_module(folder) for folder in (read.path / "examples").glob("*/")]
    written = "\n".join(
        attribute.text for each in [read, *shown] for _, _, attribute in each.everything() if ".zip" in attribute.text
    )

    assert set(re.findall(r"tailpipe-exports-(\w+)\.zip", written)) == {cloud}
    assert (
        f"tailpipe-exports package {cloud}"
        in read.variables["package"].nested("validation")[0].by_name["error_message"].text
    )


def test_what_a_removal_switches_off_a_deployment_switches_on(repository: Path) -> None:
    """A removal that was interrupted leaves the rules disabled; the provider does not look at what is not written."""
    read = hcl.read_module(repository / "infra" / "aws")
    rules = [one for one in read.of("resource") if one.labels[0] == "aws_cloudwatch_event_rule"]
    assert len(rules) == 2
    assert {one.by_name["state"].literal for one in rules} == {"ENABLED"}
