"""docs/settings.md, from the code: what each function reads, each module takes and the command reads."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import aws_lambda.settings
import azure_function.settings
import gcp_function.settings
import shared.settings
from shared.settings import Reader
from tools import modules

TITLES = {"aws": "AWS", "azure": "Azure", "gcp": "Google Cloud"}
MODULES: dict[str, ModuleType] = {
    "aws": aws_lambda.settings,
    "azure": azure_function.settings,
    "gcp": gcp_function.settings,
}
# What a platform sets, and what is required: with these values nothing is refused. A default that equals one of them
# is shown by its name.
GIVEN: dict[str, dict[str, str]] = {
    "aws": {"AWS_REGION": "eu-west-1"},
    "azure": {
        "DESTINATION": "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/group/providers/"
        "Microsoft.Storage/storageAccounts/account",
        "REGION_NAME": "regionofthefunction",
        "AzureWebJobsStorage__accountName": "hostaccount",
    },
    "gcp": {"GOOGLE_CLOUD_PROJECT": "project-id"},
}
# What `tailpipe-exports` itself reads of its environment, beside the SDKs' own variables: name, cloud, effect.
COMMAND = (
    ("TAILPIPE_EXPORTS_FUNCTION_NAME", "all", "The deployed function's name, where it is not the usual one."),
    ("TF_VAR_name", "all", "A variable of the module; counts less than `--var-file` and `--var`."),
    ("TF_PLUGIN_CACHE_DIR", "all", "Where Terraform's providers are kept; by default below XDG_CACHE_HOME."),
    ("XDG_CACHE_HOME", "all", "The folder above `tailpipe-exports/providers`; by default `~/.cache`."),
    (
        "XDG_STATE_HOME",
        "all",
        "The folder above `tailpipe-exports`, with onboarding documents and what `demo` keeps; `~/.local/state`.",
    ),
    ("AWS_PROFILE", "AWS", "The profile to sign in with."),
    ("AWS_REGION", "AWS", "The region of the deployment; else the profile's."),
    ("AWS_DEFAULT_REGION", "AWS", "The same for `plan` and `run`, where AWS_REGION is not set."),
    ("AWS_ENDPOINT_URL", "AWS", "A local cloud, at a loopback address only."),
    ("AZURE_SUBSCRIPTION_ID", "Azure", "The subscription that holds the deployment; also ARM_SUBSCRIPTION_ID."),
    ("ARM_SUBSCRIPTION_ID", "Azure", "The same, as Terraform's provider names it."),
    ("AZURE_TENANT_ID", "Azure", "The tenant of a service principal that signs in."),
    ("AZURE_CLIENT_ID", "Azure", "Its application id."),
    ("AZURE_CLIENT_SECRET", "Azure", "Its secret."),
    ("AZURE_CLOUD", "Azure", "`public`, `usgov` or `china`."),
    ("AZURE_CONFIG_DIR", "Azure", "Where `az` keeps its default subscription; `~/.azure`."),
    ("ARM_ENDPOINT", "Azure", "A local cloud, at a loopback address only; with it GRAPH_ENDPOINT, FUNCTION_ENDPOINT."),
    ("GRAPH_ENDPOINT", "Azure", "Microsoft Graph of a local cloud."),
    ("FUNCTION_ENDPOINT", "Azure", "The function app of a local cloud."),
    ("ARM_OPERATOR_TOKEN", "Azure", "The operator's token for ARM_ENDPOINT; else ARM_TOKEN."),
    ("ARM_TOKEN", "Azure", "A token for ARM_ENDPOINT."),
    ("DESTINATION", "Azure", "A local cloud's storage account, which names the subscription where nothing else does."),
    ("GOOGLE_CLOUD_PROJECT", "Google Cloud", "The project of the deployment; also CLOUDSDK_CORE_PROJECT."),
    ("CLOUDSDK_CORE_PROJECT", "Google Cloud", "The same, as gcloud names it."),
    ("GOOGLE_OAUTH_ACCESS_TOKEN", "Google Cloud", "A token to sign in with."),
    ("GOOGLE_IMPERSONATE_SERVICE_ACCOUNT", "Google Cloud", "A service account to act as."),
    ("GOOGLE_API_ENDPOINT", "Google Cloud", "A local cloud, at a loopback address only."),
)
HEAD = """# Settings and variables

<!-- Made by tools/settings_doc.py from the code; `make infra-docs` updates it. -->

