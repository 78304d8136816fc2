"""Shared by the commands on a deployment: the opened deployment, error handling and prompts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from cli.deployment.engine import HasNativeEngine
from cli.deployment.model import CHOSEN, CORRECT, Deployed, OperatorError, Place, Problem
from cli.deployment.operator import Cloud, Operator
from cli.deployment.output import problem_documents, show_findings, show_place, show_problems, with_error
from cli.terminal.console import clean, defect, err, print_document, say
from cli.terminal.signals import unwinding
from shared.errors import ReportedError

OK, FAILED, DEGRADED = 0, 1, 3
EXITS = {"ok": OK, "degraded": DEGRADED}


@dataclass(frozen=True)
class Session:
    """A command's session on one deployment: `screen` is for people, standard output for documents."""

    cloud: Cloud
    operator: Operator
    screen: Console

    @property
    def place(self) -> Place:
        return self.operator.place

    def tell(self, line: str) -> None:
        """Show one line of progress."""
        say(self.screen, clean(line), indent=2)


def guarded(title: str, command: Callable[[], int], *, as_json: bool = False) -> int:
    """Run a command and return its exit code; as `attempt` does, and with `as_json` also print the error document."""
    code, problems = attempt(title, command)
    if problems and as_json:
        print_document(with_error({}, problem_documents(problems)))
    return code


def attempt(title: str, command: Callable[[], int]) -> tuple[int, Sequence[Problem]]:
    """Run a command and return its exit code, without problems.

    If it fails, return 1 and the problems of its OperatorError, or the problem of another exception. They are shown
    on standard error, with their remedies.
    """
    with unwinding():
        try:
            return command(), ()
        except OperatorError as error:
            problems: Sequence[Problem] = error.problems
        except ReportedError as error:
            problems = [Problem(error.message, CORRECT)]
        except (ModuleNotFoundError, BrokenPipeError):
            raise  # the installation is incomplete, or the reader of the output has closed it: click handles both
        except Exception as error:  # noqa: BLE001 - a trace belongs in a file, not on the terminal
            problems = [Problem(*defect(error))]
        show_problems(err(), title, problems)
        return FAILED, problems


def open_session(cloud: Cloud, given: Mapping[str, Any]) -> Session:
    """Open the deployment in the place that the environment and `given` name, and show the place."""
    operator = cloud.operator().open(given)
    screen = err()
    show_place(screen, operator.place)
    return Session(cloud, operator, screen)


def chosen(function: str) -> dict[str, str]:
    """Return a deployed function's name, ``[REGION/]NAME`` or "" for the only one, as `Operator.open` takes it."""
    region, _, name = function.rpartition("/")
    return {CHOSEN: name} | {key: one for key, one in (("region", region), ("function_name", name)) if one}


def select(session: Session, function: str) -> tuple[Session, Deployed | None]:
    """Return the session of the deployed function: the named one, else the only one; None if nothing is deployed.
    Raises OperatorError for an unknown name, for several functions without a name, and if they cannot be listed.
    """
    return _select(session, session.operator.functions(), function)


def _select(session: Session, found: Sequence[Deployed], function: str) -> tuple[Session, Deployed | None]:
    if function:
        region, _, name = function.rpartition("/")
        places = ("", region or session.place.region)
        wanted = [one for one in found if one.name.rpartition("/")[::2] in [(place, name) for place in places]]
        if not wanted:
            names = ", ".join(sorted(one.name for one in found)) or "none"
            raise OperatorError(
                Problem(f"no function {function} is deployed here", f"Name one that is (found: {names}).")
            )
        return session, wanted[0]
    named = os.environ.get("TAILPIPE_EXPORTS_FUNCTION_NAME", "")
    candidates = [one for one in found if named in ("", one.name.rpartition("/")[2])]
    if found and not candidates:
        names = ", ".join(sorted(one.name for one in found))
        raise OperatorError(
            Problem(
                f"no function {named} is deployed here (found: {names})",
                "Correct or unset TAILPIPE_EXPORTS_FUNCTION_NAME, or deploy it: "
                f"tailpipe-exports deploy {session.cloud.name}.",
            )
        )
    if len(candidates) > 1:
        names = ", ".join(sorted(one.name for one in candidates))
        raise OperatorError(
            Problem(f"{len(candidates)} functions are deployed here: {names}", "Choose one of them: --function NAME.")
        )
    if not candidates:
        return session, None
    return replace(session, operator=session.operator.select(candidates[0].name)), candidates[0]


def open_deployed(cloud: Cloud, function: str, *, removing: bool = False) -> Session:
    """Open the named deployment, else the only one; if nothing is deployed or visible, only the place.

    Raises OperatorError for an unknown name, and for several functions without a name. With `removing`, the named
    function may be missing from a deployment that its cloud's own service holds: its creation may have failed.
    """
    session = open_session(cloud, chosen(function))
    try:
        found = session.operator.functions()
    except OperatorError:
        # A caller who may not list functions may still call the one with the usual or given name.
        return session
    try:
        return _select(session, found, function)[0]
    except OperatorError:
        operator = session.operator
        if removing and function and isinstance(operator, HasNativeEngine) and operator.held_by_native():
            return session
        raise


def require_rights(session: Session) -> None:
    """Raise OperatorError for missing permissions, with the commands that grant them."""
    found = session.operator.rights()
    show_findings(session.screen, found, everything=False)
    lacking = [one for one in found if one.ok is False]
    if lacking:
        raise OperatorError(
            Problem(
                f"{len(lacking)} of {len(found)} permissions are missing; nothing was created",
                f"Grant them as shown above; `tailpipe-exports doctor {session.cloud.name}` shows them all.",
            )
        )
    say(session.screen, f"{sum(one.ok is True for one in found)} of {len(found)} permissions are present")


def can_ask() -> bool:
    """Return whether the command runs in a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def asked(question: str) -> list[str]:
    """Prompt on the terminal for any number of words, separated by commas or blanks."""
    sys.stderr.write(f"{question}: ")
    sys.stderr.flush()
    return list(dict.fromkeys(sys.stdin.readline().replace(",", " ").split()))


def confirmed(question: str) -> bool:
    """Prompt on the terminal. Raises OperatorError without a terminal."""
    if not can_ask():
        raise OperatorError(
            Problem("cannot prompt: not running in a terminal", "Add --yes once you have read the plan.")
        )
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
