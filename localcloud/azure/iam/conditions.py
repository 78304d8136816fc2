"""Evaluation of conditions on role assignments.

Supports only the part of the language that conditions on role assignments need and rejects everything else:
https://learn.microsoft.com/azure/role-based-access-control/conditions-format
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache

# Maps `@Request[…]` or `@Resource[…]`, as written in a condition, to its value.
Attributes = Mapping[str, str]
BLOB_PATH = "@Resource[Microsoft.Storage/storageAccounts/blobServices/containers/blobs:path]"
ROLE_OF = "Microsoft.Authorization/roleAssignments:RoleDefinitionId"
TYPE_OF = "Microsoft.Authorization/roleAssignments:PrincipalType"

_Test = Callable[[str, Attributes], bool]
_TOKEN = re.compile(r"\s*(@\w+\[[^\]]+\]|\{[^}]*\}|'[^']*'|[A-Za-z:]+|[()!])")
_EQUALS = ("ForAnyOfAnyValues:GuidEquals", "ForAnyOfAnyValues:StringEqualsIgnoreCase")


def holds(condition: str, action: str, attributes: Attributes) -> bool:
    """Return whether a condition allows an action; an empty condition allows every action.

    An attribute that a request does not have never matches. Raises ValueError for unsupported syntax.
    """
    return not condition or _read(condition)(action, attributes)


# difference: AZURE-5
@lru_cache(maxsize=64)
def _read(condition: str) -> _Test:
    tokens, rest = _tokens(condition)
    if rest:
        raise ValueError(f"unsupported syntax in the condition at {rest[:40]!r}")
    reader = _Reader(tokens)
    test = reader.either()
    reader.end()
    return test


def _tokens(condition: str) -> tuple[list[str], str]:
    found, at = [], 0
    while match := _TOKEN.match(condition, at):
        found.append(match[1])
        at = match.end()
    return found, condition[at:].strip()


class _Reader:
    """A recursive-descent parser; `!` has the highest precedence, then AND, then OR."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens: Iterator[str] = iter(tokens)
        self._next = next(self._tokens, "")

    def either(self) -> _Test:
        tests = [self._both()]
        while self._next.upper() == "OR":
            self._take()
            tests.append(self._both())
        return lambda action, attributes: any(test(action, attributes) for test in tests)

    def end(self) -> None:
        if self._next:
            raise ValueError(f"unexpected {self._next!r} at the end of the condition")

    def _both(self) -> _Test:
        tests = [self._one()]
        while self._next.upper() == "AND":
            self._take()
            tests.append(self._one())
        return lambda action, attributes: all(test(action, attributes) for test in tests)

    def _one(self) -> _Test:
        word = self._take()
        if word == "!":
            test = self._one()
            return lambda action, attributes: not test(action, attributes)
        if word == "(":
            test = self.either()
            if self._take() != ")":
                raise ValueError("unclosed parenthesis in the condition")
            return test
        if word == "ActionMatches":
            patterns = self._values()
            return lambda action, _: any(fnmatchcase(action.lower(), one) for one in patterns)
        if word.startswith("@"):
            operator = self._take()
            if operator == "StringLike":
                pattern = self._take()
                if not pattern.startswith("'"):
                    raise ValueError(f"expected a value in quotes in the condition, found {pattern!r}")
                pattern = pattern.strip("'")
                return lambda _, attributes: word in attributes and fnmatchcase(attributes[word], pattern)
            if operator not in _EQUALS:
                raise ValueError(f"unsupported operator {operator!r} in the condition")
            wanted = self._values()
            return lambda _, attributes: attributes.get(word, "").lower() in wanted
        raise ValueError(f"unsupported syntax in the condition at {word!r}")

    def _values(self) -> frozenset[str]:
        word = self._take()
        if not word.startswith("{"):
            raise ValueError(f"expected values in braces in the condition, found {word!r}")
        return frozenset(one.strip().strip("'").lower() for one in word[1:-1].split(","))

    def _take(self) -> str:
        word, self._next = self._next, next(self._tokens, "")
        return word
