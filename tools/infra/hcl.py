"""Read Terraform files into blocks, attributes and references, each with its line.

The grammar is tree-sitter's; nothing is evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import tree_sitter_hcl
from tree_sitter import Language, Node, Parser

_PARSER = Parser(Language(tree_sitter_hcl.language()))


@dataclass(frozen=True)
class Reference:
    """A name in an expression, such as `("aws_s3_bucket", "export", "[]", "arn")`.

    A literal index is "[key]"; every other index and a splat are "[]".
    """

    parts: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Attribute:
    """`name = value`; `value` is the syntax tree of the expression."""

    name: str
    value: Node
    line: int
    path: Path

    @property
    def text(self) -> str:
        """The expression as it is written."""
        return _text(self.value)

    @property
    def squeezed(self) -> str:
        """The expression without blanks and line ends, to compare two."""
        return "".join(self.text.split())

    @property
    def literal(self) -> str | None:
        """What the string says, or None where it is no plain string."""
        return string_of(self.value)

    def references(self) -> list[Reference]:
        """Every name in the expression that is not bound in it."""
        return list(references(self.value))


@dataclass(frozen=True)
class Block:
    """`kind "label" … { body }`."""

    kind: str
    labels: tuple[str, ...]
    line: int
    path: Path
    attributes: tuple[Attribute, ...] = ()
    blocks: tuple[Block, ...] = ()

    @cached_property
    def by_name(self) -> dict[str, Attribute]:
        """The attributes by their names."""
        return {attribute.name: attribute for attribute in self.attributes}

    def nested(self, kind: str) -> list[Block]:
        """The blocks of one kind directly in this one."""
        return [block for block in self.blocks if block.kind == kind]

    def everything(self) -> Iterator[tuple[Block, Attribute]]:
        """Each attribute in this block and those below it, with the block that holds it."""
        for attribute in self.attributes:
            yield self, attribute
        for block in self.blocks:
            yield from block.everything()


@dataclass
class Module:
    """All Terraform files of one folder, not of those below it."""

    path: Path
    blocks: list[Block] = field(default_factory=list)
    broken: list[tuple[Path, int]] = field(default_factory=list)

    def of(self, kind: str) -> list[Block]:
        """The top-level blocks of one kind."""
        return [block for block in self.blocks if block.kind == kind]

    @cached_property
    def variables(self) -> dict[str, Block]:
        """The declared variables."""
        return {block.labels[0]: block for block in self.of("variable") if block.labels}

    @cached_property
    def outputs(self) -> dict[str, Block]:
        """The declared outputs."""
        return {block.labels[0]: block for block in self.of("output") if block.labels}

    @cached_property
    def locals(self) -> dict[str, Attribute]:
        """The declared local values."""
        return {attribute.name: attribute for block in self.of("locals") for attribute in block.attributes}

    @cached_property
    def objects(self) -> dict[tuple[str, ...], Block]:
        """Resources as (type, name), data sources as ("data", type, name)."""
        found: dict[tuple[str, ...], Block] = {}
        for block in self.blocks:
            if block.kind == "resource" and len(block.labels) == 2:
                found[block.labels] = block
            elif block.kind == "data" and len(block.labels) == 2:
                found["data", *block.labels] = block
        return found

    def everything(self) -> Iterator[tuple[Block, Block, Attribute]]:
        """Each attribute with its top-level block and the block that holds it."""
        for block in self.blocks:
            for holder, attribute in block.everything():
                yield block, holder, attribute


def read_module(folder: Path) -> Module:
    """Read the folder's `.tf` files; a file that does not parse is named in `broken` with its first bad line."""
    module = Module(folder)
    for path in sorted(folder.glob("*.tf")):
        root = _PARSER.parse(path.read_bytes()).root_node
        if root.has_error:
            module.broken.append((path, _first_error(root)))
            continue
        for body in root.named_children:
            if body.type == "body":
                module.blocks += [_block(node, path) for node in body.named_children if node.type == "block"]
    return module


def string_of(node: Node) -> str | None:
    """What a quoted string without interpolation says; None for every other expression."""
    while node.type in {"expression", "literal_value"} and node.named_child_count == 1:
        node = node.named_children[0]
    if node.type != "string_lit":
        return None
    return "".join(_text(part) for part in node.named_children if part.type == "template_literal")


