"""The answers of the local Azure are those that Microsoft's own SDK describes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from localcloud.azure.answers import MODELS, check_answer
from localcloud.azure.errors import ArmError

EXPORT = "Microsoft.CostManagement/exports/read"
SUBSCRIPTION = "Microsoft.Resources/subscriptions/read"
PATH = "/subscriptions/s"


@pytest.mark.parametrize(
    ("action", "path", "document", "named"),
    [
        (EXPORT, PATH, {"value": [{"properties": {"sched": {}}}]}, "Could not find member 'properties.sched'"),
        (EXPORT, PATH, {"value": [], "count": 0}, "a list has no members count"),
        (EXPORT, PATH, {"id": 7}, "id must be of type str"),
        (EXPORT, f"{PATH}/runHistory", {"value": [{"properties": {"status": "done"}}]}, "Invalid properties.status"),
        (SUBSCRIPTION, PATH, {"state": "enabled"}, "Invalid state 'enabled'; valid values: 'Enabled'"),
        (SUBSCRIPTION, PATH, {"tags": {"a": 1}}, "tags.a must be of type str"),
        (SUBSCRIPTION, PATH, ["one"], "the request body must be an object"),
    ],
)
def test_answer_that_microsoft_would_not_give_is_refused(action: str, path: str, document: Any, named: str) -> None:
    """Unknown members, wrong types, and values in another spelling than the service's."""
    with pytest.raises(ArmError, match=re.escape(named)) as refused:
        check_answer(action, path, document)
    assert refused.value.status == 501


def test_read_only_members_belong_in_an_answer() -> None:
    """A request may not set them, an answer has them."""
    check_answer(EXPORT, PATH, {"id": "/subscriptions/s/providers/Microsoft.CostManagement/exports/e", "name": "e"})


@pytest.mark.parametrize("action", MODELS)
def test_every_model_is_read(action: str) -> None:
    """Each model's own description can be interpreted: an empty list of it is valid."""
    check_answer(action, PATH, {"value": []})
    with pytest.raises(ArmError, match="Could not find member 'neverHeardOf'"):
        check_answer(action, PATH, {"value": [{"neverHeardOf": 1}]})
