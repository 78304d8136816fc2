"""The root module around a cloud's module: written for each command into a temporary folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.deployment.engine import Variable
from cli.deployment.model import Adoption, Backend
from cli.deployment.terraform.binary import GRANTED
from tailpipe_exports import FILES

MODULE = "tailpipe"
ADDRESS = f"module.{MODULE}."
INFRA = FILES / "infra"
STATE_FILE = "terraform.tfstate"
RULES = "rules"
IMPORTS = "imports.tf.json"
LOCKS_IN_S3 = (1, 10)


def local_backend(folder: Path) -> Backend:
    """Return the backend of `--local-state`: a file in the operator's folder."""
    return Backend("local", {"path": str(folder.absolute() / STATE_FILE)}, f"the file {folder / STATE_FILE}")


def fitting(backend: Backend, version: tuple[int, ...]) -> Backend:
    """Return the backend as this version of Terraform accepts it: S3's `use_lockfile` exists from 1.10 on."""
    if version >= LOCKS_IN_S3:
        return backend
    known = {name: value for name, value in backend.configuration.items() if name != "use_lockfile"}
    return Backend(backend.type, known, backend.title)


@contextmanager
def working_folder() -> Iterator[Path]:
    """Yield a folder that only the operator may read: a saved plan holds secrets."""
    with tempfile.TemporaryDirectory(prefix="tailpipe-") as name:
        yield Path(name)


def write(
    folder: Path,
    cloud: str,
    backend: Backend,
    providers: Mapping[str, Any],
    module_providers: Mapping[str, str],
    variables: Mapping[str, Variable],
    values: Mapping[str, Any],
) -> dict[str, str]:
    """Write a root that calls the module with `values`; return the variables' values as environment variables.

    Values are not written to the folder. All outputs of the module become one sensitive output, ``deployment``; its
    grants are a separate output, which a plan shows.
    """
    calling: dict[str, Any] = {"source": str(INFRA / cloud)}
    if module_providers:
        calling["providers"] = dict(module_providers)
    more = {"provider": dict(providers)}
    granted = {GRANTED: {"value": f"${{module.{MODULE}.{GRANTED}}}"}}
    return _write(folder, calling, backend, variables, values, more, granted)


def write_rules(
    folder: Path, cloud: str, variables: Mapping[str, Variable], values: Mapping[str, Any]
) -> dict[str, str]:
    """Write a root that calls a module with only the variables, so that Terraform checks `values` by its rules.

    It needs neither provider nor backend. The package, which does not exist yet, is an empty file.
    """
    (folder / RULES).mkdir()
    shutil.copyfile(INFRA / cloud / "variables.tf", folder / RULES / "variables.tf")
    package = "package.zip"
    (folder / package).touch()
    values = {**values, "package": package}
    return _write(folder, {"source": f"./{RULES}"}, local_backend(folder), variables, values, {})


def _write(
    folder: Path,
    calling: Mapping[str, Any],
    backend: Backend,
    variables: Mapping[str, Variable],
    values: Mapping[str, Any],
    more: Mapping[str, Any],
    outputs: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    document: dict[str, Any] = {
        "terraform": {"backend": {backend.type: dict(backend.configuration)}},
        # Terraform reads the environment's value of a variable of type any as an expression.
        "variable": {name: {"type": "any", "sensitive": variables[name].sensitive} for name in values},
        "module": {MODULE: {**calling, **{name: f"${{var.{name}}}" for name in values}}},
        "output": {"deployment": {"value": f"${{module.{MODULE}}}", "sensitive": True}, **(outputs or {})},
        **more,
    }
    _save(folder, document)
    return {f"TF_VAR_{name}": expression(value) for name, value in values.items()}


def add_imports(folder: Path, adoptions: Sequence[Adoption]) -> None:
    """Make the next plan import these resources instead of creating them."""
    _save(folder, imports(adoptions), IMPORTS)


def imports(adoptions: Sequence[Adoption]) -> dict[str, Any]:
    """Return the import blocks of these resources in Terraform's JSON syntax, for the file `IMPORTS`."""
    return {"import": [{"to": one.address, "id": one.id} for one in adoptions]}


def write_empty(folder: Path, backend: Backend, providers: Mapping[str, Any]) -> None:
    """Write a root without the module: applying it destroys what remains in the state, in the correct order.

    It needs neither variables nor a package, which may be unavailable at the time of a removal.
    """
    _save(folder, {"terraform": {"backend": {backend.type: dict(backend.configuration)}}, "provider": dict(providers)})


def expression(value: Any) -> str:
    """Return a value as an HCL expression without templates."""
    return json.dumps(value, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")


def plugin_cache(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that makes Terraform cache its providers (hundreds of megabytes), unless it is set."""
    if environment.get("TF_PLUGIN_CACHE_DIR"):
        return {}
    home = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(home) / "tailpipe-exports" / "providers"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return {}
    return {"TF_PLUGIN_CACHE_DIR": str(folder)}


def _save(folder: Path, document: Mapping[str, Any], name: str = "main.tf.json") -> None:
    path = folder / name
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")
    path.chmod(0o600)
