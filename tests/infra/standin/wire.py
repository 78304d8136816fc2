"""The messages of Terraform's plugin protocol, version 5, that the stand-in reads or writes.

Only field numbers and types are transmitted; the message names are ours. A map is encoded as a list of entries with
`key` 1 and `value` 2. Source: tfplugin5.proto and "Terraform Plugin Protocol" in Terraform's documentation.
"""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]  # it ships no types
from google.protobuf import (  # type: ignore[import-untyped]  # it ships no types
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

# Field → (number, type); a capitalized type is a message of this table, and `*` marks a repeated field.
_FIELDS: dict[str, dict[str, tuple[int, str]]] = {
    "Nothing": {},
    "Value": {"msgpack": (1, "bytes"), "json": (2, "bytes")},
    "Diagnostic": {"severity": (1, "int64"), "summary": (2, "string"), "detail": (3, "string")},
    "Attribute": {
        "name": (1, "string"),
        "type": (2, "bytes"),
        "required": (4, "bool"),
        "optional": (5, "bool"),
        "computed": (6, "bool"),
    },
    "NestedBlock": {
        "type_name": (1, "string"),
        "block": (2, "Block"),
        "nesting": (3, "int64"),
        "min_items": (4, "int64"),
        "max_items": (5, "int64"),
    },
    "Block": {"version": (1, "int64"), "attributes": (2, "Attribute*"), "block_types": (3, "NestedBlock*")},
    "Schema": {"version": (1, "int64"), "block": (2, "Block")},
    "NamedSchema": {"key": (1, "string"), "value": (2, "Schema")},
    "Schemas": {"provider": (1, "Schema"), "resources": (2, "NamedSchema*"), "data_sources": (3, "NamedSchema*")},
    "Diagnostics": {"diagnostics": (1, "Diagnostic*")},
    "PrepareRequest": {"config": (1, "Value")},
    "PrepareResponse": {"prepared_config": (1, "Value")},
    "ConfigureRequest": {"config": (2, "Value")},
    "NamedConfig": {"type_name": (1, "string"), "config": (2, "Value")},
    "RawState": {"json": (1, "bytes")},
    "UpgradeRequest": {"type_name": (1, "string"), "version": (2, "int64"), "raw_state": (3, "RawState")},
    "ReadRequest": {"type_name": (1, "string"), "current_state": (2, "Value")},
    # The responses of UpgradeResourceState, ReadResource and ReadDataSource all begin with the value.
    "State": {"state": (1, "Value")},
    "ImportRequest": {"type_name": (1, "string"), "id": (2, "string")},
    "Imported": {"type_name": (1, "string"), "state": (2, "Value")},
    "ImportResponse": {"imported": (1, "Imported*")},
    "PlanRequest": {"type_name": (1, "string"), "prior_state": (2, "Value"), "proposed_new_state": (3, "Value")},
    "PlanResponse": {"planned_state": (1, "Value"), "legacy_type_system": (5, "bool")},
    "ApplyRequest": {"type_name": (1, "string"), "prior_state": (2, "Value"), "planned_state": (3, "Value")},
    "ApplyResponse": {"new_state": (1, "Value"), "legacy_type_system": (4, "bool")},
}
_SIMPLE = {
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    # Enumerations are encoded as numbers.
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
}
_PACKAGE = "standin"

# A value that is unknown before the apply. Source: "Object Values in MessagePack" in Terraform's protocol description.
UNKNOWN = msgpack.ExtType(0, b"\x00")


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="standin.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            entry = message.field.add(name=field, number=number)
            repeated, kind = kind.endswith("*"), kind.removesuffix("*")
            entry.label = entry.LABEL_REPEATED if repeated else entry.LABEL_OPTIONAL
            if kind in _SIMPLE:
                entry.type = _SIMPLE[kind]
            else:
                entry.type, entry.type_name = entry.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _FIELDS}


_CLASSES = _classes()


def message(name: str) -> Any:
    """Return the class of a message; raise KeyError if the table does not have it."""
    return _CLASSES[name]


def encode(value: Any) -> Any:
    """Return a message with one value, in which `UNKNOWN` marks unknown values."""
    return message("Value")(msgpack=msgpack.packb(value))


def decode(value: Any) -> Any:
    """Return the value in a message, None for null."""
    return msgpack.unpackb(value.msgpack, raw=False, strict_map_key=False) if value.msgpack else None


def is_unknown(value: Any) -> bool:
    """Return whether a value is known only after the apply."""
    return isinstance(value, msgpack.ExtType)
