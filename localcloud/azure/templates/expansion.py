"""What a template asks for: its parameters' values, its resources with their ids and order, and its outputs.

Source: "Understand the structure and syntax of ARM templates" and "Define the order for deploying resources in ARM
templates", Microsoft Learn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from localcloud.azure.errors import ArmError
from localcloud.azure.templates.expressions import Scope, Unknown, invalid
from localcloud.azure.templates.functions import evaluate

Json = dict[str, Any]
Reference = Callable[[str, str, bool], Any]
NESTED = "microsoft.resources/deployments"
# The last part of the address of each scope's schema.
SCHEMAS = {
    "resourceGroup": "deploymentTemplate.json#",
    "subscription": "subscriptionDeploymentTemplate.json#",
    "managementGroup": "managementGroupDeploymentTemplate.json#",
}
_PARTS = frozenset({"$schema", "contentVersion", "parameters", "variables", "resources", "outputs", "metadata"})
_RESOURCE_PARTS = frozenset(
    {"condition", "copy", "dependsOn", "scope", "subscriptionId", "resourceGroup", "comments", "metadata"}
)
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "securestring": (str,),
    "int": (int,),
    "bool": (bool,),
    "object": (dict,),
    "secureobject": (dict,),
    "array": (list,),
}


@dataclass(frozen=True)
class Place:
    """Where a deployment goes: its kind (resourceGroup, subscription, managementGroup), and its id."""

    kind: str
    id: str
    tenant: str
    location: str = ""

    @property
    def values(self) -> Mapping[str, Any]:
        """What the functions of the place return."""
        parts = self.id.split("/")
        found: Json = {"tenant": {"tenantId": self.tenant}}
        if self.kind == "managementGroup":
            found["managementGroup"] = {
                "id": self.id,
                "name": parts[4],
                "type": "Microsoft.Management/managementGroups",
                "properties": {"displayName": parts[4], "tenantId": self.tenant},
            }
            return found
        found["subscription"] = {
            "id": f"/subscriptions/{parts[2]}",
            "subscriptionId": parts[2],
            "tenantId": self.tenant,
        }
        if self.kind == "resourceGroup":
            found["resourceGroup"] = {"id": self.id, "name": parts[4], "location": self.location}
        return found

    def resource(self, kind: str, name: str) -> str:
        """Return the id of a resource that is deployed here. Raises ArmError 400 for a name of the wrong length."""
        provider, *types = kind.split("/")
        names = name.split("/")
        if len(types) != len(names):
            raise ArmError(
                400,
                "InvalidTemplate",
                f"Deployment template validation failed: 'The template resource '{name}' for type '{kind}' has "
                "incorrect segment lengths. A nested resource type must have identical number of segments as its "
                "resource name.'.",
            )
        if kind.lower() == "microsoft.resources/resourcegroups":
            return f"{self.id}/resourceGroups/{name}"
        return f"{self.id}/providers/{provider}" + "".join(f"/{a}/{b}" for a, b in zip(types, names, strict=True))


@dataclass(frozen=True)
class Resource:
    """One resource of a template. `after` are the ids that it waits for; `name` is unknown if it needs what is made."""

    id: str
    type: str
    name: str | Unknown
    raw: Mapping[str, Any]
    scope: Scope
    place: Place
    after: frozenset[str] = frozenset()
    known: bool = True

    def body(self, reference: Reference | None = None) -> Json:
        """Return what is sent, without the template's own parts; `reference` reads live resources."""
        scope = replace(self.scope, reference=reference) if reference else self.scope
        sent = {name: value for name, value in self.raw.items() if name not in _RESOURCE_PARTS}
        if self.type.lower() == NESTED:
            own = {name: value for name, value in sent["properties"].items() if name != "template"}
            body = evaluate({**sent, "properties": own}, scope)
            # An inner template is evaluated where it is deployed, with its own parameters.
            body["properties"]["template"] = sent["properties"].get("template")
        else:
            body = evaluate(sent, scope)
        return {name: value for name, value in body.items() if name not in ("type", "name", "apiVersion")}


