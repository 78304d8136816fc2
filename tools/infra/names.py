"""Names: each one used is declared, each one declared is used, and none is newer than the oldest Terraform."""

from __future__ import annotations

from collections.abc import Iterator

from tree_sitter import Node

from tools.infra import hcl
from tools.infra.fault import Fault

OLDEST = "1.5"

# https://developer.hashicorp.com/terraform/language/v1.5.x/functions
_FUNCTIONS = """
abs ceil floor log max min parseint pow signum
chomp endswith format formatlist indent join lower regex regexall replace split startswith strcontains strrev substr
title trim trimprefix trimspace trimsuffix upper
alltrue anytrue chunklist coalesce coalescelist compact concat contains distinct element flatten index keys length
lookup matchkeys merge one range reverse setintersection setproduct setsubtract setunion slice sort sum transpose
values zipmap
base64decode base64encode base64gzip csvdecode jsondecode jsonencode textdecodebase64 textencodebase64 urlencode
yamldecode yamlencode
abspath basename dirname file filebase64 fileexists fileset pathexpand templatefile
formatdate plantimestamp timeadd timecmp timestamp
base64sha256 base64sha512 bcrypt filebase64sha256 filebase64sha512 filemd5 filesha1 filesha256 filesha512 md5
rsadecrypt sha1 sha256 sha512 uuid uuidv5
cidrhost cidrnetmask cidrsubnet cidrsubnets
can nonsensitive sensitive tobool tolist tomap tonumber toset tostring try
"""
FUNCTIONS = frozenset(_FUNCTIONS.split())
# Blocks at the top of a file that came later: removed 1.7, ephemeral 1.10.
TOP_BLOCKS = frozenset(
    {"terraform", "variable", "output", "locals", "resource", "data", "module", "provider", "moved", "import", "check"}
)
# Their values name something of Terraform's own: a provider, an argument, a moment.
_NAMES_OF_ITS_OWN = frozenset({"ignore_changes", "provider", "providers", "when", "on_failure"})
_SPECIAL = frozenset({"path", "terraform", "self", "each", "count"})


def faults(module: hcl.Module) -> Iterator[Fault]:
    """Yield undeclared, unused and too new names of one module."""
    for path, line in module.broken:
        yield Fault(path, line, "is no valid HCL")
    used: set[tuple[str, ...]] = set()
    for top, holder, attribute in module.everything():
        if top.kind == "variable" and attribute.name == "type":
            continue
        yield from _too_new_calls(attribute)
        if top.kind == "terraform" or attribute.name in _NAMES_OF_ITS_OWN:
            continue
        iterators = frozenset(_iterators(top))
        for reference in attribute.references():
            used.add(reference.parts[:2])
            used.add(reference.parts[:3])
            yield from _reference_faults(reference, attribute, top, holder, module, iterators)
    yield from _unused(module, used)
    yield from _too_new_blocks(module)


def _reference_faults(
    reference: hcl.Reference,
    attribute: hcl.Attribute,
    top: hcl.Block,
    holder: hcl.Block,
    module: hcl.Module,
    iterators: frozenset[str],
) -> Iterator[Fault]:
    parts, root = reference.parts, reference.parts[0]

    def fault(what: str) -> Fault:
        return Fault(attribute.path, reference.line, what)

    if root == "var" and len(parts) > 1:
        variable = module.variables.get(parts[1])
        if variable is None:
            yield fault(f"var.{parts[1]} is not declared")
        elif "type" in variable.by_name and (what := _below_type(variable.by_name["type"].value, list(parts[2:]))):
            yield fault(f"var.{parts[1]}: {what}")
        if top.kind == "variable" and top.labels != parts[1:2] and holder.kind == "validation":
            yield fault(
                f"the validation of {top.labels[0]} refers to var.{parts[1]}, which Terraform {OLDEST} refuses;"
                " use a precondition"
            )
    elif top.kind == "variable" and holder.kind == "validation":
        yield fault(
            f"a validation may refer to its own variable only before Terraform 1.9, not to {'.'.join(parts[:2])}"
        )
    elif root == "local" and len(parts) > 1:
        if parts[1] not in module.locals:
            yield fault(f"local.{parts[1]} is not declared")
    elif root == "module" and len(parts) > 1:
        if not any(block.labels == parts[1:2] for block in module.of("module")):
            yield fault(f"module.{parts[1]} is not declared")
    elif root == "each" and "for_each" not in top.by_name:
        yield fault("each is used where there is no for_each")
    elif root == "count" and "count" not in top.by_name:
        yield fault("count is used where there is no count")
    elif root == "data" or (root not in _SPECIAL and root not in iterators):
        yield from _object_faults(parts, attribute, reference, module)


