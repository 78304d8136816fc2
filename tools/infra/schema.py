"""The providers' schemas, and what they say of a module: types, arguments, blocks, and the attributes it refers to."""

from __future__ import annotations

import difflib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tree_sitter import Node

from tools.infra import hcl
from tools.infra.fault import Fault

Json = dict[str, Any]

META_ARGUMENTS = frozenset({"count", "for_each", "depends_on", "provider"})
META_BLOCKS = frozenset({"lifecycle", "provisioner", "connection"})

# The one provider that is built into Terraform.
_BUILT_IN: dict[str, Json] = {
    "resource.terraform_data": {
        "attributes": {
            "input": {"optional": True, "type": "dynamic"},
            "triggers_replace": {"optional": True, "type": "dynamic"},
            "output": {"computed": True, "type": "dynamic"},
            "id": {"computed": True, "type": "string"},
        },
        "block_types": {},
    }
}


class Schemas:
    """Schemas by provider, each read from `<folder>/<provider>.zip` when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Json | None] = dict(_BUILT_IN)
        self._archives: dict[str, zipfile.ZipFile | None] = {}

    def has(self, provider: str) -> bool:
        """Tell whether the provider's schemas are at hand."""
        return provider == "terraform" or self._archive(provider) is not None

    def version(self, provider: str) -> str:
        """The provider's version the schemas are of, "" where none is known."""
        archive = self._archive(provider)
        return str(json.loads(archive.read("version.json"))["version"]) if archive else ""

    def get(self, kind: str, type_name: str) -> Json | None:
        """The block of a `resource` or `data` source; None if the provider has no such type."""
        name = f"{kind}.{type_name}"
        if name not in self._known:
            archive = self._archive(provider_of(type_name))
            present = archive is not None and f"{name}.json" in archive.namelist()
            self._known[name] = json.loads(archive.read(f"{name}.json")) if archive and present else None
        return self._known[name]

    def _archive(self, provider: str) -> zipfile.ZipFile | None:
        if provider not in self._archives:
            path = self._folder / f"{provider}.zip"
            self._archives[provider] = zipfile.ZipFile(path) if path.exists() else None
        return self._archives[provider]

    def close(self) -> None:
        """Close the archives."""
        for archive in self._archives.values():
            if archive is not None:
                archive.close()


def provider_of(type_name: str) -> str:
    """`azurerm` of `azurerm_storage_account`."""
    return type_name.partition("_")[0]


def providers_of(module: hcl.Module) -> set[str]:
    """The providers of all resources and data sources in a module."""
    return {provider_of(key[-2]) for key in module.objects}


def faults(module: hcl.Module, schemas: Schemas, provider: str) -> Iterator[Fault]:
    """Yield what the schemas of one provider, and of what is built in, refuse."""
    judged = {provider, "terraform"}
    for key, block in module.objects.items():
        kind, type_name = block.kind, key[-2]
        if provider_of(type_name) not in judged:
            continue
        schema = schemas.get(kind, type_name)
        if schema is None:
            yield Fault(
                block.path, block.line, f"{type_name} is no {kind} of the provider {_known_as(schemas, type_name)}"
            )
            continue
        yield from _block_faults(block, schema, type_name, top=True)
        yield from _lifecycle_faults(block, schema, type_name)
    for _, _, attribute in module.everything():
        for reference in attribute.references():
            yield from _reference_faults(reference, attribute, module, schemas, judged)


def _known_as(schemas: Schemas, type_name: str) -> str:
    provider = provider_of(type_name)
    return f"{provider} {schemas.version(provider)}".strip()


