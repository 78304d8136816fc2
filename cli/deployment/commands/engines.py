"""Chooses the engine of a deployment: the requested one for `deploy`, the one that holds it for other commands."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from cli.deployment.engine import NATIVE, TERRAFORM, Engine, HasNativeEngine
from cli.deployment.model import OperatorError, Problem
from cli.deployment.operator import Cloud
from cli.deployment.session import Session
from cli.deployment.terraform.binary import find
from cli.deployment.terraform.engine import TerraformEngine

NAMES = {TERRAFORM: "Terraform", NATIVE: "the cloud's own service"}


def require_engine(cloud: Cloud, chosen: str) -> None:
    """Raise OperatorError for an engine that the cloud does not have or whose program is missing. Makes no call."""
    if chosen == TERRAFORM:
        find()
    elif not hasattr(cloud.operator(), "native_engine"):
        raise OperatorError(
            Problem(
                f"deployments on {cloud.title} are made only with Terraform",
                f"Leave out --with native: tailpipe-exports deploy {cloud.name}.",
            )
        )


def engine_to_deploy(stack: ExitStack, session: Session, chosen: str, local_state: Path | None) -> Engine:
    """Return the requested engine. Raises OperatorError if another one holds this deployment."""
    operator = session.operator
    if not isinstance(operator, HasNativeEngine):
        return TerraformEngine(stack, operator, local_state)
    if chosen == TERRAFORM:
        if operator.held_by_native():
            raise OperatorError(_held_by_other(session, NATIVE, TERRAFORM))
        return TerraformEngine(stack, operator, local_state)
    if local_state is not None:
        raise OperatorError(
            Problem("--local-state is the folder of Terraform's state, which --with native does not use", "Remove it.")
        )
    # A state that is kept elsewhere is not visible here, but its function is.
    elsewhere = not operator.held_by_native() and operator.deployed() is not None
    if operator.held_by_terraform() or elsewhere:
        raise OperatorError(_held_by_other(session, TERRAFORM, NATIVE))
    return operator.native_engine()


def engine_of_deployed(stack: ExitStack, session: Session, local_state: Path | None) -> Engine:
    """Return the engine that holds the deployment; Terraform where `local_state` says so, or none does."""
    operator = session.operator
    if local_state is None and isinstance(operator, HasNativeEngine) and operator.held_by_native():
        return operator.native_engine()
    return TerraformEngine(stack, operator, local_state)


def _held_by_other(session: Session, holder: str, wanted: str) -> Problem:
    cloud = session.cloud.name
    return Problem(
        f"the deployment in {session.place.kind} {session.place.id} is managed by {NAMES[holder]}",
        f"Update it with --with {holder}, or move it first: tailpipe-exports migrate {cloud} --to {wanted}.",
    )
