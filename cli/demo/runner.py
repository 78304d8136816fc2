"""Runs a scenario and shows its steps and checks as they happen."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli.terminal.console import clean, say, show, table
from cli.terminal.progress import Watcher
from cli.terminal.render import STATUS_STYLES, summary_of
from localcloud import Unavailable


@dataclass(frozen=True)
class Check:
    """One expectation, whether it is met, and the observed detail."""

    what: str
    ok: bool
    detail: str = ""


@dataclass
class Step:
    """One step of a scenario. `report` is the run's report, or None; `duration_s` is the step's wall time."""

    name: str
    report: Mapping[str, Any] | None = None
    checks: list[Check] = field(default_factory=list)
    duration_s: float = 0.0

    @property
    def ok(self) -> bool:
        return bool(self.checks) and all(check.ok for check in self.checks)

    def check(self, what: str, ok: bool, detail: str = "") -> None:
        """Record whether an expectation is met, and the observed detail."""
        self.checks.append(Check(what, ok, detail))

    def document(self) -> dict[str, Any]:
        """Return the step as JSON data."""
        return {
            "name": self.name,
            "report": self.report,
            "checks": [{"what": one.what, "ok": one.ok, "detail": one.detail} for one in self.checks],
            "duration_s": round(self.duration_s, 3),
        }


@dataclass(frozen=True)
class Documents:
    """The documents stored by the end of a scenario, by name, and the end time on the local cloud's clock."""

    stored: Mapping[str, bytes]
    ended_at: datetime


class ScenarioEnded(Exception):
    """The scenario cannot continue; the reason is recorded as a failed check."""


class Scenario(Protocol):
    """One cloud's demonstration: acts on a local cloud and checks how the function reacts."""

    def run(self, runner: Runner, scopes: int) -> None:
        """Run the scenario with `scopes` scopes. A problem becomes a failed check or an exception."""
        ...


class Runner:
    """Shows a scenario on `screen` and collects its steps and, at its end, the stored documents."""

    def __init__(self, screen: Console) -> None:
        self.screen = screen
        self.steps: list[Step] = []
        self.documents: Documents | None = None

    @contextlib.contextmanager
    def step(self, name: str, why: str) -> Iterator[Step]:
        """Begin a step; its checks are shown when it ends."""
        step = Step(name)
        self.steps.append(step)
        self.heading(f"{len(self.steps)}  {name}", why)
        began = time.monotonic()
        try:
            yield step
        except (ScenarioEnded, Unavailable):
            raise
        except Exception as error:
            step.checks.append(Check("the step completes", ok=False, detail=f"{type(error).__name__}: {error}"))
            raise ScenarioEnded from error
        finally:
            step.duration_s = time.monotonic() - began
            self._show(step)

    def heading(self, title: str, why: str) -> None:
        """Print a heading with a sentence about what happens next."""
        say(self.screen)
        say(self.screen, (title, "bold"))
        say(self.screen, (why, "dim"), indent=3)

    def say(self, text: str) -> None:
        """Print one line of the scenario."""
        say(self.screen, text, indent=3)

    def introduce(self, *lines: str) -> None:
        """Print what runs where, and how it is checked."""
        for line in (*lines, "Each ✓ is verified in the local cloud, not only in the report."):
            self.say(line)

    def event(self, text: str) -> None:
        """Print something that happens in the cloud."""
        say(self.screen, ("• ", "yellow"), text, indent=3)

    def watch(self) -> Watcher:
        """Return a view of one run that receives the run's log lines."""
        return Watcher(self.screen, lines=False, title="   ")

    def ran(self, step: Step, report: Mapping[str, Any], duration_s: float) -> None:
        """Record a run's report and show it in one line."""
        step.report = report
        if self.screen.is_terminal:
            self._show_coverage(report["scopes"])
        say(
            self.screen,
            (f"{report['status']}", STATUS_STYLES.get(report["status"], "")),
            f" · {summary_of(report)} · {sum(report['calls'].values())} calls · {duration_s:.1f} s",
            indent=3,
        )

    def _show_coverage(self, scopes: Mapping[str, int]) -> None:
        line = Table.grid(padding=(0, 2, 0, 0))
        bar = ProgressBar(
            total=max(1, scopes["active"]),
            completed=scopes["covered"],
            width=30,
            complete_style="cyan",
            finished_style="green",
        )
        line.add_row(" ", bar, f"{scopes['covered']} of {scopes['active']} covered")
        self.screen.print(line)

    def _show(self, step: Step) -> None:
        listed = table("", "", "")
        listed.show_header = False
        listed.pad_edge = True
        for check in step.checks:
            mark = Text("   ✓", style="green") if check.ok else Text("   ✗", style="bold red")
            listed.add_row(mark, Text(check.what), Text(clean(check.detail), style="dim" if check.ok else "red"))
        show(self.screen, listed)
