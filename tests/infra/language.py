"""Finds what Terraform 1.5.7, the newest version that Google's Infrastructure Manager runs, does not know.

The lists below are what 1.5 knows, so that a construct of any later version is refused, including a future one.
Sources: "Terraform and Infrastructure Manager" (supported versions; no backend block) in Google's documentation;
"Terraform Language" and "Built-in Functions" of Terraform 1.5; the changelogs of 1.6 to 1.14 for the tests' examples.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hcl2
from lark import Token, Tree

# The blocks of each block. None: the provider's schema decides, and `terraform validate` checks it.
BLOCKS: dict[str, frozenset[str] | None] = {
    "": frozenset(
        "check data import locals module moved output provider resource terraform variable".split()  # noqa: SIM905 - a list of words, one line
    ),
    # Without backend and cloud: Infrastructure Manager keeps the state.
    "terraform": frozenset({"required_providers", "provider_meta"}),
    "variable": frozenset({"validation"}),
    "output": frozenset({"precondition"}),
    "check": frozenset({"assert", "data"}),
    "resource": None,
    "data": None,
    "provider": None,
}
# The arguments of the blocks that belong to the language. A block that is not listed here has a provider's arguments.
ARGUMENTS: dict[str, frozenset[str]] = {
    "assert": frozenset({"condition", "error_message"}),
    "import": frozenset({"id", "provider", "to"}),
    "lifecycle": frozenset({"create_before_destroy", "ignore_changes", "prevent_destroy", "replace_triggered_by"}),
    "moved": frozenset({"from", "to"}),
    "output": frozenset({"depends_on", "description", "sensitive", "value"}),
    "postcondition": frozenset({"condition", "error_message"}),
    "precondition": frozenset({"condition", "error_message"}),
    "terraform": frozenset({"experiments", "required_version"}),
    "validation": frozenset({"condition", "error_message"}),
    "variable": frozenset({"default", "description", "nullable", "sensitive", "type"}),
}
# Source: "Built-in Functions", Terraform 1.5.
FUNCTIONS = frozenset(
    """
    abs ceil floor log max min parseint pow signum
    chomp endswith format formatlist indent join lower regex regexall replace split startswith strcontains strrev substr
    title trim trimprefix trimspace trimsuffix upper
    alltrue anytrue chunklist coalesce coalescelist compact concat contains distinct element flatten index keys length
    list lookup map matchkeys merge one range reverse setintersection setproduct setsubtract setunion slice sort sum
    transpose values zipmap
    base64decode base64encode base64gzip csvdecode jsondecode jsonencode textdecodebase64 textencodebase64 urlencode
    yamldecode yamlencode
    abspath basename dirname file filebase64 fileexists fileset pathexpand templatefile
    formatdate plantimestamp timeadd timecmp timestamp
    base64sha256 base64sha512 bcrypt filebase64sha256 filebase64sha512 filemd5 filesha1 filesha256 filesha512 md5
    rsadecrypt sha1 sha256 sha512 uuid uuidv5
    cidrhost cidrnetmask cidrsubnet cidrsubnets
    can nonsensitive sensitive tobool tolist tomap tonumber toset tostring try type
    any object optional set tuple
    """.split()  # noqa: SIM905 - the documentation's groups, one a line
)  # the last line are type constraints
_CALL = re.compile(r"(?<![\w.])([a-z_][\w:]*)\(")


@dataclass(frozen=True, order=True)
class Newer:
    """A construct that Terraform 1.5 refuses or understands differently."""

    file: str
    line: int
    what: str


def newer(folder: Path) -> list[Newer]:
    """Return every construct in a module's files, and in the templates that it renders, that 1.5 does not know."""
    found: list[Newer] = []
    for path in sorted(folder.glob("*.tf")):
        text = path.read_text(encoding="utf-8")
        tree = hcl2.parses_to_tree(text)
        found += (Newer(path.name, line, what) for line, what in _body(_child(tree, "body"), "", ""))
        found += (Newer(path.name, line, what) for line, what in _calls(tree))
        for template in re.findall(r'templatefile\("\$\{path\.module\}/([\w.-]+)"', text):
            rendered = (folder / template).read_text(encoding="utf-8")
            for expression in re.findall(r"[$%]\{(.*?)\}", rendered):
                unknown = set(_CALL.findall(expression)) - FUNCTIONS
                found += (Newer(template, 0, f"function {one}") for one in sorted(unknown))
    return sorted(set(found))


def _body(body: Tree[Token], kind: str, name: str) -> Iterator[tuple[int, str]]:
    """Yield what is unknown in the body of a block; `name` is the variable's name in a variable block."""
    known = BLOCKS.get(kind)
    for part in body.children:
        if not isinstance(part, Tree):
            continue
        label = _first(part)
        if part.data == "attribute":
            if kind in ARGUMENTS and label not in ARGUMENTS[kind]:
                yield _line(part), f"argument {label} of {kind}"
            if kind == "validation":
                yield from _foreign(part, name)
        elif part.data == "block":
            if known is not None and label not in known:
                yield _line(part), f"block {label} in {kind or 'a file'}"
            own = _labels(part)[0] if label == "variable" else name
            yield from _body(_child(part, "body"), label, own)


def _foreign(attribute: Tree[Token], name: str) -> Iterator[tuple[int, str]]:
    """Yield what a validation refers to besides its own variable, which 1.5 refuses (possible from 1.9 on)."""
    loops = {_text(one) for intro in attribute.find_data("for_intro") for one in _direct(intro, "identifier")}
    for access in attribute.find_data("get_attr_expr_term"):
        inner = access.children[0]
        if not isinstance(inner, Tree) or not (identifiers := _direct(inner, "identifier")):
            continue
        start = _text(identifiers[0])
        if start in loops or inner.data != "expr_term" or len(inner.children) != 1:
            continue
        member = _text(next(access.find_data("get_attr")).children[-1])
        if (start, member) != ("var", name) and start != "path":
            yield _line(access), f"reference to {start}.{member} in the validation of {name}"


def _calls(tree: Tree[Token]) -> Iterator[tuple[int, str]]:
    for call in tree.find_data("function_call"):
        parts = [_text(one) for one in _direct(call, "identifier")]
        name = "::".join(parts)
        if len(parts) > 1 or name not in FUNCTIONS:
            yield _line(call), f"function {name}"


def _direct(tree: Tree[Token], kind: str) -> list[Tree[Token]]:
    return [one for one in tree.children if isinstance(one, Tree) and one.data == kind]


def _child(tree: Tree[Token], kind: str) -> Tree[Token]:
    return _direct(tree, kind)[0]


def _labels(block: Tree[Token]) -> list[str]:
    return [_text(one).strip('"') for one in block.children[1:] if isinstance(one, Tree) and one.data == "string"]


def _first(tree: Tree[Token]) -> str:
    return _text(tree.children[0]) if tree.children else ""


def _text(tree: Tree[Token] | Token) -> str:
    return str(tree) if isinstance(tree, Token) else "".join(_text(one) for one in tree.children)


def _line(tree: Tree[Token]) -> int:
    return next((int(token.line or 0) for token in tree.scan_values(lambda one: isinstance(one, Token))), 0)