def _block_faults(block: hcl.Block, schema: Json, where: str, *, top: bool = False) -> Iterator[Fault]:
    if schema.get("open"):
        return
    attributes, block_types = schema.get("attributes", {}), schema.get("block_types", {})
    for attribute in block.attributes:
        if top and attribute.name in META_ARGUMENTS:
            continue
        entry = attributes.get(attribute.name)
        if entry is not None:
            yield from _value_faults(attribute, entry, where)
        elif attribute.name in block_types:
            what = f"{where}: {attribute.name} is a block and takes no `=`"
            yield Fault(attribute.path, attribute.line, what)
        else:
            hint = _closest(attribute.name, [*attributes, *block_types])
            yield Fault(attribute.path, attribute.line, f"{where} has no argument {attribute.name}{hint}")
    seen: dict[str, int] = {}
    for nested in block.blocks:
        if top and nested.kind in META_BLOCKS:
            continue
        name, body = _named_body(nested)
        entry = block_types.get(name)
        if entry is None:
            yield from _no_such_block(nested, name, attributes, block_types, where)
            seen[name] = seen.get(name, 0) + 1
            continue
        # How many a dynamic block becomes is known to Terraform alone.
        seen[name] = seen.get(name, 0) + 1
        if nested.kind != "dynamic" and seen[name] > entry.get("max_items", seen[name]):
            yield Fault(nested.path, nested.line, f"{where} takes one block {name}, here is another")
        yield from _block_faults(body, entry["block"], f"{where}.{name}")
    present = {attribute.name for attribute in block.attributes} | set(seen)
    for name, entry in {**attributes, **block_types}.items():
        if name not in present and (entry.get("required") or entry.get("min_items", 0) > 0):
            yield Fault(block.path, block.line, f"{where} lacks {name}, which it requires")


def _named_body(block: hcl.Block) -> tuple[str, hcl.Block]:
    """A nested block's name and body, whether written out or `dynamic`."""
    if block.kind == "dynamic" and block.labels:
        content = block.nested("content")
        return block.labels[0], content[0] if content else block
    return block.kind, block


def _no_such_block(nested: hcl.Block, name: str, attributes: Json, block_types: Json, where: str) -> Iterator[Fault]:
    kind = attributes.get(name, {}).get("type")
    if isinstance(kind, list) and isinstance(kind[1], list):
        # The older providers take these in either form.
        return
    if name in attributes:
        yield Fault(nested.path, nested.line, f"{where}: {name} is an argument and is written with `=`")
    else:
        yield Fault(
            nested.path, nested.line, f"{where} has no block {name}{_closest(name, [*block_types, *attributes])}"
        )


def _value_faults(attribute: hcl.Attribute, entry: Json, where: str) -> Iterator[Fault]:
    if not (entry.get("optional") or entry.get("required")):
        yield Fault(attribute.path, attribute.line, f"{where}: {attribute.name} can be read and not be set")
        return
    nested = entry.get("nested_type")
    if nested is not None:
        yield from _object_faults(attribute, attribute.value, nested, f"{where}.{attribute.name}")
        return
    kind = entry.get("type")
    written = _written(attribute.value)
    expected = kind[0] if isinstance(kind, list) else "single"
    fits = {
        "list": {"tuple"},
        "set": {"tuple"},
        "tuple": {"tuple"},
        "map": {"object"},
        "object": {"object"},
        "single": {"single"},
    }
    if kind != "dynamic" and written is not None and written not in fits.get(expected, {written}):
        wanted = kind if isinstance(kind, str) else expected
        yield Fault(
            attribute.path, attribute.line, f"{where}: {attribute.name} takes a {wanted}, this is a {written} value"
        )


