"""`tailpipe-exports deploy`: check, package, plan, ask, apply, run once, verify, and print the onboarding document."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.deployment.commands.invoke import call
from cli.deployment.commands.onboarding import show_onboarding
from cli.deployment.model import Adoption, Backend, Change, OperatorError, Problem, Showing
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
from cli.deployment.terraform.binary import Plan, Terraform, find
from cli.deployment.terraform.workspace import require_good_values, state_of, values_given, workspace
from cli.packaging import PackagingError, Target, build
from cli.terminal.console import say

EMAILS = "notification_emails"
ADOPTIONS_SHOWN = 20


@dataclass(frozen=True)
class Wanted:
    """The operator's request: the module's variables, alarm addresses, and the command's behavior."""

    pairs: Sequence[str] = ()
    files: Sequence[Path] = ()
    yes: bool = False
    dry_run: bool = False
    local_state: Path | None = None
    alarm_emails: Sequence[str] = ()
    showing: Showing = field(default_factory=Showing)


def deploy(cloud: Cloud, wanted: Wanted) -> int:
    """Create or update a deployment. Returns 0 ok, 3 deployed and the first run degraded, 1 failed."""

    def command() -> int:
        with ExitStack() as stack:
            return _deploy(stack, cloud, wanted)

    return guarded(f"tailpipe-exports: {cloud.title} was not deployed", command)


def _deploy(stack: ExitStack, cloud: Cloud, wanted: Wanted) -> int:
    find()  # first, since everything else requires Terraform
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
    require_good_values(cloud.name, variables, values)
    require_rights(session)
    _require_room(session, values)
    folder = stack.enter_context(root_module.working_folder())
    values["package"] = _package(session, values, folder)
    backend = _backend(session, wanted.local_state, wanted.dry_run, folder)
    terraform, plan = _planned(session, folder, backend, variables, values, wanted.showing.everything)
    show_changes(session.screen, plan.changes, wanted.showing.everything)
    show_grants(session.screen, cloud.name, plan.granted)
    alarms = plan.types.count(session.operator.alarm)
    show_alarms(session.screen, alarms, values.get(EMAILS, ()), session.operator.confirm_emails)
    _refuse_loss(session, plan.changes)
    if wanted.dry_run:
        say(session.screen, ("nothing was created: this was a dry run", "bold"))
        return OK
    if not plan.empty:
        if not wanted.yes and not confirmed(f"Make these changes in {session.place.kind} {session.place.id}?"):
            say(session.screen, "nothing was created")
            return FAILED
        _apply(session, terraform, plan)
    try:
        return _prove(session, wanted.showing)
    except OperatorError as error:
        more = Problem("what was planned is deployed", "Fix the problems above and run the same command again.")
        title = f"tailpipe-exports: {cloud.title} was deployed, but could not be verified"
        show_problems(session.screen, title, (*error.problems, more))
        return FAILED


def _package(session: Session, values: Mapping[str, Any], folder: Path) -> str:
    """Put the function's package into the folder: the given one, else one built now. Returns its name.

    The name is relative to the folder and the same for every deployment, so that it never appears in a plan.
    """
    name = f"tailpipe-exports-{session.cloud.name}.zip"
    if "package" in values:
        try:
            shutil.copyfile(str(values["package"]), folder / name)
        except OSError as error:
            raise OperatorError(Problem(f"package {values['package']}: {error.strerror}", "Name a file.")) from error
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


def _backend(session: Session, local_state: Path | None, dry_run: bool, folder: Path) -> Backend:
    """Return the backend of the state, created if necessary; a dry run without a state plans from an empty one."""
    backend = state_of(session.operator, local_state)
    if local_state is not None or session.operator.backend_exists():
        say(session.screen, f"Terraform's state: {backend.title}")
        return backend
    if dry_run:
        say(session.screen, f"Terraform's state would be kept in {backend.title}, which does not exist yet")
        return root_module.local_backend(folder)
    session.operator.make_backend(session.tell)
    say(session.screen, f"Terraform's state: {backend.title}")
    return backend


def _planned(
    session: Session,
    folder: Path,
    backend: Backend,
    variables: Mapping[str, Any],
    values: Mapping[str, Any],
    everything: bool,
) -> tuple[Terraform, Plan]:
    """Return the plan in which every existing resource is adopted instead of created."""
    with workspace(session.operator, backend, variables, values, folder) as terraform:
        adopted: list[Adoption] = []
        while True:
            plan = terraform.plan()
            created = [one for one in plan.changes if one.actions == ("create",)]
            found = session.operator.adoptions(created, session.tell) if created else []
            if not found:
                return terraform, plan
            say(session.screen, f"{len(found):,} existing resources are adopted:")
            for one in found[: None if everything else ADOPTIONS_SHOWN]:
                session.tell(f"{one.address.removeprefix(root_module.ADDRESS)} ← {one.what or one.id}")
            if not everything and len(found) > ADOPTIONS_SHOWN:
                session.tell(f"and {len(found) - ADOPTIONS_SHOWN:,} more; --all shows each")
            # The names of parts of adopted resources appear only in the next plan, and these may exist too.
            adopted += found
            root_module.add_imports(folder, adopted)


def _refuse_loss(session: Session, changes: Sequence[Change]) -> None:
    lost = [one for one in changes if one.deletes and one.type in session.operator.precious]
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


def _apply(session: Session, terraform: Terraform, plan: Plan) -> None:
    say(session.screen, "applying")
    try:
        terraform.apply(plan, session.tell)
    except (KeyboardInterrupt, SystemExit):
        say(session.screen, f"the deployment was interrupted: {len(terraform.addresses())} resources exist")
        say(session.screen, ("Run the same command again: it continues.", "bold"))
        raise
    except OperatorError as error:
        made = terraform.addresses()
        raise OperatorError(
            *error.problems,
            Problem(
                f"the deployment was interrupted: {len(made)} resources exist and are in Terraform's state",
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
