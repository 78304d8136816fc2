"""Step Functions: state machines, their executions, and the Map Runs of a Distributed Map.

moto's interpreter is not used: it ignores tolerated failures, writes empty results, waits on the machine's clock and
has no redrive. Sources: "Map state in Distributed mode", "Setting failure thresholds", "Redriving executions",
"Redriving Map Runs" and "Transitions" in the AWS Step Functions Developer Guide.
"""

from __future__ import annotations

import json
import random
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from localcloud.aws.calls import CallLog
from localcloud.aws.errors import AwsError
from localcloud.aws.iam.enforcement import Enforcement
from localcloud.aws.iam.sessions import Sessions
from localcloud.aws.platform.state_records import UNSUCCESSFUL, Execution, Machine, MapRun
from localcloud.aws.platform.state_tasks import StateTasks
from localcloud.aws.services import states_language as language
from localcloud.aws.services.states_language import StateError
from shared.runtime.clock import Clock

# A child workflow is a thread here; AWS runs up to 10,000 of a Map Run at once.
_MAX_THREADS = 64
_REDRIVABLE = timedelta(days=14)
_JOIN_LIMIT_S = 10
_POLL_S = 0.2


class Stopped(Exception):
    """The execution was stopped or redriven, or the local cloud closes."""


def in_threads(jobs: Sequence[Callable[[], None]], at_once: int) -> None:
    """Run jobs in threads, in order, at most `at_once` at a time."""
    with ThreadPoolExecutor(min(at_once, _MAX_THREADS), thread_name_prefix="child-workflow") as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()


