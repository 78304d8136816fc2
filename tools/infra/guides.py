"""A module's guide, `docs/<cloud>.md`: it names every resource, and its tables of rights are those of the module."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tools import operator_policies, security_doc
from tools.infra import hcl
from tools.infra.fault import Fault

_HOLDERS = ("function", "connector")


def faults(root: Path, module: hcl.Module) -> Iterator[Fault]:
    """Yield the resources that a guide leaves out or makes up, and the tables in it that are missing or out of date."""
    cloud = module.path.name
    path = root / "docs" / f"{cloud}.md"
    if not path.exists():
        yield Fault(path, 1, "is missing; a module has a guide")
        return
    text = path.read_text(encoding="utf-8")
    declared = {".".join(key[-2:]): block for key, block in module.objects.items() if block.kind == "resource"}
    named = {found[1]: text.count("\n", 0, found.start()) + 1 for found in _names(declared).finditer(text)}
    for name in sorted(declared.keys() - named.keys()):
        yield Fault(
            declared[name].path, declared[name].line, f"{name} is not in docs/{cloud}.md; name it with its reason"
        )
    for name in sorted(named.keys() - declared.keys()):
        yield Fault(path, named[name], f"names {name}, which the module does not declare")
    tables = {(found["cloud"], found["holder"]): found for found in security_doc.MARK.finditer(text)}
    for holder in _HOLDERS:
        if (cloud, holder) not in tables:
            yield Fault(path, 1, f"has no table between <!-- rights: {cloud} {holder} --> and <!-- end of rights -->")


def table_faults(root: Path) -> Iterator[Fault]:
    """Yield the tables of rights and the operator's policies that differ from the files they are made from."""
    for path in security_doc.documents(root):
        text = path.read_text(encoding="utf-8")
        for name in security_doc.stale(text, root):
            line = text.count("\n", 0, text.index(f"<!-- rights: {name} -->")) + 1
            yield Fault(path, line, f"the rights of {name} differ from the module's; make infra-docs writes them")
    for source in sorted(root.glob(f"infra/*/{operator_policies.SOURCE}")):
        for name in operator_policies.stale(source.parent):
            yield Fault(source.with_name(name), 1, f"differs from {source.name}; make infra-docs writes it")


def write(root: Path) -> None:
    """Bring all of them up to date."""
    for path in security_doc.documents(root):
        path.write_text(security_doc.rendered(path.read_text(encoding="utf-8"), root), encoding="utf-8")
    for source in sorted(root.glob(f"infra/*/{operator_policies.SOURCE}")):
        for name, text in operator_policies.documents(source.parent).items():
            source.with_name(name).write_text(text, encoding="utf-8")


def _names(declared: dict[str, hcl.Block]) -> re.Pattern[str]:
    """What looks like a resource of the module's providers, alone between two backticks."""
    providers = sorted({name.partition("_")[0] for name in declared} | {"terraform"})
    return re.compile(rf"`((?:{'|'.join(map(re.escape, providers))})_\w+\.\w+)`")
