"""The language of ARM templates: parsing of an expression.

Source: "Template functions" and "Syntax and expressions in ARM templates", Microsoft Learn. A function that is not in
`functions.FUNCTIONS` is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from localcloud.azure.errors import ArmError

_TOKEN = re.compile(r"\s*(?:'((?:[^']|'')*)'|(-?\d+)|([A-Za-z_][A-Za-z0-9_]*)|(.))")


class Unknown(NamedTuple):
    """A value that exists only while the deployment runs; `text` is the expression that asks for it."""

    text: str


class Literal(NamedTuple):
    """A text, a number, or another value that is written in the expression."""

    value: Any


class Call(NamedTuple):
    """A call of a function; `text` is the whole call as it is written."""

    name: str
    arguments: tuple[Node, ...]
    text: str


class Member(NamedTuple):
    """A property or an item of a value."""

    of: Node
    key: Node


Node = Literal | Call | Member


@dataclass(frozen=True)
class Scope:
    """What an expression sees.

    `parameters` are values, `variables` are evaluated on first use. `place` answers subscription(), resourceGroup(),
    managementGroup() and tenant(). `reference` returns the live properties of a resource, or Unknown before it may be
    read. `copies` are the indexes of the loops around the expression, and `arguments` those of lambdas.
    """

    parameters: Mapping[str, Any]
    variables: Mapping[str, Any]
    place: Mapping[str, Any]
    reference: Callable[[str, str, bool], Any]
    copies: Mapping[str, int] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)


def invalid(message: str) -> ArmError:
    """Return the error for a template whose expressions cannot be evaluated."""
    return ArmError(400, "InvalidTemplate", f"Unable to process template language expressions: {message}")


def is_expression(value: Any) -> bool:
    """Return whether a text is an expression; a text that begins with two brackets is not."""
    return isinstance(value, str) and value.startswith("[") and value.endswith("]") and not value.startswith("[[")


@lru_cache(maxsize=4096)
def parse(text: str) -> Node:
    """Return the tree of an expression, which is written without its brackets. Raises ArmError 400."""
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._split(text))
        self._at = 0

    @staticmethod
    def _split(text: str) -> Iterator[tuple[str, Any, int, int]]:
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None:
                raise invalid(f"unexpected text at '{text[at : at + 20]}'")
            quoted, number, name, sign = match.groups()
            start, at = match.start(match.lastindex or 0), match.end()
            if quoted is not None:
                yield "value", quoted.replace("''", "'"), start, at
            elif number is not None:
                yield "value", int(number), start, at
            elif name is not None:
                yield "name", name, start, at
            else:
                yield sign, sign, start, at
        yield "end", "", len(text), len(text)

    def whole(self) -> Node:
        node = self._node()
        if self._tokens[self._at][0] != "end":
            raise invalid(f"unexpected text at '{self._text[self._tokens[self._at][2] :][:20]}'")
        return node

    def _node(self) -> Node:
        kind, value, start, _ = self._take()
        if kind == "value":
            node: Node = Literal(value)
        elif kind == "name":
            node = self._call(value, start)
        else:
            raise invalid(f"unexpected '{value}' in '{self._text[:80]}'")
        while self._tokens[self._at][0] in (".", "["):
            sign = self._take()[0]
            if sign == ".":
                node = Member(node, Literal(self._take("name")[1]))
            else:
                node = Member(node, self._node())
                self._take("]")
        return node

    def _call(self, name: str, start: int) -> Call:
        self._take("(")
        arguments: list[Node] = []
        while self._tokens[self._at][0] != ")":
            arguments.append(self._node())
            if self._tokens[self._at][0] != ")":
                self._take(",")
        end = self._take(")")[3]
        return Call(name, tuple(arguments), self._text[start:end])

    def _take(self, wanted: str = "") -> tuple[str, Any, int, int]:
        token = self._tokens[self._at]
        if wanted and token[0] != wanted:
            raise invalid(f"expected '{wanted}' at '{self._text[token[2] :][:20]}' in '{self._text[:80]}'")
        self._at += 1
        return token


def holds_unknown(value: Any) -> bool:
    """Return whether a value or a part of it is unknown."""
    if isinstance(value, Unknown):
        return True
    if isinstance(value, list):
        return any(holds_unknown(one) for one in value)
    return isinstance(value, dict) and any(holds_unknown(one) for one in value.values())
