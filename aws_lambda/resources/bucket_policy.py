"""Bucket policies: parse and merge them, normalize statements, and find statements that block deliveries."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from aws_lambda.targets import TLS_SID

POLICY_LIMIT = 20_480  # bytes; "Bucket policies are limited to 20 KB in size", Amazon S3 User Guide
STATEMENT_LISTS = ("Action", "NotAction", "Resource", "NotResource")


def normal_statement(statement: Mapping[str, Any]) -> dict[str, Any]:
    """Return a statement with each value that may be a string or a list as a sorted list of strings."""
    normal: dict[str, Any] = dict(statement)
    for name in STATEMENT_LISTS:
        if name in normal:
            normal[name] = _texts(normal[name])
    if "Principal" in normal:
        principal = {"AWS": "*"} if normal["Principal"] == "*" else normal["Principal"]
        normal["Principal"] = _listed(principal)
    conditions = normal.get("Condition")
    if isinstance(conditions, dict):
        normal["Condition"] = {operator: _listed(keys) for operator, keys in conditions.items()}
    return normal


def _listed(values: Any) -> Any:
    return {key: _texts(value) for key, value in values.items()} if isinstance(values, dict) else values


def _texts(value: Any) -> list[str]:
    return sorted("true" if one is True else "false" if one is False else str(one) for one in many(value))


def many(value: Any) -> list[Any]:
    """Return a value that may be a list as a list."""
    return value if isinstance(value, list) else [value]


def sid_of(statement: Mapping[str, Any]) -> str:
    """Return a statement's Sid, "" if it has none."""
    return str(statement.get("Sid", ""))


def parsed(text: str) -> dict[str, Any]:
    """Return the policy document, empty for an empty text. Raises ValueError if the text is not a policy."""
    if not text:
        return {}
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(document, dict) or not all(isinstance(one, dict) for one in many(document.get("Statement", []))):
        raise ValueError("not a policy")
    return document


def statements_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the statements of a policy."""
    return many(document.get("Statement", []))


def merged(document: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the policy with the statements of `own`, which replace those with the same Sid; the rest is kept."""
    kept = [one for one in statements_of(document) if sid_of(one) not in own]
    return {"Version": "2012-10-17", **document, "Statement": [*kept, *own.values()]}


def may_block_delivery(statement: Mapping[str, Any], probe: str) -> bool:
    """Return whether a Deny statement of another owner matches the export service's write to `probe`, an object's ARN.

    Conditions are not evaluated: a statement with a condition may block deliveries or not.
    """
    if statement.get("Effect") != "Deny" or sid_of(statement) == TLS_SID:
        return False
    principal = statement.get("Principal")
    services = many(principal.get("Service", [])) if isinstance(principal, dict) else []
    everyone = principal == "*" or (isinstance(principal, dict) and "*" in many(principal.get("AWS", [])))
    if not everyone and "bcm-data-exports.amazonaws.com" not in services:
        return False
    hits_action = any(_like("s3:putobject", str(one).lower()) for one in many(statement.get("Action", [])))
    return hits_action and any(_like(probe, str(one)) for one in many(statement.get("Resource", [])))


# Policies show the unique id of a deleted user or role in place of its ARN, and S3 rejects a policy with such a
# principal. Source: "Unique identifiers", IAM User Guide.
_UNIQUE_ID = re.compile(r"A[A-Z]{3}[A-Z0-9]{12,}")


def label_of(statement: Mapping[str, Any]) -> str:
    """Return a statement's name for messages: its Sid, or its effect and actions."""
    return sid_of(statement) or f"(without Sid: {statement.get('Effect')} {', '.join(map(str, _actions(statement)))})"


def _actions(statement: Mapping[str, Any]) -> list[Any]:
    return many(statement.get("Action", statement.get("NotAction", [])))[:3]


def deleted_principals(statements: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the principals that no longer exist, by the label of their statement."""
    found: dict[str, list[str]] = {}
    for statement in statements:
        principal = statement.get("Principal")
        named = many(principal.get("AWS", [])) if isinstance(principal, dict) else []
        gone = [str(one) for one in named if _UNIQUE_ID.fullmatch(str(one))]
        if gone:
            found[label_of(statement)] = gone
    return found


def _like(value: str, pattern: str) -> bool:
    # In policies only * and ? are wildcards, and a bracket is a literal character.
    return fnmatchcase(value, pattern.replace("[", "[[]"))
