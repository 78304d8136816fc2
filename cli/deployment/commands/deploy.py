"""`tailpipe-exports deploy`: check, package, plan, ask, apply, run once, verify, and print the onboarding document."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.deployment.commands.engines import engine_to_deploy, require_engine
from cli.deployment.commands.invoke import call
from cli.deployment.commands.onboarding import show_onboarding
from cli.deployment.engine import TERRAFORM, Engine, Plan, Planning
from cli.deployment.model import Change, OperatorError, Problem, Showing
from cli.deployment.operator import Cloud
from cli.deployment.output import show_alarms, show_changes, show_findings, show_grants, show_problems
from cli.deployment.session import (
    DEGRADED,
    EXITS,
    FAILED,
    OK,
    Session,
    asked,
    can_ask,
    confirmed,
    guarded,
    open_session,
    require_rights,
)
from cli.deployment.terraform import root_module
from cli.deployment.terraform import variables as module_variables
from cli.deployment.terraform.workspace import values_given
from cli.packaging import PackagingError, Target, build
from cli.terminal.console import say

EMAILS = "notification_emails"
NO_PACKAGE = "Name a file that exists, or leave package out: it is built then."


@dataclass(frozen=True)
class Wanted:
    """The operator's request: the module's variables, alarm addresses, the engine, and the command's behavior."""

    pairs: Sequence[str] = ()
    files: Sequence[Path] = ()
    yes: bool = False
    dry_run: bool = False
    local_state: Path | None = None
    alarm_emails: Sequence[str] = ()
    showing: Showing = field(default_factory=Showing)
    engine: str = TERRAFORM


def deploy(cloud: Cloud, wanted: Wanted) -> int:
    """Create or update a deployment. Returns 0 ok, 3 deployed and the first run degraded, 1 failed."""

    def command() -> int:
        with ExitStack() as stack:
            return _deploy(stack, cloud, wanted)

    return guarded(f"tailpipe-exports: {cloud.title} was not deployed", command)


def _deploy(stack: ExitStack, cloud: Cloud, wanted: Wanted) -> int:
    require_engine(cloud, wanted.engine)  # first, since everything else requires it
    variables, values = values_given(cloud.name, wanted.pairs, wanted.files)
    if wanted.alarm_emails:
        before = values.get(EMAILS) or []
        values[EMAILS] = list(
            dict.fromkeys([*(before if isinstance(before, list) else [before]), *wanted.alarm_emails])
        )
    session = open_session(cloud, values)
    values |= {name: one for name, one in session.operator.detected(values).items() if name not in values}
    lacking = module_variables.missing(variables, values)
    if lacking:
        raise OperatorError(*lacking)
    if EMAILS not in values and not wanted.yes and not wanted.dry_run and can_ask():
        values[EMAILS] = asked("E-mail address for alarms (several with commas, none for no mail)")
    engine = engine_to_deploy(stack, session, wanted.engine, wanted.local_state)
    engine.check(variables, values)
    require_rights(session)
    _require_room(session, values)
    folder = stack.enter_context(root_module.working_folder())
    values["package"] = packaged(session, values, folder)
    plan = engine.plan(
        Planning(
            folder,
            variables,
            values,
            wanted.dry_run,
            wanted.showing.everything,
            lambda line: say(session.screen, line),
            session.tell,
        )
    )
    show_changes(session.screen, plan.changes, wanted.showing.everything)
    show_grants(session.screen, cloud.name, plan.granted)
    alarms = list(plan.types).count(engine.alarm)
    show_alarms(session.screen, alarms, values.get(EMAILS, ()), session.operator.confirm_emails)
    _refuse_loss(engine, plan.changes)
    if wanted.dry_run:
        say(session.screen, ("nothing was created: this was a dry run", "bold"))
        return OK
    if not plan.empty:
        if not wanted.yes and not confirmed(f"Make these changes in {session.place.kind} {session.place.id}?"):
            say(session.screen, "nothing was created")
            return FAILED
        _apply(session, engine, plan)
    try:
        return _prove(session, wanted.showing)
    except OperatorError as error:
        more = Problem("what was planned is deployed", "Fix the problems above and run the same command again.")
        title = f"tailpipe-exports: {cloud.title} was deployed, but could not be verified"
        show_problems(session.screen, title, (*error.problems, more))
        return FAILED


def packaged(session: Session, values: Mapping[str, Any], folder: Path) -> str:
    """Put the function's package into the folder: the given one, else one built now. Returns its name.

    The name is relative to the folder and the same for every deployment, so that it never appears in a plan.
    """
    name = f"tailpipe-exports-{session.cloud.name}.zip"
    if "package" in values:
        try:
            shutil.copyfile(str(values["package"]), folder / name)
        except OSError as error:
            raise OperatorError(Problem(f"package {values['package']}: {error.strerror}", NO_PACKAGE)) from error
        return name
    say(session.screen, "packaging the function")
    try:
        build(session.cloud.name, folder, Target.host() if session.place.here else None)
    except PackagingError as error:
        raise OperatorError(*(Problem(one) for one in error.problems)) from error
    return name


def _require_room(session: Session, values: Mapping[str, Any]) -> None:
    found = session.operator.preflight(values)
    show_findings(session.screen, found)
    wrong = [one for one in found if one.ok is False]
    if wrong:
        raise OperatorError(*(Problem(f"{one.what}: {one.detail}".rstrip(": "), one.remedy) for one in wrong))


def _refuse_loss(engine: Engine, changes: Sequence[Change]) -> None:
    lost = [one for one in changes if one.deletes and one.type in engine.precious]
    if lost:
        raise OperatorError(
            *(
                Problem(
                    f"{one.address.removeprefix(root_module.ADDRESS)} holds data and would be deleted",
                    "Keep its name and place as they were deployed; "
                    "data is removed by `tailpipe-exports destroy` alone.",
                )
                for one in lost
            )
        )


def _apply(session: Session, engine: Engine, plan: Plan) -> None:
    say(session.screen, "applying")
    try:
        engine.apply(plan, session.tell)
    except (KeyboardInterrupt, SystemExit):
        say(session.screen, f"the deployment was interrupted: {len(engine.addresses())} resources exist")
        say(session.screen, ("Run the same command again: it continues.", "bold"))
        raise
    except OperatorError as error:
        made = engine.addresses()
        raise OperatorError(
            *error.problems,
            Problem(
                f"the deployment was interrupted: {len(made)} resources exist and are in {engine.title}",
                "Fix the problems above and run the same command again: it continues.",
            ),
        ) from error


def _prove(session: Session, showing: Showing) -> int:
    """Run the function once, verify the deployment, and print what Tailpipe needs."""
    say(session.screen, "running the function once")
    report: Mapping[str, Any] = {}
    problems: Sequence[Problem] = ()
    try:
        report = call(session, {})
    except OperatorError as error:
        # The following checks often show why it does not respond.
        problems = error.problems
    found = session.operator.verify()
    show_findings(session.screen, found)
    if problems:
        raise OperatorError(*problems)
    show_onboarding(session, showing)
    if any(one.ok is False for one in found):
        say(session.screen, ("deployed, but some checks failed: see above", "bold red"))
        return FAILED
    code = EXITS.get(str(report.get("status")), FAILED)
    if code == DEGRADED:
        say(session.screen, ("deployed; the first run was degraded, and the next ones continue", "bold yellow"))
    return code
