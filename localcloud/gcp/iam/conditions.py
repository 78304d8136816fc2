"""Conditions in the subset of CEL that the deployment uses: string comparisons joined by ``&&`` and ``||``.

A term is ``path == 'text'`` or ``path.startsWith('text')`` (https://cloud.google.com/iam/docs/conditions-overview).
Anything else is rejected when the condition is set, so that an unsupported condition never evaluates to true.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

_PATH = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*?"
_TEXT = r"\"(?P<{0}_double>[^\"\\]*)\"|'(?P<{0}_single>[^'\\]*)'"
_TERM = re.compile(
    rf"\s*(?P<path>{_PATH})(?:\s*==\s*(?:{_TEXT.format('is')})|\.startsWith\(\s*(?:{_TEXT.format('begins')})\s*\))\s*"
)
_JOINT = re.compile(r"&&|\|\|")


@dataclass(frozen=True)
class Term:
    """One comparison; with `prefix`, the value only has to start with the text."""

    path: str
    text: str
    prefix: bool

    def holds(self, values: Mapping[str, str]) -> bool:
        # CEL fails on a missing attribute, which IAM treats as false.
        value = values.get(self.path)
        return value is not None and (value.startswith(self.text) if self.prefix else value == self.text)


# difference: GCP-5
@cache
def parse(expression: str) -> tuple[tuple[Term, ...], ...]:
    """Return the terms of a condition in groups: it holds if all terms of any group hold.

    Raises ValueError for anything outside the supported subset of CEL.
    """
    groups: list[list[Term]] = [[]]
    position = 0
    while True:
        found = _TERM.match(expression, position)
        if found is None:
            raise ValueError(f"the condition is not supported from {expression[position:][:60]!r} on")
        groups[-1].append(_term(found))
        position = found.end()
        if position == len(expression):
            return tuple(tuple(group) for group in groups)
        joint = _JOINT.match(expression, position)
        if joint is None:
            raise ValueError(f"the condition is not supported from {expression[position:][:60]!r} on")
        if joint[0] == "||":
            groups.append([])
        position = joint.end()


def holds(expression: str, values: Mapping[str, str]) -> bool:
    """Return whether a condition holds; `values` maps a path such as ``resource.name`` to its text."""
    return any(all(term.holds(values) for term in group) for group in parse(expression))


def _term(found: re.Match[str]) -> Term:
    parts = found.groupdict()
    prefix = parts["is_double"] is None and parts["is_single"] is None
    kind = "begins" if prefix else "is"
    double = parts[f"{kind}_double"]
    return Term(parts["path"], str(double if double is not None else parts[f"{kind}_single"]), prefix)
