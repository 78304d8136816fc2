"""What a Terraform module declares, as python-hcl2 reads it, and the tables that are made of it."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.deployment.terraform.variables import parsed

_WIDEST = 60  # characters of a type or default in a table


@dataclass(frozen=True)
class Module:
    """Bodies of variables, outputs and resources (`type.name`), and the locals; expressions are `${…}` strings."""

    variables: dict[str, dict[str, Any]] = field(default_factory=dict)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    locals: dict[str, Any] = field(default_factory=dict)


@functools.cache
def read(folder: Path) -> Module:
    """Return what the `.tf` files of a folder declare. Raises ValueError for a file that is not HCL."""
    module = Module()
    for path in sorted(folder.glob("*.tf")):
        document = parsed(path.read_text(encoding="utf-8"))
        for kind, found in (("variable", module.variables), ("output", module.outputs), ("locals", module.locals)):
            for block in document.get(kind, ()):
                found.update(block)
        for block in document.get("resource", ()):
            module.resources.update(
                {f"{kind}.{name}": body for kind, one in block.items() for name, body in one.items()}
            )
    return module


def type_of(variable: Mapping[str, Any]) -> str:
    """Return a variable's type as it is written, `any` where none is."""
    return str(variable.get("type", "any")).removeprefix("${").removesuffix("}")


def inputs(module: Module, head: tuple[str, ...] = ("name", "type", "default", "description")) -> str:
    """Return the Markdown table of a module's variables."""
    return _table(
        head,
        (
            (f"`{name}`", f"`{_short(type_of(body), '(…)')}`", _default(body), body.get("description", ""))
            for name, body in module.variables.items()
        ),
    )


def outputs(module: Module) -> str:
    """Return the Markdown table of a module's outputs."""
    rows = ((f"`{name}`", body.get("description", "")) for name, body in module.outputs.items())
    return _table(("name", "description"), rows)


def _default(variable: Mapping[str, Any]) -> str:
    if "default" not in variable:
        return "required"
    return f"`{_short(json.dumps(variable['default'], ensure_ascii=False), '…')}`"


def _short(text: str, rest: str) -> str:
    return text if len(text) <= _WIDEST else text.partition("(")[0] + rest if "(" in rest else rest


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
