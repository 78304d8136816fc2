"""Terraform as the engine of a deployment: the cloud's module, its state, and the adoption of what already exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cli.deployment.engine import Plan, Planning, Variable
from cli.deployment.model import Adoption, Backend, Change, Kept, OperatorError, Problem
from cli.deployment.operator import Operator, Tell
from cli.deployment.terraform import binary, root_module
from cli.deployment.terraform.binary import Terraform
from cli.deployment.terraform.workspace import require_good_values, state_of, workspace

ADOPTIONS_SHOWN = 20


class TerraformEngine:
    """Implements `cli.deployment.engine.Engine`. `stack` closes what the engine opens.

    `local_state` is the operator's folder for the state; None: the state is kept in the cloud.
    """

    title = "Terraform's state"

    def __init__(self, stack: ExitStack, operator: Operator, local_state: Path | None) -> None:
        self._stack = stack
        self._operator = operator
        self._local_state = local_state
        self._terraform: Terraform | None = None
        self._backend: Backend | None = None
        self.precious = operator.precious
        self.alarm = operator.alarm

    def check(self, variables: Mapping[str, Variable], values: Mapping[str, Any]) -> None:
        require_good_values(self._operator.place.cloud, variables, values)

    def plan(self, wanted: Planning) -> binary.Plan:
        backend = self._ready_backend(wanted)
        self._terraform = self._stack.enter_context(
            workspace(self._operator, backend, wanted.variables, wanted.values, wanted.folder)
        )
        adopted: list[Adoption] = []
        while True:
            plan = self._terraform.plan()
            created = [one for one in plan.changes if one.actions == ("create",)]
            found = self._operator.adoptions(created, wanted.tell) if created else []
            if not found:
                return plan
            show_adoptions(wanted, found)
            # The names of parts of adopted resources appear only in the next plan, and these may exist too.
            adopted += found
            root_module.add_imports(wanted.folder, adopted)

    def apply(self, plan: Plan, tell: Tell) -> None:
        if not isinstance(plan, binary.Plan):
            raise TypeError(f"{type(plan).__name__} is not a plan of Terraform's")
        self._opened().apply(plan, tell)

    def addresses(self) -> list[str]:
        return self._opened().addresses()

    def outputs(self) -> dict[str, Any]:
        return self._opened().outputs()

    def held(self) -> list[str]:
        """Return the addresses in the state; empty, and without a need for Terraform, if there is no state."""
        if self._local_state is None and not self._operator.backend_exists():
            return []
        return self._held()

    def forget(self) -> None:
        """Empty the state that `held` has read. Nothing changes in the cloud."""
        terraform = self._opened()
        terraform.forget(terraform.addresses())

    def removal(self, kept: Sequence[Kept]) -> list[Change]:
        held = self._held()
        if not held and self._operator.deployed() is not None:
            raise OperatorError(
                Problem(
                    f"a function is deployed here, and Terraform's state in {self._stored().title} holds nothing of it",
                    "Name the correct place with --local-state. If the state was lost, `tailpipe-exports deploy "
                    f"{self._operator.place.cloud}` adopts existing resources; after it this command works.",
                )
            )
        leaving = _addresses(held, kept)
        gone = [one for one in held if one not in leaving and not one.startswith(f"{root_module.ADDRESS}data.")]
        return [Change(one, one.removeprefix(root_module.ADDRESS).partition(".")[0], ("delete",), {}) for one in gone]

    def plan_removal(self, kept: Sequence[Kept]) -> binary.Plan:
        terraform = self._opened()
        terraform.forget(_addresses(terraform.addresses(), kept))
        return terraform.plan()

    def left(self) -> str:
        return f"Terraform's state stays in {self._stored().title}; remove it manually when you no longer need it"

    def _ready_backend(self, wanted: Planning) -> Backend:
        """Return the backend, created if necessary; a dry run without a state plans from an empty one."""
        operator = self._operator
        backend = self._backend = state_of(operator, self._local_state)
        if self._local_state is None and not operator.backend_exists():
            if wanted.dry_run:
                wanted.say(f"Terraform's state would be kept in {backend.title}, which does not exist yet")
                return root_module.local_backend(wanted.folder)
            operator.make_backend(wanted.tell)
        wanted.say(f"Terraform's state: {backend.title}")
        return backend

    def _held(self) -> list[str]:
        """Return the addresses in an existing state. Raises OperatorError if the state is not there."""
        backend = self._backend = state_of(self._operator, self._local_state, make=False)
        place = self._operator.place
        if self._local_state is None and not self._operator.backend_exists():
            gone = self._operator.deployed() is None
            raise OperatorError(
                Problem(
                    f"{'nothing is deployed here, and ' * gone}Terraform's state is not in {backend.title}",
                    f"{'If the deployment has been removed, nothing is left to do. ' * gone}"
                    f"Is this the right {place.kind}? "
                    f"If the state was lost, `tailpipe-exports deploy {place.cloud}` adopts existing resources; "
                    "after it this command works.",
                )
            )
        self._terraform = self._stack.enter_context(workspace(self._operator, backend))
        return self._terraform.addresses()

    def _opened(self) -> Terraform:
        if self._terraform is None:
            raise RuntimeError("the engine has neither planned nor read its state")
        return self._terraform

    def _stored(self) -> Backend:
        return self._backend or state_of(self._operator, self._local_state, make=False)


def show_adoptions(wanted: Planning, found: Sequence[Adoption]) -> None:
    """Show which existing resources the next plan adopts."""
    wanted.say(f"{len(found):,} existing resources are adopted:")
    for one in found[: None if wanted.everything else ADOPTIONS_SHOWN]:
        wanted.tell(f"{one.address.removeprefix(root_module.ADDRESS)} ← {one.what or one.id}")
    if not wanted.everything and len(found) > ADOPTIONS_SHOWN:
        wanted.tell(f"and {len(found) - ADOPTIONS_SHOWN:,} more; --all shows each")


def _addresses(held: Sequence[str], kept: Sequence[Kept]) -> list[str]:
    starts = tuple(f"{root_module.ADDRESS}{part}" for one in kept for part in one.addresses)
    return [address for address in held if starts and address.startswith(starts)]
