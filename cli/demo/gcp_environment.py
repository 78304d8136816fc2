"""The environment of the GCP scenario: a local project, and the function in it."""

from __future__ import annotations

import base64
import json
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import msgspec
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, storage

from cli.demo.environment import Environment, Lines
from cli.demo.runner import Runner, Step
from cli.terminal.render import show_step
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.event_delivery import EventDelivery
from localcloud.gcp.runtime.framework import FunctionsFramework, Response
from shared.deliveries.document import DeliveryDocument, Series
from shared.state.store import report_name

KINDS = {"standard": "gcp_billing_export_v1_", "detailed": "gcp_billing_export_resource_v1_"}
WRITING = ("insert", "update", "patch", "delete", "create", "copy", "rewrite", "compose")
HOUR_S, MINUTE_S = 3600, 60  # between two runs of the schedule, and of events
JOBS = "bigquery.jobs.insert"

Rows = dict[str, Counter[str]]  # day → number of occurrences of each row, by the name in its label


class GcpEnvironment(Environment):
    """The project and the function in it, while the context is open."""

    title = "GCP"
    state = "known_billing_accounts.json"

    def __init__(self, runner: Runner, gcp: LocalGcp, function: FunctionsFramework, lines: Lines) -> None:
        super().__init__(runner, lines)
        self.gcp = gcp
        self._function = function
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        credentials, options = AnonymousCredentials(), {"api_endpoint": self.gcp.endpoint}  # type: ignore[no-untyped-call]  # the library is only partly annotated
        project = self.gcp.project
        self._bigquery = bigquery.Client(project, credentials=credentials, client_options=options)
        self._stack.callback(self._bigquery.close)
        self._storage: Any = storage.Client(project, credentials=credentials, client_options=options)
        self._stack.callback(self._storage.close)
        self._bucket = self._storage.bucket(self.gcp.deployment.bucket)
        self._duckdb = self._stack.enter_context(duckdb.connect())
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="demo-gcp-")))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # The function

    def invoke(self, step: Step, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.gcp.advance(HOUR_S)
        with self.watched():
            response = self._function.invoke(request)
        report = response.payload
        if not isinstance(report, Mapping) or "outcomes" not in report:
            detail = f"HTTP {response.status}: {response.error or response.body[:500].decode('utf-8', 'replace')}"
            self.no_report(step, detail)
        self.runner.ran(step, report, response.duration_s)
        return report

    def deliver_events(self, step: Step) -> Mapping[str, Any]:
        """Push the waiting events a minute after the last run and return the report of the run that they trigger."""
        self.gcp.advance(MINUTE_S)
        answers: list[Response] = []

        def push(body: bytes, _identity: str) -> int:
            answers.append(self._function.invoke(json.loads(body)))
            return answers[-1].status

        with self.watched():
            EventDelivery(self.gcp.world, push).deliver()
        report = next((one.payload for one in answers if isinstance(one.payload, Mapping)), None)
        if report is None or "outcomes" not in report:
            self.no_report(step, f"{len(answers)} pushes returned the statuses {[one.status for one in answers]}")
        self.runner.ran(step, report, answers[0].duration_s)
        return report

    def deliveries(self) -> list[DeliveryDocument]:
        """Return the delivery events since the last call, which a subscription to their topic has received."""
        found: list[DeliveryDocument] = []
        while messages := self.gcp.published():
            found += [msgspec.json.decode(base64.b64decode(one["data"]), type=DeliveryDocument) for one in messages]
        return found

    def changes_of(self, account: str, day: str, kind: str) -> list[tuple[list[str], list[str]]]:
        """Return the added files and those that are gone, for each new delivery event of a partition."""
        subject = Series(account, kind, day).path
        deltas = [one.data.delta for one in self.deliveries() if one.subject == subject]
        return [(list(one.added), list(one.gone)) for one in deltas]

    def calls(self) -> Sequence[Any]:
        return self.gcp.calls.select()

    def clear_calls(self) -> None:
        self.gcp.clear_calls()

    def operation(self, call: Any) -> str:
        return str(call.method)

    def is_write(self, call: Any) -> bool:
        own = f"/b/{self.gcp.deployment.state_bucket}/"
        return call.method.rpartition(".")[2] in WRITING and own not in call.path

    def show_step(self, report: Mapping[str, Any]) -> None:
        """Show the first manual step as `tailpipe-exports plan` shows it, and how many more there are."""
        steps = self.manual_steps(report)
        if steps:
            self.runner.say("")
            show_step(self.runner.screen, steps[0])
            if len(steps) > 1:
                self.runner.say(f"… and {len(steps) - 1} more, one for each account and kind of export")
            self.runner.say("")

    # Observed state

    def manual_steps(self, report: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return all manual steps of a run, from the stored report if the response's list is truncated."""
        steps = list(report["manual"])
        if steps and steps[-1]["scope"] == "*":
            steps = json.loads(self.stored(report_name(report["run_id"])) or b"{}").get("manual", [])
        return steps

    def now(self) -> datetime:
        return self.gcp.clock.now()

    def stored(self, name: str) -> bytes | None:
        found = name in self.stored_names(name)
        if not found:
            return None
        text: str = self.gcp.read_object(name, self.gcp.deployment.state_bucket)
        return text.encode("utf-8", "surrogateescape")

    def stored_names(self, prefix: str) -> Sequence[str]:
        return list(self.gcp.objects(self.gcp.deployment.state_bucket, prefix))

    def manifest(self, account: str, day: str, kind: str) -> dict[str, Any]:
        """Return a partition's manifest as a reader finds it, empty if it does not exist."""
        name = f"{account}/{day}/{kind}/manifest.json"
        if name not in self.gcp.copies(name):
            return {}
        return dict(json.loads(self._bucket.blob(name).download_as_bytes()))

    def files_of(self, account: str, day: str, kind: str) -> list[str]:
        """Return the names of the files that make up a partition's copy."""
        return [file["name"] for file in self.manifest(account, day, kind).get("files", ())]

    def rows_named(self, account: str, day: str, kind: str) -> int:
        """Return the row count in a partition's manifest."""
        return int(self.manifest(account, day, kind).get("rows", 0))

    def exported(self, account: str, kind: str) -> Rows:
        """Return the rows of an account's export in BigQuery, by partition."""
        table = f"{self.gcp.project}.{self.gcp.deployment.dataset}.{KINDS[kind]}{account.replace('-', '_')}"
        query = (
            "SELECT CAST(DATE(_PARTITIONTIME) AS STRING) AS day, labels[OFFSET(0)].value AS name "  # noqa: S608 - the table is the scenario's own
            f"FROM `{table}` WHERE _PARTITIONTIME IS NOT NULL"
        )
        found: Rows = {}
        for row in self._bigquery.query_and_wait(query):
            found.setdefault(row["day"], Counter())[row["name"]] += 1
        return found

    def copied(self, account: str, kind: str, day: str) -> Counter[str]:
        """Return the rows in the Parquet files that a partition's manifest names, read by DuckDB."""
        paths = []
        for number, name in enumerate(self.files_of(account, day, kind)):
            path = self._folder / f"{number}.parquet"
            self._bucket.blob(name).download_to_filename(str(path))
            paths.append(str(path))
        if not paths:
            return Counter()
        rows = self._duckdb.execute("SELECT labels[1].value FROM read_parquet(?)", [paths]).fetchall()
        return Counter(str(value) for (value,) in rows)

    def partitions_without_current_copy(self, accounts: Collection[str]) -> int:
        """Return how many partitions have no copy, or a copy with a different row count."""
        return sum(
            self.rows_named(account, day, kind) != rows.total()
            for account in accounts
            for kind in KINDS
            for day, rows in self.exported(account, kind).items()
        )

    # Checks

    def check_covered(
        self, step: Step, report: Mapping[str, Any], accounts: Sequence[str], excluded: Sequence[str]
    ) -> None:
        """Check that the open accounts are exactly `accounts` and `excluded`, and that all `accounts` are covered."""
        scopes, active = report["scopes"], len(accounts)
        states = self.gcp.accounts()
        right = {account for account, state in states.items() if state == "OPEN"} == {*accounts, *excluded}
        ok = right and scopes["covered"] == active == scopes["active"] - len(excluded)
        step.check("every open account is covered", ok, f"{scopes['covered']} of {active}")

    def check_copied(self, step: Step, what: str, accounts: Sequence[str]) -> None:
        """Check that every row of every partition of these accounts is in its files exactly once."""
        partitions = rows = 0
        wrong = []
        for account in accounts:
            for kind in KINDS:
                for day, expected in self.exported(account, kind).items():
                    partitions, rows = partitions + 1, rows + expected.total()
                    found = self.copied(account, kind, day)
                    if found != expected:
                        wrong.append(f"{account}/{day}/{kind} has {found.total()} of {expected.total()} rows")
        detail = "; ".join(wrong[:3]) or f"{rows} rows of {partitions} partitions, read from their Parquet files"
        step.check(what, bool(partitions) and not wrong, detail)

    def check_manual(self, step: Step, report: Mapping[str, Any], what: str, accounts: Collection[str]) -> None:
        """Check that these accounts, and no others, have a manual step with its link."""
        steps = self.manual_steps(report)
        named = {one.get("scope") for one in steps}
        linked = all(f"/billing/{one['scope']}/export" in one.get("url", "") and one["steps"] for one in steps)
        ok = linked and report["scopes"]["manual"] == len(accounts) and named == set(accounts)
        shown = ", ".join(sorted(map(str, named))[:3]) + (", …" if len(named) > 3 else "")
        detail = f"{len(steps)} steps for {shown}" if steps else "no manual step"
        step.check(what, ok, detail)

    def check_jobs(self, step: Step, expected: int) -> None:
        """Check that since the last `clear_calls` each partition that needed a copy took one extract job."""
        jobs = sum(call.status == 200 for call in self.gcp.calls.select(JOBS))
        step.check("each copy took one extract job", jobs == expected, f"{jobs} jobs for {expected} partitions")
