"""`tailpipe-exports run` and `tailpipe-exports plan`: the function's own reconcile, with the operator's credentials."""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cli.clouds import Cloud, operator_environment
from cli.console import clean, err, out, say
from cli.progress import Watcher
from cli.render import show_failure, show_finished
from shared.clock import SystemClock
from shared.errors import CloudError, RequestError, SettingsError, cut
from shared.memory import fresh
from shared.model import WRITES, Problem
from shared.report import Findings, Header, make_report
from shared.request import Trigger, parse_request
from shared.settings import EngineSettings

if TYPE_CHECKING:
    from shared.reconcile import Finished

# An operator's temporary credentials last an hour at the least of the usual settings; a run rarely needs minutes.
SECONDS = 3600.0

OK, FAILED, TO_WRITE, DEGRADED = 0, 1, 2, 3


def plan(cloud: Cloud, request: Mapping[str, Any], as_json: bool, everything: bool) -> int:
    """Show what a run would do.

    Returns 0: nothing to write, 2: something to create, repair or adopt, 1: error. A plan that does not know all
    scopes and has nothing to write is an error: it would be read as all is well.
    """
    finished = _reconcile(cloud, {**request, "dry_run": True}, as_json, everything)
    if finished is None or finished.report["status"] == "failed" or finished.plan is None:
        return FAILED
    if any(action.verb in WRITES for action in finished.plan.actions):
        return TO_WRITE
    return FAILED if finished.problems else OK


def run(cloud: Cloud, request: Mapping[str, Any], as_json: bool, everything: bool) -> int:
    """Reconcile. Returns 0: ok, 3: degraded, 1: failed."""
    finished = _reconcile(cloud, request, as_json, everything)
    if finished is None:
        return FAILED
    return {"ok": OK, "degraded": DEGRADED}.get(finished.report["status"], FAILED)


def _reconcile(cloud: Cloud, payload: Mapping[str, Any], as_json: bool, everything: bool) -> Finished | None:
    """Run once and show what came of it; None where no run took place, the reasons having been said."""
    clock = SystemClock()
    started = clock.now()
    screen = err()
    try:
        request = parse_request(payload)
        # Whatever a library prints on the way must not end up in the document.
        with contextlib.redirect_stdout(sys.stderr), Watcher(screen, quiet=as_json) as watcher:
            finished = cloud.run_once()(request, operator_environment(cloud), watcher.sink, clock, SECONDS)
    except SettingsError as error:
        problems = [_problem("settings", fault) for fault in error.faults]
    except RequestError as error:
        problems = [_problem("request", fault) for fault in error.faults]
    except CloudError as error:
        problems = [_problem(error.code, error.message, error.remedy)]
    except Exception as error:  # noqa: BLE001 - the last resort still owes its caller a document and an exit code
        traceback.print_exc(file=sys.stderr)
        problems = [_problem("unexpected", f"{type(error).__name__}: {error}", "Please report this with its trace.")]
    else:
        if finished.plan is None:
            _refuse(cloud, finished.report["failures"])
        elif not as_json:
            show_finished(out(), cloud.scopes, finished, everything)
        if as_json:
            _print_json(finished.report)
        return finished
    report = not_run(cloud.name, started, problems, dry_run=bool(payload.get("dry_run")))
    _refuse(cloud, report["failures"])
    if as_json:
        _print_json(report)
    return None


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
    header = Header(
        cloud=cloud,
        run_id="",
        trigger=Trigger.CALL.value,
        dry_run=dry_run,
        started_at=started,
        duration_s=0.0,
        calls={},
    )
    return make_report(header, Findings(problems=list(problems), stopped=True), fresh(cloud), EngineSettings())


def _print_json(document: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")
