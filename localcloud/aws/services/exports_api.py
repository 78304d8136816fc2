"""The operations of BCM Data Exports, from parsed parameters to results in the shape of boto3."""

from __future__ import annotations

from typing import Any

from localcloud.aws.errors import AwsError, invalid
from localcloud.aws.iam.caller import Caller, Handler
from localcloud.aws.pages import page
from localcloud.aws.services.export_query import SERVICE, check_properties
from localcloud.aws.services.export_tables import Table
from localcloud.aws.services.exports import Execution, Export, Exports

_MAX_PAGE_SIZE = 300


class ExportsApi:
    """Maps operation names to handlers; `page_size` caps every page, even if the caller requests more."""

    def __init__(self, exports: Exports, page_size: int = _MAX_PAGE_SIZE) -> None:
        self._exports = exports
        self.page_size = min(page_size, _MAX_PAGE_SIZE)
        self.operations: dict[str, Handler] = {
            "CreateExport": self._create,
            "UpdateExport": self._update,
            "DeleteExport": self._delete,
            "GetExport": self._get,
            "ListExports": self._list,
            "ListExecutions": self._list_executions,
            "GetExecution": self._get_execution,
            "ListTables": self._list_tables,
            "GetTable": self._get_table,
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "ListTagsForResource": self._list_tags,
        }

    def _create(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        tags = {tag["Key"]: tag["Value"] for tag in params.get("ResourceTags", [])}
        return {"ExportArn": self._exports.create(caller.account, params["Export"], tags).arn}

    def _update(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        return {"ExportArn": self._exports.update(caller.account, params["ExportArn"], params["Export"]).arn}

    def _delete(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        self._exports.delete(caller.account, params["ExportArn"])
        return {"ExportArn": params["ExportArn"]}

    def _get(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        export = self._exports.find(caller.account, params["ExportArn"])
        return {"Export": export.read(), "ExportStatus": export.status()}

    def _list(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        exports, token = self._page(self._exports.of(caller.account), params)
        return _with_token({"Exports": [_reference(export) for export in exports]}, token)

    def _list_executions(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        export = self._exports.find(caller.account, params["ExportArn"])
        newest = sorted(export.executions, key=lambda execution: execution.created, reverse=True)
        executions, token = self._page(newest, params)
        listed = [{"ExecutionId": one.id, "ExecutionStatus": _execution_status(one)} for one in executions]
        return _with_token({"Executions": listed}, token)

    def _get_execution(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        export = self._exports.find(caller.account, params["ExportArn"])
        for one in export.executions:
            if one.id == params["ExecutionId"]:
                return {
                    "ExecutionId": one.id,
                    "Export": one.export,
                    "ExecutionStatus": _execution_status(one),
                }
        raise _missing(params["ExecutionId"], "EXECUTION")

    def _list_tables(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        tables, token = self._page(list(self._exports.tables().values()), params)
        return _with_token({"Tables": [_table(table) for table in tables]}, token)

    def _get_table(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        table = self._exports.tables().get(params["TableName"])
        if table is None:
            # GetTable's model has no not-found exception.
            raise invalid(SERVICE, f"The table {params['TableName']} does not exist.")
        chosen = dict(params.get("TableProperties", {}))
        check_properties(table, chosen)
        return {
            "TableName": table.name,
            "Description": table.description,
            "TableProperties": chosen,
            "Schema": [
                {"Name": name, "Type": table.kind(name), "Description": name.replace("_", " ")}
                for name in table.columns_with(chosen)
            ],
        }

    def _tag(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        export = self._exports.find(caller.account, params["ResourceArn"])
        export.tags |= {tag["Key"]: tag["Value"] for tag in params["ResourceTags"]}
        return {}

    def _untag(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        export = self._exports.find(caller.account, params["ResourceArn"])
        for key in params["ResourceTagKeys"]:
            export.tags.pop(key, None)
        return {}

    def _list_tags(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        tags = self._exports.find(caller.account, params["ResourceArn"]).tags
        shown, token = self._page([{"Key": key, "Value": tags[key]} for key in sorted(tags)], params)
        return _with_token({"ResourceTags": shown}, token)

    def _page(self, items: list[Any], params: dict[str, Any]) -> tuple[list[Any], str | None]:
        return page(SERVICE, items, params.get("NextToken"), params.get("MaxResults"), self.page_size)


def _with_token(result: dict[str, Any], token: str | None) -> dict[str, Any]:
    return result | {"NextToken": token} if token else result


def _missing(name: str, kind: str) -> AwsError:
    extra = {"ResourceId": name, "ResourceType": kind}
    return AwsError("ResourceNotFoundException", f"{kind.capitalize()} not found: {name}", 404, extra)


def _reference(export: Export) -> dict[str, Any]:
    return {"ExportArn": export.arn, "ExportName": export.name, "ExportStatus": export.status()}


def _execution_status(execution: Execution) -> dict[str, Any]:
    status: dict[str, Any] = {"StatusCode": execution.status, "CreatedAt": execution.created}
    if execution.reason:
        status["StatusReason"] = execution.reason
    if execution.completed:
        status |= {"CompletedAt": execution.completed, "LastUpdatedAt": execution.completed}
    return status


def _table(table: Table) -> dict[str, Any]:
    return {
        "TableName": table.name,
        "Description": table.description,
        "TableProperties": [
            {
                "Name": known.name,
                "ValidValues": list(known.values),
                "DefaultValue": known.default,
                "Description": known.description,
            }
            for known in table.properties
        ],
    }
