"""`tailpipe-exports run` and `plan`: the function's own reconcile, with the operator's credentials."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cli import plan_file
from cli.clouds import Cloud
from cli.deployment.model import OperatorError
from cli.deployment.session import can_ask, confirmed
from cli.settings_source import Choice, Source
from cli.tenants.source import tenant_source
from cli.terminal.console import clean, defect, err, out, print_document, say
from cli.terminal.progress import Watcher
from cli.terminal.render import show_failure, show_report
from shared.errors import ReportedError, RequestError, SettingsError, cut
from shared.model import WRITES, Problem
from shared.report import RunProgress, make_report
from shared.request import HASH, RunRequest, Trigger, parse_request
from shared.runtime.clock import SystemClock
from shared.settings import EngineSettings
from shared.state.document import fresh
from shared.tenants.rows import run_alone
from tailpipe_exports import NAME

if TYPE_CHECKING:
    from shared.reconcile import RunResult

# An operator's temporary credentials last at least an hour by default; a run rarely needs minutes.
SECONDS = 3600.0
AGAIN = f"Read the plan ({NAME} plan), and call {NAME} run again; --yes answers the question beforehand."

OK, FAILED, TO_WRITE, DEGRADED = 0, 1, 2, 3


@dataclass(frozen=True)
class View:
    """How the result is shown: as a document on standard output, or as text, with every action or grouped by cause."""

    as_json: bool = False
    everything: bool = False


def plan(cloud: Cloud, request: Mapping[str, Any], choice: Choice, view: View, file: Path | None = None) -> int:
    """Show what a run would do, and write the plan to `file` for a later run.

    Returns 0: nothing to write, 2: something to create, repair or adopt, 1: error. An incomplete plan without writes is
    an error: otherwise it would look as if everything were fine.
    """
    return _command(cloud, {**request, "dry_run": True}, choice, view, file).ended(_plan)


def run(cloud: Cloud, request: Mapping[str, Any], choice: Choice, view: View, *, yes: bool = False) -> int:
    """Reconcile, after asking unless `yes` or a dry run. Returns 0: ok, 3: degraded, 1: failed or declined."""
    return _command(cloud, request, choice, view).ended(_dry_run if request.get("dry_run") or yes else _ask_and_run)


def run_planned(cloud: Cloud, choice: Choice, view: View, file: Path) -> int:
    """Apply the plan in a file, if its writes are still the ones to make.

    Returns 0: ok, 3: degraded, 1: failed, or something changed since the plan was made; the difference is shown.
    """
    return _command(cloud, {}, choice, view, file).ended(_run_planned)


def _command(
    cloud: Cloud, request: Mapping[str, Any], choice: Choice, view: View, file: Path | None = None
) -> _Command:
    return _Command(cloud, {**request, **({"tenant": choice.tenant} if choice.tenant else {})}, choice, view, file)


class NotRun(Exception):
    """No run took place; `problems` are the reasons."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(one.message for one in problems))
        self.problems = problems


@dataclass(frozen=True)
class _Command:
    cloud: Cloud
    payload: Mapping[str, Any]
    choice: Choice
    view: View
    file: Path | None = None

    def ended(self, body: Callable[[_Command, Source], int]) -> int:
        """Run the command and return the exit code; without a run, show why, as a report if requested."""
        started = SystemClock().now()
        try:
            with _explained(self.cloud):
                parse_request(self.payload)
            if body is _ask_and_run:
                _require_terminal()
            with _explained(self.cloud), contextlib.redirect_stdout(sys.stderr):
                source = tenant_source(self.cloud, self.choice)
            return body(self, source)
        except NotRun as error:
            report = not_run(self.cloud.name, started, error.problems, dry_run=bool(self.payload.get("dry_run")))
            _refuse(self.cloud, report["failures"])
            if self.view.as_json:
                print_document(report)
            return FAILED

    def once(self, source: Source, *, dry_run: bool, target: Console | None) -> RunResult:
        """Reconcile once, and show the result on `target`; a run that could not plan is reported in any case."""
        request = parse_request({**self.payload, "dry_run": dry_run})
        clock = SystemClock()
        # A library's output must not end up in the document.
        with (
            _explained(self.cloud),
            contextlib.redirect_stdout(sys.stderr),
            Watcher(err(), quiet=self.view.as_json) as watcher,
        ):
            run_once, sink = self.cloud.run_once(), watcher.sink

            def work(asked: RunRequest) -> RunResult:
                return run_once(asked, source.environment, sink, clock, SECONDS)

            finished = work(request) if source.rows is None else run_alone(request, source.rows, clock, sink, work)
        if finished.plan is None:
            _refuse(self.cloud, finished.report["failures"])
        elif target is not None:
            show_report(target, self.cloud.scopes, finished.report, self.view.everything)
        return finished

    def result(self, source: Source, *, dry_run: bool) -> RunResult:
        """Reconcile once, and show the result in the requested form."""
        finished = self.once(source, dry_run=dry_run, target=None if self.view.as_json else out())
        if self.view.as_json:
            print_document(finished.report)
        return finished


