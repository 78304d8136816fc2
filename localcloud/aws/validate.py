"""Validate every request, and every response that moto did not create, against botocore's service model."""

from __future__ import annotations

import io
import json
import re
from functools import cache
from typing import Any

from botocore.validate import ParamValidator
from moto.core.request import Request
from moto.core.utils import get_service_model

from localcloud.aws.errors import AwsError, invalid
from localcloud.aws.wire import AwsRequest
from localcloud.common.oracles import oracle

# The services whose results and errors the local cloud creates without moto.
ANSWERED = frozenset({"bcm-data-exports", "billing", "organizations", "cloudformation", "stepfunctions"})
# Enumerations to which AWS adds values before they are in the model: tests may return values that are not in it.
# The events of a stack itself show its own status, which the enumeration for resources does not have.
OPEN = frozenset({"ExecutionStatusReason", "ResourceStatus"})
# Error codes that every operation may return. Source: the services' "Common errors" pages.
COMMON = frozenset(
    {"AccessDenied", "AccessDeniedException", "NotImplemented", "ValidationError", "ValidationException"}
)
CHECKED = ANSWERED | {"s3", "iam", "sts"}


@oracle("botocore, requests")
def check(aws_request: AwsRequest) -> None:
    """Check a request against the model: missing, unknown and mistyped members, lengths, ranges, patterns, enums.

    Raises AwsError with the code the service uses for invalid requests.
    """
    if aws_request.malformed:
        raise AwsError("SerializationException", aws_request.malformed, 400)
    operation = get_service_model(aws_request.service).operation_model(aws_request.operation)
    shape = operation.input_shape
    if shape is None:
        return
    problems = _unknown(aws_request, shape)
    report = ParamValidator().validate(aws_request.params, shape)
    if report.has_errors():
        problems += [line for line in report.generate_report().splitlines() if line]
    _constraints(shape, aws_request.params, "", problems, aws_request.service != "s3")
    if problems:
        noun = "error" if len(problems) == 1 else "errors"
        raise invalid(aws_request.service, f"{len(problems)} validation {noun} detected: {'; '.join(problems)}")


@oracle("botocore, answers")
def check_answer(aws_request: AwsRequest, result: dict[str, Any]) -> None:
    """Raise AwsError (501) for a result that the model does not allow: the local cloud would differ from AWS.

    Patterns are not checked: those of Organizations cover the ARNs of only one partition.
    """
    shape = get_service_model(aws_request.service).operation_model(aws_request.operation).output_shape
    given = {name: value for name, value in result.items() if value is not None}
    if shape is None:
        problems = [f"Unknown member '{name}'" for name in given]
    else:
        problems = []
        _unknown_members(shape, given, "", problems)
        report = ParamValidator().validate(given, shape)
        if report.has_errors():
            problems += [line for line in report.generate_report().splitlines() if line]
        _constraints(shape, given, "", problems, enums=True, patterns=False)
    if problems:
        message = f"the result of {aws_request.operation} does not match its model: {'; '.join(problems)}"
        raise AwsError("NotImplemented", message, 501)


@oracle("botocore, error codes")
def check_refusal(aws_request: AwsRequest, error: AwsError) -> None:
    """Raise AwsError (501) for an error code that the operation's model does not have."""
    modeled = get_service_model(aws_request.service).operation_model(aws_request.operation).error_shapes
    codes = {str(shape.error_code or shape.name) for shape in modeled} | {shape.name for shape in modeled}
    if error.code not in codes | COMMON:
        raise AwsError(
            "NotImplemented", f"the model of {aws_request.operation} has no error {error.code}", 501
        ) from error


def _unknown_members(shape: Any, value: Any, path: str, problems: list[str]) -> None:
    if shape.type_name == "structure" and isinstance(value, dict):
        for name, inner in value.items():
            if name not in shape.members:
                problems.append(f"Unknown member '{path}.{name}'")
            elif inner is not None:
                _unknown_members(shape.members[name], inner, f"{path}.{name}", problems)
    elif shape.type_name == "list" and isinstance(value, list):
        for inner in value:
            _unknown_members(shape.member, inner, path, problems)


