"""The operator's policy documents of all clouds, each made from that cloud's operator.yaml.

`make infra-docs` writes them, `make check-infra` says which are out of date.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from cli.deployment.azure import rights as azure_rights
from cli.deployment.gcp import rights as gcp_rights

SOURCE = "operator.yaml"


def documents(folder: Path) -> dict[str, str]:
    """Return each document's text by its file name, of the cloud whose module lies in `folder`."""
    made = MADE.get(folder.name)
    return made(folder) if made else {}


def stale(folder: Path) -> list[str]:
    """Return the names of the documents that are not what the source says."""
    return [name for name, text in documents(folder).items() if _read(folder / name) != text]


def _of_aws(folder: Path) -> dict[str, str]:
    source = yaml.safe_load((folder / SOURCE).read_text(encoding="utf-8"))
    return {f"operator-{purpose}-policy.json": _policy(grants) for purpose, grants in source.items()}


def _policy(grants: list[dict[str, Any]]) -> str:
    statements = [
        {"Sid": one["id"], "Effect": "Allow", "Action": one["actions"], "Resource": one["resources"]} for one in grants
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2) + "\n"


def _of_azure(folder: Path) -> dict[str, str]:
    source = yaml.safe_load((folder / SOURCE).read_text(encoding="utf-8"))
    return {azure_rights.ROLE.name: json.dumps(azure_rights.role_document(source), indent=2) + "\n"}


def _of_gcp(_folder: Path) -> dict[str, str]:
    return {file: gcp_rights.written(gcp_rights.role(scope)) for scope, file in gcp_rights.ROLE_FILES.items()}


MADE: dict[str, Callable[[Path], dict[str, str]]] = {"aws": _of_aws, "azure": _of_azure, "gcp": _of_gcp}


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
