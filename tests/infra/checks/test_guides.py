"""A module's guide, `docs/<cloud>.md`, names every resource and shows who may do what."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import modules
from tools.documents import RIGHTS

PROVIDERS = {"aws": "aws", "azure": "azurerm|azuread", "gcp": "google"}


@pytest.mark.parametrize("cloud", PROVIDERS)
def test_a_guide_names_what_its_module_declares(repository: Path, cloud: str) -> None:
    """Every resource is explained, alone between two backticks, and no other is named."""
    text = (repository / "docs" / f"{cloud}.md").read_text(encoding="utf-8")
    named = set(re.findall(rf"`((?:{PROVIDERS[cloud]}|terraform)_\w+\.\w+)`", text))

    assert named == set(modules.read(repository / "infra" / cloud).resources)
    assert {(one["cloud"], one["holder"]) for one in RIGHTS.finditer(text)} >= {
        (cloud, "function"),
        (cloud, "connector"),
    }
