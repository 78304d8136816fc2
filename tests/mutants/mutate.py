"""Makes mutants of a module: copies of its source that differ in one expression or statement.

A mutant's name is `path qualified.name: before → after`, with ` #2` for the second such place of a function. It does
not contain a line number, so that it stays valid while other code changes.

Not changed are docstrings, annotations, prose (texts with a blank, of which messages consist), log calls, options of
classes, and the `strict` of zip.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATE: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
CALLED = {"min": "max", "max": "min", "any": "all", "all": "any"}
LOGS = {"log", "debug", "info", "warning", "error"}
WORD = re.compile(r"\S+")


class Change(NamedTuple):
    """A node that is replaced: by a field of its parent, and a place in it if the field is a list."""

    parent: ast.AST
    field: str
    place: int | None
    old: ast.AST
    new: ast.AST
    qualified: str


class Mutant(NamedTuple):
    """One changed place of a module.

    `lines` are the first and the last line of what is changed, `part` the hash of the function, the class or the
    statement of the module that it is in.
    """

    name: str
    path: str
    lines: tuple[int, int]
    part: str
    tree: ast.Module
    change: Change

    def code(self, root: Path) -> CodeType:
        """Return the code of the changed module, as if it were that of its file below `root`."""
        with _applied(self.change):
            return compile(self.tree, str(root / self.path), "exec", dont_inherit=True)


def mutants_of(path: str, source: str) -> list[Mutant]:
    """Return all mutants of a module, in the order of its source."""
    tree = ast.parse(source)
    parts = [(one.end_lineno or 0, hashlib.sha256(ast.unparse(one).encode()).hexdigest()[:16]) for one in tree.body]
    seen: Counter[str] = Counter()
    found = []
    for change in _changes(tree, "", skip=_untouched(tree)):
        text = f"{path} {change.qualified or 'module'}: {_shown(change.old)} → {_shown(change.new)}"
        seen[text] += 1
        name = text if seen[text] == 1 else f"{text} #{seen[text]}"
        lines = (getattr(change.old, "lineno", 1), getattr(change.old, "end_lineno", 1))
        part = next(digest for end, digest in parts if end >= lines[0])
        found.append(Mutant(name, path, lines, part, tree, change))
    return found


@contextmanager
def _applied(change: Change) -> Iterator[None]:
    """Change the tree, and change it back at the end: a copy of it for each mutant would take most of the time."""
    new = ast.fix_missing_locations(ast.copy_location(change.new, change.old))
    holder: Any = vars(change.parent) if change.place is None else getattr(change.parent, change.field)
    place: Any = change.field if change.place is None else change.place
    holder[place] = new
    try:
        yield
    finally:
        holder[place] = change.old


def _shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else f"{text[:60]}…{text[-29:]}"


def _untouched(tree: ast.Module) -> set[int]:
    """Return the ids of nodes below which nothing is changed."""
    skip: set[int] = set()
    for node in ast.walk(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.Import() | ast.ImportFrom() | ast.JoinedStr():
                skip.add(id(node))
            case ast.Raise(exc=ast.Call(args=args)):
                skip |= {id(one) for one in args if not isinstance(one, ast.Constant)}
            case ast.Expr(value=ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name))) if name.strip("_") in LOGS:
                skip.add(id(node))
            case ast.ClassDef():
                skip |= {id(one) for one in node.keywords}  # how a class is stored, such as frozen=True
            case ast.Call():
                skip |= {id(one) for one in node.keywords if one.arg == "strict"}
            case ast.AnnAssign():
                skip.add(id(node.annotation))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                skip |= {id(one) for one in ast.walk(node.args) if isinstance(one, ast.arg)}
                if node.returns:
                    skip.add(id(node.returns))
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                skip.add(id(node))
        body = getattr(node, "body", None)
        if isinstance(body, list):
            texts = (one for one in body if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
            skip |= {id(one) for one in texts}
    return skip


def _changes(node: ast.AST, qualified: str, skip: set[int]) -> Iterator[Change]:
    for field, value in ast.iter_fields(node):
        many = isinstance(value, list)
        for place, child in enumerate(value if many else [value]):
            if not isinstance(child, ast.AST) or id(child) in skip:
                continue
            for new in _variants(child, node, field):
                yield Change(node, field, place if many else None, child, new, qualified)
            named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            inner = f"{qualified}.{child.name}".lstrip(".") if named else qualified  # type: ignore[attr-defined]  # it has a name
            yield from _changes(child, inner, skip)


def _variants(node: ast.AST, parent: ast.AST, field: str) -> Iterator[ast.AST]:
    """Yield what a node is replaced by."""
    if isinstance(node, ast.stmt):
        yield from _statements(node)
    elif isinstance(node, ast.expr):
        yield from _expressions(node, parent, field)


def _statements(node: ast.stmt) -> Iterator[ast.stmt]:
    match node:
        case ast.Expr(value=ast.Call() | ast.Await() | ast.Yield() | ast.YieldFrom()) | ast.Raise() | ast.AugAssign():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]) | ast.Delete():
            yield ast.Pass()
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Continue()
        case ast.Return(value=value) if value is not None and not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.If(test=test) if not _flips(test):
            yield ast.If(_negated(test), node.body, node.orelse)
        case ast.While(test=test) if not _flips(test):
            yield ast.While(_negated(test), node.body, node.orelse)


def _flips(test: ast.expr) -> bool:
    """Return whether the condition is negated by another change already."""
    return (isinstance(test, ast.Compare) and type(test.ops[0]) in (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In)) or (
        isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
    )


def _negated(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _expressions(node: ast.expr, parent: ast.AST, field: str) -> Iterator[ast.expr]:
    match node:
        case ast.Compare(ops=[op, *rest]) if type(op) in COMPARE:
            yield ast.Compare(node.left, [COMPARE[type(op)](), *rest], node.comparators)
        case ast.BoolOp(op=ast.And()):
            yield ast.BoolOp(ast.Or(), node.values)
        case ast.BoolOp(op=ast.Or()):
            yield ast.BoolOp(ast.And(), node.values)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(_negated(test), body, orelse)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATE and not _is_text(left):
            yield ast.BinOp(left, OPERATE[type(op)](), right)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in CALLED:
            yield ast.Call(ast.Name(CALLED[name], ast.Load()), args, keywords)
        case ast.Constant():
            yield from _constants(node, parent, field)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _constants(node: ast.Constant, parent: ast.AST, field: str) -> Iterator[ast.expr]:
    value = node.value
    if isinstance(parent, ast.FormattedValue | ast.Index) or (
        isinstance(parent, ast.Dict) and field == "keys" and not value
    ):
        return
    match value:
        case bool():
            yield ast.Constant(not value)
        case int() | float():
            yield ast.Constant(value + 1)
        case str() if value and WORD.fullmatch(value):
            yield ast.Constant(f"{value}~")


# --- how a mutant gets into a process that has imported the module ---------------------------------------------------

COMPREHENSIONS = {"<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"}
OPTIMIZED = 1  # CO_OPTIMIZED: set for functions, not for the bodies of modules and classes
Place = tuple[str, int, str]


def place_of(code: CodeType) -> Place:
    """Return what identifies a function's code: file, first line, qualified name."""
    return (code.co_filename, code.co_firstlineno, code.co_qualname)


def functions_in(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of all functions that exist once a module is imported, not that of functions within them."""
    for one in code.co_consts:
        if isinstance(one, CodeType):
            if one.co_flags & OPTIMIZED and one.co_name not in COMPREHENSIONS:
                yield one
            else:
                yield from functions_in(one)


def import_time(code: CodeType) -> list[Any]:
    """Return what a module executes while it is imported, in a form that can be compared."""
    consts: list[Any] = []
    for one in code.co_consts:
        if not isinstance(one, CodeType):
            consts.append((type(one).__name__, one))
        elif one.co_flags & OPTIMIZED and one.co_name not in COMPREHENSIONS:
            consts.append(place_of(one))
        else:
            consts.append(import_time(one))
    return [code.co_code, consts, code.co_names]


def with_inner(code: CodeType) -> Iterator[CodeType]:
    """Yield a function's code and that of the functions within it."""
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from with_inner(one)


def replaced(original: CodeType, mutated: CodeType) -> list[CodeType] | None:
    """Return the functions that a mutant changes, or None if it changes what is executed by the import."""
    if import_time(original) != import_time(mutated):
        return None
    before = list(functions_in(original))
    return [new for old, new in zip(before, functions_in(mutated), strict=True) if old != new]
