"""What Terraform itself says, where it and a provider's plugin are at hand: format, validity, and the plugin's schema.

`tofu` serves as well. Plugins are looked for in TAILPIPE_EXPORTS_TF_PLUGIN_DIR, in Terraform's plugin cache and in the
folders that Terraform documents as implied mirrors
(https://developer.hashicorp.com/terraform/cli/config/config-file#implied-local-mirror-directories). With
TAILPIPE_EXPORTS_TF_NETWORK=1 they are fetched as usual.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.infra import distil, hcl
from tools.infra.fault import Fault, NotRun
from tools.infra.schema import providers_of

_SECONDS = 1800  # against hanging; the slowest takes less than a tenth of it on a quiet machine
_LEFT_OUT = shutil.ignore_patterns(".terraform", "*.tfstate*", "*.tfplan", ".terraform.lock.hcl")


def binary() -> str:
    """The path of terraform, or else of tofu; raises NotRun without either."""
    found = shutil.which("terraform") or shutil.which("tofu")
    if found is None:
        raise NotRun("neither terraform nor tofu is on the PATH")
    return found


def plugin_folders() -> list[Path]:
    """The folders in which a provider's plugin may lie, the first choice first."""
    home = Path.home()
    named = [os.environ.get(name, "") for name in ("TAILPIPE_EXPORTS_TF_PLUGIN_DIR", "TF_PLUGIN_CACHE_DIR")]
    shared = os.environ.get("XDG_DATA_DIRS", "") or "/usr/local/share:/usr/share"
    own = os.environ.get("XDG_DATA_HOME", "") or str(home / ".local/share")
    usual = [home / ".terraform.d/plugins", home / ".terraform.d/plugin-cache"]
    # Where software that belongs to no distribution is put, a mirror may be under any name.
    usual += sorted({vendor.parents[1] for vendor in Path("/opt").glob("*/*/hashicorp")})
    implied = [Path(data) / "terraform/plugins" for data in [own, *shared.split(":")] if data]
    return [Path(name) for name in named if name] + usual + implied


def plugin_folder(providers: set[str]) -> Path | None:
    """The first folder with plugins of all `providers`, None where the network may be asked; else raises NotRun."""
    for folder in plugin_folders():
        if all(any(folder.glob(f"*/hashicorp/{provider}/*")) for provider in providers):
            return folder
    if os.environ.get("TAILPIPE_EXPORTS_TF_NETWORK") == "1":
        return None
    raise NotRun(
        f"no folder holds a plugin of {' and '.join(sorted(providers))};"
        " name one in TAILPIPE_EXPORTS_TF_PLUGIN_DIR, or set TAILPIPE_EXPORTS_TF_NETWORK=1"
    )


def plugin_version(provider: str) -> str:
    """The newest version of a provider's plugin at hand, "" where only the network knows; raises NotRun as above."""
    folder = plugin_folder({provider})
    found = [path.name for path in folder.glob(f"*/hashicorp/{provider}/*")] if folder else []
    return max(found, key=lambda name: [int(part) for part in re.findall(r"\d+", name)], default="")


def format_faults(infra: Path) -> Iterator[Fault]:
    """Yield the files below `infra` that `terraform fmt` would change; raises NotRun without a binary."""
    done = _run([binary(), "fmt", "-check", "-recursive", "-list=true", str(infra)], infra)
    if done.returncode not in {0, 3}:
        first = next((line for line in done.stderr.splitlines() if "Error" in line), done.stderr.strip()[:200])
        yield Fault(infra, 1, f"terraform fmt: {first}")
    for line in done.stdout.splitlines():
        if line.endswith((".tf", ".tfvars", ".tftest.hcl")):
            path = Path(line) if Path(line).is_absolute() else infra / line
            yield Fault(path, 1, "is not formatted; run terraform fmt -recursive infra")


def validate_faults(infra: Path, module: hcl.Module, examples: Sequence[Path]) -> Iterator[Fault]:
    """Yield what `terraform validate` says of a module as its examples call it.

    Works on a copy, so that nothing of it stays in the tree. Raises NotRun without a binary or plugins.
    """
    command = binary()
    folder = plugin_folder(providers_of(module) - {"terraform"})
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "infra"
        shutil.copytree(infra, copy, ignore=_LEFT_OUT)
        for example in examples:
            place = copy / example.relative_to(infra)
            _init(command, place, folder)
            done = _run([command, "validate", "-json", "-no-color"], place)
            for said in json.loads(done.stdout)["diagnostics"]:
                where = said.get("range", {})
                path = infra / os.path.relpath((place / where.get("filename", "main.tf")).resolve(), copy.resolve())
                what = " ".join(f"{said['summary']}: {said.get('detail', '')}".split())
                yield Fault(path, where.get("start", {}).get("line", 1), f"terraform validate: {what}")


def write_schema(provider: str, target: Path) -> None:
    """Write the schema of a provider at hand as `distil.write` does; raises NotRun without a binary or plugins."""
    command = binary()
    folder = plugin_folder({provider})
    version = plugin_version(provider)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        settings = (
            f'terraform {{\n  required_providers {{\n    {provider} = {{ source = "hashicorp/{provider}" }}\n  }}\n}}\n'
        )
        (place / "main.tf").write_text(settings, encoding="utf-8")
        _init(command, place, folder)
        done = _run([command, "providers", "schema", "-json"], place)
        if done.returncode:
            raise NotRun(f"terraform providers schema ended with {done.returncode}: {done.stderr.strip()[:200]}")
        everything = json.loads(done.stdout)["provider_schemas"]
    schemas: dict[str, Any] = {}
    for found in everything.values():
        schemas |= {f"resource.{name}": schema["block"] for name, schema in found.get("resource_schemas", {}).items()}
        schemas |= {f"data.{name}": schema["block"] for name, schema in found.get("data_source_schemas", {}).items()}
    distil.write(schemas, version, target)


def _init(command: str, place: Path, folder: Path | None) -> None:
    where = [f"-plugin-dir={folder.resolve()}"] if folder else []
    done = _run([command, "init", "-backend=false", "-input=false", "-no-color", *where], place)
    if done.returncode:
        said = " ".join(done.stderr.split())
        raise NotRun(f"terraform init ended with {done.returncode}: {said[:300]}")


def _run(command: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    # An operator's own arguments, workspace or settings file must not change what is checked.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "TOFU_"))}
    environment = inherited | {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    return subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
