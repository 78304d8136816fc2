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
    """Return a tenant for tests that only have requests refused, so that they can share it."""
    with LocalAzure(clock=VirtualClock(), limits=Limits(app_per_minute=1e6, scope_per_minute=1e6)) as cloud:
        yield cloud


def test_create_is_201_and_update_is_200(azure: LocalAzure, sdk: Sdk) -> None:
    """An update with the current eTag gets a new eTag."""
    first = sdk.create()
    second = sdk.create(tag=first.e_tag, definition__type="Usage")
    statuses = [call.status for call in azure.calls.select("Microsoft.CostManagement/exports/write")]
    assert statuses == [201, 200]
    assert first.e_tag != second.e_tag
    assert second.properties.definition.type == "Usage"


def test_update_without_etag_is_refused_and_changes_nothing(azure: LocalAzure, sdk: Sdk) -> None:
    """In this mode, a PUT on an existing export without its eTag is 400."""
    created = sdk.create()
    status, code, message = refusal(sdk.create, definition__type="Usage")
    assert (status, code) == (400, "400")
    assert "Etag value required for update operation" in message
    found = sdk.exports.get(scope(azure), NAME)
    assert (found.e_tag, found.properties.definition.type) == (created.e_tag, "ActualCost")


def test_update_without_etag_is_accepted_in_the_other_mode(clock: VirtualClock, closing: ExitStack) -> None:
    """An identical PUT without an eTag is 200."""
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
    """The mode decides the status."""
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
    """Values outside the documentation or the SDK's models are 400 with a message, and nothing is created."""
    status, _, message = refusal(Sdk(strict, closing).create, **changes)
    assert (status, words in message) == (400, True), message
    assert strict.exports() == []


@pytest.mark.parametrize("name", ["ab", "with space", "x" * 65, "colon:name"])
def test_invalid_name_is_refused(strict: LocalAzure, closing: ExitStack, name: str) -> None:
    """A name has 3 to 64 letters, digits, hyphens or underscores."""
    status, _, message = refusal(Sdk(strict, closing).create, name=name)
    assert (status, "Invalid export name" in message) == (400, True)


def test_update_accepts_only_the_stored_past_start(azure: LocalAzure, sdk: Sdk, clock: VirtualClock) -> None:
    """After the start of the schedule, another past `from` is refused."""
    created = sdk.create()
    clock.advance(30 * 86400)
    again = sdk.create(tag=created.e_tag, definition__type="AmortizedCost")
    assert again.properties.definition.type == "AmortizedCost"
    status, _, message = refusal(sdk.create, tag=again.e_tag, schedule__recurrencePeriod__from="2026-01-07T00:00:00Z")
    assert (status, "in the past" in message) == (400, True)


def test_responses_are_normalized(sdk: Sdk, azure: LocalAzure) -> None:
    """Enumerated values have the documented case, `destination.type` is missing, and defaults are set."""
    sdk.create(schedule__recurrence="daily", dataOverwriteBehavior=None, compressionMode=None)
    found = sdk.exports.get(scope(azure), NAME)
    destination = found.properties.delivery_info.destination
    assert found.properties.schedule.recurrence == "Daily"
    assert "type" not in destination.as_dict()
    assert found.properties.data_overwrite_behavior == "CreateNewReport"
    assert found.properties.compression_mode == "none"
    assert found.properties.next_run_time_estimate == datetime(2026, 1, 6, 4, tzinfo=UTC)


def test_response_of_a_read_is_a_valid_update(sdk: Sdk, azure: LocalAzure) -> None:
    """This includes its read-only fields."""
    sdk.create()
    found = sdk.exports.get(scope(azure), NAME)
    again = sdk.exports.create_or_update(scope(azure), NAME, found.as_dict())
    assert again.properties.as_dict() == found.properties.as_dict()


def test_names_and_scopes_ignore_case(sdk: Sdk, azure: LocalAzure) -> None:
    """Names that differ only in case are the same export."""
    sdk.create()
    assert sdk.exports.get(scope(azure).upper().replace("/SUBSCRIPTIONS", "/subscriptions"), NAME.upper()).name == NAME
    assert refusal(sdk.create, name=NAME.lower())[0] == 400


def test_list_has_all_exports_of_the_scope(sdk: Sdk, azure: LocalAzure) -> None:
    """It has no export of another scope, and the last run only on request."""
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
    """Reading, running or deleting them is 404."""
    sdk = Sdk(azure, closing, token="whoever-runs-this")
    sdk.create()
    sdk.exports.delete(scope(azure), NAME)
    for call in (sdk.exports.get, sdk.exports.delete, sdk.exports.execute, sdk.exports.get_execution_history):
        assert isinstance(failure(call, scope(azure), NAME), ResourceNotFoundError)


