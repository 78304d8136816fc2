"""The three modules side by side: the same names, types and defaults for the same idea, and the same files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tools.infra import hcl
from tools.infra.fault import Fault

CLOUDS = ("aws", "azure", "gcp")

VARIABLES: dict[str, str] = {
    "environment": "string",
    "package": "string",
    "exports": "list(string)",
    "schedule": "string",
    "function_name": "string",
    "memory_mb": "number",
    "timeout_seconds": "number",
    "call_budget": "number",
    "log_level": "string",
    "settings": "map(string)",
    "log_retention_days": "number",
    "notification_emails": "list(string)",
    "delete_data_on_destroy": "bool",
}
# What each cloud calls it in its own words.
OWN_VARIABLES: dict[str, dict[str, str]] = {
    "aws": {"include_accounts": "list(string)", "exclude_accounts": "list(string)", "tags": "map(string)"},
    "azure": {
        "include_subscriptions": "list(string)",
        "exclude_subscriptions": "list(string)",
        "tags": "map(string)",
        "location": "string",
    },
    "gcp": {
        "include_accounts": "list(string)",
        "exclude_accounts": "list(string)",
        "labels": "map(string)",
        "region": "string",
    },
}
DEFAULTS: dict[str, str | None] = {
    "environment": None,
    "package": None,
    "function_name": '"tailpipe-exports"',
    "settings": "{}",
    "log_retention_days": "90",
    "notification_emails": "[]",
    "delete_data_on_destroy": "false",
}
OUTPUTS = (
    "function_name",
    "function_id",
    "function_identity",
    "destination",
    "state",
    "schedule",
    "connector",
    "logs",
    "alarms",
    "settings",
    "onboarding",
)
FILES = (
    "README.md",
    "alarms.tf",
    "connector.tf",
    "destination.tf",
    "function.tf",
    "identity.tf",
    "main.tf",
    "outputs.tf",
    "rights.yaml",
    "variables.tf",
    "versions.tf",
    "examples/minimal/main.tf",
    "examples/complete/main.tf",
)


def faults(modules: Mapping[str, hcl.Module]) -> Iterator[Fault]:
    """Yield what the modules (cloud → module) do not have in common though they should."""
    for cloud, module in modules.items():
        for name in FILES:
            if not (module.path / name).exists():
                yield Fault(module.path / name, 1, "is missing; the modules have the same files")
        wanted = VARIABLES | OWN_VARIABLES.get(cloud, {})
        for name, kind in wanted.items():
            yield from _variable_faults(module, name, kind)
        for name in OUTPUTS:
            if name not in module.outputs:
                yield Fault(module.path / "outputs.tf", 1, f"output {name} is missing; every module has it")
    yield from _differing_types(modules)


def _variable_faults(module: hcl.Module, name: str, kind: str) -> Iterator[Fault]:
    block = module.variables.get(name)
    if block is None:
        yield Fault(module.path / "variables.tf", 1, f"variable {name} is missing; every module has it")
        return
    said = block.by_name["type"].squeezed if "type" in block.by_name else "nothing"
    if said != kind:
        yield Fault(block.path, block.line, f"variable {name} is a {said}; in every module it is a {kind}")
    if name in DEFAULTS:
        default = block.by_name["default"].squeezed if "default" in block.by_name else None
        if default != DEFAULTS[name]:
            wanted = DEFAULTS[name] or "none"
            yield Fault(
                block.path,
                block.line,
                f"variable {name} has the default {default or 'none'}; everywhere it is {wanted}",
            )


def _differing_types(modules: Mapping[str, hcl.Module]) -> Iterator[Fault]:
    """A name that two modules share has one type."""
    first: dict[str, tuple[str, str]] = {}
    for cloud, module in modules.items():
        for name, block in module.variables.items():
            kind = block.by_name["type"].squeezed if "type" in block.by_name else ""
            other, known = first.setdefault(name, (cloud, kind))
            if kind != known and name not in VARIABLES:
                yield Fault(block.path, block.line, f"variable {name} is a {kind}, in {other} it is a {known}")