@dataclass(frozen=True)
class Expansion:
    """A template with its parameters: the resources that are deployed, and the scope of its outputs."""

    resources: Sequence[Resource]
    outputs: Mapping[str, Any]
    scope: Scope
    parameters: Mapping[str, Any]

    def in_order(self) -> Iterator[Resource]:
        """Yield the resources, each after those that it waits for. Raises ArmError 400 for a circle."""
        left = {one.id.lower(): one for one in self.resources}
        while left:
            ready = [name for name, one in left.items() if not any(each in left for each in one.after)]
            if not ready:
                raise _refused(f"Circular dependency detected on resource: '{next(iter(left))}'.")
            for name in ready:
                yield left.pop(name)

    def answered(self, reference: Reference) -> Json:
        """Return the outputs. Raises ArmError 400."""
        scope = replace(self.scope, reference=reference)
        return {
            name: {"type": str(one["type"]).capitalize(), "value": evaluate(one["value"], scope)}
            for name, one in self.outputs.items()
        }


class _Variables(Mapping[str, Any]):
    """The variables of a template, each evaluated when it is first used."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = raw
        self._found: Json = {}
        self._busy: set[str] = set()
        self.scope: Scope | None = None

    def __getitem__(self, name: str) -> Any:
        if name not in self._found:
            if name in self._busy or self.scope is None:
                raise invalid(f"the template variable '{name}' refers to itself")
            self._busy.add(name)
            self._found[name] = evaluate(self._raw[name], self.scope)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)


def unread(identifier: str, _version: str, _full: bool) -> Any:
    """Answer reference() before anything is deployed."""
    return Unknown(f"reference('{identifier}')")


def expand(template: Mapping[str, Any], given: Mapping[str, Any], place: Place) -> Expansion:
    """Return what a template asks for at a place. Raises ArmError 400 or 501 for what is not supported."""
    unsupported = sorted(set(template) - _PARTS)
    if unsupported:
        raise ArmError(501, "NotImplemented", f"The local Azure does not support '{unsupported[0]}' in a template.")
    schema = str(template.get("$schema", "")).rsplit("/", 1)[-1]
    if schema != SCHEMAS[place.kind]:
        raise _refused(
            f"The template schema '{schema}' is not supported at this scope; it needs '{SCHEMAS[place.kind]}'"
        )
    variables = _Variables(template.get("variables") or {})
    scope = Scope(_parameters(template.get("parameters") or {}, given, place), variables, place.values, unread)
    variables.scope = scope
    found = [one for raw in template.get("resources") or () for one in _resources(raw, scope, place)]
    return Expansion(
        [_waiting(one, found) for one, wanted in found if wanted],
        template.get("outputs") or {},
        scope,
        scope.parameters,
    )


def _resources(raw: Mapping[str, Any], scope: Scope, place: Place) -> Iterator[tuple[Resource, bool]]:
    """Yield each copy of a resource, and whether its condition holds."""
    copy = raw.get("copy")
    count = evaluate(copy["count"], scope) if copy else 1
    if not isinstance(count, int):
        raise invalid(f"the number of copies of '{raw.get('name')}' is not known before the deployment")
    for index in range(count):
        own = replace(scope, copies={**scope.copies, str(copy["name"]).lower(): index}) if copy else scope
        wanted = evaluate(raw.get("condition", True), own)
        if isinstance(wanted, Unknown):
            raise invalid(f"the condition of '{raw.get('name')}' is not known before the deployment")
        yield _resource(raw, own, place), wanted is True


def _resource(raw: Mapping[str, Any], scope: Scope, place: Place) -> Resource:
    kind, name = str(raw["type"]), evaluate(raw["name"], scope)
    where = _place_of(raw, scope, place)
    shown = name if isinstance(name, str) else name.text
    if isinstance(name, Unknown):
        identifier = f"{where.id}/providers/{kind}/[{shown}]"
        if kind.lower() == NESTED:
            raise invalid(f"the name of the deployment '{shown}' is not known before it is deployed")
    else:
        identifier = where.resource(kind, name)
    return Resource(identifier, kind, name, raw, scope, where, known=isinstance(name, str))


def _place_of(raw: Mapping[str, Any], scope: Scope, place: Place) -> Place:
    """Return where a resource of a template is deployed."""
    if "subscriptionId" in raw or "resourceGroup" in raw:
        own = place.values.get("subscription", {}).get("subscriptionId", "")
        owner = f"/subscriptions/{evaluate(raw.get('subscriptionId', own), scope)}"
        if "resourceGroup" not in raw:
            return Place("subscription", owner, place.tenant)
        return Place("resourceGroup", f"{owner}/resourceGroups/{evaluate(raw['resourceGroup'], scope)}", place.tenant)
    if "scope" not in raw:
        return place
    where = evaluate(raw["scope"], scope)
    if isinstance(where, Unknown):
        return replace(place, id=f"[{where.text}]")
    where = str(where)
    if re.match(r"(/providers/)?Microsoft\.Management/managementGroups/[^/]+$", where, re.IGNORECASE):
        name = where.rsplit("/", 1)[-1]
        return Place("managementGroup", f"/providers/Microsoft.Management/managementGroups/{name}", place.tenant)
    if not where.startswith("/"):
        provider, kind, *rest = where.split("/")
        where = f"{place.id}/providers/{provider}/{kind}/{'/'.join(rest)}"
    return replace(place, id=where)


def _waiting(resource: Resource, all_: Sequence[tuple[Resource, bool]]) -> Resource:
    """Return a resource with what it waits for: dependsOn, and what it refers to."""
    after: set[str] = set()
    for written in resource.raw.get("dependsOn") or ():
        wanted = evaluate(written, resource.scope)
        found = [one.id.lower() for one, _ in all_ if _means(wanted, one)]
        if not found:
            raise _refused(f"The resource '{wanted}' is not defined in the template")
        after.update(found)
    ids = {one.id.lower() for one, _ in all_}

    def noted(identifier: str, version: str, full: bool) -> Any:
        if identifier.lower() in ids:
            after.add(identifier.lower())
        elif not version:
            raise _refused(
                f"The resource '{identifier}' is not defined in the template, and reference() names no version"
            )
        return unread(identifier, version, full)

    resource.body(noted)
    return replace(resource, after=frozenset(after - {resource.id.lower()}))


def _means(wanted: Any, resource: Resource) -> bool:
    copy = (resource.raw.get("copy") or {}).get("name", "")
    names = (resource.id, resource.name, copy)
    return isinstance(wanted, str) and any(isinstance(one, str) and one.lower() == wanted.lower() for one in names)


def _parameters(defined: Mapping[str, Any], given: Mapping[str, Any], place: Place) -> Json:
    unknown = sorted(set(given) - set(defined))
    if unknown:
        raise _refused(
            f"The following parameters were supplied, but do not correspond to any parameters defined in the template: "
            f"'{', '.join(unknown)}'. The parameters defined in the template are: '{', '.join(defined)}'."
        )
    values: Json = {}
    scope = Scope(values, {}, place.values, unread)
    for name, definition in defined.items():
        if name in given:
            value = given[name].get("value") if isinstance(given[name], dict) else None
        elif "defaultValue" in definition:
            value = evaluate(definition["defaultValue"], scope)
        else:
            raise _refused(f"The value for the template parameter '{name}' is not provided.")
        if not isinstance(value, Unknown):
            _check(name, value, definition)
        values[name] = value
    return values


def _check(name: str, value: Any, definition: Mapping[str, Any]) -> None:
    """Raise ArmError 400 for a value that its definition does not allow."""
    kinds = _TYPES.get(str(definition.get("type", "")).lower())
    if kinds is None:
        raise invalid(f"the type of the template parameter '{name}' is not valid")
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise _refused(
            f"Template parameter JToken type is not valid. Expected '{str(definition['type']).capitalize()}'. Actual "
            f"'{type(value).__name__}'. The parameter is '{name}'."
        )
    start = f"The provided value for the template parameter '{name}' is not valid."
    if "allowedValues" in definition and value not in definition["allowedValues"]:
        allowed = ",".join(map(str, definition["allowedValues"]))
        raise _refused(f"{start} The value '{value}' is not part of the allowed value(s): '{allowed}'.")
    size: int = value if isinstance(value, int) else len(value)  # type: ignore[arg-type]  # kinds has no others
    for low, high in (("minValue", "maxValue"), ("minLength", "maxLength")):
        if low in definition and size < definition[low]:
            raise _refused(f"{start} '{value}' is less than the minimum '{definition[low]}'.")
        if high in definition and size > definition[high]:
            raise _refused(f"{start} '{value}' is greater than the maximum '{definition[high]}'.")


def _refused(message: str) -> ArmError:
    return ArmError(400, "InvalidTemplate", f"Deployment template validation failed: '{message}'.")
