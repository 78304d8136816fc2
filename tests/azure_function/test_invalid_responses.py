"""Answers of success that are not Azure's: empty, cut off, a gateway's page, another shape. Unknown is never absent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from azure.core.pipeline import PipelineContext, PipelineRequest
from azure.core.rest import HttpRequest

from azure_function.answers import _register_credentials
from azure_function.clients import drop_clients
from azure_function.handler import run_once
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.services.azurite import Azurite
from shared.reconcile import RunResult
from shared.redaction import redact
from shared.request import RunRequest
from tests.azure_function.support import HOUR, Lines, advance, local_azure

PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
READS = {
    "subscriptions": "GET /subscriptions",
    "an export": "GET *Microsoft.CostManagement/exports/*",
    "the storage account": "GET *Microsoft.Storage/storageAccounts/tailpipedataexport??",
    "the container": "GET *Microsoft.Storage/storageAccounts/*/containers/*",
    "the lifecycle rules": "GET *Microsoft.Storage/storageAccounts/*/managementPolicies/*",
    "the registration": "GET *Microsoft.CostManagementExports",
    "the listing of deliveries": "GET /*/dataexport?comp=list",
    "a manifest": "GET /*/manifest.json",
}


def breaks(read: str) -> Iterator[tuple[str, bytes | Callable[[bytes], bytes]]]:
    """Yield the ways in which a read's answer is broken."""
    yield "empty", b""
    yield "page", PAGE
    yield "cut off", lambda true: true[: len(true) // 2]
    if "comp=list" in read:
        yield "another document", b"<?xml version='1.0'?><Answer/>"
    else:
        yield "no fields", b"{}"
        yield "another type", b"[1]"
        yield "null fields", lambda true: json.dumps(dict.fromkeys(json.loads(true))).encode()


def everything(cloud: LocalAzure, sink: Lines | None = None) -> RunResult:
    """Run once, looking at every target, with the storage behind the local cloud's own door."""
    environment = {**cloud.environment(), **cloud.keyless()}
    return run_once(RunRequest(verify_all=True), environment, sink or Lines(), cloud.clock, 3300, seed=1)


@pytest.fixture(scope="module")
def steady(azurite: Azurite) -> Iterator[LocalAzure]:
    """Return a tenant at rest."""
    with local_azure(subscriptions=3, azurite=azurite) as cloud, pytest.MonkeyPatch.context() as patch:
        for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):  # which the identity library reads by itself
            patch.setenv(name, cloud.environment()[name])
        everything(cloud)
        cloud.deliver()
        advance(cloud, HOUR)
        assert everything(cloud).report["status"] == "ok"
        yield cloud
        drop_clients()


@pytest.mark.parametrize("read", READS)
def test_an_answer_that_is_not_understood_concludes_nothing(steady: LocalAzure, read: str) -> None:
    """Whatever a read is answered with, nothing is written; the run says what was not understood, with a remedy."""
    for name, body in breaks(READS[read]):
        advance(steady, 12 * HOUR)
        steady.deliver()
        steady.calls.clear()
        order = steady.faults.spoil(READS[read], body)
        lines = Lines()
        finished = everything(steady, lines)
        steady.faults.restore()
        written = [call for call in steady.calls.select() if call.method in ("PUT", "POST", "PATCH", "DELETE")]
        written = [call for call in written if "tailpipe" not in call.resource and call.status < 300]
        assert [call for call in written if "CostManagement" in call.resource or "register" in call.action] == [], name
        assert order.hits, f"{read} was not called"
        said = lines.text() + json.dumps(finished.report)
        assert "not-understood" in said or "detail-unread" in said, f"{read} {name}: {said}"
        assert all(one["remedy"] for one in finished.report["failures"]), f"{read} {name}"
    advance(steady, HOUR)
    assert everything(steady).report["status"] == "ok"


def test_a_first_page_that_is_broken_is_asked_for_again(steady: LocalAzure) -> None:
    """The SDK takes a page that it could not read for the last one: the listing must not end with it."""
    for pattern in ("GET /subscriptions", "GET /*/dataexport?comp=list"):
        order = steady.faults.spoil(pattern, PAGE, times=1)
        finished = everything(steady)
        steady.faults.restore()
        assert order.hits == 1
        assert finished.report["status"] == "ok"
        assert finished.report["scopes"]["active"] == 3


@pytest.mark.parametrize("body", [b"", PAGE, b'{"version": 2, "scopes": {'])
def test_a_state_that_was_damaged_on_its_way_is_read_again(steady: LocalAzure, body: bytes) -> None:
    """One bad answer to the state's read sets nothing aside."""
    order = steady.faults.spoil("GET */known_subscriptions.json", body, times=1)
    lines = Lines()
    finished = everything(steady, lines)
    steady.faults.restore()
    assert order.hits == 1
    assert finished.report["status"] == "ok", finished.report
    assert "state-corrupt" not in lines.text()


