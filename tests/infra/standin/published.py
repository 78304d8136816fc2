"""Read a provider's schema out of the npm package in which its CDK bindings were published.

Neither azurerm nor google can be run here, but `@cdktf/provider-*` was generated from their schemas: each resource's
`index.js` names every argument in `synthesizeHclAttributes()` and `…ToHclTerraform()`, every attribute in a getter, and
says by a `reset…()` method which argument may be left out. The result has the form of
`terraform providers schema -json`, so that one checker serves all providers.
"""

from __future__ import annotations

import json
import re
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]

_FUNCTION = re.compile(r"^function (\w+)ToHclTerraform\(struct\) \{")
_CLASS = re.compile(r"^class (\w+) extends cdktf\.(\w+)")
_SYNTHESIZE = re.compile(r"^    synthesizeHclAttributes\(\) \{")
_ENTRY = re.compile(r"^ {8,12}'?([A-Za-z_]\w*)'?: \{$")
_VALUE = re.compile(r"^ +value: (.*)$")
_VALUE_STRUCT = re.compile(r"(?<![\w.])(?:\w+\.)?(?<!cdktf\.)(?<!\w)(\w+)ToHclTerraform\b")
_VALUE_FIELD = re.compile(r"(?:this\._|struct\.)(\w+)")
_KIND = re.compile(r'^ +(isBlock|type|storageClassType): "?(\w+)"?,')
_RESET = re.compile(r"^    reset(\w+)\(\) \{")
_ATTRIBUTE = re.compile(r"this\.(?:get(\w+)Attribute|interpolationForAttribute)\(['\"](\w+)['\"]\)")
_MEMBER = re.compile(r"this\._\w+ = new (\w+\.)?(\w+)\(this, \"(\w+)\"")
_TYPE_NAME = re.compile(r"^(\w+)\.tfResourceType = \"(\w+)\";")
_VERSION = re.compile(r"providerVersion: '([^']+)'")

_CLASS_SUFFIX = re.compile(r"(?:List|Map|OutputReference)$")
_SIMPLE = {"string": "string", "number": "number", "boolean": "bool"}
_GETTER_TYPES: dict[str, Any] = {
    "String": "string",
    "Number": "number",
    "Boolean": "bool",
    "List": ["list", "string"],
    "NumberList": ["list", "number"],
    "StringMap": ["map", "string"],
    "NumberMap": ["map", "number"],
    "BooleanMap": ["map", "bool"],
    "AnyMap": ["map", "dynamic"],
}
_DEEPEST = 24


@dataclass
class _Argument:
    name: str
    field: str = ""
    struct: str = ""
    is_block: bool = False
    mode: str = ""
    storage: str = ""


@dataclass
class _Class:
    base: str
    arguments: list[_Argument] = field(default_factory=list)
    # Attribute name → the type its getter returns, or the class that describes it.
    getters: dict[str, Any] = field(default_factory=dict)
    members: dict[str, str] = field(default_factory=dict)
    resets: set[str] = field(default_factory=set)


@dataclass
class _Source:
    structs: dict[str, list[_Argument]] = field(default_factory=dict)
    classes: dict[str, _Class] = field(default_factory=dict)
    type_names: dict[str, str] = field(default_factory=dict)
    version: str = ""

    def read(self, text: str) -> None:
        """Add the structs and classes of one generated file."""
        arguments: list[_Argument] | None = None
        end = ""
        inside: _Class | None = None
        for line in text.splitlines():
            if line.startswith("//# sourceMappingURL"):
                continue
            if match := _FUNCTION.match(line):
                arguments, end = self.structs.setdefault(match[1], []), "}"
            elif match := _CLASS.match(line):
                inside = self.classes.setdefault(match[1], _Class(match[2]))
                arguments = None
            elif _SYNTHESIZE.match(line) and inside is not None:
                arguments, end = inside.arguments, "    }"
            elif match := _TYPE_NAME.match(line):
                self.type_names[match[1]] = match[2]
            elif arguments is not None:
                if line == end:
                    arguments = None
                else:
                    _read_argument(arguments, line)
            elif inside is not None:
                _read_member(inside, line)
            if not self.version and (match := _VERSION.search(line)):
                self.version = match[1]


def _read_argument(arguments: list[_Argument], line: str) -> None:
    if match := _ENTRY.match(line):
        arguments.append(_Argument(match[1]))
    elif not arguments:
        return
    elif match := _VALUE.match(line):
        entry = arguments[-1]
        if found := _VALUE_FIELD.search(match[1]):
            entry.field = found[1]
        if found := _VALUE_STRUCT.search(match[1]):
            entry.struct = found[1]
    elif match := _KIND.match(line):
        entry = arguments[-1]
        if match[1] == "isBlock":
            entry.is_block = match[2] == "true"
        elif match[1] == "type":
            entry.mode = match[2]
        else:
            entry.storage = match[2]


