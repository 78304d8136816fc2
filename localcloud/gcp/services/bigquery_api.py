"""BigQuery's REST API, version 2: datasets and tables. Jobs and their results are in `jobs_api`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from localcloud.common.http_server import Response
from localcloud.gcp.context import Answer, Context, Handler, page
from localcloud.gcp.errors import GoogleError, invalid, unimplemented
from localcloud.gcp.services.catalog import Dataset, canonical_location, default_access
from localcloud.gcp.services.jobs_api import JobsApi
from localcloud.gcp.state import World

_SETTABLE = (
    "description",
    "friendlyName",
    "labels",
    "defaultTableExpirationMs",
    "defaultPartitionExpirationMs",
    "defaultEncryptionConfiguration",
)
_IGNORED = (
    "datasetReference",
    "location",
    "access",
    "kind",
    "etag",
    "id",
    "selfLink",
    "creationTime",
    "lastModifiedTime",
    "type",
)
_FILTER = re.compile(r"labels\.([^:]+)(?::(.*))?")
_ENTRIES_RIGHT = "bigquery.datasets.getIamPolicy"


def _labels(expression: str) -> Callable[[Mapping[str, str]], bool]:
    """Return whether labels match a filter: ``labels.name`` or ``labels.name:value``, joined by spaces.

    Source: the parameter ``filter`` of https://cloud.google.com/bigquery/docs/reference/rest/v2/datasets/list.
    """
    wanted = [_FILTER.fullmatch(part) for part in expression.split()]
    if None in wanted:
        raise invalid("The filter is invalid. Expected labels.<name>[:<value>].")
    pairs = [one.groups() for one in wanted if one]
    return lambda labels: all(name in labels and value in (None, labels[name]) for name, value in pairs)


def denied(kind: str, name: str, permission: str) -> str:
    """Return BigQuery's error message for a missing permission."""
    return (
        f"Access Denied: {kind} {name}: Permission {permission} denied on {kind.lower()} {name} (or it may not exist)."
    )


