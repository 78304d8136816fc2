"""The grants that each module lists in YAML: what it gives to whom, and what its operator needs."""

from __future__ import annotations

from typing import Any

import yaml

from cli.deployment.terraform.root_module import INFRA

GIVEN, OPERATOR_FILE = "rights.yaml", "operator.yaml"


def grants(cloud: str, file: str = GIVEN) -> dict[str, list[dict[str, Any]]]:
    """Return a module's grants by holder, or by phase for `OPERATOR_FILE`; template variables stay as they are."""
    text = (INFRA / cloud / file).read_text(encoding="utf-8")
    document: dict[str, list[dict[str, Any]]] = yaml.safe_load(text)
    return document
