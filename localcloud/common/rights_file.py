"""Parse the rights files of the Terraform modules, once per process."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import yaml


@lru_cache(maxsize=32)
def parsed(text: str) -> dict[str, list[dict[str, Any]]]:
    """Return the grants in a rights.yaml by holder. Cached: do not modify. Raises yaml.YAMLError."""
    document: dict[str, list[dict[str, Any]]] = yaml.safe_load(text)
    return document
