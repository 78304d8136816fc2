"""Read botocore's data files once in a process.

Each session has a loader with a cache of its own, so the first client of a session lists the folders of 400 services
and parses 1 MB of endpoints: 35 ms, ten times as long as the second client. The tests create thousands of sessions.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from botocore.loaders import JSONFileLoader, Loader


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
