"""Exports through azure-mgmt-costmanagement: validation, eTags, types, listing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.mgmt.costmanagement import CostManagementClient

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.quotas import Limits
from localcloud.azure.state import Behavior
from shared.runtime.clock import VirtualClock
from tests.localcloud.azure.helpers import NAME, Sdk, export, failure, refusal, scope


@pytest.fixture(scope="module")
def strict() -> Iterator[LocalAzure]:
    """Return a tenant for tests that only have something refused, so that they can share it."""
    with LocalAzure(clock=VirtualClock(), limits=Limits(app_per_minute=1e6, scope_per_minute=1e6)) as cloud:
        yield cloud


def test_create_answers_201_and_update_200(azure: LocalAzure, sdk: Sdk) -> None:
    """A first PUT creates, and one with the current eTag updates and gets a new eTag."""
    first = sdk.create()
    second = sdk.create(tag=first.e_tag, definition__type="Usage")
    statuses = [call.status for call in azure.calls.select("Microsoft.CostManagement/exports/write")]
    assert statuses == [201, 200]
    assert first.e_tag != second.e_tag
    assert second.properties.definition.type == "Usage"


def test_update_without_etag_is_refused_and_changes_nothing(azure: LocalAzure, sdk: Sdk) -> None:
    """Where blind updates are refused, a PUT over an export without its eTag is 400 and the export stays as it was."""
    created = sdk.create()
    status, code, message = refusal(sdk.create, definition__type="Usage")
    assert (status, code) == (400, "400")
    assert "Etag value required for update operation" in message
    found = sdk.exports.get(scope(azure), NAME)
    assert (found.e_tag, found.properties.definition.type) == (created.e_tag, "ActualCost")


def test_update_without_etag_is_accepted_in_the_other_mode(clock: VirtualClock, closing: ExitStack) -> None:
    """Where blind updates are accepted, an identical PUT without eTag is answered 200."""
    cloud = closing.enter_context(LocalAzure(clock=clock, behavior=Behavior(blind_updates="accepted")))
    sdk = Sdk(cloud, closing)
    sdk.create()
    sdk.create()
    assert [call.status for call in cloud.calls.select("*/exports/write")] == [201, 200]


@pytest.mark.parametrize(
    ("status", "kind"),
    [pytest.param(412, HttpResponseError, id="412"), pytest.param(409, ResourceExistsError, id="409")],
)
def test_stale_etag_is_refused(clock: VirtualClock, closing: ExitStack, status: Any, kind: type[Exception]) -> None:
    """An update with an eTag that has been replaced is refused with the status that the behavior says."""
    cloud = closing.enter_context(LocalAzure(clock=clock, behavior=Behavior(stale_etag=status)))
    sdk = Sdk(cloud, closing)
    stale = sdk.create().e_tag
    sdk.create(tag=stale)
    error = failure(sdk.create, tag=stale)
    assert error.status_code == status
    assert isinstance(error, kind)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(
            {"schedule__recurrencePeriod__from": "2026-01-05T00:00:00Z"}, "cannot be in the past", id="from now"
        ),
        pytest.param(
            {"schedule__recurrencePeriod__from": "2025-12-01T00:00:00Z"}, "cannot be in the past", id="from past"
        ),
        pytest.param({"schedule__recurrencePeriod__to": None}, "recurrencePeriod.to' is missing", id="no to"),
        pytest.param({"schedule__recurrencePeriod__to": "2026-01-05T12:00:00Z"}, "be greater", id="to too early"),
        pytest.param({"schedule__recurrence": "Hourly"}, "valid values: 'Daily'", id="recurrence"),
        pytest.param({"schedule__recurrencePeriod__from": "soon"}, "not a date and time", id="no date"),
        pytest.param({"compressionMode": "Gzip"}, "Invalid compressionMode 'Gzip'", id="compression in upper case"),
        pytest.param({"compressionMode": "snappy"}, "for format 'Csv'", id="compression of the other format"),
        pytest.param({"format": "Json"}, "Invalid properties.format", id="format"),
        pytest.param({"definition__type": "Cost"}, "'AmortizedCost', 'FocusCost'", id="unknown type"),
        pytest.param({"definition": None}, "'properties.definition' is missing", id="no definition"),
        pytest.param({"deliveryInfo": None}, "'properties.deliveryInfo' is missing", id="no delivery"),
        pytest.param({"partitionData": "yes"}, "must be of type bool", id="wrong type of value"),
        pytest.param({"deliveryInfo__destination__rootFolderPath": "a/x:y"}, "reserved url", id="colon"),
        pytest.param({"deliveryInfo__destination__rootFolderPath": "a?b"}, "reserved url", id="question mark"),
        pytest.param({"deliveryInfo__destination__container": "No_Such"}, "Invalid container name", id="container"),
        pytest.param({"deliveryInfo__destination__resourceId": None}, "resourceId' is missing", id="no account"),
        pytest.param({"deliveryInfo__destination__resourceId": "/x"}, "was not found", id="no such account"),
        pytest.param({"owner": "us"}, "Could not find member 'properties.owner'", id="unknown field"),
        pytest.param({"definition__timeframe": "Custom"}, "timePeriod' is missing", id="custom without period"),
    ],
)
def test_invalid_export_is_refused(strict: LocalAzure, closing: ExitStack, changes: dict[str, Any], words: str) -> None:
    """What the documentation or the SDK's models rule out is 400 with words that name it, and nothing is created."""
    status, _, message = refusal(Sdk(strict, closing).create, **changes)
    assert (status, words in message) == (400, True), message
    assert strict.exports() == []


