"""What the commands share: the cloud's operator, the place, Terraform in a folder with the right root_module."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cli.clouds import Cloud
from cli.deployment.model import Backend, Fault, OperatorError, Place
from cli.deployment.operator import Operator
from cli.deployment.output import show_faults, show_findings, show_place
from cli.deployment.terraform import root_module
from cli.deployment.terraform import variables as module_variables
from cli.deployment.terraform.binary import Terraform, find
from cli.terminal.console import clean, defect, err, say
from cli.terminal.signals import unwinding

if TYPE_CHECKING:
    from cli.deployment.terraform.variables import Variable

OK, FAILED, DEGRADED = 0, 1, 3
EXITS = {"ok": OK, "degraded": DEGRADED}


@dataclass(frozen=True)
class Bench:
    """A command at work: `screen` is for people, standard output for documents."""

    cloud: Cloud
    operator: Operator
    place: Place
    screen: Console

    def tell(self, line: str) -> None:
        say(self.screen, clean(line), indent=2)


def guarded(title: str, command: Callable[[], int]) -> int:
    """Run a command; an OperatorError is shown with its remedies and ends it with 1, and so does a defect."""
    with unwinding():
        try:
            return command()
        except OperatorError as error:
            show_faults(err(), title, error.faults)
        except ModuleNotFoundError:
            raise  # the installation is incomplete: the tool itself says so
        except Exception as error:  # noqa: BLE001 - a trace is for who mends it, not for the terminal
            show_faults(err(), title, [Fault(*defect(error))])
        return FAILED


def opened(cloud: Cloud, given: Mapping[str, Any]) -> Bench:
    """Return the bench for a cloud, having said where it is."""
    operator = cloud.operator()
    place = operator.place(given)
    screen = err()
    show_place(screen, place)
    return Bench(cloud, operator, place, screen)


def require_rights(bench: Bench) -> None:
    """Raise OperatorError for the rights that are missing, with the commands that grant them."""
    found = bench.operator.rights(bench.place)
    show_findings(bench.screen, found, everything=False)
    lacking = [one for one in found if one.ok is False]
    if lacking:
        raise OperatorError(
            Fault(
                f"{len(lacking)} of {len(found)} rights are missing; nothing was made",
                f"Grant them as said above; `tailpipe-exports doctor {bench.cloud.name}` shows them all.",
            )
        )
    say(bench.screen, f"{sum(one.ok is True for one in found)} of {len(found)} rights are known to be there")


def state_of(bench: Bench, local_state: Path | None, make: bool = True) -> Backend:
    """Return where Terraform's state is; the folder of `--local-state` is made, unless not to `make` anything."""
    if local_state is None:
        return bench.operator.backend(bench.place)
    try:
        if make:
            local_state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(Fault(f"--local-state {local_state}: {error.strerror}", "Name a folder.")) from error
    return root_module.local_backend(local_state)


@contextmanager
def terraform(
    bench: Bench,
    backend: Backend,
    variables: Mapping[str, Variable] | None = None,
    values: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> Iterator[Terraform]:
    """Yield Terraform, initialized; without `variables` its root is the one that only removes."""
    if folder is None:
        with root_module.working_folder() as made, terraform(bench, backend, variables, values, made) as opened_there:
            yield opened_there
        return
    binary = find()
    backend = root_module.fitting(backend, Terraform(binary, folder, {}).version())
    providers = bench.operator.providers(bench.place)
    environment = root_module.plugin_cache(os.environ)
    if variables is None:
        root_module.write_empty(folder, backend, providers)
    else:
        handed = bench.operator.module_providers()
        environment |= root_module.write(folder, bench.cloud.name, backend, providers, handed, variables, values or {})
    ready = Terraform(binary, folder, environment, secrets_in(variables or {}, values or {}))
    ready.init()
    yield ready


def secrets_in(variables: Mapping[str, Variable], values: Mapping[str, Any]) -> list[str]:
    """Return the values that nobody is shown."""
    return [str(value) for name, value in values.items() if variables[name].sensitive and value]


def values_given(
    cloud: Cloud, pairs: Sequence[str], files: Sequence[Path]
) -> tuple[dict[str, Variable], dict[str, Any]]:
    """Return the module's variables and the operator's values for them. Raises OperatorError for every fault."""
    variables = module_variables.declared(root_module.INFRA / cloud.name)
    return variables, module_variables.given(variables, pairs, files, os.environ)


def require_good_values(cloud: Cloud, variables: Mapping[str, Variable], values: Mapping[str, Any]) -> None:
    """Raise OperatorError for every value that a rule of the module refuses."""
    with root_module.working_folder() as folder:
        binary = find()
        Terraform(binary, folder, {}).version()  # refuses one that is too old for the rules themselves
        environment = root_module.write_rules(folder, cloud.name, variables, values)
        Terraform(binary, folder, environment, secrets_in(variables, values)).check()


def can_ask() -> bool:
    """Return whether somebody sits at a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def asked(question: str) -> list[str]:
    """Ask on the terminal for any number of words, separated by commas or blanks."""
    sys.stderr.write(f"{question}: ")
    sys.stderr.flush()
    return list(dict.fromkeys(sys.stdin.readline().replace(",", " ").split()))


def confirmed(question: str) -> bool:
    """Ask on the terminal. Raises OperatorError where there is none."""
    if not can_ask():
        raise OperatorError(Fault("there is no terminal to ask on", "Add --yes once you have read the plan."))
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
