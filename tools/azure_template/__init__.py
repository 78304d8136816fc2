"""The launch templates of Azure: `infra/azure/template.json`, `management-group.json` and their portal forms.

They are made from the module's facts: variables and their validations, preconditions, rights, alarms, dashboard, and
the function's own template. What no fact holds, the shape of a resource, is written here by hand, once. A test compares the
result with Terraform's plan and does not trust this package (tests/infra/template).

There are two templates, because Azure deploys a template at one kind of scope only, and a deployment in a subscription
cannot reach a management group ("Subscription deployments with ARM templates", Microsoft Learn). The one for management
groups does not repeat the other: it links to it by `relativePath`, and adds what lies in the group.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.azure_template.facts import read_facts
from tools.azure_template.form import form
from tools.azure_template.management_group import management_group
from tools.azure_template.subscription import subscription

TEMPLATE, GROUP_TEMPLATE = "template.json", "management-group.json"
FORM, GROUP_FORM = "createUiDefinition.json", "management-group.form.json"


def documents(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files of the module in `folder` that are made here, each with its text."""
    facts = read_facts(folder)
    for name, document in (
        (TEMPLATE, subscription(facts)),
        (GROUP_TEMPLATE, management_group(facts)),
        (FORM, form(facts, group=False)),
        (GROUP_FORM, form(facts, group=True)),
    ):
        yield folder / name, _written(document)


def _written(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
