"""The exports: observe them by delivered data and status, and create, repair or adopt them with all columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from aws_lambda import manual_steps
from aws_lambda.clients import EXPORT_REGIONS, Clients
from aws_lambda.errors import BUCKET_PERMISSION, COLUMNS, DUPLICATE_NAME, QUOTA, observed
from aws_lambda.resources.bucket import Bucket
from aws_lambda.resources.deliveries import Delivered, Deliveries
from aws_lambda.resources.export_definition import (
    address_of,
    export_definition,
    has_same_data,
    managed_fields,
    query_of,
    wanted_properties,
)
from aws_lambda.resources.export_health import EARLIER, EARLIER_ON, ExportSnapshot, HealthEvaluator
from aws_lambda.resources.exports_api import ExportsApi
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import EXPORT, EXPORT_ELSEWHERE, Dataset, datasets_of
from shared.errors import CloudError, Manual, Permanent, Transient
from shared.model import (
    BESIDE,
    Absent,
    Action,
    EscalationPolicy,
    Health,
    Key,
    Observation,
    Ownership,
    Present,
    Target,
    Unknown,
    Verb,
    why_not_used,
)
from shared.parsing import parse_time
from shared.provider import Applied
from shared.resources import one_by_one
from shared.runtime.context import RunContext
from shared.target_state import TargetState

COLUMNS_FRESH = timedelta(hours=24)


class Exports:
    """Observes, creates, repairs and adopts the exports; `bucket` is observed before them."""

    kinds = (EXPORT, EXPORT_ELSEWHERE)

    def __init__(self, settings: AwsSettings, account: str, clients: Clients, run: RunContext, bucket: Bucket) -> None:
        self._settings = settings
        self._account = account
        self._region = EXPORT_REGIONS.get(settings.partition, settings.region)
        self._datasets = datasets_of(settings)
        self._api = ExportsApi(settings, account, clients, run)
        self._run = run
        self._bucket = bucket
        self._deliveries = Deliveries(settings, account, clients, run)
        self._evaluator = HealthEvaluator(clients, run, bucket)
        # By the export's name: its deliveries, or why they could not be listed.
        self._delivered: dict[str, Delivered] = {}
        self._unread: dict[str, CloudError] = {}

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """List the deliveries of each export; an export without fresh data needs a single read."""
        found = {target.key: self._without_call(target) or self._by_delivery(target) for target in targets}
        return {key: observation for key, observation in found.items() if observation is not None}

    def observe(self, target: Target) -> Observation:
        """Read one export: one call by its ARN, or a listing if the ARN is unknown or no longer exists."""
        return self._without_call(target) or self._read(target)

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Create, repair or adopt exports."""
        return one_by_one(self._write, actions)

    def _without_call(self, target: Target) -> Observation | None:
        """Return the observation of an export that cannot exist in this account or partition; None for all others."""
        if not target.kind.writable:
            return Absent(
                ("account",), "only the account itself can create its export", target.manual_step, "other-account"
            )
        if self._settings.partition not in EXPORT_REGIONS:
            what = f"AWS does not offer BCM Data Exports in partition {self._settings.partition}"
            return Present(health=Health.INACTIVE, code="service-not-in-partition", detail=what)
        return None

    def _by_delivery(self, target: Target) -> Observation | None:
        """Return the observation of an export with fresh data, else None; keep its deliveries for the single read."""
        dataset, state = self._datasets[target.key.name], target.state
        try:
            facts = state.facts if state else {}
            due = facts.get(EARLIER_ON) != f"{self._run.clock.now():%Y-%m-%d}"
            marks, incomplete = facts.get("manifests", {}), facts.get(EARLIER, {})
            delivered = self._deliveries.last(dataset, marks, incomplete, check_earlier=due)
        except CloudError as error:
            # The single read then relies on the export's status alone.
            self._unread[target.key.name] = error
            self._run.log("warning", "deliveries-unread", target.key, code=error.code, reason=error.message)
            return None
        self._delivered[target.key.name] = delivered
        # Data proves only that a known export still exists: files stay in the bucket after an export is deleted.
        fresh = delivered.at is not None and self._run.clock.now() - delivered.at < dataset.stale_after
        if state is None or not state.present or not fresh:
            return None
        return Present(verified=False, delivered_at=delivered.at, periods=delivered.periods)

    def _read(self, target: Target) -> Observation:
        state = target.state
        facts = state.facts if state else {}
        name = target.key.name
        try:
            proof: tuple[str, ...] = ("list",)
            answer = None
            if self._api.is_own_arn(facts.get("arn")):
                answer = self._api.get(str(facts["arn"]))
                proof = ("list", "get")
                # The state may have been altered: an ARN of an export with another name is not used.
                if answer is not None and answer["Export"]["Name"] != name:
                    answer, proof = None, ("list",)
            if answer is None:
                arn = self._api.find(name)
                if arn is None:
                    others = self._others(target)
                    return Absent(proof, others, code=BESIDE) if others else Absent(proof, f"no export is named {name}")
                answer = self._api.get(arn)
                if answer is None:
                    return Unknown(
                        "listed-not-found",
                        f"export {name} is listed, but could not be read by its ARN",
                        remedy="Wait a day: listings may lag behind. If it persists, open the export on the Data "
                        "Exports page of the billing console. If it does not open there either, delete it; the next "
                        "run creates it again.",
                    )
            return self._present(target, answer, facts, state)
        except CloudError as error:
            return observed(error, f"export {name}")

    def _others(self, target: Target) -> str:
        """Return which other exports have the same data, and why they are not used; "" if there are none."""
        dataset = self._datasets[target.key.name]
        try:
            # Their columns are not compared: that needs a call for each.
            found = [
                why_not_used(
                    one["Name"], target.desired, managed_fields(one, dataset, (), self._account), address_of(one)
                )
                for one in self._api.all()
                if has_same_data(one, dataset)
            ]
        except CloudError as error:
            reason = f"the other exports of the account could not be read: {error.message}"
            self._run.log("warning", "detail-unread", target.key, code=error.code, reason=reason)
            return ""
        return "; ".join(found)

    def _write(self, action: Action) -> Applied:
        state = action.target.state
        failed_before = bool(state and state.error and state.error.code == BUCKET_PERMISSION)
        if failed_before or _is_broken(action):
            # The statement may have been changed or removed since the last run, so it is written again.
            self._bucket.write_statements()
        try:
            if action.verb is Verb.CREATE:
                return self._create(action.target)
            seen = action.observation
            arn = str(seen.facts["arn"]) if isinstance(seen, Present) else ""
            if action.verb is Verb.ADOPT:
                return self._adopt(action.target, arn, bool(action.changes) or _is_broken(action))
            facts = self._update(action.target, arn)
            if action.changes:
                known = state.facts if state else {}
                facts["repairs"] = [*self._evaluator.repairs(known), self._run.clock.now().isoformat()]
            if _is_broken(action):
                facts["repaired_at"] = self._run.clock.now().isoformat()
            return Applied(facts=facts)
        except Transient as error:
            if error.code != BUCKET_PERMISSION:
                raise
            where = self._bucket
            manual_step = manual_steps.bucket_permission(where.name, error.message, where.suspects, where.key)
            if failed_before:
                raise Manual(BUCKET_PERMISSION, manual_step, error.message) from error
            raise Transient(
                error.code,
                error.message,
                error.remedy,
                within_run=False,
                escalation=EscalationPolicy(tries=3),
                manual_step=manual_step,
            ) from error

    def _present(
        self, target: Target, answer: Mapping[str, Any], facts: Mapping[str, Any], state: TargetState | None = None
    ) -> Observation:
        dataset, export = self._datasets[target.key.name], answer["Export"]
        arn = str(export.get("ExportArn") or facts.get("arn", ""))
        query = query_of(export)
        table, found = self._columns(dataset, export, facts)
        if not found and not set(table) <= set(query.columns):
            # Before columns are reported as missing, the table is read: the remembered columns may be wrong.
            table, found = self._columns(dataset, export, {})
        actual = managed_fields(export, dataset, table, self._account)
        ours = facts.get("marked") == arn or self._api.is_marked(arn)
        known: dict[str, Any] = {"arn": arn, **found} | ({"marked": arn} if ours else {})
        same = all(actual[field] == target.desired[field] for field in ("table", "bucket", "bucket-owner", "prefix"))
        if not ours and not same:
            return Present(
                actual,
                ownership=Ownership.FOREIGN,
                code="export-foreign",
                manual_step=manual_steps.export_foreign(target.key.name, address_of(export), self._region),
                facts=known,
            )
        if actual["table"] != dataset.table:
            what = (
                f"the export {target.key.name} reads table {actual['table'] or '(unreadable)'}, which cannot be changed"
            )
            manual_step = manual_steps.export_recreate(what, target.key.name, arn)
            return Present(actual, Health.MANUAL, code="table-differs", manual_step=manual_step, facts=known)
        snapshot = ExportSnapshot(target.key.name, arn, answer.get("ExportStatus", {}), dataset, facts, state)
        observation = self._evaluator.evaluate(snapshot, self._delivered.get(target.key.name))
        drifted = [field for field, value in target.desired.items() if actual[field] != value]
        if ours:
            observation = self._evaluator.with_surroundings(
                snapshot, observation, drifted, self._unread.get(target.key.name)
            )
        delivered = self._delivered.get(target.key.name)
        return msgspec.structs.replace(
            observation,
            actual=actual,
            periods=delivered.periods if delivered else {},
            ownership=Ownership.OURS if ours else Ownership.UNMARKED,
            facts={**known, **observation.facts},
        )

    def _create(self, target: Target) -> Applied:
        dataset = self._datasets[target.key.name]
        for attempt in (1, 2):
            export, facts = self._definition(dataset, None)
            try:
                arn = self._api.create(export)
            except Permanent as error:
                if error.code == DUPLICATE_NAME:
                    return self._taken(target, error)
                if error.code == QUOTA:
                    others = self._api.of_table(dataset.table)
                    manual_step = manual_steps.export_quota(dataset.name, dataset.table, others)
                    raise Manual("export-quota", manual_step, error.message) from error
                # The table may have changed since its columns were read: try once more.
                if error.code != COLUMNS or attempt == 2:
                    raise
                continue
            return Applied(facts={**facts, "arn": arn, "marked": arn})
        raise AssertionError("unreachable: the second attempt returns or raises")

    def _taken(self, target: Target, error: Permanent) -> Applied:
        """Adopt or report an export whose name exists although it was not listed. Raises CloudError."""
        arn = self._api.find(target.key.name)
        answer = self._api.get(arn) if arn else None
        if arn is None or answer is None:
            raise Transient(
                "name-taken-unseen",
                f"{error.message}, but no export with this name is listed yet",
                "The next runs try again; after five tries the report has the steps to take.",
                escalation=EscalationPolicy(tries=5),
                manual_step=manual_steps.name_taken(target.key.name, error.message, self._region),
            ) from error
        seen = self._present(target, answer, {})
        if not isinstance(seen, Present):
            raise Transient(
                "name-taken-unseen", "the export with this name could not be read", "The next run tries again."
            ) from error
        if seen.manual_step and (seen.ownership is Ownership.FOREIGN or seen.code == "table-differs"):
            raise Manual(seen.code, seen.manual_step) from error
        return self._adopt(target, arn, any(seen.actual[field] != value for field, value in target.desired.items()))

    def _adopt(self, target: Target, arn: str, repair: bool) -> Applied:
        """Repair the export if needed, then tag it: the tag is set only on an export that matches its definition."""
        facts = self._update(target, arn) if repair else {"arn": arn}
        self._api.mark(arn)
        return Applied(facts={**facts, "marked": arn})

    def _update(self, target: Target, arn: str) -> dict[str, Any]:
        live = self._api.get(arn)
        if live is None:
            gone, remedy = f"export {target.key.name} no longer exists", "The next run creates it again."
            raise Transient("export-vanished", gone, remedy, within_run=False)
        export, facts = self._definition(self._datasets[target.key.name], live["Export"])
        try:
            self._api.update(arn, export)
        except Permanent as error:
            if error.code != "ValidationException":
                raise
            # AWS does not document which changes of an existing export it accepts.
            what = f"AWS rejected the change of export {target.key.name}: {error.message}"
            manual_step = manual_steps.export_recreate(what, target.key.name, arn)
            raise Manual("export-update-refused", manual_step, error.message) from error
        return {**facts, "arn": arn}

    def _definition(self, dataset: Dataset, live: Mapping[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Return the whole export to write, with all columns that its table has today, and the facts to remember."""
        columns = self._api.columns(dataset.table, wanted_properties(live, dataset))
        facts = {"columns": list(columns), "columns_at": self._run.clock.now().isoformat()}
        return export_definition(dataset, columns, live, self._settings, self._account), facts

    def _columns(
        self, dataset: Dataset, export: Mapping[str, Any], facts: Mapping[str, Any]
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Return the table's columns, remembered ones for a day, and the facts to remember."""
        now = self._run.clock.now()
        remembered, at = facts.get("columns"), parse_time(facts.get("columns_at"))
        if isinstance(remembered, list) and at is not None and now - at < COLUMNS_FRESH:
            return tuple(str(column) for column in remembered), {}
        columns = self._api.columns(dataset.table, wanted_properties(export, dataset))
        return columns, {"columns": list(columns), "columns_at": now.isoformat()}


def _is_broken(action: Action) -> bool:
    seen = action.observation
    return isinstance(seen, Present) and seen.health is Health.BROKEN
