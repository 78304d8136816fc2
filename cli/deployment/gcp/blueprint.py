"""The blueprint of Infrastructure Manager: a root module around the module of Google Cloud, with the package inside.

The root module declares the variables of the module with their rules, so that Infrastructure Manager asks for them by
name. Its addresses are those of `tailpipe-exports deploy`, so that a state moves between both. It has no backend, which
Infrastructure Manager refuses ("Terraform and Infrastructure Manager", constraints).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from cli.deployment.terraform.binary import GRANTED
from cli.deployment.terraform.root_module import INFRA, MODULE
from cli.deployment.terraform.variables import OWN, declared

SOURCE = INFRA / "gcp"
PACKAGE = "tailpipe-exports-gcp.zip"
# The files of the module that it needs to run.
SUFFIXES = (".tf", ".sh", ".filter")
READ = ("rights.yaml",)
_VARIABLE = re.compile(r'^variable "(\w+)" \{\n.*?^\}\n', re.MULTILINE | re.DOTALL)
_PROVIDER = """\
provider "google" {
  project = var.project_id
  region  = var.region
}

"""
_HEAD = """\
# Tailpipe Exports as one deployment of Infrastructure Manager. Made by `tailpipe-exports template gcp`: the module is
# in module/, its variables are declared in variables.tf, and the function's package lies beside this file.

{versions}
{provider}module "{module}" {{
  source = "./module"

{arguments}
}}

output "{granted}" {{
  description = "The ids of the grants that are made, by holder."
  value       = module.{module}.{granted}
}}

output "onboarding" {{
  description = "What Tailpipe needs to connect."
  value       = module.{module}.onboarding
}}

output "deployment" {{
  description = "All outputs of the module."
  value       = module.{module}
  sensitive   = true
}}
"""


def files(package: bytes, source: Path = SOURCE) -> dict[str, bytes]:
    """Return the files of the blueprint by name, with slashes."""
    made: dict[str, bytes] = {"main.tf": _root(source).encode(), PACKAGE: package}
    made["variables.tf"] = _variables((source / "variables.tf").read_text(encoding="utf-8")).encode()
    for path in sorted(source.iterdir()):
        if path.is_file() and (path.suffix in SUFFIXES or path.name in READ):
            made[f"module/{path.name}"] = path.read_bytes()
    return made


def write(folder: Path, content: Mapping[str, bytes]) -> None:
    """Write the files into a folder, which is created. Raises OSError."""
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _root(source: Path) -> str:
    names = [name for name in declared(source) if name not in OWN]
    # By its bare name, as `deploy` writes it, so that a state that moves between both plans no change.
    arguments = [("package", f'"{PACKAGE}"'), *((name, f"var.{name}") for name in names)]
    versions = (source / "versions.tf").read_text(encoding="utf-8")
    return _HEAD.format(
        versions=versions,
        provider=_PROVIDER if "hashicorp/google" in versions else "",
        module=MODULE,
        granted=GRANTED,
        arguments="\n".join(_aligned(arguments)),
    )


def _aligned(arguments: Iterable[tuple[str, str]]) -> list[str]:
    """Return arguments as `terraform fmt` aligns them."""
    every = list(arguments)
    width = max(len(name) for name, _ in every)
    return [f"  {name:<{width}} = {value}" for name, value in every]


def _variables(text: str) -> str:
    """Return the module's variables without those that the root module sets itself."""
    return _VARIABLE.sub(lambda found: "" if found[1] in OWN else found[0], text).lstrip().replace("\n\n\n", "\n\n")
