"""The grants that each module lists in YAML: to the function and others, and for the operator."""

from __future__ import annotations

from typing import Any

import yaml

from cli.deployment.terraform.root_module import INFRA

GIVEN, OPERATOR_FILE = "rights.yaml", "operator.yaml"


def grants(cloud: str, file: str = GIVEN) -> dict[str, list[dict[str, Any]]]:
    """Return a module's grants by holder, or by phase for `OPERATOR_FILE`; template variables are kept."""
    text = (INFRA / cloud / file).read_text(encoding="utf-8")
    document: dict[str, list[dict[str, Any]]] = yaml.safe_load(text)
    return document