@pytest.mark.parametrize("name", ["ab", "with space", "x" * 65, "colon:name"])
def test_invalid_name_is_refused(strict: LocalAzure, closing: ExitStack, name: str) -> None:
    """An export's name has 3 to 64 letters, digits, hyphens or underscores."""
    status, _, message = refusal(Sdk(strict, closing).create, name=name)
    assert (status, "Invalid export name" in message) == (400, True)


def test_repair_may_send_the_stored_from_back(azure: LocalAzure, sdk: Sdk, clock: VirtualClock) -> None:
    """An update after the start of the schedule is accepted with the stored `from`, and with no other past one."""
    created = sdk.create()
    clock.advance(30 * 86400)
    again = sdk.create(tag=created.e_tag, definition__type="AmortizedCost")
    assert again.properties.definition.type == "AmortizedCost"
    status, _, message = refusal(sdk.create, tag=again.e_tag, schedule__recurrencePeriod__from="2026-01-07T00:00:00Z")
    assert (status, "in the past" in message) == (400, True)


def test_answers_are_normalized(sdk: Sdk, azure: LocalAzure) -> None:
    """Enumerated values come back as documented, `destination.type` not at all, and defaults are filled in."""
    sdk.create(schedule__recurrence="daily", dataOverwriteBehavior=None, compressionMode=None)
    found = sdk.exports.get(scope(azure), NAME)
    destination = found.properties.delivery_info.destination
    assert found.properties.schedule.recurrence == "Daily"
    assert "type" not in destination.as_dict()
    assert found.properties.data_overwrite_behavior == "CreateNewReport"
    assert found.properties.compression_mode == "none"
    assert found.properties.next_run_time_estimate == datetime(2026, 1, 6, 4, tzinfo=UTC)


def test_a_read_export_can_be_written_back(sdk: Sdk, azure: LocalAzure) -> None:
    """The answer of a GET, read-only fields and all, is a valid update."""
    sdk.create()
    found = sdk.exports.get(scope(azure), NAME)
    again = sdk.exports.create_or_update(scope(azure), NAME, found.as_dict())
    assert again.properties.as_dict() == found.properties.as_dict()


def test_names_and_scopes_have_no_case(sdk: Sdk, azure: LocalAzure) -> None:
    """An export is found whatever the case of its name and scope, and there is one of them."""
    sdk.create()
    assert sdk.exports.get(scope(azure).upper().replace("/SUBSCRIPTIONS", "/subscriptions"), NAME.upper()).name == NAME
    assert refusal(sdk.create, name=NAME.lower())[0] == 400


def test_list_shows_a_scopes_exports_in_one_answer(sdk: Sdk, azure: LocalAzure) -> None:
    """A list has every export of the scope and no other's, and the last run only where it is asked for."""
    sdk.create()
    sdk.create(name="customers-own")
    sdk.create(1)
    for _ in range(3):
        azure.deliver()
    plain = {one.name: one for one in sdk.exports.list(scope(azure)).value}
    full = {one.name: one for one in sdk.exports.list(scope(azure), expand="runHistory").value}
    assert set(plain) == set(full) == {NAME, "customers-own"}
    assert plain[NAME].properties.run_history is None
    assert [run.properties.status for run in full[NAME].properties.run_history.value] == ["Completed"]
    assert len(sdk.exports.get(scope(azure), NAME, expand="runHistory").properties.run_history.value) == 3


def test_deleted_and_unknown_exports_are_not_found(azure: LocalAzure, closing: ExitStack) -> None:
    """A deleted export is gone, and reading, running or deleting it again is 404."""
    sdk = Sdk(azure, closing, token="whoever-runs-this")
    sdk.create()
    sdk.exports.delete(scope(azure), NAME)
    for call in (sdk.exports.get, sdk.exports.delete, sdk.exports.execute, sdk.exports.get_execution_history):
        assert isinstance(failure(call, scope(azure), NAME), ResourceNotFoundError)


