"""Successful responses that are not from Azure: empty, truncated, HTML, or another document. They prove nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from azure.core.pipeline import PipelineContext, PipelineRequest
from azure.core.rest import HttpRequest

from azure_function.answers import _register_credentials
from azure_function.clients import drop_clients
from azure_function.invocation import run_once
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


def invalid_bodies(read: str) -> Iterator[tuple[str, bytes | Callable[[bytes], bytes]]]:
    """Yield the name and the body of each invalid response to a read."""
    yield "empty", b""
    yield "page", PAGE
    yield "truncated", lambda original: original[: len(original) // 2]
    if "comp=list" in read:
        yield "another document", b"<?xml version='1.0'?><Answer/>"
    else:
        yield "no fields", b"{}"
        yield "another type", b"[1]"
        yield "null fields", lambda original: json.dumps(dict.fromkeys(json.loads(original))).encode()


def run_verified(cloud: LocalAzure, sink: Lines | None = None) -> RunResult:
    """Run once and verify every target, with all calls to storage through the local cloud."""
    environment = {**cloud.environment(), **cloud.keyless()}
    return run_once(RunRequest(verify_all=True), environment, sink or Lines(), cloud.clock, 3300, seed=1)


@pytest.fixture(scope="module")
def steady(azurite: Azurite) -> Iterator[LocalAzure]:
    """Return a tenant whose exports exist and have delivered."""
    with local_azure(subscriptions=3, azurite=azurite) as cloud, pytest.MonkeyPatch.context() as patch:
        for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):  # which azure-identity reads from the environment
            patch.setenv(name, cloud.environment()[name])
        run_verified(cloud)
        cloud.deliver()
        advance(cloud, HOUR)
        assert run_verified(cloud).report["status"] == "ok"
        yield cloud
        drop_clients()


@pytest.mark.parametrize("read", READS)
def test_invalid_response_causes_no_write_and_is_reported(steady: LocalAzure, read: str) -> None:
    """The report or the log says what was not understood, with a remedy."""
    for name, body in invalid_bodies(READS[read]):
        advance(steady, 12 * HOUR)
        steady.deliver()
        steady.calls.clear()
        corruption = steady.faults.corrupt(READS[read], body)
        lines = Lines()
        finished = run_verified(steady, lines)
        steady.faults.restore()
        written = [call for call in steady.calls.select() if call.method in ("PUT", "POST", "PATCH", "DELETE")]
        written = [call for call in written if "tailpipe" not in call.resource and call.status < 300]
        assert [call for call in written if "CostManagement" in call.resource or "register" in call.action] == [], name
        assert corruption.hits, f"{read} was not called"
        text = lines.text() + json.dumps(finished.report)
        assert "not-understood" in text or "detail-unread" in text, f"{read} {name}: {text}"
        assert all(one["remedy"] for one in finished.report["failures"]), f"{read} {name}"
    advance(steady, HOUR)
    assert run_verified(steady).report["status"] == "ok"


def test_invalid_first_page_is_requested_again(steady: LocalAzure) -> None:
    """The SDK treats a page that it cannot parse as the last one, which would end the listing."""
    for pattern in ("GET /subscriptions", "GET /*/dataexport?comp=list"):
        corruption = steady.faults.corrupt(pattern, PAGE, times=1)
        finished = run_verified(steady)
        steady.faults.restore()
        assert corruption.hits == 1
        assert finished.report["status"] == "ok"
        assert finished.report["scopes"]["active"] == 3


@pytest.mark.parametrize("body", [b"", PAGE, b'{"version": 2, "scopes": {'])
def test_state_damaged_in_transit_is_read_again(steady: LocalAzure, body: bytes) -> None:
    """A single invalid response does not set the state aside."""
    corruption = steady.faults.corrupt("GET */known_subscriptions.json", body, times=1)
    lines = Lines()
    finished = run_verified(steady, lines)
    steady.faults.restore()
    assert corruption.hits == 1
    assert finished.report["status"] == "ok", finished.report
    assert "state-corrupt" not in lines.text()


def test_next_link_to_another_host_fails_the_run(steady: LocalAzure) -> None:
    """The token is not sent to the other host."""
    corruption = steady.faults.corrupt(
        "GET /subscriptions",
        lambda original: json.dumps(json.loads(original) | {"nextLink": "http://localhost:1/subscriptions"}).encode(),
    )
    lines = Lines()
    finished = run_verified(steady, lines)
    steady.faults.restore()
    assert corruption.hits
    assert finished.report["status"] == "failed"
    assert "another host" in json.dumps(finished.report["failures"])


@pytest.mark.parametrize("invalid_id", ["0000\ud800", " 00000000-0000-0000-0000-00000000000f", "0000\u00000000"])
def test_subscription_with_an_invalid_id_is_skipped_and_reported(steady: LocalAzure, invalid_id: str) -> None:
    """A lone surrogate, spaces or control characters in an id exclude that subscription.

    The enumeration is incomplete.
    """

    def changed(original: bytes) -> bytes:
        document = json.loads(original)
        document["value"].append({**document["value"][-1], "subscriptionId": invalid_id})
        return json.dumps(document).encode()

    exports = len(steady.exports())
    steady.faults.corrupt("GET /subscriptions", changed)
    finished = run_verified(steady)
    steady.faults.restore()
    assert [one["code"] for one in finished.report["failures"]] == ["scope-id-odd"]
    assert finished.report["failures"][0]["remedy"]
    assert not finished.report["enumeration_complete"]
    assert finished.report["scopes"]["covered"] == 3
    assert len(steady.exports()) == exports


@pytest.mark.parametrize("entry", [{"subscriptionId": None}, {"subscriptionId": 5}, {"displayName": "no id at all"}])
def test_listed_subscription_without_an_id_does_not_affect_others(steady: LocalAzure, entry: dict[str, Any]) -> None:
    """The entry is reported, and the enumeration is incomplete."""

    def changed(original: bytes) -> bytes:
        document = json.loads(original)
        document["value"].append(entry)
        return json.dumps(document).encode()

    steady.faults.corrupt("GET /subscriptions", changed)
    finished = run_verified(steady)
    steady.faults.restore()
    assert [one["code"] for one in finished.report["failures"]] == ["scope-id-odd"]
    assert not finished.report["enumeration_complete"]
    assert finished.report["scopes"]["covered"] == 3


@pytest.mark.parametrize("history", ["text", {"value": ["text"]}, {"value": [{"properties": None}]}])
def test_export_with_an_invalid_run_history_is_not_changed(steady: LocalAzure, history: Any) -> None:
    """It is neither executed nor written; the next run reads it again."""

    def changed(original: bytes) -> bytes:
        document = json.loads(original)
        document["properties"]["runHistory"] = history
        return json.dumps(document).encode()

    advance(steady, 72 * HOUR)
    steady.calls.clear()
    steady.faults.corrupt("GET *Microsoft.CostManagement/exports/*", changed)
    lines = Lines()
    run_verified(steady, lines)
    steady.faults.restore()
    assert "answer-not-understood" in lines.text()
    assert [one for one in steady.calls if one.method in ("PUT", "POST") and "CostManagement" in one.resource] == []
    steady.deliver()
    advance(steady, HOUR)
    assert run_verified(steady).report["status"] == "ok"


@pytest.mark.parametrize("body", [b"", PAGE, b"{}", b"[1]", b'{"subscriptionId": null, "state": null}'])
def test_invalid_response_for_a_requested_subscription_does_not_mean_that_it_is_gone(
    steady: LocalAzure, body: bytes
) -> None:
    """The report has a failure with a remedy, and nothing is written."""
    one, exports = steady.subscription_ids[0], len(steady.exports())
    corruption = steady.faults.corrupt(f"GET /subscriptions/{one}", body)
    environment = {**steady.environment(), **steady.keyless()}
    finished = run_once(RunRequest(scopes=(one,)), environment, Lines(), steady.clock, 3300, seed=1)
    steady.faults.restore()
    assert corruption.hits
    assert finished.report["failures"]
    assert all(failure["remedy"] for failure in finished.report["failures"])
    assert "not-understood" in json.dumps(finished.report)
    assert len(steady.exports()) == exports


def test_signature_of_a_failed_request_is_redacted_but_the_account_name_is_not() -> None:
    """A shared key is sent as the account name and the signature."""
    signed = HttpRequest(
        "GET", "http://127.0.0.1/", headers={"Authorization": "SharedKey anamethatislong00:c2lnbmF0dXJl+/="}
    )
    _register_credentials(PipelineRequest(signed, PipelineContext(None)), 403)
    text = redact("account anamethatislong00 refused c2lnbmF0dXJl+/= of anamethatislong00")
    assert text == "account anamethatislong00 refused … of anamethatislong00"