def _plan(command: _Command, source: Source) -> int:
    finished = command.once(source, dry_run=True, target=None if command.view.as_json else out())
    failed = finished.plan is None or finished.report["status"] == "failed"
    if command.file is not None and finished.plan is not None and not failed:
        with _explained(command.cloud):
            asked = parse_request(command.payload)
            plan_file.save(command.file, finished.plan, command.cloud.name, source.place, asked)
    if command.view.as_json:
        print_document(finished.report)
    if finished.plan is None or failed:
        return FAILED
    if any(action.verb in WRITES for action in finished.plan.actions):
        return TO_WRITE
    return FAILED if finished.problems else OK


def _dry_run(command: _Command, source: Source) -> int:
    """Run without asking: nothing is written, or the answer was given beforehand."""
    finished = command.result(source, dry_run=bool(command.payload.get("dry_run")))
    return {"ok": OK, "degraded": DEGRADED}.get(finished.report["status"], FAILED)


def _ask_and_run(command: _Command, source: Source) -> int:
    """Show what would be written, ask, and run."""
    planned = command.once(source, dry_run=True, target=err())
    if planned.plan is None or planned.report["status"] == "failed":
        if command.view.as_json:
            print_document(planned.report)
        return FAILED
    where = f"tenant {command.choice.tenant}" if command.choice.tenant else f"{source.place.kind} {source.place.id}"
    if not confirmed(f"Write this to {where}?"):
        raise NotRun(Problem("declined", "nothing was written: the question was not answered with yes", AGAIN))
    # Only what was shown is written.
    return _dry_run(replace(command, payload={**command.payload, HASH: planned.plan.writes_hash()}), source)


def _run_planned(command: _Command, source: Source) -> int:
    """Make the writes in the file, or show how they differ from the current ones."""
    file = command.file
    if file is None:
        raise ValueError("a planned run has a file")
    with _explained(command.cloud):
        made = plan_file.load(file, command.cloud.name)
        plan_file.require_place(file, made, source.place, command.choice.tenant)
    payload = {
        **command.payload,
        "scopes": list(made.scopes),
        "force": made.force,
        "verify_all": made.verify_all,
        HASH: made.writes_hash,
    }
    finished = replace(command, payload=payload).result(source, dry_run=False)
    if finished.plan is not None and finished.plan.writes_hash() != made.writes_hash:
        changed = plan_file.difference(made, finished.plan)
        for title, writes in (("now also: ", changed.more), ("no longer: ", changed.fewer)):
            for one in writes:
                say(err(), title, clean(str(one)), indent=2, hang=4)
    return {"ok": OK, "degraded": DEGRADED}.get(finished.report["status"], FAILED)


def _require_terminal() -> None:
    if not can_ask():
        raise NotRun(Problem("declined", "nothing was written: cannot prompt, not running in a terminal", AGAIN))


@contextlib.contextmanager
def _explained(cloud: Cloud) -> Iterator[None]:
    """Turn every error before a run into NotRun, with a remedy for this machine."""
    try:
        yield
    except SettingsError as error:
        raise NotRun(*(_problem("settings", fault, remedy_of(cloud, fault)) for fault in error.problems)) from error
    except RequestError as error:
        raise NotRun(*(_problem("request", fault, f"See {NAME} run --help.") for fault in error.problems)) from error
    except OperatorError as error:
        code = error.__cause__.code if isinstance(error.__cause__, ReportedError) else "place"
        raise NotRun(*(_problem(code, one.what, one.remedy) for one in error.problems)) from error
    except ReportedError as error:
        raise NotRun(_problem(error.code, error.message, error.remedy)) from error
    except ModuleNotFoundError:
        raise  # the installation is incomplete: the tool reports that itself
    except Exception as error:
        raise NotRun(_problem("unexpected", *defect(error))) from error


def remedy_of(cloud: Cloud, fault: str) -> str:
    """Return the remedy on this machine for a settings problem, which begins with the setting's name."""
    name = fault.partition(":")[0]
    if name in cloud.remedies:
        return cloud.remedies[name]
    if cloud.own.fullmatch(name):
        return f"Correct {name} in this shell's environment."
    return f"Correct {name} where the settings come from: this shell's environment, or the file of --settings."


def _refuse(cloud: Cloud, failures: Sequence[Mapping[str, Any]]) -> None:
    screen = err()
    many = f" · {len(failures)} faults" if len(failures) > 1 else ""
    say(screen, f"tailpipe-exports: nothing was done on {cloud.title}{many}")
    for failure in failures:
        show_failure(screen, failure)


def _problem(code: str, message: str, remedy: str = "") -> Problem:
    return Problem(code, cut(clean(message)), clean(remedy))


def not_run(cloud: str, started: datetime, problems: Sequence[Problem], *, dry_run: bool) -> dict[str, Any]:
    """Return the report of a run that could not begin: the same keys as any report, nothing done."""
    progress = RunProgress(
        cloud=cloud,
        run_id="",
        trigger=Trigger.CALL.value,
        dry_run=dry_run,
        started_at=started,
        problems=list(problems),
        stopped=True,
    )
    return make_report(progress, fresh(cloud), EngineSettings())
