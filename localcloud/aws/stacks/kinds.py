"""How CloudFormation carries out resource types: through the services' own APIs, with the credentials of the stack.

Each kind lists the properties that it understands; another one fails the resource, as does another type.
Source: "AWS resource and property types reference" in the CloudFormation user guide.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from botocore.exceptions import ClientError

Props = Mapping[str, Any]
GONE = ("NotFound", "NoSuch", "NonExistentQueue", "QueueDoesNotExist", "404")


class ResourceError(Exception):
    """A resource could not be created, changed or deleted; the message is its status reason."""


@dataclass(frozen=True)
class Context:
    """The place and the credentials of a stack. `client` returns a client of a service with them."""

    client: Callable[[str], Any]
    account: str
    region: str
    partition: str
    stack: str

    def arn(self, service: str, tail: str, region: str | None = None) -> str:
        place = self.region if region is None else region
        return f"arn:{self.partition}:{service}:{place}:{self.account}:{tail}"


class Kind:
    """A resource type. `name` is the property with the resource's name, `fixed` those whose change replaces it.

    `identifier` is the property by which a resource is imported, several joined by "|". `create` returns the physical
    id.
    """

    name: ClassVar[str] = ""
    identifier: ClassVar[str] = ""
    fixed: ClassVar[frozenset[str]] = frozenset()
    known: ClassVar[frozenset[str]] = frozenset()

    def create(self, at: Context, props: Props) -> str:
        """Create the resource and return its physical id."""
        raise NotImplementedError

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        """Return the live properties that can be compared, or None if the resource does not exist."""
        raise NotImplementedError

    def update(self, at: Context, physical: str, old: Props, new: Props) -> None:
        raise NotImplementedError

    def delete(self, at: Context, physical: str, props: Props) -> None:
        raise NotImplementedError

    def attributes(self, at: Context, physical: str) -> dict[str, Any]:
        """Return what GetAtt of the resource returns."""
        return {}

    def imported(self, identifier: str) -> str:
        """Return the physical id of an imported resource."""
        return identifier

    def reference(self, at: Context, physical: str) -> str:
        """Return what Ref of the resource returns."""
        return physical

    def taken(self, at: Context, props: Props) -> str:
        """Return the name of an existing resource that creation would overwrite or adopt, or ""."""
        name = str(props.get(self.name, "")) if self.name else ""
        return name if name and self.read(at, name) is not None else ""


def fit(client: Any, operation: str, values: Props) -> dict[str, Any]:
    """Return parameters in the types of an operation: templates hold numbers and booleans as text.

    Raises ResourceError for a property, at any depth, that the operation does not have.
    """
    shape = client.meta.service_model.operation_model(operation).input_shape
    made: dict[str, Any] = _fit(shape, values, "")
    return made


def _fit(shape: Any, value: Any, path: str) -> Any:
    kind = shape.type_name
    if kind == "structure":
        if not isinstance(value, Mapping):
            raise ResourceError(f"Properties validation failed: {path or 'the properties'} must be an object")
        made = {}
        for key, one in value.items():
            member = next((name for name in (key, key[:1].lower() + key[1:]) if name in shape.members), None)
            if member is None:
                raise ResourceError(f"Encountered unsupported property {path}{key}")
            made[member] = _fit(shape.members[member], one, f"{path}{key}.")
        return made
    if kind == "list":
        return [_fit(shape.member, one, path) for one in (value if isinstance(value, list) else [value])]
    if kind == "map":
        return {str(key): _fit(shape.value, one, path) for key, one in value.items()}
    if kind in ("integer", "long", "float", "double"):
        try:
            return (int if kind in ("integer", "long") else float)(value)
        except (TypeError, ValueError) as error:
            raise ResourceError(
                f"Properties validation failed: {path.rstrip('.')}: {value!r} is not a number"
            ) from error
    if kind == "boolean":
        return value if isinstance(value, bool) else str(value).lower() == "true"
    return str(value).lower() if isinstance(value, bool) else str(value)


def existing(read: Callable[[], Any]) -> Any:
    """Return the answer of a read, None if the resource does not exist. Raises ClientError."""
    try:
        return read()
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if any(part in code for part in GONE):
            return None
        raise


def text(document: Any) -> str:
    """Return a policy or another document as JSON text."""
    return document if isinstance(document, str) else json.dumps(document)


def tags_of(props: Props) -> dict[str, str]:
    """Return a resource's tags by key."""
    return {str(one["Key"]): str(one["Value"]) for one in props.get("Tags", [])}


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags as most APIs take them."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def but(props: Props, *names: str) -> dict[str, Any]:
    """Return properties without some."""
    return {key: value for key, value in props.items() if key not in names}


def retag(old: Props, new: Props) -> tuple[dict[str, str], list[str]]:
    """Return the tags to set and the keys to remove for an update."""
    before, after = tags_of(old), tags_of(new)
    return {k: v for k, v in after.items() if before.get(k) != v}, sorted(set(before) - set(after))


def comparable(value: Any, empty: Iterable[Any] = (None, [], {})) -> Any:
    """Return a value in one normal form: documents parsed, scalars as text, sets sorted, nothing empty."""
    if isinstance(value, str) and value[:1] in "{[":
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, Mapping):
        made = {key: comparable(one) for key, one in value.items()}
        return {key: one for key, one in made.items() if one not in empty}
    if isinstance(value, list):
        items = [comparable(one) for one in value]
        if len(items) == 1 and not isinstance(items[0], dict):
            return items[0]  # a policy may hold one value or a list of one
        return sorted(items, key=lambda one: json.dumps(one, sort_keys=True))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if value is None else str(value)
