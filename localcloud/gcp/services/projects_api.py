"""Resource Manager and Service Usage: the methods on projects and their APIs."""

from __future__ import annotations

from typing import Any

from localcloud.gcp.context import Answer, Context, Handler, page
from localcloud.gcp.errors import GoogleError
from localcloud.gcp.services.projects import TITLES, Project

_DENIED = "The caller does not have permission"


class ProjectsApi:
    """The supported methods of Resource Manager and Service Usage."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {
            "cloudresourcemanager.projects.get": self._get,
            "cloudresourcemanager.projects.getAncestry": self._ancestry,
            "cloudresourcemanager.projects.getEffectiveOrgPolicy": self._constraint,
            "cloudresourcemanager.projects.getIamPolicy": self._policy,
            "cloudresourcemanager.projects.testIamPermissions": self._test,
            "cloudresourcemanager.organizations.getIamPolicy": self._organization_policy,
            "cloudresourcemanager.organizations.testIamPermissions": self._test_organization,
            "cloudbilling.projects.getBillingInfo": self._billing,
            "oauth2.userinfo.get": self._caller,
            "serviceusage.services.get": self._service,
            "serviceusage.services.list": self._services,
            "serviceusage.services.batchGet": self._batch,
            "serviceusage.services.enable": self._enable,
            "serviceusage.services.batchEnable": self._enable_all,
        }

    def _visible(self, context: Context, name: str) -> Project:
        project = context.world.projects.find(name, context.world.clock.now())
        # A missing project gets the same error as one that the caller may not view.
        context.need("resourcemanager.projects.get", f"projects/{project.id if project else name}", _DENIED)
        if project is None:
            raise GoogleError(403, "forbidden", _DENIED)
        return project

    def _get(self, context: Context) -> Answer:
        project = self._visible(context, context.ids[0])
        kind, _, number = project.parent.partition("/")
        created = project.created.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if context.request.path.startswith("/v1/"):
            return {
                "projectNumber": project.number,
                "projectId": project.id,
                "lifecycleState": project.state,
                "name": project.id,
                "createTime": created,
                "parent": {"type": kind.removesuffix("s"), "id": number},
            }
        document = {
            "name": f"projects/{project.number}",
            "parent": project.parent,
            "projectId": project.id,
            "state": project.state,
            "displayName": project.id,
            "createTime": created,
            "etag": f'W/"{project.number}-{project.state}"',
        }
        if project.deleted:
            document["deleteTime"] = project.deleted.strftime("%Y-%m-%dT%H:%M:%SZ")
        return document

    def _test(self, context: Context) -> Answer:
        return context.tested(f"projects/{context.ids[0]}")

    def _test_organization(self, context: Context) -> Answer:
        return context.tested(f"organizations/{context.ids[0]}")

    def _ancestry(self, context: Context) -> Answer:
        project = self._visible(context, context.ids[0])
        kind, _, number = project.parent.partition("/")
        chain = [{"resourceId": {"type": "project", "id": project.id}}]
        return {
            "ancestor": [*chain, *([{"resourceId": {"type": kind.removesuffix("s"), "id": number}}] if number else [])]
        }

    # difference: GCP-17
    def _policy(self, context: Context) -> Answer:
        project = self._visible(context, context.ids[0])
        context.need("resourcemanager.projects.getIamPolicy", f"projects/{project.id}", _DENIED)
        return context.world.iam.policy(f"projects/{project.id}")

    def _constraint(self, context: Context) -> Answer:
        """Return the effective policy of a constraint for the project; by default everything is allowed."""
        project = self._visible(context, context.ids[0])
        context.need("orgpolicy.policy.get", f"projects/{project.id}", _DENIED)
        name = str(context.body.get("constraint") or "")
        if not name.startswith("constraints/"):
            raise GoogleError(400, "badRequest", f"Invalid constraint: {name[:80]}")
        policy = context.world.policies.get(name.removeprefix("constraints/"), {"listPolicy": {"allValues": "ALLOW"}})
        return {"constraint": name, **policy}

    def _organization_policy(self, context: Context) -> Answer:
        name = f"organizations/{context.ids[0]}"
        context.need("resourcemanager.organizations.getIamPolicy", name, _DENIED)
        return context.world.iam.policy(name)

    def _billing(self, context: Context) -> Answer:
        project = self._visible(context, context.ids[0])
        document = {"name": f"projects/{project.id}/billingInfo", "projectId": project.id}
        if project.billing:
            document["billingAccountName"] = f"billingAccounts/{project.billing}"
        return document | {"billingEnabled": not context.world.unpaid(project.id)}

    def _caller(self, context: Context) -> Answer:
        return {"email": context.identity, "verified_email": True}

    def _project(self, context: Context, permission: str) -> Project:
        if context.ids[0] != "projects":
            raise GoogleError(400, "badRequest", f"Unknown parent {context.ids[0]}")
        project = context.world.projects.find(context.ids[1], context.world.clock.now())
        name = project.id if project else context.ids[1]
        message = f"Permission denied to get service [{name}]" if project else f"Project '{name}' not found or deleted."
        context.need(permission, f"projects/{name}", message)
        if project is None:
            raise GoogleError(403, "forbidden", message)
        return project

    def _service(self, context: Context) -> Answer:
        project = self._project(context, "serviceusage.services.get")
        return _service(project, context.ids[2])

    def _batch(self, context: Context) -> Answer:
        project = self._project(context, "serviceusage.services.get")
        names = context.request.query.get("names", [])
        if not 0 < len(names) <= 30:
            raise GoogleError(400, "badRequest", "A batch takes 1 to 30 names.")
        prefixes = (f"projects/{project.id}/services/", f"projects/{project.number}/services/")
        wrong = [name for name in names if not name.startswith(prefixes)]
        if wrong:
            raise GoogleError(400, "badRequest", f"Invalid service name: {wrong[0][:80]}")
        return {"services": [_service(project, name.rpartition("/")[2]) for name in names]}

    def _enable(self, context: Context) -> Answer:
        """Enable one service immediately and return a finished operation, as `gcloud services enable` expects it."""
        project = self._project(context, "serviceusage.services.enable")
        service = _service(project, context.ids[2])
        project.services.add(context.ids[2])
        return _finished({"service": service | {"state": "ENABLED"}})

    def _enable_all(self, context: Context) -> Answer:
        """Enable services immediately and return a finished operation."""
        project = self._project(context, "serviceusage.services.enable")
        names = [str(one) for one in context.body.get("serviceIds") or ()]
        if not 0 < len(names) <= 20:
            raise GoogleError(400, "badRequest", "A batch takes 1 to 20 names.")
        services = [_service(project, name) for name in names]
        project.services.update(names)
        return _finished({"services": [one | {"state": "ENABLED"} for one in services]})

    def _services(self, context: Context) -> Answer:
        project = self._project(context, "serviceusage.services.list")
        wanted = context.request.one("filter").replace(" ", "")
        if wanted not in ("", "state:ENABLED", "state:DISABLED"):
            raise GoogleError(400, "badRequest", f"Invalid filter: {wanted[:80]}")
        documents = [_service(project, name) for name in sorted(set(TITLES) | project.services)]
        shown = [document for document in documents if wanted in ("", f"state:{document['state']}")]
        size = min(int(context.request.one("pageSize") or 50) or 50, 200)
        items, token = page(shown, context.request.one("pageToken"), size, f"services|{wanted}")
        return {"services": list(items)} | ({"nextPageToken": token} if token else {})


def _finished(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an operation that is done, with the name that Google gives to one that needs no waiting."""
    return {"name": "operations/noop.DONE_OPERATION", "done": True, "response": answer}


def _service(project: Project, name: str) -> dict[str, Any]:
    if name not in TITLES and name not in project.services:
        raise GoogleError(403, "forbidden", f"Not found or permission denied for service(s): {name[:80]}.")
    return {
        "name": f"projects/{project.number}/services/{name}",
        "parent": f"projects/{project.number}",
        "config": {"name": name, "title": TITLES.get(name, name)},
        "state": "ENABLED" if name in project.services else "DISABLED",
    }
