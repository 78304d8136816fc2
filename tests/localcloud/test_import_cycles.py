"""No module of the local clouds imports itself through others."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


def test_imports_have_no_cycle() -> None:
    """Imports for type checkers count, too: they hide that two modules cannot be understood apart."""
    graph = grimp.build_graph("localcloud", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle of imports: {' -> '.join(error.args[1])}")
