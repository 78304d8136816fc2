"""Writes that the local cloud does not support: 403 without the permission, as from Google, otherwise 501.

Permissions are those of https://cloud.google.com/iam/docs/permissions-reference.
"""

from __future__ import annotations

from collections.abc import Callable

from localcloud.gcp.context import Answer, Context, Handler
from localcloud.gcp.errors import unimplemented
from localcloud.gcp.platform.resources_api import name_of, owner_of

Place = Callable[[Context], str]


def _named(context: Context) -> str:
    return name_of(context)


def _owner(context: Context) -> str:
    return owner_of(name_of(context))


def _first(context: Context) -> str:
    return f"projects/{context.ids[0]}"


def _bucket(context: Context) -> str:
    return f"buckets/{context.ids[0]}"


def _table(context: Context) -> str:
    project, dataset, table = context.ids[:3]
    return f"projects/{project}/datasets/{dataset}/tables/{table}"


_POOLS = "iam.projects.locations.workloadIdentityPools"
# difference: GCP-19
_WRITES: dict[str, tuple[str, Place]] = {
    "bigquery.tabledata.insertAll": ("bigquery.tables.updateData", _table),
    "bigquery.tables.patch": ("bigquery.tables.update", _table),
    "cloudfunctions.projects.locations.functions.patch": ("cloudfunctions.functions.update", _owner),
    "compute.instances.delete": ("compute.instances.delete", _first),
    "compute.instances.stop": ("compute.instances.stop", _first),
    "iam.projects.serviceAccounts.keys.create": ("iam.serviceAccountKeys.create", _owner),
    "iam.projects.serviceAccounts.setIamPolicy": ("iam.serviceAccounts.setIamPolicy", _named),
    f"{_POOLS}.providers.patch": ("iam.googleapis.com/workloadIdentityPoolProviders.update", _owner),
    "monitoring.projects.timeSeries.create": ("monitoring.timeSeries.create", _owner),
    "serviceusage.services.disable": ("serviceusage.services.disable", _owner),
    "storage.buckets.setIamPolicy": ("storage.buckets.setIamPolicy", _bucket),
}


class UnsupportedWrites:
    """Checks the permission of each method above, then returns 501."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = dict.fromkeys(_WRITES, self._refuse)

    def _refuse(self, context: Context) -> Answer:
        permission, place = _WRITES[context.method]
        resource = place(context)
        context.need(permission, resource, f"Permission '{permission}' denied on resource '{resource}'.")
        raise unimplemented(context.method)