def _read_member(inside: _Class, line: str) -> None:
    if match := _ATTRIBUTE.search(line):
        inside.getters[match[2]] = _GETTER_TYPES.get(match[1] or "", "dynamic")
    elif match := _MEMBER.search(line):
        if match[1] == "cdktf.":
            inside.getters[match[3]] = ["map", _SIMPLE.get(match[2].removesuffix("Map").lower(), "dynamic")]
        else:
            inside.members[match[3]] = match[2]
    elif match := _RESET.match(line):
        inside.resets.add(match[1])


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


def _type_of(argument: _Argument) -> Any:
    if argument.mode in {"simple", ""}:
        return _SIMPLE.get(argument.storage, "dynamic")
    inner = argument.storage.removesuffix("List").removesuffix("Map")
    kind = argument.mode if argument.mode in {"list", "set", "map"} else "list"
    return [kind, _SIMPLE.get(inner, "dynamic")]


class _Builder:
    def __init__(self, source: _Source) -> None:
        self.source = source

    def block(self, arguments: list[_Argument], described: _Class | None, depth: int = 0) -> Json:
        """One block in Terraform's own form: `attributes` and `block_types`."""
        attributes: Json = {}
        blocks: Json = {}
        for argument in arguments:
            # Without a class that says so nothing may be called required.
            optional = described is None or _capital(argument.field) in described.resets
            if argument.struct and argument.is_block:
                nested = self._nested(argument.struct, depth)
                single = not argument.storage.endswith(("List", "Map")) or (
                    described is not None and described.members.get(argument.name, "").endswith("OutputReference")
                )
                mode = "single" if argument.mode == "struct" else argument.mode
                blocks[argument.name] = {"nesting_mode": mode, "block": nested}
                if not optional:
                    blocks[argument.name]["min_items"] = 1
                if single:
                    blocks[argument.name]["max_items"] = 1
                continue
            entry: Json = {"optional": True} if optional else {"required": True}
            if argument.struct:
                mode = "single" if argument.mode == "struct" else argument.mode
                entry["nested_type"] = {"nesting_mode": mode, **self._nested(argument.struct, depth)}
            else:
                entry["type"] = _type_of(argument)
            attributes[argument.name] = entry
        if described is not None:
            self._computed(described, attributes, blocks, depth)
        return {"attributes": attributes, "block_types": blocks}

    def _computed(self, described: _Class, attributes: Json, blocks: Json, depth: int) -> None:
        """Add what can be read and not set."""
        for name, kind in described.getters.items():
            if name not in attributes and name not in blocks:
                attributes[name] = {"computed": True, "type": kind}
        for name, class_name in described.members.items():
            if name in attributes or name in blocks:
                continue
            struct = _CLASS_SUFFIX.sub("", class_name)
            mode = "list" if not class_name.endswith("Map") else "map"
            nested = self._nested(struct[:1].lower() + struct[1:], depth)
            attributes[name] = {"computed": True, "nested_type": {"nesting_mode": mode, **nested}}

    def _nested(self, struct: str, depth: int) -> Json:
        described = self.source.classes.get(_capital(struct) + "OutputReference")
        if depth >= _DEEPEST or (described is None and struct not in self.source.structs):
            # Unknown, hence nothing below it is judged.
            return {"attributes": {}, "block_types": {}, "open": True}
        return self.block(self.source.structs.get(struct, []), described, depth + 1)


def resource_schemas(texts: list[str]) -> tuple[dict[str, Json], str]:
    """Return the schemas in the generated files of one folder, and the provider's version or "".

    The keys are `resource.<type>` and `data.<type>`; a value is Terraform's `block`.
    """
    source = _Source()
    for text in texts:
        source.read(text)
    builder = _Builder(source)
    found: dict[str, Json] = {}
    for name, described in source.classes.items():
        kind = {"TerraformResource": "resource", "TerraformDataSource": "data"}.get(described.base)
        if kind and name in source.type_names:
            found[f"{kind}.{source.type_names[name]}"] = builder.block(described.arguments, described)
    return found, source.version


def distil(package: Path, target: Path) -> int:
    """Write the schemas in `package` (a .tgz) to `target`, a zip with one JSON file a type; return how many there are.

    `target` also has `version.json`, the version of the provider. Raises ValueError if the package holds no resource.
    """
    folders: dict[str, list[str]] = {}
    with tarfile.open(package, "r|gz") as archive:
        for member in archive:
            parts = member.name.split("/")
            stream = archive.extractfile(member) if member.isfile() and member.name.endswith(".js") else None
            if stream is not None and len(parts) > 3 and parts[1] == "lib":
                folders.setdefault(parts[2], []).append(stream.read().decode())
    schemas: dict[str, Json] = {}
    version = ""
    for folder in sorted(folders):
        found, said = resource_schemas(folders.pop(folder))
        schemas.update(found)
        version = version or said
    if not schemas:
        raise ValueError(f"{package.name} holds no resource; is it a package of CDK bindings?")
    write(schemas, version, target)
    return len(schemas)


def write(schemas: dict[str, Json], version: str, target: Path) -> None:
    """Write schemas as a zip that is either whole or not there."""
    unfinished = target.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("version.json", json.dumps({"version": version}))
        for name, schema in sorted(schemas.items()):
            archive.writestr(f"{name}.json", json.dumps(schema, separators=(",", ":")))
    unfinished.replace(target)
