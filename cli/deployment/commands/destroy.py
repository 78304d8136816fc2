"""`tailpipe-exports destroy`: stops the schedule, deletes the requested data, and destroys the deployment.

With `--dry-run`, it only reads, and shows the same.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from cli.deployment.model import Backend, Change, Kept, OperatorError, Problem, Removal
from cli.deployment.operator import Cloud
from cli.deployment.output import show_changes
from cli.deployment.session import FAILED, OK, Session, guarded, open_deployed
from cli.deployment.terraform import root_module
from cli.deployment.terraform.binary import Terraform
from cli.deployment.terraform.workspace import state_of, workspace
from cli.terminal.console import clean, say

TO_REMOVE = 2


def destroy(
    cloud: Cloud,
    removal: Removal,
    confirm: str | None,
    local_state: Path | None,
    dry_run: bool = False,
    function: str = "",
) -> int:
    """Remove a deployment. Returns 0 when everything requested is removed, else 1; it may be called again.

    A dry run changes nothing and returns the same codes as `plan`: 0 nothing to remove, 2 something to remove, 1 error.
    """

    def command() -> int:
        if removal.delete_data and not removal.delete_exports:
            raise OperatorError(
                Problem("--delete-data alone would leave exports without a destination", "Add --delete-exports.")
            )
        session = open_deployed(cloud, function)
        backend = state_of(session.operator, local_state, make=not dry_run)
        if local_state is None and not session.operator.backend_exists():
            raise OperatorError(
                Problem(
                    f"Terraform's state is not in {backend.title}",
                    f"Is this the right {session.place.kind}? "
                    f"If the state was lost, `tailpipe-exports deploy {cloud.name}` adopts existing resources; "
                    "after it this command works.",
                )
            )
        with workspace(session.operator, backend) as ready:
            return _destroy(session, ready, removal, confirm, backend, dry_run)

    return guarded(f"tailpipe-exports: {cloud.title} was not removed", command)


def _destroy(
    session: Session, ready: Terraform, removal: Removal, confirm: str | None, backend: Backend, dry_run: bool
) -> int:
    kept = session.operator.kept(removal)
    held = ready.addresses()
    if not held and session.operator.deployed() is not None:
        raise OperatorError(
            Problem(
                f"a function is deployed here, and Terraform's state in {backend.title} holds nothing of it",
                "Name the correct place with --local-state. "
                f"If the state was lost, `tailpipe-exports deploy {session.cloud.name}` adopts existing resources; "
                "after it this command works.",
            )
        )
    leaving = _addresses(held, kept)
    if dry_run:
        return _preview(session, removal, held, leaving, kept)
    _explain(session, removal, kept)
    if not _typed(session, confirm):
        say(session.screen, "nothing was removed")
        return FAILED
    session.operator.stop_schedule(session.tell)
    session.operator.clear(removal, session.tell)
    ready.forget(leaving)
    plan = ready.plan()
    if plan.empty:
        say(session.screen, "Terraform's state holds nothing more to remove")
    else:
        show_changes(session.screen, plan.changes)
        ready.apply(plan, session.tell)
    for one in kept:
        say(session.screen, f"kept: {one.what}")
    say(session.screen, f"Terraform's state stays in {backend.title}; remove it manually when you no longer need it")
    return OK


def _preview(
    session: Session, removal: Removal, held: Sequence[str], leaving: Sequence[str], kept: Sequence[Kept]
) -> int:
    """Show what would be removed and kept, without changes; return 2 if anything would be removed, else 0."""
    gone = [one for one in held if one not in leaving and not one.startswith(f"{root_module.ADDRESS}data.")]
    changes = [Change(one, one.removeprefix(root_module.ADDRESS).partition(".")[0], ("delete",), {}) for one in gone]
    clearing = session.operator.clearing(removal)
    if changes:
        show_changes(session.screen, changes)
    for line in clearing.deletes:
        say(session.screen, ("to be removed: ", "bold"), clean(line))
    if not changes and not clearing.deletes:
        say(session.screen, "nothing to remove")
    for what in (*(one.what for one in kept), *clearing.keeps):
        say(session.screen, f"to be kept: {clean(what)}")
    say(session.screen, ("nothing was removed: this was a dry run", "bold"))
    return TO_REMOVE if changes or clearing.deletes else OK


def _addresses(held: Sequence[str], kept: Sequence[Kept]) -> list[str]:
    starts = tuple(f"{root_module.ADDRESS}{part}" for one in kept for part in one.addresses)
    return [address for address in held if starts and address.startswith(starts)]


def _explain(session: Session, removal: Removal, kept: Sequence[Kept]) -> None:
    say(session.screen, ("to be removed: the function, its schedule, its permissions and its alarms", "bold"))
    for asked, what in (
        (not removal.keep_identity, "Tailpipe's identity and access"),
        (removal.delete_exports, "every export that is marked as ours"),
        (removal.delete_data, "the delivered data, permanently"),
    ):
        if asked:
            say(session.screen, (f"and {what}", "bold"))
    for one in kept:
        say(session.screen, f"to be kept: {one.what}")


def _typed(session: Session, confirm: str | None) -> bool:
    """Return whether the place's id was typed in or given by --confirm. Raises OperatorError without a terminal."""
    place = session.place
    if confirm is None:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise OperatorError(
                Problem(
                    "cannot prompt: not running in a terminal",
                    f"Add --confirm with the id of the {place.kind}, typed out.",
                )
            )
        sys.stderr.write(f"Type the id of the {place.kind} to remove this deployment: ")
        sys.stderr.flush()
        confirm = sys.stdin.readline().strip()
    if confirm != place.id:
        raise OperatorError(
            Problem(f"that is not the id of this {place.kind}", f"It is shown above; {place.kind} {place.id}.")
        )
    return True
