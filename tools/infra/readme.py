"""The tables of inputs and outputs in a module's README: made from the files, and held equal to them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tools.infra import hcl
from tools.infra.fault import Fault

_WIDEST = 60


def tables(module: hcl.Module) -> dict[str, str]:
    """The Markdown tables, by the names of their markers: `inputs` and `outputs`."""
    inputs = ["| name | type | default | description |", "| --- | --- | --- | --- |"]
    for name, block in module.variables.items():
        kind = _type_name(block)
        default = block.by_name.get("default")
        shown = "required" if default is None else f"`{_short(default)}`"
        inputs.append(f"| `{name}` | `{kind}` | {shown} | {_description(block)} |")
    outputs = ["| name | description |", "| --- | --- |"]
    outputs += [f"| `{name}` | {_description(block)} |" for name, block in module.outputs.items()]
    return {"inputs": "\n".join(inputs), "outputs": "\n".join(outputs)}


def faults(module: hcl.Module) -> Iterator[Fault]:
    """Yield the tables that are missing or differ from the module's variables and outputs."""
    path = module.path / "README.md"
    if not path.exists():
        yield Fault(path, 1, "is missing")
        return
    text = path.read_text(encoding="utf-8")
    for name, table in tables(module).items():
        found = _between(name).search(text)
        if found is None:
            yield Fault(
                path, 1, f"has no table between <!-- {name} --> and <!-- /{name} -->; make infra-docs writes it"
            )
        elif found[1].strip() != table:
            line = text.count("\n", 0, found.start()) + 1
            yield Fault(path, line, f"the table of {name} differs from the files; make infra-docs writes it")


def write(module: hcl.Module) -> bool:
    """Bring the tables up to date, under the headings Inputs and Outputs where there are no markers yet.

    Returns whether the file changed. A README without such a heading gets one at its end.
    """
    path = module.path / "README.md"
    before = path.read_text(encoding="utf-8") if path.exists() else f"# {module.path.name}\n"
    text = before
    for name, table in tables(module).items():
        block = f"<!-- {name} -->\n{table}\n<!-- /{name} -->"
        heading = re.compile(rf"^(#+ {name}[^\n]*\n)(?:\n*(?:\|[^\n]*\n)+)?", re.IGNORECASE | re.MULTILINE)
        if _between(name).search(text):
            text = _replaced(_between(name), block, text)
        elif heading.search(text):
            text = _replaced(heading, f"## {name.capitalize()}\n\n{block}\n", text)
        else:
            text = f"{text.rstrip()}\n\n## {name.capitalize()}\n\n{block}\n"
    if text != before:
        path.write_text(text, encoding="utf-8")
    return text != before


def _replaced(pattern: re.Pattern[str], by: str, text: str) -> str:
    """Replace the first match, whatever characters the new text has."""
    return pattern.sub(lambda _: by, text, count=1)


def _between(name: str) -> re.Pattern[str]:
    return re.compile(rf"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", re.DOTALL)


def _description(block: hcl.Block) -> str:
    attribute = block.by_name.get("description")
    said = (attribute.literal or "") if attribute else ""
    return said.replace('\\"', '"').replace("|", "\\|").replace("\n", " ").strip()


def _type_name(block: hcl.Block) -> str:
    attribute = block.by_name.get("type")
    squeezed = attribute.squeezed if attribute else "any"
    return squeezed if len(squeezed) <= _WIDEST else re.sub(r"\(.*\)$", "(…)", squeezed)


def _short(attribute: hcl.Attribute) -> str:
    shown = " ".join(attribute.text.split())
    return (shown if len(shown) <= _WIDEST else "…").replace("|", "\\|")