class BigQueryApi:
    """The supported methods of ``bigquery.v2``."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.handlers: dict[str, Handler] = {
            "bigquery.datasets.insert": self._insert_dataset,
            "bigquery.datasets.get": self._get_dataset,
            "bigquery.datasets.list": self._list_datasets,
            "bigquery.datasets.patch": self._patch_dataset,
            "bigquery.datasets.delete": self._delete_dataset,
            "bigquery.tables.insert": self._insert_table,
            "bigquery.tables.get": self._get_table,
            "bigquery.tables.list": self._list_tables,
            "bigquery.tables.delete": self._delete_table,
            **JobsApi(world.jobs, world.behavior.page_size).handlers,
        }

    def _insert_dataset(self, context: Context) -> Answer:
        project, world = context.ids[0], context.world
        context.need(
            "bigquery.datasets.create",
            f"projects/{project}",
            f"Access Denied: Project {project}: User does not have bigquery.datasets.create permission in project "
            f"{project}.",
        )
        world.check_project(project)
        reference = context.body.get("datasetReference") or {}
        if not reference.get("datasetId"):
            raise invalid("Required parameter is missing: datasetReference.datasetId")
        _check_settable(context.body)
        now = world.clock.now()
        dataset = Dataset(
            project,
            str(reference["datasetId"]),
            canonical_location(str(context.body.get("location") or "US")),
            now,
            now,
            [*(context.body.get("access") or default_access(context.identity))],
            {name: context.body[name] for name in _SETTABLE if context.body.get(name) is not None},
        )
        made = world.catalog.add_dataset(dataset)
        # The creator of a dataset owns it (https://cloud.google.com/bigquery/docs/access-control-basic-roles).
        resource = f"projects/{project}/datasets/{dataset.id}"
        world.iam.grant(context.identity, "roles/bigquery.dataOwner", resource, at_once=True)
        return made.as_json(with_access=True)

    def _dataset(self, context: Context, permission: str) -> Dataset:
        project, name = context.ids[0], context.ids[1]
        context.need(
            permission, f"projects/{project}/datasets/{name}", denied("Dataset", f"{project}:{name}", permission)
        )
        context.world.check_project(project)
        return context.world.catalog.dataset(project, name)

    def _get_dataset(self, context: Context) -> Answer:
        dataset = self._dataset(context, "bigquery.datasets.get")
        view = context.request.one("datasetView")
        resource = f"projects/{dataset.project}/datasets/{dataset.id}"
        if view == "METADATA":
            return dataset.as_json(with_access=False)
        readable = context.may(_ENTRIES_RIGHT, resource)
        if not readable and view in ("ACL", "FULL"):
            raise GoogleError(403, "accessDenied", denied("Dataset", f"{dataset.project}:{dataset.id}", _ENTRIES_RIGHT))
        # Without the permission the entries are omitted, which differs from an empty list.
        return dataset.as_json(with_access=readable)

    def _list_datasets(self, context: Context) -> Answer:
        project = context.ids[0]
        context.world.check_project(project)
        wanted = context.request.one("filter")
        labels = _labels(wanted)
        found = [
            {
                "kind": "bigquery#dataset",
                "id": f"{project}:{dataset.id}",
                "datasetReference": {"datasetId": dataset.id, "projectId": project},
                "location": dataset.location,
                "type": "LINKED" if dataset.linked else "DEFAULT",
                **{name: dataset.extra[name] for name in ("friendlyName", "labels") if dataset.extra.get(name)},
            }
            for (owner, _), dataset in sorted(context.world.catalog.datasets.items())
            if owner == project
            and context.may("bigquery.datasets.get", f"projects/{project}/datasets/{dataset.id}")
            and labels(dataset.extra.get("labels") or {})
        ]
        listing = f"datasets|{project}|{wanted}"
        items, token = page(found, context.request.one("pageToken"), self._size(context), listing)
        answer: dict[str, Any] = {"kind": "bigquery#datasetList", "etag": str(len(found))}
        return answer | ({"datasets": list(items)} if items else {}) | ({"nextPageToken": token} if token else {})

    def _patch_dataset(self, context: Context) -> Answer:
        dataset = self._dataset(context, "bigquery.datasets.update")
        if context.request.headers.get("if-match", dataset.etag) not in (dataset.etag, "*"):
            raise GoogleError(412, "conditionNotMet", "Precondition check failed.")
        given = str(context.body.get("location") or dataset.location)
        if given.upper() != dataset.location.upper():
            raise invalid("Cannot change the location of an existing dataset.")
        _check_settable(context.body)
        if "access" in context.body:
            dataset.access = list(context.body["access"] or [])
        for name in _SETTABLE:
            if name in context.body and context.body[name] is None:
                dataset.extra.pop(name, None)
            elif name == "labels" and name in context.body:
                merged = dataset.extra.get(name, {}) | context.body[name]
                dataset.extra[name] = {key: value for key, value in merged.items() if value is not None}
            elif name in context.body:
                dataset.extra[name] = context.body[name]
        dataset.modified = context.world.clock.now()
        return dataset.as_json(with_access=True)

    def _delete_dataset(self, context: Context) -> Answer:
        dataset = self._dataset(context, "bigquery.datasets.delete")
        name = f"{dataset.project}:{dataset.id}"
        if dataset.tables and not context.request.flag("deleteContents"):
            raise GoogleError(400, "resourceInUse", f"Dataset {name} is still in use")
        for table in list(dataset.tables):
            context.world.catalog.drop_table(dataset, table)
        del context.world.catalog.datasets[(dataset.project, dataset.id)]
        context.world.iam.forget(f"projects/{dataset.project}/datasets/{dataset.id}")
        return Response(204)

    def _size(self, context: Context, default: int = 50) -> int:
        asked = int(context.request.one("maxResults") or 0)
        return min(asked or default, self._world.behavior.page_size)

    def _insert_table(self, context: Context) -> Answer:
        dataset = self._dataset(context, "bigquery.tables.create")
        body = context.body
        reference = body.get("tableReference") or {}
        partitioning = body.get("timePartitioning") or {}
        if body.get("view") or body.get("externalDataConfiguration") or body.get("rangePartitioning"):
            raise unimplemented("Anything but a plain table")
        if partitioning and (partitioning.get("type") != "DAY" or partitioning.get("field")):
            raise unimplemented("Partitions other than by the day of ingestion")
        fields = (body.get("schema") or {}).get("fields") or []
        now = context.world.clock.now()
        table = context.world.catalog.add_table(
            dataset, str(reference.get("tableId", "")), fields, now, partitioned=bool(partitioning)
        )
        table.description = str(body.get("description") or "")
        return context.world.catalog.table_json(dataset, table)

    def _get_table(self, context: Context) -> Answer:
        project, dataset_id, decorated = context.ids
        name, _, partition = decorated.partition("$")
        resource = f"projects/{project}/datasets/{dataset_id}/tables/{name}"
        permission = "bigquery.tables.get"
        context.need(permission, resource, denied("Table", f"{project}:{dataset_id}.{name}", permission))
        context.world.check_project(project)
        dataset = context.world.catalog.dataset(project, dataset_id)
        table = context.world.catalog.table(dataset, name)
        return context.world.catalog.table_json(dataset, table, partition)

    def _list_tables(self, context: Context) -> Answer:
        dataset = self._dataset(context, "bigquery.tables.list")
        found = [dataset.tables[name] for name in sorted(dataset.tables)]
        tables, token = page(
            found, context.request.one("pageToken"), self._size(context), f"tables|{dataset.project}|{dataset.id}"
        )
        answer: dict[str, Any] = {"kind": "bigquery#tableList", "etag": dataset.etag, "totalItems": len(found)}
        if tables:
            answer["tables"] = [context.world.catalog.item_json(dataset, table) for table in tables]
        return answer | ({"nextPageToken": token} if token else {})

    def _delete_table(self, context: Context) -> Answer:
        dataset = self._dataset(context, "bigquery.tables.delete")
        context.world.catalog.drop_table(dataset, context.ids[2])
        return Response(204)


def _check_settable(body: dict[str, Any]) -> None:
    """Raise GoogleError 501 for a nonempty dataset field that the local BigQuery does not store."""
    known = (*_SETTABLE, *_IGNORED)
    others = [name for name, value in body.items() if value not in (None, {}, []) and name not in known]
    if others:
        raise unimplemented(f"The dataset's field {others[0]}")
