"""The modules of the local clouds have no import cycles."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


def test_local_clouds_have_no_import_cycle() -> None:
    """Imports for type checking count, because they also couple modules."""
    graph = grimp.build_graph("localcloud", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle of imports: {' -> '.join(error.args[1])}")
