"""Moves a deployment on AWS between Terraform and CloudFormation; its resources stay as they are."""

from __future__ import annotations

from cli.deployment.aws import backend
from cli.deployment.aws.functions import environment_of
from cli.deployment.aws.session import Session, translated
from cli.deployment.aws.stack import StackEngine
from cli.deployment.engine import Engine, Planning
from cli.deployment.model import OperatorError, Problem


@translated()
def to_native(session: Session, engine: StackEngine, wanted: Planning) -> None:
    """Import the deployment into a stack, then empty Terraform's state. May be repeated after an interruption."""
    held = backend.holds_resources(session)
    if not held and engine.exists():
        wanted.say("the deployment is managed by CloudFormation already")
        return
    if not held and environment_of(session) is None:
        raise OperatorError(
            Problem("nothing is deployed here", "Deploy it: tailpipe-exports deploy aws --with native.")
        )
    if held:
        backend.require_unlocked(session)
    engine.take_over(wanted)
    if held:
        backend.empty(session, wanted.tell)
    else:
        wanted.say("Terraform's state, which is kept elsewhere, still lists these resources: do not apply it again")


@translated()
def to_terraform(session: Session, engine: StackEngine, wanted: Planning, terraform: Engine) -> None:
    """Import the deployment into Terraform's state, then delete the stack with everything retained."""
    if not engine.exists():
        if backend.holds_resources(session):
            wanted.say("the deployment is managed by Terraform already")
            return
        raise OperatorError(Problem("no stack is deployed here", "Deploy it: tailpipe-exports deploy aws."))
    engine.hand_over(wanted.tell)
    plan = terraform.plan(wanted)
    lost = [one.address for one in plan.changes if one.deletes]
    if lost:
        raise OperatorError(
            Problem(
                f"these values would delete or replace {', '.join(lost)}",
                "Give the values that are deployed, and call again: no resource was changed.",
            )
        )
    if not plan.empty:
        terraform.apply(plan, wanted.tell)
    engine.disband(wanted.tell)
