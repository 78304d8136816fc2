"""`tailpipe-exports demo`: runs each cloud's scenario on this machine and checks every expectation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.text import Text

from cli.demo import kept
from cli.demo.environment import written
from cli.demo.runner import Check, Documents, Runner, Scenario, ScenarioEnded, Step
from cli.terminal.console import clean, document_text, out, say, show, table
from cli.terminal.render import STATUS_STYLES
from cli.terminal.signals import unwinding
from localcloud import Unavailable


class Cloud(Protocol):
    """The attributes of a registered cloud that its demonstration uses."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def scopes(self) -> str: ...
    @property
    def demo_scopes(self) -> int: ...
    @property
    def scenario(self) -> Callable[[], Scenario]: ...


def play(clouds: Sequence[Cloud], scopes: int | None, json_file: Path | None, screen: Console | None = None) -> int:
    """Run the clouds' scenarios and return 0 if every expectation was met, else 1.

    `scopes` is the number of scopes per cloud; None uses each scenario's default. A cloud that this machine cannot run
    is skipped with the reason, which is an error only if no other cloud was requested. `json_file` receives
    `{cloud: {"steps": [{"name", "report", "checks": [{"what", "ok", "detail"}], "duration_s"}], "ok", "left_out"?}}`.
    """
    screen = screen or out()
    left_out: list[str] = []
    document: dict[str, Any] = {}
    for cloud in clouds:
        began = time.monotonic()
        runner = Runner(screen)
        _forget(screen, cloud)
        many = scopes or cloud.demo_scopes
        say(screen, (f"tailpipe-exports demo · {cloud.title}, {many} {cloud.scopes}", "bold"))
        try:
            with unwinding():
                cloud.scenario().run(runner, many)
        except ScenarioEnded:
            pass
        except Unavailable as error:
            say(screen, ("- ", "bold yellow"), f"{cloud.title} was skipped. {error}")
            document[cloud.name] = {"steps": [], "ok": False, "left_out": str(error)}
            left_out.append(cloud.name)
            continue
        except Exception as error:  # noqa: BLE001 - a scenario that fails counts as an unmet expectation
            detail = f"{type(error).__name__}: {error}"
            runner.steps.append(Step("scenario", checks=[Check("the local cloud works", ok=False, detail=detail)]))
        ok = bool(runner.steps) and all(step.ok for step in runner.steps)
        document[cloud.name] = {"steps": [step.document() for step in runner.steps], "ok": ok}
        _show_end(screen, runner.steps, time.monotonic() - began)
        if runner.documents is not None:
            _keep(screen, cloud, runner.documents)
    if json_file is not None:
        json_file.write_text(document_text(document) + "\n", encoding="utf-8")
        say(screen, ("results  ", "dim"), str(json_file))
    # A cloud that this machine cannot run does not count as a failure, unless no cloud is left.
    shown = [one["ok"] for name, one in document.items() if name not in left_out]
    return 0 if shown and all(shown) else 1


def _forget(screen: Console, cloud: Cloud) -> None:
    """Remove an earlier demonstration's documents, so that they are not mistaken for the current ones."""
    try:
        kept.forget(cloud.name)
    except OSError as error:
        say(screen, ("- ", "bold yellow"), f"Could not remove {error.filename}: {error.strerror}.")


def _keep(screen: Console, cloud: Cloud, documents: Documents) -> None:
    try:
        kept.keep(cloud.name, documents.stored, documents.ended_at)
    except OSError as error:
        say(screen, ("- ", "bold yellow"), f"Could not keep the state and reports: {error.filename}: {error.strerror}.")


def _show_end(screen: Console, steps: Sequence[Step], seconds: float) -> None:
    summary = table("step", "", "status", "covered", "written", "calls", "expectations")
    for column in summary.columns[3:]:
        column.justify = "right"
    for number, step in enumerate(steps, start=1):
        report = step.report
        met = sum(check.ok for check in step.checks)
        summary.add_row(
            str(number),
            step.name,
            Text(report["status"], style=STATUS_STYLES.get(report["status"], "")) if report else "-",
            f"{report['scopes']['covered']}/{report['scopes']['active']}" if report else "-",
            str(written(report)) if report else "-",
            str(sum(report["calls"].values())) if report else "-",
            Text(f"{met}/{len(step.checks)}", style="green" if step.ok else "bold red"),
        )
    say(screen)
    show(screen, summary)
    checks = [check for step in steps for check in step.checks]
    missed = [check for check in checks if not check.ok]
    say(screen)
    if checks and not missed:
        say(screen, ("✓ ", "bold green"), f"all {len(checks)} expectations met in {seconds:.1f} s")
        return
    say(screen, ("✗ ", "bold red"), f"{len(missed)} of {len(checks)} expectations not met, after {seconds:.1f} s:")
    for check in missed:
        say(screen, f"{check.what}: {clean(check.detail)}", indent=2)
