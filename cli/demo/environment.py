"""The environment of a scenario on any cloud: the local cloud, the function in it, and the common checks."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar, NoReturn

from cli.demo.kept import STATE
from cli.demo.runner import Documents, Runner, ScenarioEnded, Step
from cli.terminal.progress import Watcher, noting
from shared.model import WRITES
from shared.state.deliveries import DELIVERIES
from shared.state.store import REPORTS

FULL_RUN: Mapping[str, Any] = {}
DRY_RUN: Mapping[str, Any] = {"dry_run": True}
WRITES_SHOWN = 5


class Lines:
    """Forwards the function's log lines, as they are written, to the view of the current run."""

    def __init__(self) -> None:
        self._watcher: Watcher | None = None

    def take(self, line: str) -> None:
        """Forward one line; called from the runtime's thread."""
        watcher = self._watcher
        if watcher is not None:
            watcher.line(line)

    @contextmanager
    def shown_by(self, watcher: Watcher) -> Iterator[None]:
        """Forward lines to `watcher` while the context is open."""
        self._watcher = watcher
        try:
            yield
        finally:
            self._watcher = None


class Environment(ABC):
    """The local cloud, the function in it, and the checks that every scenario makes of both.

    The checks read both the live local cloud and the report.
    """

    title: ClassVar[str]
    state: ClassVar[str]  # the name of the function's state document in its store

    def __init__(self, runner: Runner, lines: Lines) -> None:
        self.runner = runner
        self._lines = lines

    @abstractmethod
    def invoke(self, step: Step, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Call the function and return its report. Raises ScenarioEnded if it returned no report."""

    @abstractmethod
    def calls(self) -> Sequence[Any]:
        """Return the calls that the local cloud has answered since the call log was last cleared."""

    @abstractmethod
    def clear_calls(self) -> None:
        """Clear the call log."""

    @abstractmethod
    def operation(self, call: Any) -> str:
        """Return the name of the operation that a call performed."""

    @abstractmethod
    def is_write(self, call: Any) -> bool:
        """Return whether a call wrote anything other than the function's own state and reports."""

    @abstractmethod
    def now(self) -> datetime:
        """Return the local cloud's time."""

    @abstractmethod
    def stored(self, name: str) -> bytes | None:
        """Return a document that the function stored, or None if it does not exist."""

    @abstractmethod
    def stored_names(self, prefix: str) -> Sequence[str]:
        """Return the names of the stored documents that begin with `prefix`."""

    def memory(self) -> Mapping[str, Any]:
        """Return the function's state document, empty if nothing is stored."""
        found = self.stored(self.state)
        return {} if found is None else dict(json.loads(found))

    def keep(self) -> None:
        """Copy the stored documents to the runner, so that they outlive the local cloud."""
        folder = self.state[: self.state.rfind("/") + 1]
        names = {
            STATE: self.state,
            DELIVERIES: f"{folder}{DELIVERIES}",
            **{name: name for name in self.stored_names(REPORTS)},
        }
        found = {name: self.stored(path) for name, path in names.items()}
        self.runner.documents = Documents({name: data for name, data in found.items() if data is not None}, self.now())

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Show a run in progress: its log lines and the number of calls that the local cloud has answered."""
        before = len(self.calls())

        def answered() -> str:
            calls = self.calls()[before:]
            return f"{len(calls)} calls, now {self.operation(calls[-1])}" if calls else ""

        with self.runner.watch() as watcher, self._lines.shown_by(watcher), noting(watcher, answered):
            yield

    def no_report(self, step: Step, detail: str) -> NoReturn:
        """End the scenario because the function returned no report; `detail` gives the reason."""
        step.check("the function returns a report", ok=False, detail=detail)
        raise ScenarioEnded

    def plan_again(self, step: Step) -> Mapping[str, Any]:
        """Make a dry run, check that nothing is left to do and nothing was written, and return the report."""
        self.clear_calls()
        report = self.invoke(step, DRY_RUN)
        planned = sum(report["outcomes"].get(verb, {}).get("planned", 0) for verb in WRITES)
        step.check("nothing is left to do", planned == 0, f"{planned} writes planned")
        self.check_no_write(step)
        return report

    def check_ok(self, step: Step, report: Mapping[str, Any]) -> None:
        """Check that the run was ok; the detail lists its failures."""
        failures = [f"{one['code']}: {one['message']}" for one in report["failures"][:3]]
        step.check("the run reports ok", report["status"] == "ok", "; ".join([str(report["status"]), *failures]))

    def check_unwritten(self, step: Step, report: Mapping[str, Any]) -> None:
        """Check that the run wrote nothing, according to both its report and the local cloud."""
        step.check("the report counts no writes", written(report) == 0, f"{written(report)} writes")
        self.check_no_write(step)

    def check_no_write(self, step: Step) -> None:
        """Check that only the function's own state and reports were written since the call log was last cleared."""
        writes = [self.operation(one) for one in self.calls() if self.is_write(one)]
        detail = (
            ", ".join(writes[:WRITES_SHOWN]) or f"{len(self.calls())} calls: only reads, and writes of its own state"
        )
        step.check(f"the local {self.title} received no write", not writes, detail)


def accepted(report: Mapping[str, Any], verb: str) -> int:
    """Return how many writes of one verb the cloud accepted in a run."""
    results = report["outcomes"].get(verb, {})
    return int(results.get("done", 0)) + int(results.get("pending", 0))


def written(report: Mapping[str, Any]) -> int:
    """Return how many writes the cloud accepted in a run."""
    return sum(accepted(report, verb) for verb in WRITES)
