"""Validation of requests and answers against the SDK's models: unknown and missing fields, types, enumerated values."""

from __future__ import annotations

import datetime as _datetime
import enum
import importlib
import types
import typing
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple, Union

import isodate  # type: ignore[import-untyped]  # it ships no types; the SDK itself parses with it

from localcloud.common.oracles import oracle

Check = Callable[[Any, str, bool], Any]  # value, path, whether it is part of an answer


class Invalid(ValueError):
    """A field is invalid; the message contains its path."""


class _Field(NamedTuple):
    required: bool
    read_only: bool
    check: Check


@cache
def _fields(model: type) -> dict[str, _Field]:
    """Return a model's fields by their JSON names."""
    hints: dict[str, Any] = {}
    for base in reversed(model.__mro__):
        if base.__module__.startswith("azure.mgmt.") and base.__name__ != "Model":
            package = importlib.import_module(base.__module__.rpartition(".")[0])
            hints |= typing.get_type_hints(base, {**vars(package), "_models": package, "datetime": _datetime})
    fields: dict[str, _Field] = {}
    model()  # creating the first instance initializes the model's field table
    for name, field in model._attr_to_rest_field.items():  # type: ignore[attr-defined]  # the models' own field table
        kind = hints[name]
        arguments = typing.get_args(kind)
        optional = type(None) in arguments
        rest = tuple(argument for argument in arguments if argument is not type(None))
        kind = (rest[0] if len(rest) == 1 else Union[rest]) if optional else kind  # noqa: UP007 - built at run time
        read_only = list(field._visibility or ()) == ["read"]
        fields[field._rest_name] = _Field(not optional and not read_only, read_only, _check(kind))
    return fields


def _check(kind: Any) -> Check:
    arguments = typing.get_args(kind)
    for argument in arguments:
        if isinstance(argument, type) and issubclass(argument, enum.Enum):
            return _one_of(argument)
    if typing.get_origin(kind) in (list, types.GenericAlias):
        return _list_of(_check(arguments[0]))
    if typing.get_origin(kind) is dict:
        return _values_of(_check(arguments[1]))
    if isinstance(kind, type) and kind.__module__.startswith("azure.mgmt."):
        return lambda value, path, answer: normalized(kind, value, path, answer=answer)
    if kind is datetime:
        return _moment
    return _plain(kind)


def _one_of(kind: type[enum.Enum]) -> Check:
    values = {str(member.value).lower(): str(member.value) for member in kind}

    def check(value: Any, path: str, answer: bool) -> Any:
        if answer and value in values.values():
            return value
        if answer or not isinstance(value, str) or value.lower() not in values:
            raise Invalid(f"Invalid {path} '{value}'; valid values: {', '.join(repr(v) for v in values.values())}")
        return values[value.lower()]

    return check


def _list_of(check_one: Check) -> Check:
    def check(value: Any, path: str, answer: bool) -> Any:
        if not isinstance(value, list):
            raise Invalid(f"{path} must be a list")
        return [check_one(one, f"{path}[{number}]", answer) for number, one in enumerate(value)]

    return check


def _values_of(check_one: Check) -> Check:
    def check(value: Any, path: str, answer: bool) -> Any:
        if not isinstance(value, dict):
            raise Invalid(f"{path} must be an object")
        return {name: check_one(one, f"{path}.{name}", answer) for name, one in value.items()}

    return check


def _moment(value: Any, path: str, _: bool) -> Any:
    parsed(value, path)
    return value


def _plain(kind: Any) -> Check:
    wanted = kind if kind in (str, bool) else object

    def check(value: Any, path: str, _: bool) -> Any:
        if not isinstance(value, wanted):
            raise Invalid(f"{path} must be of type {kind.__name__}")
        return value

    return check


def parsed(value: Any, path: str) -> datetime:
    """Return an RFC 3339 date and time as an aware datetime, in UTC if it has no offset. Raises Invalid."""
    try:
        moment: datetime = isodate.parse_datetime(value)
    except (ValueError, TypeError, AttributeError) as cause:
        raise Invalid(f"{path} '{value}' is not a date and time") from cause
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@oracle("Azure SDK models, requests")
def requested(model: type, document: Any) -> dict[str, Any]:
    """Return the body of a request as the service stores it; see `normalized`. Raises Invalid."""
    return normalized(model, document)


def normalized(model: type, document: Any, path: str = "", *, answer: bool = False) -> dict[str, Any]:
    """Return the document as the service stores it, without read-only and null fields, with canonical enum values.

    In an answer, read-only fields count, and enumerated values are in canonical form. Raises Invalid for an unknown
    field, a missing required field, or an invalid value.
    """
    if not isinstance(document, dict):
        raise Invalid(f"{path or 'the request body'} must be an object")
    fields = _fields(model)
    prefix = f"{path}." if path else ""
    stored: dict[str, Any] = {}
    for name, value in document.items():
        field = fields.get(name)
        if field is None:
            raise Invalid(f"Could not find member '{prefix}{name}' on object of type '{model.__name__}'")
        if value is not None and (answer or not field.read_only):
            stored[name] = field.check(value, f"{prefix}{name}", answer)
    missing = [name for name, field in fields.items() if field.required and name not in stored]
    if missing:
        raise Invalid(f"Required member '{prefix}{missing[0]}' is missing")
    return stored
