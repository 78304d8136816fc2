"""Deployments of ARM templates: validation, what-if, and the deployment itself, with the caller's own rights.

A deployment makes the calls of its template through Resource Manager, as its caller. It is carried out while its PUT
is answered, in an order that its dependencies allow; what does not depend on a failed resource is still deployed, as
Azure does. Sources (Microsoft Learn): "ARM template deployment what-if operation", "Template deployment modes" and the
REST reference of Microsoft.Resources/deployments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from localcloud.azure.errors import ArmError
from localcloud.azure.state import World
from localcloud.azure.templates.expansion import NESTED, Expansion, Json, Place, Resource, expand
from localcloud.azure.templates.expressions import Unknown
from localcloud.azure.templates.functions import evaluate

API = "2022-09-01"
_PROVIDER = "/providers/Microsoft.Resources/deployments/"
# Deep enough for our templates; a template that deploys itself ends.
_DEEPEST = 8
# Sends a call as the caller of a deployment: method, path, API version, body → status and document.
Ask = Callable[[str, str, str, Json | None], tuple[int, Any]]


@dataclass(frozen=True)
class Denied:
    """A write that the caller may not make."""

    action: str
    scope: str


class Deployment:
    """One deployment of a template at a place, with the calls of its caller."""

    def __init__(
        self, world: World, place: Place, name: str, body: Mapping[str, Any], ask: Ask, depth: int = 0
    ) -> None:
        properties = body.get("properties")
        if not isinstance(properties, dict):
            raise ArmError(400, "InvalidRequestContent", "The request content has no properties.")
        self._world, self.place, self.name, self._ask, self._depth = world, place, name, ask, depth
        self.body, self.properties = body, properties
        if str(properties.get("mode", "")).lower() != "incremental":
            raise ArmError(501, "NotImplemented", "The local Azure deploys in the mode Incremental only.")
        self.expansion = self._expanded()

    @property
    def id(self) -> str:
        return f"{self.place.id}{_PROVIDER}{self.name}"

    def _expanded(self) -> Expansion:
        template = self.properties.get("template")
        if not isinstance(template, dict):
            raise ArmError(
                501, "NotImplemented", "The local Azure reads no linked template; send it as properties.template."
            )
        scope = (self.properties.get("expressionEvaluationOptions") or {}).get("scope", "")
        if self._depth and scope.lower() != "inner":
            raise ArmError(
                501, "NotImplemented", "The local Azure evaluates nested templates in their inner scope only."
            )
        return expand(template, self.properties.get("parameters") or {}, self.place)

    def nested(self, resource: Resource, body: Json) -> Deployment:
        """Return the deployment of an inner template."""
        if self._depth >= _DEEPEST:
            raise ArmError(400, "InvalidTemplate", f"The deployment '{resource.name}' is nested too deeply.")
        where = resource.place
        location = next(
            (
                at
                for (owner, group), at in self._world.resource_groups.items()
                if where.id.lower() == f"/subscriptions/{owner}/resourcegroups/{group}".lower()
            ),
            "",
        )
        place = Place(where.kind, where.id, where.tenant, location)
        return Deployment(self._world, place, str(resource.name), body, self._ask, self._depth + 1)

    def everything(self) -> Iterator[tuple[Resource, Json]]:
        """Yield every resource with its body, those of nested deployments too. Unknown values stay unknown."""
        for one in self.expansion.in_order():
            body = one.body()
            yield one, body
            if one.type.lower() == NESTED:
                yield from self.nested(one, body).everything()

    def denied(self, principal: str) -> Denied | None:
        """Return a write that the caller may not make, before any is made. Raises ArmError for a bad template."""
        for one, _ in self.everything():
            where = one.place.id if not one.known or "roleAssignments" in one.type else one.id
            action = f"{one.type}/write"
            if one.type.lower() == "microsoft.resources/resourcegroups":
                action = "Microsoft.Resources/subscriptions/resourceGroups/write"
            if where.startswith("[") or self._world.rights.allows(principal, action, where):
                continue
            return Denied(action, where)
        return None

    def run(self) -> Json:
        """Deploy and return the deployment's document, whose state is Succeeded or Failed."""
        operations: list[Json] = []
        lost: set[str] = set()
        for one in self.expansion.in_order():
            if one.after & lost:
                lost.add(one.id.lower())
                continue
            try:
                status, document = self._put(one)
            except ArmError as refusal:
                status, document = refusal.status, refusal.document()
            if status >= 300:
                lost.add(one.id.lower())
            operations.append(self._operation(one, status, document))
        error = _failure([one for one in operations if one["properties"]["provisioningState"] == "Failed"])
        outputs: Json = {}
        if error is None:
            try:
                outputs = self.expansion.answered(self._read)
            except ArmError as broken:
                error = {"code": "DeploymentOutputEvaluationFailed", "message": broken.message}
        return self._kept("Failed" if error else "Succeeded", operations, outputs, error)

    def _put(self, resource: Resource) -> tuple[int, Any]:
        body = resource.body(self._read)
        version = str(resource.raw.get("apiVersion", ""))
        if resource.type.lower() != NESTED:
            path = self._path(resource)
            return self._ask("PUT", path, version, body)
        made = self.nested(resource, body)
        status, document = made._ask("PUT", made.id, version, {**body, "location": body.get("location")})
        found = self._world.resources.get(made.id.lower())
        if status < 300 and found and found["properties"]["provisioningState"] == "Failed":
            return 409, {"error": found["properties"]["error"]}
        return status, document

    def _path(self, resource: Resource) -> str:
        if resource.known:
            return resource.id
        name = evaluate(resource.raw["name"], replace(resource.scope, reference=self._read))
        return resource.place.resource(resource.type, str(name))

    def _read(self, identifier: str, version: str, full: bool) -> Any:
        """Return a live resource for reference(): its properties, or all of it."""
        status, document = self._ask("GET", identifier, version or API, None)
        if status >= 300:
            raise ArmError(status, **(document or {}).get("error", {"code": "NotFound", "message": identifier}))
        return document if full else document.get("properties", {})

    def _operation(self, resource: Resource, status: int, document: Any) -> Json:
        failed = status >= 300
        return {
            "id": f"{self.id}/operations/{uuid4()}",
            "operationId": uuid4().hex.upper()[:16],
            "properties": {
                "provisioningOperation": "Create",
                "provisioningState": "Failed" if failed else "Succeeded",
                "timestamp": self._world.clock.now().isoformat(),
                "statusCode": {200: "OK", 201: "Created"}.get(status, str(status)),
                "statusMessage": document if failed else None,
                "targetResource": {
                    "id": resource.id,
                    "resourceType": resource.type,
                    "resourceName": resource.name if resource.known else "",
                },
            },
        }

    def _kept(self, state: str, operations: list[Json], outputs: Json, error: Json | None) -> Json:
        document: Json = {
            "id": self.id,
            "name": self.name,
            "type": "Microsoft.Resources/deployments",
            **({"location": self.body["location"]} if self.body.get("location") else {}),
            "tags": self.body.get("tags") or {},
            "properties": {
                "mode": "Incremental",
                "provisioningState": state,
                "timestamp": self._world.clock.now().isoformat(),
                "correlationId": str(uuid4()),
                "parameters": {
                    name: {"type": type(value).__name__, "value": value}
                    for name, value in self.expansion.parameters.items()
                },
                "outputs": outputs,
                "outputResources": [
                    {"id": one["properties"]["targetResource"]["id"]}
                    for one in operations
                    if one["properties"]["provisioningState"] == "Succeeded"
                ],
                **({"error": error} if error else {}),
            },
        }
        self._world.resources[self.id.lower()] = document
        self._world.operations[self.id.lower()] = operations
        return document

    def changes(self) -> list[Json]:
        """Return what a deployment would change: one entry a resource, with its state before and after."""
        return [self._change(one, body) for one, body in self.everything() if one.type.lower() != NESTED]

    def _change(self, resource: Resource, body: Json) -> Json:
        after = {"type": resource.type, "name": resource.name if resource.known else None, **_known(body)}
        found = {"resourceId": resource.id, "after": after}
        if not resource.known:
            reason = "Changes to the resource declared at this place cannot be analyzed because its name is not known."
            return {**found, "changeType": "Unsupported", "unsupportedReason": reason}
        status, before = self._ask("GET", resource.id, str(resource.raw.get("apiVersion", API)), None)
        if status == 404:
            return {**found, "changeType": "Create"}
        if status == 405:
            return {**found, "changeType": "Deploy"}
        if status >= 300:
            raise ArmError(status, **before["error"])
        delta = list(
            _differences(before, {name: value for name, value in after.items() if name not in ("type", "name")})
        )
        return {**found, "before": before, "delta": delta, "changeType": "Modify" if delta else "NoChange"}


