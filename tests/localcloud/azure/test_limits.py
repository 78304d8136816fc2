"""Quotas, their headers, faults and the call log."""

from __future__ import annotations

import ast
from contextlib import ExitStack
from pathlib import Path

import pytest

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.quotas import Limits
from shared.runtime.clock import VirtualClock
from tests.localcloud.azure.helpers import NAME, Sdk, failure, refusal, refused_headers, scope

PREFIX = "x-ms-ratelimit-microsoft.costmanagement-"


@pytest.fixture
def many(clock: VirtualClock, closing: ExitStack) -> LocalAzure:
    """Return a tenant with 250 subscriptions."""
    return closing.enter_context(LocalAzure(subscriptions=250, clock=clock))


def test_app_has_two_hundred_calls_a_minute(many: LocalAzure, closing: ExitStack, clock: VirtualClock) -> None:
    """The 201st immediate call is 429, another app's is not; tokens return at 200 a minute."""
    exports = Sdk(many, closing).exports
    for number in range(200):
        exports.list(scope(many, number))
    error = failure(exports.list, scope(many, 200))
    assert (error.status_code, error.error.code if error.error else "") == (429, "429")
    Sdk(many, closing, token="another app").exports.list(scope(many, 200))
    clock.advance(0.3)
    exports.list(scope(many, 200))
    assert failure(exports.list, scope(many, 201)).status_code == 429
    clock.advance(60)
    for number in range(200):
        exports.list(scope(many, number))


def test_app_within_the_rate_is_never_refused(many: LocalAzure, closing: ExitStack, clock: VirtualClock) -> None:
    """Calls exactly 0.3 seconds apart succeed, even without a burst."""
    many.world.quotas.limits = Limits(burst=1)
    exports = Sdk(many, closing).exports
    for number in range(250):
        exports.list(scope(many, number))
        clock.advance(0.3)
    assert many.calls.peak("Microsoft.CostManagement/*", 60) == 200


def test_scope_has_thirty_calls_a_minute(azure: LocalAzure, sdk: Sdk, clock: VirtualClock) -> None:
    """The 31st call at one scope is 429 with the entity's header; other scopes are served."""
    exports = sdk.exports
    for _ in range(30):
        exports.list(scope(azure))
    assert f"{PREFIX}entity-retry-after" in refused_headers(exports.list, scope(azure))
    exports.list(scope(azure, 1))
    clock.advance(2)
    exports.list(scope(azure))


def test_waits_appear_in_every_combination_of_headers(azure: LocalAzure, sdk: Sdk) -> None:
    """Retry-After is absent, shorter, replaced or longer in turn; the longest wait is the correct one."""
    azure.throttle(60)
    exports = sdk.exports
    headers_by_call = []
    for _ in range(4):
        headers = refused_headers(exports.list, scope(azure))
        waits = {name: int(value) for name, value in headers.items() if name.lower().endswith("retry-after")}
        assert max(waits.values()) == 60
        headers_by_call.append(("Retry-After" in waits, len(waits)))
    assert headers_by_call == [(False, 1), (True, 2), (False, 2), (True, 2)]


def test_callers_without_a_client_type_share_a_quota(azure: LocalAzure, sdk: Sdk, closing: ExitStack) -> None:
    """While the default quota is used up, a caller with a ClientType is still served."""
    azure.exhaust_default_quota(60)
    unnamed = Sdk(azure, closing, client_type="")
    assert "DefaultQuota:0" in refused_headers(unnamed.exports.list, scope(azure)).values()
    sdk.exports.list(scope(azure))


def test_resource_manager_has_its_own_limits(azure: LocalAzure, sdk: Sdk, clock: VirtualClock) -> None:
    """The 251st immediate read of a subscription is 429 with Retry-After; reads return at 25 a second."""
    subscriptions = sdk.subscriptions.subscriptions
    for _ in range(250):
        subscriptions.get(azure.subscription_ids[0])
    assert refused_headers(subscriptions.get, azure.subscription_ids[0])["Retry-After"] == "1"
    clock.advance(1)
    for _ in range(25):
        subscriptions.get(azure.subscription_ids[0])
    assert failure(subscriptions.get, azure.subscription_ids[0]).status_code == 429


def test_fault_applies_to_its_action_and_resource(azure: LocalAzure, sdk: Sdk) -> None:
    """It applies the given number of times, changes no state, and can be cleared."""
    second = azure.subscription_ids[1]
    azure.faults.add("*/exports/write", "FailedIdentityOperation", status=400, times=2, resource=f"*/{second}/*")
    assert sdk.create(0).name == NAME
    assert refusal(sdk.create, 1)[:2] == (400, "FailedIdentityOperation")
    assert azure.exports(second) == []
    azure.clear_faults()
    assert sdk.create(1).name == NAME


def test_fault_can_depend_on_the_request(azure: LocalAzure, sdk: Sdk, clock: VirtualClock) -> None:
    """A condition limits it, here to requests of the first minute."""
    azure.faults.add("*/exports/read", "ServerBusy", status=503, times=None, when=lambda attempt: attempt.at < 60)
    assert refusal(sdk.exports.list, scope(azure))[0] == 503
    clock.advance(60)
    assert sdk.exports.list(scope(azure)).value == []


def test_latency_advances_the_virtual_clock(azure: LocalAzure, sdk: Sdk, clock: VirtualClock) -> None:
    """It applies only to the given action."""
    azure.faults.latency(2.5, "Microsoft.CostManagement/*")
    list(sdk.subscriptions.subscriptions.list())
    assert clock.monotonic() == 0
    sdk.exports.list(scope(azure))
    assert clock.monotonic() == 2.5


def test_call_log_has_actions_and_no_tokens(azure: LocalAzure, sdk: Sdk, closing: ExitStack) -> None:
    """Every call has its action, caller and status, including refused ones."""
    sdk.create()
    refusal(sdk.create)
    Sdk(azure, closing, token="very-secret-token").exports.list(scope(azure))
    assert azure.calls.count("Microsoft.CostManagement/exports/write", status=201) == 1
    assert azure.calls.count("Microsoft.CostManagement/exports/write", app=azure.principal) == 2
    assert azure.calls.actions(azure.principal) == {
        "Microsoft.CostManagement/exports/write",
        "Microsoft.Storage/storageAccounts/write",
    }
    assert azure.calls.by_action() == {
        "Microsoft.CostManagement/exports/read": 1,
        "Microsoft.CostManagement/exports/write": 2,
    }
    assert "very-secret-token" not in repr(list(azure.calls))


def test_no_test_depends_on_how_fast_the_machine_uses_up_a_quota(repository: Path) -> None:
    """A test's tenant follows a clock of the test or has limits of its own; these two make only a few calls."""
    few = {"tests/localcloud/azure/test_cloud.py", "tests/localcloud/common/test_foreground.py"}
    sources = {path: path.read_text(encoding="utf-8") for path in (repository / "tests").rglob("*.py")}
    found = {
        path.relative_to(repository).as_posix()
        for path, source in sources.items()
        if "LocalAzure(" in source
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "LocalAzure"
        if not {"clock", "limits", None} & {one.arg for one in node.keywords}
    }
    assert found == few
