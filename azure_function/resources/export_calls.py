"""The calls on exports: read and written as documents, with the type and version that the agreement offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from azure_function.clients import COST, Clients
from azure_function.errors import TYPE_REFUSED, VERSION_REFUSED, valid_values
from azure_function.resources.export_document import Wanted, document, later_version, understood
from azure_function.settings import AzureSettings, Storage
from azure_function.targets import DATASETS, lower_version, place_of
from shared.errors import CloudError, NotApplicable, Permanent
from shared.model import Key
from shared.runtime.context import RunContext


class Put(msgspec.Struct, frozen=True):
    """What a write came to: whether it made something new, and the type and version that were accepted."""

    created: bool
    taken: Wanted
    live: Mapping[str, Any]


def _status_and_json(pipeline: Any, _model: Any, _headers: Any) -> tuple[bool, Mapping[str, Any]]:
    """Return whether the answer is 201, and its document as it came: the SDK's models only wrap it."""
    response = pipeline.http_response
    return response.status_code == 201, response.json()


class ExportCalls:
    """Reads, writes and executes exports."""

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run

    def put(self, key: Key, wanted: Wanted, account: Storage, live: Mapping[str, Any] | None) -> Put:
        """Write an export; where its type or version is refused, with the next one that is offered. Raises CloudError.

        Raises NotApplicable where the agreement offers none of the dataset's types.
        """
        place = place_of(key)
        types = list(dict.fromkeys((wanted.kind, *place.dataset.types)))
        kind, version = types.pop(0), later_version(wanted.version, live)
        tried: set[str] = set()
        while True:
            body = document(place, Wanted(kind, version), account, self._settings, self._run.clock.now(), live)
            try:
                created, answer = self._run.calls(COST, self._send, place.path, key.name, body)
            except Permanent as error:
                if error.code == TYPE_REFUSED:
                    allowed = valid_values(error)
                    types = [one for one in types if not allowed or one in allowed]
                    if not types:
                        raise NotApplicable(TYPE_REFUSED, self._not_offered(kind, allowed, error)) from error
                    kind = types.pop(0)
                elif error.code == VERSION_REFUSED and version:
                    tried.add(version)
                    offered = [one for one in valid_values(error) if one not in tried]
                    version = lower_version(version, offered)
                    if not version:
                        raise
                else:
                    raise
                continue
            return Put(created, Wanted(kind, version), answer)

    def _not_offered(self, kind: str, allowed: Sequence[str], error: CloudError) -> str:
        """Return why a dataset is left out, and whether another one of EXPORTS would be accepted."""
        others = [
            name
            for name, dataset in DATASETS.items()
            if name not in self._settings.exports and set(dataset.types) & set(allowed or ("Usage",))
        ]
        hint = f"; the dataset {others[0]} in EXPORTS would cover it" if others else ""
        return f"the agreement offers no {kind}{hint}: {error.message}"

    def _send(self, path: str, name: str, body: Mapping[str, Any]) -> tuple[bool, Mapping[str, Any]]:
        write: Any = self._clients.cost.exports.create_or_update  # its stubs know models, which only wrap the document
        answer: tuple[bool, Mapping[str, Any]] = write(path, name, body, cls=_status_and_json)
        return answer

    def get(self, key: Key, *, runs: bool = False) -> Mapping[str, Any]:
        """Return an export as it is, with its runs if asked for. Raises CloudError."""
        expand = "runHistory" if runs else None
        get: Any = self._clients.cost.exports.get
        answer = self._run.calls(COST, get, place_of(key).path, key.name, expand=expand, cls=_status_and_json)
        return understood(answer[1], f"the read of export {key.name} of {key.scope}")

    def execute(self, key: Key, body: Mapping[str, Any] | None = None) -> None:
        """Ask for one execution, of the present period or of that in `body`. Raises CloudError."""
        execute: Any = self._clients.cost.exports.execute  # its overloads know models, which only wrap the document
        arguments = () if body is None else (body,)
        self._run.calls(COST, execute, place_of(key).path, key.name, *arguments)