@pytest.mark.parametrize(
    ("agreement", "wanted", "words"),
    [
        pytest.param("ea", "FocusCost", "", id="enterprise takes FOCUS"),
        pytest.param("mca", "AmortizedCost", "", id="customer agreement takes amortized"),
        pytest.param("webdirect", "Usage", "", id="direct takes usage"),
        pytest.param(
            "webdirect",
            "FocusCost",
            "Export type: FocusCost is not supported for Agreement Type: WebDirect",
            id="direct refuses FOCUS",
        ),
        pytest.param(
            "webdirect",
            "AmortizedCost",
            "Invalid definition type 'AmortizedCost'; valid values: 'Usage'",
            id="direct refuses amortized",
        ),
        pytest.param("msdn", "ActualCost", "Invalid definition type 'ActualCost'", id="Visual Studio refuses actual"),
        pytest.param("sponsored", "Usage", "Cost management data is not supported", id="sponsored has no data"),
    ],
)
def test_types_by_agreement(azure: LocalAzure, sdk: Sdk, agreement: str, wanted: str, words: str) -> None:
    """Each offer takes the export types of its agreement and names the reason where it refuses one."""
    azure.set_agreement(azure.subscription_ids[0], agreement)
    if not words:
        assert sdk.create(definition__type=wanted).properties.definition.type == wanted
        return
    status, _, message = refusal(sdk.create, definition__type=wanted)
    assert (status, words in message) == (400, True), message


@pytest.mark.parametrize("agreement", ["payg", "mca-individual"])
def test_some_offers_take_no_app(azure: LocalAzure, sdk: Sdk, closing: ExitStack, agreement: str) -> None:
    """Pay-as-you-go and individual offers refuse an app whatever its role, and take the same export from a person."""
    azure.set_agreement(azure.subscription_ids[0], agreement)
    assert refusal(sdk.create, definition__type="Usage")[:2] == (401, "RBACAccessDenied")
    person = Sdk(azure, closing, token=azure.token(user=True))
    assert person.create(definition__type="Usage").name == NAME


def test_cost_data_may_be_switched_off(azure: LocalAzure, sdk: Sdk) -> None:
    """A partner's customer without access to costs is refused by a code of its own."""
    azure.set_agreement(azure.subscription_ids[0], "csp")
    assert refusal(sdk.create)[:2] == (401, "AccountCostDisabled")


def test_young_subscription_has_no_data_yet(azure: LocalAzure, sdk: Sdk, clock: VirtualClock) -> None:
    """A new subscription is refused for its first hours and accepted afterwards."""
    azure.make_young(azure.subscription_ids[1], 24 * 3600)
    status, _, message = refusal(sdk.create, 1)
    assert (status, azure.subscription_ids[1] in message) == (400, True)
    clock.advance(24 * 3600)
    assert sdk.create(1, schedule__recurrencePeriod__from="2026-02-01T00:00:00Z").name == NAME


def test_disabled_and_deleted_subscriptions(azure: LocalAzure, sdk: Sdk) -> None:
    """A disabled subscription can be read and not written; a deleted one is not found."""
    first, second = azure.subscription_ids[:2]
    sdk.create()
    azure.suspend_subscription(first)
    assert refusal(sdk.create)[:2] == (409, "ReadOnlyDisabledSubscription")
    assert sdk.exports.get(scope(azure), NAME).name == NAME
    azure.resume_subscription(first)
    azure.set_state(second, "Deleted")
    assert refusal(sdk.create, 1)[:2] == (404, "SubscriptionNotFound")


def test_only_supported_scopes_and_versions(azure: LocalAzure, sdk: Sdk) -> None:
    """An unsupported scope and an unknown API version are refused; one that is not served here says so."""
    group = f"/providers/Microsoft.Management/managementGroups/{azure.tenant}"
    status, _, message = refusal(sdk.exports.list, group)
    assert (status, "not supported" in message) == (400, True)
    for version, response in (
        ("2020-06-01", (501, "NotImplemented")),
        ("2024-02-30", (400, "NoRegisteredProviderFound")),
        ("2099-01-01", (400, "NoRegisteredProviderFound")),
        ("latest", (400, "InvalidApiVersionParameter")),
    ):
        other = sdk.client(CostManagementClient, api_version=version).exports
        assert refusal(other.list, scope(azure))[:2] == response
    assert list(sdk.client(CostManagementClient, api_version="2024-08-01").exports.list(scope(azure)).value) == []


def test_body_that_is_no_object(azure: LocalAzure, sdk: Sdk) -> None:
    """A body that is not JSON, or not an object, is 400 and no error of the server."""
    for body in (b"not json", b"[]"):
        error = failure(sdk.exports.create_or_update, scope(azure), NAME, body, content_type="application/json")
        assert error.status_code == 400


def test_lost_answer(azure: LocalAzure, sdk: Sdk) -> None:
    """A fault after the write loses the answer, not the export."""
    azure.faults.add("*/exports/write", "InternalServerError", after=True)
    assert failure(sdk.create).status_code == 500
    assert sdk.exports.get(scope(azure), NAME).name == NAME
    assert export(azure)["properties"]["format"] == "Csv"
