"""The exports: read by their remembered ARN, created with every column, and never taken from another owner.

The module is long because observing, adopting and repairing an export share its definition and normal form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import msgspec

from aws_lambda import manual_steps
from aws_lambda.clients import EXPORT_REGIONS, Clients
from aws_lambda.errors import BUCKET_PERMISSION, COLUMNS, DUPLICATE_NAME, QUOTA, observed
from aws_lambda.resources.bucket import Bucket
from aws_lambda.resources.deliveries import Delivered
from aws_lambda.resources.export_health import Judge, Sight
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import ALL_COLUMNS, BY_NAME, MANAGED_BY, MANAGER, OUTPUT, Dataset
from shared.errors import CloudError, Manual, NotFound, Permanent, Transient
from shared.model import (
    Absent,
    Action,
    EscalationPolicy,
    Health,
    Observation,
    Ownership,
    Present,
    Target,
    Unknown,
    Verb,
)
from shared.parsing import parse_time
from shared.provider import Applied
from shared.runtime.context import RunContext
from shared.target_state import TargetState

SERVICE = "bcm-data-exports"
COLUMNS_FRESH = timedelta(hours=24)
LISTED_FOR_QUOTA = 20  # exports read to find one that would do, when the quota leaves no room for another
SELECT = re.compile(r"\s*SELECT\s+(?P<columns>.+?)\s+FROM\s+(?P<table>\w+)\s*(?P<rest>.*?)\s*;?\s*", re.I | re.S)


class Query(msgspec.Struct, frozen=True):
    """What a query asks for: plain column names, the table, and whatever comes after it (a filter)."""

    columns: tuple[str, ...]
    table: str
    rest: str = ""


class Exports:
    """Observes and applies the export targets."""

    def __init__(self, settings: AwsSettings, account: str, clients: Clients, run: RunContext, bucket: Bucket) -> None:
        self._settings = settings
        self._account = account
        self._clients = clients
        self._run = run
        self._bucket = bucket
        self._judge = Judge(clients, run, bucket)
        # What was delivered, by the export's name, or why it could not be listed.
        self.delivered: dict[str, Delivered] = {}
        self.unread: dict[str, CloudError] = {}

    def observe(self, target: Target) -> Observation:
        """Look at one export: one call in the normal case, a listing where its ARN is not known or no longer there."""
        entry = target.state
        facts = entry.facts if entry else {}
        name = target.key.name
        try:
            proof: tuple[str, ...] = ("list",)
            answer = None
            if self._is_possible(facts.get("arn")):
                answer = self._get(str(facts["arn"]))
                proof = ("list", "get")
                # Memory may have been tampered with: an ARN that leads to another export is no ARN of ours.
                if answer is not None and answer["Export"]["Name"] != name:
                    answer, proof = None, ("list",)
            if answer is None:
                arn = self._find(name)
                if arn is None:
                    return Absent(proof, f"no export is named {name}")
                answer = self._get(arn)
                if answer is None:
                    return Unknown(
                        "listed-not-found",
                        f"export {name} is listed, but could not be read by its ARN",
                        remedy="Nothing on the first day: lists lag behind. If it lasts, open the export on the Data "
                        "Exports page; if it does not open there either, delete it, and the next run creates it.",
                    )
            return self._present(target, answer, facts, entry)
        except CloudError as error:
            return observed(error, f"export {name}")

    def apply(self, action: Action) -> Applied:
        """Create, repair or adopt one export. Raises CloudError."""
        entry = action.target.state
        failed_before = bool(entry and entry.error and entry.error.code == BUCKET_PERMISSION)
        if failed_before or _is_broken(action):
            # What was put earlier may have been changed or lost since: the own statement is put once more.
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
                known = entry.facts if entry else {}
                facts["repairs"] = [*self._judge.repairs(known), self._run.clock.now().isoformat()]
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
        self, target: Target, answer: Mapping[str, Any], facts: Mapping[str, Any], entry: TargetState | None = None
    ) -> Observation:
        dataset, export = BY_NAME[target.key.name], answer["Export"]
        arn = str(export.get("ExportArn") or facts.get("arn", ""))
        query = parse_query(str(export["DataQuery"]["QueryStatement"]))
        table, found = self._columns(dataset, facts, _properties(export, dataset.table))
        if not found and not set(table) <= set(query.columns):
            # Only the table itself says that a column is missing: memory may be damaged.
            table, found = self._columns(dataset, {}, _properties(export, dataset.table))
        actual = self._actual(dataset, export, query, table)
        ours = facts.get("marked") == arn or self._is_marked(arn)
        known: dict[str, Any] = {"arn": arn, **found} | ({"marked": arn} if ours else {})
        same = all(actual[field] == target.desired[field] for field in ("table", "bucket", "bucket-owner", "prefix"))
        if not ours and not same:
            where = f"s3://{actual['bucket']}/{actual['prefix']}"
            return Present(
                actual,
                ownership=Ownership.FOREIGN,
                code="export-foreign",
                manual_step=manual_steps.export_foreign(target.key.name, where),
                facts=known,
            )
        if actual["table"] != dataset.table:
            what = (
                f"the export {target.key.name} reads table {actual['table'] or '(unreadable)'}, which cannot be changed"
            )
            manual_step = manual_steps.export_recreate(what, target.key.name, arn)
            return Present(actual, Health.MANUAL, code="table-differs", manual_step=manual_step, facts=known)
        sight = Sight(target.key.name, arn, answer.get("ExportStatus", {}), dataset, facts, entry)
        judged = self._judge.health(sight, self.delivered.get(target.key.name))
        drifted = [field for field, value in target.desired.items() if actual[field] != value]
        if ours:
            judged = self._judge.despite_health(sight, judged, drifted, self.unread.get(target.key.name))
        return msgspec.structs.replace(
            judged,
            actual=actual,
            ownership=Ownership.OURS if ours else Ownership.UNMARKED,
            facts={**known, **judged.facts},
        )

    def _actual(
        self, dataset: Dataset, export: Mapping[str, Any], query: Query, table: tuple[str, ...]
    ) -> dict[str, Any]:
        """Return the managed fields in the form of `Target.desired`; what the service adds is not among them."""
        bucket = export["DestinationConfigurations"]["S3Destination"]
        output = bucket["S3OutputConfigurations"]
        missing = [column for column in table if column not in query.columns]
        properties = _properties(export, dataset.table)
        return {
            "table": query.table,
            "columns": f"missing: {', '.join(missing)}" if missing else ALL_COLUMNS,
            "filter": query.rest,
            "properties": {name: properties.get(name, "") for name in dataset.properties},
            "bucket": bucket["S3Bucket"],
            # Exports made before buckets of other accounts were allowed do not name an owner: it is their own account.
            "bucket-owner": bucket.get("S3BucketOwner") or self._account,
            "prefix": str(bucket["S3Prefix"]).strip("/"),
            "region": bucket["S3Region"],
            "output": " ".join(str(output.get(name)) for name in ("OutputType", "Format", "Compression", "Overwrite")),
        }

    def _create(self, target: Target) -> Applied:
        dataset = BY_NAME[target.key.name]
        for attempt in (1, 2):
            export, facts = self._definition(dataset, None)
            try:
                answer = self._run.calls(
                    SERVICE,
                    self._clients.exports.create_export,
                    Export=export,
                    ResourceTags=[{"Key": MANAGED_BY, "Value": MANAGER}],
                )
            except Permanent as error:
                if error.code == DUPLICATE_NAME:
                    return self._taken(target, error)
                if error.code == QUOTA:
                    manual_step = manual_steps.export_quota(dataset.name, dataset.table, self._of_table(dataset.table))
                    raise Manual("export-quota", manual_step, error.message) from error
                # The table may have changed between being asked and being named: asked once more.
                if error.code != COLUMNS or attempt == 2:
                    raise
                continue
            arn = answer["ExportArn"]
            return Applied(facts={**facts, "arn": arn, "marked": arn})
        raise AssertionError("unreachable: the second attempt returns or raises")

    def _taken(self, target: Target, error: Permanent) -> Applied:
        """The name exists although it was not listed: look whose it is, adopt it or report it."""
        arn = self._find(target.key.name)
        answer = self._get(arn) if arn else None
        if arn is None or answer is None:
            raise Transient(
                "name-taken-unseen",
                f"{error.message}, but no export of that name is listed yet",
                "The next runs look again; then the report says what to do.",
                escalation=EscalationPolicy(tries=5),
                manual_step=manual_steps.name_taken(target.key.name, error.message),
            ) from error
        seen = self._present(target, answer, {})
        if not isinstance(seen, Present):
            raise Transient(
                "name-taken-unseen", "the export that has the name could not be read", "The next runs look again."
            ) from error
        if seen.manual_step and (seen.ownership is Ownership.FOREIGN or seen.code == "table-differs"):
            raise Manual(seen.code, seen.manual_step) from error
        return self._adopt(target, arn, any(seen.actual[field] != value for field, value in target.desired.items()))

    def _adopt(self, target: Target, arn: str, repair: bool) -> Applied:
        """Repair what differs, then mark: an export is ours only once it is as it should be."""
        facts = self._update(target, arn) if repair else {"arn": arn}
        self._run.calls(
            SERVICE,
            self._clients.exports.tag_resource,
            ResourceArn=arn,
            ResourceTags=[{"Key": MANAGED_BY, "Value": MANAGER}],
        )
        return Applied(facts={**facts, "marked": arn})

    def _update(self, target: Target, arn: str) -> dict[str, Any]:
        live = self._get(arn)
        if live is None:
            gone, remedy = f"export {target.key.name} is no longer there", "The next run creates it again."
            raise Transient("export-vanished", gone, remedy, within_run=False)
        export, facts = self._definition(BY_NAME[target.key.name], live["Export"])
        try:
            self._run.calls(SERVICE, self._clients.exports.update_export, ExportArn=arn, Export=export)
        except Permanent as error:
            if error.code != "ValidationException":
                raise
            # Whether an existing export takes other table configurations is for AWS to say.
            what = f"AWS refuses to change the export {target.key.name}: {error.message}"
            manual_step = manual_steps.export_recreate(what, target.key.name, arn)
            raise Manual("export-update-refused", manual_step, error.message) from error
        return {**facts, "arn": arn}

    def _definition(self, dataset: Dataset, live: Mapping[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Return the whole export as it is to be, keeping further columns and properties of the live one, and facts."""
        properties = {**(_properties(live, dataset.table) if live else {}), **dataset.properties}
        # The service adds these keys to its answers, and refuses an empty one that is sent back.
        properties = {name: value for name, value in properties.items() if value}
        columns = self._ask_columns(dataset, properties)
        facts = {"columns": list(columns), "columns_at": self._run.clock.now().isoformat()}
        statement = f"SELECT {', '.join(columns)} FROM {dataset.table}"  # noqa: S608 - AWS's own names, no database
        export: dict[str, Any] = {
            "Name": dataset.name,
            "Description": (live or {}).get("Description") or "Cost data for Tailpipe, kept by tailpipe-exports",
            "DataQuery": {
                "QueryStatement": statement,
                "TableConfigurations": {dataset.table: properties},
            },
            "DestinationConfigurations": {"S3Destination": self._s3_destination()},
            "RefreshCadence": {"Frequency": "SYNCHRONOUS"},
        }
        if not properties:
            del export["DataQuery"]["TableConfigurations"]
        return export, facts

    def _s3_destination(self) -> dict[str, Any]:
        output = dict(zip(("OutputType", "Format", "Compression", "Overwrite"), OUTPUT.split(), strict=True))
        return {
            "S3Bucket": self._settings.bucket_of(self._account),
            "S3BucketOwner": self._account,
            "S3Prefix": self._settings.prefix,
            "S3Region": self._settings.bucket_region,
            "S3OutputConfigurations": output,
        }

    def _columns(
        self, dataset: Dataset, facts: Mapping[str, Any], properties: Mapping[str, str]
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Return the table's columns, remembered ones for a day, and the facts to remember."""
        now = self._run.clock.now()
        remembered, at = facts.get("columns"), parse_time(facts.get("columns_at"))
        if isinstance(remembered, list) and at is not None and now - at < COLUMNS_FRESH:
            return tuple(str(column) for column in remembered), {}
        chosen = {name: value for name, value in properties.items() if value} | dict(dataset.properties)
        columns = self._ask_columns(dataset, chosen)
        return columns, {"columns": list(columns), "columns_at": now.isoformat()}

    def _ask_columns(self, dataset: Dataset, properties: Mapping[str, str]) -> tuple[str, ...]:
        answer = self._run.calls(
            SERVICE, self._clients.exports.get_table, TableName=dataset.table, TableProperties=dict(properties)
        )
        return tuple(str(column["Name"]) for column in answer["Schema"])

    def _get(self, arn: str) -> Mapping[str, Any] | None:
        try:
            return self._run.calls(SERVICE, self._clients.exports.get_export, ExportArn=arn)
        except NotFound:
            return None

    def _is_possible(self, arn: object) -> bool:
        """Return whether what memory holds has the form of an export's ARN in this account."""
        home = EXPORT_REGIONS.get(self._settings.partition)
        root = f"arn:{self._settings.partition}:{SERVICE}:{home}:{self._account}:export/"
        return isinstance(arn, str) and re.fullmatch(re.escape(root) + r"[-\w/:]{1,200}", arn, re.ASCII) is not None

    def _find(self, name: str) -> str | None:
        """Return the ARN of the export of exactly that name."""
        return next((str(one["ExportArn"]) for one in self._list() if one["ExportName"] == name), None)

    def _list(self) -> Iterator[Mapping[str, Any]]:
        token: dict[str, Any] = {}
        while True:
            page = self._run.calls(SERVICE, self._clients.exports.list_exports, MaxResults=300, **token)
            yield from page.get("Exports", [])
            if not page.get("NextToken"):
                return
            token = {"NextToken": page["NextToken"]}

    def _is_marked(self, arn: str) -> bool:
        token: dict[str, Any] = {}
        while True:
            page = self._run.calls(SERVICE, self._clients.exports.list_tags_for_resource, ResourceArn=arn, **token)
            if any(tag["Key"] == MANAGED_BY and tag["Value"] == MANAGER for tag in page.get("ResourceTags", [])):
                return True
            if not page.get("NextToken"):
                return False
            token = {"NextToken": page["NextToken"]}

    def _of_table(self, table: str) -> list[str]:
        """Return names and destinations of the exports of a table, as far as they can be read."""
        same = []
        try:
            for one in list(self._list())[:LISTED_FOR_QUOTA]:
                answer = self._get(str(one["ExportArn"]))
                export = answer["Export"] if answer else None
                if export and parse_query(str(export["DataQuery"]["QueryStatement"])).table == table:
                    bucket = export["DestinationConfigurations"]["S3Destination"]
                    same.append(f"{one['ExportName']} (to s3://{bucket['S3Bucket']}/{bucket['S3Prefix']})")
        except CloudError as error:
            same.append(f"others could not be read ({error.code})")
        return same


def _is_broken(action: Action) -> bool:
    seen = action.observation
    return isinstance(seen, Present) and seen.health is Health.BROKEN


def parse_query(statement: str) -> Query:
    """Return what a statement asks for; one that is not understood asks for nothing."""
    match = SELECT.fullmatch(statement)
    if match is None:
        return Query((), "")
    return Query(tuple(part.strip() for part in match["columns"].split(",")), match["table"], match["rest"])


def _properties(export: Mapping[str, Any], table: str) -> dict[str, str]:
    return dict(export["DataQuery"].get("TableConfigurations", {}).get(table, {}))
