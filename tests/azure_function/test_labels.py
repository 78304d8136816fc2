"""What people call a subscription (management groups, state, tags) reaches the state, and never decides anything."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
import pytest

from azure_function.clients import drop_clients
from azure_function.invocation import open_state
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.state import Behavior
from shared.state.document import StateDocument
from shared.state.session import StateSession
from tests.azure_function.support import Lines, local_azure, run

GRAPH = "Microsoft.ResourceGraph/resources/read"


@pytest.fixture
def tagged() -> Iterator[LocalAzure]:
    """Return a tenant with five subscriptions, of which the first has tags, and listings with pages of two."""
    with local_azure(Behavior(page_size=2), subscriptions=5) as cloud:
        cloud.tag_subscription(cloud.subscription_ids[0], {"owner": "x@example.com", "Env": "prod\n"})
        yield cloud
        drop_clients()


def labels(cloud: LocalAzure) -> list[dict[str, str] | None]:
    """Return the labels that the state has of each subscription."""
    store, context = open_state(cloud.environment(), Lines(), cloud.clock)
    document: StateDocument = StateSession(store, context, read_only=True).open()
    return [document.scopes[one].labels for one in cloud.subscription_ids]


def test_run_records_management_groups_states_and_tags(tagged: LocalAzure) -> None:
    """All pages are read; tags are in the order of their names, and the tenant's root group is left out."""
    tagged.set_state(tagged.subscription_ids[1], "PastDue")
    tagged.world.directory.add_group("corp", "production", "Corp")
    tagged.world.directory.subscriptions[tagged.subscription_ids[3]].group = "corp"
    assert run(tagged).report["status"] == "ok"
    production, sandbox = ({"management group": one, "state": "Enabled"} for one in ("production", "sandbox"))
    assert labels(tagged) == [
        production | {"tag Env": "prod", "tag owner": "x@example.com"},
        production | {"state": "PastDue"},
        sandbox,
        {"management group": "production / Corp", "state": "Enabled"},
        production,
    ]
    assert tagged.calls.by_action()[GRAPH] == 3


def test_new_tags_replace_the_old_ones(tagged: LocalAzure) -> None:
    """What was removed in Azure is no longer shown."""
    run(tagged)
    tagged.tag_subscription(tagged.subscription_ids[0], {})
    run(tagged)
    assert labels(tagged)[0] == {"management group": "production", "state": "Enabled"}


@pytest.mark.parametrize("answer", [b"[]", b'{"data": 3}', b"<html>", b'{"data": [3, {"subscriptionId": 7}]}'])
def test_labels_that_cannot_be_read_stay_as_they_are(tagged: LocalAzure, answer: bytes) -> None:
    """The run is as good as without them: no scope is gone, and only a line in the log says so."""
    run(tagged)
    before, lines = labels(tagged), Lines()
    tagged.faults.corrupt("POST *ResourceGraph*", answer, times=None)
    finished = run(tagged, sink=lines)
    assert (finished.report["status"], finished.report["enumeration_complete"]) == ("ok", True)
    assert labels(tagged) == before
    codes = [fields["code"] for _, event, fields in lines.lines if event == "detail-unread"]
    assert len(codes) == (0 if b"subscriptionId" in answer else 1)


def test_subscription_that_resource_graph_omits_stays_covered_and_labeled(tagged: LocalAzure) -> None:
    """What it shows is never taken for the list of subscriptions."""
    run(tagged)
    before = labels(tagged)
    tagged.faults.corrupt("POST *ResourceGraph*", json.dumps({"data": []}).encode(), times=None)
    finished = run(tagged)
    assert finished.report["scopes"]["covered"] == 5
    assert labels(tagged) == before


def test_run_for_some_scopes_does_not_read_labels(tagged: LocalAzure) -> None:
    """It costs no query; the next scheduled run reads them."""
    finished = run(tagged, [tagged.subscription_ids[0]])
    assert finished.report["scopes"]["total"] == 1
    assert GRAPH not in tagged.calls.by_action()


def test_hostile_labels_are_bounded_in_the_state(tagged: LocalAzure) -> None:
    """Thousands of long tags of one subscription do not fill the document."""
    tagged.tag_subscription(tagged.subscription_ids[0], {f"name-{n}": "\u202e<script>" * 100 for n in range(2_000)})
    assert run(tagged).report["status"] == "ok"
    found = labels(tagged)[0]
    assert found is not None
    assert len(msgspec.json.encode(found)) < 2_000
    assert all(one.isprintable() for one in (*found, *found.values()))