# difference: AWS-26
class StateMachines:
    """Executes state machines, each execution in a thread. Thread-safe.

    `parallel` runs the children of a Map Run; a simulation replaces it.
    """

    def __init__(
        self, clock: Clock, partition: str, sessions: Sessions, enforcement: Enforcement, calls: CallLog
    ) -> None:
        self.clock = clock
        self.partition = partition
        self.parallel: Callable[[Sequence[Callable[[], None]], int], None] = in_threads
        self.machines: dict[str, Machine] = {}
        self.executions: dict[str, Execution] = {}
        self.map_runs: dict[str, MapRun] = {}
        self.tasks = StateTasks(clock, sessions, enforcement, calls, self._start_thread)
        self._rng = random.Random(1)
        self._changed = threading.Condition(threading.RLock())
        self._threads: list[threading.Thread] = []
        self._closed = False

    def start(self, machine: Machine, name: str, given: Any) -> Execution:
        """Start an execution."""
        definition = json.loads(machine.definition)
        arn = f"{machine.arn.replace(':stateMachine:', ':execution:')}:{name}"
        execution = Execution(arn, machine, definition, given, self.clock.now(), (definition["StartAt"], given))
        with self._changed:
            self.executions[arn] = execution
        self._begin(execution)
        return execution

    def stop(self, execution: Execution, error: str = "", cause: str = "") -> None:
        """Abort an execution that runs, with its child workflows. What a function already does goes on."""
        with self._changed:
            if execution.status == "RUNNING":
                self._end(execution, "ABORTED", error=error, cause=cause)

    def redrive(self, execution: Execution) -> None:
        """Continue an unsuccessful execution at the state that failed. Raises AwsError (ExecutionNotRedrivable)."""
        with self._changed:
            reason = self.not_redrivable(execution)
            if reason:
                raise AwsError("ExecutionNotRedrivable", reason, 400)
            self._resume(execution)
        self._begin(execution)

    def not_redrivable(self, execution: Execution) -> str:
        """Return why an execution cannot be redriven, or ""."""
        if execution.map_run is not None:
            return "Execution is a child workflow: redrive its parent workflow"
        if execution.status not in UNSUCCESSFUL or execution.stopped is None:
            return f"Execution is {execution.status} and cannot be redriven"
        if self.clock.now() - execution.stopped > _REDRIVABLE:
            return "Execution has exceeded its redrivable period"
        return ""

    def wait(self, arn: str = "", limit_s: float = 60) -> None:
        """Wait until an execution, or all, have ended. Raises TimeoutError after `limit_s` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._running(arn), limit_s):
                raise TimeoutError(f"{len(self._running(arn))} executions have not ended after {limit_s} s")

    def close(self) -> None:
        """Stop all executions."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.join()

    def join(self) -> None:
        """Wait until the threads of all executions, and those of calls that arrive late, have ended."""
        with self._changed:
            threads = list(self._threads)
        for thread in threads:
            thread.join(_JOIN_LIMIT_S)

    def _running(self, arn: str) -> list[Execution]:
        wanted = [self.executions[arn]] if arn else list(self.executions.values())
        return [one for one in wanted if one.status == "RUNNING" and one.map_run is None]

    def _begin(self, execution: Execution) -> None:
        execution.since = self.clock.monotonic()
        attempt = execution.attempt
        self._start_thread(lambda: self._drive(execution, attempt), "state-machine")

    def _start_thread(self, work: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        with self._changed:
            self._threads = [one for one in self._threads if one.is_alive()] + [thread]
            thread.start()

    def _resume(self, execution: Execution) -> None:
        execution.status, execution.stopped, execution.error, execution.cause = "RUNNING", None, "", ""
        execution.attempt += 1
        execution.redrives += 1
        # "Transitions": a redrive is charged as one.
        execution.transitions += 1
        execution.redriven = self.clock.now()
        execution.since = self.clock.monotonic()

    def _end(self, execution: Execution, status: str, output: Any = None, error: str = "", cause: str = "") -> None:
        with self._changed:
            execution.status, execution.stopped = status, self.clock.now()
            execution.output, execution.error, execution.cause = output, error, cause
            execution.attempt += 1
            for map_run in execution.map_runs.values():
                if map_run.status == "RUNNING":
                    self._end_map_run(map_run, status)
            self._changed.notify_all()

    def _end_map_run(self, map_run: MapRun, status: str) -> None:
        map_run.status = "ABORTED" if status == "TIMED_OUT" else status
        map_run.stopped = self.clock.now()
        for child in map_run.children:
            if child.status == "RUNNING" and child.arn not in map_run.pending:
                self._end(child, "ABORTED")

    def _drive(self, execution: Execution, attempt: int) -> None:
        try:
            output = self._run(execution, attempt)
        except Stopped:
            return
        except StateError as error:
            with self._changed:
                if execution.attempt == attempt:
                    over = error.error == "States.Timeout" and self._overdue(execution)
                    status = "TIMED_OUT" if over else "FAILED"
                    self._end(execution, status, error=error.error, cause=error.cause)
            return
        with self._changed:
            if execution.attempt == attempt:
                self._end(execution, "SUCCEEDED", output=output)

    def _run(self, execution: Execution, attempt: int) -> Any:
        while True:
            self._check(execution, attempt)
            name, data = execution.position
            execution.transitions += 1
            output, following = self._step(execution, attempt, name, data)
            if following is None:
                return output
            with self._changed:
                self._check(execution, attempt)
                execution.position = (following, language.limited(output))

    def _check(self, execution: Execution, attempt: int) -> None:
        if self._closed or execution.attempt != attempt:
            raise Stopped
        if self._overdue(execution):
            raise StateError("States.Timeout", "the execution took longer than TimeoutSeconds")

    def _overdue(self, execution: Execution) -> bool:
        limit = execution.definition.get("TimeoutSeconds")
        return limit is not None and self.clock.monotonic() - execution.since > float(limit)

    def _step(self, execution: Execution, attempt: int, name: str, data: Any) -> tuple[Any, str | None]:
        """Run one state; return its output and the next state's name."""
        state = execution.definition["States"][name]
        context = self._context(execution, name)
        kind = state["Type"]
        if kind == "Choice":
            return data, language.chosen(state, data, context)
        if kind == "Succeed":
            return data, None
        if kind == "Fail":
            raise StateError(str(state.get("Error", "")), str(state.get("Cause", "")))
        if kind == "Pass":
            output = language.filled(state["Parameters"], data, context) if "Parameters" in state else data
        else:
            work = self._task if kind == "Task" else self._map
            result = language.limited(work(execution, attempt, name, state, data, context))
            output = language.merged(state.get("ResultPath", "$"), data, result)
        return output, state.get("Next")

    def _context(self, execution: Execution, state: str) -> dict[str, Any]:
        started = f"{execution.started:%Y-%m-%dT%H:%M:%SZ}"
        return {
            "Execution": {"Id": execution.arn, "Name": execution.name, "Input": execution.input, "StartTime": started},
            "StateMachine": {"Id": execution.machine.arn, "Name": execution.machine.name},
            "State": {"Name": state, "EnteredTime": f"{self.clock.now():%Y-%m-%dT%H:%M:%SZ}"},
        }

    def _task(
        self,
        execution: Execution,
        attempt: int,
        _name: str,
        state: Mapping[str, Any],
        data: Any,
        context: Mapping[str, Any],
    ) -> Any:
        given = language.filled(state.get("Parameters", {}), data, context)
        retriers = state.get("Retry", [])
        used = [0] * len(retriers)
        while True:
            try:
                result = self.tasks.call(execution.machine, str(state["Resource"]), given, state.get("TimeoutSeconds"))
                if "ResultSelector" in state:
                    result = language.filled(state["ResultSelector"], language.limited(result), context)
                return result
            except StateError as error:
                self._check(execution, attempt)
                seconds = language.retry_delay(retriers, error.error, used, self._rng)
                if seconds is None:
                    raise
            self._sleep(execution, attempt, seconds)
            execution.transitions += 1

    def _sleep(self, execution: Execution, attempt: int, seconds: float) -> None:
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            self._check(execution, attempt)
            self.clock.wait_until(min(end, self.clock.monotonic() + _POLL_S))

    def _map(
        self,
        execution: Execution,
        attempt: int,
        name: str,
        state: Mapping[str, Any],
        data: Any,
        context: Mapping[str, Any],
    ) -> Any:
        kept = execution.map_runs.get(name)
        if kept is not None and kept.status in UNSUCCESSFUL:
            map_run = self._redriven(kept)
        else:
            map_run = self._map_run(execution, name, state, data, context)
        jobs = [self._job(map_run, child) for child in map_run.children if child.status != "SUCCEEDED"]
        if jobs:
            self.parallel(jobs, min(map_run.concurrency or len(jobs), len(jobs)))
        self._check(execution, attempt)
        with self._changed:
            self._end_map_run(map_run, "FAILED" if map_run.exceeded else "SUCCEEDED")
        written = self.tasks.write_results(map_run, state, data, context)
        if map_run.exceeded:
            cause = "The specified tolerated failure threshold was exceeded"
            raise StateError("States.ExceedToleratedFailureThreshold", cause)
        return [child.output for child in map_run.children] if written is None else written

    def _map_run(
        self, execution: Execution, name: str, state: Mapping[str, Any], data: Any, context: Mapping[str, Any]
    ) -> MapRun:
        items = language.get(state.get("ItemsPath", "$"), data, context)
        if not isinstance(items, list):
            raise StateError("States.Runtime", f"{state.get('ItemsPath')} of the Map state is not an array")
        machine, processor = execution.machine, state["ItemProcessor"]
        self.tasks.check_allowed(machine, "states:StartExecution", machine.arn)
        label = state.get("Label", name)
        base = f"{machine.arn.replace(':stateMachine:', ':mapRun:')}/{label}"
        map_run = MapRun(
            f"{base}:{uuid.uuid4()}",
            execution,
            self.clock.now(),
            int(state.get("MaxConcurrency", 0)),
            float(state.get("ToleratedFailurePercentage", 0)),
            [],
            set(),
        )
        for index, item in enumerate(items):
            inner = {**context, "Map": {"Item": {"Index": index, "Value": item}}}
            given = language.filled(state["ItemSelector"], data, inner) if "ItemSelector" in state else item
            arn = f"{base.replace(':mapRun:', ':execution:')}:{uuid.uuid4()}"
            start = (processor["StartAt"], given)
            map_run.children.append(Execution(arn, machine, processor, given, self.clock.now(), start, map_run))
        map_run.pending = {child.arn for child in map_run.children}
        with self._changed:
            execution.map_runs[name] = self.map_runs[map_run.arn] = map_run
            self.executions.update({child.arn: child for child in map_run.children})
        return map_run

    def _redriven(self, map_run: MapRun) -> MapRun:
        """Return a Map Run whose unsuccessful children run again from the states that failed."""
        machine = map_run.execution.machine
        with self._changed:
            map_run.status, map_run.stopped = "RUNNING", None
            for child in map_run.children:
                if child.status in UNSUCCESSFUL:
                    self.tasks.check_allowed(machine, "states:RedriveExecution", child.arn)
                    self._resume(child)
                    map_run.pending.add(child.arn)
        return map_run

    def _job(self, map_run: MapRun, child: Execution) -> Callable[[], None]:
        def job() -> None:
            with self._changed:
                if map_run.status != "RUNNING" or map_run.exceeded:
                    return
                map_run.pending.discard(child.arn)
                child.started = self.clock.now()
                child.since = self.clock.monotonic()
                # "Transitions": each child workflow that a Distributed Map starts is charged as one.
                child.transitions += 1
            self._drive(child, child.attempt)
            self._fail_if_exceeded(map_run)

        return job

    def _fail_if_exceeded(self, map_run: MapRun) -> None:
        with self._changed:
            if map_run.status == "RUNNING" and map_run.exceeded:
                self._end_map_run(map_run, "FAILED")