def elements(node: Node) -> list[tuple[str | None, Node, Node]] | None:
    """The entries of a written-out object as (name, None where it is computed; key; value); None for anything else."""
    node = _inner(node)
    if node.type != "object":
        return None
    found: list[tuple[str | None, Node, Node]] = []
    for entry in node.named_children:
        if entry.type == "object_elem":
            key, value = (child for child in entry.named_children if child.type == "expression")
            found.append((_plain_name(key) or string_of(key), key, value))
    return found


def items(node: Node) -> list[Node] | None:
    """The expressions of a written-out list; None for anything else."""
    node = _inner(node)
    return [child for child in node.named_children if child.type == "expression"] if node.type == "tuple" else None


def calls(node: Node) -> Iterator[tuple[str, int]]:
    """The functions an expression calls, with their lines."""
    if node.type == "function_call":
        name = "".join(_text(child) for child in node.children[: _index_of(node, "(")])
        yield name, line_of(node)
    for child in node.named_children:
        yield from calls(child)


def references(node: Node, bound: frozenset[str] = frozenset()) -> Iterator[Reference]:
    """The names in an expression, without those that a `for` in it binds."""
    if node.type in {"for_expr", "template_for"}:
        yield from _for_references(node, bound)
        return
    if node.type == "object_elem":
        key, *rest = node.named_children
        if _plain_name(key) is None:
            yield from references(key, bound)
        for child in rest:
            yield from references(child, bound)
        return
    children = node.named_children
    for position, child in enumerate(children):
        if child.type == "variable_expr":
            parts = (_text(child), *_tail(children[position + 1 :]))
            if parts[0] not in bound:
                yield Reference(parts, line_of(child))
        else:
            yield from references(child, bound)


def line_of(node: Node) -> int:
    """The line on which a node begins, from 1."""
    return node.start_point.row + 1


def _for_references(node: Node, bound: frozenset[str]) -> Iterator[Reference]:
    intro = _find(node, {"for_intro", "template_for_start"})
    names = frozenset(_text(child) for child in intro.named_children if child.type == "identifier") if intro else bound
    for child in node.named_children[0].children if node.type == "for_expr" else node.children:
        # What is iterated over is evaluated outside.
        yield from references(child, bound if child == intro else bound | names)


def _find(node: Node, kinds: set[str]) -> Node | None:
    for child in node.named_children:
        if child.type in kinds:
            return child
        if child.type.startswith("for_") and (found := _find(child, kinds)):
            return found
    return None


def _tail(siblings: list[Node]) -> Iterator[str]:
    """What follows a name: attributes, and "[]" for whatever picks from a collection."""
    for sibling in siblings:
        if sibling.type == "get_attr":
            yield _text(sibling.named_children[0])
        elif sibling.type == "index":
            inner = sibling.named_children[0]
            key = string_of(inner.named_children[0]) if inner.type == "new_index" else None
            yield f"[{key}]" if key is not None else "[]"
        elif sibling.type == "splat":
            yield "[]"
            yield from _tail(sibling.named_children[0].named_children)
        else:
            return


def _inner(node: Node) -> Node:
    while node.type in {"expression", "collection_value"} and node.named_child_count == 1:
        node = node.named_children[0]
    return node


def _plain_name(key: Node) -> str | None:
    """The name of an object's key that is written bare, as in `{ name = 1 }`."""
    if key.named_child_count == 1 and key.named_children[0].type == "variable_expr" and not _text(key).startswith("("):
        return _text(key)
    return None


def _block(node: Node, path: Path) -> Block:
    head: list[str] = []
    attributes: list[Attribute] = []
    blocks: list[Block] = []
    for child in node.named_children:
        if child.type == "identifier":
            head.append(_text(child))
        elif child.type == "string_lit":
            head.append(string_of(child) or "")
        elif child.type == "body":
            for entry in child.named_children:
                if entry.type == "attribute":
                    name, value = entry.named_children[0], entry.named_children[-1]
                    attributes.append(Attribute(_text(name), value, line_of(entry), path))
                elif entry.type == "block":
                    blocks.append(_block(entry, path))
    return Block(head[0], tuple(head[1:]), line_of(node), path, tuple(attributes), tuple(blocks))


def _first_error(node: Node) -> int:
    if node.type == "ERROR" or node.is_missing:
        return line_of(node)
    return next((_first_error(child) for child in node.children if child.has_error or child.is_missing), line_of(node))


def _index_of(node: Node, kind: str) -> int:
    return next((place for place, child in enumerate(node.children) if child.type == kind), len(node.children))


def _text(node: Node) -> str:
    return (node.text or b"").decode()
