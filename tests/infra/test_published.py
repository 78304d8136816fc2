"""Provider schemas are read from published CDK bindings, and only from the package pinned in the lock file."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.infra.standin import published

LIBRARY = "Docs at Terraform Registry: {@link https://registry.terraform.io/providers/hashicorp/google/9.9.9/docs/"
TEXT = {"primitive": "string"}


def argument(name: str, kind: Any, *, optional: bool = False, block: bool = False) -> dict[str, Any]:
    """Return an argument as the bindings describe it."""
    words = name.split("_")
    return {
        "name": words[0] + "".join(word.capitalize() for word in words[1:]),
        "optional": optional,
        "immutable": True,
        "type": kind,
        "docs": {
            "summary": f"{name} block." if block else "What it is.",
            "remarks": f"{LIBRARY}resources/shelf#{name} Shelf#{name}}}",
        },
    }


def attribute(name: str, kind: Any) -> dict[str, Any]:
    """Return a readable attribute as the bindings describe it."""
    return {"name": name, "immutable": True, "type": kind, "docs": {}}


def many(kind: Any) -> dict[str, Any]:
    """Return the type of a list or set."""
    return {"union": {"types": [{"fqn": "cdktf.IResolvable"}, {"collection": {"kind": "array", "elementtype": kind}}]}}


TYPES: dict[str, Any] = {
    "shelf.Shelf": {
        "kind": "class",
        "base": "cdktf.TerraformResource",
        "docs": {"summary": f"{LIBRARY}resources/shelf google_shelf}}."},
        "properties": [
            {**attribute("tfResourceType", TEXT), "static": True},
            attribute("id", TEXT),
            attribute("isOpen", {"fqn": "cdktf.IResolvable"}),
            attribute("crc32C", TEXT),
            attribute("effectiveLabels", {"fqn": "cdktf.StringMap"}),
            attribute("state", {"fqn": "shelf.ShelfStateList"}),
            attribute("lock", {"fqn": "shelf.ShelfLockOutputReference"}),
            attribute("nameInput", TEXT),
        ],
    },
    "shelf.ShelfConfig": {
        "kind": "interface",
        "properties": [
            argument("name", TEXT),
            argument("labels", {"collection": {"kind": "map", "elementtype": TEXT}}, optional=True),
            argument("book_numbers", many({"primitive": "number"}), optional=True),
            argument("lock", {"fqn": "shelf.ShelfLock"}, block=True),
            argument("rule", many({"fqn": "shelf.ShelfRule"}), optional=True, block=True),
        ],
    },
    "shelf.ShelfLock": {
        "kind": "interface",
        "properties": [argument("key", TEXT), argument("depth_cm", {"primitive": "number"}, optional=True)],
    },
    "shelf.ShelfLockOutputReference": {"kind": "class", "properties": [attribute("maker", TEXT)]},
    "shelf.ShelfRule": {"kind": "interface", "properties": [argument("days", {"primitive": "number"})]},
    "shelf.ShelfStateList": {"kind": "class"},
    "shelf.ShelfStateOutputReference": {"kind": "class", "properties": [attribute("isOpen", TEXT)]},
}
CODE = """\
class Shelf extends cdktf.TerraformResource {
    get crc32C() {
        return this.getStringAttribute('crc32c');
    }
    synthesizeHclAttributes() {
        const attrs = {
            book_numbers: {
                value: cdktf.listMapperHcl(cdktf.numberToHclTerraform, false)(this._bookNumbers),
                isBlock: false,
                type: "set",
                storageClassType: "numberList",
            },
            rule: {
                value: cdktf.listMapperHcl(shelfRuleToHclTerraform, true)(this._rule.internalValue),
                isBlock: true,
                type: "set",
                storageClassType: "ShelfRuleList",
            },
        };
    }
}
"""


def package(path: Path, types: dict[str, Any]) -> Path:
    """Write a package as npm packs it, and return its path."""
    with tarfile.open(path, "w:gz") as archive:
        for name, text in {".jsii": json.dumps({"types": types}), "lib/shelf/index.js": CODE}.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def test_bindings_define_arguments_blocks_and_computed_attributes(tmp_path: Path) -> None:
    """This includes optional arguments, block limits, sets, and Terraform's own attribute names."""
    published.write(package(tmp_path / "p.tgz", TYPES), tmp_path / "google.zip")

    blocks = published.blocks("google", ["resource.google_shelf", "data.google_shelf"], tmp_path)
    assert blocks == {
        "resource.google_shelf": {
            "attributes": {
                "name": {"required": True, "type": "string"},
                "labels": {"optional": True, "type": ["map", "string"]},
                "book_numbers": {"optional": True, "type": ["set", "number"]},
                "id": {"computed": True, "type": "string"},
                "is_open": {"computed": True, "type": "bool"},
                "crc32c": {"computed": True, "type": "string"},
                "effective_labels": {"computed": True, "type": ["map", "string"]},
                "state": {
                    "computed": True,
                    "nested_type": {
                        "nesting_mode": "list",
                        "attributes": {"is_open": {"computed": True, "type": "string"}},
                        "block_types": {},
                    },
                },
            },
            "block_types": {
                "lock": {
                    "nesting_mode": "list",
                    "min_items": 1,
                    "max_items": 1,
                    "block": {
                        "attributes": {
                            "key": {"required": True, "type": "string"},
                            "depth_cm": {"optional": True, "type": "number"},
                            "maker": {"computed": True, "type": "string"},
                        },
                        "block_types": {},
                    },
                },
                "rule": {
                    "nesting_mode": "set",
                    "block": {"attributes": {"days": {"required": True, "type": "number"}}, "block_types": {}},
                },
            },
        }
    }
    assert published.blocks("azurerm", [], tmp_path) is None


