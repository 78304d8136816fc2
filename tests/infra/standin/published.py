"""Provider schemas for the stand-in, extracted from the npm packages of the providers' CDK bindings.

`python -m tests.infra.standin.published` writes `.venv/infra-schemas/<provider>.zip`. The packages are pinned in
`bindings/`; the compressed packages (60 MB) are downloaded and compared with the hashes of the lock file. Each contains
`.jsii`, a description of its classes that was generated from the provider's schema: a `…Config` class has the
arguments, a resource's class has the attributes, and the links to the registry contain Terraform's names. Sets, and
some attribute names, can be recognized only in the JavaScript code. The result has the form of
`terraform providers schema -json`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

Json = dict[str, Any]

BINDINGS = Path(__file__).parent / "bindings"
SCHEMAS = Path(__file__).resolve().parents[3] / ".venv" / "infra-schemas"
HANG_S = 1800
DEEPEST = 8  # some of Google's and Microsoft's blocks are recursive
_LINK = re.compile(r"/hashicorp/[\w./-]+/docs/[\w./-]+(?:#(?P<name>\w+))? (?P<label>\w+)")
_KINDS = {"cdktf.TerraformResource": "resource", "cdktf.TerraformDataSource": "data"}
_PRIMITIVES = {"string": "string", "number": "number", "boolean": "bool", "any": "dynamic"}
# Facts that only the JavaScript code has: the sets of each class or struct, and the attribute names of getters.
_CODE = re.compile(
    r"^(?:function (?P<struct>\w+)ToHclTerraform|class (?P<class>\w+) extends cdktf\.)"
    r"|^ {8,12}'?(?P<set>\w+)'?: \{\n +value: .*\n +isBlock: \w+,\n +type: \"set\""
    r"|^    get (?P<getter>\w+)\(\) \{\n.*Attribute\(['\"](?P<read>\w+)",
    re.MULTILINE,
)


class Bindings:
    """One package: its types by name, and the facts that only its code has."""

    def __init__(self, package: Path) -> None:
        self._sets: set[tuple[str, str]] = set()
        self._read: dict[tuple[str, str], str] = {}
        with tarfile.open(package, "r|gz") as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is not None and member.name == "package/.jsii":
                    # This file has 100 MB; the standard library's parser takes five times as long.
                    self._types: dict[str, Json] = msgspec.json.decode(stream.read())["types"]
                elif stream is not None and member.name.startswith("package/lib/") and member.name.endswith(".js"):
                    self._read_code(stream.read().decode())

    def _read_code(self, code: str) -> None:
        holder = ""
        for found in _CODE.finditer(code):
            if found["set"]:
                self._sets.add((holder, found["set"]))
            elif found["getter"]:
                self._read[holder, found["getter"]] = found["read"]
            else:
                holder = (found["struct"] or found["class"]).lower()

    def schemas(self) -> Iterator[tuple[str, Json]]:
        """Yield `resource.<type>` or `data.<type>` of each resource and data source, with its block."""
        for name, described in self._types.items():
            if kind := _KINDS.get(described.get("base", "")):
                label = _LINK.search(described["docs"]["summary"])
                if label is None:
                    raise ValueError(f"{name} has no link to the registry, so its Terraform type is unknown")
                yield f"{kind}.{label['label']}", self._block(name, f"{name}Config", name)

    def _block(self, holder: str, arguments: str, attributes: str, depth: int = 0) -> Json:
        """Return a block, from its arguments (a struct) and its attributes (a class)."""
        found: Json = {"attributes": {}, "block_types": {}}
        known = set()
        for one in self._properties(arguments):
            link = _LINK.search(one["docs"].get("remarks", "") + one["docs"].get("summary", ""))
            if link is None or not link["name"]:
                continue  # a property of the bindings, not of Terraform
            name, required = link["name"], not one.get("optional")
            is_set = (_last(holder), name) in self._sets
            known.add(one["name"])
            if one["docs"].get("summary") == f"{name} block.":
                mode = "set" if is_set else "single" if name == "timeouts" else "list"
                block = self._nested_block(one["type"], mode, depth)
                found["block_types"][name] = block | ({"min_items": 1} if required else {})
            else:
                typed = self._type(one["type"], depth, is_set=is_set)
                found["attributes"][name] = {"required" if required else "optional": True, **typed}
        for one in self._properties(attributes):
            if one.get("immutable") and not one.get("static") and one["name"] not in known:
                name = self._read.get((_last(attributes), one["name"])) or _snake(one["name"])
                if not one["name"].endswith("Input"):
                    found["attributes"][name] = {"computed": True, **self._type(one["type"], depth)}
        return found

    def _nested_block(self, kind: Json, mode: str, depth: int) -> Json:
        kind = _without_resolvable(kind)
        if many := kind.get("collection"):
            return {"nesting_mode": mode, "block": self._struct(many["elementtype"]["fqn"], depth)}
        # The bindings represent a list of at most one block as the block itself.
        return {"nesting_mode": mode, "max_items": 1, "block": self._struct(kind["fqn"], depth)}

    def _type(self, kind: Json, depth: int, *, is_set: bool = False) -> Json:
        """Return the entry `type` or, for objects, `nested_type`."""
        kind = _without_resolvable(kind)
        if "primitive" in kind:
            return {"type": _PRIMITIVES[kind["primitive"]]}
        if many := kind.get("collection"):
            mode = "map" if many["kind"] == "map" else "set" if is_set else "list"
            inner = self._type(many["elementtype"], depth)
            if "type" in inner:
                return {"type": [mode, inner["type"]]}
            return {"nested_type": {**inner["nested_type"], "nesting_mode": mode}}
        name = kind["fqn"]
        if name == "cdktf.IResolvable":  # the type of a computed boolean
            return {"type": "bool"}
        if found := re.fullmatch(r"cdktf\.(\w+?)(Map|List)", name):
            return {"type": [found[2].lower(), _PRIMITIVES.get(found[1].lower(), "dynamic")]}
        mode = "single"
        if self._types[name]["kind"] == "class":
            # A computed object has its own class, whose name ends with Map or List.
            mode = "map" if name.endswith("Map") else "list"
            name = re.sub(r"(?:List|Map|OutputReference)$", "", name)
        return {"nested_type": {"nesting_mode": mode, **self._struct(name, depth)}}

    def _struct(self, name: str, depth: int) -> Json:
        if depth >= DEEPEST:
            return {"attributes": {}, "block_types": {}}
        return self._block(name, name, f"{name}OutputReference", depth + 1)

    def _properties(self, name: str) -> list[Json]:
        found: list[Json] = self._types.get(name, {}).get("properties", [])
        return found


def _without_resolvable(kind: Json) -> Json:
    """Return a type without the bindings' placeholder, IResolvable."""
    union = kind.get("union", {"types": [kind]})["types"]
    return next((one for one in union if one.get("fqn") != "cdktf.IResolvable"), union[0])


