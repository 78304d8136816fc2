"""Finds the tests of a constant, a default or a class: no test executes its lines, because an import does before."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping

from tests.mutants.mutate import Mutant

ASSIGNED = (ast.Assign, ast.AnnAssign)


class Uses:
    """What mentions a name: lines of a package (by path and number), and tests (`file::function`); by parsed files."""

    def __init__(self, package: Mapping[str, ast.Module], tests: Mapping[str, ast.Module]) -> None:
        self._lines: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self._tests: dict[str, set[str]] = defaultdict(set)
        self._constants = []
        for path, tree in package.items():
            for name, line in _mentions(tree):
                self._lines[name].add((path, line))
            self._constants += [
                (_assigned(one), {name for name, _ in _mentions(one)}) for one in tree.body if isinstance(one, ASSIGNED)
            ]
        for path, tree in tests.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                    for name, _ in _mentions(node):
                        self._tests[name].add(f"{path}::{node.name}")

    def names(self, mutant: Mutant) -> set[str]:
        """Return the names of what a mutant changes, and those of the constants that use it.

        They are those of the function or the class, and of the constants or the field that are assigned.
        """
        names = {one for one in mutant.change.qualified.split(".") if one and not one.startswith("__")}
        for node in ast.walk(mutant.tree):
            if isinstance(node, ASSIGNED) and node.lineno <= mutant.lines[0] <= (node.end_lineno or 0):
                names |= _assigned(node)
        while more := {name for made, of in self._constants if names & of for name in made} - names:
            names |= more
        return names

    def lines(self, names: set[str]) -> set[tuple[str, int]]:
        """Return the lines of the package that mention one of the names."""
        return {line for name in names for line in self._lines[name]}

    def tests(self, names: set[str]) -> set[str]:
        """Return the tests that mention one of the names."""
        return {test for name in names for test in self._tests[name]}


def _assigned(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


def _mentions(node: ast.AST) -> Iterator[tuple[str, int]]:
    for one in ast.walk(node):
        match one:
            case ast.Name(id=name, lineno=line) | ast.Attribute(attr=name, end_lineno=int(line)):
                yield name, line