def test_package_without_resources_is_refused(tmp_path: Path) -> None:
    """No module could be validated against an empty schema."""
    with pytest.raises(ValueError, match=r"p\.tgz describes no resource"):
        published.write(package(tmp_path / "p.tgz", {}), tmp_path / "google.zip")

    assert not (tmp_path / "google.zip").exists()


@pytest.mark.parametrize("honest", [True, False])
def test_only_the_pinned_package_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, honest: bool) -> None:
    """A package with a different hash is reported, and no schema is written."""
    packed = package(tmp_path / "packed.tgz", TYPES)
    digest = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
    entry = {"version": "1.0.0", "integrity": f"sha512-{digest}" if honest else "sha512-AAAA"}
    locked = {"packages": {"": {}, "node_modules/@cdktf/provider-google": entry}}
    (tmp_path / "package-lock.json").write_text(json.dumps(locked), encoding="utf-8")
    tool = tmp_path / "bin" / "npm"
    tool.parent.mkdir()
    tool.write_text(
        "#!/bin/sh\n"
        'for word in "$@"; do case "$word" in --pack-destination=*) to="${word#*=}";; esac; done\n'
        f'cp "{packed}" "$to/a.tgz" && echo a.tgz\n',
        encoding="utf-8",
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")

    failure = published.fetch(tmp_path, tmp_path / "out")

    assert (tmp_path / "out" / "google.zip").exists() is honest
    assert failure == (
        None if honest else "the hash of @cdktf/provider-google@1.0.0 differs from the one in package-lock.json"
    )


def test_every_simulated_provider_is_pinned() -> None:
    """Each provider's package is pinned to one version and its hash."""
    locked = json.loads((published.BINDINGS / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    pins = {name.rpartition("/provider-")[2]: entry["integrity"] for name, entry in locked.items() if "-" in name}

    assert set(pins) == {"azuread", "azurerm", "google"}
    assert all(digest.startswith("sha512-") for digest in pins.values())