def _object_faults(
    parts: tuple[str, ...], attribute: hcl.Attribute, reference: hcl.Reference, module: hcl.Module
) -> Iterator[Fault]:
    size = 3 if parts[0] == "data" else 2
    block = module.objects.get(parts[:size])
    name = ".".join(parts[:size])
    if block is None:
        yield Fault(attribute.path, reference.line, f"{name} is not declared")
        return
    many = bool({"count", "for_each"} & set(block.by_name))
    following = parts[size : size + 1]
    if many and following and not following[0].startswith("["):
        yield Fault(attribute.path, reference.line, f"{name} is there many times; say which one")
    elif not many and following and following[0].startswith("[") and following[0] != "[]":
        yield Fault(attribute.path, reference.line, f"{name} is there once and takes no index")


def _below_type(node: Node, rest: list[str]) -> str | None:
    """What is wrong with reading `rest` from a value of a declared type."""
    call = node
    while call.type == "expression" and call.named_child_count == 1:
        call = call.named_children[0]
    if not rest or call.type != "function_call":
        return None
    name = next(hcl.calls(call))[0]
    arguments = [
        child for group in call.named_children[1:] for child in group.named_children if child.type == "expression"
    ]
    if not arguments:
        return None
    if name == "optional":
        return _below_type(arguments[0], rest)
    if name in {"list", "map", "set"}:
        return _below_type(arguments[0], rest[1:])
    if name != "object" or rest[0].startswith("[]"):
        return None
    members = {key: value for key, _, value in hcl.elements(arguments[0]) or []}
    wanted = rest[0].strip("[]")
    if wanted not in members:
        return f"its type has no member {wanted}"
    return _below_type(members[wanted], rest[1:])


def _iterators(block: hcl.Block) -> Iterator[str]:
    """The names that dynamic blocks bind in their contents."""
    for nested in block.blocks:
        if nested.kind == "dynamic" and nested.labels:
            named = nested.by_name.get("iterator")
            yield named.text if named else nested.labels[0]
            if named:
                yield named.text
        yield from _iterators(nested)


def _unused(module: hcl.Module, used: set[tuple[str, ...]]) -> Iterator[Fault]:
    for name, block in module.variables.items():
        if ("var", name) not in used:
            yield Fault(block.path, block.line, f"variable {name} is declared and never used")
    for name, attribute in module.locals.items():
        if ("local", name) not in used:
            yield Fault(attribute.path, attribute.line, f"local {name} is declared and never used")
    for key, block in module.objects.items():
        # A data source may stand for its pre- or postconditions alone.
        if key[0] == "data" and key not in used and not block.nested("lifecycle"):
            yield Fault(block.path, block.line, f"{'.'.join(key)} is read and never used")


def _too_new_calls(attribute: hcl.Attribute) -> Iterator[Fault]:
    for name, line in hcl.calls(attribute.value):
        if "::" in name:
            yield Fault(attribute.path, line, f"{name} is a provider's function, which came with Terraform 1.8")
        elif name not in FUNCTIONS:
            yield Fault(attribute.path, line, f"{name} is no function of Terraform {OLDEST}")


def _too_new_blocks(module: hcl.Module) -> Iterator[Fault]:
    for block in module.blocks:
        if block.kind not in TOP_BLOCKS:
            yield Fault(block.path, block.line, f"Terraform {OLDEST} has no block {block.kind}")
        if block.kind == "import" and "for_each" in block.by_name:
            yield Fault(block.path, block.line, "import takes for_each since Terraform 1.7")
        if block.kind in {"variable", "output"} and "ephemeral" in block.by_name:
            yield Fault(block.path, block.by_name["ephemeral"].line, "ephemeral came with Terraform 1.10")
        if block.kind == "resource":
            for _, attribute in block.everything():
                if attribute.name.endswith(("_wo", "_wo_version")):
                    what = f"{attribute.name}: write-only arguments came with Terraform 1.11"
                    yield Fault(attribute.path, attribute.line, what)
