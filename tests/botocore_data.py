"""Read botocore's data files once in a process, and create once what follows from them.

Each session has a loader with a cache of its own, so the first client of a session lists the folders of 400 services
and parses 1 MB of endpoints: 35 ms, ten times as long as the second client. The tests create thousands of sessions.
Each client has all methods of its service, with 12 objects each, a copy of all handlers, and its own rules of
endpoints; most of the tests' garbage was of these.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import botocore.client
import botocore.endpoint_provider
import botocore.hooks
from botocore.loaders import JSONFileLoader, Loader

# Private names are used below, which the stubs do not have.
_client: Any = botocore.client
_endpoints: Any = botocore.endpoint_provider
_hooks: Any = botocore.hooks


def install() -> None:
    """Share the lists of services and the parsed files between all sessions of this process.

    The models of services are still parsed by each session: botocore modifies them, and moto reads them as published.
    """
    list_services = Loader.list_available_services
    parse = JSONFileLoader().load_file
    parse_once = cache(parse)
    services: dict[tuple[str, ...], list[str]] = {}

    def list_available_services(loader: Loader, type_name: str) -> list[str]:
        key = (*loader.search_paths, type_name)
        if key not in services:
            services[key] = list_services(loader, type_name)
        return list(services[key])

    def load_file(path: str) -> Any:
        return parse(path) if path.endswith("/service-2") else parse_once(path)

    Loader.list_available_services = list_available_services  # type: ignore[assignment, method-assign]  # the cached list
    JSONFileLoader.load_file = staticmethod(load_file)  # type: ignore[assignment, method-assign]  # it needs no loader
    _share_event_names()
    _share_endpoint_rules()
    _share_methods()
    # A faster copy of the same.
    _hooks._PrefixTrie._recursive_copy = lambda _, trie: {"_root": _copied(trie["_root"])}


def _share_event_names() -> None:
    """Compute the alias of each event's name once: each new client computes those of all its calls again."""
    names: dict[str, str] = {}
    create = _hooks.EventAliaser.__init__

    def create_with_names(aliaser: Any, event_emitter: Any, event_aliases: Any = None) -> None:
        create(aliaser, event_emitter, event_aliases)
        if event_aliases is None or event_aliases == _hooks.EVENT_ALIASES:
            aliaser._alias_name_cache = names

    _hooks.EventAliaser.__init__ = create_with_names


def _share_endpoint_rules() -> None:
    """Build the rules of a service's endpoints once: their data is the same object in all sessions."""
    built: dict[tuple[int, int], tuple[Any, Any, Any]] = {}
    build = _endpoints.RuleSet

    def rule_set(*, rules: Any, partitions: Any, **more: Any) -> Any:
        key = (id(rules), id(partitions))
        if key not in built:
            # The data is kept, so that its ids stay its own.
            built[key] = (rules, partitions, build(rules=rules, partitions=partitions, **more))
        return built[key][2]

    _endpoints.RuleSet = rule_set


def _share_methods() -> None:
    """Create the methods of a service's clients once for each loaded model."""
    created: dict[int, tuple[Any, dict[str, Any]]] = {}
    create = _client.ClientCreator._create_methods

    def create_methods(creator: Any, service_model: Any) -> dict[str, Any]:
        data = service_model._service_description
        if id(data) not in created:
            created[id(data)] = (data, create(creator, service_model))
        return dict(created[id(data)][1])

    _client.ClientCreator._create_methods = create_methods


def _copied(node: dict[str, Any]) -> dict[str, Any]:
    """Copy a node of the handlers' trie, its children and its lists of handlers, but not the handlers."""
    lists = node["values"]
    return {
        "chunk": node["chunk"],
        "children": {name: _copied(child) for name, child in node["children"].items()},
        "values": lists and _hooks.NodeList(lists.first[:], lists.middle[:], lists.last[:]),
    }