@pytest.mark.parametrize(
    ("agreement", "expected", "words"),
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
def test_export_types_depend_on_the_agreement(
    azure: LocalAzure, sdk: Sdk, agreement: str, expected: str, words: str
) -> None:
    """Each offer accepts the types of its agreement, and names the reason for a refusal."""
    azure.set_agreement(azure.subscription_ids[0], agreement)
    if not words:
        assert sdk.create(definition__type=expected).properties.definition.type == expected
        return
    status, _, message = refusal(sdk.create, definition__type=expected)
    assert (status, words in message) == (400, True), message


@pytest.mark.parametrize("agreement", ["payg", "mca-individual"])
def test_some_offers_refuse_apps(azure: LocalAzure, sdk: Sdk, closing: ExitStack, agreement: str) -> None:
    """Pay-as-you-go and individual offers refuse an app with any role, and accept a user."""
    azure.set_agreement(azure.subscription_ids[0], agreement)
    assert refusal(sdk.create, definition__type="Usage")[:2] == (401, "RBACAccessDenied")
    person = Sdk(azure, closing, token=azure.token(user=True))
    assert person.create(definition__type="Usage").name == NAME


def test_disabled_cost_access_has_its_own_code(azure: LocalAzure, sdk: Sdk) -> None:
    """This is a partner's customer without access to costs."""
    azure.set_agreement(azure.subscription_ids[0], "csp")
    assert refusal(sdk.create)[:2] == (401, "AccountCostDisabled")


def test_new_subscription_is_refused_for_its_first_hours(azure: LocalAzure, sdk: Sdk, clock: VirtualClock) -> None:
    """Later it is accepted."""
    azure.make_young(azure.subscription_ids[1], 24 * 3600)
    status, _, message = refusal(sdk.create, 1)
    assert (status, azure.subscription_ids[1] in message) == (400, True)
    clock.advance(24 * 3600)
    assert sdk.create(1, schedule__recurrencePeriod__from="2026-02-01T00:00:00Z").name == NAME


def test_disabled_subscription_is_read_only_and_deleted_one_not_found(azure: LocalAzure, sdk: Sdk) -> None:
    """The errors are ReadOnlyDisabledSubscription and SubscriptionNotFound."""
    first, second = azure.subscription_ids[:2]
    sdk.create()
    azure.suspend_subscription(first)
    assert refusal(sdk.create)[:2] == (409, "ReadOnlyDisabledSubscription")
    assert sdk.exports.get(scope(azure), NAME).name == NAME
    azure.resume_subscription(first)
    azure.set_state(second, "Deleted")
    assert refusal(sdk.create, 1)[:2] == (404, "SubscriptionNotFound")


def test_unsupported_scope_or_version_is_refused(azure: LocalAzure, sdk: Sdk) -> None:
    """A version that Azure supports but the local cloud does not is reported as such."""
    group = f"/providers/Microsoft.Management/managementGroups/{azure.tenant}"
    status, _, message = refusal(sdk.exports.list, group)
    assert (status, group in message) == (501, True)
    for version, response in (
        ("2020-06-01", (501, "NotImplemented")),
        ("2024-02-30", (400, "NoRegisteredProviderFound")),
        ("2099-01-01", (400, "NoRegisteredProviderFound")),
        ("latest", (400, "InvalidApiVersionParameter")),
    ):
        other = sdk.client(CostManagementClient, api_version=version).exports
        assert refusal(other.list, scope(azure))[:2] == response
    assert list(sdk.client(CostManagementClient, api_version="2024-08-01").exports.list(scope(azure)).value) == []


def test_body_that_is_not_an_object_is_400(azure: LocalAzure, sdk: Sdk) -> None:
    """Invalid JSON is not a server error."""
    for body in (b"not json", b"[]"):
        error = failure(sdk.exports.create_or_update, scope(azure), NAME, body, content_type="application/json")
        assert error.status_code == 400


def test_lost_response_keeps_the_written_export(azure: LocalAzure, sdk: Sdk) -> None:
    """The fault occurs after the write."""
    azure.faults.add("*/exports/write", "InternalServerError", after=True)
    assert failure(sdk.create).status_code == 500
    assert sdk.exports.get(scope(azure), NAME).name == NAME
    assert export(azure)["properties"]["format"] == "Csv"
