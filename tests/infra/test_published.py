"""Schemas are read out of generated CDK bindings, and only out of the package that the lock file names."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from tools.infra import distil, published
from tools.infra.schema import Schemas

# In the form in which the bindings are generated, of a resource with a block, a map, and what can only be read.
BINDING = """\
function shelfLockToHclTerraform(struct) {
    if (!cdktf.canInspect(struct)) {
        return struct;
    }
    const attrs = {
        key: {
            value: cdktf.stringToHclTerraform(struct.key),
            isBlock: false,
            type: "simple",
            storageClassType: "string",
        },
        depth_cm: {
            value: cdktf.numberToHclTerraform(struct.depthCm),
            isBlock: false,
            type: "simple",
            storageClassType: "number",
        },
    };
}
class ShelfLockOutputReference extends cdktf.ComplexObject {
    get key() {
        return this.getStringAttribute('key');
    }
    get depthCm() {
        return this.getNumberAttribute('depth_cm');
    }
    resetDepthCm() {
        this._depthCm = undefined;
    }
    get maker() {
        return this.getStringAttribute('maker');
    }
}
class ShelfStateOutputReference extends cdktf.ComplexObject {
    get open() {
        return this.getBooleanAttribute('open');
    }
}
class Shelf extends cdktf.TerraformResource {
    constructor(scope, id, config) {
        super(scope, id, {
            terraformGeneratorMetadata: {
                providerName: 'google',
                providerVersion: '9.9.9',
            },
        });
        this._lock = new ShelfLockOutputReference(this, "lock");
        this._state = new ShelfStateList(this, "state", false);
        this._effectiveLabels = new cdktf.StringMap(this, "effective_labels");
    }
    get id() {
        return this.getStringAttribute('id');
    }
    get name() {
        return this.getStringAttribute('name');
    }
    resetLabels() {
        this._labels = undefined;
    }
    synthesizeHclAttributes() {
        const attrs = {
            name: {
                value: cdktf.stringToHclTerraform(this._name),
                isBlock: false,
                type: "simple",
                storageClassType: "string",
            },
            labels: {
                value: cdktf.hashMapperHcl(cdktf.stringToHclTerraform)(this._labels),
                isBlock: false,
                type: "map",
                storageClassType: "stringMap",
            },
            lock: {
                value: shelfLockToHclTerraform(this._lock.internalValue),
                isBlock: true,
                type: "list",
                storageClassType: "ShelfLockList",
            },
        };
    }
}
Shelf.tfResourceType = "google_shelf";
"""


def package(path: Path, files: dict[str, str]) -> Path:
    """A .tgz as npm packs it."""
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def test_a_binding_tells_arguments_blocks_and_what_can_only_be_read(tmp_path: Path) -> None:
    """What has a reset may be left out, what has no argument is computed, and blocks know how many they may be."""
    packed = package(tmp_path / "p.tgz", {"lib/shelf/index.js": BINDING, "lib/index.js": "", "README.md": "x"})

    assert distil.distil(packed, tmp_path / "google.zip") == 1

    schemas = Schemas(tmp_path)
    assert schemas.version("google") == "9.9.9"
    shelf = schemas.get("resource", "google_shelf")
    assert shelf is not None
    assert shelf["attributes"] == {
        "name": {"required": True, "type": "string"},
        "labels": {"optional": True, "type": ["map", "string"]},
        "id": {"computed": True, "type": "string"},
        "state": {
            "computed": True,
            "nested_type": {
                "nesting_mode": "list",
                "attributes": {"open": {"computed": True, "type": "bool"}},
                "block_types": {},
            },
        },
        "effective_labels": {"computed": True, "type": ["map", "string"]},
    }
    lock = shelf["block_types"]["lock"]
    assert {name: lock[name] for name in ("nesting_mode", "min_items", "max_items")} == {
        "nesting_mode": "list",
        "min_items": 1,
        "max_items": 1,
    }
    assert lock["block"]["attributes"] == {
        "key": {"required": True, "type": "string"},
        "depth_cm": {"optional": True, "type": "number"},
        "maker": {"computed": True, "type": "string"},
    }


def test_a_package_without_resources_is_refused(tmp_path: Path) -> None:
    """An empty schema would let everything pass as unknown."""
    with pytest.raises(ValueError, match="holds no resource"):
        distil.distil(package(tmp_path / "p.tgz", {"lib/shelf/index.js": "class A {}\n"}), tmp_path / "google.zip")

    assert not (tmp_path / "google.zip").exists()


def integrity(path: Path) -> str:
    """A lock file's hash of a file."""
    return f"sha512-{base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()}"


@pytest.mark.parametrize("honest", [True, False])
def test_only_the_package_that_the_lock_file_names_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, honest: bool
) -> None:
    """A package whose hash differs leaves no schema behind and is told."""
    packed = package(tmp_path / "packed.tgz", {"lib/shelf/index.js": BINDING})
    entry = {"version": "1.0.0", "integrity": integrity(packed) if honest else "sha512-AAAA"}
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

    assert published.fetch(tmp_path, tmp_path / "out") == (0 if honest else 1)

    assert (tmp_path / "out" / "google.zip").exists() is honest
    assert ("is not the package" in capsys.readouterr().err) is not honest


def test_the_pins_name_all_providers_that_cannot_be_run(repository: Path) -> None:
    """Each provider's package is pinned to one version with its hash."""
    pins = published.pinned(repository / "tools" / "infra" / "schemas")

    assert set(pins) == {"azuread", "azurerm", "google"}
    assert all(digest.startswith("sha512-") for _, _, digest in pins.values())
