"""A cloud of the tool's registry whose function ends as a test wants it to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Self, cast

import msgspec
import pytest

from cli import clouds
from cli.deployment.model import Deployed, Place
from shared.apply import unwritten
from shared.coverage import classify
from shared.model import (
    WRITES,
    Action,
    Enumeration,
    Key,
    Kind,
    ManualStep,
    Outcome,
    Problem,
    Result,
    Scope,
    Stage,
    Target,
    Verb,
)
from shared.plan import assemble
from shared.reconcile import RunResult
from shared.report import RunProgress, make_report
from shared.request import RunRequest
from shared.runtime.clock import Clock
from shared.runtime.log import Sink
from shared.settings import EngineSettings, Reader
from shared.state.document import fresh

EXPORT = Kind("export", Stage.EXPORT)
STARTED = datetime(2026, 1, 5, 12, tzinfo=UTC)
GUIDE = ManualStep(
    "The role tailpipe-connector-role trusts nobody.", ("Open the role.", "Set its trust."), "https://example.com/role"
)


def action(verb: Verb, scope: str = "111122223333", **fields: Any) -> Action:
    """Return an action about the export of a scope."""
    target = Target(Key(scope, "export", "tailpipe-dataexport"), EXPORT)
    manual_step = GUIDE if verb is Verb.MANUAL else None
    return Action(target, verb, fields.pop("reason", "absent"), manual_step=manual_step, **fields)


def replace_manual_step(one: Action, manual_step: ManualStep) -> Action:
    """Return the action with another step for a person."""
    return msgspec.structs.replace(one, manual_step=manual_step)


def finished(
    actions: Sequence[Action],
    *,
    dry_run: bool,
    failing: Sequence[str] = (),
    problems: Sequence[Problem] = (),
    stopped: bool = False,
    manual_step: ManualStep | None = None,
) -> RunResult:
    """Return the end of a run of these actions, in which the writes of the `failing` scopes fail.

    `manual_step` is the step of what a person has to do, in place of the usual one.
    """
    plan = assemble(
        [replace_manual_step(one, manual_step) if manual_step and one.manual_step else one for one in actions]
    )
    outcomes = []
    for one in plan.actions:
        if dry_run and one.verb in WRITES:
            outcomes.append(Outcome(one, Result.PLANNED, Result.PLANNED.value))
        elif one.verb in WRITES and one.key.scope in failing:
            outcomes.append(Outcome(one, Result.FAILED, "AccessDenied", "not allowed", "Grant it.", attempted=True))
        elif one.verb not in WRITES:
            outcomes.append(unwritten(one))
        else:
            outcomes.append(Outcome(one, Result.DONE, one.reason, one.detail, attempted=True))
    scopes = tuple(Scope(one, f"account {one}") for one in sorted({one.key.scope for one in actions}))
    enumeration, memory, settings = Enumeration("o-1", scopes), fresh("aws"), EngineSettings()
    progress = RunProgress(
        enumeration=enumeration,
        verdicts=classify(enumeration, outcomes, memory, settings, STARTED),
        plan_hash=plan.hash,
        outcomes=outcomes,
        problems=list(problems),
        run_complete=True,
        stopped=stopped,
        cloud="aws",
        run_id="r-1",
        trigger="call",
        dry_run=dry_run,
        started_at=STARTED,
        duration_s=1.5,
        calls={"organizations": 3},
    )
    return RunResult(make_report(progress, memory, settings), plan, tuple(outcomes), tuple(problems))


class FakeFunction:
    """Stands for a cloud's `run_once`: remembers what it was asked, logs, and ends with `actions` or `error`."""

    def __init__(self, actions: Sequence[Action] = (), error: BaseException | None = None, **ending: Any) -> None:
        self.actions = actions
        self.error = error
        self.ending = ending
        self.requests: list[RunRequest] = []
        self.environments: list[Mapping[str, str]] = []

    def __call__(
        self, request: RunRequest, environment: Mapping[str, str], sink: Sink, clock: Clock, seconds: float
    ) -> RunResult:
        self.requests.append(request)
        self.environments.append(environment)
        sink("info", "run-started", {"run_id": "r-1", "cloud": "aws"})
        print("a library that writes to standard output")  # noqa: T201 - what the tool must keep out of its document
        if self.error is not None:
            raise self.error
        return finished(self.actions, dry_run=request.dry_run, **self.ending)


class FakeOperator:
    """Stands for the operator of a place in which `found` is deployed; `settings` None cannot be read."""

    place = Place("aws", "111122223333", "management account", "arn:aws:iam::111122223333:user/me", "eu-west-1")

    def __init__(self, found: Sequence[Deployed], settings: Mapping[str, str] | None) -> None:
        self.found, self.settings = list(found), settings

    def open(self, _given: Mapping[str, Any]) -> Self:
        """Return the operator of the one place there is."""
        return self

    def select(self, _name: str) -> Self:
        """Return the operator of a function: every function has the same settings."""
        return self

    def functions(self) -> list[Deployed]:
        """Return what is deployed."""
        return self.found

    def deployed(self) -> Mapping[str, str] | None:
        """Return the deployed function's settings."""
        return self.settings


FUNCTION = Deployed("tailpipe-exports", "arn:of:tailpipe-exports", "code sha256 0123456789ab, deployed today", {})


def read(environment: Mapping[str, str]) -> None:
    """Read the settings of a function that has two."""
    reader = Reader(environment)
    reader.choice("EXPORTS", "cur2", ("cur2", "focus"))
    reader.number("CALLS_AT_ONCE", 8, 1, 64)
    reader.finish()


def install(
    monkeypatch: pytest.MonkeyPatch,
    function: FakeFunction,
    *,
    found: Sequence[Deployed] = (FUNCTION,),
    settings: Mapping[str, str] | None = MappingProxyType({"EXPORTS": "cur2"}),
) -> FakeFunction:
    """Let the tool's AWS entry run `function`, at a place in which `found` is deployed with these `settings`."""
    entry = replace(
        clouds.CLOUDS["aws"],
        run_once=lambda: function,
        environment=dict,
        operator=lambda: cast("Any", FakeOperator(found, settings)),
        read_settings=lambda: read,
    )
    monkeypatch.setitem(clouds.CLOUDS, "aws", entry)
    return function
