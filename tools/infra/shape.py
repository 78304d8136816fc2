"""The house rules of one module: what its variables, outputs, versions and resources must have."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tools.infra import hcl
from tools.infra.fault import Fault
from tools.infra.schema import Schemas, provider_of, providers_of

# Variables in which any value of the type is right, each with why.
FREE = {
    "tags": "the cloud judges keys and values by rules that differ from service to service",
    "labels": "the cloud judges keys and values by rules that differ from service to service",
}
# What a provider calls the owner's marks. Google's `tags` are of the network, azuread's are features of an application.
MARKS = {"aws": ("tags",), "azurerm": ("tags",), "google": ("labels", "user_labels")}
MANAGED_BY = "tailpipe-exports"

# Each cloud's own way to write once an hour, at any minute.
_HOURLY = re.compile(
    r"""rate\(1\ hour\)
      | cron\([0-5]?\d\ \*\ \*\ \*\ \?\ \*\)     # EventBridge: minute first, six fields
      | [0-5]?\d\ [0-5]?\d\ \*\ \*\ \*\ \*       # NCRONTAB: second first
      | [0-5]?\d\ \*\ \*\ \*\ \*                 # unix-cron""",
    re.VERBOSE,
)
_SENTENCE = re.compile(r"^\S+( \S+){3,}.*[.?]$", re.DOTALL)


def faults(module: hcl.Module, schemas: Schemas) -> Iterator[Fault]:
    """Yield every departure from the rules for modules; examples have rules of their own."""
    for name, block in module.variables.items():
        yield from _variable_faults(name, block)
    for name, block in module.outputs.items():
        if not _says_something(block, "description"):
            yield Fault(block.path, block.line, f"output {name} has no description")
    for kind in ("provider", "cloud"):
        for block in module.of(kind):
            yield Fault(block.path, block.line, f"a module has no {kind} block; whoever calls it configures providers")
    yield from _version_faults(module)
    yield from _secret_faults(module)
    yield from _mark_faults(module, schemas)


def _says_something(block: hcl.Block, name: str) -> bool:
    attribute = block.by_name.get(name)
    return attribute is not None and attribute.squeezed not in {'""', "null"}


def _variable_faults(name: str, block: hcl.Block) -> Iterator[Fault]:
    def fault(what: str) -> Fault:
        return Fault(block.path, block.line, f"variable {name} {what}")

    kind = block.by_name["type"].squeezed if "type" in block.by_name else ""
    if not kind or kind == "any":
        yield fault("says no type")
    if not _says_something(block, "description"):
        yield fault("has no description")
    validations = block.nested("validation")
    if not validations and kind != "bool" and name not in FREE:
        yield fault("has no validation")
    for validation in validations:
        message = validation.by_name.get("error_message")
        said = message.text.strip('"') if message else ""
        if not _SENTENCE.match(said):
            yield Fault(
                validation.path, validation.line, f"variable {name}: the message is no sentence that says what to write"
            )
        condition = validation.by_name.get("condition")
        if condition is None or not any(found.parts[:2] == ("var", name) for found in condition.references()):
            yield Fault(validation.path, validation.line, f"variable {name}: the validation does not look at it")
    default = block.by_name.get("default")
    may_be_null = default is not None and default.squeezed == "null"
    nullable = block.by_name["nullable"].squeezed if "nullable" in block.by_name else "true"
    if may_be_null and nullable == "false":
        yield fault("has null as its default and forbids it")
    tests_null = any(
        "==null" in each.by_name["condition"].squeezed for each in validations if "condition" in each.by_name
    )
    if not may_be_null and not tests_null and nullable != "false":
        yield fault("lacks nullable = false, though null means nothing here")
    if "external_id" in name and not _is_sensitive(block):
        yield fault("holds a secret and is not sensitive")
    if name == "environment":
        if default is not None:
            yield fault("has a default; which Tailpipe reads the exports is always said")
        allowed = "".join(each.by_name["condition"].text for each in validations if "condition" in each.by_name)
        if '"prod"' not in allowed or '"uat"' not in allowed:
            yield fault("is validated against something else than prod and uat")
    if name == "schedule" and not (default and _HOURLY.fullmatch(default.literal or "")):
        yield fault("is not hourly by default")


