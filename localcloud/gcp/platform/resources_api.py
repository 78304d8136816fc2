"""The methods that read the resources around the data, and the permission that each requires."""

from __future__ import annotations

from urllib.parse import unquote

from localcloud.gcp.context import Answer, Context, Handler, page

_PAGE = 100
_ACCOUNTS = ".iam.gserviceaccount.com"
_POOLS = "iam.projects.locations.workloadIdentityPools"
# The methods that read one resource, and the permission that each requires on the project
# (https://cloud.google.com/iam/docs/permissions-reference).
_GET = {
    "artifactregistry.projects.locations.repositories.get": "artifactregistry.repositories.get",
    f"{_POOLS}.get": "iam.googleapis.com/workloadIdentityPools.get",
    f"{_POOLS}.providers.get": "iam.googleapis.com/workloadIdentityPoolProviders.get",
    "iam.projects.roles.get": "iam.roles.get",
    "iam.projects.serviceAccounts.get": "iam.serviceAccounts.get",
    "logging.projects.locations.buckets.get": "logging.buckets.get",
    "logging.projects.metrics.get": "logging.logMetrics.get",
    "logging.projects.sinks.get": "logging.sinks.get",
    "run.projects.locations.services.get": "run.services.get",
}
# The methods that list a collection: permission and response key.
_LIST = {
    "cloudfunctions.projects.locations.functions.list": ("cloudfunctions.functions.list", "functions"),
    "cloudscheduler.projects.locations.jobs.list": ("cloudscheduler.jobs.list", "jobs"),
    "iam.projects.serviceAccounts.keys.list": ("iam.serviceAccountKeys.list", "keys"),
    "iam.projects.serviceAccounts.list": ("iam.serviceAccounts.list", "accounts"),
    "monitoring.projects.alertPolicies.list": ("monitoring.alertPolicies.list", "alertPolicies"),
    "monitoring.projects.dashboards.list": ("monitoring.dashboards.list", "dashboards"),
    "monitoring.projects.notificationChannels.list": (
        "monitoring.notificationChannels.list",
        "notificationChannels",
    ),
}
_POLICIES = {
    "iam.projects.serviceAccounts.getIamPolicy": "iam.serviceAccounts.getIamPolicy",
    "run.projects.locations.services.getIamPolicy": "run.services.getIamPolicy",
}


def name_of(context: Context) -> str:
    """Return the full name of a request's resource: the path without the version and the custom verb.

    With ``-`` for its project, a service account is found by the project in its address.
    """
    name = unquote(context.request.path).split("/", 2)[2].partition(":")[0]
    host = name.partition("@")[2]
    project = host.partition(".")[0] if host.endswith(_ACCOUNTS) else context.world.project
    return name.replace("/-/serviceAccounts/", f"/{project}/serviceAccounts/")


def owner_of(name: str) -> str:
    """Return the project part of a full name."""
    return "/".join(name.split("/")[:2])


class ResourcesApi:
    """Reads one resource, a collection, or a policy."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {
            **dict.fromkeys(_GET, self._get),
            **dict.fromkeys(_LIST, self._list),
            **dict.fromkeys(_POLICIES, self._policy),
        }

    def _get(self, context: Context) -> Answer:
        name = name_of(context)
        context.need(_GET[context.method], owner_of(name), _denied(_GET[context.method], name))
        return context.world.platform.find(name)

    def _list(self, context: Context) -> Answer:
        permission, key = _LIST[context.method]
        name = name_of(context)
        context.need(permission, owner_of(name), _denied(permission, name))
        if key == "keys":
            context.world.platform.find(name.removesuffix("/keys"))
            return {key: found} if (found := context.world.platform.below(name)) else {}
        size = min(int(context.request.one("pageSize") or _PAGE) or _PAGE, _PAGE)
        items, token = page(context.world.platform.below(name), context.request.one("pageToken"), size, name)
        return ({key: list(items)} if items else {}) | ({"nextPageToken": token} if token else {})

    def _policy(self, context: Context) -> Answer:
        name = name_of(context)
        permission = _POLICIES[context.method]
        context.need(permission, owner_of(name), _denied(permission, name))
        context.world.platform.find(name)
        return context.world.iam.policy(name)


def _denied(permission: str, name: str) -> str:
    return f"Permission '{permission}' denied on resource '//{name}' (or it may not exist)."
