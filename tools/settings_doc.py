"""docs/settings.md, made from the code: what each function reads, what each module takes, and what the command reads.

Run as `python -m tools.settings_doc` it writes the page; with `--check` it only says whether the page is up to date.
"""

from __future__ import annotations

import re
import sys
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
from tools.infra import hcl, readme

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "settings.md"
TITLES = {"aws": "AWS", "azure": "Azure", "gcp": "Google Cloud"}
MODULES: dict[str, ModuleType] = {
    "aws": aws_lambda.settings,
    "azure": azure_function.settings,
    "gcp": gcp_function.settings,
}
# What a platform sets, or is required: read with these, so that nothing is refused; a default that is one of them is
# shown by its name.
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
    ("XDG_STATE_HOME", "all", "The folder above `tailpipe-exports`, with onboarding documents; `~/.local/state`."),
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
VARIABLES = "| variable | type | default | effect |"
HEAD = """# Settings and variables

<!-- Made by tools/settings_doc.py from the code; `make infra-docs` writes it anew. -->

Everything that can be set. A deployment sets *variables* of the module in `infra/` of its cloud, in Terraform or with
`tailpipe-exports deploy` ([operating.md](operating.md#deploy)). The module sets the function's *settings*, which are
environment variables. A setting without a variable of its own goes into the variable `settings`. All values that are
refused are named at once, before anything is done.
"""


@dataclass(frozen=True)
class Setting:
    """One setting as the code reads it: what it may be, and its default (None: required)."""

    name: str
    value: str
    default: str | None


class Recorder(Reader):
    """Reads as a Reader does, and notes each setting once, as the outermost method reads it."""

    found: list[Setting]
    _depth = 0

    def _noted(self, name: str, value: str, default: str | None, read: Callable[[], Any]) -> Any:
        if not self._depth and name not in {one.name for one in self.found}:
            self.found.append(Setting(name, value, default))
        self._depth += 1
        try:
            return read()
        finally:
            self._depth -= 1

    def text(self, name: str, default: str | None = "", pattern: str = "", hint: str = "", secret: bool = False) -> str:
        """Note a text."""
        read = super().text
        return str(self._noted(name, hint or "text", default, lambda: read(name, default, pattern, hint, secret)))

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        """Note one of some."""
        read = super().choice
        return str(self._noted(name, _either(choices), default, lambda: read(name, default, choices)))

    def choices(self, name: str, default: str, choices: tuple[str, ...]) -> tuple[str, ...]:
        """Note a list of some."""
        read = super().choices
        found = self._noted(name, f"list of {_either(choices)}", default, lambda: read(name, default, choices))
        return tuple(found)

    def items(self, name: str, default: str = "", pattern: str = "", hint: str = "") -> tuple[str, ...]:
        """Note a list."""
        read = super().items
        value = f"list, each {hint}" if hint else "list"
        return tuple(self._noted(name, value, default, lambda: read(name, default, pattern, hint)))

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """Note a number."""
        read = super().number
        value = f"whole number from {low} to {high}"
        return int(self._noted(name, value, str(default), lambda: read(name, default, low, high)))

    def endpoint(self, name: str) -> str:
        """Note an address."""
        read = super().endpoint
        return str(self._noted(name, "loopback address", "", lambda: read(name)))


def _either(choices: Iterable[str]) -> str:
    return ", ".join(f"`{one}`" for one in choices)


def settings(cloud: str) -> list[Setting]:
    """Return what a cloud's function reads, in the order in which it reads it."""
    module = MODULES[cloud]
    found: list[Setting] = []
    with (
        mock.patch.object(Recorder, "found", found, create=True),
        mock.patch.object(module, "Reader", Recorder),
    ):
        module.read_settings(GIVEN[cloud])
    given = {value: name for name, value in GIVEN[cloud].items()}
    required = set(GIVEN[cloud])
    return [
        Setting(one.name, one.value, None)
        if one.name in required
        else Setting(one.name, one.value, f"that of {given[one.default]}" if one.default in given else one.default)
        for one in found
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


def _set_by(module: hcl.Module) -> dict[str, str]:
    """Return the variables that each setting comes from, as the module puts the function's settings together."""
    found: dict[str, str] = {}
    own = module.locals.get("own_settings") or module.locals["settings"]
    for name, value in re.findall(r"\b([A-Z][A-Z0-9_]+)\s*=\s*([^\n]+)", own.text):
        variables = dict.fromkeys(_variables(module, value, 3))
        found[name] = ", ".join(f"`{one}`" for one in variables) or "the module"
    return found


def _variables(module: hcl.Module, text: str, depth: int) -> Iterator[str]:
    """Yield the variables that an expression rests on, through the module's locals."""
    for kind, name in re.findall(r"\b(var|local)\.(\w+)", text):
        if kind == "var":
            yield name
        elif depth and name in module.locals:
            yield from _variables(module, module.locals[name].text, depth - 1)


def _rows(cloud: str, module: hcl.Module) -> Iterator[str]:
    set_by = _set_by(module)
    rules = "".join(attribute.text for _, attribute in module.variables["settings"].everything())
    described = effects(cloud)
    for one in shown(cloud):
        default = "required" if one.default is None else f"`{one.default}`" if one.default else "empty"
        default = one.default if one.default and one.default.startswith("that of ") else default
        # Azure's module names the settings that it refuses, the others those that they take.
        own = "`settings`" if (one.name in rules) != (cloud == "azure") else "no variable"
        value = one.value.replace("<", "&lt;")
        yield f"| `{one.name}` | {value} | {default} | {described[one.name]} | {set_by.get(one.name, own)} |"


def page() -> str:
    """Return the page."""
    lines = [HEAD]
    for cloud, title in TITLES.items():
        module = hcl.read_module(ROOT / "infra" / cloud)
        lines += [
            f"## {title}: variables of the module\n",
            readme.tables(module)["inputs"].replace("| name | type | default | description |", VARIABLES, 1),
            f"\n## {title}: settings of the function\n",
            "| setting | value | default | effect | set by |\n| --- | --- | --- | --- | --- |",
            *_rows(cloud, module),
            "",
        ]
    lines += ["## The command\n", "| variable | cloud | effect |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | {cloud} | {effect} |" for name, cloud, effect in COMMAND]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Write or check the page; returns the exit code."""
    for cloud in TITLES:
        wrong = undescribed(cloud)
        if wrong:
            print(f"EFFECTS of {cloud} and what its function reads differ: {', '.join(wrong)}", file=sys.stderr)
            return 1
    text = page()
    if "--check" not in arguments:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        print("docs/settings.md is not what the code says; make infra-docs writes it", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
