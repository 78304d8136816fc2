"""The engine port: what plans, applies and removes a deployment's own resources.

Terraform is the engine of every cloud. A cloud may have a native one, which needs no program on the operator's machine:
CloudFormation, Azure Resource Manager, Infrastructure Manager. Everything around an engine is shared: preflight,
permissions, the plan in plain words, the refusal of loss, the first run, verification and onboarding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from cli.deployment.model import Change, Kept
from cli.deployment.operator import Tell

TERRAFORM, NATIVE = "terraform", "native"
ENGINES = (TERRAFORM, NATIVE)


class Variable(Protocol):
    """A variable of the cloud's module, as `variables.tf` declares it."""

    @property
    def sensitive(self) -> bool: ...


class Plan(Protocol):
    """A plan that its engine can apply.

    `changes` has no no-ops. `types` are the types of all resources after the apply, one for each resource. `granted`
    are the ids of the grants in `rights.yaml` by holder; None if they are not known before the apply.
    """

    @property
    def changes(self) -> Sequence[Change]: ...
    @property
    def types(self) -> Sequence[str]: ...
    @property
    def granted(self) -> Mapping[str, Sequence[str]] | None: ...
    @property
    def empty(self) -> bool: ...


@dataclass(frozen=True)
class Planning:
    """The request for a plan.

    `values` are the operator's values of the module's `variables`; ``package`` among them is the name of the function's
    archive in `folder`, which only the operator may read and which is removed at the end of the command. `dry_run`: the
    plan is only shown, and nothing may be created for it. `everything`: lists are not shortened. `say` shows a line,
    `tell` an indented one.
    """

    folder: Path
    variables: Mapping[str, Variable]
    values: Mapping[str, Any]
    dry_run: bool
    everything: bool
    say: Callable[[str], None]
    tell: Tell


class Engine(Protocol):
    """One deployment's own resources, as one engine manages them. Every method may raise OperatorError with a remedy.

    `title` names what holds the deployment, to be followed by "holds" or "stays". `precious` are the types of resources
    with customer data: a plan that deletes one is refused. `alarm` is the type of an alarm.
    """

    title: str
    precious: frozenset[str]
    alarm: str

    def check(self, variables: Mapping[str, Variable], values: Mapping[str, Any]) -> None:
        """Raise OperatorError for every value that a rule refuses, before anything is created or planned."""
        ...

    def plan(self, wanted: Planning) -> Plan:
        """Return a plan in which every existing resource of this deployment is adopted instead of created."""
        ...

    def apply(self, plan: Plan, tell: Tell) -> None:
        """Apply a plan of this engine, and show each resource when it is done."""
        ...

    def addresses(self) -> list[str]:
        """Return what the engine holds, also after an interruption; empty if nothing is deployed with it."""
        ...

    def outputs(self) -> dict[str, Any]:
        """Return the deployment's outputs, including secret ones."""
        ...

    def removal(self, kept: Sequence[Kept]) -> list[Change]:
        """Return what a removal would delete, without `kept`; change nothing.

        Raises OperatorError where a function is deployed and the engine holds nothing of it.
        """
        ...

    def plan_removal(self, kept: Sequence[Kept]) -> Plan:
        """Give up `kept`, which stays in the cloud, and return the plan that deletes everything else."""
        ...

    def left(self) -> str:
        """Return what a removal leaves behind besides `kept`, as a sentence for people, or ""."""
        ...


class StateEngine(Engine, Protocol):
    """Terraform as a move between engines uses it."""

    def held(self) -> list[str]:
        """Return the addresses in Terraform's state; empty, and without a need for Terraform, if there is no state."""
        ...

    def forget(self) -> None:
        """Empty the state that `held` has read. Nothing changes in the cloud, and `held` is empty afterwards."""
        ...


@runtime_checkable
class HasNativeEngine(Protocol):
    """An operator of a cloud whose deployments can be made without Terraform."""

    def native_engine(self) -> Engine:
        """Return the cloud's own engine for this deployment, whether it exists or not. No call is made.

        From then on, `rights` also checks the permissions that it needs, where they are not those of Terraform.
        """
        ...

    def held_by_native(self) -> bool:
        """Return whether the cloud's own engine holds this deployment, also one that failed or was interrupted."""
        ...

    def held_by_terraform(self) -> bool:
        """Return whether the state in this cloud holds resources; Terraform itself is not needed for it."""
        ...


@runtime_checkable
class Migrates(Protocol):
    """An operator that moves a deployment from one engine to the other, without a change of its resources.

    Each method continues after an interruption, and raises OperatorError where there is nothing to move.
    """

    def to_native(self, wanted: Planning, terraform: StateEngine) -> None:
        """Give the deployment to the cloud's own engine, then empty Terraform's state, of which a copy is kept."""
        ...

    def to_terraform(self, wanted: Planning, terraform: StateEngine) -> None:
        """Give the deployment to Terraform, then end the cloud's own engine's hold on it."""
        ...
