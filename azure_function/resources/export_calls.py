"""Calls the Exports API: reads, writes and executes exports, with a type and version that the agreement offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from azure_function.clients import COST, Clients
from azure_function.errors import TYPE_REFUSED, VERSION_REFUSED, valid_values
from azure_function.resources.export_document import ExportVariant, document, validated, version_to_send
from azure_function.settings import AzureSettings, Storage
from azure_function.targets import DATASETS, fallback_version, placement_of
from shared.errors import CloudError, NotApplicable, Permanent
from shared.model import Key
from shared.parsing import mapping
from shared.runtime.context import RunContext


class WriteResult(msgspec.Struct, frozen=True):
    """The result of a write: whether it created the export, and the type and version that Azure accepted."""

    created: bool
    accepted: ExportVariant
    live: Mapping[str, Any]


def _status_and_json(pipeline: Any, _model: Any, _headers: Any) -> tuple[bool, Mapping[str, Any]]:
    """Return whether the status is 201, and the JSON document unchanged; the SDK's models would only wrap it."""
    response = pipeline.http_response
    return response.status_code == 201, response.json()


class ExportCalls:
    """Reads, writes and executes exports."""

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run

    def put(self, key: Key, wanted: ExportVariant, account: Storage, live: Mapping[str, Any] | None) -> WriteResult:
        """Write an export. If Azure rejects its type or version, use the next one that it offers.

        Raises NotApplicable if the agreement offers none of the dataset's types, else CloudError.
        """
        placement = placement_of(key)
        types = list(dict.fromkeys((wanted.kind, *placement.dataset.types)))
        kind, version = types.pop(0), version_to_send(wanted.version, live)
        rejected: set[str] = set()
        while True:
            body = document(
                placement, ExportVariant(kind, version), account, self._settings, self._run.clock.now(), live
            )
            try:
                created, live = self._run.calls(COST, self._send, placement.path, key.name, body)
            except Permanent as error:
                if error.code == TYPE_REFUSED:
                    allowed = valid_values(error)
                    types = [name for name in types if not allowed or name in allowed]
                    if not types:
                        raise NotApplicable(TYPE_REFUSED, self._not_offered(kind, allowed, error)) from error
                    kind = types.pop(0)
                elif error.code == VERSION_REFUSED and version:
                    rejected.add(version)
                    offered = [value for value in valid_values(error) if value not in rejected]
                    version = fallback_version(version, offered)
                    if not version:
                        raise
                else:
                    raise
                continue
            return WriteResult(created, ExportVariant(kind, version), live)

    def _not_offered(self, kind: str, allowed: Sequence[str], error: CloudError) -> str:
        """Return why a dataset has no export, and which other value of EXPORTS the agreement offers."""
        others = [
            name
            for name, dataset in DATASETS.items()
            if name not in self._settings.exports and set(dataset.types) & set(allowed or ("Usage",))
        ]
        hint = f"; it offers the dataset {others[0]}, which EXPORTS does not contain" if others else ""
        return f"the agreement offers no {kind}{hint}: {error.message}"

    def _send(self, path: str, name: str, body: Mapping[str, Any]) -> tuple[bool, Mapping[str, Any]]:
        write: Any = self._clients.cost.exports.create_or_update  # its stubs accept only models, not the document
        result: tuple[bool, Mapping[str, Any]] = write(path, name, body, cls=_status_and_json)
        return result

    def get(self, key: Key, *, runs: bool = False) -> Mapping[str, Any]:
        """Return the document of a live export, with its run history if `runs`. Raises CloudError."""
        expand = "runHistory" if runs else None
        get: Any = self._clients.cost.exports.get
        _, live = self._run.calls(COST, get, placement_of(key).path, key.name, expand=expand, cls=_status_and_json)
        return validated(live, f"the read of export {key.name} of {key.scope}")

    def list(self, path: str) -> list[Mapping[str, Any]]:
        """Return the documents of all exports of a scope, which Azure returns in one page. Raises CloudError."""
        listing: Any = self._clients.cost.exports.list
        _, found = self._run.calls(COST, listing, path, cls=_status_and_json)
        exports = [one for one in found["value"] if mapping(mapping(one).get("properties"))]
        return [validated(one, f"the listing of the exports of {path}") for one in exports]

    def execute(self, key: Key, body: Mapping[str, Any] | None = None) -> None:
        """Start an execution of the export, for the current period or the one in `body`. Raises CloudError."""
        execute: Any = self._clients.cost.exports.execute  # its overloads accept only models, not the document
        arguments = () if body is None else (body,)
        self._run.calls(COST, execute, placement_of(key).path, key.name, *arguments)
