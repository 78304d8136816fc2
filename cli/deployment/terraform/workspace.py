"""Terraform in its own folder: the root module around the cloud's module, the state, and the operator's values."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.deployment.engine import Variable
from cli.deployment.model import Backend, OperatorError, Problem
from cli.deployment.operator import Operator
from cli.deployment.terraform import root_module
from cli.deployment.terraform import variables as module_variables
from cli.deployment.terraform.binary import Terraform, find


def state_of(operator: Operator, local_state: Path | None, make: bool = True) -> Backend:
    """Return the backend of Terraform's state; the folder of `--local-state` is created if `make`."""
    if local_state is None:
        return operator.backend()
    try:
        if make:
            local_state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(Problem(f"--local-state {local_state}: {error.strerror}", "Name a folder.")) from error
    return root_module.local_backend(local_state)


@contextmanager
def workspace(
    operator: Operator,
    backend: Backend,
    variables: Mapping[str, Variable] | None = None,
    values: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> Iterator[Terraform]:
    """Yield an initialized Terraform; without `variables`, its root only removes."""
    if folder is None:
        with root_module.working_folder() as made, workspace(operator, backend, variables, values, made) as terraform:
            yield terraform
        return
    binary = find()
    backend = root_module.fitting(backend, Terraform(binary, folder, {}).version())
    providers = operator.providers()
    environment = root_module.plugin_cache(os.environ)
    if variables is None:
        root_module.write_empty(folder, backend, providers)
    else:
        handed = operator.module_providers()
        cloud = operator.place.cloud
        environment |= root_module.write(folder, cloud, backend, providers, handed, variables, values or {})
    ready = Terraform(binary, folder, environment, secrets_in(variables or {}, values or {}))
    ready.init()
    yield ready


def secrets_in(variables: Mapping[str, Variable], values: Mapping[str, Any]) -> list[str]:
    """Return the values of sensitive variables, which are never shown."""
    return [str(value) for name, value in values.items() if variables[name].sensitive and value]


def values_given(
    cloud: str, pairs: Sequence[str], files: Sequence[Path]
) -> tuple[Mapping[str, module_variables.Variable], dict[str, Any]]:
    """Return the module's variables and the operator's values for them. Raises OperatorError for every problem."""
    variables = module_variables.declared(root_module.INFRA / cloud)
    return variables, module_variables.given(variables, pairs, files, os.environ)


def require_good_values(cloud: str, variables: Mapping[str, Variable], values: Mapping[str, Any]) -> None:
    """Raise OperatorError for every value that a rule of the module refuses."""
    with root_module.working_folder() as folder:
        binary = find()
        Terraform(binary, folder, {}).version()  # raises for one that is too old for the rules
        environment = root_module.write_rules(folder, cloud, variables, values)
        Terraform(binary, folder, environment, secrets_in(variables, values)).check()
