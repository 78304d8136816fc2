"""A module's guide, `docs/<cloud>.md`, explains every resource and lists all permissions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.runtime.log import EVENTS, FIELDS
from tools import modules
from tools.documents import RIGHTS

PROVIDERS = {"aws": "aws", "azure": "azurerm|azuread", "gcp": "google"}


@pytest.mark.parametrize("cloud", PROVIDERS)
def test_guide_explains_every_resource_of_its_module(repository: Path, cloud: str) -> None:
    """Every resource has its address in backticks, and no other address is in the guide."""
    text = (repository / "docs" / f"{cloud}.md").read_text(encoding="utf-8")
    named = set(re.findall(rf"`((?:{PROVIDERS[cloud]}|terraform)_\w+\.\w+)`", text))

    assert named == set(modules.read(repository / "infra" / cloud).resources)
    assert {(one["cloud"], one["holder"]) for one in RIGHTS.finditer(text)} >= {
        (cloud, "function"),
        (cloud, "connector"),
    }


@pytest.mark.parametrize("cloud", PROVIDERS)
def test_log_queries_use_existing_events_and_fields(repository: Path, cloud: str) -> None:
    """A query for an unknown event or field would return no rows, without an error."""
    text = (repository / "docs" / f"{cloud}.md").read_text(encoding="utf-8")
    section = text.partition("\n## Dashboard and log queries\n")[2]
    queries = re.findall(r"```text\n(.+?)```", section, re.DOTALL)
    events = {one for query in queries for one in re.findall(r'"((?:[a-z]+-)*[a-z]+)"', query)} - {"tailpipe-exports"}
    fields = {one for query in queries for one in re.findall(r"(?:line|jsonPayload)\.(\w+)", query)}
    assert len(queries) == 3
    assert {"write-failed", "unknown", "run-finished"} <= events <= set(EVENTS)
    assert fields <= {*FIELDS, "event", "run_id"}