This page lists everything that can be set. A deployment sets *variables* of the module in `infra/` of its cloud, in
Terraform or with `tailpipe-exports deploy` ([operating.md](operating.md#deploy)). The module sets the function's
*settings*, which are environment variables. Put a setting without its own variable into the variable `settings`. The
function and the command report all invalid values at once, before they do anything.
"""


@dataclass(frozen=True)
class Setting:
    """One setting as the code reads it: what it may be, and its default (None: required)."""

    name: str
    value: str
    default: str | None


# What a method of `Reader` accepts, from its arguments.
_ACCEPTED: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "text": lambda given: given["hint"] or "text",
    "choice": lambda given: _either(given["choices"]),
    "choices": lambda given: f"list of {_either(given['choices'])}",
    "items": lambda given: f"list, each {given['hint']}" if given["hint"] else "list",
    "number": lambda given: f"whole number from {given['low']} to {given['high']}",
    "endpoint": lambda _: "loopback address",
}


def _either(choices: Iterable[str]) -> str:
    return ", ".join(f"`{one}`" for one in choices)


def _recorder(found: dict[str, Setting]) -> type[Reader]:
    """Return a Reader that also records each setting, as the outermost of its methods reads it."""
    depth = 0

    def recording(name: str) -> Callable[..., Any]:
        method = getattr(Reader, name)
        signature = inspect.signature(method)

        def read(*arguments: Any, **named: Any) -> Any:
            nonlocal depth
            bound = signature.bind(*arguments, **named)
            bound.apply_defaults()
            given = bound.arguments
            if not depth:
                default = given.get("default", "")
                setting = Setting(given["name"], _ACCEPTED[name](given), None if default is None else str(default))
                found.setdefault(setting.name, setting)
            depth += 1
            try:
                return method(*arguments, **named)
            finally:
                depth -= 1

        return read

    return type("Recorder", (Reader,), {name: recording(name) for name in _ACCEPTED})


def settings(cloud: str) -> list[Setting]:
    """Return what a cloud's function reads, in the order in which it reads it."""
    module = MODULES[cloud]
    found: dict[str, Setting] = {}
    with mock.patch.object(module, "Reader", _recorder(found)):
        module.read_settings(GIVEN[cloud])
    given = {value: name for name, value in GIVEN[cloud].items()}
    required = set(GIVEN[cloud])
    return [
        Setting(one.name, one.value, None)
        if one.name in required
        else Setting(one.name, one.value, f"that of {given[one.default]}" if one.default in given else one.default)
        for one in found.values()
    ]


def effects(cloud: str) -> Mapping[str, str]:
    """Return what each setting does, the engine's too."""
    return {**shared.settings.EFFECTS, **MODULES[cloud].EFFECTS}


def shown(cloud: str) -> list[Setting]:
    """Return the settings that have a row of their own: endpoints of single services have their common one's."""
    return [one for one in settings(cloud) if not one.name.startswith("AWS_ENDPOINT_URL_")]


def undescribed(cloud: str) -> list[str]:
    """Return the settings without an effect, and the effects without a setting."""
    names = {one.name for one in shown(cloud)}
    return sorted(names ^ set(effects(cloud)))


def set_by(module: modules.Module) -> dict[str, str]:
    """Return the variables that each setting comes from, as the module puts the function's settings together."""
    own = module.locals.get("own_settings") or module.locals["settings"]
    if isinstance(own, str):
        # An expression that holds maps: each value ends at the next name or at the end of its map.
        own = dict(re.findall(r"\b([A-Z][A-Z0-9_]+) = (.*?)(?=, [A-Z][A-Z0-9_]+ = |\}(?:[,)]| :))", own))
    found = {name: dict.fromkeys(_variables(module, str(value), 3)) for name, value in own.items()}
    return {name: ", ".join(f"`{one}`" for one in variables) or "the module" for name, variables in found.items()}


def _variables(module: modules.Module, text: str, depth: int) -> Iterator[str]:
    """Yield the variables that an expression rests on, through the module's locals."""
    for kind, name in re.findall(r"\b(var|local)\.(\w+)", text):
        if kind == "var":
            yield name
        elif depth and name in module.locals:
            yield from _variables(module, str(module.locals[name]), depth - 1)


def _rows(cloud: str, module: modules.Module) -> Iterator[str]:
    variables = set_by(module)
    rules = str(module.variables["settings"])
    described = effects(cloud)
    for one in shown(cloud):
        default = "required" if one.default is None else f"`{one.default}`" if one.default else "empty"
        default = one.default if one.default and one.default.startswith("that of ") else default
        # Azure's module names the settings that it refuses, the others those that they take.
        own = "`settings`" if (one.name in rules) != (cloud == "azure") else "no variable"
        value = one.value.replace("<", "&lt;")
        yield f"| `{one.name}` | {value} | {default} | {described[one.name]} | {variables.get(one.name, own)} |"


def page(infra: Path) -> str:
    """Return the page; `infra` is the folder of the modules."""
    lines = [HEAD]
    for cloud, title in TITLES.items():
        module = modules.read(infra / cloud)
        lines += [
            f"## {title}: variables of the module\n",
            modules.inputs(module, ("variable", "type", "default", "effect")),
            f"## {title}: settings of the function\n",
            "| setting | value | default | effect | set by |\n| --- | --- | --- | --- | --- |",
            *_rows(cloud, module),
            "",
        ]
    lines += ["## The command\n", "| variable | cloud | effect |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | {cloud} | {effect} |" for name, cloud, effect in COMMAND]
    return "\n".join(lines) + "\n"
