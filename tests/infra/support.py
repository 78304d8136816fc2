"""Made-up modules and schemas for the tests of the checks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tools.infra import distil, hcl
from tools.infra.fault import Fault
from tools.infra.schema import Schemas

# A provider `google` of three types, in the form of `terraform providers schema -json`.
TEXT = {"type": "string"}
SCHEMAS: dict[str, Any] = {
    "resource.google_shelf": {
        "attributes": {
            "name": {**TEXT, "required": True},
            "note": {**TEXT, "optional": True},
            "books": {"type": ["list", "string"], "optional": True},
            "labels": {"type": ["map", "string"], "optional": True},
            "id": {**TEXT, "computed": True},
            "place": {
                "optional": True,
                "nested_type": {
                    "nesting_mode": "single",
                    "attributes": {"room": {**TEXT, "required": True}, "floor": {"type": "number", "optional": True}},
                },
            },
        },
        "block_types": {
            "lock": {
                "nesting_mode": "list",
                "max_items": 1,
                "min_items": 1,
                "block": {"attributes": {"key": {**TEXT, "required": True}}, "block_types": {}},
            },
            "rule": {
                "nesting_mode": "set",
                "block": {"attributes": {"days": {"type": "number", "optional": True}}, "block_types": {}},
            },
        },
    },
    "resource.google_alert": {
        "attributes": {
            "labels": {"type": ["map", "string"], "optional": True},
            "user_labels": {"type": ["map", "string"], "optional": True},
        },
        "block_types": {},
    },
    "data.google_city": {"attributes": {"zone": {**TEXT, "computed": True}}, "block_types": {}},
}


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write files below `folder`, with their folders; returns `folder`."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def module(folder: Path, text: str) -> hcl.Module:
    """A module of one file, main.tf."""
    return hcl.read_module(write(folder, {"main.tf": text}))


def schemas(folder: Path) -> Schemas:
    """The made-up provider."""
    distil.write(SCHEMAS, "9.9.9", folder / "google.zip")
    return Schemas(folder)


def said(faults: Iterable[Fault]) -> list[str]:
    """`line: what` of each fault, sorted."""
    return [f"{fault.line}: {fault.what}" for fault in sorted(set(faults))]
