"""Terraform's apply and the launch template leave the same in a local Azure: compared live, value by value.

`tests/infra/test_standin_azure.py` compares what is asked for; this compares what is there afterwards.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest

from tests.infra.live_azure import LISTED, SETS, by_template, by_terraform, differences, left_behind

pytestmark = pytest.mark.slow
Worlds = dict[str, tuple[dict[str, Any], dict[str, Any]]]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    """Return what each engine leaves, by set of variables."""
    found: Worlds = {}
    for name in SETS:
        with by_terraform(name, tmp_path_factory.mktemp(f"{name}-terraform")) as (azure, _):
            first = left_behind(azure)
        with by_template(name, tmp_path_factory.mktemp(f"{name}-template")) as azure:
            found[name] = (first, left_behind(azure))
    return found


def unlisted(terraform: dict[str, Any], template: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the differences that are not listed."""
    return {
        path: values
        for path, values in differences(terraform, template).items()
        if not any(one.covers(path, *values) for one in LISTED)
    }


@pytest.mark.parametrize("name", SETS)
def test_both_engines_leave_the_same(worlds: Worlds, name: str) -> None:
    """Resources, rights, settings, tags, package and functions; what differs is listed with its reason."""
    assert unlisted(*worlds[name]) == {}


def test_every_listed_difference_exists(worlds: Worlds) -> None:
    """A difference that is gone is removed from the list."""
    found = [(path, *values) for pair in worlds.values() for path, values in differences(*pair).items()]
    assert [one.path for one in LISTED if not any(one.covers(*each) for each in found)] == []


CHANGES = {
    "resource": "*/actionGroups/tailpipe-exports-*: type",
    "property": "*/storageAccounts/tailpipehost: properties.minimumTlsVersion",
    "right": "role Tailpipe Exports, exports (*: actions",
    "holder": "*grants Monitoring Reader to *: kind",
    "condition": "* grants Tailpipe Exports, role of exports (*: condition",
    "setting": "*/sites/*: settings.CALL_BUDGET",
    "tag": "*/actionGroups/tailpipe-exports-*: tags.managed-by",
    "package": "*/sites/*: package",
    "function": "*/sites/*: functions",
    "container": "*/storageAccounts/tailpipehost: containers",
    "lifecycle rule": "*/storageAccounts/tailpipehost: lifecycle.policy.rules",
    "alarm": "*/scheduledQueryRules/*-missing: properties.criteria.allOf",
    "policy": "*/policyDefinitions/deploy-cost-export: properties.policyRule.then.effect",
}


@pytest.mark.parametrize("what", CHANGES)
def test_difference_of_one_value_is_found(worlds: Worlds, what: str) -> None:
    """In each kind of thing that is compared: a value that is missing, and one that is another."""
    terraform, template = worlds["rich"]
    [path, *_] = [one for one in template if fnmatchcase(one, CHANGES[what])]
    missing = {key: value for key, value in template.items() if key != path}
    assert list(unlisted(terraform, missing)) == [path]
    changed = template | {path: "another"}
    assert list(unlisted(terraform, changed)) == [path]