def _unknown(aws_request: AwsRequest, shape: Any) -> list[str]:
    if aws_request.protocol == "json":
        try:
            body = json.loads(aws_request.body or b"{}")
        except ValueError as error:
            raise AwsError("SerializationException", f"the request body is not valid JSON: {error}", 400) from error
        problems: list[str] = []
        _unknown_json(shape, body, "", problems)
        return problems
    if aws_request.protocol == "query":
        request = Request({**aws_request.raw.environ, "wsgi.input": io.BytesIO(aws_request.body)})
        known = {member.serialization.get("name", name) for name, member in shape.members.items()}
        names = {name.split(".")[0] for name in request.values} - {"Action", "Version"}
        return [f"Unknown parameter '{name}'" for name in sorted(names - known) if not name.startswith("X-Amz-")]
    return []


def _unknown_json(shape: Any, value: Any, path: str, problems: list[str]) -> None:
    if shape.type_name == "structure" and isinstance(value, dict):
        known = {member.serialization.get("name", name): member for name, member in shape.members.items()}
        for name, inner in value.items():
            if name in known:
                _unknown_json(known[name], inner, f"{path}.{name}", problems)
            else:
                problems.append(f"Unknown parameter '{name}' in '{path.lstrip('.') or 'the request'}'")
    elif shape.type_name == "list" and isinstance(value, list):
        for inner in value:
            _unknown_json(shape.member, inner, path, problems)
    elif shape.type_name == "map" and isinstance(value, dict):
        for name, inner in value.items():
            _unknown_json(shape.value, inner, f"{path}.{name}", problems)


def _constraints(shape: Any, value: Any, path: str, problems: list[str], enums: bool, patterns: bool = True) -> None:
    """Check the constraints that ParamValidator does not: upper bounds, patterns and enumerations."""
    if value is None:
        return
    kind = shape.type_name
    maximum = shape.metadata.get("max")
    if kind == "structure" and isinstance(value, dict):
        for name, member in shape.members.items():
            _constraints(member, value.get(name), f"{path}.{name}", problems, enums, patterns)
        return
    if kind == "list" and isinstance(value, list):
        for inner in value:
            _constraints(shape.member, inner, f"{path}.member", problems, enums, patterns)
    elif kind == "map" and isinstance(value, dict):
        for name, inner in value.items():
            _constraints(shape.key, name, f"{path}.key", problems, enums, patterns)
            _constraints(shape.value, inner, f"{path}.{name}", problems, enums, patterns)
    where = path.lstrip(".")
    if kind in ("string", "list", "map") and maximum is not None and len(value) > maximum:
        problems.append(f"Value at '{where}' failed to satisfy constraint: length must be at most {maximum}")
    if kind in ("integer", "long") and maximum is not None and isinstance(value, int) and value > maximum:
        problems.append(f"Value at '{where}' failed to satisfy constraint: must be at most {maximum}")
    if kind != "string" or not isinstance(value, str):
        return
    pattern = shape.metadata.get("pattern")
    if pattern and enums and patterns and not _matches(pattern, value):
        problems.append(f"Value at '{where}' failed to satisfy constraint: must satisfy pattern: {pattern}")
    if enums and shape.name not in OPEN and getattr(shape, "enum", None) and value not in shape.enum:
        allowed = ", ".join(shape.enum)
        problems.append(f"Value at '{where}' failed to satisfy constraint: must be one of [{allowed}]")


@cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern)
    except re.error:
        return None  # Java syntax (property character classes) that Python's `re` does not support


def _matches(pattern: str, value: str) -> bool:
    compiled = _compiled(pattern)
    return compiled is None or compiled.fullmatch(value) is not None
