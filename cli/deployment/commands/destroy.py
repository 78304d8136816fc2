"""`tailpipe-exports destroy`: stops the schedule, deletes the requested data, and destroys the deployment.

With `--dry-run`, it only reads, and shows the same.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from cli.deployment.commands.engines import engine_of_deployed
from cli.deployment.engine import Engine
from cli.deployment.model import Change, Kept, OperatorError, Problem, Removal
from cli.deployment.operator import Cloud
from cli.deployment.output import show_changes
from cli.deployment.session import FAILED, OK, Session, guarded, open_deployed
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
        session = open_deployed(cloud, function, removing=True)
        with ExitStack() as stack:
            engine = engine_of_deployed(stack, session, local_state)
            return _destroy(session, engine, removal, confirm, dry_run)

    return guarded(f"tailpipe-exports: {cloud.title} was not removed", command)


def _destroy(session: Session, engine: Engine, removal: Removal, confirm: str | None, dry_run: bool) -> int:
    kept = session.operator.kept(removal)
    gone = engine.removal(kept)
    if dry_run:
        return _preview(session, removal, gone, kept)
    _explain(session, removal, kept)
    if not _typed(session, confirm):
        say(session.screen, "nothing was removed")
        return FAILED
    session.operator.stop_schedule(session.tell)
    session.operator.clear(removal, session.tell)
    plan = engine.plan_removal(kept)
    if plan.empty:
        say(session.screen, f"{engine.title} holds nothing more to remove")
    else:
        show_changes(session.screen, plan.changes)
        engine.apply(plan, session.tell)
    for one in kept:
        say(session.screen, f"kept: {one.what}")
    left = engine.left()
    if left:
        say(session.screen, left)
    return OK


def _preview(session: Session, removal: Removal, changes: Sequence[Change], kept: Sequence[Kept]) -> int:
    """Show what would be removed and kept, without changes; return 2 if anything would be removed, else 0."""
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
