"""Evaluate resource policies for one request as IAM does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

_VARIABLE = re.compile(r"\$\{([^}]+)\}")


@dataclass(frozen=True)
class Access:
    """One request: `principal` is a service's name, an account id or an ARN; context keys in lower case.

    Trust policies have no resource: for them, `resource` is empty.
    """

    principal: str
    kind: str  # "Service" or "AWS"
    action: str
    resource: str
    context: dict[str, str] = field(default_factory=dict)


def allows(policy: str | bytes | None, access: Access) -> bool:
    """Return whether the policy grants the request: an Allow matches and no Deny matches.

    Unsupported condition operators fail safe: an Allow does not match, and a Deny matches.
    """
    return _verdict(policy, access) == "Allow"


def denies(policy: str | bytes | None, access: Access) -> bool:
    """Return whether a Deny statement of the policy matches the request."""
    return _verdict(policy, access) == "Deny"


def conditions_hold(statement: dict[str, Any], context: dict[str, str], unknown: bool) -> bool:
    """Return whether all conditions of a statement are met; unsupported operators evaluate to `unknown`."""
    return all(
        _condition(operator, key, many(values), context, unknown)
        for operator, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
    )


def matches_any(value: str, patterns: Iterable[Any]) -> bool:
    """Return whether a value matches one of a policy's patterns."""
    return any(_like(value, str(pattern)) for pattern in patterns)


def substituted(text: str, context: dict[str, str]) -> str:
    """Return a policy's text with the values of its variables; one without a value matches nothing, as in IAM."""
    return _VARIABLE.sub(lambda match: context.get(match[1].lower(), "\0"), text)


def many(value: Any) -> list[Any]:
    """Return a policy value as a list; policies may write a single value without brackets."""
    return value if isinstance(value, list) else [value]


def _verdict(policy: str | bytes | None, access: Access) -> str | None:
    if not policy:
        return None
    statements = many(json.loads(policy).get("Statement", []))
    verdict = None
    for statement in statements:
        effect = statement.get("Effect")
        if _matches(statement, access, unknown=effect == "Deny"):
            if effect == "Deny":
                return "Deny"
            verdict = "Allow"
    return verdict


def _matches(statement: dict[str, Any], access: Access, unknown: bool) -> bool:
    resources = _resolved(statement, access.context)
    return (
        _principal(statement, access)
        and _named(statement, "Action", access.action.lower(), lower=True)
        and (not access.resource or _named(resources, "Resource", access.resource, lower=False))
        and conditions_hold(statement, access.context, unknown)
    )


def _principal(statement: dict[str, Any], access: Access) -> bool:
    if "NotPrincipal" in statement:
        return not _principal_in(statement["NotPrincipal"], access)
    return _principal_in(statement.get("Principal", {}), access)


def _principal_in(principal: Any, access: Access) -> bool:
    if principal == "*":
        return True
    if not isinstance(principal, dict):
        return False
    names = [str(name) for name in many(principal.get(access.kind, []))]
    if "*" in names or access.principal in names:
        return True
    if access.kind != "AWS":
        return False
    account = access.principal.split(":")[4] if access.principal.startswith("arn:") else access.principal
    return any(name == account or name.endswith(f"::{account}:root") for name in names)


def _resolved(statement: dict[str, Any], context: dict[str, str]) -> dict[str, Any]:
    """Return the resources of a statement without variables."""
    keys = [key for key in ("Resource", "NotResource") if key in statement]
    return {key: [substituted(str(one), context) for one in many(statement[key])] for key in keys}


def _named(statement: dict[str, Any], key: str, value: str, lower: bool) -> bool:
    def hit(patterns: Iterable[Any]) -> bool:
        return any(_like(value, str(p).lower() if lower else str(p)) for p in patterns)

    if f"Not{key}" in statement:
        return not hit(many(statement[f"Not{key}"]))
    return hit(many(statement.get(key, [])))


def _condition(operator: str, key: str, wanted: list[Any], context: dict[str, str], unknown: bool) -> bool:
    value = context.get(key.lower())
    if operator.startswith(("ForAnyValue:", "ForAllValues:")):
        operator = operator.split(":", 1)[1]
    if operator.endswith("IfExists"):
        if value is None:
            return True
        operator = operator.removesuffix("IfExists")
    if operator == "Null":
        return (value is None) == (str(wanted[0]).lower() == "true")
    negative = "Not" in operator
    base = operator.replace("Not", "")
    texts = [str(item) for item in wanted]
    if base not in ("StringEquals", "StringEqualsIgnoreCase", "StringLike", "ArnEquals", "ArnLike", "Bool"):
        return unknown
    if value is None:
        return negative
    if base == "StringEquals":
        hit = value in texts
    elif base in ("StringEqualsIgnoreCase", "Bool"):
        hit = value.lower() in [text.lower() for text in texts]
    else:
        hit = any(_like(value, text) for text in texts)
    return hit != negative


def _like(value: str, pattern: str) -> bool:
    # Policies support only the wildcards `*` and `?`; a bracket is a plain character.
    return fnmatchcase(value, pattern.replace("[", "[[]"))
