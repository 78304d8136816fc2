"""`tailpipe-exports migrate`: move a deployment between Terraform and the cloud's own service; no resource changes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from cli.deployment.commands.deploy import packaged
from cli.deployment.commands.engines import NAMES, require_engine
from cli.deployment.engine import NATIVE, HasNativeEngine, Migrates, Planning
from cli.deployment.model import OperatorError, Problem
from cli.deployment.operator import Cloud
from cli.deployment.session import FAILED, OK, confirmed, guarded, open_session, require_rights
from cli.deployment.terraform import root_module
from cli.deployment.terraform import variables as module_variables
from cli.deployment.terraform.engine import TerraformEngine
from cli.deployment.terraform.workspace import values_given
from cli.terminal.console import say


def migrate(cloud: Cloud, to: str, pairs: Sequence[str], files: Sequence[Path], yes: bool) -> int:
    """Move a deployment to an engine, or continue an interrupted move. Returns 0 when it is moved, else 1."""

    def command() -> int:
        with ExitStack() as stack:
            return _migrate(stack, cloud, to, pairs, files, yes)

    return guarded(f"tailpipe-exports: {cloud.title} was not migrated", command)


def _migrate(stack: ExitStack, cloud: Cloud, to: str, pairs: Sequence[str], files: Sequence[Path], yes: bool) -> int:
    require_engine(cloud, to)
    variables, values = values_given(cloud.name, pairs, files)
    session = open_session(cloud, values)
    operator = session.operator
    if not isinstance(operator, Migrates) or not isinstance(operator, HasNativeEngine):
        raise OperatorError(
            Problem(
                f"a deployment on {cloud.title} cannot be moved between engines",
                f"Destroy it, which keeps the data, and deploy it again: tailpipe-exports destroy {cloud.name}",
            )
        )
    values |= {name: one for name, one in operator.detected(values).items() if name not in values}
    lacking = module_variables.missing(variables, values)
    if lacking:
        raise OperatorError(*lacking)
    terraform = TerraformEngine(stack, operator, None)
    engine = operator.native_engine() if to == NATIVE else terraform
    engine.check(variables, values)
    require_rights(session)
    if not yes and not confirmed(f"Move the deployment in {session.place.kind} {session.place.id} to {NAMES[to]}?"):
        say(session.screen, "nothing was moved")
        return FAILED
    folder = stack.enter_context(root_module.working_folder())
    values["package"] = packaged(session, values, folder)
    wanted = Planning(folder, variables, values, False, False, lambda line: say(session.screen, line), session.tell)
    if to == NATIVE:
        operator.to_native(wanted, terraform)
    else:
        operator.to_terraform(wanted, terraform)
    say(session.screen, (f"the deployment is managed by {NAMES[to]}", "bold"))
    return OK
