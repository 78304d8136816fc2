"""Moves a deployment between Terraform's state and Infrastructure Manager's, without touching a resource.

Only the state moves. Each step may be repeated: a move that was interrupted continues by the same call. Infrastructure
Manager takes a state over only for an existing deployment, so it begins with an empty one; source: "Manage the
Terraform state file", Infrastructure Manager.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cli.deployment.engine import Planning
from cli.deployment.gcp import backend
from cli.deployment.gcp.infra_manager import InfraManager, addresses_in
from cli.deployment.gcp.session import Session, translated
from cli.deployment.model import OperatorError, Problem
from cli.deployment.operator import Tell
from cli.deployment.output import number_of, some


@translated()
def to_native(session: Session, engine: InfraManager, wanted: Planning) -> None:
    """Give Terraform's state to Infrastructure Manager, then empty it after a copy.

    Raises OperatorError, with nothing moved, if the values that `wanted` has would change a resource.
    """
    state = _terraforms(session)
    moving = addresses_in(state)
    if not moving:
        if engine.held() and engine.addresses():
            wanted.say("the deployment is managed by Infrastructure Manager already")
            return
        raise OperatorError(
            Problem(
                f"Terraform's state in bucket {backend.bucket_of(session)} holds nothing to move",
                "Deploy it: tailpipe-exports deploy gcp --with native.",
            )
        )
    engine.begin(wanted)
    engine.take_over(state)
    wanted.tell(f"{len(moving):,} resources are in the state of {engine.title}")
    try:
        plan = engine.plan(wanted)
    except OperatorError:
        engine.abandon()
        raise
    touched = [one.address for one in plan.changes]
    if touched:
        engine.abandon()
        raise OperatorError(
            Problem(
                f"these values would change {number_of(touched, 'resource')}, so nothing was moved: {some(touched)}",
                "Deploy with them first, tailpipe-exports deploy gcp, or give the values that are deployed.",
            )
        )
    engine.apply(plan, wanted.tell)
    _empty(session, state, wanted.tell)


@translated()
def to_terraform(session: Session, engine: InfraManager, tell: Tell) -> None:
    """Give the state of Infrastructure Manager to Terraform, then delete the deployment without its resources.

    Raises OperatorError if Terraform's state holds other resources.
    """
    if not engine.held():
        if backend.holds_resources(session):
            tell("the deployment is managed by Terraform already")
            return
        raise OperatorError(
            Problem(
                f"Infrastructure Manager has no deployment {session.function} in project {session.project}",
                "Deploy it: tailpipe-exports deploy gcp.",
            )
        )
    moving = engine.state()
    before = _terraforms(session)
    other = sorted(set(addresses_in(before)) - set(addresses_in(moving)))
    if other:
        raise OperatorError(
            Problem(
                f"Terraform's state in bucket {backend.bucket_of(session)} holds resources of another deployment: "
                f"{some(other)}",
                "Destroy that one first, or keep its state elsewhere.",
            )
        )
    if not backend.exists(session):
        backend.make(session, tell)
    serial = max(int(moving.get("serial", 0)), int(before.get("serial", 0))) + 1
    backend.write_state(session, {**moving, "serial": serial})
    tell(f"{len(addresses_in(moving)):,} resources are in Terraform's state in bucket {backend.bucket_of(session)}")
    engine.abandon()
    tell(f"{engine.title} is deleted; its resources stay as they are")


def _terraforms(session: Session) -> dict[str, Any]:
    content = backend.state(session)
    found: dict[str, Any] = json.loads(content) if content else {"version": 4, "resources": []}
    return found


def _empty(session: Session, state: Mapping[str, Any], tell: Tell) -> None:
    copy = f"{backend.PREFIX}/moved-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tfstate"
    backend.write_state(session, state, copy)
    backend.write_state(session, {**state, "serial": int(state.get("serial", 0)) + 1, "resources": [], "outputs": {}})
    tell(f"Terraform's state is empty; a copy is gs://{backend.bucket_of(session)}/{copy}")