def _is_sensitive(block: hcl.Block) -> bool:
    return "sensitive" in block.by_name and block.by_name["sensitive"].squeezed == "true"


def _version_faults(module: hcl.Module) -> Iterator[Fault]:
    settings = module.of("terraform")
    if not settings:
        yield Fault(module.path / "versions.tf", 1, "there is no terraform block with required_version")
        return
    for block in settings:
        for kind in ("backend", "cloud"):
            for nested in block.nested(kind):
                yield Fault(nested.path, nested.line, f"a module has no {kind} block; its caller keeps the state")
    versions = [block.by_name["required_version"] for block in settings if "required_version" in block.by_name]
    if not versions:
        yield Fault(settings[0].path, settings[0].line, "required_version is missing")
    for attribute in versions:
        if attribute.literal not in {">= 1.5", ">= 1.5.0"}:
            yield Fault(attribute.path, attribute.line, f'required_version is {attribute.text}, not ">= 1.5"')
    declared: dict[str, hcl.Attribute] = {}
    for required in (nested for block in settings for nested in block.nested("required_providers")):
        for attribute in required.attributes:
            declared[attribute.name] = attribute
            members = {name: value for name, _, value in hcl.elements(attribute.value) or []}
            version = hcl.string_of(members["version"]) if "version" in members else None
            if "source" not in members or not re.fullmatch(r">= [\d.]+, < [\d.]+", version or ""):
                what = f"provider {attribute.name} needs a source, and a lower and an upper bound of its version"
                yield Fault(attribute.path, attribute.line, what)
    used = providers_of(module) - {"terraform"}
    for name in sorted(used - set(declared)):
        yield Fault(settings[0].path, settings[0].line, f"provider {name} is used and not in required_providers")
    for name in sorted(set(declared) - used):
        yield Fault(declared[name].path, declared[name].line, f"provider {name} is required and never used")


def _secret_faults(module: hcl.Module) -> Iterator[Fault]:
    """Follow what is sensitive through the locals to the outputs."""
    secret = {("var", name) for name, block in module.variables.items() if _is_sensitive(block)}

    def leaks(attribute: hcl.Attribute) -> bool:
        if any(name == "nonsensitive" for name, _ in hcl.calls(attribute.value)):
            return False
        return any(reference.parts[:2] in secret for reference in attribute.references())

    while True:
        more = {("local", name) for name, attribute in module.locals.items() if leaks(attribute)} - secret
        if not more:
            break
        secret |= more
    for name, block in module.outputs.items():
        value = block.by_name.get("value")
        if value is not None and leaks(value) and not _is_sensitive(block):
            yield Fault(block.path, block.line, f"output {name} shows a sensitive value and is not sensitive")


def _mark_faults(module: hcl.Module, schemas: Schemas) -> Iterator[Fault]:
    for block in module.of("resource"):
        attributes = (schemas.get("resource", block.labels[0]) or {}).get("attributes", {})
        for mark in MARKS.get(provider_of(block.labels[0]), ()):
            if mark == "labels" and "user_labels" in attributes:
                # Here `labels` are settings of the resource itself.
                continue
            entry = attributes.get(mark)
            if entry is None or not entry.get("optional") or entry.get("type") != ["map", "string"]:
                continue
            attribute = block.by_name.get(mark)
            if attribute is None:
                yield Fault(block.path, block.line, f"{'.'.join(block.labels)} takes {mark} and has none")
            elif not any(found.parts[0] == "local" for found in attribute.references()):
                yield Fault(
                    attribute.path, attribute.line, f"{mark} are not the module's own; write local.{_own(mark)}"
                )
    for name in ("tags", "labels"):
        if name in module.variables and not _marks_itself(module.locals.get(name)):
            block = module.variables[name]
            what = f'local.{name} does not add managed-by = "{MANAGED_BY}" to var.{name}'
            yield Fault(block.path, block.line, what)


def _own(mark: str) -> str:
    return "tags" if mark == "tags" else "labels"


def _marks_itself(attribute: hcl.Attribute | None) -> bool:
    return attribute is not None and re.search(rf'"?managed-by"?\s*=\s*"{MANAGED_BY}"', attribute.text) is not None
