"""What the commands on a deployment share: the opened deployment, and one way to fail and to ask."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from cli.deployment.model import OperatorError, Place, Problem
from cli.deployment.operator import Cloud, Operator
from cli.deployment.output import show_findings, show_place, show_problems
from cli.terminal.console import clean, defect, err, say
from cli.terminal.signals import unwinding

OK, FAILED, DEGRADED = 0, 1, 3
EXITS = {"ok": OK, "degraded": DEGRADED}


@dataclass(frozen=True)
class Session:
    """A command at work on one deployment: `screen` is for people, standard output for documents."""

    cloud: Cloud
    operator: Operator
    screen: Console

    @property
    def place(self) -> Place:
        return self.operator.place

    def tell(self, line: str) -> None:
        """Show one line of what is being done."""
        say(self.screen, clean(line), indent=2)


def guarded(title: str, command: Callable[[], int]) -> int:
    """Run a command; show an OperatorError with its remedies, or an unexpected exception, and return 1."""
    with unwinding():
        try:
            return command()
        except OperatorError as error:
            show_problems(err(), title, error.problems)
        except ModuleNotFoundError:
            raise  # the installation is incomplete: the tool itself says so
        except Exception as error:  # noqa: BLE001 - a trace belongs in a file, not on the terminal
            show_problems(err(), title, [Problem(*defect(error))])
        return FAILED


def open_session(cloud: Cloud, given: Mapping[str, Any]) -> Session:
    """Open the deployment in the place that the environment and `given` name, and show that place."""
    operator = cloud.operator().open(given)
    screen = err()
    show_place(screen, operator.place)
    return Session(cloud, operator, screen)


def require_rights(session: Session) -> None:
    """Raise OperatorError for the rights that are missing, with the commands that grant them."""
    found = session.operator.rights()
    show_findings(session.screen, found, everything=False)
    lacking = [one for one in found if one.ok is False]
    if lacking:
        raise OperatorError(
            Problem(
                f"{len(lacking)} of {len(found)} rights are missing; nothing was made",
                f"Grant them as shown above; `tailpipe-exports doctor {session.cloud.name}` shows them all.",
            )
        )
    say(session.screen, f"{sum(one.ok is True for one in found)} of {len(found)} rights are present")


def can_ask() -> bool:
    """Return whether the command runs in a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def asked(question: str) -> list[str]:
    """Ask on the terminal for any number of words, separated by commas or blanks."""
    sys.stderr.write(f"{question}: ")
    sys.stderr.flush()
    return list(dict.fromkeys(sys.stdin.readline().replace(",", " ").split()))


def confirmed(question: str) -> bool:
    """Ask on the terminal. Raises OperatorError where there is none."""
    if not can_ask():
        raise OperatorError(
            Problem("cannot prompt: not running in a terminal", "Add --yes once you have read the plan.")
        )
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
