"""The calls of BCM Data Exports that the function makes, each through the run's rate limit and retries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aws_lambda.clients import EXPORT_REGIONS, Clients
from aws_lambda.resources.export_definition import address_of, query_of
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import MANAGED_BY, MANAGER
from shared.errors import CloudError, NotFound
from shared.runtime.context import RunContext

if TYPE_CHECKING:
    from mypy_boto3_bcm_data_exports.type_defs import ResourceTagTypeDef

QUOTA = "bcm-data-exports"
OWNER_TAGS: list[ResourceTagTypeDef] = [{"Key": MANAGED_BY, "Value": MANAGER}]
READ_AT_MOST = 20  # exports of an account that are read to find those with the same data


class ExportsApi:
    """Reads and writes exports in the function's own account. Every method raises CloudError."""

    def __init__(self, settings: AwsSettings, account: str, clients: Clients, run: RunContext) -> None:
        self._partition = settings.partition
        self._account = account
        self._clients = clients
        self._run = run

    def get(self, arn: str) -> Mapping[str, Any] | None:
        """Return an export with its status as GetExport returns them; None if it does not exist."""
        try:
            return self._run.calls(QUOTA, self._clients.exports.get_export, ExportArn=arn)
        except NotFound:
            return None

    def find(self, name: str) -> str | None:
        """Return the ARN of the export with exactly this name; None if none is listed."""
        return next((str(one["ExportArn"]) for one in self._list() if one["ExportName"] == name), None)

    def of_table(self, table: str) -> list[str]:
        """Return names and destinations of the exports of a table, as far as they can be read; raises nothing."""
        same = []
        try:
            same += [f"{one['Name']} (to {address_of(one)})" for one in self.all() if query_of(one).table == table]
        except CloudError as error:
            same.append(f"others could not be read ({error.code})")
        return same

    def all(self) -> Iterator[Mapping[str, Any]]:
        """Yield the account's exports, at most READ_AT_MOST, each with its definition."""
        for one in list(self._list())[:READ_AT_MOST]:
            answer = self.get(str(one["ExportArn"]))
            if answer is not None:
                yield answer["Export"]

    def columns(self, table: str, properties: Mapping[str, str]) -> tuple[str, ...]:
        """Return the names of all columns that the table has with these properties."""
        answer = self._run.calls(
            QUOTA, self._clients.exports.get_table, TableName=table, TableProperties=dict(properties)
        )
        return tuple(str(column["Name"]) for column in answer["Schema"])

    def create(self, export: Any) -> str:
        """Create an export with the function's ownership tag; return its ARN."""
        create = self._clients.exports.create_export
        return str(self._run.calls(QUOTA, create, Export=export, ResourceTags=OWNER_TAGS)["ExportArn"])

    def update(self, arn: str, export: Any) -> None:
        """Replace the definition of an export."""
        self._run.calls(QUOTA, self._clients.exports.update_export, ExportArn=arn, Export=export)

    def mark(self, arn: str) -> None:
        """Add the function's ownership tag to an export."""
        self._run.calls(QUOTA, self._clients.exports.tag_resource, ResourceArn=arn, ResourceTags=OWNER_TAGS)

    def is_marked(self, arn: str) -> bool:
        """Return whether an export has the function's ownership tag."""
        token: dict[str, Any] = {}
        while True:
            page = self._run.calls(QUOTA, self._clients.exports.list_tags_for_resource, ResourceArn=arn, **token)
            if any(tag["Key"] == MANAGED_BY and tag["Value"] == MANAGER for tag in page.get("ResourceTags", [])):
                return True
            if not page.get("NextToken"):
                return False
            token = {"NextToken": page["NextToken"]}

    def is_own_arn(self, value: object) -> bool:
        """Return whether a remembered value has the form of an export's ARN in this account; makes no call."""
        home = EXPORT_REGIONS.get(self._partition)
        root = f"arn:{self._partition}:bcm-data-exports:{home}:{self._account}:export/"
        return isinstance(value, str) and re.fullmatch(re.escape(root) + r"[-\w/:]{1,200}", value, re.ASCII) is not None

    def _list(self) -> Iterator[Mapping[str, Any]]:
        token: dict[str, Any] = {}
        while True:
            page = self._run.calls(QUOTA, self._clients.exports.list_exports, MaxResults=300, **token)
            yield from page.get("Exports", [])
            if not page.get("NextToken"):
                return
            token = {"NextToken": page["NextToken"]}
