"""Resource Manager's operations on deployments, at resource groups, subscriptions and management groups."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from localcloud.azure.errors import ArmError, not_found
from localcloud.azure.services.directory import check_writable
from localcloud.azure.state import World
from localcloud.azure.templates.deployments import Ask, Deployment
from localcloud.azure.templates.expansion import Json, Place
from localcloud.azure.wire import Answer, Request

_NAME = re.compile(r"[\w().-]{1,64}")
PLACE = (
    "(/subscriptions/[^/]+|/subscriptions/[^/]+/resourceGroups/[^/]+|"
    "/providers/Microsoft.Management/managementGroups/[^/]+)"
)


# difference: AZURE-24
class DeploymentsApi:
    """Deployments. Call with the world's lock held; every method raises ArmError.

    `send` answers a call as Resource Manager does, for the caller of the request that it is given.
    """

    def __init__(self, world: World, send: Callable[[Request], Answer]) -> None:
        self._world = world
        self._send = send

    def put(self, request: Request) -> Answer:
        """Deploy a template. The answer does not say how it ended: GET does."""
        deployment = self._deployment(request)
        self._refuse_other_location(deployment)
        denied = deployment.denied(request.caller.principal)
        if denied:
            raise _denied(request.caller.principal, denied.action, denied.scope)
        new = deployment.id.lower() not in self._world.resources
        document = deployment.run()
        accepted = {**document, "properties": {**document["properties"], "provisioningState": "Accepted"}}
        for part in ("outputs", "error", "outputResources"):
            accepted["properties"].pop(part, None)
        return Answer(accepted, 201 if new else 200)

    def get(self, request: Request) -> Answer:
        return Answer(self._found(request))

    def list(self, request: Request) -> Answer:
        """Return the deployments at a scope."""
        below = f"{self._place(request.path_args[0]).id}/providers/Microsoft.Resources/deployments/".lower()
        return Answer({"value": [one for name, one in self._world.resources.items() if name.startswith(below)]})

    def delete(self, request: Request) -> Answer:
        """Delete the record of a deployment; what it deployed stays."""
        where = _id(request)
        self._world.operations.pop(where.lower(), None)
        return Answer(status=202 if self._world.resources.pop(where.lower(), None) else 204)

    def operations(self, request: Request) -> Answer:
        self._found(request)
        return Answer({"value": self._world.operations.get(_id(request).lower(), [])})

    def export(self, request: Request) -> Answer:
        """Return the template of a deployment. The local Azure keeps none of resources that it was opened with."""
        found = self._found(request)
        raise ArmError(501, "NotImplemented", f"The local Azure keeps no template of the deployment '{found['name']}'.")

    def validate(self, request: Request) -> Answer:
        """Check a template and the caller's rights, and deploy nothing."""
        try:
            deployment = self._deployment(request)
            self._refuse_other_location(deployment)
            denied = deployment.denied(request.caller.principal)
            if denied:
                raise _denied(request.caller.principal, denied.action, denied.scope)
        except ArmError as error:
            if error.status == 501:
                raise
            return Answer(error.document(), 400)
        return Answer({"id": deployment.id, "name": deployment.name, "properties": {"provisioningState": "Succeeded"}})

    def what_if(self, request: Request) -> Answer:
        """Return what a deployment would change."""
        deployment = self._deployment(request)
        denied = deployment.denied(request.caller.principal)
        if denied:
            raise _denied(request.caller.principal, denied.action, denied.scope)
        return Answer({"status": "Succeeded", "properties": {"changes": deployment.changes()}})

    def _found(self, request: Request) -> Json:
        found = self._world.resources.get(_id(request).lower())
        if found is None:
            raise not_found("DeploymentNotFound", f"Deployment '{request.path_args[1]}' could not be found.")
        return found

    def _deployment(self, request: Request) -> Deployment:
        place, name = self._place(request.path_args[0]), request.path_args[1]
        if not _NAME.fullmatch(name):
            raise ArmError(400, "InvalidDeploymentName", f"The deployment name '{name}' is invalid.")
        body = request.json()
        if place.kind != "resourceGroup" and not body.get("location"):
            raise ArmError(400, "LocationRequired", "The location property is required for this deployment.")
        # An inner template of a deployment comes from the deployment that holds it, and says so.
        inner = (body.get("properties") or {}).get("expressionEvaluationOptions")
        return Deployment(self._world, place, name, body, self._ask(request), depth=1 if inner else 0)

    def _place(self, path: str) -> Place:
        parts = path.split("/")
        if parts[1].lower() == "providers":
            group = next(
                (one.id for one in self._world.directory.groups.values() if one.id.lower() == parts[4].lower()), ""
            )
            if not group:
                raise not_found("NotFound", f"The management group '{parts[4]}' cannot be found.")
            return Place(
                "managementGroup", f"/providers/Microsoft.Management/managementGroups/{group}", self._world.tenant
            )
        owner = self._world.directory.get(parts[2])
        check_writable(owner)
        if len(parts) < 5:
            return Place("subscription", f"/subscriptions/{owner.id}", self._world.tenant)
        for (subscription, group), location in self._world.resource_groups.items():
            if subscription == owner.id and group.lower() == parts[4].lower():
                where = f"/subscriptions/{owner.id}/resourceGroups/{group}"
                return Place("resourceGroup", where, self._world.tenant, location)
        raise not_found("ResourceGroupNotFound", f"Resource group '{parts[4]}' could not be found.")

    def _refuse_other_location(self, deployment: Deployment) -> None:
        found = self._world.resources.get(deployment.id.lower())
        wanted = str(deployment.body.get("location") or "")
        if found and wanted and str(found.get("location", wanted)).lower() != wanted.lower():
            raise ArmError(
                409,
                "InvalidDeploymentLocation",
                f"Invalid deployment location '{wanted}'. The deployment '{deployment.name}' already exists in "
                f"location '{found['location']}'.",
            )

    def _ask(self, request: Request) -> Ask:
        """Return what sends a call as the caller of a request."""

        def ask(method: str, path: str, version: str, body: Json | None) -> tuple[int, Any]:
            sent = Request(
                method,
                path,
                {"api-version": version},
                {name: value for name, value in request.headers.items() if name in ("authorization", "content-type")},
                b"" if body is None else msgspec.json.encode(body),
                request.base_url,
                within=True,
            )
            answer = self._send(sent)
            return answer.status, answer.document

        return ask


def _id(request: Request) -> str:
    return f"{request.path_args[0]}/providers/Microsoft.Resources/deployments/{request.path_args[1]}"


def _denied(principal: str, action: str, scope: str) -> ArmError:
    """Return the error of a deployment whose caller lacks a right: found before anything is deployed."""
    return ArmError(
        403,
        "InvalidTemplateDeployment",
        "Deployment failed with multiple errors: 'Authorization failed for template resource of type "
        f"'{action.removesuffix('/write')}'. The client '{principal}' with object id '{principal}' does not have "
        f"permission to perform action '{action}' at scope '{scope}'.'",
    )
