"""A provider that is served on 127.0.0.1."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import grpc  # type: ignore[import-untyped]  # it ships no types

from tests.infra.standin.values import assigned
from tests.infra.standin.wire import UNKNOWN, decode, encode, is_unknown, message

Json = dict[str, Any]
# Carries out the resource (its type) or the read (`data.` and its type) with these values.
Carry = Callable[[str, Json], Mapping[str, Any]]
_NESTING = {"single": 1, "list": 2, "set": 3, "map": 4}


def no_cloud(_kind: str, _values: Json) -> Mapping[str, Any]:
    """Carry out nothing."""
    return {}


class Provider:
    """A context manager that serves one provider.

    `blocks` maps `resource.<type>` and `data.<type>` to a block, in the form of `terraform providers schema -json`;
    `configuration` is the provider's own block. `cloud` carries out what is applied or read, and returns the values
    that it assigned, by attribute; by default there is no cloud, and values are made up.
    """

    def __init__(self, blocks: Mapping[str, Json], configuration: Json, cloud: Carry = no_cloud) -> None:
        self._blocks = blocks
        self._configuration = configuration
        self._cloud = cloud
        self._server = grpc.server(ThreadPoolExecutor(4))
        self._port = 0

    def __enter__(self) -> Provider:
        # Call → request type, response type, handler. Source: the service Provider in tfplugin5.proto.
        calls: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
            "GetSchema": ("Nothing", "Schemas", self._schemas),
            "PrepareProviderConfig": ("PrepareRequest", "PrepareResponse", _prepared),
            "Configure": ("ConfigureRequest", "Diagnostics", _no_diagnostics),
            "ValidateResourceTypeConfig": ("NamedConfig", "Diagnostics", _no_diagnostics),
            "ValidateDataSourceConfig": ("NamedConfig", "Diagnostics", _no_diagnostics),
            "UpgradeResourceState": ("UpgradeRequest", "State", _upgraded),
            "ImportResourceState": ("ImportRequest", "ImportResponse", self._imported),
            "ReadResource": ("ReadRequest", "State", lambda request: message("State")(state=request.current_state)),
            "PlanResourceChange": ("PlanRequest", "PlanResponse", self._planned),
            "ApplyResourceChange": ("ApplyRequest", "ApplyResponse", self._applied),
            "ReadDataSource": ("NamedConfig", "State", self._data),
            "Stop": ("Nothing", "Nothing", lambda _: message("Nothing")()),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                lambda request, _, handle=handle: handle(request),
                request_deserializer=message(request_type).FromString,
                response_serializer=message(response_type).SerializeToString,
            )
            for name, (request_type, response_type, handle) in calls.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tfplugin5.Provider", handlers),))
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(grace=None).wait()

    @property
    def reattach(self) -> Json:
        """The provider's entry in TF_REATTACH_PROVIDERS.

        `Test` keeps Terraform from stopping this process. Source: "Debugging Providers" in Terraform's
        documentation.
        """
        address = {"Network": "tcp", "String": f"127.0.0.1:{self._port}"}
        return {"Protocol": "grpc", "ProtocolVersion": 5, "Pid": os.getpid(), "Test": True, "Addr": address}

    def _schemas(self, _: Any) -> Any:
        response = message("Schemas")(provider=_schema(self._configuration))
        for name, block in self._blocks.items():
            kind, _, type_name = name.partition(".")
            entries = response.resources if kind == "resource" else response.data_sources
            entries.append(message("NamedSchema")(key=type_name, value=_schema(block)))
        return response

    def _imported(self, request: Any) -> Any:
        """Return a resource of which only the id is known; the next plan updates it."""
        value = _empty(self._blocks[f"resource.{request.type_name}"]) | {"id": request.id}
        one = message("Imported")(type_name=request.type_name, state=encode(value))
        return message("ImportResponse")(imported=[one])

    def _planned(self, request: Any) -> Any:
        value = decode(request.proposed_new_state)
        if value is not None:
            for attributes, values in _nested_values(self._blocks[f"resource.{request.type_name}"], value):
                for name, entry in attributes.items():
                    if values.get(name) is None and _is_computed(name, entry):
                        values[name] = UNKNOWN
        return message("PlanResponse")(planned_state=encode(value), legacy_type_system=True)

    def _applied(self, request: Any) -> Any:
        value = decode(request.planned_state)
        if value is not None:
            known = self._cloud(request.type_name, value)
            for attributes, values in _nested_values(self._blocks[f"resource.{request.type_name}"], value):
                for name, entry in attributes.items():
                    if is_unknown(values.get(name)):
                        values[name] = known.get(name) or assigned(request.type_name, name, _type(entry), value)
        return message("ApplyResponse")(new_state=encode(value), legacy_type_system=True)

    def _data(self, request: Any) -> Any:
        value = decode(request.config)
        known = self._cloud(f"data.{request.type_name}", value)
        for attributes, values in _nested_values(self._blocks[f"data.{request.type_name}"], value):
            for name, entry in attributes.items():
                if values.get(name) is None and _is_computed(name, entry):
                    values[name] = known.get(name) or assigned(request.type_name, name, _type(entry), value)
        return message("State")(state=encode(value))


def _empty(block: Json) -> Json:
    blocks: Json = {
        name: None if one["nesting_mode"] == "single" else [] for name, one in block.get("block_types", {}).items()
    }
    return {**dict.fromkeys(block.get("attributes", {})), **blocks}


def _prepared(request: Any) -> Any:
    return message("PrepareResponse")(prepared_config=request.config)


def _no_diagnostics(_: Any) -> Any:
    return message("Diagnostics")()


def _upgraded(request: Any) -> Any:
    return message("State")(state=message("Value")(json=request.raw_state.json))


def _is_computed(name: str, entry: Json) -> bool:
    # The bindings do not mark an optional `id` as computed; the provider sets it unless the module does.
    return bool(entry.get("computed")) or name == "id"


def _nested_values(block: Json, value: Json) -> Iterator[tuple[Json, Json]]:
    """Yield the schema's attributes and the value of each block, outer blocks first."""
    yield block.get("attributes", {}), value
    for name, nested in block.get("block_types", {}).items():
        found = value.get(name) or []
        for one in [found] if isinstance(found, dict) else found:
            if isinstance(one, dict):
                yield from _nested_values(nested["block"], one)


def _schema(block: Json) -> Any:
    return message("Schema")(block=_block(block))


def _block(block: Json) -> Any:
    response = message("Block")()
    for name, entry in block.get("attributes", {}).items():
        response.attributes.append(
            message("Attribute")(
                name=name,
                type=json.dumps(_type(entry)).encode(),
                required=bool(entry.get("required")),
                optional=bool(entry.get("optional")),
                computed=_is_computed(name, entry) and not entry.get("required"),
            )
        )
    for name, nested in block.get("block_types", {}).items():
        response.block_types.append(
            message("NestedBlock")(
                type_name=name,
                block=_block(nested["block"]),
                nesting=_NESTING[nested["nesting_mode"]],
                min_items=nested.get("min_items", 0) if nested["nesting_mode"] != "single" else 0,
                max_items=nested.get("max_items", 0) if nested["nesting_mode"] != "single" else 0,
            )
        )
    return response


def _type(entry: Json) -> Any:
    """Return the type in Terraform's JSON; nested attributes become object types, as protocol 5 requires."""
    nested = entry.get("nested_type")
    if nested is None:
        return entry["type"]
    members = ["object", {name: _type(one) for name, one in nested.get("attributes", {}).items()}]
    return members if nested["nesting_mode"] == "single" else [nested["nesting_mode"], members]