def _snake(name: str) -> str:
    # The bindings add this suffix where a name would hide a member of every construct.
    return re.sub(r"([A-Z])", r"_\1", name).lower().removesuffix("_attribute")


def _last(name: str) -> str:
    return name.rpartition(".")[2].lower()


def write(package: Path, target: Path) -> None:
    """Write a package's schemas atomically as a zip file, with one JSON file for each type.

    Raises ValueError for a package that describes no resource.
    """
    bindings = Bindings(package)
    unfinished = target.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, block in bindings.schemas():
            archive.writestr(f"{name}.json", json.dumps(block, separators=(",", ":")))
        if not archive.namelist():
            raise ValueError(f"{package.name} describes no resource; it may not be a package of CDK bindings")
    unfinished.replace(target)


def fetch(bindings: Path = BINDINGS, target: Path = SCHEMAS) -> str | None:
    """Write the schemas of all pinned packages; return None, or the reason for a failure."""
    target.mkdir(parents=True, exist_ok=True)
    locked = json.loads((bindings / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    with tempfile.TemporaryDirectory() as scratch:
        for place, entry in locked.items():
            package, _, provider = place.removeprefix("node_modules/").partition("/provider-")
            if not provider:
                continue
            pinned = f"{package}/provider-{provider}@{entry['version']}"
            done = subprocess.run(
                ["npm", "pack", "--silent", "--ignore-scripts", f"--pack-destination={scratch}", pinned],
                cwd=bindings, capture_output=True, text=True, timeout=HANG_S, check=False,
            )  # fmt: skip
            if done.returncode:
                return f"npm pack {pinned} failed with exit code {done.returncode}: {done.stderr.strip()}"
            archive = Path(scratch, done.stdout.strip().rpartition("\n")[2])
            digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
            if entry["integrity"] != f"sha512-{digest}":
                return f"the hash of {pinned} differs from the one in package-lock.json"
            write(archive, target / f"{provider}.zip")
    return None


def blocks(provider: str, names: Iterable[str], folder: Path = SCHEMAS) -> dict[str, Json] | None:
    """Return the blocks of those named types that exist; None if the provider's schemas are not installed."""
    path = folder / f"{provider}.zip"
    if not path.is_file():
        return None
    with zipfile.ZipFile(path) as archive:
        known = set(archive.namelist())
        return {name: json.loads(archive.read(f"{name}.json")) for name in names if f"{name}.json" in known}


if __name__ == "__main__":
    sys.exit(fetch())