def _object_faults(attribute: hcl.Attribute, value: Node, nested: Json, where: str) -> Iterator[Fault]:
    """Judge an object that is written out where the schema describes its members."""
    if nested.get("open"):
        return
    if nested.get("nesting_mode") in {"list", "set"}:
        for item in hcl.items(value) or []:
            yield from _object_faults(attribute, item, {**nested, "nesting_mode": "single"}, where)
        return
    if nested.get("nesting_mode") == "map":
        for _, _, inner in hcl.elements(value) or []:
            yield from _object_faults(attribute, inner, {**nested, "nesting_mode": "single"}, where)
        return
    entries = hcl.elements(value)
    if entries is None:
        return
    known = nested.get("attributes", {})
    names = {name for name, _, _ in entries}
    for name, key, inner in entries:
        if name is not None and name not in known:
            yield Fault(attribute.path, hcl.line_of(key), f"{where} has no member {name}{_closest(name, list(known))}")
        elif name is not None and "nested_type" in known[name]:
            yield from _object_faults(attribute, inner, known[name]["nested_type"], f"{where}.{name}")
    for name, entry in known.items():
        if entry.get("required") and name not in names and None not in names:
            yield Fault(attribute.path, attribute.line, f"{where} lacks {name}, which it requires")


def _written(value: Node) -> str | None:
    """The form of a value that is written out: tuple, object or single; None for what is computed."""
    if hcl.items(value) is not None:
        return "tuple"
    if hcl.elements(value) is not None:
        return "object"
    inner = value
    while inner.type == "expression" and inner.named_child_count == 1:
        inner = inner.named_children[0]
    if inner.type == "template_expr":
        return "single"
    if inner.type == "literal_value":
        return None if inner.named_children and inner.named_children[0].type == "null_lit" else "single"
    return None


def _lifecycle_faults(block: hcl.Block, schema: Json, where: str) -> Iterator[Fault]:
    members = {**schema.get("attributes", {}), **schema.get("block_types", {})}
    for lifecycle in block.nested("lifecycle"):
        ignored = lifecycle.by_name.get("ignore_changes")
        for item in (hcl.items(ignored.value) or []) if ignored else []:
            for reference in hcl.references(item):
                if reference.parts[0] not in members and not schema.get("open"):
                    what = f"{where} has no argument {reference.parts[0]} whose changes could be ignored"
                    yield Fault(lifecycle.path, reference.line, what)


def _reference_faults(
    reference: hcl.Reference, attribute: hcl.Attribute, module: hcl.Module, schemas: Schemas, judged: set[str]
) -> Iterator[Fault]:
    parts = reference.parts
    is_data = parts[0] == "data"
    size = 3 if is_data else 2
    block = module.objects.get(parts[:size])
    if block is None or provider_of(parts[size - 2]) not in judged:
        return
    schema = schemas.get(block.kind, parts[size - 2])
    rest = list(parts[size:])
    if rest and rest[0].startswith("["):
        rest.pop(0)
    if schema is not None and (what := _path_fault(rest, schema)):
        yield Fault(attribute.path, reference.line, f"{'.'.join(parts[:size])}: {what}")


def _path_fault(rest: list[str], schema: Json) -> str | None:
    """What is wrong with reading `rest` from an object of this schema."""
    while rest and not schema.get("open"):
        name = rest.pop(0)
        if name.startswith("["):
            return None
        entry = schema.get("attributes", {}).get(name)
        block_type = schema.get("block_types", {}).get(name)
        if entry is None and block_type is None:
            known = [*schema.get("attributes", {}), *schema.get("block_types", {})]
            return f"has no attribute {name}{_closest(name, known)}"
        nested = block_type["block"] if block_type else (entry or {}).get("nested_type")
        mode = (block_type or nested or {}).get("nesting_mode", "")
        if nested is None:
            kind = (entry or {}).get("type")
            if rest and isinstance(kind, str) and kind != "dynamic":
                return f"{name} is a {kind} and has nothing below it"
            return None
        indexed = bool(rest) and rest[0].startswith("[")
        if mode == "set" and indexed and rest[0] != "[]":
            return f"{name} is a set, which has no index; use one() or tolist()"
        if mode in {"list", "set"} and rest and not indexed:
            return f"{name} is a {mode} of blocks; write {name}[0].{rest[0]}"
        if indexed:
            rest.pop(0)
        schema = nested
    return None


def _closest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""