def test_a_page_of_another_host_is_not_asked_for(steady: LocalAzure) -> None:
    """A listing that goes on at another host ends the look, not the listing: no token goes there."""
    order = steady.faults.spoil(
        "GET /subscriptions",
        lambda true: json.dumps(json.loads(true) | {"nextLink": "http://localhost:1/subscriptions"}).encode(),
    )
    lines = Lines()
    finished = everything(steady, lines)
    steady.faults.restore()
    assert order.hits
    assert finished.report["status"] == "failed"
    assert "another host" in json.dumps(finished.report["failures"])


@pytest.mark.parametrize("odd", ["0000\ud800", " 00000000-0000-0000-0000-00000000000f", "0000\u00000000"])
def test_a_subscription_with_an_id_that_cannot_be_one_is_left_out_and_told(steady: LocalAzure, odd: str) -> None:
    """Half a character, blanks or control characters in an id cost that subscription; the listing is incomplete."""

    def changed(true: bytes) -> bytes:
        document = json.loads(true)
        document["value"].append({**document["value"][-1], "subscriptionId": odd})
        return json.dumps(document).encode()

    exports = len(steady.exports())
    steady.faults.spoil("GET /subscriptions", changed)
    finished = everything(steady)
    steady.faults.restore()
    assert [one["code"] for one in finished.report["failures"]] == ["scope-id-odd"]
    assert finished.report["failures"][0]["remedy"]
    assert not finished.report["enumeration_complete"]
    assert finished.report["scopes"]["covered"] == 3
    assert len(steady.exports()) == exports


@pytest.mark.parametrize("odd", [{"subscriptionId": None}, {"subscriptionId": 5}, {"displayName": "no id at all"}])
def test_a_listed_subscription_without_an_id_costs_no_other_its_export(steady: LocalAzure, odd: dict[str, Any]) -> None:
    """An entry that is no subscription is told, and the listing counts as incomplete."""

    def changed(true: bytes) -> bytes:
        document = json.loads(true)
        document["value"].append(odd)
        return json.dumps(document).encode()

    steady.faults.spoil("GET /subscriptions", changed)
    finished = everything(steady)
    steady.faults.restore()
    assert [one["code"] for one in finished.report["failures"]] == ["scope-id-odd"]
    assert not finished.report["enumeration_complete"]
    assert finished.report["scopes"]["covered"] == 3


@pytest.mark.parametrize("odd", ["text", {"value": ["text"]}, {"value": [{"properties": None}]}])
def test_an_export_with_an_odd_run_history_is_left_as_it_is(steady: LocalAzure, odd: Any) -> None:
    """Nothing is executed or written for what was not understood; the next run looks again."""

    def changed(true: bytes) -> bytes:
        document = json.loads(true)
        document["properties"]["runHistory"] = odd
        return json.dumps(document).encode()

    advance(steady, 72 * HOUR)
    steady.calls.clear()
    steady.faults.spoil("GET *Microsoft.CostManagement/exports/*", changed)
    lines = Lines()
    everything(steady, lines)
    steady.faults.restore()
    assert "answer-not-understood" in lines.text()
    assert [one for one in steady.calls if one.method in ("PUT", "POST") and "CostManagement" in one.resource] == []
    steady.deliver()
    advance(steady, HOUR)
    assert everything(steady).report["status"] == "ok"


@pytest.mark.parametrize("body", [b"", PAGE, b"{}", b"[1]", b'{"subscriptionId": null, "state": null}'])
def test_a_subscription_that_is_asked_for_alone_is_not_taken_for_gone(steady: LocalAzure, body: bytes) -> None:
    """A request names one subscription: an odd answer ends in a failure with a remedy, and nothing is written."""
    one, exports = steady.subscription_ids[0], len(steady.exports())
    order = steady.faults.spoil(f"GET /subscriptions/{one}", body)
    environment = {**steady.environment(), **steady.keyless()}
    finished = run_once(RunRequest(scopes=(one,)), environment, Lines(), steady.clock, 3300, seed=1)
    steady.faults.restore()
    assert order.hits
    assert finished.report["failures"]
    assert all(failure["remedy"] for failure in finished.report["failures"])
    assert "not-understood" in json.dumps(finished.report)
    assert len(steady.exports()) == exports


def test_a_signature_is_a_secret_and_the_accounts_name_is_not() -> None:
    """After a refused request of a shared key its signature is masked in messages, which still name the account."""
    signed = HttpRequest(
        "GET", "http://127.0.0.1/", headers={"Authorization": "SharedKey anamethatislong00:c2lnbmF0dXJl+/="}
    )
    _register_credentials(PipelineRequest(signed, PipelineContext(None)), 403)
    said = redact("account anamethatislong00 refused c2lnbmF0dXJl+/= of anamethatislong00")
    assert said == "account anamethatislong00 refused … of anamethatislong00"