def _failure(failed: list[Json]) -> Json | None:
    if not failed:
        return None
    details = []
    for one in failed:
        properties = one["properties"]
        said = (properties["statusMessage"] or {}).get("error") or {"code": "Failed", "message": ""}
        details.append({**said, "target": properties["targetResource"]["id"]})
    return {
        "code": "DeploymentFailed",
        "message": "At least one resource deployment operation failed. Please list deployment operations for details. "
        "Please see https://aka.ms/arm-deployment-operations for usage details.",
        "details": details,
    }


def _known(value: Any) -> Any:
    """Return a value with each unknown part as the expression that asks for it."""
    if isinstance(value, Unknown):
        return f"[{value.text}]"
    if isinstance(value, list):
        return [_known(one) for one in value]
    return {name: _known(one) for name, one in value.items()} if isinstance(value, dict) else value


def _differences(before: Any, after: Any, path: str = "") -> Iterator[Json]:
    """Yield each property that the template sets otherwise; what it does not set is left alone."""
    if isinstance(after, str) and after.startswith("[") and after.endswith("]"):
        return  # known only while it is deployed
    if isinstance(after, dict) and isinstance(before, dict):
        held = {name.lower(): value for name, value in before.items()}
        for name, value in after.items():
            if value is not None:
                yield from _differences(held.get(name.lower()), value, f"{path}.{name}".lstrip("."))
        return
    same = before == after or (isinstance(before, str) and isinstance(after, str) and before.lower() == after.lower())
    if not same and not (before is None and after in ([], {}, False)):
        kind = "Create" if before is None else "Modify"
        yield {"path": path, "propertyChangeType": kind, "before": before, "after": after}
