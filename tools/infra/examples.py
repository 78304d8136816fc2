"""The examples of a module: complete, and calling it as it is."""

from __future__ import annotations

from collections.abc import Iterator

from tools.infra import hcl
from tools.infra.fault import Fault
from tools.infra.schema import providers_of

_META = frozenset({"source", "version", "providers", "count", "for_each", "depends_on"})


def faults(example: hcl.Module, module: hcl.Module) -> Iterator[Fault]:
    """Yield where an example does not fit the module it shows."""
    callers = [block for block in example.of("module") if _calls(block, module)]
    if not callers:
        yield Fault(example.path / "main.tf", 1, f"does not call {module.path.name}, of which it is an example")
    for block in callers:
        given = {attribute.name: attribute for attribute in block.attributes if attribute.name not in _META}
        for name, attribute in given.items():
            if name not in module.variables:
                yield Fault(attribute.path, attribute.line, f"the module has no variable {name}")
        for name, variable in module.variables.items():
            if "default" not in variable.by_name and name not in given:
                yield Fault(block.path, block.line, f"variable {name} is required and not given")
    names = {block.labels[0] for block in callers}
    for _, _, attribute in example.everything():
        for reference in attribute.references():
            parts = reference.parts
            if parts[0] == "module" and len(parts) > 2 and parts[1] in names:
                output = parts[2] if not parts[2].startswith("[") else (parts[3] if len(parts) > 3 else "")
                if output and output not in module.outputs:
                    yield Fault(attribute.path, reference.line, f"the module has no output {output}")
    configured = {block.labels[0] for block in example.of("provider") if block.labels}
    for name in sorted(providers_of(module) - configured - {"terraform"}):
        yield Fault(example.path / "main.tf", 1, f"has no provider block {name}; an example is complete")


def _calls(block: hcl.Block, module: hcl.Module) -> bool:
    source = block.by_name.get("source")
    said = source.literal if source else None
    return said is not None and said.startswith(".") and (block.path.parent / said).resolve() == module.path.resolve()
