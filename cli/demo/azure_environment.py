"""The environment of the Azure scenario: a local tenant, and the function in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NoReturn

from cli.demo.environment import Environment, Lines
from cli.demo.runner import Runner, Step
from cli.terminal.progress import parse_line
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import STATE_CONTAINER
from localcloud.azure.runtime.worker import AzureWorker, Invocation
from localcloud.azure.services.event_grid import ACTION as PUBLISH
from shared.state.store import report_name

COST = "Microsoft.CostManagement/*"
WITHOUT_FOCUS = "webdirect"  # an agreement that offers Usage only


class AzureEnvironment(Environment):
    """The tenant and the function in it."""

    title = "Azure"
    state = "known_subscriptions.json"

    def __init__(self, runner: Runner, azure: LocalAzure, function: AzureWorker, lines: Lines) -> None:
        super().__init__(runner, lines)
        self.azure = azure
        self.function = function

    def calls(self) -> Sequence[Any]:
        return list(self.azure.calls)

    def clear_calls(self) -> None:
        self.azure.calls.clear()

    def operation(self, call: Any) -> str:
        return str(call.action.rpartition(".")[2])

    def is_write(self, call: Any) -> bool:
        # Queries are reads by POST, and an event on the topic changes nothing in the tenant.
        return bool(call.method != "GET" and not call.action.endswith("/read") and call.action != PUBLISH)

    def tick(self, step: Step, timer: str = "reconcile_timer") -> Mapping[str, Any]:
        """Trigger a timer and return the run's report from the state container. Raises ScenarioEnded."""
        with self.watched():
            done = self.function.invoke_timer(timer)
        report = self._stored(done)
        if report is None:
            self._no_answer(step, done, "the run stored no report")
        return self._ran(step, report, done)

    def push_events(self) -> list[bool]:
        """Deliver the events that are due to the function; return for each whether it was accepted."""
        due = self.azure.world.manifest_events.take(self.azure.clock.now())
        with self.watched():
            return [self.function.invoke_event(one.event).error is None for one in due]

    def invoke(self, step: Step, request: Mapping[str, Any]) -> Mapping[str, Any]:
        with self.watched():
            done = self.function.invoke_http("POST", "/api/reconcile", request)
        report = _object(done.body)
        if "run_id" not in report:
            self._no_answer(step, done, f"status {done.status}: {done.body[:500].decode('utf-8', 'replace')}")
        return self._ran(step, report, done)

    def _ran(self, step: Step, report: Mapping[str, Any], done: Invocation) -> Mapping[str, Any]:
        self.runner.ran(step, report, done.duration_s)
        self.runner.say(f"The run took {spoken(timedelta(seconds=round(report['duration_s'])))} of virtual time.")
        return report

    def _no_answer(self, step: Step, done: Invocation, detail: str) -> NoReturn:
        self.no_report(step, str(done.error.get("errorMessage", "")) if done.error else detail)

    def _stored(self, done: Invocation) -> Mapping[str, Any] | None:
        """Return the stored report of the run that wrote these log lines; a timer trigger has no response."""
        runs = [parsed[2].get("run_id") for line in done.logs if (parsed := parse_line(line))]
        found = self.stored(report_name(str(runs[-1]))) if runs else None
        return None if found is None else _object(found)

    def now(self) -> datetime:
        return self.azure.clock.now()

    def stored(self, name: str) -> bytes | None:
        from azure.core.exceptions import ResourceNotFoundError

        with self.azure.blob_client(self.azure.host_account.name) as storage:
            try:
                return bytes(storage.get_blob_client(STATE_CONTAINER, name).download_blob().readall())
            except ResourceNotFoundError:
                return None

    def stored_names(self, prefix: str) -> Sequence[str]:
        with self.azure.blob_client(self.azure.host_account.name) as storage:
            return list(storage.get_container_client(STATE_CONTAINER).list_blob_names(name_starts_with=prefix))

    def pass_time(self, span: timedelta) -> None:
        """Advance the virtual clock between two runs."""
        self.azure.advance(span.total_seconds())
        self.azure.sync()

    def active(self) -> list[str]:
        """Return the active subscriptions."""
        return [one for one, state in self.azure.subscriptions().items() if state == "Enabled"]

    def without_focus(self) -> list[str]:
        """Return the active subscriptions whose offer has no FOCUS."""
        directory = self.azure.world.directory
        return [one for one in self.active() if directory.get(one).agreement.name == WITHOUT_FOCUS]

    def types(self, subscription: str) -> set[str]:
        """Return the types of a subscription's exports."""
        return {export["properties"]["definition"]["type"] for export in self.azure.exports(subscription)}

    def writes(self, subscription: str) -> list[Any]:
        """Return the accepted writes to a subscription since the call log was last cleared."""
        calls = self.azure.calls.select(COST)
        return [call for call in calls if subscription in call.resource and call.method != "GET" and call.status < 300]

    def check_covered(self, step: Step, report: Mapping[str, Any]) -> None:
        """Check that the run was ok, and that every active subscription is covered, is pending, or lacks FOCUS."""
        scopes, active, refused = report["scopes"], len(self.active()), len(self.without_focus())
        self.check_ok(step, report)
        good = scopes["covered"] + scopes["pending"]
        detail = f"{scopes['covered']} of {active}" + (f", {scopes['pending']} pending" if scopes["pending"] else "")
        right = good == active - refused and scopes["active"] == active
        step.check("every subscription whose agreement offers both exports is covered", right, detail)
        reasons = {one["reason"]: one["count"] for one in report["excluded"]}
        right = scopes["excluded"] == refused and reasons == ({"type-refused": refused} if refused else {})
        step.check("those without FOCUS are reported as excluded", right, f"{scopes['excluded']} of {refused}")

    def check_exports(self, step: Step, what: str, subscriptions: Sequence[str], both: bool = False) -> None:
        """Check that each export (`both`: the FOCUS export too) is active and delivers to its subscription's folder."""
        account = self.azure.destinations[0].id
        wrong = []
        for one in subscriptions:
            found = {export["name"]: export["properties"] for export in self.azure.exports(one)}
            name = f"TailpipeDataExport-{one[-6:]}"
            for each in (name, f"{name}-focus") if both else (name,):
                problem = _problem(found.get(each), account, f"tailpipe/subscriptions/{one}")
                if problem:
                    wrong.append(f"{each} {problem}")
        good = len(subscriptions) - len({one.partition(" ")[0].removesuffix("-focus") for one in wrong})
        detail = f"{good} of {len(subscriptions)}" + (f"; {', '.join(wrong[:3])}" if wrong else "")
        step.check(what, not wrong, detail)

    def check_quota(self, step: Step) -> None:
        """Check that Cost Management has throttled no call since the call log was last cleared."""
        peak, refused = self.azure.calls.peak(COST, 60), self.azure.calls.count(COST, status=429)
        step.check("no call exceeds the quota", refused == 0, f"{refused} throttled, at most {peak} in a minute")


def _problem(export: Mapping[str, Any] | None, account: str, folder: str) -> str:
    """Return what is wrong with an export, or "" if it is correct."""
    if export is None:
        return "does not exist"
    if export["schedule"]["status"] != "Active":
        return f"is {export['schedule']['status']}"
    target = export["deliveryInfo"]["destination"]
    if target["resourceId"] != account or target["rootFolderPath"] != folder:
        return f"delivers to {target['rootFolderPath']}"
    return ""


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}


def spoken(span: timedelta) -> str:
    """Return a time span as text, in minutes and seconds."""
    minutes, seconds = divmod(round(span.total_seconds()), 60)
    return " ".join(
        filter(None, (f"{minutes} min" if minutes else "", f"{seconds} s" if seconds or not minutes else ""))
    )
