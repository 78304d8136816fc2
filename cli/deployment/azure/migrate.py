"""Moves a deployment on Azure between Terraform and Azure Resource Manager; its resources stay as they are.

Resource Manager owns no resource: it keeps a record of each template that was deployed, and the deletion of a record
leaves the resources as they are ("Deployment history deletions", Microsoft Learn). A move therefore deploys the
template over what exists, or deletes its records. The record `{function}-resources` says which engine holds the
deployment; it is deleted last, so that an interrupted move continues.
"""

from __future__ import annotations

from cli.deployment.azure import backend
from cli.deployment.azure.functions import deployed
from cli.deployment.azure.session import Session
from cli.deployment.azure.stack import AzureStack, held
from cli.deployment.engine import Plan, Planning, StateEngine
from cli.deployment.model import Change, OperatorError, Problem
from cli.deployment.output import number_of, some
from cli.deployment.terraform.root_module import ADDRESS

# Of these, nothing may change in a move: they hold data, settings, recipients or rights. Others are updated in place.
FIXED = (
    "microsoft.authorization/",
    "microsoft.insights/actiongroups",
    "microsoft.storage/storageaccounts",
    "microsoft.web/sites",
)
PACKAGE = "Microsoft.Web/sites/extensions"
# What Terraform creates beside the resources: its own memory, and what no template can make.
CREATED = frozenset(
    {
        "azuread_service_principal",
        "azurerm_management_group_policy_remediation",
        "azurerm_resource_provider_registration",
        "terraform_data",
    }
)
VALUES = "Give the values that are deployed"


def to_native(session: Session, engine: AzureStack, wanted: Planning, terraform: StateEngine) -> None:
    """Deploy the template over the deployment, then empty Terraform's state. May be repeated after an interruption.

    Raises OperatorError, with nothing changed, if the template would create or delete a resource, or change one of
    `FIXED`.
    """
    holds = terraform.held()
    if held(session) and not holds:
        wanted.say("the deployment is managed by Azure Resource Manager already")
        return
    if deployed(session) is None:
        raise OperatorError(
            Problem("nothing is deployed here", "Deploy it: tailpipe-exports deploy azure --with native.")
        )
    plan = engine.plan(wanted)
    _refuse(
        [one for one in plan.changes if one.type != PACKAGE and (one.actions != ("update",) or _fixed(one))],
        "tailpipe-exports deploy azure",
    )
    wanted.say("deploying the template over the existing resources, which keep their names and their content")
    engine.apply(plan, wanted.tell)
    if not holds:
        wanted.say("Terraform's state, which is kept elsewhere, still lists these resources: do not apply it again")
        return
    wanted.say(f"{number_of(holds, 'resource')} leave Terraform's state and stay in Azure")
    terraform.forget()
    wanted.tell(f"Terraform's state is empty; earlier versions of it stay in {backend.backend(session).title}")


def to_terraform(session: Session, engine: AzureStack, wanted: Planning, terraform: StateEngine) -> None:
    """Import the deployment into Terraform's state, then delete the template's records. May be repeated.

    Raises OperatorError, with no resource changed, if Terraform would delete, replace or create one.
    """
    if not held(session):
        if backend.holds(session):
            wanted.say("the deployment is managed by Terraform already")
            return
        raise OperatorError(Problem("no launch template is deployed here", "Deploy it: tailpipe-exports deploy azure."))
    plan: Plan = terraform.plan(wanted)
    _refuse(
        [one for one in plan.changes if one.deletes or (one.creates and one.type not in CREATED)],
        "tailpipe-exports deploy azure --with native",
    )
    if not plan.empty:
        wanted.say("importing the existing resources into Terraform's state")
        terraform.apply(plan, wanted.tell)
    wanted.say("deleting the records of the template's deployments; the resources stay")
    engine.disband(wanted.tell)


def _fixed(change: Change) -> bool:
    return change.type.lower().startswith(FIXED)


def _refuse(changes: list[Change], healing: str) -> None:
    """Raise OperatorError with the changes that a move may not make."""
    if changes:
        # An address of Terraform has the type, a short name of the template's resources has not.
        named = [(one.type, one.address.removeprefix(ADDRESS)) for one in changes]
        touched = [name if name.startswith(kind) else f"{kind} {name}" for kind, name in named]
        raise OperatorError(
            Problem(
                f"these values would create, delete or change {number_of(touched, 'resource')}, so nothing was moved: "
                f"{some(touched)}",
                f"{VALUES}; if a part is missing or was changed by hand, heal it first: {healing}. Then call again.",
            )
        )
